"""The weighted interactions as sparse matrices, and the small operations that all learners share.

All of them keep a matrix's sparsity pattern, so no entry is ever dropped because it became 0 or 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Interactions:
    """Weighted interactions, one entry a user and item, as arrays of one length, sorted by user and item."""

    users: NDArray[np.int32]
    """Dense keys from 1."""
    items: NDArray[np.int32]
    """Dense keys from 1."""
    weights: Float32
    """The summed weights of all the pair's interactions."""
    positions: NDArray[np.int16]
    """The item's place in its user's profile, the newest 1, each place taken once."""
    seconds: NDArray[np.int32]
    """When the last of them was; only differences count."""
    shape: tuple[int, int]
    """The shape of their matrix: keys are row and column numbers, so row and column 0 are empty."""

    @classmethod
    def sort(
        cls,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        weights: Float32,
        positions: NDArray[np.int16],
        seconds: NDArray[np.int32],
    ) -> Self:
        """Build interactions from arrays in any order."""
        shape = (int(users.max(initial=0)) + 1, int(items.max(initial=0)) + 1)
        # In linear time: a sparse matrix whose entries are their places, row by row and each row sorted.
        sorting = sparse.csr_array((np.arange(len(users)), (users, items)), shape=shape)
        sorting.sort_indices()
        order = sorting.data
        return cls(users[order], items[order], weights[order], positions[order], seconds[order], shape)

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the chosen entries, in a matrix of the same shape."""
        return replace(
            self,
            users=self.users[chosen],
            items=self.items[chosen],
            weights=self.weights[chosen],
            positions=self.positions[chosen],
            seconds=self.seconds[chosen],
        )

    def newest(self, limit: int) -> Self:
        """Return each user's newest `limit` items: what is scored with."""
        chosen = self.positions <= limit
        return self if chosen.all() else self.where(chosen)

    def matrix(self, exponent: float = 1.0) -> sparse.csr_array:
        """Return W to the exponent, (users, items), in single precision; entries stand in the order of the arrays."""
        starts = np.searchsorted(self.users, np.arange(self.shape[0] + 1)).astype(np.int64)
        return sparse.csr_array((signed_power(self.weights, exponent), self.items, starts), shape=self.shape)

    def ranks(self) -> NDArray[np.int64]:
        """Return each entry's place in its user's profile, the newest 1; what is of one moment shares a place.

        So where no times are known, all places are 1, and recency has no effect.
        """
        order = np.lexsort((-self.seconds.astype(np.int64), self.users))
        users, seconds = self.users[order], self.seconds[order]
        position = np.arange(len(order))
        new_user = np.r_[True, users[1:] != users[:-1]][: len(order)]
        new_moment = new_user | np.r_[True, seconds[1:] != seconds[:-1]][: len(order)]
        first = np.maximum.accumulate(np.where(new_user, position, 0))
        moment = np.maximum.accumulate(np.where(new_moment, position, 0))
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = moment - first + 1
        return ranks

    def sessions(self, gap: float) -> NDArray[np.int64]:
        """Return each entry's session, numbered from 0: a new one for every user and after more than `gap` seconds."""
        order = np.lexsort((self.seconds, self.users))
        users, seconds = self.users[order], self.seconds[order].astype(np.int64)
        new = np.r_[True, (users[1:] != users[:-1]) | (np.diff(seconds) > gap)][: len(order)]
        sessions = np.empty(len(order), dtype=np.int64)
        sessions[order] = np.cumsum(new) - 1
        return sessions

    def with_sessions(self, exponent: float, weight: float, gap: float) -> sparse.csr_array:
        """Return W to the exponent with a row for each session below the users' rows, (users + sessions, items).

        The session rows are scaled so that in W'W they count `weight` times what the users' rows do. Without times
        there is nothing to add: the users' rows are all.
        """
        users = self.matrix(exponent)
        if weight == 0 or len(self.seconds) == 0 or self.seconds.min() == self.seconds.max():
            return users
        sessions = self.sessions(gap)
        data = users.data * np.float32(weight**0.5)
        rows = sparse.csr_array((data, (sessions, self.items)), shape=(int(sessions.max()) + 1, self.shape[1]))
        return sparse.vstack([users, rows], format="csr")


def signed_power(values: NDArray[np.floating], exponent: float) -> Float32:
    """Return sign(x) |x|^exponent, elementwise, in single precision."""
    result: Float32 = (np.sign(values) * np.abs(values) ** exponent).astype(np.float32)
    return result


def power(matrix: sparse.csr_array, exponent: float) -> sparse.csr_array:
    """Return the matrix with sign(x) |x|^exponent for each entry x, in the same places."""
    return sparse.csr_array((signed_power(matrix.data, exponent), matrix.indices, matrix.indptr), shape=matrix.shape)


def inverse_power(sums: NDArray[np.floating], exponent: float) -> Float32:
    """Return sums^-exponent in single precision, 0 where the sum is 0."""
    result = np.zeros(sums.shape, dtype=np.float64)
    positive = sums > 0
    result[positive] = sums[positive].astype(np.float64) ** -exponent
    return result.astype(np.float32)


def row_numbers(matrix: sparse.csr_array) -> NDArray[np.int64]:
    """Return the row of each stored entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def absolute_sums(matrix: sparse.csr_array) -> tuple[Float64, Float64]:
    """Return the row sums and the column sums of |matrix|, in double precision."""
    absolute = np.abs(matrix.data).astype(np.float64)
    rows = np.bincount(row_numbers(matrix), absolute, minlength=matrix.shape[0])
    columns = np.bincount(matrix.indices, absolute, minlength=matrix.shape[1])
    return rows.astype(np.float64), columns.astype(np.float64)


def scale(matrix: sparse.csr_array, by_row: Float32, by_column: Float32) -> sparse.csr_array:
    """Return diag(by_row) matrix diag(by_column)."""
    data = matrix.data * np.repeat(by_row, np.diff(matrix.indptr)) * by_column[matrix.indices]
    return sparse.csr_array((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
