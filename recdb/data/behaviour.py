"""The behaviour behind generated interactions: users with tastes touch items with topics. Pure numpy, no database.

The id of a user decides the user's tastes, activity and joining date; the id of an item decides its topic, appeal and
publishing date. A random generator draws the actions of users, in blocks of time, so that memory stays small.
Times are days since the epoch, unless a name says seconds.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A touch of an item is a view; some go on to a click, a like, a share. On average a touch makes two interactions,
# and of all interactions 50 % are views, 30 % clicks, 15 % likes and 5 % shares.
KINDS = ("view", "click", "like", "share")
DEPTH_SHARES = (0.4, 0.3, 0.2, 0.1)

# The shares of a user's touches that go to the first, second and third taste; the rest goes to any topic.
TASTE_SHARES = (0.55, 0.2, 0.15)
ITEMS_A_TOPIC = 40
MOST_TOPICS = 400

# Spread of the lognormal activity of users and appeal of items.
ACTIVITY_SIGMA = 1.0
APPEAL_SIGMA = 1.3
NOVELTY_BOOST = 3.0
NOVELTY_DAYS = 5.0

# The traits, as salts of trait(); TASTE is the first of three.
JOINED, ACTIVITY, TOPIC, APPEAL, PUBLISHED, OWNER, ADJECTIVE, TASTE = range(8)

BLOCK_TOUCHES = 200_000
FEWEST_BLOCKS = 32
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Users:
    """Users in the order of joining: ids, joining days, cumulated activity, three tastes each (n, 3)."""

    ids: list[str]
    joined: Floats
    activity: Floats
    tastes: Ints


@dataclass(frozen=True)
class Items:
    """Items in the order of topics: ids, publishing days, appeal, and the first position of each topic (topics + 1)."""

    ids: list[str]
    published: Floats
    appeal: Floats
    bounds: Ints


@dataclass(frozen=True)
class Touches:
    """Touches in a block of time: positions of user and item, second of the epoch, depth (1 view .. 4 share)."""

    users: Ints
    items: Ints
    seconds: Floats
    depths: NDArray[np.int8]


# Traits ---------------------------------------------------------------------------------------------------


def trait(ids: Sequence[str], salt: int) -> Floats:
    """Return a number in (0, 1) for each id, always the same for the same id and salt (splitmix64 over CRC-32)."""
    keys = np.fromiter((zlib.crc32(identifier.encode()) for identifier in ids), dtype=np.uint64, count=len(ids))
    with np.errstate(over="ignore"):
        keys += np.uint64(salt + 1) * np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    return ((keys >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def topic_count(items: int) -> int:
    """Return the number of topics for a number of items."""
    return int(np.clip(items // ITEMS_A_TOPIC, 1, MOST_TOPICS))


def draw_users(ids: Sequence[str], start: float, end: float, topics: int) -> Users:
    """Give users their traits; half of them join in the first quarter of the time."""
    joined = start + 0.95 * (end - start) * trait(ids, JOINED) ** 2
    order = np.argsort(joined, kind="stable")
    activity = np.exp(ACTIVITY_SIGMA * ndtri(trait(ids, ACTIVITY)))
    tastes = np.stack([trait(ids, TASTE + slot) * topics for slot in range(len(TASTE_SHARES))], axis=1).astype(np.int64)
    return Users([ids[position] for position in order], joined[order], np.cumsum(activity[order]), tastes[order])


def draw_items(ids: Sequence[str], published: Floats) -> Items:
    """Give items their traits."""
    topics = topic_count(len(ids))
    topic = item_topics(ids)
    order = np.argsort(topic, kind="stable")
    appeal = np.exp(APPEAL_SIGMA * ndtri(trait(ids, APPEAL)))
    bounds = np.searchsorted(topic[order], np.arange(topics + 1))
    return Items([ids[position] for position in order], published[order], appeal[order], bounds)


def item_topics(ids: Sequence[str]) -> Ints:
    """Return each item's topic."""
    return (trait(ids, TOPIC) * topic_count(len(ids))).astype(np.int64)


# Behaviour ------------------------------------------------------------------------------------------------


def draw_depths(rng: np.random.Generator, count: int) -> NDArray[np.int8]:
    """Draw the depth of each touch, so that all touches together make exactly `count` interactions."""
    touches = count / 2
    deeper = [int(touches * share) for share in DEPTH_SHARES[1:]]
    views = count - sum(depth * number for depth, number in enumerate(deeper, 2))
    depths = np.repeat(np.arange(1, 5, dtype=np.int8), [views, *deeper])
    rng.shuffle(depths)
    return depths


def draw_touches(
    rng: np.random.Generator, users: Users, items: Items, depths: NDArray[np.int8], period: tuple[float, float]
) -> Iterator[Touches]:
    """Draw which user touches which item at which time, one block of time after the other.

    Users are drawn by activity from those that have joined, each at least once if there are enough touches. The topic
    is drawn by the user's tastes, and the item by appeal and novelty from the topic's published items.
    """
    blocks = max(FEWEST_BLOCKS, -(-len(depths) // BLOCK_TOUCHES))
    edges = np.linspace(*period, blocks + 1)
    joined = np.searchsorted(users.joined, edges)
    newcomers = np.diff(joined) if len(depths) >= len(users.ids) else np.zeros(blocks, dtype=np.int64)
    active = np.append(0.0, users.activity)[joined[1:]]
    sizes = newcomers + rng.multinomial(len(depths) - newcomers.sum(), active / active.sum())
    stops = np.cumsum(sizes)
    for block, (size, stop) in enumerate(zip(sizes, stops, strict=True)):
        present = joined[block + 1]
        who = np.searchsorted(users.activity[:present], rng.random(size) * users.activity[max(present, 1) - 1])
        if newcomers[block]:
            who[: newcomers[block]] = np.arange(joined[block], present)
        seconds = np.sort(waking_seconds(rng, edges[block], edges[block + 1], size))
        rng.shuffle(who)
        what = choose_items(rng, users.tastes[who], items, edges[block])
        yield Touches(who, what, seconds, depths[stop - size : stop])


def waking_seconds(rng: np.random.Generator, start: float, end: float, size: int) -> Floats:
    """Draw times (seconds of the epoch) between two days, few at night and most in the evening."""
    hours = np.linspace(0, 1, 97)
    passed = hours - 0.8 / (2 * np.pi) * (np.sin(2 * np.pi * (hours - 1 / 6)) - np.sin(-np.pi / 3))
    low, high = (np.floor(edge) + np.interp(edge % 1, hours, passed) for edge in (start, end))
    drawn = low + (high - low) * rng.random(size)
    moments: Floats = (np.floor(drawn) + np.interp(drawn % 1, passed, hours)) * DAY_SECONDS
    return moments


def choose_items(rng: np.random.Generator, tastes: Ints, items: Items, now: float) -> Ints:
    """Choose an item for each row of tastes (rows, 3); return positions."""
    age = now - items.published
    appeal = items.appeal * (1 + NOVELTY_BOOST * np.exp(-np.maximum(age, 0) / NOVELTY_DAYS)) * (age >= 0)
    if not appeal.any():
        appeal = items.appeal
    total = np.append(0.0, np.cumsum(appeal))
    slot = np.searchsorted(np.cumsum(TASTE_SHARES), rng.random(len(tastes)))
    anything = slot == len(TASTE_SHARES)
    topic = tastes[np.arange(len(tastes)), np.where(anything, 0, slot)]
    low, high = total[items.bounds[topic]], total[items.bounds[topic + 1]]
    anything |= low == high
    low, high = np.where(anything, 0.0, low), np.where(anything, total[-1], high)
    # Rounding may turn the end of a topic into the first item of the next topic, but never passes the last item.
    position = np.searchsorted(total, low + (high - low) * rng.random(len(tastes)), side="right") - 1
    chosen: Ints = np.minimum(position, len(items.ids) - 1)
    return chosen
