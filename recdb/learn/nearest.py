"""Finds the nearest of many unit vectors: the largest cosines of each row, and cells that narrow the search."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdb.learn.matrix import Float32

GROUP = 64
CELL_SIZE = 125
SAMPLE = 32
"""The number of vectors in the sample that k-means learns from, per cell."""
ITERATIONS = 6
BLOCK_ROWS = 8192


def largest(values: Float32, n: int) -> tuple[NDArray[np.int64], Float32]:
    """Return the columns of each row's `n` largest values, and the values, largest first: both (rows, n).

    Sorting a whole row would take longer than computing it. At least n values of a row are as large as the n-th largest
    maximum of its groups of columns, so only the values that are as large as that are sorted.
    """
    rows, columns = values.shape
    groups = columns // GROUP
    if groups > 2 * n:
        maxima = values[:, : groups * GROUP].reshape(rows, groups, GROUP).max(axis=2)
        bound = np.partition(maxima, groups - n, axis=1)[:, groups - n]
    else:
        bound = np.partition(values, columns - n, axis=1)[:, columns - n]
    at = np.flatnonzero(values >= bound[:, None])
    row, reached = at // columns, values.ravel()[at]
    order = np.lexsort((-reached, row))
    first = np.searchsorted(row, np.arange(rows))
    best = order[first[:, None] + np.arange(n)]
    return at[best] % columns, reached[best]


@dataclass(frozen=True)
class Cells:
    """Vectors sorted by cell; the cells are those of spherical k-means."""

    centres: Float32
    """(cells, d): unit vectors."""
    members: NDArray[np.int64]
    """Row numbers of the vectors, cell by cell."""
    starts: NDArray[np.int64]
    """(cells + 1,): the place in `members` where each cell begins."""
    vectors: Float32
    """The vectors in the order of `members`."""

    def near(self, queries: Float32, probed: int) -> NDArray[np.int64]:
        """Return the numbers, ascending, of the cells that are among the `probed` nearest to any of the queries."""
        count = len(self.centres)
        nearest = np.argpartition(queries @ self.centres.T, max(0, count - probed), axis=1)
        return np.unique(nearest[:, max(0, count - probed) :])

    def places(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places in `members` of the vectors in some cells."""
        return np.concatenate([np.arange(self.starts[cell], self.starts[cell + 1]) for cell in cells])

    def vectors_at(self, places: NDArray[np.int64]) -> Float32:
        """Return the vectors of some places, as places() gives them; without copying where these are all."""
        return self.vectors if len(places) == len(self.vectors) else self.vectors[places]


def make_cells(vectors: Float32, *, count: int | None = None, seed: int = 0) -> Cells:
    """Divide unit vectors (rows, d) into cells, learned from a sample: `count` cells, or one per CELL_SIZE vectors."""
    generator = np.random.default_rng(seed)
    count = count or max(1, len(vectors) // CELL_SIZE)
    if count == 1:
        everything = np.arange(len(vectors))
        return Cells(np.zeros((1, vectors.shape[1]), np.float32), everything, np.array([0, len(vectors)]), vectors)
    sample = vectors[np.sort(generator.choice(len(vectors), size=min(len(vectors), count * SAMPLE), replace=False))]
    centres = sample[generator.choice(len(sample), size=count, replace=False)]
    for _ in range(ITERATIONS):
        cell = nearest_cells(sample, centres)
        order = np.argsort(cell, kind="stable")
        filled, first = np.unique(cell[order], return_index=True)
        sums = np.add.reduceat(sample[order], first, axis=0)
        centres[filled] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    cell = nearest_cells(vectors, centres)
    members = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[members], np.arange(count + 1))
    return Cells(centres, members, starts, vectors[members])


def nearest_cells(vectors: Float32, centres: Float32) -> NDArray[np.int64]:
    """Return the number of the cell whose centre is nearest to each vector by cosine, (rows,)."""
    found = np.empty(len(vectors), dtype=np.int64)
    for block in blocks(len(vectors), BLOCK_ROWS):
        found[block] = np.argmax(vectors[block] @ centres.T, axis=1)
    return found


def blocks(rows: int, step: int) -> Iterator[slice]:
    """Yield slices that cover `rows` rows, `step` at a time."""
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
