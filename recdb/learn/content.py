"""Learns from the content of items, so that items which nobody has touched can be ranked.

An item's content are tokens (its attributes, its owner, the words of its title) and an embedding. A ridge regression
learns the direction of each token in the space of a decomposition of the interactions, from the items that users
touched (an attribute-to-feature map, Gantner et al. 2010). So two items are alike if similar users touch items like
them. The cosine of their TF-IDF vectors, in which rare tokens count more, adds the tokens that items share.

The weights of both, and the size of a weight in units of item_neighbor, are chosen on touched items that are held out
whole: an item without interactions gets into as many lists as an item like it does once it is known. All untouched
items together take no more than a share of the first places.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.basis import decompose
from recdb.learn.content_links import both_ways
from recdb.learn.content_size import PLACES, highest, quality, size_for
from recdb.learn.item_neighbors import ItemNeighbors, to_matrix
from recdb.learn.limits import BASIS_QUANTILE, limit_users
from recdb.learn.matrix import Float32, Float64, Interactions, Progress, absolute_sums, scale_rows
from recdb.learn.params import Params
from recdb.learn.scoring import profiles

RANK = 512
"""The width of the space in which directions are learned."""
STORED = 128
"""The width of the vectors with which SQL ranks newer items."""
RIDGE = 2.0
STEPS = 8
"""Steps of conjugate gradients; few of them regularize as well."""
RARITY = 1.5
"""In the cosine, a token counts as its idf to this power."""
SPECTRUM = 0.5
"""The power of the singular values in an item's vector."""
SHARES = (0.0, 0.5, 1.0)
"""Weights of the cosine to try, beside the learned similarity."""
SOURCES = 600
"""An item gets its weights from this many others at most."""
HELD_OUT = 0.1
MOST_HELD_OUT = 600
SAMPLE_USERS = 1000
DENSE = 30_000_000
"""The most elements of a dense block of similarities."""
FEW_ITEMS = 20
"""With fewer touched items in the catalogue, their content teaches nothing."""


@dataclass(frozen=True)
class Described:
    """The content of the items of the catalogue. Rows are item keys, as those of the columns of W."""

    tokens: sparse.csr_array
    """(items, tokens): 1 where an item has a token."""
    token_ids: NDArray[np.int64]
    """(tokens,): the tokens' numbers in the database."""
    embeddings: Float32
    """(items, width): unit vectors; 0 for an item without."""
    available: NDArray[np.bool_]
    """(items,): whether the item may be recommended."""


@dataclass(frozen=True)
class LearnedContent:
    """The result of learning from content."""

    links: sparse.csr_array
    """(items, items): the weights that items give to untouched ones, in units of item_neighbor."""
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
class Features:
    """Unit rows of tokens, beside unit rows of embeddings."""

    tokens: sparse.csr_array
    embeddings: Float32

    def times(self, map_: Float32) -> Float32:
        """Return features x map, (items, width)."""
        width = self.tokens.shape[1]
        found: Float32 = self.tokens @ map_[:width]
        return found + self.embeddings @ map_[width:] if self.embeddings.shape[1] else found

    def transposed(self, rows: Float32) -> Float32:
        """Return features' x rows, (features, width)."""
        found: Float32 = self.tokens.T @ rows
        return np.vstack([found, self.embeddings.T @ rows]) if self.embeddings.shape[1] else found

    def of(self, items: NDArray[np.integer]) -> "Features":
        """Return the rows of some items."""
        return Features(self.tokens[items], self.embeddings[items])


@dataclass(frozen=True)
class Mix:
    """How two similarities are added."""

    vectors: Float32
    """(items, rank): unit vectors of touched items, 0 elsewhere."""
    map_: Float32
    """(features, rank)."""
    share: float
    """Weight of the cosine."""
    learned_deviation: float
    cosine_deviation: float


def idf(tokens: sparse.csr_array) -> Float64:
    """Return log(items / items with the token), (tokens,); 0 for tokens of a single item."""
    counts = np.bincount(tokens.indices, minlength=tokens.shape[1])
    items = max(int(np.count_nonzero(np.diff(tokens.indptr))), 1)
    return np.where(counts > 1, np.log((items + 1) / np.maximum(counts, 1)), 0.0)


def weighted(tokens: sparse.csr_array, weights: Float64) -> sparse.csr_array:
    """Return the tokens' weights in rows of length 1; rows of 0 stay 0."""
    data = weights[tokens.indices]
    found = sparse.csr_array((data, tokens.indices, tokens.indptr), shape=tokens.shape)
    lengths = np.sqrt(np.asarray((found * found).sum(axis=1)).ravel())
    found = scale_rows(found, np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0))
    return sparse.csr_array(found.astype(np.float32))


def units(rows: Float32) -> Float32:
    """Return rows of length 1; rows of 0 stay 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Float32 = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-9)
    return found


def fit_ridge(features: Features, targets: Float32, counted: NDArray[np.bool_]) -> Float32:
    """Return the map B of the least |F B - T|^2 + RIDGE |B|^2 over the items that count, by conjugate gradients."""
    rows = np.flatnonzero(counted)
    chosen = features.of(rows)
    residual = chosen.transposed(targets[rows])
    found = np.zeros_like(residual)
    direction = residual.copy()
    squares = (residual * residual).sum(axis=0)
    for _ in range(STEPS):
        image = chosen.transposed(chosen.times(direction)) + np.float32(RIDGE) * direction
        steps = squares / np.maximum((direction * image).sum(axis=0), 1e-30)
        found += steps * direction
        residual -= steps * image
        before, squares = squares, (residual * residual).sum(axis=0)
        direction = residual + squares / np.maximum(before, 1e-30) * direction
    return found


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
        self.features = Features(weighted(catalogue.tokens, counts), catalogue.embeddings)
        self.rare = weighted(catalogue.tokens, counts**RARITY)
        described = (absolute_sums(self.features.tokens)[0] > 0) | self.embedded()
        self.token_weights = counts
        self.touched, self.warm = touched, touched & described
        self.cold = np.flatnonzero(described & ~touched & catalogue.available)
        rank = min(RANK, max(16, min(len(np.unique(known.users)), int(touched.sum())) // 4))
        self.decomposition = decompose(weights, rank=rank, user_exponent=0.25, item_exponent=0.5)
        given = to_matrix(learned, known.shape[1])
        self.given = sparse.csr_array(
            (given.data, given.indices, np.r_[given.indptr, np.full(self.items - known.shape[1], given.indptr[-1])]),
            shape=(self.items, self.items),
        )
        self.profile, self.seen = self._sample(known)

    def embedded(self) -> NDArray[np.bool_]:
        """Return which items have an embedding."""
        width = self.catalogue.embeddings.shape[1]
        return (self.catalogue.embeddings != 0).any(axis=1) if width else np.zeros(self.items, dtype=np.bool_)

    def _sample(self, known: Interactions) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return the profiles of a sample of users, and the items that they touched."""
        users = np.unique(known.users)
        if len(users) > SAMPLE_USERS:
            users = np.sort(self.generator.choice(users, SAMPLE_USERS, replace=False))
        first = known.first(self.params.profile_limit)
        whole = profiles(first.matrix(self.params.profile_weight_exponent), first.ranks(), self.params.profile_recency)[
            users
        ]
        seen = known.matrix(0.0)[users]
        shape = (len(users), self.items)
        return (
            sparse.csr_array((whole.data, whole.indices, whole.indptr), shape=shape),
            sparse.csr_array((np.abs(seen.data), seen.indices, seen.indptr), shape=shape),
        )

    def vectors(self) -> Float32:
        """Return the unit vectors of all touched items, (items, rank)."""
        right = self.decomposition.right
        scaled = right * self.decomposition.singular_values.astype(np.float32) ** np.float32(SPECTRUM)
        vectors = np.zeros((self.items, right.shape[1]), dtype=np.float32)
        vectors[: len(right)] = units(scaled)
        return vectors

    def similarities(self, mix: Mix, items: NDArray[np.integer], sources: NDArray[np.integer]) -> Float32:
        """Return how much like some items other ones are, (sources, items)."""
        placed = units(self.features.of(items).times(mix.map_))
        found: Float32 = mix.vectors[sources] @ placed.T / np.float32(mix.learned_deviation)
        if mix.share > 0:
            alike = sparse.csr_array(self.rare[sources] @ self.rare[items].T).toarray()
            found += alike * np.float32(mix.share / mix.cosine_deviation)
        return found

    def columns(self, mix: Mix, items: NDArray[np.integer], sources: NDArray[np.integer]) -> sparse.csr_array:
        """Return the similarities of each item's SOURCES most similar others, (all items, items)."""
        parts = []
        for block in np.array_split(items, max(1, len(items) * len(sources) // DENSE + 1)):
            parts.append(self.largest(self.similarities(mix, block, sources), sources))
        return sparse.csr_array(sparse.hstack(parts, format="csr"))

    def largest(self, dense: Float32, sources: NDArray[np.integer]) -> sparse.csr_array:
        """Keep the SOURCES largest positive entries of each column of (sources, items), in (all items, items)."""
        kept = min(SOURCES, len(sources))
        rows = np.argpartition(-dense, kept - 1, axis=0)[:kept]
        values = np.maximum(np.take_along_axis(dense, rows, axis=0), 0)
        places = np.broadcast_to(np.arange(dense.shape[1]), rows.shape)
        entries = (values.ravel(), (sources[rows].ravel(), places.ravel()))
        found = sparse.csr_array(entries, shape=(self.items, dense.shape[1]))
        found.eliminate_zeros()
        return found

    def deviations(self, vectors: Float32, map_: Float32, items: NDArray[np.integer]) -> tuple[float, float]:
        """Return the standard deviations of both similarities on a sample."""
        sources = np.flatnonzero(self.warm)
        sources = self.generator.choice(sources, min(len(sources), 2000), replace=False)
        items = items[:500]
        placed = units(self.features.of(items).times(map_))
        alike = sparse.csr_array(self.rare[sources] @ self.rare[items].T)
        squares = float((alike.data**2).sum()) / (len(sources) * len(items))
        mean = float(alike.data.sum()) / (len(sources) * len(items))
        deviation = float((vectors[sources] @ placed.T).std())
        return max(deviation, 1e-6), max(np.sqrt(max(squares - mean**2, 0)), 1e-6)

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
) -> LearnedContent | None:
    """Learn from the content of the items; None if the catalogue says nothing.

    `learned` are the version's item neighbours, `share` is config.content_share.
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
    relevant = learner.seen[:, held].toarray() > 0
    vectors = learner.vectors()
    beside = 1 / max(1 - params.blend, 0.2)  # no neighbour knows an untouched item
    if progress:
        progress("content, choosing weights on items held out")
    map_ = fit_ridge(learner.features, vectors, counted)
    base = Mix(vectors, map_, 0.0, *learner.deviations(vectors, map_, held))
    mix, columns = choose(learner, base, held, sources, relevant)
    scores = learner.known_scores()
    known_best = highest(scores)
    lowest = known_best.min(axis=1, keepdims=True)
    wanted = float(np.count_nonzero((scores[:, held] >= lowest) & (scores[:, held] > 0)))
    scores[:, held] = 0
    others = highest(scores)
    size = size_for(learner.scores(columns) * ~relevant, others, wanted)
    narrow = Mix(units(vectors[:, :STORED]), map_[:, :STORED], 0.0, 1.0, 1.0)
    scale = size_for(learner.scores(learner.columns(narrow, held, sources)) * ~relevant, others, wanted)

    if progress:
        progress("content, learning")
    map_ = fit_ridge(learner.features, vectors, learner.warm)
    mix = replace(mix, map_=map_)
    links = sparse.csr_array((learner.items, learner.items), dtype=np.float32)
    if len(learner.cold):
        columns = learner.columns(mix, learner.cold, warm)
        most = share * PLACES * np.count_nonzero(known_best.any(axis=1))
        size = min(size, size_for(learner.scores(columns), known_best, most))
        links = both_ways(columns, learner.cold, size * beside)
    weights = learner.token_weights
    ids = np.r_[catalogue.token_ids, -np.arange(1, catalogue.embeddings.shape[1] + 1)]
    factors = np.r_[weights, np.ones(catalogue.embeddings.shape[1])]
    kept = np.flatnonzero(factors > 0)
    return LearnedContent(
        links,
        learner.cold,
        units(learner.features.of(learner.cold).times(map_[:, :STORED])),
        scale * beside,
        ids[kept],
        np.r_[weights, np.zeros(catalogue.embeddings.shape[1])].astype(np.float32)[kept],
        (map_[:, :STORED] * factors[:, None]).astype(np.float32)[kept],
        warm,
        units(vectors[warm, :STORED]),
    )


def choose(
    learner: Learner,
    mix: Mix,
    held: NDArray[np.integer],
    sources: NDArray[np.integer],
    relevant: NDArray[np.bool_],
) -> tuple[Mix, sparse.csr_array]:
    """Choose the weight of the cosine by the ranking of the items held out; return it with their similarities."""
    best, chosen, dense = -1.0, None, learner.similarities(mix, held, sources)
    for cosine in SHARES if learner.rare.nnz else SHARES[:1]:
        tried = replace(mix, share=cosine)
        if cosine > 0:
            alike = sparse.csr_array(learner.rare[sources] @ learner.rare[held].T)
            columns = learner.largest(dense + alike.toarray() * np.float32(cosine / mix.cosine_deviation), sources)
        else:
            columns = learner.largest(dense, sources)
        reached = quality(learner.scores(columns), relevant)
        if reached > best * 1.002:
            best, chosen = reached, (tried, columns)
    assert chosen is not None
    return chosen
