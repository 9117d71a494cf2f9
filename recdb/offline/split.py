"""Cutting a validation part from events: what to learn from, and what was chosen after it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdb.learn.events import Events

FRACTION = 0.2
VISIT = 30 * 86400
"""Seconds before a held-out event in which other events of its pair belong to the same decision."""


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
