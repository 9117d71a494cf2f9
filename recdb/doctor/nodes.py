"""Checks of a cluster of Citus over which recdb is spread: its nodes, the shards and their indexes, its settings.

Without Citus, and before `recdb distribute`, none of them applies.
"""

import re

import psycopg

from recdb.citus import SPREAD_TABLES, is_distributed
from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, some

AWAY = re.compile(r"connection to the remote node|could not connect to \S+:\d+|connection not open")
"""What Citus says in the error of a query that needs a node which is away."""
START = "start these nodes"
NODE = "n.nodename || ':' || n.nodeport"


def is_spread(connection: psycopg.Connection) -> bool:
    """Tell whether a table of recdb is spread over nodes."""
    return any(is_distributed(connection, table) for table in SPREAD_TABLES)


def ask_nodes(connection: psycopg.Connection, question: str) -> list[tuple[str, bool, str | None]]:
    """Ask every node a question that has one answer; return each node's name, whether it answered, and the answer."""
    return connection.execute(
        f"select {NODE}, r.success, r.result from pg_catalog.run_command_on_all_nodes(%s) r "
        "join pg_catalog.pg_dist_node n on n.nodeid = r.nodeid order by 1",
        [question],
    ).fetchall()


def unanswered(answers: list[tuple[str, bool, str | None]]) -> Verdict | None:
    """Return a verdict if a node has not answered."""
    away = [name for name, success, _ in answers if not success]
    return Verdict("warn", f"no answer from {some(away)}", START) if away else None


def check_cluster_nodes(connection: psycopg.Connection) -> Verdict | None:
    """Every node answers, and all have the same pgvector."""
    if not is_spread(connection):
        return None
    away = connection.execute(
        "select distinct h.to_nodename || ':' || h.to_nodeport from pg_catalog.citus_check_cluster_node_health() h "
        "where h.from_nodename = (select c.nodename from pg_catalog.pg_dist_node c where c.groupid = 0 limit 1) "
        "and h.result is not true order by 1"
    ).fetchall()
    if away:
        names = some([name for (name,) in away])
        return Verdict("fail", f"no answer from {names}: every call of recommend() fails", START)
    versions = ask_nodes(connection, "select extversion from pg_catalog.pg_extension where extname = 'vector'")
    if len({version for _, _, version in versions}) > 1:
        listed = some([f"{name} ({version or 'none'})" for name, _, version in versions])
        return Verdict("warn", f"nodes have different versions of pgvector: {listed}", "alter extension vector update;")
    return Verdict("ok", f"{len(versions)} answer")


def check_vector_shards(connection: psycopg.Connection) -> Verdict | None:
    """The interactions and the vectors are both spread, and each shard of vectors has an HNSW index."""
    if not is_spread(connection):
        return None
    missing = [table for table in SPREAD_TABLES if not is_distributed(connection, table)]
    if missing:
        return Verdict("warn", f"recdb.{missing[0]} is not spread, and the other tables are", "recdb distribute")
    (left,) = fetch_row(
        connection,
        "select coalesce(sum(pg_relation_size(d.logicalrelid)), 0)::bigint from pg_catalog.pg_dist_partition d "
        "join pg_class c on c.oid = d.logicalrelid where c.relnamespace = 'recdb'::regnamespace",
    )
    if left:
        size = f"{-(-left // (1 << 20)):,} MB"
        return Verdict("warn", f"{size} of rows that were copied to the nodes are still here", "recdb distribute")
    bare, silent, shards = [], [], 0
    partitions = connection.execute(
        "select 'user_vector_' || m.model_id from recdb.model m where m.state = 'ready' order by m.model_id"
    ).fetchall()
    for (partition,) in partitions:
        rows = connection.execute(
            "select r.shardid, r.success, r.result from pg_catalog.run_command_on_shards(%s::regclass, %s) r",
            [
                f"recdb.{partition}",
                "select count(*) from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid "
                "join pg_catalog.pg_am a on a.oid = x.relam "
                "where i.indrelid = '%s'::regclass and a.amname = 'hnsw' and i.indisvalid",
            ],
        ).fetchall()
        shards = len(rows)
        bare += [f"recdb.{partition}_{shard}" for shard, success, indexes in rows if success and indexes == "0"]
        silent += [f"recdb.{partition}_{shard}" for shard, success, _ in rows if not success]
    if bare:
        return Verdict(
            "fail",
            f"shards without a valid HNSW index, so each search scans them: {some(bare)}",
            "recdb refresh --full",
        )
    if silent:
        return Verdict("warn", f"no answer from the nodes of {some(silent)}", "start the nodes of the check nodes")
    return Verdict("ok", f"{shards} of vectors, each with its index" if partitions else "no vectors yet")


def check_searches(connection: psycopg.Connection) -> Verdict | None:
    """Searches in shards go on until they have enough rows: a setting that reaches nodes only through the database."""
    if not is_spread(connection):
        return None
    answers = ask_nodes(connection, "select coalesce(pg_catalog.current_setting('hnsw.iterative_scan', true), '')")
    short = [name for name, success, value in answers if success and value != "strict_order"]
    if short:
        (database,) = fetch_row(connection, "select quote_ident(current_database())")
        return Verdict(
            "warn",
            f"hnsw.iterative_scan is not strict_order on {some(short)}: a search finds at most 40 users in a shard",
            f"recdb distribute; or as a superuser there: load 'vector'; alter database {database} "
            "set hnsw.iterative_scan = 'strict_order';",
        )
    return unanswered(answers) or Verdict("ok", "hnsw.iterative_scan is strict_order on every node")


def check_durability(connection: psycopg.Connection) -> Verdict | None:
    """No node acknowledges writes before they are on disk: a shard that moves would leave them behind."""
    if not is_spread(connection):
        return None
    answers = ask_nodes(
        connection,
        "select pg_catalog.current_setting('synchronous_commit') || coalesce((select ', for role ' || "
        "min(r.rolname) from pg_catalog.pg_db_role_setting s join pg_catalog.pg_roles r on r.oid = s.setrole "
        "where pg_catalog.lower(s.setconfig::text) ~ 'synchronous_commit=(off|false|no|0)'), '')",
    )
    loose = [name for name, _, value in answers if value and (value.startswith("off") or ", for role " in value)]
    (moving,) = fetch_row(connection, "select exists (select from pg_catalog.get_rebalance_progress())")
    if loose and moving:
        return Verdict(
            "fail",
            f"shards are moving, and synchronous_commit is off on {some(loose)}: acknowledged interactions get lost",
            "select citus_rebalance_stop(); alter system set synchronous_commit = on; select pg_reload_conf();",
        )
    if loose:
        return Verdict(
            "warn",
            f"synchronous_commit is off on {some(loose)}: acknowledged interactions get lost while shards move",
            "before citus_rebalance_start(), on these nodes: alter system set synchronous_commit = on; "
            "select pg_reload_conf();",
        )
    return unanswered(answers) or Verdict(
        "ok", "shards are moving" if moving else "writes are on disk before they are acknowledged"
    )


def check_writers(connection: psycopg.Connection) -> Verdict | None:
    """No interactions came through another node than the coordinator: their transaction numbers are of that node."""
    if not is_distributed(connection, "interaction"):
        return None
    (bound,) = fetch_row(connection, "select pg_snapshot_xmax(pg_current_snapshot())::text")
    (count,) = fetch_row(connection, "select count(*) from recdb.interaction i where i.recorded_in > %s::xid8", [bound])
    if count:
        return Verdict(
            "warn",
            f"{count:,} interactions were written through another node than the coordinator: a refresh sees those with "
            "a recent created_at, and others wait for recdb refresh --full",
            "write through the coordinator: recdb.track() is there",
        )
    return Verdict("ok", "interactions come through the coordinator")
