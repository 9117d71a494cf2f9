"""The plan of an evaluation, and its result."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from recdb.evaluate.holdout import Split
from recdb.latency import Latency
from recdb.learn import Params
from recdb.offline.metrics import Scores


@dataclass(frozen=True)
class Kinds:
    """The kinds' weights, and the kinds that hide an item; None keeps the database's settings."""

    weights: Mapping[str, float] | None = None
    hides: Sequence[str] | None = None


@dataclass(frozen=True)
class Plan:
    """How to train on the training part, and how to score the test part."""

    ks: Sequence[int] = (20,)
    params: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that differ from the active version's, or from the defaults if no version is active."""
    tune_seconds: float | None = None
    """How long to tune on the training part; None trains without tuning."""
    latency_ms: float | None = None
    """The largest median latency of recommend() that tuning may choose, in milliseconds."""
    cost: float | None = None
    """The largest predicted cost of a call that tuning may choose, in calls with the defaults; None for any."""
    kinds: Kinds = Kinds()
    items: str | None = None
    """With files: the file of the catalogue."""
    cold: bool = False
    """Rank only items that nobody touched in training."""


@dataclass(frozen=True)
class ColdPart:
    """The items that nobody touched in training, among which an evaluation ranked."""

    items: int
    relevant: int
    """The number of pairs of a user and a relevant item."""


@dataclass(frozen=True)
class Warm:
    """The figures of items that somebody touched in training, beside those of items that nobody touched."""

    part: str
    """test: the lists of recommend() on the test part, new items among them; validation: the figure of the training."""
    means: Mapping[str, float]
    users: int
    baselines: Mapping[str, Scores] = field(default_factory=dict)

    @classmethod
    def of(cls, found: "Evaluation") -> "Warm":
        """Take the figures of an evaluation of these items."""
        return cls("test", found.ours.means, found.users, found.baselines)

    @classmethod
    def validated(cls, figure: Mapping[str, Any]) -> "Warm":
        """Take the figure that the training measured on a validation part."""
        return cls("validation", {name: figure[name] for name in ("recall@20", "ndcg@20")}, figure["users"])

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {
            "part": self.part,
            **{name: round(value, 6) for name, value in self.means.items()},
            "users": self.users,
            **({"baselines": describe_scores(self.baselines)} if self.baselines else {}),
        }


def describe_scores(baselines: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """Return the metrics of each baseline as a JSON object."""
    return {
        name: {metric: round(value, 6) for metric, value in scores.means.items()} for name, scores in baselines.items()
    }


@dataclass(frozen=True)
class Evaluation:
    """The result of `recdb evaluate`."""

    ours: Scores
    baselines: Mapping[str, Scores]
    users: int
    """Test users that occur in training."""
    unknown_users: int
    """Test users that do not occur in training; they are not scored."""
    baseline_users: int
    """Test users that the baselines are scored on."""
    params: Params
    train_seconds: float
    latency: Latency
    """The latency of recommend(), over the calls for the test users."""
    seconds: Mapping[str, float]
    """How long each step took."""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None
    """How a database's own interactions were split; None with files."""
    cold: ColdPart | None = None
    """Set where only items that nobody touched in training were ranked."""
    warm: Warm | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as one JSON object; our metrics stand at its top level."""
        return {
            **{name: round(value, 6) for name, value in self.ours.means.items()},
            "intervals": {name: [round(low, 6), round(high, 6)] for name, (low, high) in self.ours.intervals.items()},
            "baselines": describe_scores(self.baselines),
            "users": self.users,
            "unknown_users": self.unknown_users,
            "baseline_users": self.baseline_users,
            "params": self.params.to_json(),
            "train_seconds": round(self.train_seconds, 2),
            "latency_ms": {name: round(getattr(self.latency, name), 3) for name in ("p50", "p95", "p99")},
            "seconds": {step: round(seconds, 2) for step, seconds in self.seconds.items()},
            "tuning": dict(self.tuning),
            **({"split": self.split.to_json()} if self.split else {}),
            **({"cold": asdict(self.cold)} if self.cold else {}),
            **({"warm": self.warm.to_json()} if self.warm else {}),
        }


class Stopwatch:
    """Measures how long the steps of a run take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def lap(self, step: str) -> None:
        """End a step: it took the time since the step before it ended."""
        now = time.monotonic()
        self.seconds[step] = now - self._began
        self._began = now
