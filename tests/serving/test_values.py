"""A number on an interaction: a user's weight for an item is the sum of kind weight times value, wherever it counts."""

from typing import Any

import psycopg
import pytest
from support.answers import WEIGHTS, answers
from support.data import column, recommend, record, tastes, train

from recdb import job
from recdb.arrays.events import read_events
from recdb.data.attach import attach
from recdb.data.sources import parse_source
from recdb.database import Database, connect
from recdb.evaluate.holdout import copy_interactions, list_choices
from recdb.migrate import downgrade, upgrade

WRONG = ("nan", "inf", "-inf", 1_000_001, -1e7, 1e-10)


def weights_of(db: psycopg.Connection, user: str) -> dict[str, float]:
    return dict(db.execute("select item_id, weight from recdb.profile_of(%s)", [user]).fetchall())


def stored_weights(db: psycopg.Connection, user: str) -> dict[str, float]:
    return dict(db.execute("select item_id, weight from recdb.user_item_weights where user_id = %s", [user]).fetchall())


def test_a_weight_is_the_sum_of_kind_weight_times_value(database: Database, db: psycopg.Connection) -> None:
    """Live, after a rebuild, after a refresh, in the view of analysts, offline, and in a copy to evaluate on."""
    for item, kind, value in (
        ("tea", "like", 3), ("tea", "like", None), ("cup", "view", -2.5), ("pot", "like", 0), ("jar", "odd", 4),
    ):  # fmt: skip
        db.execute("select recdb.track('ann', %s, %s, value => %s)", [item, kind, value])
    expected = {"tea": pytest.approx(2.8), "cup": pytest.approx(-0.25), "pot": 0, "jar": pytest.approx(0.4)}

    assert weights_of(db, "ann") == expected
    db.execute("select recdb.rebuild()")
    assert stored_weights(db, "ann") == expected
    summed = db.execute(
        "select item_id, sum(weight) from recdb.weighted_interactions where user_id = 'ann' group by item_id"
    )
    assert dict(summed.fetchall()) == expected
    assert db.execute("select array_length(item_keys, 1) from recdb.profile('ann')").fetchone() == (3,)
    popular = dict(db.execute("select item_id, weight from recdb.item_popularity").fetchall())
    assert popular["cup"] == 0 and popular["tea"] == 0.7  # at most one interaction of the kind

    with connect(database, autocommit=True) as connection:
        known = read_events(connection).interactions()
    keys = dict(db.execute("select item_key, item_id from recdb.item_key").fetchall())
    offline = {keys[item]: float(weight) for item, weight in zip(known.items, known.weights, strict=True)}
    assert offline == {item: pytest.approx(stored_weights(db, "ann")[item]) for item in ("tea", "cup", "jar")}

    db.execute("select recdb.track('ann', 'cup', 'view', value => 12.5)")
    db.execute("select recdb.track('guest', 'tea', 'like', value => 2)")
    db.execute("select recdb.merge_users('guest', 'ann')")
    db.execute("call recdb.refresh()")
    expected |= {"cup": pytest.approx(1.0), "tea": pytest.approx(4.2)}
    assert weights_of(db, "ann") == stored_weights(db, "ann") == expected

    with connect(database, autocommit=True) as source, psycopg.connect(database.conninfo) as target:
        target.execute("create temporary table copied_settings (like recdb.config)")
        copy_interactions(source, target)
        list_choices(target)
        rows = target.execute("select item_id, sum(weight * coalesce(value, 1)), bool_or(liked) from event group by 1")
        assert {item: (weight, liked) for item, weight, liked in rows} == {
            "tea": (expected["tea"], True), "cup": (expected["cup"], True), "jar": (expected["jar"], True),
            "pot": (0, False),
        }  # fmt: skip
        target.rollback()


def test_values_of_one_and_none_give_the_same_to_the_last_digit(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("update recdb.config set half_life = '30 days'")
    label = train(database)
    before, weights = answers(db), db.execute(WEIGHTS).fetchall()

    db.execute("update recdb.interaction set value = 1")
    db.execute("select recdb.rebuild()")

    assert db.execute(WEIGHTS).fetchall() == weights
    assert answers(db) == before
    assert label


@pytest.mark.parametrize("value", WRONG)
def test_a_value_that_cannot_be_meant_is_refused(shared: psycopg.Connection, value: Any) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="value is"), shared.transaction():
        shared.execute("select recdb.track('ann', 'tea', 'like', value => %s::float8)", [value])
    with pytest.raises(psycopg.errors.CheckViolation), shared.transaction():
        shared.execute(
            "insert into recdb.interaction (user_id, item_id, kind, value) values ('a', 'b', 'c', %s::float8)", [value]
        )


def test_low_stars_are_dislikes(database: Database, db: psycopg.Connection) -> None:
    """Each user gives one half of the films 5 stars and the other half 1: the lists hold films like the former."""
    rows = [
        (f"u{user}", f"{genre}{(user * 3 + number) % 20}", 2.5 if (user % 2 == 0) == (genre == "war") else -1.5)
        for user in range(40)
        for genre in ("war", "love")
        for number in range(6)
    ]
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into recdb.interaction (user_id, item_id, kind, value) values (%s, %s, 'like', %s)", rows
        )
    job.run(database)
    for user, genre in (("u0", "war"), ("u1", "love")):
        found = [item for item, *_ in recommend(db, user, 10)]
        assert found and all(item.startswith(genre) for item in found)


def test_attached_tables_stay_attached_down_and_up_again(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table line (buyer text, product text, quantity int, at timestamptz default now())")
    db.execute("insert into line values ('ann', 'tea', 3), ('bob', 'cup', 2)")
    attach(database, [parse_source("public.line user=buyer item=product kind=like at=at value=quantity")])
    db.execute("select recdb.track('ann', 'cup', 'like')")
    both = "select user_id, item_id, kind from recdb.interactions order by 1, 2"
    before = db.execute(both).fetchall()
    assert weights_of(db, "ann") == {"tea": pytest.approx(2.1), "cup": 0.7}

    downgrade(database, "0005")
    assert db.execute(both).fetchall() == before
    assert column(db.execute("select item_id from recdb.interactions_of('ann') order by 1")) == ["cup", "tea"]
    upgrade(database)

    assert db.execute(both).fetchall() == before
    assert weights_of(db, "ann") == {"tea": pytest.approx(2.1), "cup": 0.7}
    db.execute("select recdb.rebuild()")
    assert stored_weights(db, "ann") == weights_of(db, "ann")
