"""What recommend() takes: measured on the server, and predicted for settings that were not trained yet."""

import time
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import psycopg

from recdb.arrays.events import GOLDEN
from recdb.database import Database, connect

USERS = 300
FIXED_MS = 1.8
ROW_MS = 0.0003
"""Of one core of a small server in 2026, where the ratio of both is what counts: what is measured corrects the rest."""


@dataclass(frozen=True)
class Latency:
    """A linear model of the median milliseconds of a call, from the rows it adds up."""

    scale: float = 1.0
    """This server's, where some version was measured on it."""

    def predict(self, rows: float) -> float:
        """Return the milliseconds of a call that adds up so many rows."""
        return self.scale * (FIXED_MS + ROW_MS * rows)

    def most_rows(self, milliseconds: float) -> float:
        """Return how many rows can be added up in so many milliseconds; negative where not even none can."""
        return (milliseconds / self.scale - FIXED_MS) / ROW_MS

    def corrected(self, rows: float, milliseconds: float) -> Self:
        """Return the model that predicts what was measured."""
        return replace(self, scale=milliseconds / Latency().predict(rows))


def measure_latency(database: Database, label: str, users: int = USERS) -> float:
    """Return the median milliseconds of recommend() with a version, prepared and warm, over a sample of users."""
    with connect(database, autocommit=True) as connection:
        sample = [
            user
            for (user,) in connection.execute(
                "select user_id from recdb.user_key order by user_key::bigint * %s %% 4294967296 limit %s",
                [GOLDEN, users],
            )
        ]
        for _ in range(2):
            times = [call(connection, user, label) for user in sample]
    return float(np.median(times)) * 1000


def call(connection: psycopg.Connection, user: str, label: str) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    connection.execute(
        "select item_id, score from recdb.recommend(%s::text, model => %s::text)", [user, label], prepare=True
    ).fetchall()
    return time.perf_counter() - began
