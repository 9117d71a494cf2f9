"""The guard: every training measures how well its setting ranks, and compares that with the active version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from recdb.arrays.events import read_events
from recdb.arrays.settings import Settings
from recdb.learn import Params
from recdb.learn.events import Events
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.metrics import confidence_interval
from recdb.progress import Report

MOST_EVENTS = 500_000
"""How many interactions, at most, a training is measured on. This bounds the time that measuring takes."""
GUARDED_USERS = 30
"""A figure of fewer users is too uncertain to reject another version."""


@dataclass(frozen=True)
class Figure:
    """How well a version's setting ranked a validation part, after learning from the interactions before it."""

    recall: float
    """recall@20."""
    ndcg: float
    """ndcg@20."""
    interval: tuple[float, float]
    """The 95 % confidence interval of ndcg@20, from the bootstrap over users."""
    users: int

    def __str__(self) -> str:
        """Write ndcg@20, by which versions are compared, with its interval."""
        return f"{self.ndcg:.4f} ({self.interval[0]:.4f} to {self.interval[1]:.4f}, {self.users:,} users)"

    def to_json(self) -> dict[str, Any]:
        """Return the object that is stored as `validation` in a version's metrics."""
        return {
            "recall@20": round(self.recall, 6),
            "ndcg@20": round(self.ndcg, 6),
            "interval": [round(bound, 6) for bound in self.interval],
            "users": self.users,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the object that `to_json` returned."""
        low, high = stored["interval"]
        return cls(stored["recall@20"], stored["ndcg@20"], (low, high), stored["users"])


def is_clearly_worse(new: Figure | None, served: Figure | None) -> bool:
    """Tell whether a new version ranks clearly worse: its interval is below that of the served version.

    Without a figure of either, or with a served one of fewer than GUARDED_USERS users, there is nothing to compare: if
    that were worse, each training after it would be rejected too. A rebuild stops where most of the data are lost.
    """
    if new is None or served is None or served.users < GUARDED_USERS:
        return False
    return new.interval[1] < served.interval[0]


def measure_setting(
    connection: psycopg.Connection, params: Params, settings: Settings, report: Report
) -> Figure | None:
    """Measure a setting on the interactions of a sample of users; None, with a line in the report, if no user has
    two items with a weight. Where all weights are negative, it ranks nothing.

    The connection is in autocommit.
    """
    report("measuring on a validation part")
    events = read_events(connection, most=MOST_EVENTS)
    return measure_events(events, lambda: OfflineEvaluator(events, settings.profile_limit), params, report)


def measure_events(
    events: Events, make_evaluator: Callable[[], OfflineEvaluator], params: Params, report: Report
) -> Figure | None:
    """Measure a setting with an evaluator of some events, as measure_setting() does."""
    if len(events.users) and not (events.weights[events.kinds] > 0).any():
        return Figure(0.0, 0.0, (0.0, 0.0), 0)
    evaluator = make_evaluator()
    if not len(evaluator.users) or not len(evaluator.known.users):
        report("nobody has two items with a weight, one of them of a kind that hides: this training is not measured")
        return None
    recall, ndcg = evaluator.user_metrics(params)
    return Figure(float(recall.mean()), float(ndcg.mean()), confidence_interval(ndcg), len(evaluator.users))
