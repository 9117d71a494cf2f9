"""The tokens of items: the words, attributes and owners of the catalogue, as the numbers that item_tokens() gives."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MOST_TOKENS = 100_000
"""The tokens that most items have count, at most so many."""


@dataclass(frozen=True)
class TokenSets:
    """The tokens of items, each of an item's own once."""

    numbers: NDArray[np.int64]
    """(entries,): those of item n are numbers[starts[n]:starts[n + 1]]."""
    starts: NDArray[np.int64]
    """(items + 1,)."""

    @classmethod
    def of_lists(cls, lists: list[NDArray[np.int64]]) -> Self:
        """Put the tokens of items together, one array for each."""
        starts = np.cumsum([0, *(len(each) for each in lists)], dtype=np.int64)
        return cls(np.concatenate(lists) if lists else np.empty(0, dtype=np.int64), starts)

    @classmethod
    def together(cls, parts: list[Self]) -> Self:
        """Put sets together, one after the other."""
        counts = [np.diff(part.starts) for part in parts]
        starts = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)
        return cls(np.concatenate([np.empty(0, dtype=np.int64), *(part.numbers for part in parts)]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, items: NDArray[np.integer]) -> Self:
        """Return the tokens of some items."""
        counts = np.diff(self.starts)[items]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[items] - starts[:-1], counts)
        return type(self)(self.numbers[places], starts)

    def common(self) -> NDArray[np.int64]:
        """Return the tokens that count, ascending: at least two items have them."""
        tokens, counts = np.unique(self.numbers, return_counts=True)
        tokens, counts = tokens[counts > 1], counts[counts > 1]
        return np.sort(tokens[np.lexsort((tokens, -counts))[:MOST_TOKENS]])

    def single(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tokens that one item alone has, and that item: two arrays of one length."""
        tokens, first, counts = np.unique(self.numbers, return_index=True, return_counts=True)
        alone = counts == 1
        return tokens[alone], np.searchsorted(self.starts, first[alone], side="right") - 1

    def matrix(self, tokens: NDArray[np.int64]) -> sparse.csr_array:
        """Return which items have which tokens, (items, tokens): 1 where they do. `tokens` are ascending."""
        places = np.minimum(np.searchsorted(tokens, self.numbers), max(len(tokens) - 1, 0))
        known = tokens[places] == self.numbers if len(tokens) else np.zeros(len(self.numbers), dtype=np.bool_)
        starts = np.concatenate([[0], np.cumsum(known)])[self.starts]
        ones = np.ones(int(starts[-1]), dtype=np.float32)
        return sparse.csr_array((ones, places[known], starts), shape=(len(self), len(tokens)))
