"""Ids of any type: every function that takes ids takes integers, uuids and numbers too, by position and in mixed calls.

test_ids_by_name.py has the calls by argument name.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain, combinations, product
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
import pytest
import sqlalchemy
from support.data import recommend, record, tastes, train

from recdb.database import Database

USER = 7


def uuid_of(number: str) -> UUID:
    return uuid5(NAMESPACE_OID, number)


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Users and items with integers as ids; and the same users and items with uuids."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        rows = [[user[1:], item[1:], kind] for user, item, kind in tastes(users=40, items=90)]
        record(connection, rows)
        record(connection, [[str(uuid_of(f"u{user}")), str(uuid_of(f"i{item}")), kind] for user, item, kind in rows])
        connection.execute("create table account (id bigint, key uuid, mood text)")
        for user in range(40):
            connection.execute("insert into account values (%s, %s)", [user, uuid_of(f"u{user}")])
        connection.execute("create type plan as enum ('7'); create domain account_id as bigint")
    train(module_database)


@pytest.fixture
def everything(shared: psycopg.Connection) -> list[Any]:
    """The whole list of user 7, by the text form."""
    rows = recommend(shared, str(USER), 1000)
    assert len(rows) > 50
    return rows


def rows_of(connection: psycopg.Connection, call: str, parameters: Any = None) -> list[Any]:
    return connection.execute(f"select * from {call}", parameters).fetchall()


# The matrix of recommend() ----------------------------------------------------------------------------------------

USERS = [
    "'7'", "'7'::text", "'7'::varchar", "'7'::char(1)", "'7'::name", "7", "7::smallint", "7::bigint", "7.0",
    "7::float8", "7::real", "7.00::numeric", "'7'::oid", "'7'::plan", "7::account_id", "'\"7\"'::jsonb", "'7'::jsonb",
    "'7'::json", "(select 7)",
]  # fmt: skip
NOTHING = [
    "'{}'", "'[]'", "'<>'", "''", "null", "null::text", "null::text[]", "null::bigint[]", "null::uuid[]",
    "'{}'::text[]", "array[]::integer[]", "array[]::uuid[]", "'{NULL}'", "array[null]::bigint[]",
]  # fmt: skip
LISTS = [
    "'{{{0},{1}}}'", "'[{0}, \"{1}\"]'", "'<{0},{1}>'", "'{{{0},{1}}}'::text", "'[{0},{1}]'::varchar",
    "array['{0}','{1}']", "array['{0}','{1}']::varchar[]", "array['{0}','{1}']::name[]", "array[{0},{1}]",
    "array[{0},null,{1}]::smallint[]", "array[{0},{1}]::bigint[]", "array[{0}.0,{1}.00]",
    "array[array[{0}],array[{1}]]", "(select array_agg(i) from unnest(array[{0},{1}]) i)",
]  # fmt: skip


@pytest.mark.parametrize("schema", ["public", "recdb"])
@pytest.mark.parametrize("user", USERS)
def test_every_type_of_user_id_goes_with_every_type_of_excluded_ids(
    shared: psycopg.Connection, everything: list[Any], user: str, schema: str
) -> None:
    first, second = everything[0][0], everything[1][0]
    call = f"{schema}.recommend({user}"
    for arguments in (")", ", 1000)", ", k => 1000)", ", 1000, fallback => 'none')", ", exclude => '{}', k => 1000)"):
        k = 50 if arguments == ")" else 1000
        assert rows_of(shared, call + arguments) == everything[:k], arguments
    for nothing in NOTHING:
        for rest in ("", ", 'none'", ", fallback => 'none', filter => null", ", 'none', null, null"):
            assert rows_of(shared, f"{call}, 1000, {nothing}{rest})") == everything, nothing
    for spelling in LISTS:
        excluded = spelling.format(first, second)
        for rest in ("", ", 'none'", ", model => null"):
            assert rows_of(shared, f"{call}, 1000, {excluded}{rest})") == everything[2:], excluded
    by_name = f"{call}, exclude => '{{{first}}}')", f"{call}, k => 50, exclude => array['{first}'])"
    for named in (*by_name, f"{call}, 50, exclude_list => '<{first}>')"):
        assert rows_of(shared, named) == everything[1:51], named


@pytest.mark.parametrize("user", ["%s", "'%s'::uuid", "'%s'::text", "'%s'"])
def test_uuids(shared: psycopg.Connection, user: str) -> None:
    key = uuid_of("u7")
    expected = recommend(shared, str(key), 1000)
    first = expected[0][0]
    call = f"recommend({user}" % key if user != "%s" else f"recommend('{key}'"
    assert rows_of(shared, f"{call}, 1000)") == expected
    for excluded in (f"array['{first}'::uuid]", f"'{{{first}}}'::uuid[]", f"'{{{first}}}'", f"array['{first}']"):
        assert rows_of(shared, f"{call}, 1000, {excluded})") == expected[1:], excluded


def test_nobody_and_ids_that_are_no_ids(shared: psycopg.Connection) -> None:
    for nobody in ("null::integer", "null::uuid", "'null'::jsonb", "-1", "9223372036854775807", "'NaN'::float8"):
        assert rows_of(shared, f"recommend({nobody}, 5)") == []
        assert len(rows_of(shared, f"recommend({nobody}, 5, fallback => 'popular')")) == 5
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"a row of public\.account is no id") as raised:
        rows_of(shared, "account a, recommend(a, 5)")
    assert raised.value.diag.message_hint == "Pass the column that has the id."


def test_large_numbers_keep_every_digit(shared: psycopg.Connection) -> None:
    for number in ("9007199254740993", "123456789012345678901234567890", "-5", "1000000000000000000000.000"):
        shared.execute(f"select recdb.track({number}, {number}, 'odd')")
    stored = shared.execute(
        "select user_id, item_id from recdb.interaction where kind = 'odd' order by interaction_id"
    ).fetchall()
    assert [user for user, _ in stored] == [
        "9007199254740993", "123456789012345678901234567890", "-5", "1000000000000000000000"
    ]  # fmt: skip
    shared.execute("select recdb.track(1e15::float8, 42.0::float8, 'like')")
    newest = shared.execute("select user_id, item_id from recdb.interaction order by interaction_id desc limit 1")
    assert newest.fetchone() == ("1000000000000000", "42")
    for number in ("'42.0'::jsonb", "'42.0'::json", "'4.2e1'::jsonb", "42.0"):
        assert shared.execute(f"select recdb.id_text({number}::text, pg_typeof({number}))").fetchone() == ("42",)
    assert shared.execute("select recdb.parse_exclude('[42.0, \"42.0\", null]')").fetchone() == (["42", "42.0", None],)


def test_a_column_of_any_type_in_a_lateral_join(shared: psycopg.Connection, everything: list[Any]) -> None:
    found = rows_of(shared, "account a, lateral recommend(a.id, 4) r")
    assert [row[3:] for row in found if row[0] == USER] == everything[:4]
    assert len(found) == 40 * 4
    joined = shared.execute(
        "select a.id from account a, recommend(a.key, 4, array(select key from account)) r, "
        "lateral (select r.item_id::uuid) i"
    ).fetchall()
    assert len(joined) == 40 * 4


@pytest.mark.parametrize("call", ["recommend(7, 5)", "recommend(7::bigint, 5, '{1}')", "recommend(7, 5, array[1])",
                                  "recommend('7', 5, array[1])", "recommend(7.0, 5, '{1}', model => 'm')"])  # fmt: skip
@pytest.mark.parametrize("schema", ["public", "recdb"])
def test_such_a_form_is_inlined(shared: psycopg.Connection, call: str, schema: str) -> None:
    plan = "\n".join(row[0] for row in rows_of_plan(shared, f"{schema}.{call}"))
    assert "Function Scan on recdb.list_for_user r" in plan
    assert "anynonarray" not in plan and plan.count("Function Scan") == 1


def rows_of_plan(connection: psycopg.Connection, call: str) -> list[Any]:
    return connection.execute(f"explain (verbose) select * from {call}").fetchall()


# The drivers' parameters ------------------------------------------------------------------------------------------

PARAMETERS = [7, "7", Decimal("7"), Decimal("7.0"), 7.0, 2**40, 2**70]


@pytest.mark.parametrize("cursor_class", [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor])
def test_parameters_of_psycopg(module_database: Database, everything: list[Any], cursor_class: Any) -> None:
    first, second = everything[0][0], everything[1][0]
    places = ("$1", "$2", "$3") if cursor_class is psycopg.RawCursor else ("%s", "%s", "%s")
    lists: list[Any] = [[int(first), int(second)], [first, second], json.dumps([int(first), second]),
                        [Decimal(first), Decimal(second)]]  # fmt: skip
    with psycopg.connect(module_database.conninfo, cursor_factory=cursor_class) as connection:
        for user in PARAMETERS:
            known = user not in (2**40, 2**70)
            call = "recommend({}, {}, {})".format(*places)
            for excluded in lists:
                rows = rows_of(connection, call, [user, 1000, excluded])
                assert rows == (everything[2:] if known else []), (user, excluded)
            for nothing in ([], None, "{}", [None]):
                assert rows_of(connection, call, [user, 1000, nothing]) == (everything if known else [])
            assert rows_of(connection, "recommend({}, {})".format(*places[:2]), [user, 50]) == (
                everything[:50] if known else [])  # fmt: skip
        key = uuid_of("u7")
        expected = rows_of(connection, f"recommend('{key}', 1000)")
        ids = [UUID(row[0]) for row in expected[:2]]
        for user in (key, str(key)):
            assert rows_of(connection, "recommend({}, {}, {})".format(*places), [user, 1000, ids]) == expected[2:]


def test_parameters_in_binary(module_database: Database, everything: list[Any]) -> None:
    with psycopg.connect(module_database.conninfo) as connection:
        ids = [int(row[0]) for row in everything[:2]]
        for user in (7, 7.0):
            rows = connection.execute("select * from recommend(%b, %b, %b)", [user, 1000, ids], binary=True).fetchall()
            assert rows == everything[2:]


def test_parameters_of_sqlalchemy(module_database: Database, everything: list[Any]) -> None:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(module_database.conninfo)
    )
    first = int(everything[0][0])
    integers = sqlalchemy.ARRAY(sqlalchemy.BigInteger)
    with engine.connect() as connection:
        for statement, parameters in (
            ("select * from recommend(:user, 1000, :ids)", {"user": 7, "ids": [first]}),
            ("select * from recommend(:user, 1000, :ids)", {"user": "7", "ids": [str(first)]}),
        ):
            rows = connection.execute(sqlalchemy.text(statement), parameters).fetchall()
            assert [tuple(row) for row in rows] == everything[1:]
        columns = sqlalchemy.func.recommend(7, 1000, sqlalchemy.cast([first], integers)).table_valued(
            "item_id", "score"
        )
        found = connection.execute(sqlalchemy.select(columns.c.item_id)).scalars().all()
        assert found == [row[0] for row in everything[1:]]
    engine.dispose()


# All other functions ----------------------------------------------------------------------------------------------

LISTERS = {
    "neighbors": ["recdb.neighbors({user})", "recdb.neighbors({user}, 3)", "recdb.neighbors({user}, k => 3)"],
    "profile_of": ["recdb.profile_of({user})"], "audience": ["recdb.audience({item})", "recdb.audience({item}, 3)"],
    "similar_items": ["recdb.similar_items({item})", "recdb.similar_items({item}, 3)"],
    "explain": ["recdb.explain({user}, {item})", "recdb.explain({user}, {item}, null)",
                "recdb.explain({user}, item_id => {item}, model => null, scenario => null)"],
    "explain_neighbors": ["recdb.explain_neighbors({user}, {item})", "recdb.explain_neighbors({user}, {item}, null)"],
    "recommend_for_items": [
        "recdb.recommend_for_items({items})", "recdb.recommend_for_items({items}, 5)",
        "recdb.recommend_for_items({items}, 5, {items})", "recdb.recommend_for_items({items}, 5, '{{}}')",
        "recdb.recommend_for_items({items}, exclude => '{{}}', fallback => 'popular')",
        "recdb.recommend_for_items({items}, exclude => {items}, weights => '{{1}}')",
        "recdb.recommend_for_items({items}, weights => array[2]::real[])"],
    "recommend_batch": ["recdb.recommend_batch({users})", "recdb.recommend_batch({users}, 3)",
                        "recdb.recommend_batch({users}, k => 3)"],
}  # fmt: skip
TEXTS = {"unknown", "text", "varchar", "name"}
TYPES = ["unknown", "text", "varchar", "smallint", "integer", "bigint", "numeric", "uuid"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", LISTERS)
def test_every_function_that_lists_takes_ids_of_any_type(shared: psycopg.Connection, name: str, kind: str) -> None:
    user, item = f"{USER}", recommend(shared, f"{USER}")[0][0]
    if kind == "uuid":
        user = str(uuid_of("u7"))
        item = recommend(shared, user)[0][0]

    def literal(value: str, type_name: str) -> str:
        return f"'{value}'" if type_name in ("unknown", "unknown[]") else f"'{value}'::{type_name}"

    for call in LISTERS[name]:
        typed = call.format(
            user=literal(user, kind), item=literal(item, kind),
            users=literal(f"{{{user}}}", f"{kind}[]"), items=literal(f"{{{item}}}", f"{kind}[]"),
        )  # fmt: skip
        as_text = call.format(
            user=f"'{user}'::text", item=f"'{item}'::text",
            users=f"array['{user}']::text[]", items=f"array['{item}']::text[]",
        )  # fmt: skip
        expected = rows_of(shared, as_text)
        assert expected
        assert rows_of(shared, typed) == expected, typed


@pytest.mark.parametrize("first", TYPES)
@pytest.mark.parametrize("second", TYPES)
def test_two_ids_of_two_types(shared: psycopg.Connection, first: str, second: str) -> None:
    user = f"'{uuid_of('u7')}'" if first == "uuid" else "'7'"
    item = f"'{uuid_of('new')}'" if second == "uuid" else "'9999'"
    one = user if first == "unknown" else f"{user}::{first}"
    other = item if second == "unknown" else f"{item}::{second}"
    wanted = user.strip("'"), item.strip("'")

    for rest in ("'like'", "kind => 'like'", "'like', now(), '{\"a\": 1}'", "'like'::varchar, metadata => null"):
        shared.execute(f"select recdb.track({one}, {other}, {rest})")
        newest = shared.execute("select user_id, item_id from recdb.interaction order by interaction_id desc limit 1")
        assert newest.fetchone() == wanted
    assert rows_of(shared, f"recdb.explain({one}, {other})") == []
    assert rows_of(shared, f"recdb.explain_neighbors({one}, {other})") == []
    moved = shared.execute(f"select recdb.merge_users({one}, {other})").fetchone()
    assert moved and moved[0] >= 4
    assert shared.execute(f"select recdb.merge_users({one}, {other})").fetchone() == (0,)
    assert shared.execute(f"select recdb.forget_user({other})").fetchone() == moved
    assert shared.execute("select from recdb.interaction where user_id = %s", [wanted[1]]).fetchall() == []


@pytest.mark.parametrize("kind", ["'buy'::deed", "kind => 'buy'::deed", "metadata => null, kind => 'buy'::deed"])
def test_a_kind_of_an_enum_type(shared: psycopg.Connection, kind: str) -> None:
    """With ids of every two types, unless neither is text and they have no type in common, as an integer and a uuid."""
    shared.execute("create type deed as enum ('buy')")
    types = [*TYPES, "name", "plan"]
    for first, second in product(types, types):
        if (
            first != second
            and (first in ("uuid", "plan") or second in ("uuid", "plan"))
            and not {first, second} & TEXTS
        ):
            continue
        user, item = ("'7'" if of != "uuid" else f"'{uuid_of('u7')}'" for of in (first, second))
        one = user if first == "unknown" else f"{user}::{first}"
        other = item if second == "unknown" else f"{item}::{second}"
        for rest in ("", ", value => 2", ", created_at => now()"):
            shared.execute(f"select recdb.track({one}, {other}, {kind}{rest})")
            newest = shared.execute(
                "select user_id, item_id, kind from recdb.interaction order by interaction_id desc limit 1"
            )
            assert newest.fetchone() == (user.strip("'"), item.strip("'"), "buy"), (one, other)


@pytest.mark.parametrize("kind", TYPES)
def test_the_row_of_an_item(shared: psycopg.Connection, kind: str) -> None:
    item = str(uuid_of("new")) if kind == "uuid" else "9999"
    shared.execute("insert into recdb.item (item_id, title) values (%s, 'A new one')", [item])
    one = f"'{item}'" if kind == "unknown" else f"'{item}'::{kind}"
    for call in (f"recdb.item_of({one})", f"recdb.item_of(item_id => {one})"):
        assert shared.execute(f"select item_id, title from {call}").fetchall() == [(item, "A new one")]


@pytest.mark.parametrize(
    "user", ["'7'", "'7'::text", "'7'::varchar", "7", "7::bigint", "7.0", "'7'::plan", "'7'::jsonb"]
)
def test_excluded_ids_in_a_jsonb(shared: psycopg.Connection, everything: list[Any], user: str) -> None:
    first, second = everything[0][0], everything[1][0]
    ids = f"'[\"{first}\", {second}.0]'::jsonb"
    shared.execute("set local recdb.user_id = '7'")
    for call in (
        f"recommend({user}, 1000, {ids})", f"recommend({user}, 1000, {ids}, 'none', filter => null)",
        f"recdb.recommend({user}, 1000, {ids})", f"recdb.recommend({user}, k => 1000, exclude_list => {ids})",
        f"recdb.recommend(exclude_list => {ids}, user_id => {user}, k => 1000)", f"recdb.recommend_me(1000, {ids})",
    ):  # fmt: skip
        assert rows_of(shared, call) == everything[2:], call
    for nothing in ("null::jsonb", "'[]'::jsonb", "jsonb_build_array()"):
        assert rows_of(shared, f"recommend({user}, 1000, {nothing})") == everything
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="not a list of item ids"):
        rows_of(shared, f"recommend({user}, 3, '{{\"a\": 1}}'::jsonb)")


def test_lists_in_the_spellings_of_a_text(shared: psycopg.Connection) -> None:
    expected = rows_of(shared, "recdb.recommend_for_items(array['1', '2'])")
    batch = rows_of(shared, "recdb.recommend_batch(array['1', '2'], 3)")
    assert expected and len(batch) == 6
    for spelling in ("{1,2}", "<1,2>", "[1, 2]", '["1", 2]'):
        assert rows_of(shared, "recdb.recommend_for_items(%s)", [spelling]) == expected
        assert rows_of(shared, "recdb.recommend_batch(%s, 3)", [spelling]) == batch
    for python in ([1, 2], ["1", "2"]):
        assert rows_of(shared, "recdb.recommend_for_items(%s)", [python]) == expected
        assert rows_of(shared, "recdb.recommend_batch(%s, 3)", [python]) == batch
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="not a list of item ids"):
        rows_of(shared, "recdb.recommend_batch('1,2')")


# PostgREST --------------------------------------------------------------------------------------------------------

# What PostgREST reads of the functions of the schemas that it exposes, and how it chooses one.
ROUTINES = """
    select p.proname, p.oid::regprocedure::text, array_agg(coalesce(a.name, '') order by a.position),
        p.pronargs - p.pronargdefaults, array_agg(a.type::regtype::text order by a.position)
    from pg_proc p
    cross join lateral unnest(p.proargnames, p.proargtypes) with ordinality a(name, type, position)
    where p.prokind = 'f' and a.type is not null and p.pronamespace = 'public'::regnamespace
      and p.proname = 'recommend'
    group by p.oid
"""


def candidates(routines: list[Any], keys: set[str]) -> list[str]:
    """Choose functions as PostgREST does: by the names of all required parameters and of some that have a default."""
    return [
        signature
        for _, signature, names, required, _ in routines
        if keys >= set(names[:required]) and keys <= set(names)
    ]


def subsets(names: list[str]) -> Iterator[set[str]]:
    return map(set, chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))


def test_by_names_alone_there_is_never_more_than_one_function(shared: psycopg.Connection) -> None:
    routines = shared.execute(ROUTINES).fetchall()
    assert len(routines) == 15
    reachable = [routine for routine in routines if "" not in routine[2]]
    assert len(reachable) == 2
    for _, signature, names, required, types in reachable:
        assert set(types) <= {"text", "bigint", "text[]", "jsonb"}  # PostgREST reads values of these from JSON
        for optional in subsets(names[required:]):
            assert candidates(routines, {*names[:required], *optional}) == [signature]


@pytest.mark.parametrize("body", [{"user_id": 7}, {"user_id": "7", "k": 3}, {"user_id": 7, "exclude": [1, "2"]},
                                  {"user_id": 7, "k": 5, "exclude_list": [1, 2], "fallback": "popular"}])  # fmt: skip
def test_a_call_of_postgrest_gives_the_list(shared: psycopg.Connection, body: dict[str, Any]) -> None:
    routines = shared.execute(ROUTINES).fetchall()
    (chosen,) = candidates(routines, set(body))
    _, _, names, _, types = next(routine for routine in routines if routine[1] == chosen)
    columns = ", ".join(f"{name} {types[names.index(name)]}" for name in body)
    named = ", ".join(f"{name} := body.{name}" for name in body)
    rows = rows_of(
        shared,
        f"json_to_record(%s::json) as body({columns}), lateral public.recommend({named}) result",
        [json.dumps(body)],
    )
    excluded = [str(item) for item in body.get("exclude", body.get("exclude_list", []))]
    expected = recommend(shared, str(USER), body.get("k", 50), exclude=excluded)
    assert [row[-4:] for row in rows] == expected
