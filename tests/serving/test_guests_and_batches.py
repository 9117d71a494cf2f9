"""recommend_for_items(): a guest's list, from the items of this visit. recommend_batch(): many users' lists."""

from typing import Any

import psycopg
import pytest
from support.data import recommend, record, tastes, train

from recdb.database import Database


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
    train(module_database)


def for_items(
    connection: psycopg.Connection, items: list[str | None] | None, more: str = "", **named: Any
) -> list[Any]:
    statement = f"select * from recdb.recommend_for_items(%(items)s::text[]{more})"
    return connection.execute(statement, {"items": items, **named}).fetchall()


def ids(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


def test_a_guest_gets_what_a_user_with_the_same_items_gets(shared: psycopg.Connection) -> None:
    for item, seconds in (("i5", 0), ("i1", 1), ("i8", 2)):
        shared.execute(
            "select recdb.track('newcomer', %s, 'share', now() - make_interval(secs => %s))", [item, seconds]
        )
    rows = for_items(shared, ["i5", "i1", "i8"])
    assert rows == recommend(shared, "newcomer")
    assert len(rows) == 50
    assert rows[0][1] == 1.0
    assert set(ids(rows)).isdisjoint({"i5", "i1", "i8"})


def test_a_guest_gets_what_belongs_with_the_items(shared: psycopg.Connection) -> None:
    rows = for_items(shared, ["i1", "i4"], ", k => 10")
    assert len([item for item in ids(rows) if int(item[1:]) % 3 == 1]) >= 7


def test_weights_are_the_strengths_of_a_users_interactions(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('newcomer', 'i5', 'share')")
    shared.execute("select recdb.track('newcomer', 'i1', 'view', now() - interval '1 s')")
    weighted = for_items(shared, ["i5", "i1"], ", weights => array[1, 0.1]::real[]")
    expected = {row[0]: row[1] for row in recommend(shared, "newcomer")}
    assert {row[0]: row[1] for row in weighted} == pytest.approx(expected, abs=1e-6)
    assert weighted != for_items(shared, ["i5", "i1"])
    scaled = for_items(shared, ["i5", "i1"], ", weights => array[10, 1]::real[]")
    assert {row[0]: row[1] for row in scaled} == pytest.approx(expected, abs=1e-6)


def test_a_weight_is_1_unless_given(shared: psycopg.Connection) -> None:
    plain = for_items(shared, ["i5", "i1"])
    assert for_items(shared, ["i5", "i1"], ", weights => null") == plain
    assert for_items(shared, ["i5", "i1"], ", weights => array[null, 1]::real[]") == plain


def test_repeated_items_are_summed_and_unknown_ones_ignored(shared: psycopg.Connection) -> None:
    weighted = for_items(shared, ["i5", "i1"], ", weights => array[2, 1]::real[]")
    assert for_items(shared, ["i5", "i1", "i5"]) == weighted
    assert for_items(shared, ["brand-new", "i5", None, "i1", "i5"]) == weighted


def test_without_a_known_item_there_is_nothing_or_what_is_popular(shared: psycopg.Connection) -> None:
    for items in ([], None, ["brand-new"], [None]):
        assert for_items(shared, items) == []
        filled = for_items(shared, items, ", fallback => 'popular'")
        assert filled == recommend(shared, "nobody", fallback="popular")


def test_the_items_of_the_visit_do_not_fill_either(shared: psycopg.Connection) -> None:
    rows = for_items(shared, ["i5", "brand-new"], ", k => 1000, fallback => 'popular'")
    assert sorted(ids(rows)) == sorted(f"i{n}" for n in range(60) if n != 5)


def test_exclude_filter_and_model_work_as_in_recommend(shared: psycopg.Connection) -> None:
    everything = for_items(shared, ["i5"], ", k => 1000")
    excluded = ids(everything)[:3]
    assert for_items(shared, ["i5"], ", k => 1000, exclude => %(ids)s", ids=excluded) == everything[3:]
    label = everything[0][3]
    assert for_items(shared, ["i5"], ", k => 1000, model => %(label)s", label=label) == everything
    shared.execute("insert into recdb.item (item_id, attributes) values (%s, '{\"a\": 1}')", [excluded[2]])
    assert for_items(shared, ["i5"], ", filter => '{\"a\": 1}'") == [everything[2]]


def test_items_of_the_catalogue_that_belong_to_somebody_are_shown_to_guests(shared: psycopg.Connection) -> None:
    everything = for_items(shared, ["i5"], ", k => 1000")
    shared.execute("insert into recdb.item (item_id, owner_id) select 'i' || n, 'owner' from generate_series(0, 59) n")
    assert for_items(shared, ["i5"], ", k => 1000") == everything
    shared.execute("update recdb.item set available = false where item_id = %s", [everything[0][0]])
    assert ids(for_items(shared, ["i5"], ", k => 1000")) == ids(everything)[1:]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("array['i1'], 0", psycopg.errors.InvalidParameterValue),
        ("array['i1'], 1001", psycopg.errors.InvalidParameterValue),
        ("array['i1'], fallback => 'random'", psycopg.errors.InvalidParameterValue),
        ("array['i1'], weights => array[1, 2]::real[]", psycopg.errors.InvalidParameterValue),
        ("array['i1', 'i2'], weights => array[1]::real[]", psycopg.errors.InvalidParameterValue),
        ("array['i1'], model => 'nonesuch'", psycopg.errors.UndefinedObject),
    ],
)
def test_wrong_arguments_are_refused(shared: psycopg.Connection, arguments: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        shared.execute(f"select * from recdb.recommend_for_items({arguments})")


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-Infinity", "1e38", "1e-38", "-1"])
def test_no_weight_makes_a_score_that_is_not_in_0_to_1(shared: psycopg.Connection, weight: str) -> None:
    """A weight is refused or served, but no score is NaN or out of range."""
    try:
        rows = for_items(shared, ["i5", "i1"], ", weights => array[%(weight)s, 1]::real[]", weight=weight)
    except psycopg.errors.InvalidParameterValue:
        return
    assert all(0 <= row[1] <= 1 for row in rows)


def test_a_batch_holds_what_each_user_gets(shared: psycopg.Connection) -> None:
    users = ["u7", "u3", "nobody", "u12"]
    rows = shared.execute("select * from recdb.recommend_batch(%s, 9)", [users]).fetchall()
    expected = [
        (user, rank, *row[:3])
        for user in users
        for rank, row in enumerate(recommend(shared, user, 9), 1)
    ]  # fmt: skip
    assert rows == expected
    assert len(rows) == 27


def test_a_batch_reads_every_user_once_in_the_order_given(shared: psycopg.Connection) -> None:
    rows = shared.execute("select * from recdb.recommend_batch(array['u9', null, 'u3', 'u9'], 2)").fetchall()
    assert [(row[0], row[1]) for row in rows] == [("u9", 1), ("u9", 2), ("u3", 1), ("u3", 2)]


def test_a_batch_of_everybody(shared: psycopg.Connection) -> None:
    rows = shared.execute(
        "select * from recdb.recommend_batch((select array_agg(user_id order by user_key) from recdb.user_key))"
    ).fetchall()
    assert {row[0] for row in rows} == {f"u{n}" for n in range(40)}
    for user in ("u0", "u39"):
        assert [row[2:] for row in rows if row[0] == user] == [row[:3] for row in recommend(shared, user)]


def test_a_batch_of_nobody_is_empty(shared: psycopg.Connection) -> None:
    for users in ("'{}'", "null", "array[null]::text[]", "array['nobody']"):
        assert shared.execute(f"select * from recdb.recommend_batch({users})").fetchall() == []


@pytest.mark.parametrize("k", [0, 1001])
def test_a_batch_refuses_a_wrong_k(shared: psycopg.Connection, k: int) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        shared.execute("select * from recdb.recommend_batch(array['u1'], %s)", [k])
