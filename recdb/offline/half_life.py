"""Half-lives: whether the ranking improves where older interactions count less, tried on a validation part."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recdb.learn.events import Events
from recdb.learn.params import Params
from recdb.offline.cache import CACHE_BYTES
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.validation import Trial

SPANS = (1 / 4, 1 / 8, 1 / 2, 1 / 16, 1)
"""The half-lives to try, as shares of the time span in which most interactions happened."""
CLEAR = 1.01
"""How many times better a half-life must be than the database's own."""
EXPONENTS = ("people_weight_exponent", "neighbor_weight_exponent", "item_weight_exponent", "profile_weight_exponent")
HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class HalfLife:
    """The half-life that is proposed for a setting, and the trials behind it."""

    before: float | None
    """The database's half-life in seconds; None for none."""
    seconds: float | None
    """The proposed half-life: the database's if no other is clearly better."""
    exponents: Mapping[str, float]
    """Weight exponents that go with the proposed half-life, where they differ from the setting's."""
    gain: float
    """How much better ndcg@20 is with it, as a share."""
    tried: Mapping[float | None, float]
    """Each half-life that was tried, and the best ndcg@20 with it on the users that it was tried on."""

    @property
    def changes(self) -> bool:
        """Whether another half-life than the database's is proposed."""
        return self.seconds != self.before

    def to_json(self) -> dict[str, Any]:
        """Return the proposal as a JSON object; half-lives are in seconds, null for none."""
        return {
            "before": self.before,
            "proposed": self.seconds,
            "gain": round(self.gain, 6),
            "tried": [{"half_life": seconds, "ndcg@20": round(ndcg, 6)} for seconds, ndcg in self.tried.items()],
        }

    def __str__(self) -> str:
        """Describe the proposal in one line."""
        if not self.changes:
            return f"half-life: {'none helps' if self.before is None else f'stays {spell(self.before)}'}"
        return f"half-life: {spell(self.seconds)}, ndcg {self.gain:+.1%}"


def spell(seconds: float | None) -> str:
    """Format a half-life: '30 days'."""
    if seconds is None:
        return "none"
    for unit, length in (("day", DAY), ("hour", HOUR)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}{'' if seconds == length else 's'}"
    return f"{seconds:g} seconds"


def candidates(events: Events) -> Iterator[float | None]:
    """Yield the half-lives to try, the most promising first, in whole days or hours where they are long enough."""
    if events.half_life is not None:
        yield None
    first, last = np.quantile(events.seconds, [0.01, 0.99])
    for share in SPANS:
        seconds = whole(float(last - first) * share)
        if seconds != events.half_life:
            yield seconds


def whole(seconds: float) -> float:
    """Round to whole days, hours or seconds, at least 1."""
    unit = next((unit for unit in (DAY, HOUR) if seconds >= 2 * unit), 1)
    return float(max(1, round(seconds / unit)) * unit)


def propose(
    events: Events, evaluator: OfflineEvaluator, best: Params, ceiling: int, more_time: Callable[[], bool]
) -> HalfLife:
    """Try half-lives on a setting, as it is and with all weight exponents at 1, while there is time.

    Every half-life is tried on the validation users and the held-out items of `evaluator`.
    """
    choices: list[dict[str, Any]] = [{}, dict.fromkeys(EXPONENTS, 1.0)]
    winner, winning = evaluator, evaluator.try_out(best, evaluator.few_users)
    exponents, proposed = choices[0], events.half_life
    tried = {events.half_life: winning.ndcg}
    waiting = list(candidates(events))
    while waiting and more_time():
        seconds = waiting.pop(0)
        other = OfflineEvaluator(replace(events, half_life=seconds), ceiling, memory=CACHE_BYTES // 4)
        trials = [other.try_out(replace(best, **choice), other.few_users) for choice in choices]
        tried[seconds] = max(trial.ndcg for trial in trials)
        for trial, choice in zip(trials, choices, strict=True):
            if trial.objective > winning.objective:
                winner, winning, exponents, proposed = other, trial, choice, seconds
        shortest = min(filter(None, tried))
        if not waiting and proposed == shortest >= 2:
            waiting.append(whole(shortest / 2))
    before = evaluator.try_out(best)
    after = before if winner is evaluator else winner.try_out(winning.params)
    if not clearly_better(after, before):
        return HalfLife(events.half_life, events.half_life, {}, 0.0, tried)
    return HalfLife(events.half_life, proposed, exponents, after.ndcg / before.ndcg - 1, tried)


def clearly_better(trial: Trial, other: Trial) -> bool:
    """Tell whether a trial is better than another on the same users: by the factor CLEAR, and by more than chance."""
    gains = trial.gains - other.gains
    noise = float(gains.std()) / max(len(gains), 1) ** 0.5
    return trial.objective > other.objective * CLEAR and float(gains.mean()) > 2 * noise
