"""Generating plausible interactions, in any number, to try recdb and to measure it.

The ids decide the tastes of users and the topics of items; the seed decides the interactions (recdb.data.behaviour).
So a second run with another seed adds more of the same behaviour. One COPY in one transaction writes everything,
block after block, so that memory stays small and an interruption leaves nothing behind.

Generated rows carry the seed: `metadata ? 'generated'` on interactions, `attributes ? 'generated'` on items. This
tells them apart from other data, and removes one run again:

    delete from recdb.interaction where metadata @> '{"generated": 42}';
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import psycopg

from recdb.citus import use_connections
from recdb.data.behaviour import (
    ADJECTIVE,
    DAY_SECONDS,
    KINDS,
    OWNER,
    PUBLISHED,
    Floats,
    Ints,
    Items,
    Touches,
    Users,
    draw_depths,
    draw_items,
    draw_touches,
    draw_users,
    item_topics,
    trait,
)
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import InvalidInput, RecdbError
from recdb.migrate import require_whole
from recdb.progress import Report, silent

TOPICS = (
    "astronomy", "baking", "birds", "chess", "cinema", "climbing", "cooking", "cycling", "design", "drawing",
    "fashion", "fishing", "football", "gardening", "guitar", "hiking", "history", "jazz", "knitting", "maps",
    "music", "opera", "painting", "photography", "physics", "pottery", "robots", "running", "sailing", "science",
    "skiing", "startups", "surfing", "swimming", "tennis", "theatre", "travel", "typography", "wine", "yoga",
)  # fmt: skip
ADJECTIVES = ("A quiet", "A bold", "A slow", "An easy", "A curious", "An honest", "A small", "A bright")

NOTHING_HINT = "leave out --existing to make some, or load data first: recdb load FILE"

DEFAULT_SIZE = 1_000

VIEW_SECONDS = 600
SCROLL_STEPS = 100


@dataclass(frozen=True)
class Generated:
    """The numbers of rows that generate() wrote."""

    interactions: int
    users: int
    items: int
    seconds: float


def generate(
    database: Database,
    *,
    users: int | None = None,
    items: int | None = None,
    count: int,
    days: int,
    seed: int,
    existing: bool = False,
    until: datetime | None = None,
    report: Report = silent,
) -> Generated:
    """Write `count` interactions of the last `days` days before `until` (now), and a catalogue.

    Makes users user-1.. and items item-1.., 1,000 of each unless given. With `existing` it takes the users and items
    that interactions and catalogue name, at most `users` and `items` of them. The same arguments and the same `until`
    give the same rows.

    Raises RecdbError if `existing` finds no user or no item, InvalidInput for a number out of range.
    """
    began = time.monotonic()
    for what, number in (("users", users), ("items", items), ("interactions", count), ("days", days)):
        if number is not None and number < 1:
            raise InvalidInput(f"{number} {what}: there must be at least one")
    if seed < 0:
        raise InvalidInput(f"a seed of {seed}: it must not be negative")
    end = (until or datetime.now(UTC)).timestamp() / DAY_SECONDS
    rng = np.random.default_rng(seed)
    with connect(database) as connection:
        require_primary(connection)
        require_whole(connection)
        use_connections(connection)
        if existing:
            report("reading users and items")
            user_ids = read_users(connection, users)
            item_ids, published = read_items(connection, items)
        else:
            user_ids = [f"user-{number}" for number in range(1, (users or DEFAULT_SIZE) + 1)]
            item_ids = [f"item-{number}" for number in range(1, (items or DEFAULT_SIZE) + 1)]
            published = np.full(len(item_ids), np.nan)
        drawn = (end - days) + days * (2 * trait(item_ids, PUBLISHED) - 1)
        published = np.where(np.isnan(published), drawn, published)
        if not existing:
            report("catalogue")
            write_catalogue(connection, item_ids, published, user_ids, seed)
        known_items = draw_items(item_ids, published)
        known_users = draw_users(user_ids, end - days, end, len(known_items.bounds) - 1)
        write_interactions(connection, rng, known_users, known_items, count, (end - days, end), seed, report)
        connection.execute("analyze recdb.interaction, recdb.item")
    return Generated(count, len(user_ids), len(item_ids), time.monotonic() - began)


def has_other_data(connection: psycopg.Connection) -> bool:
    """Tell whether there are interactions or items that this module did not generate; attached tables count as such."""
    (found,) = fetch_row(
        connection,
        """
        select exists (select from recdb.attachment)
            or exists (select 1 from recdb.interaction i where (i.metadata ? 'generated') is not true)
            or exists (select from recdb.item i where not i.attributes ? 'generated')
        """,
    )
    return bool(found)


def read_users(connection: psycopg.Connection, most: int | None) -> list[str]:
    """Read the ids of at most `most` users (None: all): users with interactions, and owners of items."""
    rows = connection.execute(
        """
        select e.user_id
        from (select i.user_id from recdb.read_interactions() i union select t.owner_id from recdb.read_items() t) e
        where e.user_id is not null
        order by md5(e.user_id), e.user_id
        limit %s
        """,
        [most],
    ).fetchall()
    if not rows:
        raise RecdbError("there are no users yet", NOTHING_HINT)
    return [row[0] for row in rows]


def read_items(connection: psycopg.Connection, most: int | None) -> tuple[list[str], Floats]:
    """Read the ids of at most `most` items (None: all) and their publishing days, NaN if unknown or unheard-of."""
    rows = connection.execute(
        """
        select e.item_id, max(e.published_at)
        from (
            select t.item_id, case when t.published_at between '1700-01-01' and '2300-01-01'
                then extract(epoch from t.published_at)::double precision end as published_at
            from recdb.read_items() t
            union all
            select distinct i.item_id, null::double precision from recdb.read_interactions() i
        ) e
        group by e.item_id
        order by md5(e.item_id), e.item_id
        limit %s
        """,
        [most],
    ).fetchall()
    if not rows:
        raise RecdbError("there are no items yet", NOTHING_HINT)
    return [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.float64) / DAY_SECONDS


def write_catalogue(
    connection: psycopg.Connection, item_ids: list[str], published: Floats, user_ids: list[str], seed: int
) -> None:
    """Write a catalogue row for each item: title, owner, publishing date and topic. Known items stay as they are."""
    topics = item_topics(item_ids).tolist()
    moments = as_text(published * DAY_SECONDS)
    owners = (trait(item_ids, OWNER) * len(user_ids)).astype(np.int64).tolist()
    adjectives = (trait(item_ids, ADJECTIVE) * len(ADJECTIVES)).astype(np.int64).tolist()
    connection.execute("create temporary table catalogue (like recdb.item including defaults) on commit drop")
    with connection.cursor().copy(
        "copy catalogue (item_id, owner_id, published_at, attributes, title) from stdin"
    ) as copy:
        rows = zip(item_ids, topics, moments, owners, adjectives, strict=True)
        for number, (item, topic, moment, owner, adjective) in enumerate(rows, 1):
            name = topic_name(topic)
            title = f"{ADJECTIVES[adjective]} look at {name} ({number})"
            copy.write_row((item, user_ids[owner], moment, f'{{"topic": "{name}", "generated": {seed}}}', title))
    connection.execute("insert into recdb.item select * from catalogue on conflict do nothing")


def escape(text: str) -> str:
    """Escape a text for COPY."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def topic_name(topic: int) -> str:
    """Name a topic; beyond the end of TOPICS the names start again, with a number."""
    again, position = divmod(topic, len(TOPICS))
    return f"{TOPICS[position]} {again + 1}" if again else TOPICS[position]


def as_text(seconds: Floats) -> list[str]:
    """Write seconds of the epoch as timestamps for PostgreSQL."""
    moments = (seconds * 1000).astype("datetime64[ms]")
    return np.datetime_as_string(moments, timezone="UTC").tolist()  # type: ignore[no-any-return]


def write_interactions(
    connection: psycopg.Connection,
    rng: np.random.Generator,
    users: Users,
    items: Items,
    count: int,
    period: tuple[float, float],
    seed: int,
    report: Report,
) -> None:
    """Draw and write the interactions."""
    # The ends of all possible rows, kind and metadata: a view has a duration, a click has a scroll depth in percent.
    endings = [f'view\t{{"duration": {second}, "generated": {seed}}}\n' for second in range(1, VIEW_SECONDS + 1)]
    endings += [
        f'click\t{{"scroll_depth": {part / SCROLL_STEPS}, "generated": {seed}}}\n'
        for part in range(1, SCROLL_STEPS + 1)
    ]
    endings += [f'{kind}\t{{"generated": {seed}}}\n' for kind in KINDS[2:]]
    user_ids, item_ids = [escape(user) for user in users.ids], [escape(item) for item in items.ids]
    ranks = np.empty(len(user_ids), dtype=np.int64)
    ranks[sorted(range(len(user_ids)), key=user_ids.__getitem__)] = np.arange(len(user_ids))
    written = 0
    statement = "copy recdb.interaction (user_id, item_id, created_at, kind, metadata) from stdin"
    with connection.cursor().copy(statement) as copy:
        for touches in draw_touches(rng, users, items, draw_depths(rng, count), period):
            report(f"interactions, {written:,} of {count:,}")
            who, what, seconds, how = unfold(rng, touches, ranks, period[1] * DAY_SECONDS)
            copy.write(render(user_ids, item_ids, endings, who, what, seconds, how))
            written += len(who)


def unfold(rng: np.random.Generator, touches: Touches, ranks: Ints, end: float) -> tuple[Ints, Ints, Floats, Ints]:
    """Turn touches into interactions: users, items, seconds of the epoch, endings.

    They are sorted by user: a block that fills the index from left to right takes half the time to write.
    """
    size = len(touches.users)
    pauses = rng.exponential((1, 15, 10, 30), (size, len(KINDS)))
    pauses[:, 0] = 0
    moments = np.minimum(touches.seconds[:, None] + np.cumsum(pauses, axis=1), end)
    viewed = np.exp(rng.normal(2.5, 0.9, size)) * touches.depths
    endings = np.empty((size, len(KINDS)), dtype=np.int64)
    endings[:, 0] = np.clip(viewed, 1, VIEW_SECONDS) - 1
    endings[:, 1] = VIEW_SECONDS + rng.integers(0, SCROLL_STEPS, size)
    endings[:, 2:] = (VIEW_SECONDS + SCROLL_STEPS, VIEW_SECONDS + SCROLL_STEPS + 1)
    happened = np.arange(1, 5) <= touches.depths[:, None]
    order = np.lexsort((moments[happened], np.repeat(ranks[touches.users], touches.depths)))
    return (
        np.repeat(touches.users, touches.depths)[order],
        np.repeat(touches.items, touches.depths)[order],
        moments[happened][order],
        endings[happened][order],
    )


def render(
    users: list[str], items: list[str], endings: list[str], who: Ints, what: Ints, seconds: Floats, how: Ints
) -> str:
    """Write interactions as COPY text."""
    rows = zip(who.tolist(), what.tolist(), as_text(seconds), how.tolist(), strict=True)
    return "".join([f"{users[u]}\t{items[i]}\t{t}\t{endings[e]}" for u, i, t, e in rows])
