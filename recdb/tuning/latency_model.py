"""The latency of recommend(): predicted for a setting before it is trained, and measured with a trained version."""

from dataclasses import dataclass, replace
from typing import Self

from recdb.arrays.sample import GOLDEN
from recdb.database import Database, connect
from recdb.latency import Latency, recommend_with, timed

USERS = 300
FIXED_MS = 1.8
ROW_MS = 0.0003
"""Of one core of a small server in 2026. Only their ratio counts: a measurement on the server corrects the rest."""


@dataclass(frozen=True)
class LatencyModel:
    """A linear model: the median milliseconds of a call by the number of weights (rows) that it adds up."""

    scale: float = 1.0
    """How many times slower this server is; 1 until a version was measured on it."""

    def predict(self, rows: float) -> float:
        """Return the milliseconds of a call that adds up `rows` weights."""
        return self.scale * (FIXED_MS + ROW_MS * rows)

    def most_rows(self, milliseconds: float) -> float:
        """Return how many weights a call can add up in this time; negative where the time is too short for any."""
        return (milliseconds / self.scale - FIXED_MS) / ROW_MS

    def corrected(self, rows: float, milliseconds: float) -> Self:
        """Return the model that predicts `milliseconds`, which were measured, for `rows` weights."""
        return replace(self, scale=milliseconds / LatencyModel().predict(rows))


@dataclass(frozen=True)
class Prices:
    """The price of a call by the number of weights that it adds up: in milliseconds, and in default calls."""

    latency: LatencyModel
    default_rows: float
    """How many weights a call with the default hyper-parameters adds up on these data."""

    def milliseconds(self, rows: float) -> float:
        """Return the predicted milliseconds of a call."""
        return self.latency.predict(rows)

    def cost(self, rows: float) -> float:
        """Return how many times the predicted time of a default call it takes."""
        return self.latency.predict(rows) / self.latency.predict(self.default_rows)

    def most_rows(self, cost: float) -> float:
        """Return how many weights a call of this cost can add up; negative where the cost is too low for any."""
        return self.latency.most_rows(cost * self.latency.predict(self.default_rows))


def median_latency(database: Database, label: str, users: int = USERS) -> float | None:
    """Return the median milliseconds of recommend() with a version, over a sample of users.

    There are two calls for each user. The second one counts: then the statement is prepared and the cache is warm.
    None if the database has no users: it learns from those that `recdb gather` brought.
    """
    with connect(database, autocommit=True) as connection:
        sample = [
            user
            for (user,) in connection.execute(
                "select user_id from recdb.user_key order by user_key::bigint * %s %% 4294967296 limit %s",
                [GOLDEN, users],
            )
        ]
        if not sample:
            return None
        call = recommend_with(connection, model=label)
        for _ in range(2):
            milliseconds = [each for _, each in timed(call, sample)]
    return Latency.of(milliseconds).p50
