"""The bodies of requests and responses, as OpenAPI describes them."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

MAX_EXCLUDED = 10_000
MAX_AMONG = 10_000
MAX_LOOKED_AT = 1000
MAX_LIMIT = 100
MAX_WEIGHT = 1_000_000.0
MAX_METADATA = 16_384
MAX_METADATA_DEPTH = 32
MAX_VALUE = 1e6
LEAST_VALUE = 1e-9

TEXT = r"^[^\u0000]*$"
MAX_EXACT = 2.0**53
"""Beyond it a number with a point or an exponent may be another one than was sent."""


def as_whole(value: object) -> object:
    """Read 50.0 as 50, as JSON does, but neither "50" nor true."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_id(value: object) -> object:
    """Read an integer as an id, and 42.0 as 42; neither 4.2 nor true."""
    if isinstance(value, float) and abs(value) <= MAX_EXACT:
        value = as_whole(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ID = "1 to 1000 characters, at most 2600 bytes, no NUL; or an integer, which comes back as text."
Id = Annotated[
    str,
    Field(min_length=1, max_length=1000, pattern=TEXT),
    BeforeValidator(_as_id),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1, "maxLength": 1000, "pattern": TEXT}, {"type": "integer"}],
            "description": ID,
        }
    ),
]


def _check_json(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse an object that jsonb cannot hold, and one that is too large."""
    if value is None:
        return None
    if _depth(value) > MAX_METADATA_DEPTH:
        raise ValueError(f"is nested more than {MAX_METADATA_DEPTH} deep")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError("has a number that is not finite, or text that is not Unicode") from error
    if len(text) > MAX_METADATA:
        raise ValueError(f"is longer than {MAX_METADATA} bytes of JSON")
    return value


def _depth(value: object) -> int:
    """Return how deep a JSON value is nested."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return depth


def _check_value(value: float | None) -> float | None:
    if value and abs(value) < LEAST_VALUE:
        raise ValueError(f"a value is 0 or at least {LEAST_VALUE:g} in size")
    return value


class Request(BaseModel):
    """A request body; an unknown field, such as a misspelled one, is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="The most posts to return."), BeforeValidator(as_whole)]
Excluded = Annotated[
    list[Id], Field(max_length=MAX_EXCLUDED, description="Posts to leave out, such as those on the page.")
]
Fallback = Annotated[Literal["none", "popular"], Field(description="`popular` adds popular posts up to `limit`.")]
Filter = Annotated[
    Annotated[dict[str, Any], AfterValidator(_check_json)]
    | Annotated[str, Field(min_length=1, max_length=MAX_METADATA, pattern=TEXT)]
    | None,
    Field(
        description='Only posts whose attributes contain this object, such as `{"lang": "fi"}`: at most '
        f"{MAX_METADATA} bytes of JSON, {MAX_METADATA_DEPTH} deep. Or only those that meet this JSON path, such as "
        '`$.price < 20 && $.lang == "de"`.',
        examples=[{"lang": "fi"}],
    ),
]
Among = Annotated[
    list[Id] | None,
    Field(max_length=MAX_AMONG, description="Rank only these posts. An empty list is no post; null is every post."),
]
Scenario = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=100,
        pattern=TEXT,
        description="The place of the product that shows the list: a row of recdb.scenario. Null is `default`.",
    ),
]
Segment = Annotated[
    dict[str, Any] | None,
    AfterValidator(_check_json),
    Field(
        description='What is popular among the users with these attributes, such as `{"country": "de"}`: for somebody '
        "without a history, of whom you know that much. `fallback` fills a list up with these posts first.",
        examples=[{"country": "de"}],
    ),
]
Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]


class RecommendationRequest(Request):
    """A request for a user's recommendations."""

    user_id: Id
    limit: Limit = 50
    exclude_post_ids: Excluded = Field(default_factory=list)
    fallback: Fallback = "none"
    filter: Filter = None
    among: Among = None
    scenario: Scenario = None
    segment: Segment = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user_id": "user-42", "limit": 50, "exclude_post_ids": ["post-1"]}]}
    )


class GuestRequest(Request):
    """A request for recommendations for somebody without an id, from the posts that this visit looked at."""

    post_ids: list[Id] = Field(
        max_length=MAX_LOOKED_AT, description="The posts that the guest looked at, newest first."
    )
    weights: list[Weight] | None = Field(
        None, max_length=MAX_LOOKED_AT, description="How much each of `post_ids` counts; 1 each unless given."
    )
    limit: Limit = 50
    exclude_post_ids: Excluded = Field(default_factory=list)
    fallback: Fallback = "none"
    filter: Filter = None
    among: Among = None
    scenario: Scenario = None
    segment: Segment = None

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.post_ids):
            raise ValueError(f"weights has {len(self.weights)} numbers for {len(self.post_ids)} post_ids")
        return self

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"post_ids": ["post-7", "post-3"], "weights": [1, 0.5], "limit": 20}]}
    )


class SimilarRequest(Request):
    """A request for the posts that are most like a post."""

    post_id: Id
    limit: Limit = 20

    model_config = ConfigDict(json_schema_extra={"examples": [{"post_id": "post-7", "limit": 20}]})


class PopularRequest(Request):
    """A request for the most popular posts, of all or of a segment of the users."""

    limit: Limit = 50
    filter: Filter = None
    segment: Segment = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"limit": 20, "segment": {"country": "de", "language": "de"}}]}
    )


class TrendingRequest(Request):
    """A request for the posts that more users touch now than usual."""

    limit: Limit = 50
    window_hours: float = Field(
        24,
        ge=0.01,
        le=9600,
        allow_inf_nan=False,
        description="How far back now reaches; the seven windows before it say what is usual.",
    )
    filter: Filter = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"limit": 20, "window_hours": 6}]})


class ExplainRequest(Request):
    """A request for the reasons why a user gets a post."""

    user_id: Id
    post_id: Id
    scenario: Scenario = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "user-42", "post_id": "post-7"}]})


class InteractionRequest(Request):
    """An interaction that happens now."""

    user_id: Id
    post_id: Id
    interaction_type: str = Field(min_length=1, max_length=100, pattern=TEXT, description="Such as view or like.")
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_check_json)] = Field(
        None, description=f"An object of your own: at most {MAX_METADATA} bytes of JSON, {MAX_METADATA_DEPTH} deep."
    )

    value: Annotated[float | None, AfterValidator(_check_value)] = Field(
        None,
        ge=-MAX_VALUE,
        le=MAX_VALUE,
        allow_inf_nan=False,
        description="How much of it, such as a quantity; the weight of the kind is multiplied by it. Null counts as 1.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "user-42", "post_id": "post-7", "interaction_type": "view", "metadata": {"seconds": 12}}
            ]
        }
    )


class RecommendedPost(BaseModel):
    """A recommended post."""

    post_id: str
    score: float = Field(ge=0, le=1)
    reason: str = Field(description="`collaborative_filtering` or `popular`.")


class Recommendations(BaseModel):
    """The recommended posts, best first."""

    user_id: str
    recommendations: list[RecommendedPost]
    count: int = Field(ge=0, description="The number of posts; 0 for an unknown user, unless `fallback` is `popular`.")
    model_version: str | None = Field(description="The model version that ranked the posts; null if there are none.")

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "user_id": "user-42",
                    "recommendations": [{"post_id": "post-7", "score": 0.85, "reason": "collaborative_filtering"}],
                    "count": 1,
                    "model_version": "collaborative_filtering_v1",
                }
            ]
        },
    )


class GuestRecommendations(BaseModel):
    """The recommended posts, best first."""

    recommendations: list[RecommendedPost]
    count: int = Field(ge=0, description="The number of posts; 0 if the model knows none of those looked at.")
    model_version: str | None = Field(description="The model version that ranked the posts; null if there are none.")

    model_config = ConfigDict(protected_namespaces=())


class SimilarPost(BaseModel):
    """A post that is like another."""

    post_id: str
    similarity: float = Field(ge=-1, le=1, description="The cosine of the posts' vectors.")


class SimilarPosts(BaseModel):
    """The posts most like a post, nearest first; none if the model does not know it."""

    post_id: str
    similar: list[SimilarPost]
    count: int = Field(ge=0)


class PopularPost(BaseModel):
    """A popular post."""

    post_id: str
    score: float = Field(ge=0, le=1, description="The most popular post has 1.")


class PopularPosts(BaseModel):
    """The most popular posts."""

    popular: list[PopularPost]
    count: int = Field(ge=0)


class TrendingPost(BaseModel):
    """A post that more users touch now than usual."""

    post_id: str
    score: float = Field(ge=0, le=1, description="The post that rises most has 1.")
    rise: float = Field(gt=1, description="How many times the usual, drawn towards 1 where there are few users.")
    users: int = Field(ge=1, description="How many users touched it in the window.")


class TrendingPosts(BaseModel):
    """The posts that rise most; those that did not rise are left out."""

    trending: list[TrendingPost]
    count: int = Field(ge=0)


class Contribution(BaseModel):
    """A part of a post's score."""

    source: str = Field(
        description="`item`: one of the user's own posts; `neighbors`: all similar users together; `content`, "
        "`author`: a post of the user's that this one is like, or that is by the same owner. Of a scenario: "
        "`freshness`, `rotation`, `rule`, `popular`; `explored`, the number drawn, and `pinned`, the place, are no "
        "part of the score."
    )
    because_post_id: str | None = Field(description="The user's own post that contributes; null for all others.")
    contribution: float


class Explanation(BaseModel):
    """Why a user gets a post; no reasons if it is not recommended to the user, or only as a popular one."""

    user_id: str
    post_id: str
    score: float = Field(description="The post's score before the choice of the list: the sum of the contributions.")
    reasons: list[Contribution]
    count: int = Field(ge=0)


class Recorded(BaseModel):
    """The interaction is committed, and the user's next recommendations reflect it."""

    interaction_id: int = Field(examples=[20001])


class Healthy(BaseModel):
    """The database answers, and recdb is installed."""

    status: Literal["healthy"] = "healthy"
    service: Literal["recdb"] = "recdb"


class Alive(BaseModel):
    """This process answers, even if the database does not."""

    status: Literal["alive"] = "alive"
    service: Literal["recdb"] = "recdb"


class Error(BaseModel):
    """The body of every error."""

    error: str = Field(description="For programs.", examples=["invalid_request"])
    detail: str = Field(description="For people.", examples=["limit: Input should be less than or equal to 100"])
    hint: str | None = Field(description="The next step.", examples=[None])
    request_id: str = Field(
        description="Also in the header X-Request-ID and in the log.", examples=["8f14e45fceea167a"]
    )


class Unhealthy(Error):
    """The reason why no request can be answered now."""

    status: Literal["unhealthy"] = "unhealthy"
    service: Literal["recdb"] = "recdb"
