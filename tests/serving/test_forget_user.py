"""forget_user() erases a user at once from everything that can be read."""

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train

from recdb import job
from recdb.database import Database


@pytest.fixture(autouse=True)
def trained(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)


def forget(connection: psycopg.Connection, user: str | None) -> int:
    return int(connection.execute("select recdb.forget_user(%s)", [user]).fetchone()[0])


def places_with(connection: psycopg.Connection, user: str) -> list[str]:
    """The tables, views and materialized views of recdb in which a column holds the user's id."""
    columns = connection.execute(
        "select c.table_name, c.column_name from information_schema.columns c "
        "where c.table_schema = 'recdb' and c.data_type = 'text'"
    ).fetchall()
    return [
        table
        for table, name in columns
        if connection.execute(f'select count(*) from recdb."{table}" where "{name}" = %s', [user]).fetchone() != (0,)
    ]


def test_the_id_is_in_no_table_or_view_afterwards(db: psycopg.Connection) -> None:
    assert {"interaction", "user_key", "user_item_weights", "user_vectors"} <= set(places_with(db, "u5"))
    forget(db, "u5")
    assert places_with(db, "u5") == []


def test_it_returns_how_many_rows_went(db: psycopg.Connection) -> None:
    events = db.execute("select count(*) from recdb.interaction where user_id = 'u5'").fetchone()[0]
    items = db.execute("select count(*) from recdb.user_item_weights where user_id = 'u5'").fetchone()[0]
    vectors = db.execute("select count(*) from recdb.user_vectors where user_id = 'u5'").fetchone()[0]
    assert vectors == 1
    assert forget(db, "u5") == events + items + vectors
    assert forget(db, "u5") == 0


def test_the_user_is_a_stranger_afterwards(db: psycopg.Connection) -> None:
    assert recommend(db, "u5")
    forget(db, "u5")
    assert recommend(db, "u5") == []
    assert db.execute("select * from recdb.neighbors('u5')").fetchall() == []
    assert recommend(db, "u5", fallback="popular") == recommend(db, "nobody", fallback="popular")


def test_the_user_is_nobodys_neighbor_afterwards(db: psycopg.Connection) -> None:
    around = "select neighbor_id from recdb.neighbors('u8', 1000)"
    assert "u5" in column(db.execute(around))
    forget(db, "u5")
    assert sorted(column(db.execute(around))) == sorted(f"u{n}" for n in range(40) if n not in (5, 8))


def test_others_are_still_served_and_no_longer_by_the_users_taste(database: Database, db: psycopg.Connection) -> None:
    """No similar user gets an item that only the forgotten user interacted with."""
    record(db, [["u5", "secret", "share"]] * 9)
    train(database, blend=1.0)
    assert any(row[0] == "secret" for row in recommend(db, "u8", 1000))
    forget(db, "u5")
    rows = recommend(db, "u8", 1000)
    assert rows
    assert all(row[0] != "secret" for row in rows)


@pytest.mark.parametrize("others", ["nobody did", "somebody did"])
def test_items_of_the_forgotten_user_alone_are_not_popular_after_a_refresh(db: psycopg.Connection, others: str) -> None:
    db.execute("select recdb.track('u5', 'secret', 'share')")
    db.execute("select recdb.rebuild()")
    assert "secret" in [row[0] for row in recommend(db, "nobody", 1000, fallback="popular")]
    forget(db, "u5")
    if others == "somebody did":
        db.execute("select recdb.track('u8', 'i1', 'view')")
    db.execute("call recdb.refresh()")
    assert "secret" not in [row[0] for row in recommend(db, "nobody", 1000, fallback="popular")]


@pytest.mark.parametrize("refreshed", ["refresh", "rebuild", "training"])
def test_maintenance_does_not_bring_the_user_back(database: Database, db: psycopg.Connection, refreshed: str) -> None:
    forget(db, "u5")
    match refreshed:
        case "refresh":
            db.execute("call recdb.refresh()")
        case "rebuild":
            db.execute("select recdb.rebuild()")
        case _:
            job.run(database, full=True)
    assert places_with(db, "u5") == []
    leftovers = db.execute(
        "select count(*) from recdb.user_vector v where not exists "
        "(select from recdb.user_key u where u.user_key = v.user_key)"
    )
    assert leftovers.fetchone() == (0,)


def test_keys_without_a_user_go_with_the_full_refresh(db: psycopg.Connection) -> None:
    forget(db, "u5")
    db.execute("select recdb.rebuild()")
    unknown = (
        "select count(*) from recdb.user_item_settled w where not exists "
        "(select from recdb.user_key u where u.user_key = w.user_key)"
    )
    assert db.execute(unknown).fetchone() == (0,)


def test_a_user_who_changed_since_is_forgotten_too(db: psycopg.Connection) -> None:
    db.execute("select recdb.track('u5', 'i1', 'like')")
    db.execute("select recdb.track('newcomer', 'i1', 'like')")
    db.execute("call recdb.refresh()")
    for user in ("u5", "newcomer"):
        assert forget(db, user) > 0
        assert places_with(db, user) == []
    db.execute("select recdb.track('never refreshed', 'i1', 'like')")
    assert forget(db, "never refreshed") == 1


def test_every_kept_version_forgets(database: Database, db: psycopg.Connection) -> None:
    train(database)
    count = "select count(*) from recdb.user_vectors where user_id = 'u5'"
    assert db.execute(count).fetchone() == (2,)
    forget(db, "u5")
    assert db.execute(count).fetchone() == (0,)


def test_a_user_who_comes_back_starts_again_without_a_history(db: psycopg.Connection) -> None:
    forget(db, "u5")
    db.execute("select recdb.track('u5', 'i1', 'like')")
    db.execute("select recdb.track('newcomer', 'i1', 'like')")
    assert recommend(db, "u5") == recommend(db, "newcomer")
    db.execute("call recdb.refresh()")
    assert db.execute("select item_id from recdb.user_item_weights where user_id = 'u5'").fetchall() == [("i1",)]
    forget(db, "u5")
    assert recommend(db, "u5") == []


def test_forgetting_can_be_rolled_back(db: psycopg.Connection) -> None:
    before = recommend(db, "u5")
    with db.transaction() as transaction:
        assert forget(db, "u5") > 0
        raise psycopg.Rollback(transaction)
    assert recommend(db, "u5") == before


def test_nobody_is_forgotten_without_effect(db: psycopg.Connection) -> None:
    for user in ("nobody", "", None):
        assert forget(db, user) == 0
    assert db.execute("select count(*) from recdb.user_key").fetchone() == (40,)
