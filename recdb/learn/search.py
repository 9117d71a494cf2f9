"""Choosing hyper-parameters on a validation part, offline, by the formulas that SQL serves.

Both halves of the ranking are searched apart, then together: random draws around what is known to work, the best
of each half paired, and coordinate steps on the whole until the time is up. What is expensive (a basis, item
neighbours, the halves' scores) is kept and shared by the trials that agree on it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from recdb.learn.basis import Basis, fit_basis, fold_in
from recdb.learn.events import Events, split
from recdb.learn.item_neighbors import EASE_ITEMS, fit_item_neighbors, to_matrix
from recdb.learn.matrix import Float32, Float64
from recdb.learn.params import Params
from recdb.learn.scoring import (
    Neighborhood,
    blend,
    item_shares,
    nearest_users,
    people_shares,
    profiles,
    ranks_of,
)

K = 20
VALIDATION_USERS = 2000
MOST_NEIGHBORS = 200
Value = TypeVar("Value")
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
    "item_neighbors": (50, 100, 200),
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
    "spectrum_exponent": (0.0, 0.25, 0.5),
    "dimension": (64, 128, 256),
}
HEARING: Space = {
    "people_recency": (0.0, 0.3, 0.6, 0.9),
    "neighbors": (25, 50, 100, 200),
    "similarity_exponent": (0.5, 1.0, 2.0, 4.0),
    "activity_exponent": (0.0, 0.25, 0.5),
    "neighbor_weight_exponent": (0.0, 0.5, 1.0),
}
TOGETHER: Space = {"blend": tuple(step / 10 for step in range(11))}


@dataclass(frozen=True)
class Trial:
    """One setting, and what it reached on the validation part."""

    params: Params
    recall: float
    """recall@20."""
    ndcg: float
    """ndcg@20."""

    @property
    def objective(self) -> float:
        """The geometric mean of both."""
        return float(np.sqrt(self.recall * self.ndcg))


class Cache:
    """The values computed last, by a key."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, compute: Callable[[], Value]) -> Value:
        """Return the value of `key`, computing it the first time."""
        if key not in self.values:
            self.values[key] = compute()
            if len(self.values) > self.size:
                self.values.popitem(last=False)
        self.values.move_to_end(key)
        value: Value = self.values[key]
        return value


class Bench:
    """A validation part, and how any setting does on it.

    `limit` is config.profile_limit; `seed` chooses the held-out part.
    """

    def __init__(self, events: Events, limit: int, *, most_users: int = VALIDATION_USERS, seed: int = 0) -> None:
        validation = split(events, most_users=most_users, seed=seed)
        self.known = validation.events.interactions()
        self.scored = self.known.newest(limit)
        self.users, self.rows = np.unique(validation.users, return_inverse=True)
        self.wanted = validation.items
        self.counts = np.bincount(self.rows, minlength=len(self.users))
        self.hidden = validation.events.hidden()[self.users]
        self.returns = not bool(events.hides[np.unique(events.kinds)].all())
        self.timed = events.timed
        self.weighted = bool(len(self.known.weights)) and bool(
            self.known.weights.min() < self.known.weights.max() * (1 - 1e-6)
        )
        self._places = self.scored.ranks()
        self._matrices, self._bases, self._near = Cache(8), Cache(3), Cache(3)
        self._neighbors, self._people, self._items = Cache(4), Cache(6), Cache(6)

    def fixed(self, params: Params) -> Params:
        """Set what makes no difference on this data to its plainest value, so that it is not searched."""
        if not self.timed:
            params = replace(params, people_recency=0.0, profile_recency=0.0, session_weight=0.0)
        if not self.returns:
            params = replace(params, self_weight=0.0)
        return params

    def space(self, space: Space, width: int) -> dict[str, Sequence[Any]]:
        """Return the part of a search space that makes a difference on this data; `width` bounds the dimension."""
        left = {name: list(values) for name, values in space.items()}
        if not self.timed:
            for name in ("people_recency", "profile_recency", "session_weight", "session_gap"):
                left.pop(name, None)
        if not self.returns:
            left.pop("self_weight", None)
        if not self.weighted:
            for name in [name for name in left if name.endswith("weight_exponent")]:
                left.pop(name)
        if "dimension" in left:
            left["dimension"] = sorted({min(value, width) for value in left["dimension"]})
        if "learner" in left and self.known.shape[1] > EASE_ITEMS // 2:
            left["learner"] = ["cooccurrence"]
        return {name: values for name, values in left.items() if len(values) > 1}

    def try_out(self, params: Params) -> Trial:
        """Rank with a setting and score it on the validation part."""
        recall, ndcg = self.user_metrics(params)
        return Trial(params, float(recall.mean()), float(ndcg.mean()))

    def user_metrics(self, params: Params) -> tuple[Float64, Float64]:
        """Rank with a setting and return each user's recall@20 and ndcg@20, (users,)."""
        empty = sparse.csr_array((len(self.users), self.known.shape[1]), dtype=np.float32)
        people = self.people(params) if params.blend > 0 else empty
        items = self.items(params) if params.blend < 1 else empty
        ranks = ranks_of(blend(people, items, params.blend), self.hidden, self.rows, self.wanted)
        hits = ranks <= K
        gains = np.where(hits, 1 / np.log2(np.where(hits, ranks, 1) + 1), 0)
        ideal = np.cumsum(1 / np.log2(np.arange(2, K + 2)))[np.minimum(self.counts, K) - 1]
        return np.bincount(self.rows, hits) / self.counts, np.bincount(self.rows, gains) / ideal

    def people(self, params: Params) -> sparse.csr_array:
        """Score by people like you, as shares."""

        def score() -> sparse.csr_array:
            liking = self._matrix(params.neighbor_weight_exponent)
            near = self._nearest(params)
            return people_shares(near, liking, params.neighbors, params.similarity_exponent, params.activity_exponent)

        return self._people.get(_key(params, PEOPLE, HEARING), score)

    def items(self, params: Params) -> sparse.csr_array:
        """Score by what you did, as shares."""

        def score() -> sparse.csr_array:
            weights = self._matrix(params.profile_weight_exponent)
            asked = profiles(weights, self._places, params.profile_recency)[self.users]
            learned, itself = self._learned(params)
            if params.self_weight > 0:
                learned = learned + sparse.diags_array(itself * np.float32(params.self_weight), format="csr")
            return item_shares(asked, sparse.csr_array(learned))

        return self._items.get(_key(params, ITEMS, ASKING), score)

    def basis(self, params: Params) -> Basis:
        """Learn the basis of a setting."""
        return self._bases.get(
            _key(params, PEOPLE),
            lambda: fit_basis(
                self.known.matrix(params.people_weight_exponent),
                dimension=params.dimension,
                user_exponent=params.basis_user_exponent,
                item_exponent=params.basis_item_exponent,
                spectrum_exponent=params.spectrum_exponent,
            ),
        )

    def _matrix(self, exponent: float) -> sparse.csr_array:
        return self._matrices.get(exponent, lambda: self.scored.matrix(exponent))

    def _nearest(self, params: Params) -> Neighborhood:
        def find() -> Neighborhood:
            weights = self._matrix(params.people_weight_exponent)
            vectors = self.basis(params).item_vectors
            stored, _ = fold_in(weights, vectors)
            queries, _ = fold_in(profiles(weights, self._places, params.people_recency)[self.users], vectors)
            return nearest_users(queries, stored, self.users, MOST_NEIGHBORS)

        return self._near.get((_key(params, PEOPLE), params.people_recency), find)

    def _learned(self, params: Params) -> tuple[sparse.csr_array, Float32]:
        """Learn item neighbours without a diagonal, and the diagonal apart: what self_weight multiplies."""

        def learn() -> tuple[sparse.csr_array, Float32]:
            weights = self.known.with_sessions(params.item_weight_exponent, params.session_weight, params.session_gap)
            right = self.basis(params).right if params.spectral_weight > 0 else np.empty((0, 0), dtype=np.float32)
            plain = replace(params, self_weight=1.0)
            learned = to_matrix(fit_item_neighbors(weights, right, plain), self.known.shape[1])
            itself = learned.diagonal().astype(np.float32)
            learned = sparse.csr_array(learned - sparse.diags_array(itself, format="csr"))
            learned.eliminate_zeros()
            return learned, itself

        basis = _key(params, PEOPLE) if params.spectral_weight > 0 else None
        return self._neighbors.get((_key(params, ITEMS), basis), learn)


def _key(params: Params, *spaces: Space) -> tuple[Any, ...]:
    """Return the values of the parameters in some spaces."""
    return tuple(getattr(params, name) for space in spaces for name in space)


class Search:
    """A search for the best setting within a time; `trials` holds all that were tried, in order."""

    def __init__(
        self,
        bench: Bench,
        *,
        seconds: float,
        width: int,
        start: Params | None = None,
        seed: int = 0,
        report: Callable[[Trial, Trial], None] = lambda trial, best: None,
    ) -> None:
        self.bench, self.seconds, self.width, self.report = bench, seconds, width, report
        self.generator = np.random.default_rng(seed)
        self.start = bench.fixed(replace(start or Params(), dimension=min((start or Params()).dimension, width)))
        self.trials: list[Trial] = []
        self._seen: dict[Params, Trial] = {}

    def run(self) -> Trial:
        """Search until the time is up and return the best trial."""
        began = time.monotonic()
        self._try(self.start)
        items = self._half(0.0, ITEMS, ASKING, began + 0.25 * self.seconds)
        people = self._half(1.0, PEOPLE, HEARING, began + 0.5 * self.seconds)
        deadline = began + self.seconds
        blends = self.bench.space(TOGETHER, self.width)["blend"]
        for one in items[:3]:
            for other in people[:3]:
                both = replace(one.params, **{name: getattr(other.params, name) for name in (*PEOPLE, *HEARING)})
                for share in blends[1:-1:2]:
                    if time.monotonic() < deadline:
                        self._try(replace(both, blend=share))
        return self._climb(deadline)

    def best(self) -> Trial:
        """Return the best trial so far."""
        return max(self.trials, key=lambda trial: trial.objective)

    def _try(self, params: Params) -> Trial:
        if params not in self._seen:
            trial = self._seen[params] = self.bench.try_out(params)
            self.trials.append(trial)
            self.report(trial, self.best())
        return self._seen[params]

    def _half(self, share: float, learning: Space, asking: Space, deadline: float) -> list[Trial]:
        """Draw settings of one half at random, several ways of asking for each that is learned; the best first."""
        learning, asking = self.bench.space(learning, self.width), self.bench.space(asking, self.width)
        params = replace(self.start, blend=share)
        found = [self._try(params)]
        while time.monotonic() < deadline:
            for _ in range(4):
                found.append(self._try(replace(params, **self._draw(asking))))
            centre = max(found, key=lambda trial: trial.objective).params
            drawn = self._draw(learning)
            # Half of the draws change a few things about the best so far, the others everything.
            if self.generator.random() < 0.5 and drawn:
                changed = self.generator.choice(list(drawn), size=min(2, len(drawn)), replace=False)
                drawn = {name: drawn[name] for name in changed}
            params = replace(centre, **drawn)
            found.append(self._try(params))
        return sorted(found, key=lambda trial: -trial.objective)

    def _draw(self, space: Space) -> dict[str, Any]:
        return {name: values[int(self.generator.integers(len(values)))] for name, values in space.items()}

    def _climb(self, deadline: float) -> Trial:
        """Take coordinate steps from the best trial while they help and there is time."""
        space: dict[str, Sequence[Any]] = {}
        for part in (TOGETHER, ASKING, HEARING, ITEMS, PEOPLE):
            space |= self.bench.space(part, self.width)
        better = True
        while better:
            better = False
            for name in ["blend", *self.generator.permutation([name for name in space if name != "blend"])]:
                before = self.best()
                for value in _around(space[name], getattr(before.params, name)):
                    if time.monotonic() >= deadline:
                        return self.best()
                    self._try(replace(before.params, **{name: value}))
                better = better or self.best().objective > before.objective * 1.0005
        return self.best()


def _around(values: Sequence[Any], current: Any) -> list[Any]:
    """Return the values next to the current one, all others for what is no number."""
    if isinstance(current, str):
        return [value for value in values if value != current]
    below = [value for value in values if value < current]
    above = [value for value in values if value > current]
    return below[-1:] + above[:1]
