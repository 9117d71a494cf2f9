"""Arguments by name: ids of any type in schema recdb, text in schema public, and the types that drivers are told."""

from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
import pytest
from support.data import recommend, record, tastes, train

from recdb.database import Database

USER = "7"


def uuid_of(number: str) -> UUID:
    return uuid5(NAMESPACE_OID, number)


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Users and items with integers as ids, a few users with a uuid, and types of the application."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        rows = [[user[1:], item[1:], kind] for user, item, kind in tastes(users=40, items=60)]
        record(connection, rows)
        record(connection, [[str(uuid_of(user)), item, kind] for user, item, kind in rows if user == USER])
        connection.execute(
            "create domain account_id as bigint; create domain key as uuid; create domain code as text; "
            "create type plan as enum ('7', 'none')"
        )
        if connection.execute("select from pg_available_extensions where name = 'citext'").fetchone():
            connection.execute("create extension citext")
        else:
            connection.execute("create domain citext as text")
    train(module_database)


@pytest.fixture
def everything(shared: psycopg.Connection) -> list[Any]:
    """The whole list of user 7, by the text form."""
    rows = recommend(shared, USER, 1000)
    assert len(rows) > 30
    return rows


def rows_of(connection: psycopg.Connection, call: str, parameters: Any = None) -> list[Any]:
    return connection.execute(f"select * from {call}", parameters).fetchall()


def fails(connection: psycopg.Connection, call: str, error: type[psycopg.Error]) -> psycopg.Error:
    with pytest.raises(error) as raised, connection.transaction():
        rows_of(connection, call)
    return raised.value


# The matrix of recdb.recommend() ----------------------------------------------------------------------------------

USERS = [
    "'7'", "'7'::text", "'7'::varchar", "'7'::char(3)", "'7'::name", "'7'::citext", "'7'::code", "7", "7::smallint",
    "7::bigint", "7.00", "7::real", "'7'::plan", "7::account_id", "'7'::jsonb", "'{key}'::uuid", "'{key}'::key",
]  # fmt: skip
EXCLUDED = [
    "'{{{0},{1}}}'", "array['{0}','{1}']", "array['{0}','{1}']::varchar[]", "array['{0}','{1}']::char(3)[]",
    "array['{0}','{1}']::name[]", "array['{0}','{1}']::citext[]", "array['{0}','{1}']::code[]", "array[{0},null,{1}]",
    "array[{0},{1}]::smallint[]", "array[{0},{1}]::bigint[]", "array[{0},{1}.00]", "array[{0},{1}]::float8[]",
    "array[{0},{1}]::account_id[]", "array['{0}','\"{1}\"']::jsonb[]", "array[array[{0}],array[{1}]]",
    "(select array_agg(i) from unnest(array[{0},{1}]) i)", "array(select i from unnest(array[{0},{1}]) i)",
]  # fmt: skip
NOTHING = [
    "'{}'", "null", "null::text[]", "null::bigint[]", "array[]::integer[]", "array[]::uuid[]", "'{NULL}'",
    "array[null]::bigint[]", "array['none']::plan[]", "array[gen_random_uuid()]", "array[gen_random_uuid()]::key[]",
]  # fmt: skip
SPELLINGS = [
    "recdb.recommend(user_id => {user}, exclude => {ids}, k => 1000)",
    "recdb.recommend(exclude => {ids}, fallback => 'none', k => '1000', user_id => {user})",
    "recdb.recommend({user}, exclude => {ids}, k => 1000::smallint)",
    "recdb.recommend({user}, 1000, exclude => {ids}, model => null)",
    "recdb.recommend({user}, 1000, {ids}, filter => null)",
]


@pytest.mark.parametrize("user", USERS)
def test_every_type_of_id_by_name_and_by_position(shared: psycopg.Connection, everything: list[Any], user: str) -> None:
    """Each type of excluded ids in one of the spellings, so that the user's types meet all pairs of both."""
    user = user.format(key=uuid_of(USER))
    first, second = everything[0][0], everything[1][0]
    for number, ids in enumerate([*EXCLUDED, *NOTHING]):
        excludes = ids in EXCLUDED
        spelled = ids.format(first, second) if excludes else ids
        for call in (SPELLINGS[number % 5], SPELLINGS[(number + USERS.index("7") + len(user)) % 5]):
            assert rows_of(shared, call.format(user=user, ids=spelled)) == everything[2 * excludes :], (call, spelled)
    for call in ("user_id => {0}", "user_id => {0}, k => 50", "k => null, user_id => {0}", "{0}, k => '50'"):
        assert rows_of(shared, f"recdb.recommend({call.format(user)})") == everything[:50], call
    for ids in (f"'<{first}>'", f"'[{first}]'::text", f"'{{{first}}}'"):
        for call in ("{0}, 50, exclude_list => {1}", "exclude_list => {1}, k => 50, user_id => {0}", "{0}, 50, {1}"):
            assert rows_of(shared, f"recdb.recommend({call.format(user, ids)})") == everything[1:51], call


def test_without_k(shared: psycopg.Connection, everything: list[Any]) -> None:
    first = everything[0][0]
    for user in ("'7'", "7", "'7'::varchar", "'7'::plan", "null"):
        expected = [] if user == "null" else everything[1:51]
        for ids in (f"array[{first}]", f"'{{{first}}}'", f"array['{first}']", f"array[{first}]::bigint[]"):
            assert rows_of(shared, f"recdb.recommend({user}, exclude => {ids})") == expected
            assert rows_of(shared, f"recdb.recommend(exclude => {ids}, user_id => {user})") == expected


def test_what_is_no_list_of_ids(shared: psycopg.Connection) -> None:
    """PostgreSQL refuses an array of two types, and an untyped literal by name that is no array."""
    fails(shared, "recdb.recommend(7, exclude => array['a', 7])", psycopg.errors.InvalidTextRepresentation)
    fails(shared, "recdb.recommend(7, exclude => '<>')", psycopg.errors.InvalidTextRepresentation)
    fails(shared, "recdb.recommend(7, exclude => 7)", psycopg.errors.UndefinedFunction)
    shared.execute("create table account (id bigint); insert into account values (7)")
    rows = "(select array_agg(a) from account a)"
    error = fails(shared, f"recdb.recommend(7, exclude => {rows})", psycopg.errors.InvalidParameterValue)
    assert "a row of public.account is no id" in str(error)


# All other functions ----------------------------------------------------------------------------------------------

TYPES = ["unknown", "text", "varchar", "citext", "code", "smallint", "integer", "bigint", "numeric", "account_id"]
ONE = {
    "recdb.neighbors(user_id => {user})": "recdb.neighbors('7')",
    "recdb.neighbors(k => 3, user_id => {user})": "recdb.neighbors('7', 3)",
    "recdb.audience(item_id => {item}, k => 4)": "recdb.audience('{id}', 4)",
    "recdb.profile_of(user_id => {user})": "recdb.profile_of('7')",
    "recdb.similar_items(item_id => {item}, k => 4)": "recdb.similar_items('{id}', 4)",
    "recdb.explain(user_id => {user}, item_id => {item})": "recdb.explain('7', '{id}')",
    "recdb.explain(item_id => {item}, user_id => '7', model => null)": "recdb.explain('7', '{id}')",
    "recdb.explain('7', item_id => {item})": "recdb.explain('7', '{id}')",
    "recdb.explain(user_id => {user}, item_id => '{id}')": "recdb.explain('7', '{id}')",
    "recdb.explain_neighbors(user_id => {user}, item_id => {item})": "recdb.explain_neighbors('7', '{id}')",
    "recdb.explain_me(item_id => {item})": "recdb.explain('7', '{id}')",
    "recdb.recommend_batch(user_ids => {users})": "recdb.recommend_batch(array['7']::text[])",
    "recdb.recommend_batch(k => 3, user_ids => {users})": "recdb.recommend_batch(array['7']::text[], 3)",
    "recdb.recommend_for_items(items => {items})": "recdb.recommend_for_items(array['{id}']::text[])",
    "recdb.recommend_for_items(items => {items}, exclude => {items}, weights => '{{2}}')":
        "recdb.recommend_for_items(array['{id}']::text[])",
    "recdb.recommend_for_items(items => {items}, exclude => array['1'], k => 5)":
        "recdb.recommend_for_items(array['{id}']::text[], 5, array['1']::text[])",
    "recdb.recommend_for_items(exclude => array[1], k => 5, items => {items})":
        "recdb.recommend_for_items(array['{id}']::text[], 5, array['1']::text[])",
    "recdb.recommend_me(exclude => {items})": "recdb.recommend('7', exclude => array['{id}']::text[])",
    "recdb.recommend_me(exclude => {items}, k => 3)": "recdb.recommend('7', 3, array['{id}']::text[])",
    "recdb.recommend_me(3, {items})": "recdb.recommend('7', 3, array['{id}']::text[])",
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_every_function_takes_ids_of_any_type_by_name(
    shared: psycopg.Connection, everything: list[Any], kind: str
) -> None:
    item = everything[0][0]
    shared.execute("set local recdb.user_id = '7'")

    def literal(value: str, array: str) -> str:
        return f"'{value}'" if kind == "unknown" else f"'{value}'::{kind}{array}"

    for call, as_text in ONE.items():
        typed = call.format(
            user=literal(USER, ""), item=literal(item, ""), users=literal(f"{{{USER}}}", "[]"),
            items=literal(f"{{{item}}}", "[]"), id=item,
        )  # fmt: skip
        expected = rows_of(shared, as_text.format(id=item))
        assert expected
        if kind == "account_id" and "recommend_for_items" in call:
            # An array of a domain fits the forms for bigint[] and for any array alike.
            fails(shared, typed, psycopg.errors.AmbiguousFunction)
            typed = typed.replace("account_id[]", "bigint[]")
        assert rows_of(shared, typed) == expected, typed


@pytest.mark.parametrize("first", ["unknown", "text", "varchar", "integer", "bigint", "uuid"])
@pytest.mark.parametrize("second", ["unknown", "text", "citext", "integer", "numeric", "uuid"])
def test_what_writes_takes_two_ids_of_two_types_by_name(shared: psycopg.Connection, first: str, second: str) -> None:
    user = str(uuid_of(USER)) if first == "uuid" else USER
    item = str(uuid_of("new")) if second == "uuid" else "9999"
    one = f"'{user}'" if first == "unknown" else f"'{user}'::{first}"
    other = f"'{item}'" if second == "unknown" else f"'{item}'::{second}"

    for rest in ("kind => 'like'", "metadata => null, kind => 'like'", "kind => 'like', value => 2"):
        shared.execute(f"select recdb.track(item_id => {other}, {rest}, user_id => {one})")
        newest = shared.execute("select user_id, item_id from recdb.interaction order by interaction_id desc limit 1")
        assert newest.fetchone() == (user, item)
    moved = shared.execute(f"select recdb.merge_users(to_id => {other}, from_id => {one})").fetchone()
    assert moved and moved[0] >= 3
    assert shared.execute(f"select recdb.forget_user(user_id => {other})").fetchone() == moved


# Drivers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor_class", [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor])
def test_parameters_of_psycopg_by_name(module_database: Database, everything: list[Any], cursor_class: Any) -> None:
    first, second = everything[0][0], everything[1][0]
    lists: list[Any] = [[int(first), int(second)], [first, second], [Decimal(first), Decimal(second)]]
    call = "recdb.recommend(user_id => {}, k => {}, exclude => {})"
    call = call.format(*(("$1", "$2", "$3") if cursor_class is psycopg.RawCursor else ("%s",) * 3))
    with psycopg.connect(module_database.conninfo, cursor_factory=cursor_class) as connection:
        for user in (7, "7", Decimal("7.0"), 7.0, uuid_of(USER), str(uuid_of(USER))):
            for excluded in lists:
                assert rows_of(connection, call, [user, 1000, excluded]) == everything[2:], (user, excluded)
            for nothing in ([], None, [None], [uuid_of("nothing")]):
                assert rows_of(connection, call, [user, 1000, nothing]) == everything, (user, nothing)
        if cursor_class is psycopg.Cursor:
            binary = connection.execute(
                "select * from recdb.recommend(user_id => %b, k => %b, exclude => %b)", [7, 1000, lists[0]], binary=True
            )
            assert binary.fetchall() == everything[2:]


DESCRIBED = {
    "recommend($1)": "text",
    "recommend($1, $2)": "text,bigint",
    "recommend($1, $2, $3)": "text,bigint,text",
    "recommend($1, $2, $3, $4, $5, $6)": "text,bigint,text,text,jsonb,text",
    "recommend($1, exclude => $2)": "text,text[]",
    "recommend(user_id => $1, k => $2, exclude => $3)": "text,bigint,text[]",
    "recommend($1, $2, exclude_list => $3)": "text,bigint,text",
    "recommend(7, exclude => $1)": "text[]",
    "recommend(7, $1, $2)": "bigint,text",
    "recommend($1::uuid, $2, exclude => $3, fallback => $4)": "uuid,bigint,text[],text",
}
DESCRIBED_IN_RECDB = {
    "recommend($1, 5, exclude => array[7])": "text",
    "recommend(user_id => $1::bigint, exclude => $2::uuid[])": "bigint,uuid[]",
    "recommend_me($1)": "bigint",
    "recommend_me($1, $2)": "bigint,text",
    "recommend_me(exclude => $1)": "text[]",
    "recommend_batch($1, $2)": "text,bigint",
    "recommend_batch(user_ids => $1)": "text[]",
    "recommend_for_items($1, $2, $3)": "text,bigint,text[]",
    "recommend_for_items(items => $1, exclude => $2)": "text,text[]",
    "explain($1, $2)": "text,text",
    "explain(user_id => $1, item_id => $2)": "text,text",
    "explain($1, 7)": "text",
    "explain(7, $1)": "text",
    "track($1, $2, $3)": "text,text,text",
    "similar_items(item_id => $1)": "text",
}


@pytest.mark.parametrize("schema", ["public", "recdb"])
def test_the_types_that_a_driver_is_told(shared: psycopg.Connection, schema: str) -> None:
    """asyncpg, pgx and others ask the server for the types of the parameters, and write the values in these."""
    for call, expected in (DESCRIBED | DESCRIBED_IN_RECDB if schema == "recdb" else DESCRIBED).items():
        shared.execute(f"prepare described as select * from {schema}.{call}")  # type: ignore[call-overload]
        told = shared.execute(
            "select array_to_string(parameter_types, ',') from pg_prepared_statements where name = 'described'"
        ).fetchone()
        assert told == (expected,), call
        shared.execute("deallocate described")


# Schema public ----------------------------------------------------------------------------------------------------


def test_by_name_public_recommend_takes_text_and_recdb_recommend_any_type(
    shared: psycopg.Connection, everything: list[Any]
) -> None:
    first = everything[0][0]
    for call in (
        "recommend(user_id => 7::text, k => 1000)", "recommend(user_id => '7', k => 1000, exclude => '{}')",
        "recommend(7, k => 1000)", "recommend(7, 1000, exclude => '{}')", "recommend(7, exclude => '{}', k => 1000)",
        "recdb.recommend(user_id => 7, k => 1000)",
    ):  # fmt: skip
        assert rows_of(shared, call) == everything, call
    for call in (f"recommend(7, 1000, array[{first}])", f"recommend(7, k => 1000, exclude => array['{first}'])",
                 f"recommend(7, k => 1000, exclude => array[{first}]::text[])",
                 f"recdb.recommend(7, k => 1000, exclude => array[{first}])"):  # fmt: skip
        assert rows_of(shared, call) == everything[1:], call
    for call in ("recommend(user_id => 7, k => 3)", "recommend(7, k => 3, exclude => array[7])"):
        error = fails(shared, call, psycopg.errors.UndefinedFunction)
        assert "type cast" in (error.diag.message_hint or "")
    found = shared.execute(
        "select obj_description("
        "'public.recommend(text, bigint, text[], text, jsonb, text, text[], text, jsonb)'::regprocedure, 'pg_proc')"
    ).fetchone()
    assert found and "By name, ids are text" in found[0]
