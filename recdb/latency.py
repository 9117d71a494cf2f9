"""How long calls take: each one on the clock, and the percentiles of many."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import psycopg

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Latency:
    """How long some calls took: percentiles in milliseconds."""

    calls: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Self:
        """Summarize the milliseconds of one call or more."""
        p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
        return cls(len(milliseconds), float(p50), float(p95), float(p99))


def timed(call: Callable[[str], Answer], users: Iterable[str]) -> Iterator[tuple[Answer, float]]:
    """Call once for each user, one after the other; yield each answer with the milliseconds that the caller waited."""
    for user in users:
        began = time.perf_counter()
        answer = call(user)
        yield answer, (time.perf_counter() - began) * 1000


def recommend_with(
    connection: psycopg.Connection, *, k: int = 50, model: str | None = None
) -> Callable[[str], list[tuple[Any, ...]]]:
    """Return recommend() as a prepared statement: a function from a user's id to rows of item_id and score.

    `model` is a version's label; None is the active version.
    """
    statement = "select item_id, score from recdb.recommend(%s::text, %s::bigint, model => %s::text)"
    return lambda user: connection.execute(statement, [user, k, model], prepare=True).fetchall()
