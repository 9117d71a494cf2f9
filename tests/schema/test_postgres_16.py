"""The oldest PostgreSQL that recdb works on: everything from the install to the analysts' functions."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train

from recdb import job, migrate
from recdb.client import Recommender
from recdb.database import Database


@pytest.fixture(scope="module")
def old(older_database: Callable[[], Database]) -> Database:
    """A database on PostgreSQL 16 with a trained model."""
    database = older_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo) as connection:
        record(connection, tastes())
    train(database)
    return database


@pytest.fixture
def db(old: Database) -> Iterator[psycopg.Connection]:
    """A connection in a transaction that is rolled back."""
    with psycopg.connect(old.conninfo) as connection:
        assert connection.info.server_version // 10000 == 16
        yield connection
        connection.rollback()


def test_every_spelling_of_the_call_gives_the_same_rows(db: psycopg.Connection) -> None:
    expected = recommend(db, "u1")

    assert expected and expected[0][1] == 1
    for spelling in ("'{}'", "'<>'", "''", "'[]'", "array[]::text[]"):
        assert db.execute(f"select * from recommend('u1', 50, {spelling})").fetchall() == expected
    assert db.execute("select * from recommend(user, 50, '<>')").fetchall() == []


def test_an_interaction_of_this_transaction_counts(db: psycopg.Connection) -> None:
    first = recommend(db, "u1")[0][0]
    db.execute("select recdb.track('u1', %s, 'share')", [first])
    db.execute("select recdb.track('a guest', %s, 'share')", [first])

    assert first not in {row[0] for row in recommend(db, "u1")}
    assert recommend(db, "a guest")


def test_analysts_functions_and_views(db: psycopg.Connection) -> None:
    for query in (
        "select * from recdb.neighbors('u1')",
        "select * from recdb.similar_items('i1')",
        "select * from recdb.popular()",
        "select * from recdb.trending(5, '400 days')",
        "select * from recdb.audience('i1')",
        "select * from recdb.recommend_for_items(array['i1', 'i2'])",
        "select * from recdb.recommend_batch(array['u1', 'u2'], 5)",
        "select * from recdb.user_item_weights",
        "select * from recdb.user_vectors",
        "select * from recdb.item_vectors",
        "select * from recdb.models",
        "select * from recdb.refresh_log",
        "select * from recdb.health",
    ):
        assert db.execute(query).fetchall(), query


def test_the_vectors_are_found_through_their_index(db: psycopg.Connection) -> None:
    db.execute("set local enable_seqscan = off; set local enable_sort = off")
    plan = column(
        db.execute(
            "explain select user_key from recdb.user_vector where model_id = 1 order by embedding <=> "
            "(select embedding from recdb.user_vector where model_id = 1 and user_key = 1) limit 5"
        )
    )

    assert any("user_vector_1_embedding_idx" in line for line in plan)


def test_refresh_and_training_again(older_database: Callable[[], Database]) -> None:
    database = older_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection, Recommender(database.conninfo) as rec:
        record(connection, tastes())
        assert job.run(database).model == "collaborative_filtering_v1"
        for row in [row for row in tastes() if row[0] == "u1"]:
            rec.track("twin", row[1], row[2])
        connection.execute("call recdb.refresh()")
        assert rec.neighbors("u1", 1)[0].neighbor_id == "twin"
        for number in (2, 3):
            assert job.run(database, full=True).model == f"collaborative_filtering_v{number}"
        assert column(connection.execute("select state from recdb.models order by label")) == [
            "retired", "ready", "ready",
        ]  # fmt: skip
        assert rec.forget_user("twin") > 0
        assert "twin" not in {neighbor.neighbor_id for neighbor in rec.neighbors("u1")}


def test_downgrade_and_uninstall(older_database: Callable[[], Database]) -> None:
    database = older_database()
    migrate.upgrade(database)
    migrate.downgrade(database, "base")
    migrate.upgrade(database)
    migrate.uninstall(database)

    with psycopg.connect(database.conninfo) as connection:
        assert column(connection.execute("select 1 from pg_namespace where nspname = 'recdb'")) == []
        assert column(connection.execute("select 1 from pg_extension where extname = 'vector'")) == []
