"""The offline evaluator: it ranks a validation part with any setting, in numpy, by the formulas that SQL serves.

It keeps results that are expensive to compute (a decomposition, nearest users, item neighbours) for later settings
that need the same.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.basis import Basis, Decomposition, decompose, fold_in
from recdb.learn.events import Events
from recdb.learn.filters import Spectrum, find_spectrum, symmetric_exponent
from recdb.learn.limits import (
    BASIS_QUANTILE,
    Rows,
    limit_sums,
    limit_users,
    neighbor_limit,
    pair_limit,
    rows_to_learn_from,
)
from recdb.learn.matrix import Float32, Float64, absolute_sums
from recdb.learn.parallel import CORES, in_threads
from recdb.learn.params import Params
from recdb.learn.recount import predicting_items
from recdb.learn.scoring import Neighborhood, nearest_users, neighbor_strengths, profiles, ranks_of, shares
from recdb.offline.cache import CACHE_BYTES, Cache
from recdb.offline.learned import Learned, Widest, filtered, prune, shared, widest
from recdb.offline.metrics import discounts
from recdb.offline.split import split
from recdb.offline.validation import Trial, ValidationUsers

K = 20
VALIDATION_USERS = 2000
FEW_USERS = 600
"""With more validation users, a search ranks for so many of them first."""
FEWEST_USERS = 300
"""And for so many where learning takes long even for few."""
EXACT_ITEMS = 20_000
"""With more items, only the validation users predict in a recount: for others more neighbours would be learned."""
MANY_PAIRS = 150_000
"""With more pairs of a user and an item than this, one validation part has enough of them."""
MOST_NEIGHBORS = 400
SPECTRAL_RANK = 512
"""One decomposition serves the settings of all ranks up to this one."""
MANY_ITEMS = 20_000
"""With more items, spectral filters take long to learn."""
SPECTRAL_RANK_OF_MANY = 256
"""With many items, one decomposition serves up to this rank: its time grows with the square of the rank."""
THREADS = min(4, CORES)
"""Each thread needs memory for a block of scores."""

DECOMPOSING = ("people_weight_exponent", "basis_user_exponent", "basis_item_exponent")
PLACING = (*DECOMPOSING, "spectrum_exponent", "dimension")
LEARNING = (
    "learner",
    "item_weight_exponent",
    "item_user_exponent",
    "source_exponent",
    "target_exponent",
    "cooccurrence_power",
    "spectral_weight",
    "spectral_filter",
    "spectral_power",
    "spectral_rank",
    "ease_regularization",
    "ease_dropout",
    "ease_refit",
    "item_neighbors",
    "recount_exponent",
    "session_weight",
    "session_gap",
)
FILTERING = ("item_weight_exponent", "item_user_exponent", "session_weight", "session_gap")
USER_SCORING = (
    "people_recency",
    "neighbors",
    "similarity_exponent",
    "activity_exponent",
    "neighbor_weight_exponent",
)
ITEM_SCORING = ("profile_weight_exponent", "profile_recency")

Part = tuple[sparse.csr_array, ...]
"""The scores of one part of the ranking, (users, items): an array for each block of users."""


class OfflineEvaluator:
    """Holds out a validation part of some events, and ranks it with any setting.

    `ceiling` is config.profile_limit. `rank` is the largest dimension of the settings, where they differ in it. `seed`
    chooses the held-out part. With `folds` and few events there are more validation parts: the events before the
    first part are split again, and metrics are over the users of all parts, because those of one part are too few.
    `others` are events of other users, numbered behind those of `events`, to learn from and not to rank for. `memory`
    bounds the bytes of the results that are kept.
    """

    def __init__(
        self,
        events: Events,
        ceiling: int,
        *,
        rank: int = 0,
        most_users: int = VALIDATION_USERS,
        seed: int = 0,
        folds: int = 1,
        others: Events | None = None,
        memory: int = CACHE_BYTES,
    ) -> None:
        events = events.renumbered()
        validation = split(events, most_users=most_users, seed=seed)
        learned_from = validation.events if others is None else validation.events.joined(others)
        self.known = learned_from.interactions()
        self.limited = self.known.clipped(pair_limit(self.known))
        self.longest = min(ceiling, int(self.known.positions.max(initial=1)))
        self.rank = rank
        users, rows = np.unique(validation.users, return_inverse=True)
        self.all_users = ValidationUsers(users, rows, validation.items, validation.events.hidden()[users])
        order = np.random.default_rng(seed).permutation(len(users))
        self.few_users = self.all_users.where(order < FEW_USERS) if len(users) > FEW_USERS else self.all_users
        self.fewest_users = self.all_users.where(order < FEWEST_USERS) if len(users) > FEW_USERS else self.all_users
        self.returns = not bool(events.hides[np.unique(events.kinds)].all())
        self.timed = events.timed
        self.weighted = bool(len(self.known.weights)) and bool(
            self.known.weights.min() < self.known.weights.max() * (1 - 1e-6)
        )
        self.shared_rank = SPECTRAL_RANK_OF_MANY if len(np.unique(self.known.items)) > MANY_ITEMS else SPECTRAL_RANK
        """One decomposition serves the spectral filters of all ranks up to this one."""
        self._ranks = self.known.ranks()
        self._cache = Cache(memory)
        self._earlier: OfflineEvaluator | None = None
        if folds > 1 and len(self.known.users) <= MANY_PAIRS:
            self._earlier = OfflineEvaluator(
                validation.events, ceiling, rank=rank, most_users=most_users, seed=seed, folds=folds - 1
            )
            # The parts share the memory; only trials on all users rank for the earlier ones.
            self._cache, self._earlier._cache = Cache(memory * 3 // 4), Cache(memory // 4)

    @property
    def users(self) -> NDArray[np.int64]:
        """The users of the validation part, ascending."""
        return self.all_users.users

    def newest_fold(self) -> Self:
        """Return the evaluator with its newest validation part only."""
        alone = copy(self)
        alone._earlier = None
        return alone

    def try_out(self, params: Params, validation: ValidationUsers | None = None) -> Trial:
        """Rank with a setting for the validation users, or for some of them, and return its metrics."""
        validation = validation or self.all_users
        recall, ndcg = self.user_metrics(params, validation)
        gains = (recall + ndcg).astype(np.float32)
        rows = self.rows(params, validation)
        return Trial(params, float(recall.mean()), float(ndcg.mean()), len(recall), rows, gains)

    def user_metrics(self, params: Params, validation: ValidationUsers | None = None) -> tuple[Float64, Float64]:
        """Rank with a setting and return the users' recall@20 and ndcg@20, both (users,).

        They are of all folds, or of some users of the newest.
        """
        validation = validation or self.all_users
        recall, ndcg = self._fold_metrics(params, validation)
        if self._earlier is None or not len(self._earlier.users) or validation is not self.all_users:
            return recall, ndcg
        before = self._earlier.user_metrics(params)
        return np.concatenate([recall, before[0]]), np.concatenate([ndcg, before[1]])

    def _fold_metrics(self, params: Params, validation: ValidationUsers) -> tuple[Float64, Float64]:
        parts: list[tuple[float, Part]] = []
        if params.blend > 0:
            parts.append((params.blend, self._user_part(params, validation)))
        if params.blend < 1:
            parts.append((1 - params.blend, self._item_part(params, validation)))

        def ranks(numbered: tuple[int, slice]) -> Float64:
            number, block = numbered
            first, last = np.searchsorted(validation.rows, [block.start, block.stop])
            scores = [(share, part[number]) for share, part in parts]
            rows = validation.rows[first:last] - block.start
            return ranks_of(scores, validation.hidden[block], rows, validation.relevant[first:last])

        found = np.concatenate(list(in_threads(ranks, enumerate(validation.slices()), THREADS)))
        hits = found <= K
        gains = np.where(hits, discounts(K)[np.where(hits, found, 1).astype(np.int64) - 1], 0)
        ideal = np.cumsum(discounts(K))[np.minimum(validation.counts, K) - 1]
        return np.bincount(validation.rows, hits) / validation.counts, np.bincount(validation.rows, gains) / ideal

    def _user_part(self, params: Params, validation: ValidationUsers) -> Part:
        """Return the scores of the user-based part: the neighbours' weights."""
        limit = self._limit(params)

        def score() -> Part:
            given, sums = self._neighbor_weights(params.neighbor_weight_exponent, limit)
            near = self._nearest(params, validation)
            strengths = neighbor_strengths(
                near, sums, params.neighbors, params.similarity_exponent, params.activity_exponent
            )
            return self._products(shares(strengths, sums, 1.0), given, validation)

        key = ("users", len(validation.users), limit, *values(params, (*PLACING, *USER_SCORING)))
        return self._cache.get(key, score)

    def _item_part(self, params: Params, validation: ValidationUsers) -> Part:
        """Return the scores of the item-based part: the items that the profile's items recommend."""
        limit = self._limit(params)

        def score() -> Part:
            profile = self._profiles(params.profile_weight_exponent, params.profile_recency, limit)[validation.users]
            learned = self._learned(params, validation)
            return self._products(shares(profile, learned.sums, 1.0), learned.weights, validation)

        key = ("items", len(validation.users), limit, self._self_weight(params), *values(params, LEARNING))
        return self._cache.get((*key, *values(params, ITEM_SCORING)), score)

    def _products(self, counted: sparse.csr_array, given: sparse.csr_array, validation: ValidationUsers) -> Part:
        """Return how much all sources give: `counted` (users, sources) says by how much each source counts for a user,
        `given` (sources, items) the weight that it gives to an item."""
        return tuple(in_threads(lambda block: sparse.csr_array(counted[block] @ given), validation.slices(), THREADS))

    def rows(self, params: Params, validation: ValidationUsers) -> float:
        """Return how many weights recommend() adds up per call, the mean over users: a call's time grows with it."""
        return self.user_rows(params, validation) + self.item_rows(params, validation)

    def user_rows(self, params: Params, validation: ValidationUsers) -> float:
        """Return how many of these weights are those of the user-based part."""
        if params.blend == 0:
            return 0.0
        near = self._nearest(params, validation)
        lengths = np.diff(self._matrix(0.0, self._limit(params)).indptr)
        counted = near.similarities[:, : params.neighbors] > 0
        rows = float((lengths[near.users[:, : params.neighbors]] * counted).sum())
        return rows / max(len(validation.users), 1)

    def item_rows(self, params: Params, validation: ValidationUsers) -> float:
        """Return how many of these weights are those of the item-based part."""
        if params.blend == 1:
            return 0.0
        lengths = self._learned(params, validation).neighbors + (self._self_weight(params) > 0)
        rows = float((self._matrix(0.0, self._limit(params))[validation.users] @ lengths).sum())
        return rows / max(len(validation.users), 1)

    def _limit(self, params: Params) -> int:
        return min(params.profile_limit, self.longest)

    def _matrix(self, exponent: float, limit: int) -> sparse.csr_array:
        return self._cache.get(("W", exponent, limit), lambda: self.known.first(limit).matrix(exponent))

    def _neighbor_weights(self, exponent: float, limit: int) -> tuple[sparse.csr_array, Float64]:
        """Return the weights that each user gives as a neighbour, and their absolute sums."""

        def compute() -> tuple[sparse.csr_array, Float64]:
            weights = self.limited.first(limit).matrix(exponent)
            limited = limit_sums(weights, neighbor_limit(weights))
            return limited, absolute_sums(limited)[0]

        return self._cache.get(("neighbor weights", exponent, limit), compute)

    def _profiles(self, exponent: float, recency: float, limit: int) -> sparse.csr_array:
        return profiles(self._matrix(exponent, limit), self._ranks[self.known.positions <= limit], recency)

    def _decomposition(self, params: Params) -> Decomposition:
        rank = max(self.rank, params.dimension)
        return self._cache.get(
            ("decomposition", rank, *values(params, DECOMPOSING)),
            lambda: decompose(
                limit_users(
                    self.limited.matrix(params.people_weight_exponent), params.basis_user_exponent, BASIS_QUANTILE
                ),
                rank=rank,
                user_exponent=params.basis_user_exponent,
                item_exponent=params.basis_item_exponent,
            ),
        )

    def _basis(self, params: Params) -> Basis:
        return self._decomposition(params).basis(params.dimension, params.spectrum_exponent)

    def _placed(self, params: Params) -> Float32:
        """Return the vectors that a training stores: every user's, from its first items without recency."""
        limit = self._limit(params)
        weights = self._matrix(params.people_weight_exponent, limit)
        return self._cache.get(
            ("placed", limit, *values(params, PLACING)), lambda: fold_in(weights, self._basis(params).item_vectors)[0]
        )

    def _nearest(self, params: Params, validation: ValidationUsers) -> Neighborhood:
        limit = self._limit(params)

        def find() -> Neighborhood:
            stored = self._placed(params)
            profile = self._profiles(params.people_weight_exponent, params.people_recency, limit)[validation.users]
            queries, _ = fold_in(profile, self._basis(params).item_vectors)
            found = list(
                in_threads(
                    lambda block: nearest_users(queries[block], stored, validation.users[block], MOST_NEIGHBORS),
                    validation.slices(),
                    THREADS,
                )
            )
            return Neighborhood(
                np.concatenate([near.users for near in found]), np.concatenate([near.similarities for near in found])
            )

        key = ("near", len(validation.users), params.people_recency, limit, *values(params, PLACING))
        return self._cache.get(key, find)

    def _learned(self, params: Params, validation: ValidationUsers) -> Learned:
        """Learn the neighbours of the items that the users have; EASE learns all, because it has to invert all."""
        common = shared(params)
        many, few = len(self.users), len(validation.users)
        keys = [("widest", users, *values(common, LEARNING)) for users in (many, few)]
        everything = keys[0] in self._cache or params.learner == "ease"
        exact = len(np.unique(self.known.items)) <= EXACT_ITEMS
        predicting = None if exact else self.users if everything else validation.users

        def learn() -> Widest:
            sources = None if params.learner == "ease" else self._profile_items(validation)
            if sources is not None and exact:
                sources = np.union1d(sources, predicting_items(self._rows(common)))
            return widest(self._rows(common), common, self._spectrum(common) if filtered(common) else None, sources)

        def pruned() -> Learned:
            wide = self._cache.get(keys[0] if everything else keys[1], learn)
            return prune(wide, params, self._self_weight(params), self._rows(common), predicting)

        key = ("learned", many if everything else few, self._self_weight(params), *values(params, LEARNING))
        return self._cache.get(key, pruned)

    def _profile_items(self, validation: ValidationUsers) -> NDArray[np.int64]:
        """Return the items in the profiles of validation users: nothing else recommends items to them."""
        return np.unique(self._matrix(0.0, self.longest)[validation.users].indices).astype(np.int64)

    def _rows(self, params: Params) -> Rows:
        """Return the rows to learn item neighbours from."""
        alone = params.learner == "ease"
        return self._cache.get(
            ("rows", alone, *values(params, FILTERING)),
            lambda: rows_to_learn_from(
                self.limited,
                params.item_weight_exponent,
                params.item_user_exponent,
                params.session_weight,
                params.session_gap,
                alone=alone,
            ),
        )

    def _spectrum(self, params: Params) -> Spectrum:
        """Decompose the co-occurrences once for all filters, and all ranks up to the shared one."""
        rank = max(self.shared_rank, params.spectral_rank)
        key = ("spectrum", rank, symmetric_exponent(params), *values(params, FILTERING))
        return self._cache.get(key, lambda: find_spectrum(self._rows(params), params, rank))

    def _self_weight(self, params: Params) -> float:
        return params.self_weight if self.returns else 0.0


def values(params: Params, names: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of some parameters."""
    return tuple(getattr(params, name) for name in names)
