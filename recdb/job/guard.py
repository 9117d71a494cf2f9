"""How well a setting ranks the database's own interactions: what every training stores, and what the guard compares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from recdb.arrays.events import read_events
from recdb.arrays.settings import Settings
from recdb.learn import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.metrics import confidence_interval
from recdb.progress import Report

MOST_EVENTS = 500_000
"""How many interactions a training measures itself on: what bounds the time it takes."""
GUARDED_USERS = 30
"""A figure of fewer users says too little to reject another version by it."""


@dataclass(frozen=True)
class Figure:
    """What a version's setting reached on a validation part: learnt from what came before it, ranked offline."""

    recall: float
    """recall@20."""
    ndcg: float
    """ndcg@20."""
    interval: tuple[float, float]
    """95 % of ndcg@20, by the bootstrap over users."""
    users: int

    def __str__(self) -> str:
        """Name the figure that versions are compared by."""
        return f"{self.ndcg:.4f} ({self.interval[0]:.4f} to {self.interval[1]:.4f}, {self.users:,} users)"

    def to_json(self) -> dict[str, Any]:
        """Return what is stored as `validation` in a version's metrics."""
        return {
            "recall@20": round(self.recall, 6),
            "ndcg@20": round(self.ndcg, 6),
            "interval": [round(bound, 6) for bound in self.interval],
            "users": self.users,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        low, high = stored["interval"]
        return cls(stored["recall@20"], stored["ndcg@20"], (low, high), stored["users"])


def clearly_worse(new: Figure | None, served: Figure | None) -> bool:
    """Say whether a new version's interval lies below the served one's, or nobody is left to measure it on.

    A served version without a figure, or with one of too few users to tell, is no yardstick.
    """
    if served is None or served.users < GUARDED_USERS:
        return False
    return new is None or new.interval[1] < served.interval[0]


def measure(connection: psycopg.Connection, params: Params, settings: Settings, report: Report) -> Figure | None:
    """Measure a setting on the interactions of a sample of users; None where nobody has two items of some weight.

    The connection is in autocommit.
    """
    report("measuring on a validation part")
    evaluator = OfflineEvaluator(read_events(connection, most=MOST_EVENTS), settings.profile_limit)
    if not len(evaluator.users) or not len(evaluator.known.users):
        return None
    recall, ndcg = evaluator.user_metrics(params)
    return Figure(float(recall.mean()), float(ndcg.mean()), confidence_interval(ndcg), len(evaluator.users))
