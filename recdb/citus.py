"""Citus, an extension that spreads tables over several servers: is it here, and which tables of recdb has it spread.

recdb needs no Citus. `recdb distribute` spreads two tables, the interactions and the vectors of the users; everything
else stays on the coordinator, the server that clients connect to. See docs/citus.md.
"""

import psycopg
from psycopg import sql

from recdb.database import fetch_row
from recdb.errors import RecdbError

SPREAD_TABLES = ("interaction", "user_vector")
"""The tables that `recdb distribute` spreads, by the hash of the user."""


def has_citus(connection: psycopg.Connection) -> bool:
    """Tell whether this database has the extension Citus."""
    (found,) = fetch_row(connection, "select exists (select from pg_catalog.pg_extension where extname = 'citus')")
    return bool(found)


def is_distributed(connection: psycopg.Connection, table: str) -> bool:
    """Tell whether Citus has spread a table of recdb over its nodes."""
    if not has_citus(connection):
        return False
    (found,) = fetch_row(
        connection,
        "select exists (select from pg_catalog.pg_dist_partition d "
        "where d.logicalrelid = to_regclass('recdb.' || %s) and d.partmethod = 'h')",
        [table],
    )
    return bool(found)


def is_worker(connection: psycopg.Connection) -> bool:
    """Tell whether another server coordinates this database."""
    if not has_citus(connection):
        return False
    (found,) = fetch_row(
        connection, "select exists (select from pg_catalog.pg_dist_node) and not pg_catalog.citus_is_coordinator()"
    )
    return bool(found)


def require_coordinator(connection: psycopg.Connection) -> None:
    """Raise RecdbError on a worker of a cluster, where Citus would pass on each change to all nodes."""
    if is_worker(connection):
        raise RecdbError("this server is a worker of a Citus cluster", "connect to the coordinator: recdb is there")


def keep_definitions_here(connection: psycopg.Connection) -> None:
    """Let Citus copy no definition to other nodes until this transaction ends.

    recdb's functions and views run on the coordinator only. Citus would copy each of them, and refuses some: a function
    in SQL that names itself before a parameter depends on itself, for Citus. A new table is nobody's but this server's,
    also where Citus is set to manage all tables.
    """
    if has_citus(connection):
        connection.execute(
            "select set_config('citus.enable_ddl_propagation', 'off', true), "
            "set_config('citus.use_citus_managed_tables', 'off', true)"
        )


def spread_partition(connection: psycopg.Connection, table: str) -> None:
    """Spread a table of user vectors over Citus' nodes as the partitions of recdb.user_vector are."""
    connection.execute(
        "select pg_catalog.create_distributed_table("
        "format('recdb.%%I', %s::text), 'user_key', colocate_with => 'recdb.user_vector')",
        [table],
    )


def set_everywhere(connection: psycopg.Connection, table: str, setting: str, value: str) -> None:
    """Set a setting until the transaction ends: for a spread table, on its nodes too."""
    if is_distributed(connection, table):
        # Citus sends SET LOCAL to its nodes, and no set_config().
        connection.execute("select set_config('citus.propagate_set_commands', 'local', true)")
        statement = sql.SQL("set local {} = {}").format(sql.Identifier(setting), sql.Literal(value))
        connection.execute(statement)
    else:
        connection.execute("select set_config(%s, %s, true)", [setting, value])


def require_here(connection: psycopg.Connection, relation: str) -> None:
    """Raise RecdbError if Citus has spread a table, or one that a view reads: recdb would find no row of it."""
    if not has_citus(connection):
        return
    row = connection.execute(
        "select d.logicalrelid::text from recdb.beneath(%s::regclass) b(oid) "
        "join pg_catalog.pg_dist_partition d on d.logicalrelid = b.oid limit 1",
        [relation],
    ).fetchone()
    if row:
        raise RecdbError(
            f"Citus has spread {row[0]} over its nodes, and recdb reads tables of the coordinator only",
            f"select undistribute_table('{row[0]}'); or load its rows into recdb's own store with recdb load",
        )


def use_connections(connection: psycopg.Connection) -> None:
    """Let Citus reach shards on this server as it reaches others, until this transaction ends.

    Where it writes them directly, it refuses statements for all shards, such as ANALYZE, in the same transaction.
    """
    if has_citus(connection):
        connection.execute("select set_config('citus.enable_local_execution', 'off', true)")


def lift_result_limit(connection: psycopg.Connection) -> None:
    """Let the queries of this session bring any number of interactions to the coordinator: Citus stops them at 1 GB.

    And let Citus leave the tables alone that this session makes.
    """
    if has_citus(connection):
        connection.execute(
            "select set_config('citus.max_intermediate_result_size', '-1', false), "
            "set_config('citus.use_citus_managed_tables', 'off', false)"
        )
