"""The nearest of many unit vectors: the largest of each row's cosines, and cells that narrow down where to look."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdb.learn.matrix import Float32

GROUP = 64
CELL_SIZE = 125
SAMPLE = 32
"""How many vectors a cell is learned from."""
ITERATIONS = 6
BLOCK_ROWS = 8192


def largest(values: Float32, n: int) -> tuple[NDArray[np.int64], Float32]:
    """Return the columns of each row's `n` largest values, and the values, largest first: both (rows, n).

    Sorting a whole row would take longer than computing it. The n-th largest of the maxima of groups of columns is
    reached by n values at least, so only what reaches it is sorted.
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
    """Vectors sorted by the cell they are in; cells are those of spherical k-means."""

    centres: Float32
    """(cells, d): unit vectors."""
    members: NDArray[np.int64]
    """Row numbers of the vectors, cell by cell."""
    starts: NDArray[np.int64]
    """(cells + 1,): where each cell begins in `members`."""
    vectors: Float32
    """The vectors in the order of `members`."""

    def near(self, queries: Float32, probed: int) -> NDArray[np.int64]:
        """Return the cells that are among the `probed` nearest to any of some queries, in ascending order."""
        count = len(self.centres)
        nearest = np.argpartition(queries @ self.centres.T, max(0, count - probed), axis=1)
        return np.unique(nearest[:, max(0, count - probed) :])

    def places(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places in `members` of what is in some cells."""
        return np.concatenate([np.arange(self.starts[cell], self.starts[cell + 1]) for cell in cells])

    def vectors_at(self, places: NDArray[np.int64]) -> Float32:
        """Return the vectors of some places, as places() gives them; without a copy where that is all."""
        return self.vectors if len(places) == len(self.vectors) else self.vectors[places]


def make_cells(vectors: Float32, *, count: int | None = None, seed: int = 0) -> Cells:
    """Divide unit vectors (rows, d) into cells, learned from a sample: `count`, else one for CELL_SIZE vectors."""
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
    """Return the cell with the largest cosine to each vector, (rows,)."""
    found = np.empty(len(vectors), dtype=np.int64)
    for block in blocks(len(vectors), BLOCK_ROWS):
        found[block] = np.argmax(vectors[block] @ centres.T, axis=1)
    return found


def blocks(rows: int, step: int) -> Iterator[slice]:
    """Yield slices that cover so many rows, `step` at a time."""
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
