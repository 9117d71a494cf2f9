"""The trials of a search: each setting is tried once on some users, made cheap enough first."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from recdb.learn.params import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.space import matters, plainest
from recdb.offline.validation import Trial, ValidationUsers, best_of

COSTLY = ("neighbors", "item_neighbors", "profile_limit")
SLACK = 0.003
"""Of the settings that are at most this much worse than the best, as a share, the cheapest is chosen."""
DOUBT = 0.5
"""A setting is ruled out if it is worse on few users by more than so many standard errors."""
PROVEN_DOUBT = 1.0
"""A setting that won on other data is preferred to the best if it is worse by at most so many standard errors on users
that the search did not see."""
LUCK = 2.0
"""And by at most so many on those that it did see, where there are no others: the best of many leads by chance."""
PROVEN_SLACK = 0.015
"""And at most this much worse, as a share."""


class OutOfTime(Exception):
    """The time of the search is up."""


class Trials:
    """The trials of a search, `trials`, in order.

    `width` bounds the dimension. `most_rows` bounds the cost of recommend(): see Trial.rows. best() is None while no
    trial is cheap enough. With `beyond`, the search also tries settings beyond the bound. `clock` returns seconds.
    """

    def __init__(
        self,
        evaluator: OfflineEvaluator,
        *,
        seconds: float,
        width: int,
        most_rows: float = np.inf,
        beyond: bool = False,
        start: Params | None = None,
        seed: int = 0,
        report: Callable[[Trial, Trial], None] = lambda trial, best: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.evaluator, self.seconds, self.width, self.report = evaluator, seconds, width, report
        self.most_rows, self.beyond, self.clock = most_rows, beyond, clock
        self.generator = np.random.default_rng(seed)
        self.start = self._plain(start or Params())
        self.trials: list[Trial] = []
        self.proven: set[Params] = set()
        """The settings that won on other data, as they are tried here."""
        self.checked: dict[Params, Trial] = {}
        """The trials on a second validation part, of the best setting and of those that may be chosen in its place."""
        self.finished = False
        """Whether the search ended because nothing was left to find."""
        self._seen: dict[tuple[Params, int], Trial] = {}
        self._began = 0.0
        self._deadline = np.inf

    def best(self) -> Trial | None:
        """Return the best trial so far that is cheap enough."""
        return best_of([trial for trial in self.trials if trial.rows <= self.most_rows])

    def chosen(self) -> Trial | None:
        """Return the trial to train with: the best one, or one that won on other data and is not clearly worse.

        The best of many trials owes part of its lead to chance. So they are compared on the second validation part, if
        there is one. With `beyond` it is the cheapest that is about as good.
        """
        best = self.best()
        if best is None:
            return None
        whole = [trial for trial in self.trials if trial.users == best.users]
        proven = [trial for trial in whole if trial.params in self.proven and trial.rows <= self.most_rows]
        level = best_of([trial for trial in proven if self._level(trial, best)]) or best
        good = [trial for trial in whole if trial.objective >= level.objective * (1 - SLACK)]
        return min(good, key=lambda trial: trial.rows) if self.beyond else level

    def _level(self, trial: Trial, best: Trial) -> bool:
        """Tell whether a setting that won on other data is not clearly worse than the best one."""
        doubt = LUCK
        if best.params in self.checked:
            if trial.params not in self.checked:
                return False
            doubt, trial, best = PROVEN_DOUBT, self.checked[trial.params], self.checked[best.params]
        return trial.objective >= best.objective * (1 - PROVEN_SLACK) and not ruled_out(trial, best, doubt)

    def frontier(self) -> list[Trial]:
        """Return the trials on all users than which none is both cheaper and better in ndcg, the cheapest first."""
        found: list[Trial] = []
        most = max((trial.users for trial in self.trials), default=0)
        for trial in sorted(self.trials, key=lambda trial: (trial.rows, -trial.ndcg)):
            if trial.users == most and (not found or trial.ndcg > found[-1].ndcg):
                found.append(trial)
        return found

    def _plain(self, params: Params) -> Params:
        return plainest(params, self.evaluator, self.width)

    def _try(self, params: Params, validation: ValidationUsers) -> Trial:
        key = params, len(validation.users)
        if key not in self._seen:
            now = self.clock()
            if now >= self._deadline:
                raise OutOfTime
            trial = replace(self.evaluator.try_out(params, validation), seconds=now - self._began)
            self._seen[key] = trial
            self.trials.append(trial)
            self.report(trial, self.best() or trial)
        return self._seen[key]

    def _few(self, params: Params, keep: str = "", among: ValidationUsers | None = None) -> Trial | None:
        """Try a setting on few users, made cheap enough; None if that is impossible."""
        among = among or self.evaluator.few_users
        fitted = self._fitted(self._plain(params), keep, among)
        return None if fitted is None else self._try(fitted, among)

    def _fitted(self, params: Params, keep: str, among: ValidationUsers) -> Params | None:
        """Take fewer score sources, and fewer items of each, until the cost is low enough; `keep` stays as it is.

        Of the weights that a call may add up, each part gets at least its share of the score: a part that counts little
        needs few.
        """
        most_rows = self.most_rows
        if np.isinf(most_rows):
            return params
        for _ in range(10):
            if self.clock() >= self._deadline:
                raise OutOfTime
            rows = {
                "neighbors": self.evaluator.user_rows(params, among),
                "item_neighbors": self.evaluator.item_rows(params, among),
            }
            total = sum(rows.values())
            if total <= most_rows:
                return params
            names = [name for name in rows if name != keep and matters(params, name)]
            share = {"neighbors": params.blend, "item_neighbors": 1 - params.blend} if len(names) > 1 else {}
            room = {name: max(share.get(name, 0.0) * most_rows, most_rows - total + rows[name]) for name in names}
            factors = {name: min(1.0, max(0.3, 0.97 * room[name] / max(rows[name], 1))) for name in names}
            if all(getattr(params, name) * factors[name] < 8 for name in names):
                factors = {name: max(0.3, 0.97 * most_rows / total) for name in COSTLY if name != keep}
            lower: dict[str, Any] = {name: max(1, int(getattr(params, name) * by)) for name, by in factors.items()}
            if replace(params, **lower) == params:
                return None
            params = replace(params, **lower)
        return None

    def _challenge_few(self, best: Trial, params: Params, keep: str = "") -> Trial:
        """Try a setting on few users; return the better trial."""
        trial = self._few(params, keep)
        return best if trial is None else max(best, trial, key=lambda trial: trial.objective)

    def _challenge_fewest(self, best: Trial, params: Params, keep: str = "") -> Trial:
        """Try a setting on the fewest users; return the better trial."""
        trial = self._few(params, keep, self.evaluator.fewest_users)
        return best if trial is None else max(best, trial, key=lambda trial: trial.objective)

    def _challenge(self, best: Trial, params: Params, keep: str = "") -> Trial:
        """Try a setting on all users, unless it costs too much or few users rule it out; return the better trial."""
        trial = self._few(params, keep)
        if trial is None:
            return best
        if self.evaluator.few_users is not self.evaluator.all_users:
            if ruled_out(trial, self._try(best.params, self.evaluator.few_users)):
                return best
            trial = self._try(trial.params, self.evaluator.all_users)
            if trial.rows > self.most_rows:
                return best
        return max(best, trial, key=lambda trial: trial.objective)

    def _best_few(self) -> list[Trial]:
        """Return the trials on few users that are cheap enough, the best first."""
        few = self.trials[0].users
        found = [trial for trial in self.trials if trial.users == few and trial.rows <= self.most_rows]
        return sorted(found, key=lambda trial: -trial.objective)


def ruled_out(trial: Trial, other: Trial, doubt: float = DOUBT) -> bool:
    """Tell whether a trial is worse than another on the same users by more than `doubt` standard errors."""
    gains = trial.gains - other.gains
    return bool(gains.mean() + doubt * gains.std() / len(gains) ** 0.5 < 0)
