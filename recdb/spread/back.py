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
from recdb.migrate import replay_definitions, require_installed
from recdb.preconditions import check_owner
from recdb.progress import Report
from recdb.spread.check import find_cluster, require_nothing_to_lose
from recdb.spread.hold import HOLD_WAIT, gather_statistics, hold_tables, key_columns, partitions_of

SUFFIX = "_here"
NUMBERS = {"interaction": "interaction_id", "user": "user_key"}
"""The number by which the rows of a table are taken in parts, by the first word of its name."""
ROWS_A_COPY = 50_000
COPIED = "including defaults including constraints including storage including compression including comments"
IDENTITIES = {"f": "full", "n": "nothing"}
"""The replica identities that name no index."""


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
        check_owner(connection)
        cluster = find_cluster(connection)
        if not cluster.spread:
            raise RecdbError("recdb is not spread over nodes: nothing was changed")
        require_nothing_to_lose(connection, cluster.spread)
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
        gather_statistics(connection)
        return lines


def bring_back(connection: psycopg.Connection, tables: tuple[str, ...], report: Report) -> None:
    """Put a local table in the place of each spread one, with its rows, indexes and rights."""
    made: list[Made] = []
    sequence = read_sequence(connection)
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
    if "interaction" in tables:
        give_sequence(connection, sequence)
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
        "select c.relname, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisunique, coalesce(s.spcname, ''), "
        "obj_description(c.oid, 'pg_class'), r.relreplident::text = 'i' and i.indisreplident "
        "from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class r on r.oid = i.indrelid "
        "left join pg_tablespace s on s.oid = c.reltablespace "
        "where i.indrelid = to_regclass('recdb.' || %s::text) order by c.oid",
        [table],
    ).fetchall()
    names = {}
    new = named(f"{table}{SUFFIX}")
    for place, (name, definition, primary, unique, tablespace, comment, identity) in enumerate(rows):
        now = f"{table}{SUFFIX}_{place}"
        connection.execute("select set_config('default_tablespace', %s, true)", [tablespace])
        if primary:
            columns = key_columns(connection, table, with_user=False)
            connection.execute(
                sql.SQL("alter table {} add constraint {} primary key ({})").format(new, sql.Identifier(now), columns)
            )
        else:
            _, _, rest = definition.partition(" USING ")
            create = sql.SQL("create unique index {} on {} using " if unique else "create index {} on {} using ")
            connection.execute(create.format(sql.Identifier(now), new) + sql.SQL(rest))
        if comment:
            connection.execute(sql.SQL("comment on index {} is {}").format(named(now), sql.Literal(comment)))
        if identity:
            connection.execute(
                sql.SQL("alter table {} replica identity using index {}").format(new, sql.Identifier(now))
            )
        names[now] = name
    connection.execute("select set_config('default_tablespace', '', true)")
    return names


def copy_attributes(connection: psycopg.Connection, table: str) -> None:
    """Give the new table the comment, the settings, the rights and the replica identity of the spread one."""
    new = named(f"{table}{SUFFIX}")
    connection.execute("select recdb.revoke_grants(to_regclass('recdb.' || %s::text))", [f"{table}{SUFFIX}"])
    connection.execute(
        "select recdb.copy_settings(to_regclass('recdb.' || %s::text), to_regclass('recdb.' || %s::text))",
        [table, f"{table}{SUFFIX}"],
    )
    comment, identity, grants = fetch_row(
        connection,
        """
        select obj_description(c.oid, 'pg_class'), c.relreplident::text, array(
            select concat(a.privilege_type, a.columns, ' on recdb.', quote_ident(%s), ' to ',
                case when a.grantee = 0 then 'public' else a.grantee::regrole::text end,
                case when a.is_grantable then ' with grant option' end)
            from (
                select g.privilege_type, g.grantee, g.is_grantable, null as columns from aclexplode(c.relacl) g
                union all
                select g.privilege_type, g.grantee, g.is_grantable, format(' (%%I)', t.attname)
                from pg_attribute t cross join lateral aclexplode(t.attacl) g
                where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
            ) a
            where a.grantee <> c.relowner)
        from pg_class c where c.oid = to_regclass('recdb.' || %s::text)
        """,
        [f"{table}{SUFFIX}", table],
    )
    if comment:
        connection.execute(sql.SQL("comment on table {} is {}").format(new, sql.Literal(comment)))
    if identity in IDENTITIES:
        connection.execute(sql.SQL("alter table {} replica identity ").format(new) + sql.SQL(IDENTITIES[identity]))
    for grant in grants:
        connection.execute(sql.SQL("grant ") + sql.SQL(grant))


@dataclass(frozen=True)
class Sequence:
    """The sequence of interaction_id: where it is, and who may use it."""

    last: int
    called: bool
    grants: list[str]


def read_sequence(connection: psycopg.Connection) -> Sequence:
    """Read the sequence of interaction_id."""
    (name,) = fetch_row(connection, "select pg_get_serial_sequence('recdb.interaction', 'interaction_id')")
    last, called = fetch_row(connection, f"select last_value, is_called from {name}")
    rows = connection.execute(
        "select concat(g.privilege_type, ' on sequence recdb.interaction_interaction_id_seq to ', "
        "case when g.grantee = 0 then 'public' else g.grantee::regrole::text end, "
        "case when g.is_grantable then ' with grant option' end) "
        "from pg_class c cross join lateral aclexplode(c.relacl) g "
        "where c.oid = %s::regclass and g.grantee <> c.relowner",
        [name],
    ).fetchall()
    return Sequence(last, called, [grant for (grant,) in rows])


def give_sequence(connection: psycopg.Connection, before: Sequence) -> None:
    """Give the new sequence of interaction_id the name, the place and the rights of the one before.

    A row that an application numbered itself may have a higher number. Rows that came through a worker have numbers
    from 2^48 on, which the sequence never reaches.
    """
    (name, highest) = fetch_row(
        connection,
        "select pg_get_serial_sequence('recdb.interaction', 'interaction_id'), "
        "(select coalesce(max(i.interaction_id), 0) from recdb.interaction i where i.interaction_id < 1::bigint << 48)",
    )
    connection.execute("select recdb.revoke_grants(%s::regclass)", [name])
    beyond = highest > before.last
    place = [name, highest if beyond else before.last, beyond or before.called]
    connection.execute("select setval(%s::regclass, %s, %s)", place)
    connection.execute(f"alter sequence {name} rename to interaction_interaction_id_seq")
    for grant in before.grants:
        connection.execute(sql.SQL("grant ") + sql.SQL(grant))


def rename(connection: psycopg.Connection, before: str, after: str) -> None:
    """Rename a table."""
    connection.execute(sql.SQL("alter table {} rename to {}").format(named(before), sql.Identifier(after)))


def named(table: str) -> sql.Composed:
    """Return the name of one of recdb's relations."""
    return sql.SQL("recdb.{}").format(sql.Identifier(table))
