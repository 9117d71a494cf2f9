"""Interactions one by one, as arrays."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float64, Interactions, precedence


@dataclass(frozen=True)
class Events:
    """Interactions one by one, as arrays of one length."""

    users: NDArray[np.int32]
    """Dense keys from 1."""
    items: NDArray[np.int32]
    """Dense keys from 1."""
    kinds: NDArray[np.int16]
    """Numbers of the kinds, from 0."""
    seconds: NDArray[np.int32]
    """The time of the event, in seconds; only differences count."""
    weights: Float64
    """(kinds,): the weight of each kind."""
    hides: NDArray[np.bool_]
    """(kinds,): whether an event of the kind hides its item."""
    shape: tuple[int, int]
    """Largest user and item key, plus 1 each."""
    half_life: float | None = None
    """Seconds after which an event counts half as much; None for no decay."""
    values: Float64 | None = None
    """The number that the weight of the event's kind is multiplied by; None where all are 1."""

    @property
    def timed(self) -> bool:
        """Whether times are known: false where all events have the same time."""
        return bool(len(self.seconds)) and bool(self.seconds.min() != self.seconds.max())

    @property
    def pairs(self) -> NDArray[np.int64]:
        """A number for each event's user and item."""
        return self.users.astype(np.int64) * self.shape[1] + self.items

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the chosen events."""
        return replace(
            self,
            users=self.users[chosen],
            items=self.items[chosen],
            kinds=self.kinds[chosen],
            seconds=self.seconds[chosen],
            values=None if self.values is None else self.values[chosen],
        )

    def joined(self, others: Self) -> Self:
        """Return these events and others, with the same kinds."""
        return replace(
            self,
            users=np.concatenate([self.users, others.users]),
            items=np.concatenate([self.items, others.items]),
            kinds=np.concatenate([self.kinds, others.kinds]),
            seconds=np.concatenate([self.seconds, others.seconds]),
            shape=(max(self.shape[0], others.shape[0]), max(self.shape[1], others.shape[1])),
            values=None if self.values is None or others.values is None else np.r_[self.values, others.values],
        )

    def renumbered(self) -> Self:
        """Number the users that occur from 1, in the order of their keys."""
        numbers, users = np.unique(self.users, return_inverse=True)
        return replace(self, users=(users + 1).astype(np.int32), shape=(len(numbers) + 1, self.shape[1]))

    def interactions(self) -> Interactions:
        """Sum the weights by user and item, as recdb.rebuild() does."""
        pairs, group = np.unique(self.pairs, return_inverse=True)
        values = self.weights[self.kinds]
        if self.values is not None:
            values = values * self.values
        if self.half_life is not None:
            values = values * np.exp2(np.maximum(self.seconds / self.half_life, -50))
        weights = np.bincount(group, values, minlength=len(pairs))
        seconds = np.full(len(pairs), np.iinfo(np.int32).min, dtype=np.int32)
        np.maximum.at(seconds, group, self.seconds)
        users = (pairs // self.shape[1]).astype(np.int32)
        items = (pairs % self.shape[1]).astype(np.int32)
        known = np.abs(weights) > 1e-9 * np.bincount(group, np.abs(values), minlength=len(pairs))
        users, items, weights, seconds = users[known], items[known], weights[known], seconds[known]
        whole = Interactions(
            users, items, weights.astype(np.float32), np.zeros(len(users), dtype=np.int16), seconds, self.shape
        )
        order = np.lexsort((items, -seconds.astype(np.int64), -precedence(weights, whole.ranks()), users))
        first = np.flatnonzero(np.r_[True, users[order][1:] != users[order][:-1]][: len(order)])
        lengths = np.diff(np.r_[first, len(order)])
        positions = np.empty(len(users), dtype=np.int64)
        positions[order] = np.arange(len(order)) - np.repeat(first, lengths) + 1
        return replace(whole, positions=np.minimum(positions, np.iinfo(np.int16).max).astype(np.int16))

    def hidden(self) -> sparse.csr_array:
        """Return which items are hidden from which users, (users, items); not 0 where an item is hidden."""
        hiding = self.where(self.hides[self.kinds])
        ones = np.ones(len(hiding.users), dtype=np.float32)
        return sparse.csr_array((ones, (hiding.users, hiding.items)), shape=self.shape)
