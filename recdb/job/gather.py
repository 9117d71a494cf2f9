"""Gathering a sample of other databases' weighted interactions, for a training here to learn about items from.

The users come without their ids, each with all of their items, and always the same ones. The rows that came from a
database before are replaced. All of them are for trainings alone: see the comment of recdb.gathered_interaction.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from recdb.arrays.copy import copy_blocks_in, copy_out_blocks
from recdb.arrays.shared_keys import share_keys, translate_keys
from recdb.database import Database, connect, fetch_row
from recdb.errors import InvalidInput, Unavailable
from recdb.job.lock import job_lock
from recdb.job.other import identify, name_of, open_other
from recdb.learn.matrix import Float64
from recdb.migrate import require_whole
from recdb.preconditions import check_owner
from recdb.progress import Report, silent

DEFAULT_USERS = 100_000
COLUMNS = {
    "config": ("half_life", "decay_origin", "training_limit"),
    "user_key": ("user_key", "user_id"),
    "item_key": ("item_key", "item_id"),
    "user_item": ("user_key", "item_key", "position", "weight", "last_at"),
    "ignored_user": ("user_id",),
}

# A hash of the id: the same users at every call, and those of a smaller sample are in a larger one.
CHOSEN = """
    select u.user_key from recdb.user_key u
    where not exists (select from recdb.ignored_user g where g.user_id = u.user_id)
      and exists (select from recdb.user_item w where w.user_key = u.user_key and w.weight <> 0)
    order by md5(u.user_id), u.user_key limit {users}
"""
# The weight as of last_at, without the decay since then: each database has a decay_origin of its own.
ROWS = """
    select w.user_key, w.position::integer, w.item_key,
        case when c.half_life is null then w.weight else w.weight / exp(greatest(-600, least(600, ln(2::float8)
            * (date_part('epoch', w.last_at) - date_part('epoch', c.decay_origin))
            / date_part('epoch', c.half_life)))) end::float8,
        date_part('epoch', w.last_at)::float8
    from ({chosen}) u
    cross join recdb.config c
    join recdb.user_item w on w.user_key = u.user_key and w.weight <> 0 and w.position <= c.training_limit
"""
EPOCH_2000 = 946_684_800
LAST_SECOND = 200_000_000_000
"""Times are kept within some thousand years."""


OF_A_COPY = (
    "a copy of the server's files keeps the identity: if this is one, stop its applications, and give its database, "
    "such as app, a new one: alter database app rename to app_copied; create database app template app_copied;"
)


@dataclass(frozen=True)
class Gathered:
    """The interactions that were brought from another database."""

    database: str
    users: int
    interactions: int


def gather(
    here: Database,
    others: Sequence[Database],
    *,
    users: int = DEFAULT_USERS,
    replace: bool = False,
    report: Report = silent,
) -> list[Gathered] | None:
    """Bring the weighted interactions of at most `users` users of other databases; None if a job is running.

    Each database gives the same share of its users. With `replace`, the rows of databases that are not among `others`
    are removed. The rows of each database change in one transaction. If a database has nothing that can be
    read, gather() raises RecdbError before anything changes. If one cannot be reached, it gathers the others, unless
    `replace` is given, and raises Unavailable.
    """
    with job_lock(here) as connection:
        if connection is None:
            return None
        check_owner(connection)
        found, missing = look_at(connection, here, others, report)
        refuse_copies(connection, found, replace=replace)
        if missing and (replace or not found):
            raise missing[0]
        share = min(1.0, users / max(1, sum(count for _, _, count in found)))
        done = [gather_one(connection, here, other, round(share * count), report) for other, _, count in found]
        if replace:
            forget_others(connection, [identity for _, identity, _ in found])
        tidy(connection)
    if missing:
        raise Unavailable(
            f"{len(missing)} of {len(others)} databases were not gathered: {missing[0]}",
            "the others were; the rows that came from these before stay",
        )
    return done


def look_at(
    connection: psycopg.Connection, here: Database, others: Sequence[Database], report: Report
) -> tuple[list[tuple[Database, str, int]], list[Unavailable]]:
    """Check all databases before anything changes; return the identity and the users of each, and the failures."""
    found: list[tuple[Database, str, int]] = []
    missing = []
    for other in others:
        report(f"looking at {name_of(other)}")
        try:
            with open_other(connection, here, other, COLUMNS) as reader:
                (count,) = fetch_row(reader, "select count(*) from recdb.user_key")
                found.append((other, identify(reader, other), count))
        except Unavailable as error:
            missing.append(error)
    return found, missing


def refuse_copies(connection: psycopg.Connection, found: Sequence[tuple[Database, str, int]], *, replace: bool) -> None:
    """Raise InvalidInput if a database would replace the rows of another one because it was copied from it as files.

    Such a copy has the same identity. So has the same database at another address, and only a user knows which it is.
    """
    names: dict[str, str] = {}
    for other, identity, _ in found:
        name = name_of(other)
        if identity in names:
            raise InvalidInput(
                f"a database is named twice: {names[identity]} and {name} both have the identity {identity} (server, "
                "database, schema)",
                f"name each database once; {OF_A_COPY}",
            )
        names[identity] = name
    rows = connection.execute(
        "select d.identity, d.name from recdb.gathered_database d where d.identity = any (%s::text[])", [list(names)]
    ).fetchall()
    for identity, before in rows:
        if not replace and without_port(before) != without_port(names[identity]):
            raise InvalidInput(
                f"{names[identity]} has the identity of {before}, which was gathered before: {identity} (server, "
                "database, schema)",
                f"if it is the same database at another address, name all databases again, with --replace; {OF_A_COPY}",
            )


def without_port(name: str) -> str:
    """Return a name without the port that every server has who sets no other."""
    return re.sub(r":5432(?=,|$)", "", name)


def gather_one(connection: psycopg.Connection, here: Database, other: Database, users: int, report: Report) -> Gathered:
    """Replace the rows of one database."""
    chosen = sql.SQL(CHOSEN).format(users=sql.Literal(users))
    columns: list[tuple[str, type[np.number[Any]]]] = [
        ("users", np.int32),
        ("positions", np.int32),
        ("items", np.int32),
        ("weights", np.float64),
        ("seconds", np.float64),
    ]
    found, rows = set[int](), 0
    with open_other(connection, here, other, COLUMNS) as reader:
        items = (
            "select t.item_key, t.item_id from recdb.item_key t where t.item_key in ("
            f"select w.item_key from ({chosen.as_string(reader)}) u join recdb.user_item w on w.user_key = u.user_key "
            "where w.weight <> 0)"
        )
        shared = share_keys(reader, connection, items, report)
        query = sql.SQL(ROWS).format(chosen=chosen).as_string(reader)
        with connection.transaction():
            database_id = begin(connection, identify(reader, other), name_of(other))
            for block in copy_out_blocks(reader, query, columns):
                report(f"{name_of(other)}, {rows:,} interactions")
                keys = translate_keys(block["items"], shared)
                kept = keys > 0
                arrays = [
                    np.full(int(kept.sum()), database_id, dtype=np.int32),
                    block["users"][kept],
                    block["positions"][kept],
                    keys[kept],
                    block["weights"][kept],
                    timestamps(block["seconds"][kept]),
                ]
                names = ["database_id", "user_number", "position", "item_key", "weight", "last_at"]
                copy_blocks_in(connection, "recdb.gathered_interaction", names, [arrays])
                found.update(np.unique(arrays[1]).tolist())
                rows += len(arrays[0])
            connection.execute(
                "update recdb.gathered_database set users = %s, interactions = %s where database_id = %s",
                [len(found), rows, database_id],
            )
    return Gathered(name_of(other), len(found), rows)


def begin(connection: psycopg.Connection, identity: str, name: str) -> int:
    """Write the row of a database, remove its rows, and return its number."""
    (database_id,) = fetch_row(
        connection,
        "insert into recdb.gathered_database (identity, name, users, interactions) values (%s, %s, 0, 0) "
        "on conflict (identity) do update set name = excluded.name, gathered_at = now() returning database_id",
        [identity, name],
    )
    connection.execute("delete from recdb.gathered_interaction where database_id = %s", [database_id])
    return int(database_id)


def forget_others(connection: psycopg.Connection, kept: Sequence[str]) -> None:
    """Remove the rows of other databases than these."""
    connection.execute(
        "with gone as (delete from recdb.gathered_database d where d.identity <> all (%s) returning d.database_id) "
        "delete from recdb.gathered_interaction g using gone where gone.database_id = g.database_id",
        [list(kept)],
    )


def tidy(connection: psycopg.Connection) -> None:
    """Vacuum the table, whose rows come and go by the thousands: autovacuum would leave that to later."""
    # Counts of the session's own deletions that come after those of VACUUM would stay.
    connection.execute("select pg_catalog.pg_stat_force_next_flush()")
    connection.execute("vacuum (analyze) recdb.gathered_interaction")


def remove_gathered(here: Database) -> list[Gathered]:
    """Remove everything that was gathered; return it."""
    with connect(here, autocommit=True) as connection:
        require_whole(connection)
        check_owner(connection)
        with connection.transaction():
            rows = connection.execute(
                "delete from recdb.gathered_database returning name, users, interactions"
            ).fetchall()
            connection.execute("delete from recdb.gathered_interaction")
        tidy(connection)
    return [Gathered(*row) for row in sorted(rows)]


def list_gathered(here: Database) -> list[Gathered]:
    """Return the databases that were gathered."""
    with connect(here) as connection:
        require_whole(connection)
        rows = connection.execute("select name, users, interactions from recdb.gathered_database order by name")
        return [Gathered(*row) for row in rows.fetchall()]


def timestamps(seconds: Float64) -> NDArray[np.int64]:
    """Return PostgreSQL's binary form of times in seconds since 1970; those out of its range stay at its bounds."""
    inside = np.clip(np.nan_to_num(seconds), -LAST_SECOND / 4, LAST_SECOND)
    return np.round((inside - EPOCH_2000) * 1e6).astype(np.int64)
