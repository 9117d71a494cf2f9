"""Reads the interactions one by one, of all users or of a sample; validation parts are split from them."""

import numpy as np
import psycopg
from psycopg import sql

from recdb.arrays.copy import copy_out
from recdb.learn.events import Events

# Multiples of 2^32 over the golden ratio spread consecutive keys evenly over 0..2^32 (Knuth, volume 3, section 6.4).
GOLDEN = 2_654_435_761


def sampled(key: str, share: float) -> sql.Composed:
    """Return the condition that a column of dense keys is in a sample, a share of all keys; always the same keys."""
    return sql.SQL("{}::bigint * {} % 4294967296 < {}").format(
        sql.SQL(key), sql.Literal(GOLDEN), sql.Literal(round(share * 2**32))
    )


def read_events(connection: psycopg.Connection, *, most: int | None = None) -> Events:
    """Read every interaction, 14 bytes each, or 22 where some have a value.

    If there are more than `most`, it reads only those of a sample of users that has about that many. The sample has the
    same users at every call, except for those that a change of the total number adds or removes. The connection must be
    in autocommit mode.
    """
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        # The rule of the view recdb.weighted_interactions, applied once to each kind instead of to each interaction.
        kinds = connection.execute(
            """
            select coalesce(k.weight, c.default_weight), coalesce(k.hides, c.default_hides),
                extract(epoch from c.half_life)::float8, i.events, i.newest, i.kind, i.valued
            from (
                select e.kind, count(*) as events,
                    -- A number: Python cannot hold every timestamp of PostgreSQL. The future counts as now.
                    date_part('epoch', max(least(e.created_at, now()))
                        filter (where e.created_at > '-infinity')) as newest,
                    bool_or(e.value <> 1) as valued
                from recdb.interactions e group by e.kind
            ) i
            cross join recdb.config c
            left join recdb.interaction_kind k on k.kind = i.kind
            order by i.kind collate "C"
            """
        ).fetchall()
        weights, hides, half_lives, counts, newest, names, valued = zip(*kinds, strict=True) if kinds else ((),) * 7
        share = 1.0 if most is None else min(1.0, most / max(sum(counts), 1))
        query = sql.SQL(
            """
            select u.user_key, t.item_key, k.number::smallint,
                greatest(-2147483648, least(date_part('epoch', i.created_at) - {newest}::float8, 0))::integer{value}
            from recdb.interactions i
            join recdb.user_key u on u.user_id = i.user_id and {sampled}
            join recdb.item_key t on t.item_id = i.item_id
            join (
                select d.kind, d.position - 1 as number
                from unnest({kinds}::text[]) with ordinality d(kind, position)
            ) k on k.kind = i.kind
            """
        ).format(
            newest=sql.Literal(max((at for at in newest if at is not None), default=0.0)),
            sampled=sampled("u.user_key", share),
            value=sql.SQL(", coalesce(i.value, 1)" if any(valued) else ""),
            kinds=sql.Literal(list(names)),
        )
        columns = copy_out(
            connection,
            query.as_string(connection),
            [
                ("users", np.int32),
                ("items", np.int32),
                ("kinds", np.int16),
                ("seconds", np.int32),
                *([("values", np.float64)] if any(valued) else []),
            ],
        )
    return Events(
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
