"""The weighted interactions as sparse matrices, and the small operations that learning and scoring share.

The operations on a matrix keep its stored entries and their order: no entry is dropped because it became 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Precision = type[np.float32] | type[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Interactions:
    """Weighted interactions, one entry per user and item, as arrays of one length, sorted by user and item."""

    users: NDArray[np.int32]
    """Dense keys from 1."""
    items: NDArray[np.int32]
    """Dense keys from 1."""
    weights: Float32
    """The sum of the weights of the pair's interactions."""
    positions: NDArray[np.int16]
    """The item's position in its user's profile: 1 is the item with the largest precedence, and no two items share a
    position."""
    seconds: NDArray[np.int32]
    """The time of the pair's last interaction, in seconds; only differences count."""
    shape: tuple[int, int]
    """Shape of the users x items matrix. Keys are row and column numbers, so row 0 and column 0 are empty."""

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
        # A sparse matrix sorts its rows in linear time: each entry holds its place in the arrays.
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

    def first(self, limit: int) -> Self:
        """Return each user's first `limit` items by position."""
        chosen = self.positions <= limit
        return self if chosen.all() else self.where(chosen)

    def matrix(self, exponent: float = 1.0) -> sparse.csr_array:
        """Return W to the exponent, (users, items), in single precision; entries stand in the order of the arrays."""
        starts = np.searchsorted(self.users, np.arange(self.shape[0] + 1)).astype(np.int64)
        return sparse.csr_array((signed_power(self.weights, exponent), self.items, starts), shape=self.shape)

    def ranks(self) -> NDArray[np.int64]:
        """Return each entry's rank in its user's profile: 1 is the newest; items with the same timestamp share a rank.

        Where no times are known, all ranks are 1, and recency has no effect.
        """
        order = np.lexsort((-self.seconds.astype(np.int64), self.users))
        users, seconds = self.users[order], self.seconds[order]
        position = np.arange(len(order))
        new_user = np.r_[True, users[1:] != users[:-1]][: len(order)]
        new_time = new_user | np.r_[True, seconds[1:] != seconds[:-1]][: len(order)]
        first_of_user = np.maximum.accumulate(np.where(new_user, position, 0))
        first_of_time = np.maximum.accumulate(np.where(new_time, position, 0))
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = first_of_time - first_of_user + 1
        return ranks

    def sessions(self, gap: float) -> NDArray[np.int64]:
        """Return each entry's session, numbered from 0: a new one for every user and after more than `gap` seconds."""
        order = np.lexsort((self.seconds, self.users))
        users, seconds = self.users[order], self.seconds[order].astype(np.int64)
        new = np.r_[True, (users[1:] != users[:-1]) | (np.diff(seconds) > gap)][: len(order)]
        sessions = np.empty(len(order), dtype=np.int64)
        sessions[order] = np.cumsum(new) - 1
        return sessions

    def clipped(self, limit: float) -> Self:
        """Return the interactions with no weight above a limit, nor below its negative."""
        return replace(self, weights=np.clip(self.weights, -limit, limit))


def precedence(weights: NDArray[Any], ranks: NDArray[np.integer]) -> Float64:
    """Return the precedence of items in their user's profile, as recdb.precedence(): |weight| rank^-0.6."""
    values: Float64 = np.abs(weights) * ranks.astype(np.float64) ** -0.6
    return values


def signed_power(values: NDArray[np.floating], exponent: float, dtype: Precision = np.float32) -> NDArray[Any]:
    """Return sign(x) |x|^exponent, elementwise."""
    result: NDArray[Any] = (np.sign(values) * np.abs(values) ** exponent).astype(dtype, copy=False)
    return result


def power(matrix: sparse.csr_array, exponent: float, dtype: Precision = np.float32) -> sparse.csr_array:
    """Return the matrix with sign(x) |x|^exponent for each entry x."""
    return with_data(matrix, signed_power(matrix.data, exponent, dtype))


def inverse_power(sums: NDArray[np.floating], exponent: float, dtype: Precision = np.float32) -> NDArray[Any]:
    """Return sums^-exponent, elementwise, computed in double precision; 0 where the sum is 0."""
    result = np.zeros(sums.shape, dtype=np.float64)
    positive = sums > 0
    result[positive] = sums[positive].astype(np.float64) ** -exponent
    return result.astype(dtype, copy=False)


def with_data(matrix: sparse.csr_array, data: NDArray[Any]) -> sparse.csr_array:
    """Return a matrix with other entries in the same places and the same order.

    The methods of scipy's matrices, such as abs() and astype(), may sort the entries first.
    """
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


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
    """Return diag(by_row) matrix diag(by_column), in single precision."""
    data = matrix.data * np.repeat(by_row, np.diff(matrix.indptr)) * by_column[matrix.indices]
    return with_data(matrix, data.astype(np.float32))


def scale_rows(matrix: sparse.csr_array, by_row: NDArray[Any]) -> sparse.csr_array:
    """Return diag(by_row) matrix, in the precision of both."""
    return with_data(matrix, matrix.data * np.repeat(by_row, np.diff(matrix.indptr)))


def largest_to_one(matrix: sparse.csr_array, dtype: Precision = np.float32) -> sparse.csr_array:
    """Scale each row so that its largest magnitude is 1; rows of 0 stay 0."""
    largest = np.zeros(matrix.shape[0], dtype=dtype)
    filled = np.diff(matrix.indptr) > 0
    if filled.any():
        largest[filled] = np.maximum.reduceat(np.abs(matrix.data), matrix.indptr[:-1][filled])
    return scale_rows(matrix, inverse_power(largest, 1.0, dtype))
