"""Queries that join recdb's functions and views with an application's own tables that Citus has spread."""

from collections.abc import Callable

import psycopg
import pytest
from support.citus import ask, fill

from recdb import spread
from recdb.database import Database
from recdb.progress import silent

FAILING = (
    "select r.* from app_users u, lateral recommend(u.id, 3) r where u.id = 'u1'",
    "select recdb.track(u.id, 'i1', 'view') from app_users u",
    "select p.title from recommend('u1', 50) r join posts p on p.id = r.item_id where p.id = 'i25'",
)


@pytest.fixture
def application(make: Callable[[], Database]) -> Database:
    """A recommender that is spread, beside an application's users and posts, which Citus has spread too."""
    database = make()
    fill(database)
    spread.distribute(database, 2, silent)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create table app_users (id text primary key)")
        connection.execute("create table posts (id text primary key, title text)")
        connection.execute("insert into app_users select 'u' || n from generate_series(0, 39) n")
        connection.execute("insert into posts select 'i' || n, 'title ' || n from generate_series(0, 60) n")
        connection.execute("select create_distributed_table('app_users', 'id')")
        connection.execute("select create_distributed_table('posts', 'id')")
    return database


def test_the_ways_round_of_the_page_work(application: Database) -> None:
    with psycopg.connect(application.conninfo, autocommit=True) as connection:
        expected = sorted(connection.execute("select item_id from recommend('u1', 3)").fetchall())
        for statement in (
            "select r.item_id from recommend('u1', 3) r join posts p on p.id = r.item_id",
            "select p.id from posts p where p.id = any (array(select r.item_id from recommend('u1', 3) r))",
        ):
            assert sorted(connection.execute(statement).fetchall()) == expected
        for users in ("id = 'u1'", "true"):
            expected = sorted(connection.execute("select item_id from recommend('u1', 3)").fetchall())
            connection.execute(f"create temp table asked as select id from app_users where {users}")
            lists = connection.execute("select a.id, r.item_id from asked a cross join lateral recommend(a.id, 3) r")
            assert sorted((item,) for user, item in lists if user == "u1") == expected
            (users_asked, tracked) = connection.execute(
                "select count(*), count(recdb.track(a.id, 'i1', 'view')) from asked a"
            ).fetchone() or (0, 1)
            assert users_asked == tracked
            connection.execute("drop table asked")
        assert users_asked == 40


@pytest.mark.parametrize("statement", FAILING)
def test_the_page_says_what_citus_refuses(application: Database, statement: str) -> None:
    """If Citus takes it one day, the page is wrong."""
    with (
        psycopg.connect(application.conninfo, autocommit=True) as connection,
        pytest.raises(psycopg.Error, match=r"does not exist|cannot execute a distributed query from"),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "select t.item_id, t.embedding, p.title from recdb.items t join posts p on p.id = t.item_id",
        "select t.*, i.kind from recdb.items t join recdb.interaction i using (item_id)",
    ],
)
def test_a_join_with_the_catalogue_leaves_the_session_open(application: Database, statement: str) -> None:
    with psycopg.connect(application.conninfo, autocommit=True) as connection:
        # One row would be read before any is sent to another node.
        connection.execute(
            "insert into recdb.item (item_id, embedding) "
            "select 'i' || n, format('[%s,1]', n)::vector from generate_series(0, 59) n"
        )
        assert connection.execute(statement).fetchall()
        assert connection.execute("select 1").fetchone() == (1,)
    assert ask(application, "select count(*) from recdb.items") > 0
