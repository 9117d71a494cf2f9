"""Reads the interactions one by one, of all users or of a sample; validation parts are split from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from recdb.arrays.copy import copy_out
from recdb.arrays.gathered import events_with_gathered
from recdb.arrays.sample import sampled
from recdb.learn.events import Events

MOST_OF_A_USER = 2000
"""Of a sample, a user's newest interactions, at most this many, are read, and so many count for its size."""

COLUMNS: list[tuple[str, type[np.number[Any]]]] = [
    ("users", np.int32), ("items", np.int32), ("kinds", np.int16), ("seconds", np.int32), ("values", np.float64)
]  # fmt: skip

KINDS = """
    with counted as materialized (
        select s.* from recdb.sum_by_user() s
    ), of_user as (
        select n.user_id, sum(n.events) filter (where coalesce(k.weight, c.default_weight) <> 0) as events
        from counted n
        cross join recdb.config c
        left join recdb.interaction_kind k on k.kind = n.kind
        group by n.user_id
    )
    select coalesce(k.weight, c.default_weight), coalesce(k.hides, c.default_hides),
        extract(epoch from c.half_life)::float8, i.newest, i.ahead, i.kind, i.valued,
        (select sum(least(u.events, %(cap)s))::float8 from of_user u),
        (select coalesce(array_agg(u.user_id), '{}') from of_user u where u.events > %(cap)s)
    from (
        -- A number: Python cannot hold every timestamp of PostgreSQL.
        select n.kind, date_part('epoch', max(n.newest)) as newest, bool_or(n.ahead) as ahead,
            bool_or(n.valued) as valued
        from counted n group by n.kind
    ) i
    cross join recdb.config c
    left join recdb.interaction_kind k on k.kind = i.kind
    order by i.kind collate "C"
"""
"""The rule of the view recdb.weighted_interactions, applied once to each kind instead of to each interaction."""

COUNTED = """
        select i.user_id, i.item_id, i.kind, i.created_at, i.value
        from recdb.read_interactions() i
        where {which}
"""
NEWEST_OF_BUSY = """
        select b.user_id, i.item_id, i.kind, i.created_at, i.value
        from unnest({busy}::text[]) b(user_id)
        cross join lateral (
            select i.item_id, i.kind, i.created_at, i.value
            from recdb.read_interactions() i
            where i.user_id = b.user_id and i.kind = any ({counted}::text[])
            order by i.created_at desc, i.item_id, i.kind
            limit {cap}
        ) i
"""
ONLY_HIDING = """
        select i.user_id, i.item_id, i.kind, max(i.created_at), null::float8
        from recdb.read_interactions() i
        where i.kind = any ({only_hiding}::text[])
        group by i.user_id, i.item_id, i.kind
"""
EVENTS = """
    select u.user_key, t.item_key, (array_position({kinds}::text[], i.kind) - 1)::smallint,
        greatest(-2147483648, least(date_part('epoch', i.created_at) - {newest}::float8, 0))::integer{value}
    from ({parts}) i
    join recdb.user_key u on u.user_id = i.user_id and {sampled}
    join recdb.item_key t on t.item_id = i.item_id
"""


def read_events(connection: psycopg.Connection, *, most: int | None = None) -> Events:
    """Read every interaction that counts, 14 bytes each, or 22 where some have a value.

    If there are more than `most`, it reads only those of a sample of users that has about that many. A user counts for
    at most MOST_OF_A_USER in that number, and gives the newest so many: else one crawler would leave a few others in
    the sample. The sample has the same users at every call, except for those that a change of the total number adds or
    removes. Interactions of weight 0 are not among `most`; of those that hide their items, the newest of each user,
    item and kind is read, so that the items stay hidden. The rows that `recdb gather` brought are read too, as
    many again at most. The connection must be in autocommit mode.
    """
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        kinds = connection.execute(
            KINDS,
            {"cap": MOST_OF_A_USER},
        ).fetchall()
        weights, hides, half_lives, newest, ahead, names, valued, totals, busy = (
            zip(*kinds, strict=True) if kinds else ((),) * 9
        )
        share = 1.0 if most is None or not kinds else min(1.0, most / max(totals[0] or 0, 1))
        # The newest time that can be right is 0. One of the future counts as a second after it.
        last = max((at for at in newest if at is not None), default=0.0) + (1 if any(ahead) else 0)
        query = sql.SQL(EVENTS).format(
            newest=sql.Literal(last),
            sampled=sampled("u.user_key", share),
            value=sql.SQL(", coalesce(i.value, 1)" if any(valued) else ""),
            kinds=sql.Literal(list(names)),
            parts=compose_parts(names, weights, hides, [] if most is None or not kinds else busy[0]),
        )
        columns = copy_out(
            connection,
            query.as_string(connection),
            COLUMNS if any(valued) else COLUMNS[:-1],
        )
    own = Events(
        columns["users"],
        columns["items"],
        columns["kinds"],
        columns["seconds"],
        weights=np.array(weights, dtype=np.float64),
        hides=np.array(hides, dtype=np.bool_),
        shape=(int(columns["users"].max(initial=0)) + 1, int(columns["items"].max(initial=0)) + 1),
        half_life=half_lives[0] if half_lives else None,
        values=columns.get("values"),
    )
    return events_with_gathered(connection, own, last if kinds else None, most=most, limit=MOST_OF_A_USER)


def compose_parts(
    names: Sequence[str], weights: Sequence[float], hides: Sequence[bool], busy: Sequence[str]
) -> sql.Composed:
    """Return the SQL for the interactions that count, by the names, weights and hides of the kinds that there are.

    Each part reads all interactions, and where Citus has spread them, they all come to this server: so a part that has
    no rows is left out. So is a condition that holds for all rows: PostgreSQL would expect fewer rows.
    """
    counted = [name for name, weight in zip(names, weights, strict=True) if weight != 0]
    only_hiding = [name for name, weight, hiding in zip(names, weights, hides, strict=True) if weight == 0 and hiding]
    conditions = [sql.SQL("true")]
    if len(counted) < len(names):
        conditions.append(sql.SQL("i.kind = any ({counted}::text[])"))
    if busy:
        conditions.append(sql.SQL("i.user_id <> all ({busy}::text[])"))
    filled = {
        "counted": sql.Literal(counted),
        "only_hiding": sql.Literal(only_hiding),
        "busy": sql.Literal(list(busy)),
        "cap": sql.Literal(MOST_OF_A_USER),
    }
    parts = [sql.SQL(COUNTED).format(which=sql.SQL(" and ").join(one.format(**filled) for one in conditions))]
    parts += [sql.SQL(NEWEST_OF_BUSY).format(**filled)] * bool(busy)
    parts += [sql.SQL(ONLY_HIDING).format(**filled)] * bool(only_hiding)
    return sql.SQL(" union all ").join(parts)
