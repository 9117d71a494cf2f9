"""popular(filter, segment): what is popular of a kind, and among users of a kind."""

from collections import Counter

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, tastes

from recdb.client import Recommender
from recdb.errors import InvalidInput

COUNTRIES = ("de", "fr", "us")
WEIGHTS = {"view": 0.1, "click": 0.3, "like": 0.7, "share": 1.0}


@pytest.fixture(scope="module", autouse=True)
def recorded(module_database: psycopg.Connection) -> None:
    """Users whose numbers leave the same remainder by 3 like the same items, and live in the same country."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=150))
        connection.cursor().executemany(
            "insert into recdb.user_attributes (user_id, attributes) values (%s, %s)",
            [(f"u{n}", Jsonb({"country": COUNTRIES[n % 3], "tags": ["a", "b"][: n % 2 + 1]})) for n in range(150)],
        )
        connection.cursor().executemany(
            "insert into recdb.item (item_id, attributes, published_at) values (%s, %s, now())",
            [(f"i{n}", Jsonb({"topic": n % 4})) for n in range(62)],
        )
        connection.execute("call recdb.refresh()")


def popular(connection: psycopg.Connection, k: int | None, filter: object = None, segment: object = None) -> list[str]:
    return column(connection.execute(
        "select item_id from recdb.popular(%s::bigint, %s::jsonb, %s::jsonb)",
        [k, None if filter is None else Jsonb(filter), None if segment is None else Jsonb(segment)]))  # fmt: skip


def test_scores_in_a_segment_are_those_of_the_formula(shared: psycopg.Connection) -> None:
    heaviest: dict[tuple[str, str], float] = {}
    for user, item, kind in shared.execute("select user_id, item_id, kind from recdb.interaction"):
        heaviest[user, item] = max(heaviest.get((user, item), 0), WEIGHTS[kind])
    totals: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for (user, item), weight in heaviest.items():
        totals[item] += weight
        if int(user[1:]) % 3 == 1:
            inside[item] += weight
    # No model has been trained: all users are those with a key.
    rates = {item: (inside[item] + 10 * total / 150) / 60 for item, total in totals.items()}
    top = max(rates.values())

    found = dict(shared.execute('select * from recdb.popular(60, segment => \'{"country": "fr"}\')').fetchall())

    assert {item: found[item] for item in rates} == pytest.approx(
        {item: rate / top for item, rate in rates.items()}, rel=1e-6
    )
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize("group", range(3))
def test_a_segment_gets_what_is_popular_in_it(shared: psycopg.Connection, group: int) -> None:
    found = popular(shared, 10, segment={"country": COUNTRIES[group]})

    assert all(int(item[1:]) % 3 == group for item in found)
    assert found != popular(shared, 10)


def test_a_segment_by_two_attributes_and_by_an_element_of_a_list(shared: psycopg.Connection) -> None:
    found = popular(shared, 5, segment={"country": "us", "tags": ["b"]})
    assert len(found) == 5 and all(int(item[1:]) % 3 == 2 for item in found)


def test_a_small_segment_leans_on_everybody(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.user_attributes values ('u1', '{\"country\": \"li\"}') on conflict (user_id) "
                   "do update set attributes = excluded.attributes")  # fmt: skip
    small = popular(shared, 20, segment={"country": "li"})
    own = set(column(shared.execute("select item_id from recdb.interaction where user_id = 'u1'")))
    assert len(small) == 20 and own & set(small) and set(small) - own


def test_a_segment_of_nobody_gets_what_is_popular(shared: psycopg.Connection) -> None:
    rows = shared.execute("select * from recdb.popular(60)").fetchall()
    for segment in ('{"country": "xx"}', '{"country": {"code": 1}}'):
        assert shared.execute("select * from recdb.popular(60, segment => %s)", [segment]).fetchall() == rows
    shared.execute("insert into recdb.user_attributes values ('stranger', '{\"country\": \"xx\"}')")
    found = shared.execute('select * from recdb.popular(60, segment => \'{"country": "xx"}\')').fetchall()
    assert found == rows


def test_a_list_is_full_and_nothing_comes_twice(shared: psycopg.Connection) -> None:
    for segment in (None, {"country": "de"}):
        found = popular(shared, 1000, segment=segment)
        assert len(found) == len(set(found)) == 62 and set(found[-2:]) == {"i60", "i61"}
        assert popular(shared, 5, segment=segment) == found[:5]


def test_a_filter_leaves_out_what_does_not_match_and_rescales_nothing(shared: psycopg.Connection) -> None:
    for segment in ("null", '\'{"country": "de"}\''):
        everything = shared.execute(f"select * from recdb.popular(1000, segment => {segment})").fetchall()
        found = shared.execute(f"select * from recdb.popular(7, '{{\"topic\": 1}}', {segment})").fetchall()
        assert found == [row for row in everything if int(row[0][1:]) % 4 == 1][:7]


def test_what_is_not_available_is_in_no_segment(shared: psycopg.Connection) -> None:
    first, second = popular(shared, 2, segment={"country": "de"})
    shared.execute("update recdb.item set available = false where item_id = %s", [first])
    assert popular(shared, 1, segment={"country": "de"}) == [second]
    assert shared.execute('select score from recdb.popular(1, segment => \'{"country": "de"}\')').fetchone() == (1,)


def test_somebody_without_a_history_gets_the_list_of_the_segment(shared: psycopg.Connection) -> None:
    assert recommend(shared, "newcomer") == []
    shared.execute("insert into recdb.user_attributes values ('newcomer', '{\"country\": \"fr\"}')")
    found = shared.execute(
        "select p.item_id from recdb.user_attributes a, recdb.popular(10, segment => a.attributes) p "
        "where a.user_id = 'newcomer'")  # fmt: skip
    assert all(int(item[1:]) % 3 == 1 for item in column(found))


def test_one_user_of_a_segment_counts_once(shared: psycopg.Connection) -> None:
    before = popular(shared, 5, segment={"country": "de"})
    record(shared, [["u0", "i59", "view"]] * 2000)
    shared.execute("call recdb.refresh()")
    assert popular(shared, 5, segment={"country": "de"}) == before


def test_a_user_who_is_forgotten_leaves_no_attributes(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.forget_user('u3')")
    assert shared.execute("select from recdb.user_attributes where user_id = 'u3'").fetchall() == []
    shared.execute("insert into recdb.user_attributes values ('known by name', '{}')")
    assert shared.execute("select recdb.forget_user('known by name')").fetchone() == (1,)


def test_a_member_keeps_their_attributes_and_gets_those_of_the_guest(shared: psycopg.Connection) -> None:
    shared.execute('insert into recdb.user_attributes values (\'guest\', \'{"country": "xx", "app": "web"}\')')
    shared.execute("select recdb.merge_users('guest', 'u3')")
    rows = shared.execute("select user_id, attributes from recdb.user_attributes where user_id in ('guest', 'u3')")
    assert rows.fetchall() == [("u3", {"country": "de", "tags": ["a", "b"], "app": "web"})]
    shared.execute("insert into recdb.user_attributes values ('another', '{\"app\": \"ios\"}')")
    shared.execute("select recdb.merge_users('another', 'brand new')")
    rows = shared.execute("select attributes from recdb.user_attributes where user_id = 'brand new'")
    assert rows.fetchall() == [({"app": "ios"},)]


@pytest.mark.parametrize("wrong", ["[]", '"de"', "1", "null"])
def test_a_segment_that_is_no_object_is_refused(shared: psycopg.Connection, wrong: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="segment"):
        shared.execute("select * from recdb.popular(5, segment => %s)", [wrong])
    with pytest.raises(InvalidInput, match="segment"):
        Recommender(shared).popular(5, segment=["de"])  # type: ignore[arg-type]
