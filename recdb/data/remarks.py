"""A look at the rows of a table that is about to be attached: a sample to show, and the kinds that have no weight."""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from recdb.data.sources import Relation, read_relation
from recdb.schemas import schema_of

SAMPLE = 3
KINDS_READ = 1_000_000
WEIGHT_RULE = "a dislike needs a negative weight"


@dataclass(frozen=True)
class Remark:
    """A warning, and the statement that fixes it; a grave one means that the mapping is of no use."""

    message: str
    fix: str | None = None
    grave: bool = False


def inspect_kinds(connection: psycopg.Connection, view: sql.Composable, relation: Relation, kind: str) -> list[Remark]:
    """Warn of kinds without a weight: among an enum's labels, or else among the first million rows."""
    column = relation.column(kind)
    if column and column.labels:
        found: list[str] = list(column.labels)
    elif column is None:
        query = sql.SQL("select s.kind from {} s limit 1")
        found = [row[0] for row in read_relation(connection, relation, query.format(view))]
    else:
        query = sql.SQL("select distinct s.kind from (select kind from {} limit {}) s where s.kind is not null")
        found = [row[0] for row in read_relation(connection, relation, query.format(view, KINDS_READ))]
    unknown = connection.execute(
        """
        select u.kind, k.weight, c.default_weight
        from unnest(%s::text[]) u(kind)
        cross join recdb.config c
        left join recdb.interaction_kind k on k.kind = lower(u.kind)
        where not exists (select from recdb.interaction_kind e where e.kind = u.kind)
        order by u.kind
        """,
        [found],
    ).fetchall()
    if not unknown:
        return []
    # recdb cannot know whether a kind is a sign of interest, so it suggests no weight: '…' makes the statement fail.
    weights = (sql.SQL("…") if weight is None else sql.Literal(weight) for _, weight, _ in unknown)
    values = sql.SQL(", ").join(map(sql.SQL("({}, {})").format, (kind for kind, *_ in unknown), weights))
    statement = sql.SQL("insert into recdb.interaction_kind (kind, weight) values {};").format(values)
    kinds = ", ".join(kind for kind, *_ in unknown)
    message = f"{relation.name} has kinds without a weight, so they weigh {unknown[0][2]:g}: {kinds} ({WEIGHT_RULE})"
    return [Remark(message, statement.as_string(connection))]


def sample_query(connection: psycopg.Connection, number: int, view: sql.Composable, zone: str = "UTC") -> sql.Composed:
    """Compose the query for some rows of an attached view as text; times in UTC, as recdb reads them.

    PostgreSQL writes the times: Python can hold neither infinity nor the years before 1 and after 9999.
    """
    columns = connection.execute(
        "select a.attname, recdb.column_type(a.attrelid, a.attname)::text from pg_attribute a "
        "where a.attrelid = %s::regclass and a.attnum > 0 order by a.attnum",
        [f"{schema_of(connection)}.attached_{number}"],
    ).fetchall()
    texts = {
        "timestamp with time zone": "({} at time zone 'UTC')::text",
        "timestamp without time zone": "({} at time zone {zone} at time zone 'UTC')::text",
    }
    zoned = "case when isfinite({0}) then regexp_replace({1}, '( BC)?$', '+00:00\\1') else {1} end as {0}"
    selected = []
    for name, kind in columns:
        column = sql.Identifier(name)
        if kind in texts:
            selected.append(sql.SQL(zoned).format(column, sql.SQL(texts[kind]).format(column, zone=sql.Literal(zone))))
        else:
            selected.append(sql.SQL("{0}::text as {0}").format(column))
    return sql.SQL("select {} from {} limit {}").format(sql.SQL(", ").join(selected), view, SAMPLE)
