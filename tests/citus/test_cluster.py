"""A cluster over which recdb is spread: the rights of roles, commits that are on their way, and what doctor says."""

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from support.citus import ask, drop_database, execute, fill, lists, make_database
from support.data import column
from support.doctor import find, findings
from support.servers import Server
from support.waiting import until

from recdb import job, migrate, spread
from recdb.data import generate
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.progress import silent

Nodes = Sequence[Server]


def test_roles_can_do_their_work(make: Callable[[], Database]) -> None:
    database = make()
    fill(database)
    spread.distribute(database, 2, silent)
    with connect(database, autocommit=True) as connection:
        for role in ("reader", "writer", "analyst", "maintainer"):
            connection.execute(f"drop role if exists some_{role}")
            connection.execute(f"create role some_{role} login in role recdb_{role}")

    def as_role(role: str, statement: str) -> Any:
        with psycopg.connect(database.conninfo, user=f"some_{role}", autocommit=True) as own:
            cursor = own.execute(statement)
            return cursor.fetchall() if cursor.description else None

    assert as_role("reader", "select * from recommend('u1', 5)")
    assert as_role("writer", "select recdb.track('u1', 'i1', 'like')")
    assert as_role("analyst", "select * from recdb.interactions limit 1")
    assert as_role("analyst", "select * from recdb.user_vectors limit 1")
    assert as_role("analyst", "select * from recdb.neighbors('u1')")
    assert as_role("analyst", "select * from recdb.health")
    as_role("maintainer", "call recdb.refresh()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("reader", "select * from recdb.interaction")
    with connect(database, autocommit=True) as connection:
        for role in ("reader", "writer", "analyst", "maintainer"):
            connection.execute(f"drop role some_{role}")


def test_a_refresh_waits_for_a_commit_that_has_not_reached_a_node(make: Callable[[], Database], nodes: Nodes) -> None:
    """A transaction that wrote on several nodes ends on the coordinator first: its rows come a moment later."""
    database = make()
    fill(database)
    spread.distribute(database, 2, silent)
    with connect(database, autocommit=True) as connection:
        connection.execute("call recdb.refresh()")
        connection.execute("select pg_current_xact_id()")
        (number, shard, host) = (
            connection.execute(
                "select pg_current_xact_id()::text, "
                "'recdb.interaction_' || get_shard_id_for_distribution_column('recdb.interaction', 'torn'), "
                "p.nodename from pg_dist_shard_placement p "
                "where p.shardid = get_shard_id_for_distribution_column('recdb.interaction', 'torn')"
            ).fetchone()
            or ()
        )
    holder = next(node for node in nodes if node.host == host)
    name = psycopg.conninfo.conninfo_to_dict(database.conninfo)["dbname"]
    execute(
        holder, str(name), "set citus.enable_manual_changes_to_shards = on; begin; "
        f"insert into {shard} (interaction_id, user_id, item_id, kind, created_at, recorded_in) "
        f"values (1000000, 'torn', 'i1', 'like', '2020-01-01', '{number}'); prepare transaction 'citus_torn'",
    )  # fmt: skip
    with connect(database, autocommit=True) as watching:
        refresh = threading.Thread(target=lambda: execute(nodes[0], str(name), "call recdb.refresh()"))
        refresh.start()
        until(
            lambda: ask(
                database,
                "select exists (select from pg_stat_activity where wait_event = 'PgSleep' "
                "and datname = current_database())",
            )
        )
        execute(holder, str(name), "commit prepared 'citus_torn'")
        refresh.join()
        assert column(watching.execute("select user_id from recdb.user_item_weights where user_id = 'torn'"))


def test_doctor_knows_the_nodes(make: Callable[[], Database], nodes: Nodes) -> None:
    database = make()
    fill(database)
    with connect(database, autocommit=True) as connection:
        assert not {"nodes", "shards", "searches", "durability", "writers"} & set(findings(connection))
        spread.distribute(database, 2, silent)
        found = findings(connection)
        assert {found[name].state for name in ("nodes", "shards", "searches", "durability", "writers")} == {"ok"}
        assert not [finding for finding in found.values() if finding.state == "fail"]
        total = ask(database, "select bytes from recdb.health")
        assert total > ask(
            database,
            "select sum(citus_total_relation_size(d.logicalrelid)) from pg_dist_partition d "
            "join pg_class c on c.oid = d.logicalrelid where c.relkind = 'r'",
        )

        name = psycopg.conninfo.conninfo_to_dict(database.conninfo)["dbname"]
        for node in nodes:
            execute(
                node,
                str(name),
                "set citus.enable_ddl_propagation = off",
            )
        with psycopg.connect(nodes[-1].conninfo(str(name)), autocommit=True) as worker:
            worker.execute("set citus.enable_ddl_propagation = off")
            worker.execute(f"alter database {name} set synchronous_commit = off")
            worker.execute(f"alter database {name} reset hnsw.iterative_scan")
        loose = findings(connection)
        assert (loose["durability"].state, loose["searches"].state) == ("warn", "warn")
        assert nodes[-1].host in loose["durability"].message
        spread.distribute(database, None, silent)
        assert find(connection, "searches").state == "ok"

        connection.execute(
            "insert into recdb.interaction (user_id, item_id, kind, recorded_in) "
            "values ('far', 'i1', 'like', '9999999')"
        )
        assert "1 interactions were written through another node" in find(connection, "writers").message
        (index,) = (
            connection.execute(
                "select indexname from pg_indexes where schemaname = 'recdb' and indexdef like '%using hnsw%'"
                " and tablename like 'user_vector%'".replace("using", "USING")
            ).fetchone()
            or ()
        )
        holder = nodes[-1]
        bare = None
        with psycopg.connect(holder.conninfo(str(name)), autocommit=True) as worker:
            worker.execute("set citus.enable_manual_changes_to_shards = on")
            worker.execute("set citus.enable_ddl_propagation = off")
            worker.execute("set citus.override_table_visibility = off")
            for (found_index,) in worker.execute(
                "select indexname from pg_indexes where schemaname = 'recdb' and indexname ~ %s", [f"^{index}_[0-9]+$"]
            ).fetchall()[:1]:
                worker.execute(f"drop index recdb.{found_index}")
                bare = re.search(r"\d+$", found_index)
        assert bare is not None
        assert bare[0] in find(connection, "shards").message


def test_a_refresh_finds_a_row_that_was_written_through_a_worker(three_nodes: Nodes) -> None:
    database = make_database(three_nodes, "through")
    fill(database)
    spread.distribute(database, 2, silent)
    with connect(database, autocommit=True) as connection:
        connection.execute("call recdb.refresh()")
        execute(
            three_nodes[1], "through",
            "insert into recdb.interaction (user_id, item_id, kind) values ('through a worker', 'i1', 'like')",
        )  # fmt: skip
        connection.execute("call recdb.refresh()")
        seen = connection.execute("select item_id from recdb.user_item_weights where user_id = 'through a worker'")
        assert column(seen) == ["i1"]
        assert column(connection.execute("select count(*) from recdb.recommend('through a worker', 5)")) == [5]
    drop_database(three_nodes, "through")


def test_a_worker_takes_no_installation(three_nodes: Nodes) -> None:
    make_database(three_nodes, "elsewhere")
    with pytest.raises(RecdbError, match="is a worker of a Citus cluster"):
        migrate.upgrade(Database(three_nodes[1].conninfo("elsewhere"), "test"))
    drop_database(three_nodes, "elsewhere")


def test_a_worker_takes_no_command_that_changes_the_cluster(three_nodes: Nodes) -> None:
    database = make_database(three_nodes, "elsewhere")
    fill(database)
    spread.distribute(database, 2, silent)
    expected = lists(database)
    worker = Database(three_nodes[1].conninfo("elsewhere"), "test")
    for command in (
        lambda: migrate.uninstall(worker),
        lambda: spread.distribute(worker, 2, silent),
        lambda: spread.undo(worker, silent),
        lambda: job.run(worker),
        lambda: generate.generate(worker, users=3, items=3, count=9, days=9, seed=1),
    ):
        with pytest.raises(RecdbError, match="is a worker of a Citus cluster") as refused:
            command()
        assert "the coordinator" in str(refused.value.hint)
    with connect(worker, autocommit=True) as connection:
        assert "worker of a Citus cluster" in find(connection, "recdb").message
    assert lists(database) == expected
    drop_database(three_nodes, "elsewhere")


def test_doctor_says_that_a_worker_is_away(three_nodes: Nodes) -> None:
    database = make_database(three_nodes, "away")
    try:
        fill(database)
        spread.distribute(database, 2, silent)
        with connect(database, autocommit=True) as connection:
            whole = findings(connection)
        execute(three_nodes[2], "postgres", "alter database away allow_connections off")
        execute(
            three_nodes[2], "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'away'"
        )
        with connect(database, autocommit=True) as connection:
            found = find(connection, "nodes")
            assert found.state == "fail"
            assert three_nodes[2].host in found.message
            # The others say that they do not know, and advise nothing else.
            all_found = findings(connection)
            assert set(whole) <= set(all_found)
            changed = [name for name in whole if all_found[name].state != whole[name].state and name != "nodes"]
            assert {"shards", "searches", "durability", "writers"} <= set(changed)
            assert {all_found[name].state for name in changed} == {"warn"}
            assert not [name for name in changed if "recdb" in str(all_found[name].fix)]
            # What has not ended there is not known either.
            assert connection.execute("select recdb.await_commits()").fetchone() == (False,)
        with pytest.raises(RecdbError, match="no answer from"):
            spread.distribute(database, None, silent)
    finally:
        execute(three_nodes[2], "postgres", "alter database away allow_connections on")
        drop_database(three_nodes, "away")


def test_shards_that_move_lose_no_interaction_and_fail_no_list(three_nodes: Nodes) -> None:
    database = make_database(three_nodes, "moving")
    fill(database)
    spread.distribute(database, 2, silent)
    stop, acknowledged, lists, failures = threading.Event(), list[int](), list[int](), list[str]()

    def repeat(statement: str, answers: list[int]) -> None:
        with connect(database, autocommit=True) as connection:
            while not stop.is_set():
                try:
                    answers.append(column(connection.execute(statement))[0])
                except psycopg.Error as error:
                    failures.append(str(error))

    calls = {
        "select recdb.track('mover', 'i1', 'view')": acknowledged,
        "select count(*) from recdb.recommend('u1', 10)": lists,
    }
    threads = [threading.Thread(target=repeat, args=call) for call in calls.items()]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(acknowledged) > 10 and len(lists) > 10)
        with connect(database, autocommit=True) as connection:
            for shard, host in connection.execute(
                "select min(p.shardid), p.nodename from pg_dist_shard_placement p join pg_dist_shard s using (shardid) "
                "where s.logicalrelid in ('recdb.interaction'::regclass, 'recdb.user_vector'::regclass) "
                "group by s.logicalrelid, p.nodename order by 1"
            ).fetchall():
                other = next(node for node in three_nodes[1:] if node.host != host)
                connection.execute(
                    "select citus_move_shard_placement(%s, %s, 5432, %s, 5432, 'force_logical')",
                    [shard, host, other.host],
                )
        moved = len(acknowledged), len(lists)
        until(lambda: len(acknowledged) > moved[0] + 10 and len(lists) > moved[1] + 10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    with connect(database) as connection:
        stored = column(connection.execute("select interaction_id from recdb.interaction where user_id = 'mover'"))
    assert set(acknowledged) == set(stored)
    assert set(lists) == {10}
    drop_database(three_nodes, "moving")
