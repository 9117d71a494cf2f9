"""One function for each SQL function: it returns the statement that calls it, and the record of its rows.

Recommender and AsyncRecommender send these calls. Every parameter is cast, so that PostgreSQL never has to choose
between two forms of a function. Raises InvalidInput for an argument of a type that recdb does not take.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, LiteralString, TypeVar

from recdb.arguments import (
    Id,
    count_of,
    filter_of,
    id_of,
    ids_of,
    ids_or_null,
    json_of,
    number_of,
    places_of,
    shares_of,
    span_of,
    text_of,
    time_of,
    weights_of,
)
from recdb.records import (
    AudienceUser,
    BatchRecommendation,
    Neighbor,
    NeighborReason,
    PopularItem,
    Reason,
    Recommendation,
    SimilarItem,
    TrendingItem,
)
from recdb.schemas import with_schema

Row = TypeVar("Row")

Filter = Mapping[str, Any] | str
"""Attributes that an item has to have, or a JSON path such as `$.price < 20`."""


@dataclass(frozen=True)
class Call(Generic[Row]):
    """A statement that calls one SQL function, its parameters, and the record that each row becomes."""

    statement: LiteralString
    parameters: Sequence[Any]
    record: type[Row]
    writes: bool = False
    """Whether it needs the primary, and a later read of its users has to see it."""
    users: Sequence[int] = (0,)
    """The places of the parameters that hold ids of users, or arrays of them."""

    def user_ids(self) -> list[str]:
        """Return the users of the call, whose own writes its rows depend on, or who write."""
        found = (self.parameters[place] for place in self.users)
        return [user for one in found for user in (one if isinstance(one, list) else [one]) if user is not None]

    def in_schema(self, schema: str) -> "Call[Row]":
        """Return the same call of the recommender in another schema."""
        return replace(self, statement=with_schema(self.statement, schema))


@dataclass(frozen=True)
class Number:
    """The one row of a function that returns a number."""

    value: int


@dataclass(frozen=True)
class Name:
    """The one row of a function that returns a name, or None."""

    value: str | None


def recommend(
    user_id: Id | None,
    k: int | None,
    exclude: Iterable[Id] | None,
    fallback: str | None,
    filter: Filter | None,
    model: str | None,
    among: Iterable[Id] | None = None,
    scenario: str | None = None,
    segment: Mapping[str, Any] | None = None,
) -> Call[Recommendation]:
    """Call recdb.recommend()."""
    return Call(
        "select item_id, score, reason, model_version "
        "from recdb.recommend("
        "%s::text, %s::bigint, %s::text[], %s::text, %s::jsonb, %s::text, %s::text[], %s::text, %s::jsonb)",
        [
            id_of("user_id", user_id),
            count_of("k", k),
            ids_of("exclude", exclude),
            text_of("fallback", fallback),
            filter_of("filter", filter),
            text_of("model", model),
            ids_or_null("among", among),
            text_of("scenario", scenario),
            json_of("segment", segment),
        ],
        Recommendation,
    )


def recommend_for_items(
    items: Iterable[Id],
    k: int | None,
    exclude: Iterable[Id] | None,
    weights: Iterable[float] | None,
    fallback: str | None,
    filter: Filter | None,
    model: str | None,
    among: Iterable[Id] | None = None,
    scenario: str | None = None,
    segment: Mapping[str, Any] | None = None,
) -> Call[Recommendation]:
    """Call recdb.recommend_for_items()."""
    return Call(
        "select item_id, score, reason, model_version from recdb.recommend_for_items("
        "%s::text[], %s::bigint, %s::text[], %s::real[], "
        "%s::text, %s::jsonb, %s::text, %s::text[], %s::text, %s::jsonb)",
        [
            ids_of("items", items),
            count_of("k", k),
            ids_of("exclude", exclude),
            weights_of("weights", weights),
            text_of("fallback", fallback),
            filter_of("filter", filter),
            text_of("model", model),
            ids_or_null("among", among),
            text_of("scenario", scenario),
            json_of("segment", segment),
        ],
        Recommendation,
        users=(),
    )


def recommend_batch(
    user_ids: Iterable[Id],
    k: int | None,
    fallback: str | None,
    filter: Filter | None,
    model: str | None,
    among: Iterable[Id] | None,
    scenario: str | None,
    segment: Mapping[str, Any] | None,
) -> Call[BatchRecommendation]:
    """Call recdb.recommend_batch()."""
    return Call(
        "select user_id, rank, item_id, score, reason from recdb.recommend_batch("
        "%s::text[], %s::bigint, %s::text, %s::jsonb, %s::text, %s::text[], %s::text, %s::jsonb)",
        [
            ids_of("user_ids", user_ids),
            count_of("k", k),
            text_of("fallback", fallback),
            filter_of("filter", filter),
            text_of("model", model),
            ids_or_null("among", among),
            text_of("scenario", scenario),
            json_of("segment", segment),
        ],
        BatchRecommendation,
    )


def neighbors(user_id: Id | None, k: int | None) -> Call[Neighbor]:
    """Call recdb.neighbors()."""
    return Call(
        "select neighbor_id, similarity, shared_items from recdb.neighbors(%s::text, %s::bigint)",
        [id_of("user_id", user_id), count_of("k", k)],
        Neighbor,
    )


def similar_items(item_id: Id | None, k: int | None) -> Call[SimilarItem]:
    """Call recdb.similar_items()."""
    return Call(
        "select neighbor_id, similarity from recdb.similar_items(%s::text, %s::bigint)",
        [id_of("item_id", item_id), count_of("k", k)],
        SimilarItem,
        users=(),
    )


def explain(user_id: Id | None, item_id: Id | None, model: str | None, scenario: str | None) -> Call[Reason]:
    """Call recdb.explain()."""
    return Call(
        "select source, because_id, contribution from recdb.explain(%s::text, %s::text, %s::text, %s::text)",
        [
            id_of("user_id", user_id),
            id_of("item_id", item_id),
            text_of("model", model),
            text_of("scenario", scenario),
        ],
        Reason,
    )


def explain_neighbors(user_id: Id | None, item_id: Id | None, model: str | None) -> Call[NeighborReason]:
    """Call recdb.explain_neighbors()."""
    return Call(
        "select neighbor_id, similarity, contribution from recdb.explain_neighbors(%s::text, %s::text, %s::text)",
        [id_of("user_id", user_id), id_of("item_id", item_id), text_of("model", model)],
        NeighborReason,
    )


def popular(k: int | None, filter: Filter | None, segment: Mapping[str, Any] | None) -> Call[PopularItem]:
    """Call recdb.popular()."""
    return Call(
        "select item_id, score from recdb.popular(%s::bigint, %s::jsonb, %s::jsonb)",
        [count_of("k", k), filter_of("filter", filter), json_of("segment", segment)],
        PopularItem,
        users=(),
    )


def trending(k: int | None, time_window: timedelta | None, filter: Filter | None) -> Call[TrendingItem]:
    """Call recdb.trending()."""
    return Call(
        "select item_id, score, rise, users from recdb.trending(%s::bigint, %s::interval, %s::jsonb)",
        [count_of("k", k), span_of("time_window", time_window), filter_of("filter", filter)],
        TrendingItem,
        users=(),
    )


def audience(item_id: Id | None, k: int | None) -> Call[AudienceUser]:
    """Call recdb.audience()."""
    return Call(
        "select user_id, score from recdb.audience(%s::text, %s::bigint)",
        [id_of("item_id", item_id), count_of("k", k)],
        AudienceUser,
        users=(),
    )


def track(
    user_id: Id,
    item_id: Id,
    kind: str,
    created_at: datetime | None,
    metadata: Mapping[str, Any] | None,
    value: float | None,
) -> Call[Number]:
    """Call recdb.track()."""
    return Call(
        "select recdb.track(%s::text, %s::text, %s::text, %s::timestamptz, %s::jsonb, %s::double precision) as value",
        [
            id_of("user_id", user_id),
            id_of("item_id", item_id),
            text_of("kind", kind),
            time_of("created_at", created_at),
            json_of("metadata", metadata),
            number_of("value", value),
        ],
        Number,
        writes=True,
    )


def impressions(
    user_id: Id,
    item_ids: Iterable[Id],
    scenario: str | None,
    places: Iterable[int] | None,
    shown_at: datetime | None,
    model_version: str | None,
    variant: str | None,
    propensities: Iterable[float | None] | None,
) -> Call[Number]:
    """Call recdb.impressions()."""
    return Call(
        "select recdb.impressions(%s::text, %s::text[], %s::text, %s::integer[], %s::timestamptz, %s::text, %s::text, "
        "%s::real[]) as value",
        [
            id_of("user_id", user_id),
            ids_of("item_ids", item_ids),
            text_of("scenario", scenario),
            places_of("places", places),
            time_of("shown_at", shown_at),
            text_of("model_version", model_version),
            text_of("variant", variant),
            shares_of("propensities", propensities),
        ],
        Number,
        writes=True,
    )


def variant(user_id: Id | None, experiment: str) -> Call[Name]:
    """Call recdb.variant()."""
    return Call(
        "select recdb.variant(%s::text, %s::text) as value",
        [id_of("user_id", user_id), text_of("experiment", experiment)],
        Name,
    )


def merge_users(from_id: Id, to_id: Id) -> Call[Number]:
    """Call recdb.merge_users()."""
    return Call(
        "select recdb.merge_users(%s::text, %s::text) as value",
        [id_of("from_id", from_id), id_of("to_id", to_id)],
        Number,
        writes=True,
        users=(0, 1),
    )


def forget_user(user_id: Id) -> Call[Number]:
    """Call recdb.forget_user()."""
    return Call("select recdb.forget_user(%s::text) as value", [id_of("user_id", user_id)], Number, writes=True)
