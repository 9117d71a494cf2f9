"""How PostgreSQL would read an attached view: recdb asks for one user's rows and for one item's row in each call.

A table of a few rows is read whole in any case, so the plans are made without sequential scans, and with joins by
nested loops: a table that is still read whole then has no index that serves.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from recdb.data.sources import Relation, Role
from recdb.database import fetch_row
from recdb.schemas import Verbatim

PLANNER = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}

# A value that needs no row of the table.
DUMMIES = {
    "uuid": "'00000000-0000-0000-0000-000000000000'::uuid",
    "bigint": "0::bigint",
    "integer": "0::integer",
    "smallint": "0::smallint",
}


@dataclass(frozen=True)
class WholeRead:
    """A table that is read whole, for which question, and the column to index, perhaps of another table.

    Without columns no index would help.
    """

    table: str
    question: str
    columns: tuple[str, ...]
    indexed: str

    @property
    def reason(self) -> str:
        """Name the slow part."""
        return f"{self.question} reads the whole table {self.table}"


def find_whole_reads(
    connection: psycopg.Connection, relation: Relation, role: Role, mapping: Mapping[str, str]
) -> list[WholeRead]:
    """Find the tables that are read whole for one user, one item or the new rows of a view or a condition.

    A table that is attached itself is left to recdb.missing_indexes().
    """
    found: dict[WholeRead, None] = {}
    for question, query in questions(relation, role, mapping):
        plan = plan_query(connection, query)
        if plan is None:
            continue
        wholes, filtered = list(whole_reads(plan, [])), list(filtered_reads(plan))
        for schema, table, columns in wholes:
            # The table stands first in a join, because another one, which has the condition, lacks an index.
            where = (schema, table) if columns or not filtered else filtered[0][:2]
            name, other = name_table(connection, schema, table), name_table(connection, *where)
            whole = WholeRead(name, question, columns or (filtered[0][2] if filtered else ()), other)
            if relation.kind == "view" or name != relation.name:
                found[leave_indexed(connection, whole)] = None
    return list(found)


def name_table(connection: psycopg.Connection, schema: str, table: str) -> str:
    """Return a table's name, quoted for SQL; for a partition its table's, where an index covers every partition."""
    (name,) = fetch_row(
        connection,
        """
        select coalesce(
            (select format('%%I.%%I', n.nspname, c.relname)
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where c.oid = pg_partition_root(to_regclass(t.name))), t.name)
        from format('%%I.%%I', %s::text, %s::text) t(name)
        """,
        [schema, table],
    )
    return str(name)


def questions(relation: Relation, role: Role, mapping: Mapping[str, str]) -> Iterator[tuple[str, sql.Composed]]:
    """Yield the questions that recdb asks an attached relation, each with its query."""
    keys = {"interactions": ("user", "at"), "items": ("item",), "impressions": ("at",)}[role]
    names = {
        "user": "each recommendation",
        "item": "each recommendation",
        "at": "each refresh",
    }
    conditions = [mapping["where"]] if mapping.get("where") else []
    shown = [mapping["available"]] if mapping.get("available") else ["true"]
    for key in keys:
        column = relation.column(mapping.get(key, ""))
        if column is None:
            continue
        operator, value = ("=", DUMMIES.get(column.type, "'x'")) if key != "at" else (">=", "now()")
        yield (
            names[key],
            sql.SQL("select {}, * from {} where {} {} {}{}").format(
                sql.SQL(shown[0] if relation.column(shown[0]) is None else "true"),
                relation.identifier,
                sql.Identifier(column.name),
                sql.SQL(operator),
                sql.SQL(value),
                sql.SQL("").join(sql.SQL(" and (\n{}\n)").format(Verbatim(text)) for text in conditions),
            ),
        )


def plan_query(connection: psycopg.Connection, query: sql.Composed) -> dict[str, Any] | None:
    """Plan a query as if every table were large; None if it cannot be planned by this role."""
    try:
        with connection.transaction(force_rollback=True):
            for name, value in PLANNER.items():
                connection.execute("select set_config(%s, %s, true)", [name, value])
            (plan,) = fetch_row(connection, sql.SQL("explain (verbose, format json) {}").format(query))
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError):
        return None
    return dict(plan[0]["Plan"])


def whole_reads(node: dict[str, Any], conditions: list[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Walk a plan; yield the schema, the table and the columns to index for each table that is read whole.

    `conditions` are those of the nodes above, in which a table's columns may be compared.
    """
    own = [str(text) for key, text in node.items() if key.endswith(("Filter", "Cond"))]
    kind = node["Node Type"]
    if "Relation Name" in node and kind.endswith("Scan") and kind not in ("Foreign Scan", "Tid Scan"):
        condition = node.get("Recheck Cond" if kind == "Bitmap Heap Scan" else "Index Cond")
        if kind == "Seq Scan" or not condition:
            yield node["Schema"], node["Relation Name"], compared(node["Alias"], [*own, *conditions])
    for child in node.get("Plans", ()):
        yield from whole_reads(child, [*own, *conditions])


def filtered_reads(node: dict[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Find the tables of a plan that are read by an index for a join, while a condition on them has no index."""
    if "Relation Name" in node and "Filter" in node and node.get("Index Cond"):
        columns = compared(node["Alias"], [str(node["Filter"])])
        if columns:
            yield node["Schema"], node["Relation Name"], columns
    for child in node.get("Plans", ()):
        yield from filtered_reads(child)


def compared(alias: str, conditions: list[str]) -> tuple[str, ...]:
    """Find the columns of a table that conditions compare: an index would need them."""
    name = r'"?' + re.escape(alias) + r'"?\.("(?:[^"]|"")+"|\w+)'
    found: list[str] = []
    for condition in conditions:
        for left, right in re.findall(rf"\({name} (?:=|>=) |(?: = |>= ){name}\)", condition):
            column = left or right
            column = column[1:-1].replace('""', '"') if column.startswith('"') else column
            if column not in found:
                found.append(column)
    return tuple(found[:1])


def leave_indexed(connection: psycopg.Connection, whole: WholeRead) -> WholeRead:
    """Suggest no index that is there already: then something else keeps PostgreSQL from using it."""
    if not whole.columns:
        return whole
    (indexed,) = fetch_row(
        connection,
        """
        select exists (
            select from pg_index i
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where i.indrelid = to_regclass(%s) and i.indisvalid and i.indpred is null and a.attname = %s)
        """,
        [whole.indexed, whole.columns[0]],
    )
    return replace(whole, columns=() if indexed else whole.columns)


def describe_read(connection: psycopg.Connection, relation: str, whole: WholeRead) -> tuple[str, str | None]:
    """Write the warning about a whole read, and the statement that makes an index or the change in the view."""
    message = f"{relation}: {whole.reason}"
    if not whole.columns:
        return (
            message,
            "no index helps: a cast, a window function, distinct or an aggregate in between keeps the condition out",
        )
    (name, concurrently) = fetch_row(
        connection,
        "select quote_ident(%s), case relkind when 'p' then '' else 'concurrently ' end from pg_class "
        "where oid = %s::regclass",
        [whole.columns[0], whole.indexed],
    )
    return message, f"create index {concurrently}on {whole.indexed} ({name});"
