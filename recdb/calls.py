"""One function for each SQL function: it returns the statement that calls it, and the record of its rows.

Recommender and AsyncRecommender send these calls. Every parameter is cast, so that PostgreSQL never has to choose
between two forms of a function.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, LiteralString, TypeVar

from psycopg.types.json import Jsonb

from recdb.records import (
    BatchRecommendation,
    Neighbor,
    NeighborReason,
    PopularItem,
    Reason,
    Recommendation,
    SimilarItem,
)
from recdb.schemas import with_schema

Row = TypeVar("Row")


@dataclass(frozen=True)
class Call(Generic[Row]):
    """A statement that calls one SQL function, its parameters, and the record that each row becomes."""

    statement: LiteralString
    parameters: Sequence[Any]
    record: type[Row]

    def in_schema(self, schema: str) -> "Call[Row]":
        """Return the same call of the recommender in another schema."""
        return replace(self, statement=with_schema(self.statement, schema))


@dataclass(frozen=True)
class Number:
    """The one row of a function that returns a number."""

    value: int


def recommend(
    user_id: str,
    k: int,
    exclude: Sequence[str],
    fallback: str,
    filter: Mapping[str, Any] | None,
    model: str | None,
) -> Call[Recommendation]:
    """Call recdb.recommend()."""
    return Call(
        "select item_id, score, reason, model_version "
        "from recdb.recommend(%s::text, %s::bigint, %s::text[], %s::text, %s::jsonb, %s::text)",
        [user_id, k, list(exclude), fallback, json_or_null(filter), model],
        Recommendation,
    )


def recommend_for_items(
    items: Sequence[str],
    k: int,
    exclude: Sequence[str],
    weights: Sequence[float] | None,
    fallback: str,
    filter: Mapping[str, Any] | None,
    model: str | None,
) -> Call[Recommendation]:
    """Call recdb.recommend_for_items()."""
    numbers = None if weights is None else [float(weight) for weight in weights]
    return Call(
        "select item_id, score, reason, model_version from recdb.recommend_for_items("
        "%s::text[], %s::bigint, %s::text[], %s::real[], %s::text, %s::jsonb, %s::text)",
        [list(items), k, list(exclude), numbers, fallback, json_or_null(filter), model],
        Recommendation,
    )


def recommend_batch(user_ids: Sequence[str], k: int) -> Call[BatchRecommendation]:
    """Call recdb.recommend_batch()."""
    return Call(
        "select user_id, rank, item_id, score, reason from recdb.recommend_batch(%s::text[], %s::bigint)",
        [list(user_ids), k],
        BatchRecommendation,
    )


def neighbors(user_id: str, k: int) -> Call[Neighbor]:
    """Call recdb.neighbors()."""
    return Call(
        "select neighbor_id, similarity, shared_items from recdb.neighbors(%s::text, %s::bigint)",
        [user_id, k],
        Neighbor,
    )


def similar_items(item_id: str, k: int) -> Call[SimilarItem]:
    """Call recdb.similar_items()."""
    return Call(
        "select neighbor_id, similarity from recdb.similar_items(%s::text, %s::bigint)",
        [item_id, k],
        SimilarItem,
    )


def explain(user_id: str, item_id: str, model: str | None) -> Call[Reason]:
    """Call recdb.explain()."""
    return Call(
        "select source, because_id, contribution from recdb.explain(%s::text, %s::text, %s::text)",
        [user_id, item_id, model],
        Reason,
    )


def explain_neighbors(user_id: str, item_id: str, model: str | None) -> Call[NeighborReason]:
    """Call recdb.explain_neighbors()."""
    return Call(
        "select neighbor_id, similarity, contribution from recdb.explain_neighbors(%s::text, %s::text, %s::text)",
        [user_id, item_id, model],
        NeighborReason,
    )


def popular(k: int) -> Call[PopularItem]:
    """Call recdb.popular()."""
    return Call("select item_id, score from recdb.popular(%s::bigint)", [k], PopularItem)


def track(
    user_id: str,
    item_id: str,
    kind: str,
    created_at: datetime | None,
    metadata: Mapping[str, Any] | None,
    value: float | None,
) -> Call[Number]:
    """Call recdb.track()."""
    return Call(
        "select recdb.track(%s::text, %s::text, %s::text, %s::timestamptz, %s::jsonb, %s::double precision) as value",
        [user_id, item_id, kind, created_at, json_or_null(metadata), value],
        Number,
    )


def merge_users(from_id: str, to_id: str) -> Call[Number]:
    """Call recdb.merge_users()."""
    return Call("select recdb.merge_users(%s::text, %s::text) as value", [from_id, to_id], Number)


def forget_user(user_id: str) -> Call[Number]:
    """Call recdb.forget_user()."""
    return Call("select recdb.forget_user(%s::text) as value", [user_id], Number)


def json_or_null(value: Mapping[str, Any] | None) -> Jsonb | None:
    """Return a parameter for a jsonb argument; None stays NULL."""
    return None if value is None else Jsonb(dict(value))
