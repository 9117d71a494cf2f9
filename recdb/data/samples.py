"""A look at some rows of the application's table, which costs little on a table of any size.

A small table is read whole. Of a large table PostgreSQL reads some pages, spread over the table. A view, of which it
cannot read a part, gets LONGEST to give its first rows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from recdb.data.sources import Relation
from recdb.database import fetch_row
from recdb.schemas import Verbatim

ROWS = 1000
SMALL = 500  # pages of 8 kB
LONGEST = "5s"


@dataclass(frozen=True)
class Sample:
    """Some rows of a table: their number, and each column's values as text."""

    count: int
    columns: Mapping[str, Sequence[str | None]]

    def values(self, column: str) -> list[str]:
        """Return a column's values without the NULLs."""
        return [value for value in self.columns.get(column, ()) if value is not None]


def take_sample(
    connection: psycopg.Connection, relation: Relation, columns: Collection[str], where: str | None
) -> Sample | None:
    """Read about ROWS rows that meet a condition; None if the relation gives no rows in time.

    Columns that recdb's owner may not read are left out.
    """
    readable = [
        name
        for (name,) in connection.execute(
            "select c.name from unnest(%s::text[]) c(name) where has_column_privilege(%s::regclass, c.name, 'select')",
            [list(columns), relation.name],
        )
    ]
    if not readable:
        return None
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in readable)
    condition = sql.SQL("where (\n{}\n)").format(Verbatim(where)) if where else sql.SQL("")
    for part, order in ways_to_read(connection, relation):
        query = sql.SQL("select {} from {} {} {} {} limit {}").format(
            texts, relation.identifier, part, condition, order, ROWS
        )
        rows = try_to_read(connection, query)
        if rows is not None and (len(rows) >= ROWS // 10 or not part.as_string()):
            by_column = zip(*rows, strict=True) if rows else ([] for _ in readable)
            return Sample(len(rows), dict(zip(readable, map(list, by_column), strict=True)))
    return None


def count_in_sample(
    connection: psycopg.Connection, relation: Relation, where: str | None, condition: str | None
) -> int:
    """Count the rows of a sample that meet a further condition."""
    first = sql.SQL("where (\n{}\n)").format(Verbatim(where)) if where else sql.SQL("")
    for part, order in ways_to_read(connection, relation):
        query = sql.SQL(
            "select count(*) filter (where meets)::text from (select (\n{}\n) as meets from {} {} {} {} limit {}) s"
        )
        rows = try_to_read(
            connection, query.format(sql.SQL(condition or "true"), relation.identifier, part, first, order, ROWS)
        )
        if rows is not None:
            return int(rows[0][0] or 0)
    return 0


def ways_to_read(connection: psycopg.Connection, relation: Relation) -> Iterator[tuple[sql.SQL, sql.SQL]]:
    """Yield ways to read some rows, the best first: which part of the table, and in which order."""
    if relation.kind in ("table", "materialized view"):
        pages, rows = measure_size(connection, relation)
        if pages <= SMALL:
            yield sql.SQL(""), sql.SQL("order by pg_catalog.hashtid(ctid)")
            return
        percent = min(100.0, 100.0 * 3 * ROWS / max(rows, 1))
        yield sql.SQL(f"tablesample system ({percent:.6f}) repeatable (1)"), sql.SQL("")
    yield sql.SQL(""), sql.SQL("")


def measure_size(connection: psycopg.Connection, relation: Relation) -> tuple[int, float]:
    """Return a table's pages and about how many rows they have; a partitioned table has those of its partitions."""
    pages, rows = fetch_row(
        connection,
        """
        select coalesce(sum(pg_relation_size(c.oid)) / current_setting('block_size')::bigint, 0)::bigint,
            coalesce(sum(case when c.reltuples > 0 then c.reltuples
                else pg_relation_size(c.oid) / current_setting('block_size')::bigint * 50 end), 0)::double precision
        from pg_class c
        where c.relkind in ('r', 'm') and c.oid in (
            select %(name)s::regclass union all select t.relid from pg_partition_tree(%(name)s::regclass) t)
        """,
        {"name": relation.name},
    )
    return int(pages), float(rows)


def try_to_read(connection: psycopg.Connection, query: sql.Composed) -> list[tuple[str | None, ...]] | None:
    """Run a query that may take LONGEST; None if it takes longer, or recdb's owner may not read so much."""
    with limited(connection):
        try:
            with connection.transaction():
                return connection.execute(query).fetchall()
        except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege, psycopg.DataError):
            return None


@contextmanager
def limited(connection: psycopg.Connection) -> Iterator[None]:
    """Limit the time of each statement within the block."""
    (before,) = fetch_row(connection, "select current_setting('statement_timeout')")
    connection.execute("select set_config('statement_timeout', %s, true)", [LONGEST])
    try:
        yield
    finally:
        if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
            connection.execute("select set_config('statement_timeout', %s, true)", [before])
