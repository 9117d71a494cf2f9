"""Searches hyper-parameters on a validation part, with the offline evaluator.

The search begins with settings that won on other data, and pairs their item-based and user-based parts. For each
form it improves the best pair by coordinate steps, then the best of all, and then random changes of that (iterated
local search), until nothing is left to find or the time is up. It ranks for few of the validation users first, and for
all of them only where the few do not rule a setting out.

The order of the trials depends on the data and the seed. The time only says where they end: a longer search begins with
the trials of a shorter one.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from recdb.learn.params import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.learned import filtered
from recdb.offline.space import (
    BLENDING,
    FORMS,
    ITEM_LEARNING,
    ITEM_SCORING,
    OF_ITEMS,
    OF_USERS,
    USER_LEARNING,
    USER_SCORING,
    around,
    form,
    matters,
    trimmed,
)
from recdb.offline.starts import starts
from recdb.offline.trials import COSTLY, SLACK, OutOfTime, Trials, ruled_out
from recdb.offline.validation import Trial

ALL = frozenset((*BLENDING, *OF_ITEMS, *OF_USERS)) - set(FORMS)
"""Hyper-parameters that steps change."""
SCORING = ALL - (set(ITEM_LEARNING) - {"item_neighbors"})
"""Those that take no time to learn items."""
FILTERING = frozenset(
    ("item_weight_exponent", "item_user_exponent", "source_exponent", "target_exponent", "spectral_weight",
     "spectral_power")
)  # fmt: skip
"""Those that a filter is improved by alone."""
FILTERS = 2
"""How many spectral filters are improved."""
PARTS = 4
"""How many item-based and how many user-based parts are taken to pair."""
PAIRS = 6
"""How many pairs of them are blended, those of the best parts first."""
BLENDS = (0.2, 0.4, 0.6, 0.8)
FAMILIES = 0.05
"""A form of learning is followed if its best setting is at most this much worse than the best of all, as a share."""
JUMP = 3
"""The number of hyper-parameters to change at once if no single change helps."""
JUMPS = 6
"""How many such changes are drawn before steps are taken from the best of them."""
STALE = 30
"""The search ends after so many rounds of jumps without an improvement."""
CLEARLY = 1.0005
"""How many times better a setting must be to count as an improvement."""
NEARLY = 0.995
"""How many times as good a setting must be after jumps so that steps are taken from it on all users."""
ROUGHLY = 1.003
"""How many times better a round of steps on few users must make a setting so that another round follows."""
PROMOTED = 3
"""The best settings of so many forms, as few users show them, are tried on all users before the steps begin."""
FOLLOWED = 2
"""And so many of these forms, as all users show them, are improved on few users."""
POLISHING = 0.1
"""The share of the time that is kept for making the best setting cheaper."""
CHECKING = 0.1
"""The share that is kept for comparing the best setting with those that won on other data."""
CHECKED = 3
"""At most so many of the latter are compared with it."""
HOPELESS = 0.05
"""Those that are worse than it by more than this on few users, as a share, are not."""

Challenge = Callable[[Trial, Params, str], Trial]
"""From the best trial, another setting, and the name of the hyper-parameter that must stay as it is, to the better."""


class Search(Trials):
    """A search for the best setting within a time.

    It always tries the start, whatever it costs, and ends with the start's trial on all users, `before`. `second` makes
    an evaluator of a second validation part, to compare the last settings on; None if there is none.
    """

    before: Trial
    second: Callable[[], OfflineEvaluator] | None = None

    def run(self) -> Trial | None:
        """Search until the time is up or nothing is left to find, and return the chosen trial."""
        self._began = self.clock()
        self.before = self._try(self.start, self.evaluator.few_users)
        whole = 1 - CHECKING
        looking = whole if np.isinf(self.most_rows) else whole - POLISHING
        for phase, share in ((self._look, looking), (self._polish, whole)):
            self._deadline = self._began + share * self.seconds
            with suppress(OutOfTime):
                phase()
            # Whatever time it takes: a setting is chosen, and compared with the start, on all users.
            self._deadline = np.inf
            self._confirm()
        self.before = self._try(self.start, self.evaluator.all_users)
        self._check()
        return self.chosen()

    def _look(self) -> None:
        # What is learned fast comes first, so that a short search has found something.
        begins = [self._plain(params) for params in (self.start, *starts(self.evaluator))]
        quick = [trial for params in begins if not filtered(params) and (trial := self._few(params))]
        self.proven = {trial.params for trial in quick}
        self._promote()
        nearest = begins[1]
        if filtered(nearest) and nearest.spectral_rank <= self.evaluator.shared_rank and (tried := self._few(nearest)):
            # It won on the most similar data. With many items it takes too long to come before what is learned fast.
            self.proven.add(tried.params)
            self._promote()
        items = self._alone(quick, 0.0, OF_ITEMS)
        users = self._alone(quick, 1.0, OF_USERS)
        self._pair(items, users)
        self._promote()
        self._improve()
        self._filter(begins, items, users)
        self._promote()
        self._follow()
        self._promote()
        stale = 0
        best = self.best()
        while best is not None and stale < STALE:
            before = best
            self._climb(best, self._challenge)
            self._jump()
            best = self.best()
            assert best is not None
            stale = 0 if best.objective > before.objective * CLEARLY else stale + 1
        self.finished = True

    def _pair(self, items: Sequence[Params], users: Sequence[Params]) -> None:
        """Blend item-based and user-based parts, with the profile limit of either."""
        for i, j in sorted(product(range(len(items)), range(len(users))), key=sum)[:PAIRS]:
            of_users = {name: getattr(users[j], name) for name in OF_USERS}
            for limit in {items[i].profile_limit, users[j].profile_limit}:
                for blend in BLENDS:
                    self._few(replace(items[i], **of_users, profile_limit=limit, blend=blend))

    def _alone(self, tried: Sequence[Trial], blend: float, names: Sequence[str]) -> list[Params]:
        """Rank by one part of some settings; return the PARTS best settings that differ in that part.

        The best setting of each form is improved by coordinate steps first.
        """
        found = [trial for before in tried if (trial := self._few(replace(before.params, blend=blend)))]
        leading = self._families(found)
        found += [self._climb(trial, self._challenge_few, ALL - {"blend"}, ROUGHLY) for trial in leading]
        # The improved settings come first: there are few forms.
        firsts = sorted(found[-len(leading) :], key=lambda trial: -trial.objective) if leading else []
        different: dict[tuple[Any, ...], Params] = {}
        for trial in (*firsts, *sorted(found, key=lambda trial: -trial.objective)):
            different.setdefault(tuple(getattr(trial.params, name) for name in names), trial.params)
        return list(different.values())[:PARTS]

    def _improve(self) -> None:
        """Take a round of coordinate steps on all users from a setting that won on other data, where it is still the
        best: the steps on few users led away from it."""
        best = self.best()
        if best is not None and best.params in self.proven:
            self._sweep(best, self._challenge, quick_steps(best.params))

    def _follow(self) -> None:
        """Improve the best settings of the leading forms on few users, as long as steps help."""
        for trial in self._leading()[:FOLLOWED]:
            few = self._try(trial.params, self.evaluator.few_users)
            self._climb(few, self._challenge_few, quick_steps(trial.params), ROUGHLY)

    def _filter(self, begins: Sequence[Params], items: Sequence[Params], users: Sequence[Params]) -> None:
        """Improve spectral filters alone, as far as the fewest users show, and blend those that may be as good as the
        best item-based part so far."""
        fewest, rank = self.evaluator.fewest_users, self.evaluator.shared_rank
        filters = [replace(p, spectral_rank=min(p.spectral_rank, rank)) for p in begins if filtered(p)]
        found = [trial for params in filters if (trial := self._few(replace(params, blend=0.0), "", fewest))]
        others = [trial for params in items if (trial := self._few(params, "", fewest))]
        leading = [trial for trial in self._families([*found, *others]) if filtered(trial.params)][:FILTERS]
        self._pair([self._sweep(trial, self._challenge_fewest, FILTERING).params for trial in leading], users)

    def _promote(self) -> None:
        """Try the best setting of each leading form, as few users show it, on all users."""
        for trial in self._families(self._best_few())[:PROMOTED]:
            self._try(trial.params, self.evaluator.all_users)

    def _confirm(self) -> None:
        """Try the setting that did best on few users on all users, if it may be better than the best."""
        best = self.best()
        for trial in self._best_few()[:1]:
            if best is None or not ruled_out(trial, self._try(best.params, self.evaluator.few_users)):
                self._try(trial.params, self.evaluator.all_users)

    def _check(self) -> None:
        """Try the settings that won on other data, and may be about as good as the best one, on all users; then try
        both on the second validation part, whose users the search did not see."""
        best = self.best()
        if best is None:
            return
        least = self._try(best.params, self.evaluator.few_users).objective * (1 - HOPELESS)
        hopeful = [trial for trial in self._best_few() if trial.params in self.proven and trial.objective >= least]
        proven = [self._try(trial.params, self.evaluator.all_users) for trial in hopeful[:CHECKED]]
        best = self.best() or best
        if self.second is not None and any(trial.params != best.params for trial in proven):
            part = self.second()
            self.checked = {params: part.try_out(params) for params in {t.params: t for t in (best, *proven)}}

    def _leading(self) -> list[Trial]:
        """Return the best trial of each form on all users."""
        most = max(trial.users for trial in self.trials)
        return self._families([t for t in self.trials if t.users == most and t.rows <= self.most_rows])

    def _families(self, found: Sequence[Trial]) -> list[Trial]:
        """Return the best trial of each form of learning that is worth following, the best first."""
        best: dict[str, Trial] = {}
        for trial in sorted(found, key=lambda trial: -trial.objective):
            best.setdefault(form(trial.params) if trial.params.blend < 1 else "", trial)
        enough = max((trial.objective for trial in best.values()), default=0.0) * (1 - FAMILIES)
        return [trial for trial in best.values() if trial.objective >= enough]

    def _climb(self, best: Trial, challenge: Challenge, names: Collection[str] = ALL, enough: float = CLEARLY) -> Trial:
        """Take coordinate steps from a trial while a round of them makes it `enough` times better; return the best."""
        better = True
        while better:
            before = best
            best = self._sweep(best, challenge, names)
            better = best.objective > before.objective * enough
        return best

    def _sweep(self, best: Trial, challenge: Challenge, names: Collection[str] = ALL) -> Trial:
        """Take coordinate steps from a trial once, the quick ones first; return the best trial."""
        learning = {name: values for name, values in ITEM_LEARNING.items() if name != "item_neighbors"}
        number = {"item_neighbors": ITEM_LEARNING["item_neighbors"]}
        for part in ({**BLENDING, **number}, {**ITEM_SCORING, **USER_SCORING}, USER_LEARNING, learning):
            space = trimmed(part, self.evaluator, self.width)
            for name in self.generator.permutation(list(space)):
                if (
                    name in names
                    and matters(best.params, name)
                    and (name != "spectral_weight" or filtered(best.params))
                ):
                    best = self._along(best, str(name), space[name], challenge)
        return best

    def _along(self, best: Trial, name: str, values: Sequence[Any], challenge: Challenge) -> Trial:
        """Take steps in one hyper-parameter, on in the direction that helps."""
        for value in around(values, getattr(best.params, name)):
            began, upwards = best, value > getattr(best.params, name)
            following = [value, *(v for v in sorted(values, reverse=not upwards) if (v > value) == upwards != value)]
            for step in following:
                before = best
                best = challenge(best, replace(best.params, **{name: step}), name)
                if best is before:
                    break
            if best is not began:
                break
        return best

    def _jump(self) -> None:
        """Change JUMP hyper-parameters of the best trial at random, several times, and take steps from the best of
        these on few users, then on all users if it is nearly as good as the best trial."""
        best = self.best()
        assert best is not None
        space: dict[str, Sequence[Any]] = {}
        for part in (BLENDING, ITEM_SCORING, USER_SCORING, ITEM_LEARNING, USER_LEARNING):
            space |= trimmed(part, self.evaluator, self.width)
        names = [name for name in space if name in ALL and matters(best.params, name)]
        found: list[Trial] = []
        for _ in range(JUMPS if names else 0):
            chosen = self.generator.choice(names, size=min(JUMP, len(names)), replace=False)
            drawn = {name: space[name][int(self.generator.integers(len(space[name])))] for name in chosen}
            trial = self._few(replace(best.params, **drawn))
            found += [trial] if trial is not None and trial.params != best.params else []
        if found:
            landed = self._sweep(max(found, key=lambda trial: trial.objective), self._challenge_few)
            if ruled_out(landed, self._try(best.params, self.evaluator.few_users)):
                return
            landed = self._try(landed.params, self.evaluator.all_users)
            if best.objective > landed.objective > best.objective * NEARLY and landed.rows <= self.most_rows:
                self._sweep(landed, self._challenge)

    def _polish(self) -> None:
        """Where the cost is bounded: look for settings that are cheaper and about as good, and beyond the bound."""
        best, until = self.best(), self._deadline
        if best is None or np.isinf(self.most_rows):
            return
        cheapest = self.chosen()
        # Whatever time it takes: a caller may find that the chosen setting is too slow, and needs a much cheaper one.
        self._deadline = np.inf
        while self._lowered(best, COSTLY, 0.5, most=0.5) is self.best() is not best:
            best = self.best() or best
        while cheapest is not None and self.beyond:
            found = [self._lowered(cheapest, [name], 0.7) for name in COSTLY if matters(cheapest.params, name)]
            enough = best.objective * (1 - SLACK)
            good = [trial for trial in found if trial.objective >= enough and trial.rows < cheapest.rows]
            cheapest = min(good, key=lambda trial: trial.rows, default=None)
            self._deadline = until
        if self.beyond:
            self._raise(best)

    def _lowered(self, trial: Trial, names: Sequence[str], factor: float, most: float = 0.95) -> Trial:
        """Try lower values of hyper-parameters that cost time: so low that a call costs at most this share."""
        params = trial.params
        while self.evaluator.rows(params, self.evaluator.all_users) > trial.rows * most:
            lower: dict[str, Any] = {name: max(1, int(getattr(params, name) * factor)) for name in names}
            if replace(params, **lower) == params:
                break
            params = replace(params, **lower)
        return self._try(params, self.evaluator.all_users)

    def _raise(self, best: Trial) -> None:
        """Try more score sources, beyond the bound."""
        space = trimmed({**BLENDING, **USER_SCORING, **ITEM_LEARNING}, self.evaluator, self.width)
        while True:
            raised: dict[str, Any] = {}
            for name in COSTLY:
                above = [value for value in space.get(name, ()) if value > getattr(best.params, name)]
                raised |= {name: above[0]} if above and matters(best.params, name) else {}
            changes = [raised, *({name: value} for name, value in raised.items())]
            found = [self._try(replace(best.params, **each), self.evaluator.all_users) for each in changes if each]
            better = max(found, key=lambda trial: trial.objective, default=best)
            if better.objective <= best.objective * CLEARLY:
                return
            best = better


def quick_steps(params: Params) -> frozenset[str]:
    """Return the hyper-parameters that the first steps from a setting change: filters take long to learn."""
    return SCORING if filtered(params) else ALL
