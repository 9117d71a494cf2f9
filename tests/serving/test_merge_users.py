"""merge_users(): a guest became a member, and what the guest did counts as the member's."""

from typing import Any

import psycopg
import pytest
from support.data import recommend, record, tastes, train
from support.refreshing import refresh

from recdb.database import Database


def merge(db: psycopg.Connection, from_id: str | None, to_id: str | None) -> int:
    (moved,) = db.execute("select recdb.merge_users(%s, %s)", [from_id, to_id]).fetchone() or (None,)
    assert isinstance(moved, int)
    return moved


def learned(db: psycopg.Connection, user: str) -> tuple[Any, ...]:
    """A user's weights, and in how many versions the user has a vector."""
    weights = db.execute(
        "select item_id, round(weight::numeric, 9) from recdb.user_item_weights where user_id = %s order by 1", [user]
    ).fetchall()
    vectors = db.execute("select count(*) from recdb.user_vectors where user_id = %s", [user]).fetchone()
    return weights, vectors


def popularity(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    return db.execute("select item_id, weight, users from recdb.item_popularity order by 1").fetchall()


@pytest.mark.parametrize("member", ["u1", "brand-new"])
def test_the_members_list_counts_both_at_once_and_all_else_after_the_next_refresh(
    database: Database, db: psycopg.Connection, member: str
) -> None:
    record(db, tastes())
    train(database)
    touched = {row[0] for row in db.execute("select item_id from recdb.interactions_of('u0')")}

    assert merge(db, "u0", member) == 12

    assert recommend(db, "u0") == []
    rows = recommend(db, member, 1000)
    assert rows and not touched & {row[0] for row in rows}
    refresh(db)
    assert learned(db, "u0") == ([], (0,))
    assert db.execute("select count(*) from recdb.user_key where user_id = 'u0'").fetchone() == (0,)
    assert touched <= {item for item, _ in learned(db, member)[0]}
    after = learned(db, member), popularity(db)
    db.execute("select recdb.rebuild()")
    assert (learned(db, member), popularity(db)) == after
    assert recommend(db, member) and after[0][1] == (1,)


def test_again_it_moves_only_new_rows(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    assert merge(db, "u0", "u1") == 12
    assert merge(db, "u0", "u1") == 0
    db.execute("select recdb.track('u0', 'i5', 'like')")
    assert merge(db, "u0", "u1") == 1
    assert merge(db, "nobody", "u1") == 0
    refresh(db)
    assert learned(db, "u0") == ([], (0,))


def test_before_the_first_refresh(db: psycopg.Connection) -> None:
    record(db, tastes())
    assert merge(db, "u0", "u1") == 12
    refresh(db)
    refresh(db)
    assert learned(db, "u0")[0] == [] and len(learned(db, "u1")[0]) > 12


@pytest.mark.parametrize(
    ("from_id", "to_id"),
    [("", "u1"), ("u1", ""), (None, "u1"), ("u1", None), ("u1", "u1"), ("u1", "x" * 1001)],
)
def test_ids_that_cannot_be_meant_are_refused(
    shared: psycopg.Connection, from_id: str | None, to_id: str | None
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        merge(shared, from_id, to_id)


def test_an_id_too_long_for_the_guests_interactions_is_refused_by_name(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('g', %s, 'view')", ["\N{WAVING HAND SIGN}" * 400])
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="too long"):
        merge(shared, "g", "ä" * 1000)


def test_columns_of_the_applications_own_keep_their_values(db: psycopg.Connection) -> None:
    record(db, [["guest", "i1", "like"]])
    db.execute("alter table recdb.interaction add column campaign text, add column half double precision "
               "generated always as (value / 2) stored")  # fmt: skip
    db.execute("update recdb.interaction set campaign = 'spring', value = 3")
    assert merge(db, "guest", "member") == 1
    assert db.execute("select user_id, campaign, half from recdb.interaction").fetchall() == [("member", "spring", 1.5)]
