"""recommend(segment => ...): what is popular in the caller's segment fills a list up, before what is popular at all."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, tastes, train

from recdb.database import Database

COUNTRIES = ("de", "fr", "us")
GERMANY, FRANCE = Jsonb({"country": "de"}), Jsonb({"country": "fr"})


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Users whose numbers leave the same remainder by 3 like the same items, and live in the same country.

    The last ten items have no interactions. Few neighbours leave places for the fallback in every list.
    """
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=90))
        connection.cursor().executemany(
            "insert into recdb.user_attributes (user_id, attributes) values (%s, %s)",
            [(f"u{n}", Jsonb({"country": COUNTRIES[n % 3], "language": "en"})) for n in range(90)],
        )
        connection.cursor().executemany(
            "insert into recdb.item (item_id, attributes, owner_id, published_at) values (%s, %s, %s, now())",
            [(f"i{n}", Jsonb({"topic": n % 4}), f"owner {n % 20}") for n in range(70)],
        )
        connection.execute("insert into recdb.scenario (name, fallback) values ('filled', 'popular')")
        connection.execute("insert into recdb.scenario (name, max_per_owner) values ('varied', 1)")
    train(module_database, neighbors=3, item_neighbors=5)


def ids(rows: list[Any], reason: str | None = None) -> list[str]:
    return [row[0] for row in rows if reason in (None, row[2])]


def popular(connection: psycopg.Connection, segment: object, filter: object = None) -> list[Any]:
    return connection.execute("select * from recdb.popular(1000, %s::jsonb, %s::jsonb)", [filter, segment]).fetchall()


@pytest.mark.parametrize("group", range(3))
def test_somebody_without_a_history_gets_what_is_popular_in_the_segment(shared: psycopg.Connection, group: int) -> None:
    segment = Jsonb({"country": COUNTRIES[group], "language": "en"})
    rows = recommend(shared, "newcomer", 1000, fallback="popular", segment=segment)
    assert [row[:2] for row in rows] == popular(shared, segment)
    assert {row[2] for row in rows} == {"popular"} and rows[0][1] == 1.0
    assert all(int(item[1:]) % 3 == group for item in ids(rows)[:10])
    assert ids(rows)[:10] != ids(recommend(shared, "newcomer", 10, fallback="popular"))
    for item in ids(rows)[:3]:
        assert shared.execute("select * from recdb.explain('newcomer', %s)", [item]).fetchall() == []


def test_personal_rows_stay_and_the_segment_fills_the_places_below_them(shared: psycopg.Connection) -> None:
    seen = set(column(shared.execute("select item_id from recdb.interaction where user_id = 'u0'")))
    personal = recommend(shared, "u0", 1000)
    rows = recommend(shared, "u0", 1000, fallback="popular", segment=FRANCE)
    assert 0 < len(personal) < 50
    assert rows[: len(personal)] == personal
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0])) and len(set(ids(rows))) == len(rows)
    expected = [item for item, _ in popular(shared, FRANCE) if item not in seen and item not in ids(personal)]
    assert ids(rows, "popular") == expected
    assert expected != ids(recommend(shared, "u0", 1000, fallback="popular"), "popular")
    assert len(expected) + len(personal) + len(seen) == 70


def test_without_the_fallback_a_segment_changes_nothing(shared: psycopg.Connection) -> None:
    assert recommend(shared, "newcomer", segment=FRANCE) == []
    assert recommend(shared, "u0", segment=FRANCE) == recommend(shared, "u0")


def test_no_segment_and_a_segment_of_nobody_give_the_list_of_all(shared: psycopg.Connection) -> None:
    nobodys: list[Any] = [None, Jsonb({}), Jsonb({"country": "xx"}), Jsonb({"country": {"code": "de"}})]
    for user in ("newcomer", "u0"):
        for named in ({}, {"scenario": "varied"}, {"among": ["i1", "i2", "i30", "i69"]}):
            expected = recommend(shared, user, 1000, fallback="popular", **named)
            assert expected
            for segment in nobodys:
                assert recommend(shared, user, 1000, fallback="popular", segment=segment, **named) == expected


def test_pages_fit_together_and_a_filter_rescales_nothing(shared: psycopg.Connection) -> None:
    for user in ("newcomer", "u0"):
        rows = recommend(shared, user, 1000, fallback="popular", segment=FRANCE)
        for start in range(0, 70, 7):
            page = recommend(shared, user, 7, exclude=ids(rows[:start]), fallback="popular", segment=FRANCE)
            assert page == rows[start : start + 7]
        topic = recommend(shared, user, 1000, filter=Jsonb({"topic": 1}), fallback="popular", segment=FRANCE)
        assert topic == [row for row in rows if int(row[0][1:]) % 4 == 1]


def test_candidates_come_with_the_scores_of_the_whole_list(shared: psycopg.Connection) -> None:
    for user in ("newcomer", "u0"):
        rows = recommend(shared, user, 1000, fallback="popular", segment=FRANCE)
        among = [*ids(rows)[::3], "stranger", None]
        for more in ([], [f"stranger {number}" for number in range(2000)]):
            found = recommend(shared, user, 1000, among=among + more, fallback="popular", segment=FRANCE)
            assert found == [row for row in rows if row[0] in among]


def test_what_a_person_may_not_get_is_not_in_it(shared: psycopg.Connection) -> None:
    rows = recommend(shared, "newcomer", 3, fallback="popular", segment=FRANCE)
    shared.execute("update recdb.item set owner_id = 'newcomer' where item_id = %s", [rows[0][0]])
    shared.execute("update recdb.item set available = false where item_id = %s", [rows[1][0]])
    found = recommend(shared, "newcomer", 1000, fallback="popular", segment=FRANCE)
    assert ids(found)[0] == rows[2][0] and found[0][1] == 1.0
    assert not {rows[0][0], rows[1][0]} & set(ids(found))


def test_items_below_the_segment_follow_by_popularity(shared: psycopg.Connection) -> None:
    """Of many items, the thousand most popular ones and those that the segment touched come first."""
    shared.execute("insert into recdb.item_key (item_id) select 'n' || n from generate_series(1, 1200) n")
    shared.execute(
        "insert into recdb.item_popularity (item_key, item_id, total, users) "
        "select item_key, item_id, 1e6 + item_key, 1 from recdb.item_key where item_id like 'n%'"
    )
    popularity = column(shared.execute("select item_id from recdb.item_popularity order by weight desc, item_id"))
    touched = column(shared.execute(
        "select i.item_id from recdb.interaction i join recdb.user_attributes a using (user_id) "
        "where a.attributes ->> 'country' = 'fr'"))  # fmt: skip
    below = [item for item in popularity[1000:] if item not in touched]
    assert len(below) >= 200

    rows = recommend(shared, "newcomer", 1000, fallback="popular", segment=FRANCE)
    rows += recommend(shared, "newcomer", 1000, fallback="popular", segment=FRANCE, exclude=ids(rows))

    assert rows == sorted(rows, key=lambda row: (-row[1], row[0])) and len(set(ids(rows))) == len(rows) == 1270
    assert ids(rows)[-10 - len(below) : -10] == below and rows[-1][1] > 0
    assert {row[0] for row in rows[-10:]} == {f"i{number}" for number in range(60, 70)}
    among = ids(rows)[::50]
    assert recommend(shared, "newcomer", 50, fallback="popular", segment=FRANCE, among=among) == rows[::50]


def test_a_scenario_fills_its_lists_with_the_segment(shared: psycopg.Connection) -> None:
    expected = recommend(shared, "newcomer", 20, fallback="popular", segment=FRANCE)
    assert recommend(shared, "newcomer", 20, scenario="filled", segment=FRANCE) == expected
    varied = recommend(shared, "newcomer", 20, fallback="popular", scenario="varied", segment=FRANCE)
    everything = recommend(shared, "newcomer", 1000, fallback="popular", segment=FRANCE)
    best: dict[int, Any] = {}
    for row in everything:
        best.setdefault(int(row[0][1:]) % 20, row)
    assert varied == list(best.values())
    assert recommend(shared, "newcomer", 20, scenario="varied", segment=FRANCE) == []


def test_the_other_lists_take_a_segment(shared: psycopg.Connection) -> None:
    batch = shared.execute(
        "select * from recdb.recommend_batch(array['newcomer', 'u0'], 20, 'popular', segment => %s)", [FRANCE]
    ).fetchall()
    for user in ("newcomer", "u0"):
        expected = recommend(shared, user, 20, fallback="popular", segment=FRANCE)
        assert [row[2:5] for row in batch if row[0] == user] == [row[:3] for row in expected]
    guest = shared.execute(
        "select * from recdb.recommend_for_items('{}', 20, fallback => 'popular', segment => %s)", [FRANCE]
    ).fetchall()
    assert guest == recommend(shared, "newcomer", 20, fallback="popular", segment=FRANCE)
    looked = shared.execute(
        "select * from recdb.recommend_for_items(array['i0', 'i3'], 1000, fallback => 'popular', segment => %s)",
        [FRANCE],
    ).fetchall()
    expected_ids = [item for item, _ in popular(shared, FRANCE) if item not in {*ids(looked)[:1], "i0", "i3"}]
    filler = ids(looked, "popular")
    assert filler == [item for item in expected_ids if item in filler] and len(looked) == 68
    shared.execute("set local recdb.user_id = 'newcomer'")
    for exclude in ("", "'<>', ", "'[]'::jsonb, "):
        mine = shared.execute(
            f"select * from recdb.recommend_me(20, {exclude}fallback => 'popular', segment => %s)", [FRANCE]
        )
        assert mine.fetchall() == guest


CALLS = [
    "recommend({user}, 5, fallback => 'popular', segment => {segment})",
    "recommend({user}, 5, '{{}}', 'popular', null, null, null, null, {segment})",
    "recommend({user}, 5, '<>', fallback => 'popular', segment => {segment})",
    "recommend({user}, 5, array[]::text[], 'popular', segment => {segment})",
    "recommend({user}, 5, array[-1], fallback => 'popular', segment => {segment})",
    "recommend({user}, 5, '[]'::jsonb, fallback => 'popular', segment => {segment})",
    "recommend({user}, 5, array[gen_random_uuid()], 'popular', segment => {segment})",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "user", ["'77'", "'77'::text", "77", "77::smallint", "77::bigint", "77.0", "null", "gen_random_uuid()"]
)
@pytest.mark.parametrize("schema", ["public", "recdb"])
def test_every_spelling_of_the_call_takes_a_segment(
    shared: psycopg.Connection, schema: str, user: str, call: str
) -> None:
    expected = recommend(shared, "newcomer", 5, fallback="popular", segment=FRANCE)
    for segment in ('\'{"country": "fr"}\'', '\'{"country": "fr"}\'::jsonb', "jsonb_build_object('country', 'fr')"):
        typed = f"{schema}.{call.format(user=user, segment=segment)}"
        assert shared.execute(f"select * from {typed}").fetchall() == expected, typed
    untyped = f"{schema}.{call.format(user=user, segment='%s')}"
    assert shared.execute(f"select * from {untyped}", ['{"country": "fr"}']).fetchall() == expected
    assert shared.execute(f"select * from {untyped}", [None]).fetchall() == recommend(
        shared, "newcomer", 5, fallback="popular"
    )


@pytest.mark.parametrize("wrong", ["[]", '"de"', "1", "null", "true"])
def test_a_segment_that_is_no_object_is_refused(shared: psycopg.Connection, wrong: str) -> None:
    calls = (
        "recommend('u0', segment => %s)",
        "recommend('newcomer', 5, '<>', segment => %s)",
        "recdb.recommend_for_items('{i1}', segment => %s)",
        "recdb.recommend_batch(array['u0'], segment => %s)",
        "recdb.recommend_me(5, segment => %s)",
    )
    for call in calls:
        refused = pytest.raises(psycopg.errors.InvalidParameterValue, match=r"segment is .* must be an object")
        with refused as raised, shared.transaction():
            shared.execute(f"select * from {call}", [wrong])  # type: ignore[call-overload]
        assert '{"country": "de"' in (raised.value.diag.message_hint or "")
