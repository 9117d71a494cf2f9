"""The needs of recdb before it is spread over a cluster of Citus: checks that change nothing."""

from dataclasses import dataclass

import psycopg

from recdb.citus import SPREAD_TABLES, has_citus, is_distributed, require_coordinator
from recdb.database import fetch_row
from recdb.errors import InvalidInput, RecdbError

MOST_SHARDS = 128
DOCUMENT = "docs/citus.md"


@dataclass(frozen=True)
class Cluster:
    """The nodes that hold shards, and the state of recdb's tables on them."""

    nodes: int
    """How many nodes hold shards."""
    spread: tuple[str, ...]
    """The tables that are spread already."""
    shards: int
    """How many shards the interactions have, 0 if they are not spread."""


def require_citus(connection: psycopg.Connection) -> None:
    """Raise RecdbError unless this database is the coordinator of a Citus cluster."""
    if not has_citus(connection):
        raise RecdbError(
            "this database has no extension citus",
            "a superuser runs: create extension citus; on every node, and adds the nodes with citus_add_node()",
        )
    require_coordinator(connection)


def find_cluster(connection: psycopg.Connection) -> Cluster:
    """Look at the cluster. Raises RecdbError if this database cannot coordinate one."""
    require_citus(connection)
    (nodes,) = fetch_row(
        connection,
        "select count(*) from pg_catalog.pg_dist_node n where n.noderole = 'primary' and n.isactive "
        "and n.shouldhaveshards",
    )
    spread = tuple(table for table in SPREAD_TABLES if is_distributed(connection, table))
    (shards,) = fetch_row(
        connection,
        "select count(*) from pg_catalog.pg_dist_shard s where s.logicalrelid = to_regclass('recdb.interaction')",
    )
    return Cluster(nodes, spread, shards)


def check_number(shards: int | None, cluster: Cluster) -> int:
    """Return the number of shards to make: as given, else one a node."""
    if shards is None:
        return max(cluster.nodes, 2)
    if not 1 <= shards <= MOST_SHARDS:
        raise InvalidInput(f"{shards} shards are outside 1..{MOST_SHARDS}", "one or two for each node are enough")
    return shards


def require_nodes(connection: psycopg.Connection, cluster: Cluster) -> None:
    """Raise RecdbError unless every node answers, and has pgvector in the version of this database."""
    if cluster.nodes == 0:
        host = fetch_row(connection, "select coalesce(inet_server_addr()::text, 'localhost')")[0]
        raise RecdbError(
            "no node of the cluster holds shards",
            f"select citus_add_node('worker', 5432); or for one server alone: select citus_set_coordinator_host("
            f"'{host}'); and citus_set_node_property('{host}', 5432, 'shouldhaveshards', true);",
        )
    away = [name for (name,) in connection.execute(NODES_AWAY).fetchall()]
    if away:
        raise RecdbError(f"no answer from {', '.join(away)}: nothing was changed", "start these nodes, and try again")
    (wanted,) = fetch_row(connection, "select extversion from pg_extension where extname = 'vector'")
    rows = connection.execute(
        "select n.nodename || ':' || n.nodeport, r.result from pg_catalog.run_command_on_all_nodes("
        "$$select default_version from pg_catalog.pg_available_extensions where name = 'vector'$$) r "
        "join pg_catalog.pg_dist_node n on n.nodeid = r.nodeid where r.result is distinct from %s",
        [wanted],
    ).fetchall()
    if rows:
        listed = ", ".join(f"{name} ({version or 'no'} pgvector)" for name, version in rows)
        raise RecdbError(
            f"pgvector is {wanted} here, and differs on {listed}: nothing was changed",
            "install the same pgvector on every node",
        )


NODES_AWAY = """
    select distinct h.to_nodename || ':' || h.to_nodeport
    from pg_catalog.citus_check_cluster_node_health() h
    where h.from_nodename = (select nodename from pg_catalog.pg_dist_node where groupid = 0) and h.result is not true
    order by 1
"""


def require_sources_here(connection: psycopg.Connection) -> None:
    """Raise RecdbError if Citus has spread a table that recdb reads: recdb would find no rows of it."""
    found = connection.execute(
        "select s.relation, s.spread "
        "from (select a.relation, recdb.spread_source(a) as spread from recdb.attachment a) s "
        "where s.spread is not null limit 1"
    ).fetchone()
    if found:
        raise RecdbError(
            f"{found[0]} is attached, and Citus has spread {found[1]} over its nodes: nothing was changed",
            f"select undistribute_table('{found[1]}'); or load its rows into recdb's own store, and: "
            f"recdb detach {found[0]}",
        )


def require_one_table(connection: psycopg.Connection) -> None:
    """Raise RecdbError if the interactions are partitioned by time: the partitions have no key with the user in it."""
    (kind,) = fetch_row(connection, "select relkind::text from pg_class where oid = 'recdb.interaction'::regclass")
    if kind == "p":
        raise RecdbError(
            "recdb's interactions are partitioned by time: nothing was changed",
            "recdb partition --undo; then: recdb distribute",
        )


OBSTACLES = """
    with stores as (
        select c.oid, c.oid::regclass::text as name from pg_class c
        where c.oid = any (select to_regclass('recdb.' || n) from unnest(%s::text[]) n)
    )
    select format('foreign key %%I of %%s to %%s', n.conname, n.conrelid::regclass, n.confrelid::regclass)
    from pg_constraint n
    where n.contype = 'f' and n.conparentid = 0
      and (n.confrelid in (select s.oid from stores s) or n.conrelid in (select s.oid from stores s))
    union all
    select format('trigger %%I on %%s', t.tgname, s.name)
    from stores s join pg_trigger t on t.tgrelid = s.oid and not t.tgisinternal
    union all
    select format('unique index %%I on %%s, without %%s', x.relname, s.name, k.name)
    from stores s
    cross join lateral (select case s.name when 'recdb.interaction' then 'user_id' else 'user_key' end as name) k
    join pg_index i on i.indrelid = s.oid and i.indisunique and not i.indisprimary
    join pg_class x on x.oid = i.indexrelid
    where not exists (
        select from pg_attribute a where a.attrelid = s.oid and a.attname = k.name
            and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
    union all
    select format('constraint %%I on %%s', n.conname, s.name)
    from stores s join pg_constraint n on n.conrelid = s.oid and n.contype = 'x'
    order by 1
"""


def require_free_tables(connection: psycopg.Connection, tables: list[str]) -> None:
    """Raise RecdbError if the application added something to recdb's tables with which Citus spreads none."""
    found = [name for (name,) in connection.execute(OBSTACLES, [tables]).fetchall()]
    if found:
        raise RecdbError(
            f"Citus spreads no table with {', '.join(found)}: nothing was changed", "drop them, and run this again"
        )


def require_nothing_to_lose(connection: psycopg.Connection, tables: tuple[str, ...]) -> None:
    """Raise RecdbError if others made something on the spread tables that the new tables would not have."""
    found = [name for (name,) in connection.execute(MADE_BY_OTHERS, [list(tables)]).fetchall()]
    if found:
        raise RecdbError(
            f"recdb's tables have things that recdb cannot give the new ones: {', '.join(found)}: nothing was changed",
            "take it away, run this, and make it again",
        )


MADE_BY_OTHERS = """
    with moved as (
        select m.oid
        from unnest(%s::text[]) n(name)
        cross join lateral (
            select to_regclass('recdb.' || n.name)::oid as oid
            union
            select p.relid::oid from pg_catalog.pg_partition_tree(to_regclass('recdb.' || n.name)) p
        ) m
    )
    select format('trigger %%I of %%s', t.tgname, t.tgrelid::regclass)
    from moved m join pg_catalog.pg_trigger t on t.tgrelid = m.oid and not t.tgisinternal
    union all
    select format('policy %%I of %%s', p.polname, p.polrelid::regclass)
    from moved m join pg_catalog.pg_policy p on p.polrelid = m.oid
    union all
    select format('row-level security of %%s', c.oid::regclass)
    from moved m join pg_catalog.pg_class c on c.oid = m.oid and (c.relrowsecurity or c.relforcerowsecurity)
    union all
    select format('rule %%I of %%s', r.rulename, r.ev_class::regclass)
    from moved m join pg_catalog.pg_rewrite r on r.ev_class = m.oid
    union all
    select format('publication %%I of %%s', p.pubname, r.prrelid::regclass)
    from moved m
    join pg_catalog.pg_publication_rel r on r.prrelid = m.oid
    join pg_catalog.pg_publication p on p.oid = r.prpubid
    union all
    select format('statistics %%I of %%s', s.stxname, s.stxrelid::regclass)
    from moved m join pg_catalog.pg_statistic_ext s on s.stxrelid = m.oid
    union all
    select format('constraint %%I of %%s', n.conname, n.conrelid::regclass)
    from moved m
    join pg_catalog.pg_constraint n
        on n.contype in ('u', 'x') and n.conrelid = m.oid or n.contype = 'f' and m.oid in (n.conrelid, n.confrelid)
    order by 1
"""
