"""`recdb distribute --undo`: bring recdb's tables back to the coordinator, in place.

Citus' own undistribute_table() takes no table with an identity column, and drops the dependents of the old table with
cascade. So each table is made again beside the spread one, filled from it, and put in its place. Then the replay of
`sql/` lets recdb's views name the new one, and the old one goes without cascade: a dependent
of the application stops the transaction.
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from recdb.database import Database, fetch_row
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.lock import job_lock, naming_the_blocker
from recdb.job.rebuild import vacuum
from recdb.migrate import replay_definitions, require_installed
from recdb.progress import Report
from recdb.spread.check import find_cluster
from recdb.spread.hold import HOLD_WAIT, hold_tables, key_columns, partitions_of

SUFFIX = "_here"
NUMBERS = {"interaction": "interaction_id", "user": "user_key"}
"""The number by which the rows of a table are taken in parts, by the first word of its name."""
ROWS_A_COPY = 50_000
COPIED = "including defaults including constraints including storage including comments"


@dataclass(frozen=True)
class Made:
    """A table that takes the place of a spread one, which bears its name meanwhile."""

    name: str
    indexes: dict[str, str]
    """The names of its indexes for now, and those that they get."""


def undo(database: Database, report: Report, *, dry_run: bool = False) -> list[str]:
    """Bring the spread tables back to the coordinator; return a line for each. With `dry_run`, only the lines.

    One transaction does it all, so an interrupted run leaves everything as it was. Raises RecdbError if nothing is
    spread, or if objects of the application depend on the tables.
    """
    with job_lock(database) as connection:
        if connection is None:
            raise RecdbError("a training is running: nothing was changed", "try again when it is done")
        require_installed(connection)
        cluster = find_cluster(connection)
        if not cluster.spread:
            raise RecdbError("recdb is not spread over nodes: nothing was changed")
        lines = []
        for table in cluster.spread:
            (size,) = fetch_row(
                connection,
                "select sum(pg_catalog.citus_total_relation_size(c.oid))::bigint from pg_class c "
                "where c.oid = any (select ('recdb.' || quote_ident(n))::regclass from unnest(%s::text[]) n)",
                [partitions_of(connection, table)],
            )
            lines.append(f"recdb.{table}: {-(-(size or 0) // (1 << 20)):,} MB, from the nodes to the coordinator")
        if dry_run:
            return lines
        with naming_the_blocker(database, HOLD_WAIT), connection.transaction():
            hold_tables(connection, views=True)
            bring_back(connection, cluster.spread, report)
        reach("brought back")
        report("gathering statistics")
        vacuum(connection)
        return lines


def bring_back(connection: psycopg.Connection, tables: tuple[str, ...], report: Report) -> None:
    """Put a local table in the place of each spread one, with its rows, indexes and rights."""
    made: list[Made] = []
    place = sequence_place(connection)
    for table in tables:
        report(f"bringing back {table}")
        partitions = partitions_of(connection, table)
        made += copy_whole(connection, table) if partitions == [table] else copy_parts(connection, table, partitions)
        # Only the names that functions and views know change places now: the partitions' own names are still taken.
        rename(connection, table, f"{table}_spread")
        rename(connection, f"{table}{SUFFIX}", table)
        reach(f"{table} copied")
    report("replacing functions and views")
    replay_definitions(connection)
    connection.execute("select set_config('citus.enable_ddl_propagation', 'on', true)")
    for table in tables:
        try:
            with connection.transaction():
                connection.execute(sql.SQL("drop table {}").format(named(f"{table}_spread")))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise RecdbError(
                "objects of the application depend on recdb's tables: nothing was changed",
                f"drop them first, and make them again afterwards: {error.diag.message_detail}",
            ) from error
    for one in made:
        if one.name not in tables:
            rename(connection, f"{one.name}{SUFFIX}", one.name)
        for now, then in one.indexes.items():
            connection.execute(sql.SQL("alter index {} rename to {}").format(named(now), sql.Identifier(then)))
    rename_sequence(connection, place)
    connection.execute("select recdb.fit_functions()")


def copy_whole(connection: psycopg.Connection, table: str) -> list[Made]:
    """Make a table again with its rows."""
    return [copy_leaf(connection, table, identity=True)]


def copy_parts(connection: psycopg.Connection, table: str, partitions: list[str]) -> list[Made]:
    """Make a partitioned table again, with its partitions and their rows."""
    new, old = named(f"{table}{SUFFIX}"), named(table)
    (key, bounds) = fetch_row(
        connection,
        "select pg_get_partkeydef(c.oid), array(select pg_get_expr(p.relpartbound, p.oid) "
        "from unnest(%s::text[]) with ordinality n(name, place) "
        "join pg_class p on p.oid = ('recdb.' || quote_ident(n.name))::regclass order by n.place) "
        "from pg_class c where c.oid = to_regclass('recdb.' || %s::text)",
        [partitions, table],
    )
    like = sql.SQL(f"create table {{}} (like {{}} {COPIED} including identity)")
    connection.execute(like.format(new, old) + sql.SQL(" partition by ") + sql.SQL(key))
    made = [Made(table, make_indexes(connection, table)), *(copy_leaf(connection, leaf) for leaf in partitions)]
    copy_attributes(connection, table)
    for leaf, bound in zip(partitions, bounds, strict=True):
        connection.execute(
            sql.SQL("alter table {} attach partition {} ").format(new, named(f"{leaf}{SUFFIX}")) + sql.SQL(bound)
        )
    return made


def copy_leaf(connection: psycopg.Connection, table: str, *, identity: bool = False) -> Made:
    """Make a table without partitions again, with its rows and indexes."""
    new, old = named(f"{table}{SUFFIX}"), named(table)
    copied = f"{COPIED} including identity" if identity else COPIED
    connection.execute(sql.SQL(f"create table {{}} (like {{}} {copied})").format(new, old))
    copy_attributes(connection, table)
    copy_rows(connection, table)
    return Made(table, make_indexes(connection, table))


def copy_rows(connection: psycopg.Connection, table: str) -> None:
    """Fill the new table from the spread one, frozen: a call that waits for the new table sees rows of no transaction
    that ended after the call began, but frozen rows.

    They go by way of this process, in parts that its memory holds.
    """
    new, old, number = named(f"{table}{SUFFIX}"), named(table), sql.Identifier(NUMBERS[table.partition("_")[0]])
    columns = sql.SQL(", ").join(
        sql.Identifier(name)
        for (name,) in connection.execute(
            "select a.attname from pg_attribute a where a.attrelid = to_regclass('recdb.' || quote_ident(%s)) "
            "and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum",
            [table],
        ).fetchall()
    )
    into = sql.SQL("copy {} ({}) from stdin (format binary, freeze)").format(new, columns)
    last = -(1 << 31)  # Citus takes it for a number of the column's type
    while True:
        numbers = sql.SQL("select {0} as number from {1} where {0} > {2} order by {0} limit {3}").format(
            number, old, last, ROWS_A_COPY
        )
        (end,) = fetch_row(connection, sql.SQL("select max(n.number) from ({}) n").format(numbers))
        if end is None:
            return
        rows = sql.SQL("select {} from {} where {} between {} and {}").format(columns, old, number, last + 1, end)
        with connection.cursor() as cursor:
            with cursor.copy(sql.SQL("copy ({}) to stdout (format binary)").format(rows)) as read:
                parts = list(read)
            with cursor.copy(into) as write:
                for part in parts:
                    write.write(part)
        last = end


def make_indexes(connection: psycopg.Connection, table: str) -> dict[str, str]:
    """Make a table's indexes on the new table; return their names for now and the names that they get."""
    rows = connection.execute(
        "select c.relname, pg_get_indexdef(i.indexrelid), i.indisprimary from pg_index i "
        "join pg_class c on c.oid = i.indexrelid where i.indrelid = to_regclass('recdb.' || %s::text) order by c.oid",
        [table],
    ).fetchall()
    names = {}
    for place, (name, definition, primary) in enumerate(rows):
        if primary:
            columns = key_columns(connection, table, with_user=False)
            connection.execute(
                sql.SQL("alter table {} add constraint {} primary key ({})").format(
                    named(f"{table}{SUFFIX}"), sql.Identifier(f"{table}{SUFFIX}_{place}"), columns
                )
            )
        else:
            _, _, rest = definition.partition(" USING ")
            connection.execute(
                sql.SQL("create index {} on {} using ").format(
                    sql.Identifier(f"{table}{SUFFIX}_{place}"), named(f"{table}{SUFFIX}")
                )
                + sql.SQL(rest)
            )
        names[f"{table}{SUFFIX}_{place}"] = name
    return names


def copy_attributes(connection: psycopg.Connection, table: str) -> None:
    """Give the new table the comment, the storage parameters and the rights of the spread one."""
    comment, options, grants = fetch_row(
        connection,
        """
        select obj_description(c.oid, 'pg_class'), array_to_string(c.reloptions, ', '),
            array(
                select format('%%s to %%s%%s', a.privilege_type,
                    case when a.grantee = 0 then 'public' else a.grantee::regrole::text end,
                    case when a.is_grantable then ' with grant option' else '' end)
                from aclexplode(c.relacl) a where a.grantee <> c.relowner)
        from pg_class c where c.oid = to_regclass('recdb.' || %s::text)
        """,
        [table],
    )
    new = named(f"{table}{SUFFIX}")
    if comment:
        connection.execute(sql.SQL("comment on table {} is {}").format(new, sql.Literal(comment)))
    if options:
        connection.execute(sql.SQL("alter table {} set ({})").format(new, sql.SQL(options)))
    connection.execute("select recdb.revoke_grants(to_regclass('recdb.' || %s::text))", [f"{table}{SUFFIX}"])
    for grant in grants:
        privilege, _, role = grant.partition(" to ")
        connection.execute(sql.SQL("grant {} on {} to {}").format(sql.SQL(privilege), new, sql.SQL(role)))


def sequence_place(connection: psycopg.Connection) -> tuple[int, bool]:
    """Return the last number of the sequence of interaction_id, and whether a row had it."""
    (name,) = fetch_row(connection, "select pg_get_serial_sequence('recdb.interaction', 'interaction_id')")
    (last, used) = fetch_row(connection, f"select s.last_value, s.is_called from {name} s")
    return last, used


def rename_sequence(connection: psycopg.Connection, place: tuple[int, bool]) -> None:
    """Give the sequence of interaction_id its name and its place back.

    The number of an erased interaction is not given again. Rows that came through a worker have numbers far above.
    """
    (name,) = fetch_row(connection, "select pg_get_serial_sequence('recdb.interaction', 'interaction_id')")
    connection.execute("select recdb.revoke_grants(%s::regclass)", [name])
    connection.execute("select setval(%s::regclass, %s, %s)", [name, *place])
    if not name.endswith(".interaction_interaction_id_seq"):
        connection.execute(f"alter sequence {name} rename to interaction_interaction_id_seq")


def rename(connection: psycopg.Connection, before: str, after: str) -> None:
    """Rename a table."""
    connection.execute(sql.SQL("alter table {} rename to {}").format(named(before), sql.Identifier(after)))


def named(table: str) -> sql.Composed:
    """Return the name of one of recdb's relations."""
    return sql.SQL("recdb.{}").format(sql.Identifier(table))
