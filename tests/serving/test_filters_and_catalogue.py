"""The optional catalogue: filters, availability and owners. Neither filter nor exclude changes a score."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train

from recdb.database import Database
from recdb.everyone import recommend_all

RARE = "i41"


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Sixty items, of which i0 to i49 are listed."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        for number in range(50):
            attributes = {
                "parity": number % 2,
                "tags": ["all", f"by ten: {number // 10}"],
                "seller": {"country": "fi" if number < 20 else "se", "rating": None},
            }
            connection.execute(
                "insert into recdb.item (item_id, attributes) values (%s, %s)", [f"i{number}", Jsonb(attributes)]
            )
        connection.execute("update recdb.item set attributes = '{\"rare\": true}' where item_id = %s", [RARE])
    train(module_database)


@pytest.fixture
def everything(shared: psycopg.Connection) -> list[Any]:
    """The whole list of u6."""
    return recommend(shared, "u6", 1000)


def ids(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


def number(row: Any) -> int:
    return int(row[0][1:])


@pytest.mark.parametrize(
    ("filter", "matches"),
    [
        ({"parity": 1}, lambda n: n % 2 == 1),
        ({"tags": ["by ten: 3"]}, lambda n: n // 10 == 3),
        ({"tags": ["by ten: 3", "all"]}, lambda n: n // 10 == 3),
        ({"seller": {"country": "fi"}}, lambda n: n < 20),
        ({"parity": 0, "seller": {"country": "se"}}, lambda n: n % 2 == 0 and n >= 20),
        ({"seller": {"rating": None}}, lambda n: True),
        ({"parity": 2}, lambda n: False),
        ({"parity": "1"}, lambda n: False),
        ([], lambda n: False),
    ],
    ids=lambda value: "" if callable(value) else json.dumps(value),
)
def test_only_items_whose_attributes_contain_the_filter(
    shared: psycopg.Connection, everything: list[Any], filter: Any, matches: Any
) -> None:
    expected = [row for row in everything if number(row) < 50 and row[0] != RARE and matches(number(row))]
    assert recommend(shared, "u6", 1000, filter=Jsonb(filter)) == expected
    assert recommend(shared, "u6", 3, filter=Jsonb(filter)) == expected[:3]


def test_the_empty_filter_is_met_by_every_listed_item(shared: psycopg.Connection, everything: list[Any]) -> None:
    expected = [row for row in everything if number(row) < 50]
    assert len(expected) < len(everything)
    assert recommend(shared, "u6", 1000, filter="{}") == expected


def test_a_rare_match_is_found_however_far_down_it_is(shared: psycopg.Connection) -> None:
    users = [f"u{n}" for n in range(40)]
    found = 0
    for user in users:
        row = next((row for row in recommend(shared, user, 1000) if row[0] == RARE), None)
        assert recommend(shared, user, 1, filter='{"rare": true}') == ([row] if row else [])
        found += row is not None
    assert found > 20


def test_exclude_and_filter_change_no_score(shared: psycopg.Connection, everything: list[Any]) -> None:
    scores = {row[0]: row[1] for row in everything}
    excluded = ids(everything)[:4]
    for rows in (
        recommend(shared, "u6", 10, exclude=excluded),
        recommend(shared, "u6", 10, filter='{"parity": 1}'),
        recommend(shared, "u6", 10, exclude=excluded, filter='{"parity": 0}'),
    ):
        assert len(rows) == 10
        assert all(scores[row[0]] == row[1] for row in rows)
        assert rows[0][1] < 1 or rows[0] == everything[0]


def test_page_after_page_gives_the_whole_list_once(shared: psycopg.Connection, everything: list[Any]) -> None:
    shown: list[Any] = []
    while page := recommend(shared, "u6", 7, exclude=ids(shown)):
        shown += page
    assert shown == everything


def test_excluding_what_is_not_there_changes_nothing(shared: psycopg.Connection, everything: list[Any]) -> None:
    strangers = [f"stranger {n}" for n in range(5000)]
    assert recommend(shared, "u6", 1000, exclude=strangers) == everything
    assert recommend(shared, "u6", 1000, exclude=[*strangers, *strangers, everything[0][0]]) == everything[1:]


def test_an_unavailable_item_goes_at_once_and_the_next_is_the_top(
    shared: psycopg.Connection, everything: list[Any]
) -> None:
    """Unlike exclude and filter, availability holds for everybody: the best available item scores 1."""
    assert everything[0][1] == 1.0
    shared.execute(
        "insert into recdb.item (item_id, available) values (%s, false) "
        "on conflict (item_id) do update set available = false",
        [everything[0][0]],
    )
    rows = recommend(shared, "u6", 1000)
    assert ids(rows) == ids(everything)[1:]
    assert rows[0][1] == 1.0
    scores = [row[1] / everything[1][1] for row in everything[1:]]
    assert [row[1] for row in rows] == pytest.approx(scores, abs=1e-8)


def test_a_users_own_items_are_recommended_to_others_only(shared: psycopg.Connection, everything: list[Any]) -> None:
    own = everything[0][0]
    shared.execute(
        "insert into recdb.item (item_id, owner_id) values (%s, 'u6') "
        "on conflict (item_id) do update set owner_id = 'u6'",
        [own],
    )
    assert ids(recommend(shared, "u6", 1000)) == ids(everything)[1:]
    other = shared.execute(
        "select u.user_id from recdb.user_key u, lateral recommend(u.user_id, 1000) r "
        "where r.item_id = %s and u.user_id <> 'u6' limit 1",
        [own],
    ).fetchone()
    assert other is not None


def test_items_that_are_not_listed_can_be_left_out(shared: psycopg.Connection, everything: list[Any]) -> None:
    assert any(number(row) >= 50 for row in everything)
    shared.execute("update recdb.config set listed_only = true")
    for fallback in ("none", "popular"):
        rows = recommend(shared, "u6", 1000, fallback=fallback)
        assert rows
        assert all(number(row) < 50 for row in rows)


def test_a_deleted_item_of_the_catalogue_is_an_unlisted_one(shared: psycopg.Connection, everything: list[Any]) -> None:
    shared.execute("delete from recdb.item")
    assert recommend(shared, "u6", 1000) == everything


def test_what_others_made_unavailable_still_teaches(shared: psycopg.Connection) -> None:
    """An unavailable item is not shown, but the model still learns from its interactions."""
    shared.execute("select recdb.track('newcomer', 'i1', 'like')")
    before = recommend(shared, "newcomer")
    shared.execute("update recdb.item set available = false where item_id = 'i1'")
    assert recommend(shared, "newcomer") == before


def test_an_item_is_not_given_before_it_is_published(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    """In no list, for nobody, until its time has come; then without a refresh."""
    record(db, tastes())
    train(database)
    best, second = ids(recommend(db, "u6"))[:2]
    top = db.execute("select item_id from recdb.popular(1)").fetchone()
    db.execute(
        "insert into recdb.item (item_id, published_at) values ('new', '2020-01-01'), ('ancient', '0044-03-15 BC')"
    )
    db.execute(
        "insert into recdb.item (item_id, published_at) values (%s, now() + interval '1 day'), (%s, 'infinity'), "
        "('announced', now() + interval '1 hour'), (%s, now() + interval '1 day') on conflict do nothing",
        [best, second, top[0] if top else None],
    )
    hidden = {best, second, "announced", top[0] if top else None}

    def given() -> set[str]:
        everybodys = tmp_path / "lists.csv"
        recommend_all(database, str(everybodys), k=1000)
        lists = [
            ids(recommend(db, "u6", 1000, fallback="popular")),
            [row[0] for row in db.execute("select item_id from recdb.recommend_batch(array['u6', 'u7'], 1000)")],
            [row[0] for row in db.execute("select item_id from recdb.recommend_for_items(array['i1'], 1000)")],
            [row[0] for row in db.execute("select item_id from recdb.popular(1000)")],
            [line.split(",")[2] for line in everybodys.read_text().splitlines()],
            [best] * bool(db.execute("select from recdb.explain('u6', %s)", [best]).fetchall()),
        ]
        return {item for each in lists for item in each}

    found = given()
    assert not hidden & found and {"new", "ancient"} <= found
    db.execute("update recdb.item set published_at = now() - interval '1 second' where published_at > now()")
    assert hidden <= given()
