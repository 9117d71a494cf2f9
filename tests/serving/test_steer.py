"""Scenarios and rules: each list is followed by a reference of its own, over random scenarios."""

import csv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, tastes, train
from support.steered import Ambiguous, Choice, Steering, draw_items, read_catalogue

from recdb import InvalidInput, Recommender
from recdb.database import Database
from recdb.everyone import recommend_all

ITEMS = 60
SETTINGS = settings(max_examples=50, deadline=None, database=None)

conditions = st.one_of(
    st.fixed_dictionaries({"topic": st.integers(0, 4)}),
    st.fixed_dictionaries({"tags": st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2)}),
    st.just({}),
)
steerings = st.builds(
    lambda limits, **named: Steering(**named, max_per_attribute=limits[0], max_per_number=limits[1]),
    limits=st.one_of(
        st.just((None, None)), st.tuples(st.sampled_from(["topic", "tags", "nothing"]), st.integers(1, 6))
    ),
    freshness=st.one_of(st.none(), st.integers(1, 10**7).map(lambda seconds: timedelta(seconds=seconds))),
    max_per_owner=st.one_of(st.none(), st.integers(1, 4)),
    diversity=st.one_of(st.just(0.0), st.floats(0, 1)),
    filter=st.one_of(st.none(), conditions),
    minimum_score=st.one_of(st.none(), st.floats(0, 0.8)),
    explore=st.one_of(st.just(0.0), st.floats(0, 1)),
    explore_below=st.sampled_from([1, 4, 100]),
    pool=st.sampled_from([20, 100]),
    rules=st.lists(st.tuples(conditions, st.sampled_from([0.0, 0.25, 0.9, 1.0, 1.7, 20.0])), max_size=3),
    pins=st.lists(st.tuples(conditions, st.integers(1, 30)), max_size=3),
)


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection]:
    """A model of forty users; the items i0 to i49 are listed, and three that nobody touched."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=40, items=ITEMS, per_user=9))
        connection.execute(
            "insert into recdb.item (item_id, owner_id, attributes, published_at) "
            "select 'i' || n, case when n % 10 <> 9 then 'o' || n % 7 end, "
            "jsonb_build_object('topic', n % 5, 'tags', case n % 3 when 0 then '[\"a\", \"b\"]' "
            "when 1 then '[\"b\", \"c\"]' else '[]' end::jsonb, 'price', n), "
            "case when n % 8 <> 7 then now() - n * interval '7 hours' end from generate_series(0, 49) n "
            "union all select 'new' || n, 'o1', '{\"topic\": 1}', now() - n * interval '1 hour' "
            "from generate_series(1, 3) n"
        )
        # The more often, the lower its number: i0 nineteen times, i20 once. The others were never shown.
        connection.execute(
            "select recdb.impressions('u' || n, (select array_agg('i' || m) from generate_series(0, 40 - n) m), "
            "shown_at => now() - interval '60 days') from generate_series(20, 39) n"
        )
        connection.execute("insert into recdb.scenario (name, explore) values ('curious', 0.1)")
        train(module_database, neighbors=15)
        yield connection


@pytest.fixture(autouse=True)
def undone(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


def steer(connection: psycopg.Connection, steering: Steering, name: str = "here") -> None:
    """Write a scenario and its rules."""
    row = {"name": name, **steering.columns()}
    connection.execute("delete from recdb.scenario where name = %s", [name])
    connection.execute(
        sql.SQL("insert into recdb.scenario ({}) values ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
        ),
        row,
    )
    for condition, factor, place in [
        *((condition, factor, None) for condition, factor in steering.rules),
        *((condition, None, place) for condition, place in steering.pins),
    ]:
        connection.execute(
            "insert into recdb.rule (scenario, condition, factor, place) values (%s, %s, %s, %s)",
            [name, Jsonb(condition), factor, place],
        )


def choice(
    connection: psycopg.Connection, steering: Steering, user: str = "u6", among: list[str] | None = None,
    shown: Any = None, fallback: str = "none", filter: dict[str, Any] | None = None,
) -> Choice:  # fmt: skip
    """The reference, for a list of the user in the scenario here."""
    (now,) = connection.execute("select now()").fetchone() or (None,)
    everything = recommend(connection, user, 1000, fallback="popular")
    possible = set(ids(everything)) - set(
        column(connection.execute("select item_id from recdb.interaction where user_id = %s", [user]))
    )
    lowest = min([row[1] for row in everything if row[2] != "popular"], default=1.0)
    found = Choice(
        steering, read_catalogue(connection), now, shown or {}, fallback=fallback == "popular", filter=filter,
        lowest=lowest,
    )  # fmt: skip
    found.drawn, found.start = draw_items(
        connection, steering, user, "here",
        lambda item: item in possible and (among is None or item in among) and found.may_come(item),
    )  # fmt: skip
    return found


def ids(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


def list_unsteered(connection: psycopg.Connection, user: str = "u6", **options: Any) -> list[Any]:
    """The list that nothing steers, of all items that the user may get."""
    return recommend(connection, user, 1000, fallback="popular", **options)


@SETTINGS
@given(
    steering=steerings, user=st.sampled_from(["u1", "u6", "nobody"]), k=st.integers(1, 25),
    fallback=st.sampled_from(["none", "popular"]), exclude=st.lists(st.integers(0, ITEMS + 3), max_size=12),
    filter=st.one_of(st.none(), conditions),
)  # fmt: skip
def test_a_list_is_the_choice_of_the_formulas(
    connection: psycopg.Connection, steering: Steering, user: str, k: int, fallback: str, exclude: list[int],
    filter: dict[str, Any] | None,
) -> None:  # fmt: skip
    with connection.transaction(force_rollback=True):
        left_out = [f"i{number}" for number in exclude]
        unsteered = list_unsteered(connection, user)
        expected = choice(connection, steering, user, fallback=fallback, filter=filter)
        steer(connection, steering)
        rows = recommend(
            connection, user, k, exclude=left_out, fallback=fallback, scenario="here",
            filter=None if filter is None else Jsonb(filter),
        )  # fmt: skip
        with suppress(Ambiguous):
            expected.follow(unsteered, rows, k, set(left_out))
        assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
        assert all(0 <= row[1] <= 1 for row in rows)


@SETTINGS
@given(steering=steerings, k=st.integers(1, 15), fallback=st.sampled_from(["none", "popular"]))
def test_pages_fit_together(connection: psycopg.Connection, steering: Steering, k: int, fallback: str) -> None:
    with connection.transaction(force_rollback=True):
        steer(connection, replace(steering, pins=[]))
        both = recommend(connection, "u6", 2 * k, fallback=fallback, scenario="here")
        first = recommend(connection, "u6", k, fallback=fallback, scenario="here")
        second = recommend(connection, "u6", k, fallback=fallback, scenario="here", exclude=ids(first))
        assert first == both[:k]
        assert ids(first) + ids(second) == ids(both)


@SETTINGS
@given(
    steering=steerings, numbers=st.sets(st.integers(0, ITEMS - 1), max_size=30),
    fallback=st.sampled_from(["none", "popular"]),
)  # fmt: skip
def test_candidates_are_steered_too(
    connection: psycopg.Connection, steering: Steering, numbers: set[int], fallback: str
) -> None:
    with connection.transaction(force_rollback=True):
        among = [f"i{number}" for number in numbers] + ["new2"]
        unsteered = list_unsteered(connection, among=among)
        expected = choice(connection, steering, among=among, fallback=fallback)
        steer(connection, steering)
        rows = recommend(connection, "u6", 20, among=among, fallback=fallback, scenario="here")
        with suppress(Ambiguous):
            expected.follow(unsteered, rows, 20)


def test_a_scenario_that_does_nothing_changes_nothing(connection: psycopg.Connection) -> None:
    plain = recommend(connection, "u6", 1000, fallback="popular")
    steer(connection, Steering())
    assert recommend(connection, "u6", 1000, fallback="popular", scenario="here") == plain
    connection.execute("delete from recdb.scenario")
    assert recommend(connection, "u6", 1000, fallback="popular") == plain


def test_the_row_default_steers_who_names_none(connection: psycopg.Connection) -> None:
    plain = recommend(connection, "u6", 10)
    connection.execute("update recdb.scenario set freshness = '1 day' where name = 'default'")
    fresh = connection.execute("select * from recommend('u6', 10, '<>')").fetchall()
    assert ids(fresh) != ids(plain)
    assert recommend(connection, "u6", 10) == fresh
    steer(connection, Steering())
    assert recommend(connection, "u6", 10, scenario="here") == plain
    connection.execute("update recdb.scenario set freshness = null, fallback = 'popular' where name = 'default'")
    assert recommend(connection, "nobody", 3) == recommend(connection, "nobody", 3, fallback="popular") != []


def test_every_list_follows_the_scenario(connection: psycopg.Connection) -> None:
    steer(connection, Steering(max_per_owner=1, freshness=timedelta(days=2)))
    mine = recommend(connection, "u6", 5, scenario="here")
    batch = connection.execute("select * from recdb.recommend_batch(array['u6'], 5, scenario => 'here')").fetchall()
    assert [row[2:5] for row in batch] == [row[:3] for row in mine]
    assert [row[1] for row in batch] == [1, 2, 3, 4, 5]
    connection.execute("set local recdb.user_id = 'u6'")
    assert connection.execute("select * from recdb.recommend_me(5, scenario => 'here')").fetchall() == mine
    guest = connection.execute(
        "select item_id from recdb.recommend_for_items(array['i1'], 5, scenario => 'here')"
    ).fetchall()
    owners = column(connection.execute(
        "select owner_id from recdb.item where item_id = any (%s) and owner_id is not null", [ids(guest)]
    ))  # fmt: skip
    assert len(owners) == len(set(owners)) > 0


def test_the_file_of_all_lists_follows_the_scenario(
    connection: psycopg.Connection, module_database: Database, tmp_path: Path
) -> None:
    """The file has the lists of recommend() for every user."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as other:
        steer(other, Steering(max_per_owner=1, diversity=0.3), "mail")
        try:
            recommend_all(module_database, str(tmp_path / "lists.csv"), k=4, scenario="mail")
            with pytest.raises(InvalidInput, match="no scenario is named"):
                recommend_all(module_database, str(tmp_path / "none.csv"), scenario="nowhere")
            rows = list(csv.DictReader((tmp_path / "lists.csv").read_text().splitlines()))
            expected = recommend(other, "u6", 4, scenario="mail")
        finally:
            other.execute("delete from recdb.scenario where name = 'mail'")
    mine = [(row["item_id"], float(row["score"]), row["reason"], row["model_version"]) for row in rows
            if row["user_id"] == "u6"]  # fmt: skip
    assert mine == expected
    assert len({row["user_id"] for row in rows}) == 40


@SETTINGS
@given(steering=steerings)
def test_an_explanation_adds_up_to_the_score_before_the_choice(
    connection: psycopg.Connection, steering: Steering
) -> None:
    with connection.transaction(force_rollback=True):
        before = replace(steering, diversity=0.0, pins=[])
        scored = set(ids(recommend(connection, "u6", 1000)))
        steer(connection, before)
        for item, score, reason, _ in recommend(connection, "u6", 3, scenario="here"):
            if item not in scored and reason != "explored":
                continue
            rows = connection.execute(
                "select source, contribution from recdb.explain('u6', %s, scenario => 'here')", [item]
            ).fetchall()
            drawn = [row[1] for row in rows if row[0] == "explored"]
            if reason == "explored":
                assert 0 < drawn[0] < 1
            else:
                assert sum(row[1] for row in rows) - sum(drawn) == pytest.approx(score, abs=1e-6)
            known = {"item", "neighbors", "content", "author", "freshness", "rule", "explored"}
            # An item without a score of its own follows by popularity, until a place for exploration takes it up.
            assert {row[0] for row in rows} <= known | ({"popular"} if item not in scored else set())


def test_an_unknown_scenario_is_an_error(connection: psycopg.Connection, module_database: Database) -> None:
    refused = pytest.raises(psycopg.errors.InvalidParameterValue, match='no scenario is named "nowhere"')
    with refused, connection.transaction():
        recommend(connection, "u6", scenario="nowhere")
    with Recommender(module_database.conninfo) as client, pytest.raises(InvalidInput, match="no scenario is named"):
        client.recommend("u6", scenario="nowhere")


def test_rules_act_while_they_are_valid(connection: psycopg.Connection) -> None:
    plain = recommend(connection, "u6", 20)
    steer(connection, Steering(rules=[({"topic": 2}, 0)]))
    buried = {f"i{number}" for number in range(2, 50, 5)}
    assert buried & set(ids(plain))
    assert not buried & set(ids(recommend(connection, "u6", 1000, fallback="popular", scenario="here")))
    for validity in ("valid_to = now() - interval '1 s'", "valid_from = now() + interval '1 h', valid_to = null"):
        connection.execute(f"update recdb.rule set {validity}")  # type: ignore[call-overload]
        assert recommend(connection, "u6", 20, scenario="here") == plain


def test_a_rule_lifts_what_is_below_the_pool(connection: psycopg.Connection) -> None:
    plain = recommend(connection, "u6", 1000)
    low = next(row for row in plain[25:] if row[0] in {f"i{number}" for number in range(50)})
    steer(connection, Steering(rules=[({"price": int(low[0][1:])}, 1e6)]))
    connection.execute("update recdb.scenario set pool = 20 where name = 'here'")
    rows = recommend(connection, "u6", 5, scenario="here")
    assert low[0] in ids(rows)
    assert next(row[2] for row in rows if row[0] == low[0]) == "boosted"


@pytest.mark.parametrize("place", [1, 2, 5])
def test_a_rule_pins_the_best_item_that_meets_it(connection: psycopg.Connection, place: int) -> None:
    plain = recommend(connection, "u6", 30)
    steer(connection, Steering())
    connection.execute(
        "insert into recdb.rule (scenario, condition, place) values ('here', to_jsonb('$.price < 10'::text), %s)",
        [place],
    )
    wanted = next(row[0] for row in plain if row[0] in {f"i{number}" for number in range(10)})
    expected = [item for item in ids(plain) if item != wanted]
    expected.insert(place - 1, wanted)
    rows = recommend(connection, "u6", 8, scenario="here")
    assert ids(rows) == expected[:8]
    assert rows[place - 1][2] == "pinned"
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    following = recommend(connection, "u6", 8, scenario="here", exclude=ids(rows))
    assert ids(following) == expected[8:16]


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_shown_and_not_touched_sinks(connection: psycopg.Connection, kept: bool) -> None:
    plain = recommend(connection, "u6", 40)
    if kept:
        connection.execute("select recdb.add_impression_weeks()")
    connection.execute(
        "select recdb.impressions('u6', %s::text[], shown_at => now() - interval '1 hour')", [ids(plain)[:4]]
    )
    steering = Steering(rotation_rate=0.8, rotation_time=timedelta(hours=3))
    steer(connection, steering)
    rows = recommend(connection, "u6", 10, scenario="here")
    (now,) = connection.execute("select now()").fetchone() or (None,)
    shown = {item: now - timedelta(hours=1) for item in ids(plain)[:4]}
    choice(connection, steering, shown=shown).follow(list_unsteered(connection), rows, 10)
    assert ids(rows) != ids(plain)[:10]
    assert ids(recommend(connection, "u1", 10, scenario="here")) == ids(recommend(connection, "u1", 10))


def test_wrong_settings_are_refused(connection: psycopg.Connection) -> None:
    for wrong in (
        "freshness = '0'", "max_per_owner = 0", "max_per_number = 1", "diversity = 1.1", "rotation_rate = -0.1",
        "explore = 1.1", "explore_for = '0'", "explore_below = 0", "filter = '1'",
        "filter = '\"price <\"'", "fallback = 'x'", "minimum_score = 2", "pool = 5",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
            connection.execute(f"update recdb.scenario set {wrong}")  # type: ignore[call-overload]
    for rule in ("'{}', -1, null", "'{}', null, 0", "'{}', null, null", "'{}', 1, 1", "'[]', 1, null"):
        with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
            connection.execute(f"insert into recdb.rule (condition, factor, place) values ({rule})")  # type: ignore[call-overload]
