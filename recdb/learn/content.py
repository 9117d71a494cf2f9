"""Learns from the content of items, so that items which nobody has touched can be ranked.

An item's content are tokens (its attributes, its owner, the words of its title) and an embedding. A ridge regression
learns the direction of each token in the space of a decomposition of the interactions, from the items that users
touched (an attribute-to-feature map, Gantner et al. 2010). So two items are alike if similar users touch items like
them. The cosine of their TF-IDF vectors, in which rare tokens count more, adds the tokens that items share.

The weights of both, and the size of a weight in units of item_neighbor, are chosen on touched items that are held out
whole. The size is the one at which the lists of known and new items together are best. But an item without interactions
gets into no more lists than an item like it does once it is known, and all new items together cost the ndcg of the
known ones no more than config.content_share.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.basis import decompose
from recdb.learn.content_alone import share_alone
from recdb.learn.content_features import STEPS as SOLVING_STEPS
from recdb.learn.content_features import (
    Described,
    Features,
    directly_alike,
    fit_alone,
    fit_ridge,
    idf,
    idf_of_one,
    units,
    weighted,
)
from recdb.learn.content_links import both_ways, carries_links, link_share, one_way
from recdb.learn.content_size import best_size, highest, quality, size_for, size_losing
from recdb.learn.item_neighbors import ItemNeighbors, to_matrix
from recdb.learn.limits import BASIS_QUANTILE, limit_users
from recdb.learn.matrix import Float32, Float64, Interactions, Progress, absolute_sums
from recdb.learn.params import Params
from recdb.learn.scoring import profiles

RANK = 512
"""The width of the space in which directions are learned."""
STORED = 128
"""The width of the vectors with which SQL ranks newer items."""
FORMS = ((1.0, 2.0), (0.5, 8.0), (0.5, 32.0))
"""Regressions to try: a token counts as its idf to the first number, and the ridge is the second."""
RARITY = 1.5
"""In the cosine, a token counts as its idf to this power."""
SPECTRUM = 0.5
"""The power of the singular values in an item's vector."""
SHARES = ((0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.5, 0.0, 0.5), (0.25, 0.5, 0.5))
"""Weights of the cosine and of the direct similarity to try beside the learned one, and evenness."""
SOURCES = 1500
"""An item gets its weights from this many others at most, and from fewer if there are very many items."""
FEW_USERS = 5
"""An item with at most so many users also gets weights from its content, from FEW_SOURCES others. They fall with its
number of users n as EARLY / (EARLY + n)."""
FEW_SOURCES = 100
EARLY = 3
MOST_SINGLE = 100_000
"""So many of the tokens that a single touched item has lead newer items to that item."""
MOST_FEW = 5000
"""Of the items with few users, so many get them, those with the fewest users first."""
MOST_ENTRIES = 30_000_000
"""The most weights that all items together get."""
MOST_WORK = 2e11
"""The most multiplications that the direct similarity may take."""
HELD_OUT = 0.1
MOST_HELD_OUT = 600
SAMPLE_USERS = 1000
LEAST = 0.2
"""New items may cost at least this much of the share, however few of them are chosen."""
LATER = 0.25
"""Between two trainings come this many items for each one that is held out, about 2.5 % of the catalogue: together they
may cost the share."""
SIZES = 9
DENSE = 30_000_000
"""The most elements of a dense block of similarities."""
FEW_ITEMS = 20
"""With fewer touched items in the catalogue, their content teaches nothing."""


@dataclass(frozen=True)
class LearnedContent:
    """The result of learning from content."""

    links: sparse.csr_array
    """(items, items): the weights that items give to ones with no or few users, in units of item_neighbor."""
    untouched: NDArray[np.int64]
    """The items that were ranked though nobody touched them."""
    places: Float32
    """(untouched, stored): their unit vectors."""
    scale: float
    """A similarity of STORED numbers times this is a weight of item_neighbor."""
    token_ids: NDArray[np.int64]
    token_weights: Float32
    directions: Float32
    """(tokens, stored): a token adds this to the vector of an item, which is scaled to length 1 afterwards."""
    items: NDArray[np.int64]
    vectors: Float32
    """(items, stored): unit vectors of touched items."""


@dataclass(frozen=True)
class Mix:
    """How similarities are added: the learned one, the cosine of the tokens and the direct one."""

    features: Features
    weights: Float64
    """(tokens,): by which the tokens count in the features."""
    exponent: float
    """The power of idf in them."""
    ridge: float
    vectors: Float32
    """(items, rank): unit vectors of touched items, 0 elsewhere."""
    map_: Float32
    """(features, rank)."""
    shares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The weights of the cosine and of the direct similarity, and the evenness: each item's similarities are divided
    by their standard deviation to this power."""
    deviations: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """The standard deviations of the three similarities."""


class Learner:
    """Learns from the interactions and the catalogue; `learned` are the item neighbours of the version."""

    def __init__(
        self, known: Interactions, catalogue: Described, learned: list[ItemNeighbors], params: Params, seed: int = 0
    ) -> None:
        self.catalogue, self.params = catalogue, params
        self.generator = np.random.default_rng(seed)
        weights = limit_users(known.matrix(params.item_weight_exponent), 0.25, BASIS_QUANTILE)
        self.items = catalogue.tokens.shape[0]
        touched = np.zeros(self.items, dtype=np.bool_)
        touched[np.unique(known.items)] = True
        counts = idf(catalogue.tokens)
        self.counts = counts
        self.rare = weighted(catalogue.tokens, counts**RARITY)
        described = (absolute_sums(self.rare)[0] > 0) | self.embedded()
        self.touched, self.warm = touched, touched & described
        self.cold = np.flatnonzero(described & ~touched & catalogue.available)
        self.users = np.bincount(known.items, minlength=self.items)
        few = np.flatnonzero(self.warm & (self.users <= FEW_USERS) & catalogue.available)
        self.few = np.sort(few[np.argsort(self.users[few], kind="stable")[:MOST_FEW]])
        rank = min(RANK, max(16, min(len(np.unique(known.users)), int(touched.sum())) // 4))
        self.decomposition = decompose(weights, rank=rank, user_exponent=0.25, item_exponent=0.5)
        given = to_matrix(learned, known.shape[1])
        self.given = sparse.csr_array(
            (given.data, given.indices, np.r_[given.indptr, np.full(self.items - known.shape[1], given.indptr[-1])]),
            shape=(self.items, self.items),
        )
        self.profile, self.seen, self.liked = self._sample(known)

    def embedded(self) -> NDArray[np.bool_]:
        """Return which items have an embedding."""
        width = self.catalogue.embeddings.shape[1]
        return (self.catalogue.embeddings != 0).any(axis=1) if width else np.zeros(self.items, dtype=np.bool_)

    def _sample(self, known: Interactions) -> tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]:
        """Return the profiles of a sample of users, the items that they touched, and those that they chose.

        A user chose an item with at least half of the largest weight.
        """
        users = np.unique(known.users)
        if len(users) > SAMPLE_USERS:
            users = np.sort(self.generator.choice(users, SAMPLE_USERS, replace=False))
        first = known.first(self.params.profile_limit)
        whole = profiles(first.matrix(self.params.profile_weight_exponent), first.ranks(), self.params.profile_recency)[
            users
        ]
        summed = known.matrix()[users]
        shape = (len(users), self.items)
        chosen = (summed.data >= known.weights.max(initial=0) / 2) & (summed.data > 0)
        return (
            sparse.csr_array((whole.data, whole.indices, whole.indptr), shape=shape),
            sparse.csr_array((np.ones(summed.nnz), summed.indices, summed.indptr), shape=shape),
            sparse.csr_array((chosen.astype(np.float32), summed.indices, summed.indptr), shape=shape),
        )

    def vectors(self) -> Float32:
        """Return the unit vectors of all touched items, (items, rank)."""
        right = self.decomposition.right
        scaled = right * self.decomposition.singular_values.astype(np.float32) ** np.float32(SPECTRUM)
        vectors = np.zeros((self.items, right.shape[1]), dtype=np.float32)
        vectors[: len(right)] = units(scaled)
        return vectors

    def mix(self, form: tuple[float, float], vectors: Float32, counted: NDArray[np.bool_]) -> Mix:
        """Learn one of FORMS from the items that count."""
        weights = self.counts ** form[0]
        features = Features(weighted(self.catalogue.tokens, weights), self.catalogue.embeddings)
        return Mix(features, weights, *form, vectors, fit_ridge(features, vectors, counted, form[1]))

    def learned(self, mix: Mix, items: NDArray[np.integer], sources: NDArray[np.integer]) -> Float32:
        """Return the learned similarity of the sources and the items, (sources, items)."""
        found: Float32 = mix.vectors[sources] @ units(mix.features.of(items).times(mix.map_)).T
        return found

    def cosines(self, items: NDArray[np.integer], sources: NDArray[np.integer]) -> Float32:
        """Return the cosine of the tokens of the sources and the items, (sources, items)."""
        found: Float32 = sparse.csr_array(self.rare[sources] @ self.rare[items].T).toarray()
        return found

    def parts(self, mix: Mix, items: NDArray[np.integer], sources: NDArray[np.integer]) -> list[Float32]:
        """Return the three similarities, (sources, items); the cosine and the direct one are 0 unless they count."""
        nothing = np.zeros((1, 1), dtype=np.float32)
        return [
            self.learned(mix, items, sources),
            self.cosines(items, sources) if mix.shares[0] > 0 else nothing,
            directly_alike(mix.features, sources, items) if mix.shares[1] > 0 else nothing,
        ]

    def similarities(self, mix: Mix, items: NDArray[np.integer], sources: NDArray[np.integer]) -> Float32:
        """Return how much like some items other ones are, (sources, items)."""
        return added(self.parts(mix, items, sources), mix)

    def columns(
        self, mix: Mix, items: NDArray[np.integer], sources: NDArray[np.integer], most: int = SOURCES
    ) -> sparse.csr_array:
        """Return the similarities of each item's `most` most similar others, (all items, items)."""
        parts = []
        most = min(most, MOST_ENTRIES // max(len(items), 1))
        for block in np.array_split(items, max(1, len(items) * len(sources) // DENSE + 1)):
            parts.append(self.largest(self.similarities(mix, block, sources), sources, most))
        return sparse.csr_array(sparse.hstack(parts, format="csr"))

    def largest(self, dense: Float32, sources: NDArray[np.integer], most: int = SOURCES) -> sparse.csr_array:
        """Keep the `most` largest positive entries of each column of (sources, items), in (all items, items)."""
        kept = min(most, len(sources))
        rows = np.argpartition(-dense, kept - 1, axis=0)[:kept]
        values = np.maximum(np.take_along_axis(dense, rows, axis=0), 0)
        places = np.broadcast_to(np.arange(dense.shape[1]), rows.shape)
        entries = (values.ravel(), (sources[rows].ravel(), places.ravel()))
        found = sparse.csr_array(entries, shape=(self.items, dense.shape[1]))
        found.eliminate_zeros()
        return found

    def early_links(self, mix: Mix, sources: NDArray[np.integer], size: float) -> sparse.csr_array:
        """Return the links to items with few users, (all items, all items)."""
        columns = self.columns(mix, self.few, sources, FEW_SOURCES)
        return one_way(columns, self.few, size * EARLY / (EARLY + self.users[self.few]))

    def scores(self, columns: sparse.csr_array) -> Float32:
        """Return the sample's scores of some items, (users, items)."""
        scores: Float32 = sparse.csr_array(self.profile @ columns).toarray().astype(np.float32)
        return scores

    def known_scores(self) -> Float32:
        """Return the sample's scores of all touched items, (users, items); 0 for those that a user has."""
        scores = self.scores(self.given)
        for row, (start, stop) in enumerate(pairwise(self.seen.indptr)):
            scores[row, self.seen.indices[start:stop]] = 0
        return scores


def learn_content(
    known: Interactions,
    catalogue: Described,
    learned: list[ItemNeighbors],
    params: Params,
    share: float,
    progress: Progress | None = None,
    *,
    ndcg: float | None = None,
) -> LearnedContent | None:
    """Learn from the content of the items; None if the catalogue says nothing.

    `learned` are the version's item neighbours, `share` is config.content_share, `ndcg` that of touched items on a
    validation part. With it, the size of the weights is the one at which all lists are best.
    """
    if progress:
        progress("content, decomposing")
    learner = Learner(known, catalogue, learned, params)
    warm = np.flatnonzero(learner.warm)
    if len(warm) < FEW_ITEMS or share <= 0:
        return None
    count = int(min(MOST_HELD_OUT, max(len(warm) * HELD_OUT, 5), max(DENSE // len(warm), 5)))
    held = np.sort(learner.generator.choice(warm, count, replace=False))
    counted = learner.warm.copy()
    counted[held] = False
    sources = np.flatnonzero(counted)
    relevant = learner.liked[:, held].toarray() > 0
    had = learner.seen[:, held].toarray() > 0
    vectors = learner.vectors()
    # No neighbour knows an untouched item: its links count as much in a score, whatever the share of their part is.
    beside = 1 / (1 - params.blend) if carries_links(params.blend) else 1 / link_share(params.blend)
    if progress:
        progress("content, choosing weights on items held out")
    mix, columns = choose(learner, vectors, held, counted, relevant)
    scores = learner.known_scores()
    known_best = highest(scores)
    lowest = known_best.min(axis=1, keepdims=True)
    wanted = float(np.count_nonzero((scores[:, held] >= lowest) & (scores[:, held] > 0)))
    scores[:, held] = 0
    others = highest(scores)

    def sized(columns: sparse.csr_array, share: float) -> float:
        found = learner.scores(columns)
        most = min(size_for(found * ~had, others, wanted), size_losing(found, others, share))
        if ndcg is None or most <= 0:
            return most
        least = min(most, size_losing(found, others, share * LEAST))
        return best_size(found, relevant, others, ndcg, chosen, np.geomspace(least, most, SIZES))

    chosen = np.asarray(learner.liked.sum(axis=1)).ravel()
    size = sized(columns, share)
    stored, given = vectors[:, :STORED], mix.map_[:, :STORED]
    few = (learner.profile, relevant, learner.generator)
    alone = share_alone(mix.features, given, stored, counted, held, *few)
    given = given + np.float32(alone) * fit_alone(mix.features, stored, counted)
    narrow = replace(mix, vectors=units(stored), map_=given, shares=(0, 0, 0))
    scale = sized(learner.columns(narrow, held, sources), share / LATER) / narrow.deviations[0]

    if progress:
        progress("content, learning")
    mix = replace(mix, map_=fit_ridge(mix.features, vectors, learner.warm, mix.ridge))
    links = sparse.csr_array((learner.items, learner.items), dtype=np.float32)
    if len(learner.cold):
        columns = learner.columns(mix, learner.cold, warm)
        size = min(size, size_losing(learner.scores(columns), known_best, share))
        links = both_ways(columns, learner.cold, size * beside)
    if len(learner.few) and size > 0:
        links = sparse.csr_array(links + learner.early_links(mix, warm, size * beside))
    given = mix.map_[:, :STORED] + np.float32(alone) * fit_alone(mix.features, stored, learner.warm)
    return keep(learner, replace(mix, map_=given), stored, links, scale / link_share(params.blend))


def keep(learner: Learner, mix: Mix, vectors: Float32, links: sparse.csr_array, scale: float) -> LearnedContent:
    """Return the content that the database keeps; the map and the vectors (items, stored) have its width."""
    catalogue, weights = learner.catalogue, mix.weights
    ids = np.r_[catalogue.token_ids, -np.arange(1, catalogue.embeddings.shape[1] + 1)]
    factors = np.r_[weights, np.ones(catalogue.embeddings.shape[1])]
    kept = np.flatnonzero(factors > 0)
    single = catalogue.single.of(learner.touched, learner.users, MOST_SINGLE)
    weight = idf_of_one(catalogue.tokens) ** mix.exponent
    directions = single.directions(vectors, catalogue.tokens @ weights**2, weight, mix.ridge)
    led = np.flatnonzero(learner.warm | np.bincount(single.items, minlength=learner.items).astype(np.bool_))
    return LearnedContent(
        links,
        learner.cold,
        units(mix.features.of(learner.cold).times(mix.map_)),
        scale,
        np.r_[ids[kept], single.numbers],
        np.r_[np.r_[weights, np.zeros(catalogue.embeddings.shape[1])][kept], np.full(len(directions), weight)].astype(
            np.float32
        ),
        np.vstack([(mix.map_ * factors[:, None])[kept], directions]).astype(np.float32),
        led,
        units(vectors[led]),
    )


def added(parts: list[Float32], mix: Mix) -> Float32:
    """Add the three similarities."""
    found = parts[0] / np.float32(mix.deviations[0])
    for part, share, deviation in zip(parts[1:], mix.shares[:2], mix.deviations[1:], strict=True):
        if share > 0:
            found += part * np.float32(share / deviation)
    if mix.shares[2] > 0:
        found /= np.maximum(found.std(axis=0, keepdims=True), 1e-6) ** np.float32(mix.shares[2])
    return found


def choose(
    learner: Learner,
    vectors: Float32,
    held: NDArray[np.integer],
    counted: NDArray[np.bool_],
    relevant: NDArray[np.bool_],
) -> tuple[Mix, sparse.csr_array]:
    """Choose the form and the shares by the ranking of the items held out; return them with the similarities."""
    sources = np.flatnonzero(counted)
    best, chosen = -1.0, None

    def consider(mix: Mix, parts: list[Float32]) -> None:
        nonlocal best, chosen
        columns = learner.largest(added(parts, mix), sources)
        reached = quality(learner.scores(columns), relevant)
        if reached > best * 1.002:
            best, chosen = reached, (mix, columns)

    for form in FORMS:
        mix = learner.mix(form, vectors, counted)
        consider(mix, learner.parts(mix, held, sources))
    assert chosen is not None
    mix = chosen[0]
    work = mix.features.entries() * max(len(held), len(learner.cold) + len(learner.few)) * 2.0 * SOLVING_STEPS
    tried = [shares for shares in SHARES if learner.rare.nnz and (shares[1] == 0 or work <= MOST_WORK)]
    if tried:
        parts = learner.parts(replace(mix, shares=SHARES[-1] if tried[-1][1] else SHARES[1]), held, sources)
        first, second, third = (max(float(part.std()), 1e-6) for part in parts)
        for shares in tried:
            consider(replace(mix, shares=shares, deviations=(first, second, third)), parts)
    return chosen
