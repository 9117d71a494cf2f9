"""Searches hyper-parameters on a validation part, with the offline evaluator.

The search takes the user-based and the item-based part of the ranking apart, then together. For each part it draws
settings at random around those that are known to work. Then it pairs the best settings of both parts, and takes
coordinate steps from the best pair, and again from random changes of it, until the time is up (iterated local search).
Where a trial takes long, the search ranks for few of the validation users first, and for all of them only where the few
do not rule the setting out.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from recdb.learn.item_neighbors import EASE_ITEMS
from recdb.learn.params import Params
from recdb.offline.evaluator import OfflineEvaluator, Trial, ValidationUsers, best_of

Space = Mapping[str, Sequence[Any]]

# Hyper-parameters of the item-based part: of learning, then of scoring.
ITEM_LEARNING: Space = {
    "learner": ("cooccurrence", "ease"),
    "item_weight_exponent": (0.0, 0.5, 1.0),
    "item_user_exponent": (0.0, 0.125, 0.25, 0.375, 0.5),
    "source_exponent": (0.0, 0.15, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0),
    "target_exponent": (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8),
    "cooccurrence_power": (0.6, 0.8, 1.0, 1.3, 1.6),
    "spectral_weight": (0.0, 0.03, 0.1, 0.3, 0.6, 0.9, 2.0, 4.0, 8.0, 16.0, 32.0),
    "spectral_filter": ("ideal", "second-order", "chebyshev", "ridge"),
    "spectral_power": (1.5, 2.0, 3.0, 5.0),
    "spectral_rank": (128, 256, 512),
    "ease_regularization": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6),
    "ease_dropout": (0.0, 0.2, 0.35, 0.5, 0.65),
    "item_neighbors": (12, 25, 50, 100, 200, 400),
    "session_weight": (0.0, 10.0, 50.0),
    "session_gap": (60.0, 180.0, 420.0, 1800.0),
}
ITEM_SCORING: Space = {
    "profile_weight_exponent": (0.0, 0.5, 1.0),
    "profile_recency": (0.0, 0.3, 0.6, 0.9, 1.2),
    "self_weight": (0.0, 1.0, 2.0, 4.0, 8.0, 16.0),
}
# Hyper-parameters of the user-based part: of learning, then of scoring.
USER_LEARNING: Space = {
    "people_weight_exponent": (0.0, 0.5, 1.0),
    "basis_user_exponent": (0.0, 0.25, 0.5),
    "basis_item_exponent": (0.0, 0.15, 0.25, 0.4, 0.5),
}
USER_SCORING: Space = {
    "spectrum_exponent": (0.0, 0.25, 0.5),
    "dimension": (64, 128, 256, 512, 1024),
    "people_recency": (0.0, 0.3, 0.6, 0.9),
    "neighbors": (12, 25, 50, 100, 200, 400),
    "similarity_exponent": (0.5, 1.0, 2.0, 4.0, 6.0),
    "activity_exponent": (0.0, 0.25, 0.5),
    "neighbor_weight_exponent": (0.0, 0.5, 1.0),
}
# Hyper-parameters of both parts.
BLENDING: Space = {"blend": tuple(step / 10 for step in range(11)), "profile_limit": (10, 20, 40, 80, 160, 320)}

SLOW = "spectral_weight"
"""The hyper-parameter that takes so long to learn that only the last steps try it; it is never drawn."""
COSTLY = ("neighbors", "item_neighbors", "profile_limit")
COOCCURRENCE = ("source_exponent", "cooccurrence_power", "spectral_weight")
FILTER = ("spectral_filter", "spectral_power", "spectral_rank")
"""Hyper-parameters of a spectral filter, without an effect where its weight is 0."""

# Settings that did well on other data sets; the draws of each part begin with them.
KNOWN_ITEM_BASED: Sequence[Mapping[str, Any]] = (
    {"item_user_exponent": 0.5, "source_exponent": 0.5, "target_exponent": 0.5},
    {"learner": "ease", "item_user_exponent": 0.0, "target_exponent": 0.0, "ease_regularization": 0.4},
)
KNOWN_USER_BASED: Sequence[Mapping[str, Any]] = (
    {"basis_user_exponent": 0.25, "basis_item_exponent": 0.25, "dimension": 256, "neighbors": 200},
    {"people_weight_exponent": 0.0, "basis_user_exponent": 0.5, "basis_item_exponent": 0.0, "dimension": 256},
)

DRAWS = 4
"""How many scoring settings are drawn for each learning setting."""
PAIRS = 9
"""How many pairs of an item-based and a user-based setting are blended."""
JUMP = 3
"""The number of hyper-parameters to change at once if no single change helps."""
PROMOTED = 6
"""How many of the settings that did best on few users are tried on all users before the steps begin."""


class Search:
    """A search for the best setting within a time; `trials` holds all trials, in order.

    `width` bounds the dimension. `most_rows` bounds the cost of recommend(): see Trial.rows. The search always tries
    the start, whatever it costs; best() is None while no trial is cheap enough.
    """

    def __init__(
        self,
        evaluator: OfflineEvaluator,
        *,
        seconds: float,
        width: int,
        most_rows: float = np.inf,
        start: Params | None = None,
        seed: int = 0,
        report: Callable[[Trial, Trial], None] = lambda trial, best: None,
    ) -> None:
        self.evaluator, self.seconds, self.width, self.report = evaluator, seconds, width, report
        self.most_rows = most_rows
        self.generator = np.random.default_rng(seed)
        self.start = self._plain(start or Params())
        self.trials: list[Trial] = []
        self._seen: dict[tuple[Params, int], Trial] = {}
        self._underrated = 1.0
        """How many times more rows there are than guess_rows() says."""

    def run(self) -> Trial | None:
        """Search until the time is up and return the best trial, None if none is cheap enough."""
        began = time.monotonic()
        self._try(self.start, self.evaluator.all_users)
        item_based = self._part(0.0, ITEM_LEARNING, ITEM_SCORING, KNOWN_ITEM_BASED, began + 0.2 * self.seconds)
        user_based = self._part(1.0, USER_LEARNING, USER_SCORING, KNOWN_USER_BASED, began + 0.45 * self.seconds)
        deadline = began + self.seconds
        self._pair(item_based, user_based, deadline)
        screened = [trial for trial in self.trials if trial.users == len(self.evaluator.few_users.users)]
        for place, trial in enumerate(sorted(screened, key=lambda trial: -trial.objective)[:PROMOTED]):
            if place == 0 or time.monotonic() < deadline:
                self._try(trial.params, self.evaluator.all_users)
        best = self.best()
        while best is not None and time.monotonic() < deadline:
            self._climb(best, deadline)
            best = self._jump(deadline)
        return self.best()

    def best(self) -> Trial | None:
        """Return the best trial so far that is cheap enough."""
        return best_of([trial for trial in self.trials if trial.rows <= self.most_rows])

    def frontier(self) -> list[Trial]:
        """Return the trials on all users than which none is both cheaper and better in ndcg, the cheapest first."""
        found: list[Trial] = []
        most = max((trial.users for trial in self.trials), default=0)
        for trial in sorted(self.trials, key=lambda trial: (trial.rows, -trial.ndcg)):
            if trial.users == most and (not found or trial.ndcg > found[-1].ndcg):
                found.append(trial)
        return found

    def _plain(self, params: Params) -> Params:
        """Set hyper-parameters that have no effect on this data to their plainest values, and bound the dimension."""
        params = replace(params, dimension=min(params.dimension, self.width))
        if not self.evaluator.timed:
            params = replace(params, people_recency=0.0, profile_recency=0.0, session_weight=0.0)
        if not self.evaluator.returns:
            params = replace(params, self_weight=0.0)
        return params

    def _space(self, space: Space) -> dict[str, Sequence[Any]]:
        """Return the part of a search space that makes a difference on this data."""
        left = {name: list(values) for name, values in space.items()}
        if not self.evaluator.timed:
            for name in ("people_recency", "profile_recency", "session_weight", "session_gap"):
                left.pop(name, None)
        if not self.evaluator.returns:
            left.pop("self_weight", None)
        if not self.evaluator.weighted:
            for name in [name for name in left if name.endswith("weight_exponent")]:
                left.pop(name)
        if "dimension" in left:
            left["dimension"] = sorted({min(value, self.width) for value in left["dimension"]})
        if "profile_limit" in left:
            values = left["profile_limit"]
            longest = self.evaluator.longest
            left["profile_limit"] = [value for value in values if value / 2 < longest]
        if "learner" in left and self.evaluator.known.shape[1] > EASE_ITEMS // 2:
            left["learner"] = ["cooccurrence"]
        return {name: values for name, values in left.items() if len(values) > 1}

    def _try(self, params: Params, validation: ValidationUsers) -> Trial:
        key = params, len(validation.users)
        if key not in self._seen:
            trial = self._seen[key] = self.evaluator.try_out(params, validation)
            self.trials.append(trial)
            self.report(trial, self.best() or trial)
        return self._seen[key]

    def _screen(self, params: Params) -> Trial | None:
        """Try a setting on few users; None if it costs too much."""
        rows, guess = self.evaluator.rows(params, self.evaluator.few_users), self.evaluator.guess_rows(params)
        self._underrated = (self._underrated + rows / max(guess, 1)) / 2
        return self._try(params, self.evaluator.few_users) if rows <= self.most_rows else None

    def _challenge(self, best: Trial, params: Params, deadline: float) -> Trial:
        """Try a setting on all users, unless it costs too much or is worse on few users; return the better trial."""
        trial = self._screen(params)
        if trial is None:
            return best
        if self.evaluator.few_users is not self.evaluator.all_users:
            gains = trial.gains - self._try(best.params, self.evaluator.few_users).gains
            if time.monotonic() >= deadline or gains.mean() + gains.std() / len(gains) ** 0.5 < 0:
                return best
            trial = self._try(params, self.evaluator.all_users)
        return max(best, trial, key=lambda trial: trial.objective)

    def _part(
        self, blend: float, learning: Space, scoring: Space, known: Sequence[Mapping[str, Any]], deadline: float
    ) -> list[Trial]:
        """Draw settings of one part of the ranking at random, several to score with for each to learn with.

        Returns the trials, the best first.
        """
        learning = {name: values for name, values in self._space(learning).items() if name != SLOW}
        scoring = self._space({**scoring, "profile_limit": BLENDING["profile_limit"]})
        start = replace(self.start, blend=blend)
        found = [self._screen(self._cheaper(start))]
        for changes in known:
            if changes.get("learner", start.learner) in learning.get("learner", [start.learner]):
                found.append(self._screen(self._cheaper(self._plain(replace(start, **changes)))))
        while time.monotonic() < deadline:
            centre = max(filter(None, found), key=lambda trial: trial.objective).params if any(found) else start
            names = list(learning)
            # Half of the draws change two hyper-parameters of the best setting so far, the others change all.
            if self.generator.random() < 0.5 and names:
                names = list(self.generator.choice(names, size=min(2, len(names)), replace=False))
            params = self._draw(centre, {name: learning[name] for name in names})
            found.append(self._screen(params))
            for _ in range(DRAWS):
                if time.monotonic() < deadline:
                    found.append(self._screen(self._draw(params, scoring)))
        return sorted(filter(None, found), key=lambda trial: -trial.objective)

    def _draw(self, params: Params, space: Space) -> Params:
        """Draw the values of some hyper-parameters at random."""
        drawn = {name: values[int(self.generator.integers(len(values)))] for name, values in space.items()}
        return self._cheaper(replace(params, **drawn))

    def _cheaper(self, params: Params) -> Params:
        """Take fewer score sources, and fewer items of each, until the cost is probably low enough."""
        while self.evaluator.guess_rows(params) * self._underrated > self.most_rows:
            lower: dict[str, Any] = {name: max(1, int(getattr(params, name) * 0.8)) for name in COSTLY}
            if replace(params, **lower) == params:
                break
            params = replace(params, **lower)
        return params

    def _pair(self, item_based: Sequence[Trial], user_based: Sequence[Trial], deadline: float) -> None:
        """Blend the best settings of both parts, with the profile limit of either."""
        pairs = sorted(product(range(len(item_based)), range(len(user_based))), key=sum)
        trials = [(item_based[i], user_based[j]) for i, j in pairs]
        cheap = [(one, other) for one, other in trials if one.rows + other.rows <= self.most_rows]
        blends = list(self._space(BLENDING)["blend"][1:-1:2])
        for one, other in cheap[:PAIRS]:
            of_users = {name: getattr(other.params, name) for name in (*USER_LEARNING, *USER_SCORING)}
            both = replace(one.params, **of_users)
            for limit in {one.params.profile_limit, other.params.profile_limit}:
                drawn = [replace(both, blend=blend, profile_limit=limit) for blend in blends]
                found = [trial for params in drawn if time.monotonic() < deadline and (trial := self._screen(params))]
            # The other pairs are blended as was best for the first pair.
            if len(blends) > 1 and found:
                blends = [max(found, key=lambda trial: trial.objective).params.blend]

    def _climb(self, best: Trial, deadline: float) -> None:
        """Take coordinate steps from a trial, the quick ones first, while they help and there is time."""
        better = True
        while better:
            before = best
            quick = {name: values for name, values in ITEM_LEARNING.items() if name != SLOW}
            scoring = {**ITEM_SCORING, **USER_SCORING}
            for part in (BLENDING, scoring, quick, USER_LEARNING, {SLOW: ITEM_LEARNING[SLOW]}):
                space = self._space(part)
                for name in self.generator.permutation(list(space)):
                    if matters(best.params, name):
                        for value in around(space[name], getattr(best.params, name)):
                            if time.monotonic() >= deadline:
                                return
                            best = self._challenge(best, replace(best.params, **{name: value}), deadline)
            better = best.objective > before.objective * 1.0005

    def _jump(self, deadline: float) -> Trial | None:
        """Change JUMP hyper-parameters of the best trial at random; return the trial to climb from."""
        best = self.best()
        space: dict[str, Sequence[Any]] = {}
        for part in (BLENDING, ITEM_SCORING, USER_SCORING, ITEM_LEARNING, USER_LEARNING):
            space |= {name: values for name, values in self._space(part).items() if name != SLOW}
        while best is not None and space and time.monotonic() < deadline:
            names = [name for name in space if matters(best.params, name)]
            chosen = self.generator.choice(names, size=min(JUMP, len(names)), replace=False)
            trial = self._screen(self._draw(best.params, {name: space[name] for name in chosen}))
            if trial is not None and time.monotonic() < deadline:
                return self._try(trial.params, self.evaluator.all_users)
        return None


def matters(params: Params, name: str) -> bool:
    """Tell whether a hyper-parameter has an effect, given the others."""
    if name in USER_LEARNING or name in USER_SCORING:
        return params.blend > 0
    if name in ITEM_LEARNING or name in ITEM_SCORING:
        learner = {"ease_regularization": "ease", "ease_dropout": "ease"} | dict.fromkeys(COOCCURRENCE, "cooccurrence")
        if name in FILTER and not (
            params.learner == "cooccurrence"
            and params.spectral_weight > 0
            and (name != "spectral_power" or params.spectral_filter == "chebyshev")
        ):
            return False
        fits = learner.get(name, params.learner) == params.learner
        return params.blend < 1 and fits and (name != "session_gap" or params.session_weight > 0)
    return True


def around(values: Sequence[Any], current: Any) -> list[Any]:
    """Return the values next to the current one; for names, which have no order, all other values."""
    if isinstance(current, str):
        return [value for value in values if value != current]
    below = [value for value in values if value < current]
    above = [value for value in values if value > current]
    return below[-1:] + above[:1]
