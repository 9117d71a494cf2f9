"""Reads the weighted interactions that `recdb gather` brought from other databases: trainings learn from them too.

Their users are numbered behind the own ones. So they are in no table of users, and in no list.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from recdb.arrays.copy import copy_out
from recdb.arrays.sample import sampled
from recdb.database import fetch_row
from recdb.learn.events import Events
from recdb.learn.matrix import Interactions

ROWS = """
    select g.database_id, g.user_number, g.item_key, {weight}, g.position::smallint,
        greatest(-2147483648, least(2147483647, date_part('epoch', g.last_at) - {since}::float8))::integer
    from recdb.gathered_interaction g cross join recdb.config c
    where g.position <= least(c.training_limit, {limit}) and {sampled}
"""


def count_gathered(connection: psycopg.Connection, limit: int) -> int:
    """Return how many weighted interactions were gathered; of a user, the first `limit` count."""
    if not fetch_row(connection, "select exists (select from recdb.gathered_interaction)")[0]:
        return 0
    (count,) = fetch_row(
        connection,
        "select count(*) from recdb.gathered_interaction g, recdb.config c "
        "where g.position <= least(c.training_limit, %s)",
        [limit],
    )
    return int(count)


def read_gathered_rows(
    connection: psycopg.Connection, weight: str, kind: type[np.number[Any]], since: float, share: float, limit: int
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    """Read the gathered interactions of a share of their users, and number these users from 1."""
    query = sql.SQL(ROWS).format(
        weight=sql.SQL(weight),
        since=sql.Literal(since),
        limit=sql.Literal(limit),
        sampled=sampled("g.user_number", share),
    )
    columns = copy_out(
        connection,
        query.as_string(connection),
        [
            ("databases", np.int32),
            ("users", np.int32),
            ("items", np.int32),
            ("weights", kind),
            ("positions", np.int16),
            ("seconds", np.int32),
        ],
    )
    names = columns["databases"].astype(np.int64) << 32 | columns["users"]
    _, users = np.unique(names, return_inverse=True)
    return columns, (users + 1).astype(np.int32)


def with_gathered(connection: psycopg.Connection, known: Interactions, share: float) -> Interactions:
    """Return the interactions of a training, with those that were gathered behind them."""
    (since,) = fetch_row(
        connection,
        "select date_part('epoch', coalesce((select max(w.last_at) from recdb.user_item w where isfinite(w.last_at)), "
        "(select max(g.last_at) from recdb.gathered_interaction g), now()))",
    )
    # Bounded as the own ones are.
    decayed = (
        "(sign(g.weight) * greatest('1e-15'::float8, least('1e15'::float8, abs(g.weight) "
        "* recdb.decay(g.last_at, c.decay_origin, c.half_life))))::real"
    )
    columns, users = read_gathered_rows(connection, decayed, np.float32, since, share, 2**31 - 1)
    return Interactions.sort(
        np.concatenate([known.users, users + np.int32(known.shape[0] - 1)]),
        np.concatenate([known.items, columns["items"]]),
        np.concatenate([known.weights, columns["weights"]]),
        np.concatenate([known.positions, columns["positions"]]),
        np.concatenate([known.seconds, columns["seconds"]]),
    )


def events_with_gathered(
    connection: psycopg.Connection, events: Events, since: float | None, *, most: int | None, limit: int
) -> Events:
    """Return the events of a measurement, with the gathered interactions as events of a kind of their own.

    A gathered interaction is one event, at its last time, with its weight as the value. `since` is the time of second 0
    in the events; None if there are none.
    """
    count = count_gathered(connection, limit)
    if not count:
        return events
    if since is None:
        (since,) = fetch_row(connection, "select date_part('epoch', max(g.last_at)) from recdb.gathered_interaction g")
    share = min(1.0, (most or count) / count)
    columns, users = read_gathered_rows(connection, "g.weight", np.float64, since, share, limit)
    users += np.int32(events.shape[0] - 1)
    kind = len(events.weights)
    own = np.ones(len(events.users)) if events.values is None else events.values
    half_life = events.half_life
    if half_life is None:
        (half_life,) = fetch_row(connection, "select date_part('epoch', c.half_life) from recdb.config c")
    return replace(
        events,
        users=np.concatenate([events.users, users]),
        items=np.concatenate([events.items, columns["items"]]),
        kinds=np.concatenate([events.kinds, np.full(len(users), kind, dtype=np.int16)]),
        seconds=np.concatenate([events.seconds, columns["seconds"]]),
        weights=np.append(events.weights, 1.0),
        hides=np.append(events.hides, True),
        shape=(
            int(max(events.shape[0] - 1, users.max(initial=0))) + 1,
            int(max(events.shape[1] - 1, columns["items"].max(initial=0))) + 1,
        ),
        half_life=half_life,
        values=np.concatenate([own, columns["weights"]]),
    )
