"""A read_url that leads to another database than the one that is written to is refused."""

import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.clients import Open
from support.data import record, tastes, train
from support.serving import serving
from support.waiting import until

from recdb import NoStandby, replicas
from recdb.cli import main
from recdb.database import Database

REFUSED = "is no standby of the database that is written to"


@pytest.fixture(scope="module")
def shop(module_database: Database) -> Database:
    """A database with a model."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
    train(module_database, dimension=8)
    return module_database


@pytest.fixture(scope="module")
def other(shop: Database) -> Iterator[Database]:
    """A copy of it that has gone its own way: it looks the same in every table."""
    with psycopg.connect(make_conninfo(shop.conninfo, dbname="postgres"), autocommit=True) as connection:
        connection.execute(f"create database copied template {conninfo_to_dict(shop.conninfo)['dbname']}")
        yield Database(make_conninfo(shop.conninfo, dbname="copied"), "test")
        connection.execute("drop database copied with (force)")


def test_a_copy_is_refused_and_the_same_database_is_not(shop: Database, other: Database, open_client: Open) -> None:
    client = open_client(source=shop.conninfo, read_url=other.conninfo)
    for _ in range(2):
        with pytest.raises(NoStandby, match=REFUSED) as raised:
            client.recommend("u1", 5)
        assert "a streaming standby, or leave it out" in str(raised.value.hint)
    assert client.track("u1", "i1", "like") > 0  # nothing is wrong with the database that is written to
    same = open_client(source=shop.conninfo, read_url=make_conninfo(shop.conninfo, application_name="reads"))
    assert same.recommend("u2", 5) and same.reads() == {"standby": 1, "primary": 0}


def test_each_connection_is_compared_once(shop: Database, open_client: Open) -> None:
    with psycopg.connect(shop.conninfo, autocommit=True) as connection:
        connection.execute("alter database module set track_functions = 'all'")
        asked = "select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname = 'database_identity'"
        (before,) = connection.execute(asked).fetchone() or (0,)
        client = open_client(source=shop.conninfo, read_url=shop.conninfo, max_connections=1)
        for number in range(5):
            assert client.recommend(f"u{number}", 5)
        assert client.reads() == {"standby": 5, "primary": 0}
        client.close()  # a session that ends hands its counts in
        until(lambda: connection.execute(asked).fetchone() == (before + 2,))
        connection.execute("alter database module reset track_functions")


def test_a_standby_answers_while_the_primary_is_away_and_where_recdb_is_older(
    shop: Database, other: Database, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say then whether it is the right one, and an old list is better than none."""
    monkeypatch.setattr(replicas, "COMPARE_WAIT", 0.1)
    client = open_client(source=make_conninfo(shop.conninfo, host="/nowhere"), read_url=shop.conninfo)
    assert client.recommend("u1", 5) and client.reads() == {"standby": 1, "primary": 0}
    with psycopg.connect(other.conninfo, autocommit=True) as connection:
        connection.execute("alter function recdb.database_identity() rename to unknown")
        client = open_client(source=shop.conninfo, read_url=other.conninfo)
        assert client.recommend("u1", 5) and client.reads() == {"standby": 1, "primary": 0}
        connection.execute("alter function recdb.unknown() rename to database_identity")


def test_the_service_refuses_it_at_the_start_and_in_every_answer(
    shop: Database, other: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["serve", "--port=0", "--url", shop.conninfo, "--read-url", other.conninfo]
    monkeypatch.setattr(sys, "argv", ["recdb", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert REFUSED in capsys.readouterr().err
    # The standby was away when the service began.
    with serving(shop, standby=other) as http:
        answer = http.post("/recommendations/generate", json={"user_id": "u1"})
        assert (answer.status_code, REFUSED in answer.text) == (503, True)
        health = http.get("/health")
        assert (health.status_code, REFUSED in health.text) == (503, True)
