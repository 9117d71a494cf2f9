"""Keeps results that are expensive to compute, for later settings that need the same."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

CACHE_BYTES = 2**30
LARGEST_SHARE = 1 / 4
"""A single value that takes more than this share of the bytes is not kept: it would push out too many others."""
Value = TypeVar("Value")


class Cache:
    """The values that were used last, by key, as many as fit into a number of bytes."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self.most = most
        self.values: OrderedDict[Any, Any] = OrderedDict()
        self._sizes: dict[Any, int] = {}

    def __contains__(self, key: Any) -> bool:
        return key in self.values

    def get(self, key: Any, compute: Callable[[], Value]) -> Value:
        """Return the value of `key`; compute it if it is not kept."""
        if key not in self.values:
            computed = compute()
            size = bytes_of(computed)
            if size > LARGEST_SHARE * self.most:
                return computed
            self.values[key], self._sizes[key] = computed, size
            while sum(self._sizes.values()) > self.most:
                oldest, _ = self.values.popitem(last=False)
                del self._sizes[oldest]
        self.values.move_to_end(key)
        value: Value = self.values[key]
        return value


def bytes_of(value: Any) -> int:
    """Return how many bytes the arrays in a value take."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, sparse.csr_array):
        return int(value.data.nbytes + value.indices.nbytes + value.indptr.nbytes)
    if value is None or isinstance(value, int | float):
        return 8
    return sum(map(bytes_of, value if isinstance(value, tuple) else vars(value).values()))
