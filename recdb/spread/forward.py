"""`recdb distribute`: spread the interactions and the vectors of users over the nodes of a Citus cluster, in place."""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from recdb.citus import SPREAD_TABLES
from recdb.database import Database, fetch_row
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.indexes import build_spread_index
from recdb.job.lock import job_lock, naming_the_blocker
from recdb.migrate import require_whole
from recdb.preconditions import check_owner
from recdb.progress import Report
from recdb.spread.check import (
    check_number,
    find_cluster,
    require_free_tables,
    require_nodes,
    require_one_table,
    require_sources_here,
)
from recdb.spread.hold import HOLD_WAIT, gather_statistics, hold_tables, key_columns, partitions_of

KEYS = {"interaction": "user_id", "user_vector": "user_key"}


def distribute(database: Database, shards: int | None, report: Report, *, dry_run: bool = False) -> list[str]:
    """Spread recdb's tables of users over the nodes; return a line for each step. With `dry_run`, only the lines.

    One transaction does it all, so an interrupted run leaves everything as it was. The steps after it, statistics and
    a setting of the database, are done again by every run. Raises RecdbError if the cluster is not ready.
    """
    with job_lock(database) as connection:
        if connection is None:
            raise RecdbError("a training is running: nothing was changed", "try again when it is done")
        require_whole(connection)
        check_owner(connection)
        cluster = find_cluster(connection)
        number = check_number(shards, cluster)
        require_nodes(connection, cluster)
        if cluster.spread and shards is not None and shards != cluster.shards:
            raise RecdbError(
                f"recdb has {cluster.shards} shards already: nothing was changed",
                f"recdb distribute --undo; then: recdb distribute --shards {shards}",
            )
        require_sources_here(connection)
        require_one_table(connection)
        todo = [table for table in SPREAD_TABLES if table not in cluster.spread]
        require_free_tables(connection, todo)
        lines = list(plan_lines(connection, todo, number, cluster.nodes))
        if dry_run:
            return lines
        if todo:
            with naming_the_blocker(database, HOLD_WAIT), connection.transaction():
                hold_tables(connection)
                # Citus keeps one copy of a shard that it hashes; more of them would need as many nodes.
                connection.execute("select set_config('citus.shard_replication_factor', '1', true)")
                for table in todo:
                    report(f"spreading {table}")
                    spread(connection, table, number)
                    reach(f"{table} spread")
                connection.execute("select recdb.fit_functions()")
            reach("spread")
        report("gathering statistics")
        gather_statistics(connection)
        lines += set_iterative_scan(connection)
        with naming_the_blocker(database, HOLD_WAIT):
            drop_copied(connection, report)
        return lines


def plan_lines(connection: psycopg.Connection, todo: list[str], shards: int, nodes: int) -> Iterator[str]:
    """Yield a line for each step of `distribute()`."""
    if not todo:
        yield "recdb is spread already"
    for table in todo:
        (rows, size) = fetch_row(
            connection,
            "select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, "
            "coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint "
            "from pg_class c where c.relnamespace = 'recdb'::regnamespace and c.relname = any (%s)",
            [partitions_of(connection, table)],
        )
        yield (
            f"recdb.{table}: about {rows:,} rows, {-(-size // (1 << 20)):,} MB, into {shards} shards by {KEYS[table]} "
            f"on {nodes} node{'s' if nodes > 1 else ''}"
        )


def spread(connection: psycopg.Connection, table: str, shards: int) -> None:
    """Spread a table over the nodes, with its rows and its indexes; the index of vectors is built in each shard."""
    leaves = partitions_of(connection, table)
    if table == "interaction":
        columns = key_columns(connection, table, with_user=True)
        connection.execute("alter table recdb.interaction drop constraint interaction_pkey")
        connection.execute(
            sql.SQL("alter table recdb.interaction add constraint interaction_pkey primary key ({})").format(columns)
        )
    slow = [leaf for leaf in leaves if drop_hnsw(connection, leaf)]
    connection.execute(
        "select pg_catalog.create_distributed_table('recdb.' || %s::text, %s, shard_count => %s, "
        "colocate_with => 'none')",
        [table, KEYS[table], shards],
    )
    if table != "interaction":  # whose rows here a call may still read, see drop_copied()
        empty(connection, leaves)
    for leaf in slow:
        build_spread_index(connection, leaf)


def drop_copied(connection: psycopg.Connection, report: Report) -> None:
    """Empty the tables here whose rows were copied to the nodes.

    Not in the transaction that copies the interactions: a call that waited for it may still have the plan that reads
    the rows here. Such a call holds the table, and so this waits until it has its rows.
    """
    leaves = [
        leaf
        for table in SPREAD_TABLES
        for leaf in partitions_of(connection, table)
        if fetch_row(connection, "select pg_relation_size(to_regclass('recdb.' || quote_ident(%s)))", [leaf])[0]
    ]
    if not leaves:
        return
    report("emptying the tables on the coordinator")
    with connection.transaction():
        hold_tables(connection)
        empty(connection, leaves)


def empty(connection: psycopg.Connection, tables: list[str]) -> None:
    """Remove the rows of spread tables that are still here."""
    for table in tables:
        connection.execute(
            "select pg_catalog.truncate_local_data_after_distributing_table(to_regclass('recdb.' || quote_ident(%s)))",
            [table],
        )


def drop_hnsw(connection: psycopg.Connection, table: str) -> bool:
    """Drop the HNSW index of a table, to be built after its rows are copied: row by row it takes many times as long."""
    rows = connection.execute(
        "select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam "
        "where i.indrelid = to_regclass('recdb.' || %s::text) and a.amname = 'hnsw'",
        [table],
    ).fetchall()
    for (name,) in rows:
        connection.execute(sql.SQL("drop index recdb.{}").format(sql.Identifier(name)))
    return bool(rows)


def set_iterative_scan(connection: psycopg.Connection) -> list[str]:
    """Let searches on every node go on until they have enough rows, by the database's setting; return steps left."""
    name, vector = fetch_row(
        connection,
        "select quote_ident(current_database()), quote_ident(n.nspname) from pg_extension e "
        "join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'",
    )
    statement = f"alter database {name} set hnsw.iterative_scan = 'strict_order'"
    # A vector loads pgvector's library, which knows the setting.
    alone = (
        f"do $do$ begin perform '[1]'::{vector}.vector; "
        f"perform set_config('citus.enable_ddl_propagation', 'off', true); {statement}; end $do$"
    )
    failed = connection.execute(
        "select n.nodename || ':' || n.nodeport, r.result from pg_catalog.run_command_on_all_nodes(%s) r "
        "join pg_catalog.pg_dist_node n on n.nodeid = r.nodeid where not r.success",
        [alone],
    ).fetchall()
    return [f"a superuser runs on {node}: load 'vector'; {statement}; ({reason})" for node, reason in failed]
