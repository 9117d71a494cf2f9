"""Splits a validation part from events: events to learn from, and the items that users chose after them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdb.learn.events import Events

FRACTION = 0.2
LEAST_USERS = 300
"""Users of a single chosen item make a validation part up to so many users."""
VISIT = 30 * 86400
"""Seconds before a held-out event: other events of the same user and item in this time belong to the same decision."""


INTERESTING = 0.5
"""Share of the items that interest one user, where no times are known: see draw_times().

Chosen on films and a shop with times: how much less popular are a user's last items than the others?"""


@dataclass(frozen=True)
class Validation:
    """Events to learn from, and the relevant items, which came after them."""

    events: Events
    users: NDArray[np.int64]
    """(held-out pairs,): user keys."""
    items: NDArray[np.int64]
    """(held-out pairs,): the relevant items."""


def split(events: Events, *, most_users: int, seed: int = 0) -> Validation:
    """Hold out the last FRACTION (at least one) of the items that each user chose.

    A user chooses an item by an event of a hiding kind that has a positive weight: a purchase where viewed items may be
    recommended again, any event where every kind hides. A kind that hides and weighs 0, such as "shown", is no choice.
    A user's items are ordered by their first such event, at random where no times are
    known. For a held-out item the split removes the user's events of hiding kinds with it. Where times are known, it
    also removes the user's other events with the item from VISIT seconds before the choice on, because the same visit
    would reveal the choice.

    An item is relevant if one of its events, with a value that is not negative nor 0, has a kind that weighs at least
    half as much as the heaviest hiding kind. Users with a single item of any weight have nothing held out. Of the
    others at most `most_users`, drawn at random, have.

    Of a user of a single chosen item the split leaves a user who has chosen none yet. Such users are ranked for by
    other settings than those who have chosen, so they have at most the share that they have among all users: where
    everybody has bought something, no user without a purchase is in the validation part.
    """
    generator = np.random.default_rng(seed)
    pairs, timed = events.pairs, events.timed
    counts = events.weights[events.kinds] != 0
    hiding = np.flatnonzero((events.hides & (events.weights > 0))[events.kinds])
    when = events.seconds[hiding].astype(np.float64) if timed else np.zeros(len(hiding))
    order = np.lexsort((when, pairs[hiding]))
    chosen, first_event = np.unique(pairs[hiding][order], return_index=True)
    when = when[order][first_event] if timed else draw_times(chosen, events.shape, generator)

    users = chosen // events.shape[1]
    order = np.lexsort((generator.random(len(chosen)), -when, users))
    chosen, when, users = chosen[order], when[order], users[order]
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]][: len(users)])
    lengths = np.diff(np.r_[starts, len(users)])
    age = np.arange(len(users)) - np.repeat(starts, lengths)
    quota = np.maximum(1, np.floor(FRACTION * np.repeat(lengths, lengths)))
    items_of = np.bincount(np.unique(pairs[counts]) // events.shape[1], minlength=events.shape[0])
    held = (age < quota) & (items_of[users] > 1)
    single = held & (np.repeat(lengths, lengths) == 1)
    singles, others = int(single.sum()), len(np.unique(users[held & ~single]))
    never = int((items_of > 0).sum() - (items_of[users[starts]] > 0).sum())
    surplus = singles - max(others * never // max(len(starts), 1), LEAST_USERS - others)
    if surplus > 0:
        held[generator.choice(np.flatnonzero(single), surplus, replace=False)] = False
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
    taken = inside & taken
    kept = events.where(~taken)

    heavy = events.hides & (events.weights > 0) & (events.weights >= events.weights[events.hides].max(initial=0) / 2)
    left = np.zeros(events.shape[0], dtype=np.bool_)
    left[events.users[counts & ~taken]] = True
    liked = heavy[events.kinds] if events.values is None else heavy[events.kinds] & (events.values > 0)
    relevant = np.isin(chosen, pairs[liked]) & left[chosen // events.shape[1]]
    return Validation(kept, chosen[relevant] // events.shape[1], chosen[relevant] % events.shape[1])


def draw_times(pairs: NDArray[np.int64], shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw when users chose their items, (pairs,), from 0 to 1, where no times are known.

    A user meets popular items early. INTERESTING of the items interest a user, and each of these comes along at random,
    as a Poisson process. Its rate is the same for all users: in the time of an average user it reaches the share of the
    users who chose the item. A user's own time is the one in which as many items come along as the user chose. So the
    time of a choice is exponential, cut off at the user's time.

    Where users know a small part of the items, all times are nearly alike, and the last items are a random sample.
    Where they know much of the catalogue, the most popular items come first.
    """
    users, items = pairs // shape[1], pairs % shape[1]
    lengths, counts = np.bincount(users, minlength=shape[0]), np.bincount(items, minlength=shape[1])
    share = counts / max(int(np.count_nonzero(lengths)), 1)
    rates = -np.log1p(-np.minimum(share / INTERESTING, 0.95))
    interested = np.maximum(share / 0.95, INTERESTING)
    spans = np.geomspace(1e-4, 1e2, 500)
    _, alike, number = np.unique(counts, return_index=True, return_counts=True)
    met = -np.expm1(-np.outer(spans, rates[alike])) @ (interested[alike] * number)
    span = np.interp(lengths, met, spans)[users]
    latest = -np.expm1(-rates[items] * span)
    times: NDArray[np.float64] = -np.log1p(-latest * generator.random(len(pairs))) / (rates[items] * span)
    return times
