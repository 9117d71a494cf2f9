"""Recommender and AsyncRecommender: the same methods, one for each SQL function."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from support.data import column, record, tastes, train

import recdb
from recdb import AsyncRecommender, Recommender
from recdb.database import Database


class Waiting:
    """An AsyncRecommender with methods that wait, so that one test covers both clients."""

    def __init__(self, runner: asyncio.Runner, client: AsyncRecommender) -> None:
        self.runner = runner
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *arguments, **named: self.runner.run(method(*arguments, **named))

    def __enter__(self) -> "Waiting":
        self.runner.run(self.client.__aenter__())
        return self

    def __exit__(self, *raised: Any) -> None:
        self.runner.run(self.client.__aexit__(*raised))


Open = Callable[[Any], Any]


@pytest.fixture(params=["Recommender", "AsyncRecommender"])
def open_client(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Make a client of either class."""
    if request.param == "Recommender":
        yield Recommender
        return
    with asyncio.Runner() as runner:

        async def make(source: Any) -> AsyncRecommender:
            return AsyncRecommender(source)

        yield lambda source=None: Waiting(runner, runner.run(make(source)))


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.item (item_id, attributes) values ('i7', '{\"lang\": \"fi\"}')")
    train(module_database)


@pytest.fixture
def client(open_client: Open, module_database: Database) -> Iterator[Any]:
    with open_client(module_database.conninfo) as opened:
        yield opened


def url_of(database: Database, scheme: str = "postgresql", query: str = "") -> str:
    """Write a connection string as a URL, with the socket's folder as the host."""
    parts = conninfo_to_dict(database.conninfo)
    return f"{scheme}://{parts['user']}@/{parts['dbname']}?host={quote(str(parts['host']), safe='')}{query}"


def assert_rows(records: list[Any], shared: psycopg.Connection, call: str, kind: type) -> None:
    """Assert that the records equal the rows of the call, column by column."""
    cursor = shared.execute(f"select * from {call}")
    names = [entry.name for entry in cursor.description or []]
    rows = cursor.fetchall()
    assert rows
    assert all(type(entry) is kind for entry in records)
    assert [tuple(getattr(entry, name) for name in names) for entry in records] == rows


def test_recommend_returns_the_rows_of_recommend(client: Any, shared: psycopg.Connection) -> None:
    rows = client.recommend("u1")
    assert_rows(rows, shared, "recommend('u1')", recdb.Recommendation)
    excluded = [rows[0].item_id, rows[2].item_id]
    assert client.recommend("u1", k=4, exclude=excluded) == [rows[1], *rows[3:6]]
    assert client.recommend("u1", 4, tuple(excluded), "none", None, rows[0].model_version) == [rows[1], *rows[3:6]]
    assert {row.item_id for row in client.recommend("u2", 1000, filter={"lang": "fi"})} <= {"i7"}
    popular = client.recommend("nobody", 3, fallback="popular")
    assert [row.reason for row in popular] == ["popular"] * 3
    assert client.recommend("nobody") == []


def test_the_other_methods_return_the_rows_of_their_functions(client: Any, shared: psycopg.Connection) -> None:
    guest = client.recommend_for_items(["i1", "i2"], 5, weights=[1, 0.5], exclude=["i3"])
    call = "recdb.recommend_for_items(array['i1', 'i2'], 5, array['i3'], array[1, 0.5]::real[])"
    assert_rows(guest, shared, call, recdb.Recommendation)
    batch = client.recommend_batch(["u2", "u1"], 3)
    assert_rows(batch, shared, "recdb.recommend_batch(array['u2', 'u1'], 3)", recdb.BatchRecommendation)
    assert_rows(client.neighbors("u1", 4), shared, "recdb.neighbors('u1', 4)", recdb.Neighbor)
    assert_rows(client.neighbors("u1"), shared, "recdb.neighbors('u1')", recdb.Neighbor)
    assert_rows(client.similar_items("i1", 4), shared, "recdb.similar_items('i1', 4)", recdb.SimilarItem)
    item = client.recommend("u1", 1)[0].item_id
    call = f"('u1', '{item}')"
    assert_rows(client.explain("u1", item), shared, f"recdb.explain{call}", recdb.Reason)
    assert_rows(client.explain_neighbors("u1", item), shared, f"recdb.explain_neighbors{call}", recdb.NeighborReason)
    assert_rows(client.popular(4), shared, "recdb.popular(4)", recdb.PopularItem)
    assert_rows(client.popular(), shared, "recdb.popular()", recdb.PopularItem)
    segment = "recdb.popular(4, '{}', '{\"country\": \"de\"}')"
    assert_rows(client.popular(4, {}, {"country": "de"}), shared, segment, recdb.PopularItem)
    rising = client.trending(4, timedelta(days=400))
    assert rising and rising[0].score == 1 and rising[0].rise > 1
    assert_rows(client.audience("i1", 4), shared, "recdb.audience('i1', 4)", recdb.AudienceUser)


def test_records_do_not_change(client: Any) -> None:
    row = client.recommend("u1", 1)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.score = 2.0


def test_track_records_and_forget_user_erases(client: Any, shared: psycopg.Connection) -> None:
    long_ago = datetime(2020, 2, 29, 12, tzinfo=UTC)
    number = client.track("visitor", "i1", "like", long_ago, {"depth": 0.5})
    stored = "select user_id, item_id, kind, created_at, metadata from recdb.interaction where interaction_id = %s"
    assert shared.execute(stored, [number]).fetchone() == ("visitor", "i1", "like", long_ago, {"depth": 0.5})
    assert client.track("visitor", "i2", "view") > number
    bought = client.track("visitor", "i3", "like", value=2.5)
    assert shared.execute("select value from recdb.interaction where interaction_id = %s", [bought]).fetchone() == (
        2.5,
    )
    newest = "select now() - max(created_at) < interval '1 minute' from recdb.interaction where user_id = 'visitor'"
    assert shared.execute(newest).fetchone() == (True,)
    assert client.recommend("visitor")
    assert client.merge_users("visitor", "member") == 3
    assert client.recommend("visitor") == [] and client.recommend("member")
    assert client.forget_user("member") == 3
    assert client.recommend("member") == []


def test_refresh_lets_others_see(open_client: Open, database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    with open_client(database.conninfo) as client:
        client.refresh()
        client.track("u1", "brand-new", "share")
        client.refresh()
        assert client.recommend("u1") == []
    assert ("brand-new",) in db.execute("select item_id from recdb.user_item_weights where user_id = 'u1'").fetchall()


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("recommend", ("u1", 0), recdb.InvalidInput, "between 1 and 1000"),
        ("recommend", ("u1", 5, [], "random"), recdb.InvalidInput, "popular"),
        ("recommend", ("u1", 5, [], "none", None, "v9"), recdb.ModelNotFound, "v9"),
        ("recommend_for_items", (["i1"], 5, [], [1, 2]), recdb.InvalidInput, "weights"),
        ("neighbors", ("u1", -1), recdb.InvalidInput, "between 1 and 1000"),
        ("similar_items", ("i1", 5000), recdb.InvalidInput, "between 1 and 1000"),
        ("track", ("", "i1", "view"), recdb.InvalidInput, "1 to 1000"),
        ("track", ("u1", "i" * 1001, "view"), recdb.InvalidInput, "1 to 1000"),
        ("track", ("u\0", "i1", "view"), recdb.RecdbError, "NUL"),
    ],
)
def test_errors_are_recdbs_own_with_the_databases_message(
    client: Any, method: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        getattr(client, method)(*arguments)
    assert isinstance(raised.value, recdb.RecdbError)
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert client.recommend("u1", 1)


def test_an_error_has_the_databases_hint(client: Any) -> None:
    with pytest.raises(recdb.ModelNotFound) as raised:
        client.recommend("u1", model="v9")
    assert "recdb.models" in (raised.value.hint or "")


def test_errors_are_also_pythons_own(client: Any) -> None:
    with pytest.raises(ValueError, match="between"):
        client.recommend("u1", 0)
    with pytest.raises(LookupError):
        client.recommend("u1", model="v9")


def test_a_database_without_recdb_is_named_as_such(open_client: Open, empty_database: Any) -> None:
    with open_client(empty_database().conninfo) as client:
        for call in (client.recommend, client.neighbors, client.forget_user):
            with pytest.raises(recdb.NotInstalled):
                call("u1")


def test_a_url_in_any_tools_spelling(open_client: Open, module_database: Database) -> None:
    for url in (
        url_of(module_database),
        url_of(module_database, "postgres"),
        url_of(module_database, "postgresql+psycopg"),
        url_of(module_database, query="&schema=public&pgbouncer=true&connection_limit=1"),
        module_database.conninfo,
    ):
        with open_client(url) as client:
            for _ in range(7):
                assert len(client.recommend("u1", 3)) == 3


def test_without_a_url_the_environment_names_the_database(
    open_client: Open, module_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECDB_DATABASE_URL", url_of(module_database))
    with open_client(None) as client:
        assert len(client.recommend("u1", 3)) == 3


def test_what_is_no_url_is_refused_at_once(open_client: Open) -> None:
    for wrong in ("mysql://localhost/shop", "postgresql://localhost/shop?nonsense=1", "shop.db"):
        with pytest.raises(recdb.InvalidInput, match="not a PostgreSQL URL"):
            open_client(wrong)


def test_a_client_opens_at_its_first_call_and_closes(open_client: Open, module_database: Database) -> None:
    client = open_client(module_database.conninfo)
    assert client.recommend("u1", 1)
    client.close()
    client.close()


def test_its_sessions_are_recognizable(client: Any, shared: psycopg.Connection) -> None:
    client.recommend("u1", 1)
    names = "select application_name from pg_stat_activity where datname = current_database()"
    assert "recdb" in column(shared.execute(names))


def test_a_given_connection_stays_open_and_its_transaction_the_callers(
    module_database: Database, shared: psycopg.Connection
) -> None:
    with Recommender(shared) as client:
        client.track("visitor", "i1", "like")
        assert client.recommend("visitor")
    assert not shared.closed
    with psycopg.connect(module_database.conninfo) as other:
        assert Recommender(other).recommend("visitor") == []
    shared.rollback()
    assert Recommender(shared).recommend("visitor") == []


def test_a_given_async_connection_stays_open_and_its_transaction_the_callers(module_database: Database) -> None:
    async def use() -> None:
        async with await psycopg.AsyncConnection.connect(module_database.conninfo) as connection:
            async with AsyncRecommender(connection) as client:
                await client.track("visitor", "i1", "like")
                assert await client.recommend("visitor")
            assert not connection.closed
            await connection.rollback()
            assert await AsyncRecommender(connection).recommend("visitor") == []

    asyncio.run(use())


def test_refresh_on_a_given_connection_is_part_of_its_transaction(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    weighted = "select count(*) from recdb.user_item_weights"
    with psycopg.connect(database.conninfo) as connection:
        Recommender(connection).refresh()
        assert connection.execute(weighted).fetchone() == (480,)
        connection.rollback()
    assert db.execute(weighted).fetchone() == (0,)
    Recommender(db).refresh()
    assert db.execute(weighted).fetchone() == (480,)


def test_a_given_pool_is_used_and_stays_open(module_database: Database) -> None:
    with ConnectionPool(module_database.conninfo, min_size=1, open=True) as pool:
        with Recommender(pool) as client:
            first = client.recommend("u1")
            with pytest.raises(recdb.InvalidInput):
                client.recommend("u1", 0)
        assert not pool.closed
        assert Recommender(pool).recommend("u1") == first


def test_a_given_async_pool_is_used_and_stays_open(module_database: Database) -> None:
    async def use() -> None:
        async with AsyncConnectionPool(module_database.conninfo, min_size=1, open=False) as pool:
            async with AsyncRecommender(pool) as client:
                assert await client.recommend("u1")
            assert not pool.closed

    asyncio.run(use())


def test_many_at_once_share_the_pool(module_database: Database) -> None:
    async def use() -> None:
        async with AsyncRecommender(module_database.conninfo, max_connections=2) as client:
            lists = await asyncio.gather(*(client.recommend(f"u{n}", 5) for n in range(30)))
        with Recommender(module_database.conninfo) as waiting:
            assert lists == [waiting.recommend(f"u{n}", 5) for n in range(30)]

    asyncio.run(use())


def test_tracking_is_committed(client: Any, module_database: Database) -> None:
    client.track("committed", "i1", "view")
    with psycopg.connect(module_database.conninfo, autocommit=True) as other:
        assert column(other.execute("select item_id from recdb.interaction where user_id = 'committed'")) == ["i1"]
        other.execute("select recdb.forget_user('committed')")


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert methods(Recommender) == methods(AsyncRecommender)
    assert methods(Recommender) >= {
        "recommend", "recommend_for_items", "recommend_batch", "neighbors", "similar_items", "popular", "trending",
        "audience", "track",
        "merge_users", "forget_user", "refresh",
    }  # fmt: skip
