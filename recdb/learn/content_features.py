"""The features of items that content is learned from: tokens and embeddings, and regressions on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float32, Float64, scale_rows

STEPS = 8
"""Steps of conjugate gradients; few of them regularize as well."""
DIRECT_RIDGE = 1.0
ALONE_RIDGE = 0.5
DENSE = 10_000_000
"""The most elements of a dense block of features and items."""


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

    def entries(self) -> int:
        """Return how many entries the rows have."""
        return int(self.tokens.nnz + self.embeddings.size)

    def of(self, items: NDArray[np.integer]) -> "Features":
        """Return the rows of some items."""
        return Features(self.tokens[items], self.embeddings[items])


@dataclass(frozen=True)
class SingleTokens:
    """The tokens that a single item of the catalogue has; arrays of one length."""

    numbers: NDArray[np.int64]
    items: NDArray[np.int64]
    owners: NDArray[np.bool_]
    """Whether the token is an owner."""

    def of(self, touched: NDArray[np.bool_], users: NDArray[np.integer], most: int) -> "SingleTokens":
        """Return those of touched items, at most `most`: owners first, then of the items with the most users."""
        kept = np.flatnonzero(touched[self.items])
        order = np.lexsort((self.numbers[kept], -users[self.items[kept]], ~self.owners[kept]))
        kept = kept[order[:most]]
        return SingleTokens(self.numbers[kept], self.items[kept], self.owners[kept])

    def directions(self, vectors: Float32, others: Float64, weight: float, ridge: float) -> Float32:
        """Return the vector that each token adds to the vector of an item that has it, (tokens, width).

        It is the ridge regression of one item: `vectors` (items, width) are the targets, `others` (items,) the squared
        lengths of the items' rows without these tokens, of which each has this weight.
        """
        alone = np.bincount(self.items, minlength=len(others)) * weight**2
        feature = weight / np.sqrt(others + alone)[self.items]
        found: Float32 = vectors[self.items] * (weight * feature / (feature**2 + ridge))[:, None].astype(np.float32)
        return found


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
    """(items,): whether the item may be recommended, now or from when it is published."""
    single: SingleTokens
    """The tokens that are not in `tokens` because one item alone has them."""
    digests: NDArray[np.int64]
    """(items,): hashes of their content."""


def idf(tokens: sparse.csr_array) -> Float64:
    """Return log(items / items with the token), (tokens,); 0 for tokens of a single item."""
    counts = np.bincount(tokens.indices, minlength=tokens.shape[1])
    items = max(int(np.count_nonzero(np.diff(tokens.indptr))), 1)
    return np.where(counts > 1, np.log((items + 1) / np.maximum(counts, 1)), 0.0)


def idf_of_one(tokens: sparse.csr_array) -> float:
    """Return the idf that a token of a single item would have."""
    return float(np.log(max(int(np.count_nonzero(np.diff(tokens.indptr))), 1) + 1))


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


def solve(rows: Features, right: Float32, ridge: float) -> Float32:
    """Return X of (F'F + ridge) X = right, (features, width), by STEPS steps of conjugate gradients."""
    residual = right.copy()
    found = np.zeros_like(residual)
    direction = residual.copy()
    squares = (residual * residual).sum(axis=0)
    for _ in range(STEPS):
        image = rows.transposed(rows.times(direction)) + np.float32(ridge) * direction
        steps = squares / np.maximum((direction * image).sum(axis=0), 1e-30)
        found += steps * direction
        residual -= steps * image
        before, squares = squares, (residual * residual).sum(axis=0)
        direction = residual + squares / np.maximum(before, 1e-30) * direction
    return found


def fit_ridge(features: Features, targets: Float32, counted: NDArray[np.bool_], ridge: float) -> Float32:
    """Return the map B of the least |F B - T|^2 + ridge |B|^2 over the items that count."""
    rows = np.flatnonzero(counted)
    chosen = features.of(rows)
    return solve(chosen, chosen.transposed(targets[rows]), ridge)


def fit_alone(features: Features, targets: Float32, counted: NDArray[np.bool_]) -> Float32:
    """Return for each feature the ridge regression on it alone, (features, width), over the items that count."""
    rows = np.flatnonzero(counted)
    chosen = features.of(rows)
    squares = np.r_[
        np.asarray(chosen.tokens.power(2).sum(axis=0)).ravel(), np.square(chosen.embeddings).sum(axis=0)
    ].astype(np.float32)
    found: Float32 = chosen.transposed(targets[rows]) / (squares + np.float32(ALONE_RIDGE))[:, None]
    return found


def directly_alike(features: Features, sources: NDArray[np.integer], items: NDArray[np.integer]) -> Float32:
    """Return G (F'F + DIRECT_RIDGE)^-1 H', (sources, items); F and G are the features of the sources, H of the items.

    Of two features that always stand together only one counts. A profile times this is the ridge regression of the
    profile on the features.
    """
    rows = features.of(sources)
    width = features.tokens.shape[1] + features.embeddings.shape[1]
    found = np.empty((len(sources), len(items)), dtype=np.float32)
    step = max(1, DENSE // max(width, 1))
    for start in range(0, len(items), step):
        block = items[start : start + step]
        right = features.of(block).transposed(np.eye(len(block), dtype=np.float32))
        found[:, start : start + step] = rows.times(solve(rows, right, DIRECT_RIDGE))
    return found
