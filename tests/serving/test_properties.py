"""Properties of recommend() that hold for every history, every exclusion, every filter and every k."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train

from recdb.database import Database

ITEMS = 45
SETTINGS = settings(max_examples=40, deadline=None, database=None)

items = st.integers(0, ITEMS + 3).map(lambda number: f"i{number}")  # the model does not know the last few
listed = st.integers(0, 29).map(lambda number: f"i{number}")
kinds = st.sampled_from(["view", "click", "like", "share", "unheard-of", "dislike", "hover"])
histories = st.lists(st.tuples(items, kinds, st.integers(0, 10**7)), max_size=15)
excludes = st.lists(st.one_of(items, st.just("stranger"), st.none()), max_size=30)
filters = st.one_of(st.none(), st.fixed_dictionaries({"parity": st.integers(0, 1)}))
ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@dataclass
class World:
    """A history and the state of the catalogue around it."""

    history: list[tuple[str, str, int]]
    unavailable: set[str]
    own: set[str]


worlds = st.builds(World, histories, st.sets(listed, max_size=5), st.sets(listed, max_size=5))


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection]:
    """A model of forty users; i0 to i29 are listed; dislikes have a negative weight, and hovering does not hide."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        connection.execute(
            "insert into recdb.interaction_kind values ('dislike', -0.437, true), ('hover', 0.05, false)"
        )
        connection.execute(
            "insert into recdb.item (item_id, attributes, published_at) "
            "select 'i' || n, jsonb_build_object('parity', n % 2), '2024-01-01'::timestamptz + n * interval '1 day' "
            "from generate_series(0, 29) n union all select 'untouched' || n, '{}', null from generate_series(1, 3) n"
        )
        record(connection, tastes(users=40, items=ITEMS, per_user=9))
        train(module_database, neighbors=15)
        yield connection


def enter(connection: psycopg.Connection, world: World, user: str = "somebody") -> None:
    """Store the history and the catalogue; the caller rolls them back."""
    for item, kind, age in world.history:
        connection.execute("select recdb.track(%s, %s, %s, now() - make_interval(secs => %s))", [user, item, kind, age])
    connection.execute("update recdb.item set available = false where item_id = any(%s)", [list(world.unavailable)])
    connection.execute("update recdb.item set owner_id = %s where item_id = any(%s)", [user, list(world.own)])


def hidden(world: World) -> set[str]:
    return {item for item, kind, _ in world.history if kind != "hover"}


def assert_sound(rows: list[Any], world: World) -> None:
    assert all(0 <= row[1] <= 1 for row in rows)
    assert rows == sorted(rows, key=lambda row: (-row[1], row[2], row[0]))
    found = [row[0] for row in rows]
    assert len(set(found)) == len(found)
    assert set(found).isdisjoint(hidden(world) | world.unavailable | world.own)


@SETTINGS
@given(world=worlds)
def test_every_list_is_sound(connection: psycopg.Connection, world: World) -> None:
    with connection.transaction(force_rollback=True):
        enter(connection, world)
        rows = recommend(connection, "somebody", 1000)
        assert_sound(rows, world)
        assert not rows or rows[0][1] == 1.0
        assert {row[2] for row in rows} <= {"collaborative_filtering"}
        assert_sound(recommend(connection, "somebody", 1000, fallback="popular"), world)


@SETTINGS
@given(world=worlds, k=st.integers(1, 60))
def test_a_list_is_the_beginning_of_every_longer_one(connection: psycopg.Connection, world: World, k: int) -> None:
    with connection.transaction(force_rollback=True):
        enter(connection, world)
        assert recommend(connection, "somebody", k) == recommend(connection, "somebody", 1000)[:k]


@SETTINGS
@given(world=worlds, exclude=excludes, filter=filters, fallback=st.sampled_from(["none", "popular"]))
def test_exclude_and_filter_take_rows_away_and_change_none(
    connection: psycopg.Connection, world: World, exclude: list[str | None], filter: Any, fallback: str
) -> None:
    with connection.transaction(force_rollback=True):
        enter(connection, world)
        everything = recommend(connection, "somebody", 1000, fallback=fallback)
        rows = recommend(
            connection, "somebody", 1000, exclude=exclude, filter=filter and Jsonb(filter), fallback=fallback
        )
        matching = {f"i{n}" for n in range(30) if filter and n % 2 == filter["parity"]}
        assert rows == [row for row in everything if row[0] not in exclude and (filter is None or row[0] in matching)]


@SETTINGS
@given(world=worlds, k=st.integers(1, 12), fallback=st.sampled_from(["none", "popular"]))
def test_excluding_a_page_gives_the_next(connection: psycopg.Connection, world: World, k: int, fallback: str) -> None:
    with connection.transaction(force_rollback=True):
        enter(connection, world)
        both = recommend(connection, "somebody", 2 * k, fallback=fallback)
        first = recommend(connection, "somebody", k, fallback=fallback)
        second = recommend(connection, "somebody", k, exclude=[row[0] for row in first], fallback=fallback)
        assert first + second == both


@SETTINGS
@given(world=worlds, exclude=excludes, k=st.integers(1, 60))
def test_the_fallback_fills_up_to_what_is_eligible(
    connection: psycopg.Connection, world: World, exclude: list[str | None], k: int
) -> None:
    with connection.transaction(force_rollback=True):
        enter(connection, world)
        personal = recommend(connection, "somebody", k, exclude=exclude)
        filled = recommend(connection, "somebody", k, exclude=exclude, fallback="popular")
        eligible = {f"i{n}" for n in range(ITEMS)} | {f"untouched{n}" for n in (1, 2, 3)}
        eligible -= hidden(world) | world.unavailable | world.own | set(filter(None, exclude))
        assert len(filled) == min(k, len(eligible))
        assert filled[: len(personal)] == personal
        assert {row[2] for row in filled[len(personal) :]} <= {"popular"}


@SETTINGS
@given(world=worlds, order=st.randoms(use_true_random=False))
def test_the_order_in_which_events_arrive_does_not_matter(
    connection: psycopg.Connection, world: World, order: Any
) -> None:
    with connection.transaction(force_rollback=True):
        enter(connection, world, "somebody")
        first = recommend(connection, "somebody", 1000)
    with connection.transaction(force_rollback=True):
        order.shuffle(world.history)
        enter(connection, world, "somebody")
        second = recommend(connection, "somebody", 1000)
    scores = {row[0]: row[1] for row in first}
    assert {row[0]: row[1] for row in second} == pytest.approx(scores, abs=1e-6)


@SETTINGS
@given(history=histories)
def test_a_refresh_does_not_change_the_callers_own_list_by_itself(
    connection: psycopg.Connection, history: list[tuple[str, str, int]]
) -> None:
    """If no other user has changed, a refresh stores the same profile that was read live."""
    known = [event for event in history if int(event[0][1:]) < ITEMS]
    with connection.transaction(force_rollback=True):
        enter(connection, World(known, set(), set()))
        before = {row[0]: row[1] for row in recommend(connection, "somebody", 1000)}
        connection.execute("call recdb.refresh()")
        after = {row[0]: row[1] for row in recommend(connection, "somebody", 1000)}
        assert after == pytest.approx(before, abs=1e-6)
        live = connection.execute("select item_id, weight from recdb.profile_of('somebody') where weight <> 0")
        stored = connection.execute(
            "select item_id, weight from recdb.user_item_weights where user_id = 'somebody' and weight <> 0"
        )
        assert dict(stored.fetchall()) == pytest.approx(dict(live.fetchall()))


@SETTINGS
@given(
    weights=st.dictionaries(items, st.floats(0.01, 10), min_size=1, max_size=10),
    scale=st.floats(0.01, 100),
)
def test_only_the_proportions_of_a_guests_weights_count(
    connection: psycopg.Connection, weights: dict[str, float], scale: float
) -> None:
    def scores(by: float) -> dict[str, float]:
        rows = connection.execute(
            "select item_id, score from recdb.recommend_for_items(%s, 1000, weights => %s::real[])",
            [list(weights), [weight * by for weight in weights.values()]],
        )
        return dict(rows.fetchall())

    assert scores(scale) == pytest.approx(scores(1.0), abs=1e-4)


@SETTINGS
@given(excluded=st.lists(ids, max_size=6))
def test_every_list_of_ids_survives_its_spellings(connection: psycopg.Connection, excluded: list[str]) -> None:
    def parsed(text: str) -> Any:
        return connection.execute("select recdb.parse_exclude(%s)", [text]).fetchone()

    as_array = connection.execute("select %s::text[]::text", [excluded]).fetchone()
    assert parsed(as_array[0]) == (excluded,)
    assert parsed(json.dumps(excluded)) == (excluded,)
    assert parsed(json.dumps(excluded, ensure_ascii=False)) == (excluded,)


@settings(SETTINGS, max_examples=150)
@given(
    text=st.one_of(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
        st.text('{}<>[]",\\ab0: \n', max_size=12),
        st.text('{}[]",:1', max_size=8).map(lambda inside: f"[{inside}]"),
        st.text('{}<>",\\', max_size=8).map(lambda inside: f"{{{inside}}}"),
    )
)
def test_every_text_is_a_list_or_refused(connection: psycopg.Connection, text: str) -> None:
    try:
        rows = connection.execute("select * from recommend('u1', 1000, %s)", [text]).fetchall()
    except psycopg.errors.InvalidTextRepresentation as refused:
        assert "not a list of item ids" in str(refused)
    else:
        assert {row[0] for row in rows} <= {row[0] for row in recommend(connection, "u1", 1000)}


@SETTINGS
@given(user=ids, item=ids, kind=ids)
def test_every_text_is_an_id(connection: psycopg.Connection, user: str, item: str, kind: str) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("select recdb.track(%s, %s, %s)", [user, item, kind])
        connection.execute("select recdb.track(%s, 'i1', 'like')", [user])
        rows = recommend(connection, user, 1000)
        assert rows
        assert {"i1", item}.isdisjoint(row[0] for row in rows)
