"""The check of the HNSW indexes: searches through them find the vectors that are nearest."""

import psycopg

from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict

SAMPLE, NEAREST = 50, 40
MOST_COMPARISONS = 2_000_000
"""How many vectors, at most, the exact searches compare: a second or two."""
LEAST_SHARE = 0.9


def check_recall(connection: psycopg.Connection) -> Verdict | None:
    """The indexes of the served vectors find most of the nearest users and items; compared on a sample."""
    row = connection.execute("select m.model_id from recdb.model m where m.active").fetchone()
    if row is None:
        return None
    shares, damaged = [], []
    for kind in ("user", "item"):
        try:
            share = found_share(connection, row[0], kind)
        except (psycopg.errors.UndefinedObject, psycopg.errors.UndefinedFunction) as error:
            return Verdict("fail", f"searches fail: {error.diag.message_primary}", "recdb init")
        if share is None:
            continue
        shares.append(f"{share:.0%} of the {kind}s")
        if share < LEAST_SHARE:
            damaged += [f"reindex index concurrently {name};" for name in indexes_of(connection, row[0], kind)]
    if not shares:
        return None
    message = f"searches find {' and '.join(shares)} that are nearest to a sample"
    if damaged:
        fix = f"{' '.join(damaged)} or: recdb refresh --full"
        return Verdict("warn", f"{message}: a VACUUM may have damaged the index", fix)
    return Verdict("ok", message)


def found_share(connection: psycopg.Connection, model_id: int, kind: str) -> float | None:
    """Return the share of the nearest vectors that a search finds, over a sample; None if there are too few vectors.

    A vector counts as found if it is as near as the last of the exact result: many can be equally near.
    """
    table, key = f"recdb.{kind}_vector_{model_id}", f"{kind}_key"
    rows, schema = fetch_row(
        connection,
        f"select (select count(*) from {table}), e.extnamespace::regnamespace "
        "from pg_extension e where e.extname = 'vector'",
    )
    if rows < 2:
        return None
    # hashint4() chooses the same rows each time.
    sample = connection.execute(
        f"select v.{key}, v.embedding::text from {table} v order by hashint4(v.{key}) limit %s",
        [max(5, min(SAMPLE, MOST_COMPARISONS // rows))],
    ).fetchall()
    found = wanted = 0
    for own, vector in sample:
        # No index serves an order by 1 - distance.
        number, bound = fetch_row(
            connection,
            f"""
            select count(*), min(r.similarity)
            from (
                select 1 - (v.embedding operator({schema}.<=>) %s::{schema}.halfvec) as similarity
                from {table} v
                where v.{key} <> %s
                order by 1 desc
                limit {NEAREST}
            ) r
            """,
            [vector, own],
        )
        (near,) = fetch_row(
            connection,
            f"select count(*) from recdb.nearest_{kind}s(%s, %s::{schema}.vector, %s, {NEAREST}) n "
            "where n.similarity >= %s - 1e-6",
            [model_id, vector, own, bound],
        )
        found, wanted = found + min(near, number), wanted + number
    return found / wanted


def indexes_of(connection: psycopg.Connection, model_id: int, kind: str) -> list[str]:
    """Return the names of the HNSW indexes of a version's users or items."""
    rows = connection.execute(
        "select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid "
        "join pg_am a on a.oid = c.relam "
        "where a.amname = 'hnsw' and i.indrelid = format('recdb.%%s', %s::text)::regclass",
        [f"{kind}_vector_{model_id}"],
    )
    return [name for (name,) in rows]
