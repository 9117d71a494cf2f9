"""Choosing hyper-parameters on a validation part, offline, by the formulas that SQL serves.

Both halves of the ranking are searched apart, then together: random draws around what is known to work, the best
of each half paired, and coordinate steps on the whole, from the best and then from places around it, until the time is
up (iterated local search). Where a trial takes long, few of the users are asked first, and all of them only where the
few do not rule a setting out.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from recdb.learn.item_neighbors import EASE_ITEMS
from recdb.learn.params import Params
from recdb.offline.bench import Audience, Bench, Trial, best_of

Space = Mapping[str, Sequence[Any]]

ITEMS: Space = {
    "learner": ("cooccurrence", "ease"),
    "item_weight_exponent": (0.0, 0.5, 1.0),
    "item_user_exponent": (0.0, 0.125, 0.25, 0.375, 0.5),
    "source_exponent": (0.0, 0.15, 0.3, 0.5, 0.7),
    "target_exponent": (0.0, 0.15, 0.3, 0.5, 0.6, 0.7, 0.8),
    "cooccurrence_power": (0.6, 0.8, 1.0, 1.3, 1.6),
    "spectral_weight": (0.0, 0.03, 0.1, 0.3),
    "ease_regularization": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
    "item_neighbors": (12, 25, 50, 100, 200, 400),
    "session_weight": (0.0, 10.0, 50.0),
    "session_gap": (60.0, 180.0, 420.0, 1800.0),
}
ASKING: Space = {
    "profile_weight_exponent": (0.0, 0.5, 1.0),
    "profile_recency": (0.0, 0.3, 0.6, 0.9, 1.2),
    "self_weight": (0.0, 1.0, 2.0, 4.0, 8.0, 16.0),
}
PEOPLE: Space = {
    "people_weight_exponent": (0.0, 0.5, 1.0),
    "basis_user_exponent": (0.0, 0.25, 0.5),
    "basis_item_exponent": (0.0, 0.15, 0.25, 0.4, 0.5),
}
HEARING: Space = {
    "spectrum_exponent": (0.0, 0.25, 0.5),
    "dimension": (64, 128, 256, 512, 1024),
    "people_recency": (0.0, 0.3, 0.6, 0.9),
    "neighbors": (12, 25, 50, 100, 200, 400),
    "similarity_exponent": (0.5, 1.0, 2.0, 4.0, 6.0),
    "activity_exponent": (0.0, 0.25, 0.5),
    "neighbor_weight_exponent": (0.0, 0.5, 1.0),
}
TOGETHER: Space = {"blend": tuple(step / 10 for step in range(11)), "profile_limit": (10, 20, 40, 80, 160, 320)}

SLOW = "spectral_weight"
"""What takes so long to learn that it is not drawn: only the last steps try it."""
COSTLY = ("neighbors", "item_neighbors", "profile_limit")
COOCCURRENCE = ("source_exponent", "cooccurrence_power", "spectral_weight")

# What did well elsewhere; each half's draws begin with them.
KNOWN_ITEMS: Sequence[Mapping[str, Any]] = (
    {"item_user_exponent": 0.5, "source_exponent": 0.5, "target_exponent": 0.5},
    {"learner": "ease", "item_user_exponent": 0.0, "target_exponent": 0.0, "ease_regularization": 0.4},
)
KNOWN_PEOPLE: Sequence[Mapping[str, Any]] = (
    {"basis_user_exponent": 0.25, "basis_item_exponent": 0.25, "dimension": 256, "neighbors": 200},
    {"people_weight_exponent": 0.0, "basis_user_exponent": 0.5, "basis_item_exponent": 0.0, "dimension": 256},
)

DRAWS = 4
"""How many ways of asking are drawn for each setting that is learned."""
PAIRS = 9
"""How many pairs of halves are blended."""
JUMP = 3
"""How many things are changed where no single change helps."""
PROMOTED = 6
"""How many of the settings that did best on few users are tried on all, before the steps begin."""


class Search:
    """A search for the best setting within a time; `trials` holds all that were tried, in order.

    `width` bounds the dimension, `most_rows` what recommend() may cost: see Trial.rows. The start is always tried,
    whatever it costs; best() is None while nothing else is cheap enough.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        seconds: float,
        width: int,
        most_rows: float = np.inf,
        start: Params | None = None,
        seed: int = 0,
        report: Callable[[Trial, Trial], None] = lambda trial, best: None,
    ) -> None:
        self.bench, self.seconds, self.width, self.report = bench, seconds, width, report
        self.most_rows = most_rows
        self.generator = np.random.default_rng(seed)
        self.start = self._plain(start or Params())
        self.trials: list[Trial] = []
        self._seen: dict[tuple[Params, int], Trial] = {}
        self._underrated = 1.0
        """How many times more rows than guessed there turn out to be."""

    def run(self) -> Trial | None:
        """Search until the time is up and return the best trial, None where none is cheap enough."""
        began = time.monotonic()
        self._try(self.start, self.bench.whole)
        items = self._half(0.0, ITEMS, ASKING, KNOWN_ITEMS, began + 0.2 * self.seconds)
        people = self._half(1.0, PEOPLE, HEARING, KNOWN_PEOPLE, began + 0.45 * self.seconds)
        deadline = began + self.seconds
        self._pair(items, people, deadline)
        screened = [trial for trial in self.trials if trial.users == len(self.bench.few.users)]
        for place, trial in enumerate(sorted(screened, key=lambda trial: -trial.objective)[:PROMOTED]):
            if place == 0 or time.monotonic() < deadline:
                self._try(trial.params, self.bench.whole)
        best = self.best()
        while best is not None and time.monotonic() < deadline:
            self._climb(best, deadline)
            best = self._elsewhere(deadline)
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
        """Set what makes no difference on this data to its plainest value, and what is too wide to the width."""
        params = replace(params, dimension=min(params.dimension, self.width))
        if not self.bench.timed:
            params = replace(params, people_recency=0.0, profile_recency=0.0, session_weight=0.0)
        if not self.bench.returns:
            params = replace(params, self_weight=0.0)
        return params

    def _space(self, space: Space) -> dict[str, Sequence[Any]]:
        """Return the part of a search space that makes a difference on this data."""
        left = {name: list(values) for name, values in space.items()}
        if not self.bench.timed:
            for name in ("people_recency", "profile_recency", "session_weight", "session_gap"):
                left.pop(name, None)
        if not self.bench.returns:
            left.pop("self_weight", None)
        if not self.bench.weighted:
            for name in [name for name in left if name.endswith("weight_exponent")]:
                left.pop(name)
        if "dimension" in left:
            left["dimension"] = sorted({min(value, self.width) for value in left["dimension"]})
        if "profile_limit" in left:
            values = left["profile_limit"]
            longest = self.bench.longest
            left["profile_limit"] = [value for value in values if value / 2 < longest]
        if "learner" in left and self.bench.known.shape[1] > EASE_ITEMS // 2:
            left["learner"] = ["cooccurrence"]
        return {name: values for name, values in left.items() if len(values) > 1}

    def _try(self, params: Params, audience: Audience) -> Trial:
        key = params, len(audience.users)
        if key not in self._seen:
            trial = self._seen[key] = self.bench.try_out(params, audience)
            self.trials.append(trial)
            self.report(trial, self.best() or trial)
        return self._seen[key]

    def _screen(self, params: Params) -> Trial | None:
        """Try a setting on few users; None where it costs too much."""
        rows, guess = self.bench.rows(params, self.bench.few), self.bench.guess_rows(params)
        self._underrated = (self._underrated + rows / max(guess, 1)) / 2
        return self._try(params, self.bench.few) if rows <= self.most_rows else None

    def _challenge(self, best: Trial, params: Params, deadline: float) -> Trial:
        """Try a setting on all users unless it costs too much, or the few say that it is worse; return the better."""
        trial = self._screen(params)
        if trial is None:
            return best
        if self.bench.few is not self.bench.whole:
            gains = trial.gains - self._try(best.params, self.bench.few).gains
            if time.monotonic() >= deadline or gains.mean() + gains.std() / len(gains) ** 0.5 < 0:
                return best
            trial = self._try(params, self.bench.whole)
        return max(best, trial, key=lambda trial: trial.objective)

    def _half(
        self, share: float, learning: Space, asking: Space, known: Sequence[Mapping[str, Any]], deadline: float
    ) -> list[Trial]:
        """Draw settings of one half at random, several ways of asking for each that is learned; the best first."""
        learning = {name: values for name, values in self._space(learning).items() if name != SLOW}
        asking = self._space({**asking, "profile_limit": TOGETHER["profile_limit"]})
        start = replace(self.start, blend=share)
        found = [self._screen(self._cheaper(start))]
        for changes in known:
            if changes.get("learner", start.learner) in learning.get("learner", [start.learner]):
                found.append(self._screen(self._cheaper(self._plain(replace(start, **changes)))))
        while time.monotonic() < deadline:
            centre = max(filter(None, found), key=lambda trial: trial.objective).params if any(found) else start
            names = list(learning)
            # Half of the draws change a few things about the best so far, the others everything.
            if self.generator.random() < 0.5 and names:
                names = list(self.generator.choice(names, size=min(2, len(names)), replace=False))
            params = self._draw(centre, {name: learning[name] for name in names})
            found.append(self._screen(params))
            for _ in range(DRAWS):
                if time.monotonic() < deadline:
                    found.append(self._screen(self._draw(params, asking)))
        return sorted(filter(None, found), key=lambda trial: -trial.objective)

    def _draw(self, params: Params, space: Space) -> Params:
        """Change some parameters at random."""
        drawn = {name: values[int(self.generator.integers(len(values)))] for name, values in space.items()}
        return self._cheaper(replace(params, **drawn))

    def _cheaper(self, params: Params) -> Params:
        """Ask fewer sources, and for fewer items, until the cost is probably low enough."""
        while self.bench.guess_rows(params) * self._underrated > self.most_rows:
            lower: dict[str, Any] = {name: max(1, int(getattr(params, name) * 0.8)) for name in COSTLY}
            if replace(params, **lower) == params:
                break
            params = replace(params, **lower)
        return params

    def _pair(self, items: Sequence[Trial], people: Sequence[Trial], deadline: float) -> None:
        """Blend the best of both halves, with the profile limit of either."""
        pairs = sorted(product(range(len(items)), range(len(people))), key=sum)
        cheap = [(items[i], people[j]) for i, j in pairs if items[i].rows + people[j].rows <= self.most_rows]
        shares = list(self._space(TOGETHER)["blend"][1:-1:2])
        for one, other in cheap[:PAIRS]:
            both = replace(one.params, **{name: getattr(other.params, name) for name in (*PEOPLE, *HEARING)})
            for limit in {one.params.profile_limit, other.params.profile_limit}:
                drawn = [replace(both, blend=share, profile_limit=limit) for share in shares]
                found = [trial for params in drawn if time.monotonic() < deadline and (trial := self._screen(params))]
            # The first pair tells which share of the other pairs is worth a try.
            if len(shares) > 1 and found:
                shares = [max(found, key=lambda trial: trial.objective).params.blend]

    def _climb(self, best: Trial, deadline: float) -> None:
        """Take coordinate steps from a trial, the quick ones first, while they help and there is time."""
        better = True
        while better:
            before = best
            quick = {name: values for name, values in ITEMS.items() if name != SLOW}
            for part in (TOGETHER, {**ASKING, **HEARING}, quick, PEOPLE, {SLOW: ITEMS[SLOW]}):
                space = self._space(part)
                for name in self.generator.permutation(list(space)):
                    if matters(best.params, name):
                        for value in around(space[name], getattr(best.params, name)):
                            if time.monotonic() >= deadline:
                                return
                            best = self._challenge(best, replace(best.params, **{name: value}), deadline)
            better = best.objective > before.objective * 1.0005

    def _elsewhere(self, deadline: float) -> Trial | None:
        """Change a few things about the best trial at random, and return a trial of that to climb from."""
        best = self.best()
        space: dict[str, Sequence[Any]] = {}
        for part in (TOGETHER, ASKING, HEARING, ITEMS, PEOPLE):
            space |= {name: values for name, values in self._space(part).items() if name != SLOW}
        while best is not None and space and time.monotonic() < deadline:
            names = [name for name in space if matters(best.params, name)]
            chosen = self.generator.choice(names, size=min(JUMP, len(names)), replace=False)
            trial = self._screen(self._draw(best.params, {name: space[name] for name in chosen}))
            if trial is not None and time.monotonic() < deadline:
                return self._try(trial.params, self.bench.whole)
        return None


def matters(params: Params, name: str) -> bool:
    """Say whether a parameter has an effect, given the others."""
    if name in PEOPLE or name in HEARING:
        return params.blend > 0
    if name in ITEMS or name in ASKING:
        learner = {"ease_regularization": "ease"} | dict.fromkeys(COOCCURRENCE, "cooccurrence")
        fits = learner.get(name, params.learner) == params.learner
        return params.blend < 1 and fits and (name != "session_gap" or params.session_weight > 0)
    return True


def around(values: Sequence[Any], current: Any) -> list[Any]:
    """Return the values next to the current one, all others for what is no number."""
    if isinstance(current, str):
        return [value for value in values if value != current]
    below = [value for value in values if value < current]
    above = [value for value in values if value > current]
    return below[-1:] + above[:1]
