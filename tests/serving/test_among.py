"""recommend(among => ...): only the caller's candidates. A filter that is a JSON path."""

import uuid
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, tastes, train

from recdb import InvalidInput, Recommender
from recdb.database import Database

PERSON, THING = uuid.UUID(int=7), uuid.UUID(int=3)


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Users u0.. and the numbers 0.. with items i0.. and 0..; new1 to new4 are listed, and nobody touched them."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        rows = tastes()
        record(connection, [*rows, *([user[1:], item[1:], kind] for user, item, kind in tastes(seed=1))])
        record(connection, [[str(PERSON), item, kind] for user, item, kind in rows if user == "u1"])
        record(connection, [[str(PERSON), str(THING), "view"], ["u2", str(THING), "like"], ["u3", str(THING), "like"]])
        connection.execute(
            "insert into recdb.item (item_id, attributes, published_at, available) "
            "select 'i' || n, jsonb_build_object('price', n, 'tags', jsonb_build_array('t' || n % 3, 'all'), "
            "'stock', n % 2 = 0), null, true from generate_series(0, 49) n "
            "union all select 'new' || n, '{}', '2024-01-01'::timestamptz + n * interval '1 day', n <> 4 "
            "from generate_series(1, 4) n"
        )
    train(module_database)


def ids(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


@pytest.fixture
def everything(shared: psycopg.Connection) -> list[Any]:
    """The whole list of u6, down to the popular items."""
    return recommend(shared, "u6", 1000, fallback="popular")


@pytest.mark.parametrize("many", [False, True], ids=["few candidates", "many candidates"])
@pytest.mark.parametrize("fallback", ["none", "popular"])
def test_only_the_candidates_come_with_the_scores_of_the_whole_list(
    shared: psycopg.Connection, everything: list[Any], fallback: str, many: bool
) -> None:
    among = [*ids(everything)[::3], *(["stranger"] * 3), None, ids(everything)[0]]
    among += [f"stranger {number}" for number in range(2000 * many)]
    expected = [row for row in everything if row[0] in among and (fallback == "popular" or row[2] != "popular")]
    assert recommend(shared, "u6", 1000, among=among, fallback=fallback) == expected
    assert recommend(shared, "u6", 5, among=among, fallback=fallback) == expected[:5]
    page = recommend(shared, "u6", 5, among=among, fallback=fallback, exclude=ids(expected[:5]))
    assert page == expected[5:10]


def test_every_eligible_candidate_comes(shared: psycopg.Connection) -> None:
    """What has no personal score follows by popularity, and what nobody touched follows last, newest first."""
    seen = column(shared.execute("select item_id from recdb.interaction where user_id = 'u6'"))
    shared.execute("update recdb.item set owner_id = 'u6' where item_id = 'i49'")
    shared.execute("update recdb.item set available = false where item_id = 'i48'")
    among = [f"i{number}" for number in range(60)] + ["new2", "new1", "new3", "new4"]
    rows = recommend(shared, "u6", 1000, among=among, fallback="popular")
    assert set(ids(rows)) == set(among) - {*seen, "i48", "i49", "new4"}
    assert ids(rows)[-3:] == ["new3", "new2", "new1"]
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    assert len(recommend(shared, "u6", 20, among=among, fallback="popular")) == 20
    twenty = ids(rows)[-20:]
    assert ids(recommend(shared, "u6", 20, among=twenty, fallback="popular")) == twenty


def test_somebody_without_a_history_gets_the_candidates_by_popularity(shared: psycopg.Connection) -> None:
    popular = recommend(shared, "nobody", 1000, fallback="popular")
    among = [*ids(popular)[5:40:5], "new1"]
    rows = recommend(shared, "nobody", 50, among=among, fallback="popular")
    assert rows == [row for row in popular if row[0] in among]
    assert recommend(shared, "nobody", 50, among=among) == []


def test_a_candidate_that_recdb_knows_and_nobody_counts_comes_too(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.item_key (item_id, first_at) values ('known', now()), ('shown', null)")
    assert ids(recommend(shared, "u6", among=["known", "shown", "unknown"], fallback="popular")) == ["known"]
    shared.execute("update recdb.config set listed_only = true")
    assert recommend(shared, "u6", among=["known", "unknown"], fallback="popular") == []


def test_no_candidates_are_no_rows_and_null_is_every_item(shared: psycopg.Connection) -> None:
    assert recommend(shared, "u6", among=[], fallback="popular") == []
    assert recommend(shared, "u6", among=[None], fallback="popular") == []
    assert recommend(shared, "u6", among=None) == recommend(shared, "u6")


def test_among_and_filter_hold_together(shared: psycopg.Connection, everything: list[Any]) -> None:
    among = [f"i{number}" for number in range(0, 50, 2)] + ["new1"]
    expected = [row for row in everything if row[0] in among and row[0] != "new1" and int(row[0][1:]) < 20]
    path = Jsonb("$.price < 20")
    assert recommend(shared, "u6", 1000, among=among, filter=path, fallback="popular") == expected


def test_the_other_lists_take_candidates(shared: psycopg.Connection, everything: list[Any]) -> None:
    among = ids(everything)[1:30:4]
    expected = [row for row in everything if row[0] in among]
    batch = shared.execute(
        "select * from recdb.recommend_batch(array['u6', 'u7'], 1000, 'popular', among => %s::text[])", [among]
    ).fetchall()
    assert [row[2:5] for row in batch if row[0] == "u6"] == [row[:3] for row in expected]
    assert {row[2] for row in batch if row[0] == "u7"} <= set(among)
    guest = shared.execute(
        "select * from recdb.recommend_for_items(array['i1', 'i4'], 1000, among => %s::text[])", [among]
    ).fetchall()
    whole = shared.execute("select * from recdb.recommend_for_items(array['i1', 'i4'], 1000)").fetchall()
    assert guest == [row for row in whole if row[0] in among] != []
    shared.execute("set recdb.user_id = 'u6'")
    for exclude in ("", "'<>', "):
        mine = shared.execute(
            f"select * from recdb.recommend_me(1000, {exclude}fallback => 'popular', among => %s::text[])", [among]
        )
        assert mine.fetchall() == expected


NUMBERS = [str(number) for number in range(10, 40)]


@pytest.mark.parametrize(
    "call",
    [
        "{schema}.recommend({user}, 50, among => array(select n from generate_series(10, 39) n))",
        "{schema}.recommend({user}, 50, among => array(select n::bigint from generate_series(10, 39) n))",
        "{schema}.recommend({user}, 50, among => array(select n::text from generate_series(10, 39) n))",
        "{schema}.recommend({user}, 50, '{{}}', among => array(select n::bigint from generate_series(10, 39) n))",
        "{schema}.recommend({user}, 50, '{{}}', among => array(select n::text from generate_series(10, 39) n))",
        "{schema}.recommend({user}, 50, array[60, 61], among => array(select n from generate_series(10, 39) n))",
        "{schema}.recommend({user}, 50, '[60]'::jsonb, among => array(select n::text from generate_series(10, 39) n))",
    ],
)
@pytest.mark.parametrize("user", ["7", "7::bigint", "7::smallint"])
@pytest.mark.parametrize("schema", ["public", "recdb"])
def test_candidates_may_be_numbers(shared: psycopg.Connection, schema: str, user: str, call: str) -> None:
    expected = recommend(shared, "7", 50, among=NUMBERS)
    assert expected
    assert shared.execute(f"select * from {call.format(schema=schema, user=user)}").fetchall() == expected


FROM_NUMBERS = [
    f"array(select n::{kind} from generate_series(10, 39) n)" for kind in ("smallint", "integer", "bigint", "text")
]


@pytest.mark.parametrize("among", FROM_NUMBERS)
@pytest.mark.parametrize(
    "call",
    [
        "recdb.recommend_for_items({items}, 50, among => {among})",
        "recdb.recommend_for_items({items}, 50, array[60], among => {among})",
        "recdb.recommend_for_items({items}, 50, '{{60}}', among => {among})",
        "recdb.recommend_for_items(items => {items}, among => {among}, k => 50, exclude => array['60'])",
    ],
)
@pytest.mark.parametrize(
    "items", ["array[3, 6]", "array[3, 6]::bigint[]", "array[3, 6]::smallint[]", "'{3,6}'", "'{3,6}'::text", "'<3,6>'"]
)
def test_a_guests_candidates_may_be_numbers(shared: psycopg.Connection, items: str, call: str, among: str) -> None:
    whole = shared.execute("select * from recdb.recommend_for_items(array['3', '6'], 1000)").fetchall()
    expected = [row for row in whole if row[0] in NUMBERS]
    assert expected
    call = call.format(items=items, among=among)
    assert shared.execute(f"select * from {call}").fetchall() == expected, call


@pytest.mark.parametrize("among", [*FROM_NUMBERS, "array(select n::numeric from generate_series(10, 39) n)"])
@pytest.mark.parametrize(
    "call",
    [
        "recdb.recommend_me(50, among => {among})",
        "recdb.recommend_me(among => {among})",
        "recdb.recommend_me(50, array[60], among => {among})",
        "recdb.recommend_me(50, exclude => '{{60}}', among => {among})",
        "recdb.recommend_me(50, '<60>', among => {among})",
        "recdb.recommend_me(50, '[60]'::jsonb, among => {among})",
        "recdb.recommend_me(50, array[gen_random_uuid()], among => {among})",
    ],
)
def test_the_callers_own_candidates_may_be_of_any_type(shared: psycopg.Connection, call: str, among: str) -> None:
    shared.execute("set local recdb.user_id = '7'")
    call = call.format(among=among)
    assert shared.execute(f"select * from {call}").fetchall() == recommend(shared, "7", 50, among=NUMBERS), call


def test_untyped_candidates(shared: psycopg.Connection) -> None:
    shared.execute("set local recdb.user_id = '7'")
    expected = recommend(shared, "7", 50, among=NUMBERS)
    for call in ("recdb.recommend_me(50, '{}', among => %s)", "recdb.recommend_me(50, '[]'::jsonb, among => %s)",
                 "recdb.recommend_me(50, among => %s::text[])"):  # fmt: skip
        assert shared.execute(f"select * from {call}", [NUMBERS]).fetchall() == expected  # type: ignore[call-overload]
    whole = shared.execute("select * from recdb.recommend_for_items('{3,6}', 1000)").fetchall()
    for call in (
        "recdb.recommend_for_items('{3,6}', 50, among => %s)",
        "recdb.recommend_for_items(%s, 50, among => %s)",
        "recdb.recommend_for_items(%s::bigint[], 50, among => %s)",
    ):
        parameters: list[Any] = [["3", "6"], NUMBERS][-call.count("%s") :]
        found = shared.execute(f"select * from {call}", parameters)  # type: ignore[call-overload]
        assert found.fetchall() == [row for row in whole if row[0] in NUMBERS]


@pytest.mark.parametrize(
    "call",
    [
        "recommend('{person}'::uuid, 50, among => array['{thing}']::uuid[])",
        "recdb.recommend('{person}'::uuid, 50, among => array['{thing}']::uuid[])",
        "recdb.recommend('{person}'::uuid, 50, among => '{{{thing}}}')",
        "recdb.recommend('{person}', 50, among => '{{{thing}}}')",
        "recommend('{person}', 50, among => '{{{thing}}}')",
        "recommend('{person}'::uuid, 50, '{{}}', among => array['{thing}']::uuid[])",
        "recommend('{person}'::uuid, 50, array['{person}']::uuid[], among => array['{thing}']::uuid[])",
        "recdb.recommend('{person}'::uuid, 50, array['{person}']::uuid[], among => array['{thing}']::uuid[])",
        "recdb.recommend_batch(array['{person}']::uuid[], 50, among => array['{thing}']::uuid[])",
        "recdb.recommend_batch('<{person}>', 50, among => array['{thing}']::uuid[])",
        "recdb.recommend_for_items(array['{person}']::uuid[], 50, among => array['{thing}'])",
        "recdb.recommend_for_items('<i1>', 50, among => array['{thing}'])",
        "recdb.recommend_for_items(array['{person}']::uuid[], 50, among => array['{thing}']::uuid[])",
        "recdb.recommend_for_items('{{{person}}}', 50, among => array['{thing}']::uuid[])",
        "recdb.recommend_me(50, among => array['{thing}']::uuid[])",
        "recdb.recommend_me(50, '<{person}>', among => array['{thing}']::uuid[])",
    ],
)
def test_candidates_may_be_uuids(shared: psycopg.Connection, call: str) -> None:
    """The only candidate is hidden, because the person has it, or comes: no call is an error."""
    rows = shared.execute(f"select * from {call.format(person=PERSON, thing=THING)}").fetchall()
    assert {row[0] for row in rows} <= {str(THING), str(PERSON)}


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("$.price < 20", lambda n: n < 20),
        ('$.price >= 10 && $.tags == "t1"', lambda n: n >= 10 and n % 3 == 1),
        ("  $.price == 4 || $.price == 5  ", lambda n: n in (4, 5)),
        ("$.stock", lambda n: n % 2 == 0),
        ("$.stock == true", lambda n: n % 2 == 0),
        ('$.tags[*] ? (@ == "t2")', lambda n: n % 3 == 2),
        ("strict $.price ? (@ > 40)", lambda n: n > 40),
        ('exists($.tags[*] ? (@ == "t2"))', lambda n: n % 3 == 2),
        ('$.tags[0] like_regex "^t[01]"', lambda n: n % 3 < 2),
        ("$.nothing == 1", lambda n: False),
        ("$.tags < 1", lambda n: False),
        ("$.price", lambda n: False),
    ],
)
def test_a_filter_may_be_a_json_path(
    shared: psycopg.Connection, everything: list[Any], path: str, matches: Any
) -> None:
    expected = [row for row in everything if row[0][0] == "i" and int(row[0][1:]) < 50 and matches(int(row[0][1:]))]
    assert recommend(shared, "u6", 1000, filter=Jsonb(path), fallback="popular") == expected
    assert recommend(shared, "u6", 3, filter=Jsonb(path), fallback="popular") == expected[:3]


@pytest.mark.parametrize("path", ["", "price < 20", "$.price <", "$.price < $limit", "{", '$.tags like_regex "("'])
def test_a_wrong_path_is_one_clear_error(shared: psycopg.Connection, path: str) -> None:
    calls = {
        "select * from recommend('u6', filter => %s)",
        "select * from recommend('nobody', filter => %s)",
        "select * from recdb.recommend_for_items(array['i1'], filter => %s)",
        "select * from recdb.recommend_batch(array['u6'], filter => %s)",
    }
    for call in calls:
        refused = pytest.raises(psycopg.errors.InvalidParameterValue, match="filter is not a JSON path")
        with refused as raised, shared.transaction():
            shared.execute(call, [Jsonb(path)])
        assert "$.price < 20" in (raised.value.diag.message_hint or "")


def test_the_clients_take_candidates_and_paths(module_database: Database, everything: list[Any]) -> None:
    among = [*ids(everything)[:9:2], 7]
    expected = [row[0] for row in everything if row[0] in map(str, among) and row[0][0] == "i"]
    with Recommender(module_database.conninfo) as client:
        rows = client.recommend("u6", among=among, fallback="popular", filter="$.price >= 0")
        assert [row.item_id for row in rows] == [item for item in expected if int(item[1:]) < 50]
        assert client.recommend("u6", among=[]) == []
        assert [row.item_id for row in client.recommend_batch(["u6"], among=among, filter="$.price >= 0")]
        assert client.recommend_for_items(["i1"], among=["i4"])[0].item_id == "i4"
        with pytest.raises(InvalidInput, match="not a JSON path"):
            client.recommend("u6", filter="price < 1")
        with pytest.raises(InvalidInput, match="among is of type str"):
            client.recommend("u6", among="i1")
