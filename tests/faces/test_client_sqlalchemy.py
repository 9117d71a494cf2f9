"""The clients on SQLAlchemy's engines, connections and sessions: the same rows, and part of the transaction there."""

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from support.data import record, tastes, train

import recdb
from recdb import AsyncRecommender, Recommender
from recdb.database import Database
from recdb.tables import Interaction

needs_greenlet = pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="SQLAlchemy's asyncio needs it"
)
DRIVERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed"),
    )
    for name, module in (("psycopg", "psycopg"), ("psycopg2", "psycopg2"), ("pg8000", "pg8000"))
]


def url_of(database: Database, driver: str) -> sqlalchemy.URL:
    parts = conninfo_to_dict(database.conninfo)
    folder, port = str(parts["host"]), str(parts["port"])
    place = {"unix_sock": f"{folder}/.s.PGSQL.{port}"} if driver == "pg8000" else {"host": folder, "port": port}
    return sqlalchemy.URL.create(
        f"postgresql+{driver}", username=str(parts["user"]), database=str(parts["dbname"]), query=place
    )


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
    train(module_database)


@pytest.fixture(params=DRIVERS)
def engine(request: pytest.FixtureRequest, module_database: Database) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(url_of(module_database, request.param))
    yield made
    made.dispose()


@pytest.fixture
def expected(module_database: Database) -> list[recdb.Recommendation]:
    with Recommender(module_database.conninfo) as client:
        return client.recommend("u1", 5)


def test_every_source_gives_the_same_rows(
    engine: sqlalchemy.Engine, module_database: Database, expected: list[recdb.Recommendation]
) -> None:
    assert Recommender(engine).recommend("u1", 5) == expected
    assert Recommender(url_of(module_database, "psycopg")).recommend("u1", 5) == expected
    with engine.connect() as connection, Session(engine) as session:
        for source in (connection, session, scoped_session(sessionmaker(engine))):
            with Recommender(source) as client:
                assert client.recommend("u1", k=4, exclude=[expected[0].item_id]) == expected[1:]
                assert client.recommend_for_items(["i1"], 3, weights=[0.5], filter={"lang": "fi"}) == []
                assert client.popular(3) and client.explain("u1", expected[0].item_id)
                assert client.recommend_batch(["u1"], 1)[0].rank == 1
            source.rollback()


def test_an_engine_commits_each_call(engine: sqlalchemy.Engine, module_database: Database) -> None:
    Recommender(engine).track("visitor", "i1", "like", metadata={"depth": 0.5})
    Recommender(engine).refresh()
    with Recommender(module_database.conninfo) as other:
        assert other.recommend("visitor")
        assert other.forget_user("visitor") >= 1


@pytest.mark.parametrize("kind", ["connection", "session"])
def test_a_transaction_is_the_callers(engine: sqlalchemy.Engine, module_database: Database, kind: str) -> None:
    """What it has tracked is seen there at once, by nobody else, and by nobody after a rollback."""
    with (
        engine.connect() if kind == "connection" else Session(engine) as source,
        Recommender(module_database.conninfo) as other,
    ):
        client = Recommender(source)
        client.track("visitor", "i1", "like")
        assert client.recommend("visitor") and other.recommend("visitor") == []
        source.rollback()
        assert client.recommend("visitor") == []
        client.track("visitor", "i1", "like")
        source.commit()
        assert other.recommend("visitor")
        client.forget_user("visitor")
        source.commit()
        assert other.recommend("visitor") == []


def test_what_a_session_has_not_written_yet_counts(engine: sqlalchemy.Engine) -> None:
    with Session(engine) as session:
        session.add(Interaction(user_id="visitor", item_id="i1", kind="like"))
        assert Recommender(session).recommend("visitor")
        session.rollback()
        assert Recommender(session).recommend("visitor") == []


def test_errors_are_recdbs_own(engine: sqlalchemy.Engine) -> None:
    with pytest.raises(recdb.InvalidInput, match="between 1 and 1000"):
        Recommender(engine).recommend("u1", 0)
    with pytest.raises(recdb.ModelNotFound, match="v9") as raised:
        Recommender(engine).recommend("u1", model="v9")
    assert "recdb.models" in (raised.value.hint or "")
    with Session(engine) as session:
        with pytest.raises(recdb.InvalidInput):
            Recommender(session).recommend("u1", 0)
        session.rollback()
        assert Recommender(session).recommend("u1", 1)


def test_what_is_no_source_is_refused(engine: sqlalchemy.Engine, shared: psycopg.Connection) -> None:
    for wrong in (42, object(), b"postgresql://x/y", sessionmaker(engine)):
        for client in (Recommender, AsyncRecommender):
            with pytest.raises(recdb.InvalidInput, match="takes a URL, a connection"):
                client(wrong)  # type: ignore[operator]
    with Session() as unbound, pytest.raises(recdb.InvalidInput, match="not bound"):
        Recommender(unbound)
    with pytest.raises(recdb.InvalidInput, match="a database of sqlite"):
        Recommender(sqlalchemy.create_engine("sqlite://"))
    for waiting in (engine, shared):
        with pytest.raises(recdb.InvalidInput) as raised:
            AsyncRecommender(waiting)  # type: ignore[arg-type]
        assert raised.value.hint == "use Recommender"


@needs_greenlet
@pytest.mark.parametrize(
    "driver",
    [
        "psycopg",
        pytest.param(
            "asyncpg",
            marks=pytest.mark.skipif(importlib.util.find_spec("asyncpg") is None, reason="asyncpg is not installed"),
        ),
    ],
)
def test_the_async_client_takes_the_async_ones(
    driver: str, module_database: Database, expected: list[recdb.Recommendation]
) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: PLC0415  it needs greenlet

    async def use() -> None:
        engine = create_async_engine(url_of(module_database, driver))
        assert await AsyncRecommender(engine).recommend("u1", 5) == expected
        await AsyncRecommender(engine).refresh()
        async with engine.connect() as connection, AsyncSession(engine) as session:
            for source in (connection, session):
                client: Any = AsyncRecommender(source)
                await client.track("visitor", "i1", "like", metadata={"depth": 1})
                assert await client.recommend("visitor") != []
                await source.rollback()
                assert await client.recommend("visitor") == []
                with pytest.raises(recdb.InvalidInput, match="between 1 and 1000"):
                    await client.recommend("u1", 0)
                await source.rollback()
            with pytest.raises(recdb.InvalidInput) as raised:
                Recommender(session)  # type: ignore[arg-type]
            assert raised.value.hint == "use AsyncRecommender"
        await engine.dispose()

    asyncio.run(use())
