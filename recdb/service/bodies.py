"""The bodies of requests and responses, as OpenAPI describes them."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_EXCLUDED = 10_000
MAX_METADATA = 16_384
MAX_METADATA_DEPTH = 32
MAX_VALUE = 1e6
LEAST_VALUE = 1e-9

TEXT = r"^[^\u0000]*$"
Id = Annotated[
    str,
    Field(min_length=1, max_length=1000, pattern=TEXT, description="1 to 1000 characters, at most 2600 bytes, no NUL."),
]


def _as_whole(value: object) -> object:
    """Read 50.0 as 50, as JSON does, but neither "50" nor true."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse metadata that jsonb cannot hold, and metadata too large for one interaction."""
    if metadata is None:
        return None
    if _depth(metadata) > MAX_METADATA_DEPTH:
        raise ValueError(f"is nested more than {MAX_METADATA_DEPTH} deep")
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError("has a number that is not finite, or text that is not Unicode") from error
    if len(text) > MAX_METADATA:
        raise ValueError(f"is longer than {MAX_METADATA} bytes of JSON")
    return metadata


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


class RecommendationRequest(Request):
    """A request for a user's recommendations."""

    user_id: Id
    limit: Annotated[int, BeforeValidator(_as_whole)] = Field(50, ge=1, le=100, description="The most posts to return.")
    exclude_post_ids: list[Id] = Field(
        default_factory=list, max_length=MAX_EXCLUDED, description="Posts to leave out, such as those on the page."
    )
    fallback: Literal["none", "popular"] = Field("none", description="`popular` adds popular posts up to `limit`.")

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user_id": "user-42", "limit": 50, "exclude_post_ids": ["post-1"]}]}
    )


class InteractionRequest(Request):
    """An interaction that happens now."""

    user_id: Id
    post_id: Id
    interaction_type: str = Field(min_length=1, max_length=100, pattern=TEXT, description="Such as view or like.")
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_check_metadata)] = Field(
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
