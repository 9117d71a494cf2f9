"""Interactions one by one, and how a validation part is cut from them."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float64, Interactions

FRACTION = 0.2
VISIT = 30 * 86400
"""Seconds before a held-out event in which other events of its pair belong to the same decision."""


@dataclass(frozen=True)
class Events:
    """Interactions as they happened, as arrays of one length."""

    users: NDArray[np.int32]
    """Dense keys from 1."""
    items: NDArray[np.int32]
    """Dense keys from 1."""
    kinds: NDArray[np.int16]
    """Numbers of the kinds, from 0."""
    seconds: NDArray[np.int32]
    """When; only differences count."""
    weights: Float64
    """(kinds,): what a kind weighs."""
    hides: NDArray[np.bool_]
    """(kinds,): whether it hides its item."""
    shape: tuple[int, int]
    """Largest user and item key, plus 1 each."""
    half_life: float | None = None
    """Seconds after which an event counts half as much; None: time does not matter."""

    @property
    def timed(self) -> bool:
        """Whether times are known: whether not all are the same."""
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
        )

    def renumbered(self) -> Self:
        """Number the users that occur from 1, in the same order."""
        numbers, users = np.unique(self.users, return_inverse=True)
        return replace(self, users=(users + 1).astype(np.int32), shape=(len(numbers) + 1, self.shape[1]))

    def interactions(self) -> Interactions:
        """Sum the weights by user and item, as the database does."""
        pairs, group = np.unique(self.pairs, return_inverse=True)
        values = self.weights[self.kinds]
        if self.half_life is not None:
            values = values * np.exp2(np.maximum(self.seconds / self.half_life, -500))
        weights = np.bincount(group, values, minlength=len(pairs))
        seconds = np.full(len(pairs), np.iinfo(np.int32).min, dtype=np.int32)
        np.maximum.at(seconds, group, self.seconds)
        users = (pairs // self.shape[1]).astype(np.int32)
        items = (pairs % self.shape[1]).astype(np.int32)
        order = np.lexsort((items, -seconds.astype(np.int64), users))
        first = np.flatnonzero(np.r_[True, users[order][1:] != users[order][:-1]])
        lengths = np.diff(np.r_[first, len(order)])
        positions = np.empty(len(pairs), dtype=np.int64)
        positions[order] = np.arange(len(order)) - np.repeat(first, lengths) + 1
        known = np.abs(weights) > 1e-9 * np.bincount(group, np.abs(values), minlength=len(pairs))
        whole = Interactions(
            users,
            items,
            weights.astype(np.float32),
            np.minimum(positions, np.iinfo(np.int16).max).astype(np.int16),
            seconds,
            self.shape,
        )
        return whole if known.all() else whole.where(known)

    def hidden(self) -> sparse.csr_array:
        """Return which items are hidden from which users, (users, items), not 0 where they are."""
        hiding = self.where(self.hides[self.kinds])
        ones = np.ones(len(hiding.users), dtype=np.float32)
        return sparse.csr_array((ones, (hiding.users, hiding.items)), shape=self.shape)


@dataclass(frozen=True)
class Validation:
    """Events to learn from, and what came after them."""

    events: Events
    users: NDArray[np.int64]
    """(held-out pairs,): user keys."""
    items: NDArray[np.int64]
    """(held-out pairs,): the items that are to be found."""


def split(events: Events, *, most_users: int, seed: int = 0) -> Validation:
    """Cut a validation part: the last FRACTION (at least one) of the items that each user chose by a hiding kind.

    Hiding kinds are what a recommendation is for: a purchase where views come back, everything where all hides. Items
    are in the order of their first such event, at random where no times are known. Taken from the events are those of
    hiding kinds, and, where times are known, the pair's other events from VISIT seconds before on, since the same
    visit would give the choice away. To be found are the items with an event of a kind that weighs at least half of
    what the heaviest hiding kind does. Users with a single item have nothing held out; of the others at most
    `most_users` have, at random.
    """
    generator = np.random.default_rng(seed)
    pairs, timed = events.pairs, events.timed
    hiding = np.flatnonzero(events.hides[events.kinds])
    when = events.seconds[hiding].astype(np.float64) if timed else generator.random(len(hiding))
    order = np.lexsort((when, pairs[hiding]))
    chosen, first_event = np.unique(pairs[hiding][order], return_index=True)
    when = when[order][first_event]

    users = chosen // events.shape[1]
    order = np.lexsort((generator.random(len(chosen)), -when, users))
    chosen, when, users = chosen[order], when[order], users[order]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]][: len(users)])
    lengths = np.diff(np.r_[starts, len(users)])
    age = np.arange(len(users)) - np.repeat(starts, lengths)
    quota = np.maximum(1, np.floor(FRACTION * np.repeat(lengths, lengths)))
    items_of = np.bincount(np.unique(pairs) // events.shape[1], minlength=events.shape[0])
    held = (age < quota) & (items_of[users] > 1)
    candidates = np.unique(users[held])
    if len(candidates) > most_users:
        held &= np.isin(users, generator.choice(candidates, most_users, replace=False))

    order = np.argsort(chosen[held])
    chosen, when = chosen[held][order], when[held][order]
    place = np.minimum(np.searchsorted(chosen, pairs), max(len(chosen) - 1, 0))
    inside = chosen[place] == pairs if len(chosen) else np.zeros(len(pairs), dtype=np.bool_)
    taken = events.hides[events.kinds]
    if timed:
        taken = taken | (events.seconds >= (when[place] if len(when) else 0) - VISIT)
    kept = events.where(~(inside & taken))

    heavy = events.hides & (events.weights >= events.weights[events.hides].max(initial=0) / 2)
    left = np.zeros(events.shape[0], dtype=np.bool_)
    left[kept.users] = True
    wanted = np.isin(chosen, pairs[heavy[events.kinds]]) & left[chosen // events.shape[1]]
    return Validation(kept, chosen[wanted] // events.shape[1], chosen[wanted] % events.shape[1])
