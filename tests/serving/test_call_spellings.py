"""Every way to write the call: the spellings of the contract, NULLs, errors, drivers and session settings."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.data import column, recommend, record, tastes, train

from recdb import migrate
from recdb.database import Database

NOTHING = ("", "{}", "[]", "<>", "< >", "  {} \n")


@pytest.fixture(scope="module", autouse=True)
def shop(module_database: Database) -> None:
    """A trained model of users user-0.. and posts post-0..; a user can get more than 50 items."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        rows = tastes(users=40, items=90)
        record(connection, [[f"user-{user[1:]}", f"post-{item[1:]}", kind] for user, item, kind in rows])
        connection.execute('create table "user" (id text primary key, number integer)')
        connection.execute("insert into \"user\" select 'user-' || n, n from generate_series(0, 39) n")
        connection.execute("analyze")
    train(module_database)


@pytest.fixture
def everything(shared: psycopg.Connection) -> list[Any]:
    """The whole list of user-7, without limits and exclusions."""
    return recommend(shared, "user-7", 1000)


def test_the_seven_spellings(shared: psycopg.Connection, everything: list[Any]) -> None:
    first, second = everything[0][0], everything[1][0]
    without_both = everything[2:52]

    def rows(call: str) -> list[Any]:
        return shared.execute(f"select * from {call}").fetchall()

    assert len(everything) > 52
    assert rows("recommend('user-7', 50, '{}')") == everything[:50]
    assert rows("recommend('user-7', 50, '<>')") == everything[:50]
    assert rows("recommend(user, 50, '<>')") == []
    assert rows("recommend('user-7')") == everything[:50]
    assert rows(f"recommend('user-7', 50, '{{{first},{second}}}')") == without_both
    assert rows(f"recommend('user-7', 49, ARRAY['{first}'], fallback => 'popular')") == everything[1:50]
    lateral = shared.execute('select u.id, r.* from "user" u, lateral recommend(u.id, 5) r').fetchall()
    assert [row[1:] for row in lateral if row[0] == "user-7"] == everything[:5]
    assert len(lateral) == 40 * 5


def test_columns_have_the_promised_names_and_types(shared: psycopg.Connection) -> None:
    for function in ("public.recommend", "recdb.recommend"):
        described = shared.execute(f"select * from {function}('user-7', 1, '{{}}')").description or []
        types = [(entry.name, psycopg.adapters.types[entry.type_code].name) for entry in described]
        assert types == [("item_id", "text"), ("score", "float8"), ("reason", "text"), ("model_version", "text")]


def test_rows_say_who_made_them(everything: list[Any]) -> None:
    assert {row[2:] for row in everything} == {("collaborative_filtering", "collaborative_filtering_v1")}


@pytest.mark.parametrize("nothing", NOTHING)
def test_every_spelling_of_nothing_excludes_nothing(
    shared: psycopg.Connection, everything: list[Any], nothing: str
) -> None:
    assert shared.execute("select * from recommend('user-7', 1000, %s)", [nothing]).fetchall() == everything


@pytest.mark.parametrize(
    "spelling",
    [
        "{{{0},{1}}}",
        '{{"{0}","{1}"}}',
        " {{ {0} , {1} }} ",
        "{{{0},NULL,{1}}}",
        "{{{{{0},{1}}}}}",
        "[0:1]={{{0},{1}}}",
        "<{0},{1}>",
        "< {0} , {1} >",
        '["{0}", "{1}"]',
        '["{0}", null, "{1}"]',
        '\n[ "{0}",\n "{1}" ]\n',
    ],
)
def test_every_spelling_of_a_list_excludes_it(shared: psycopg.Connection, everything: list[Any], spelling: str) -> None:
    text = spelling.format(everything[0][0], everything[2][0])
    expected = [everything[1], *everything[3:]]
    assert shared.execute("select * from recommend('user-7', 1000, %s)", [text]).fetchall() == expected
    literal = sql.SQL("select * from recommend('user-7', 1000, {})").format(sql.Literal(text))
    assert shared.execute(literal).fetchall() == expected
    for kind in ("text", "varchar"):
        typed = f"select * from recommend('user-7'::{kind}, 1000, %s::{kind})"
        assert shared.execute(typed, [text]).fetchall() == expected


@pytest.mark.parametrize(
    "wrong", ["post-1", "post-1,post-2", "{post-1", "<post-1", '["post-1"', "[post-1]", '{"a": 1}', '[{"id": 1}]',
              "[true]", '[["post-1"]]', "1", "null", '"post-1"'],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_accepted(shared: psycopg.Connection, wrong: str) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="not a list of item ids") as raised:
        shared.execute("select * from recommend('user-7', 50, %s)", [wrong])
    accepted = raised.value.diag.message_hint or ""
    for spelling in ("{a,b}", "<a,b>", "<>", "JSON array"):
        assert spelling in accepted


@pytest.mark.parametrize("kind", ["text[]", "varchar[]"])
def test_typed_arrays(shared: psycopg.Connection, everything: list[Any], kind: str) -> None:
    ids = [everything[0][0], None, everything[1][0]]
    statement = f"select * from recommend('user-7', 1000, %s::{kind})"
    assert shared.execute(statement, [ids]).fetchall() == everything[2:]
    nested = f"select * from recommend('user-7', 1000, exclude => array[%s, %s]::{kind})"
    assert shared.execute(nested, [ids[0], ids[2]]).fetchall() == everything[2:]


def test_a_nested_array_excludes_every_element(shared: psycopg.Connection, everything: list[Any]) -> None:
    ids = [[everything[0][0]], [everything[1][0]]]
    assert recommend(shared, "user-7", 1000, exclude=ids) == everything[2:]


def test_driver_parameters_of_every_format(module_database: Database, everything: list[Any]) -> None:
    ids = [everything[0][0], everything[1][0]]
    for cursor_class in (psycopg.Cursor, psycopg.ClientCursor):
        with psycopg.connect(module_database.conninfo, cursor_factory=cursor_class) as connection:
            call = "select * from recommend(%s, %s, %s)"
            for excluded in (ids, json.dumps(ids), "{" + ",".join(ids) + "}"):
                assert connection.execute(call, ["user-7", 30, excluded]).fetchall() == everything[2:32]
            assert connection.execute(call, ["user-7", 30, []]).fetchall() == everything[:30]
    with psycopg.connect(module_database.conninfo) as connection:
        binary = connection.execute(
            "select * from recommend(%b::text, %b, %b::text[])", ["user-7", 30, ids], binary=True
        )
        assert binary.fetchall() == everything[2:32]


def test_arguments_by_name_choose_their_own_form(shared: psycopg.Connection, everything: list[Any]) -> None:
    first = everything[0][0]
    by_array = shared.execute("select * from recommend(k => 3, user_id => 'user-7', exclude => %s)", [[first]])
    by_list = shared.execute("select * from recommend(k => 3, user_id => 'user-7', exclude_list => %s)", [f"<{first}>"])
    assert by_array.fetchall() == by_list.fetchall() == everything[1:4]


def test_exclude_by_name_takes_an_array_literal_only(shared: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        shared.execute("select * from recommend('user-7', exclude => '<>')")


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_k_is_any_integer_type(shared: psycopg.Connection, everything: list[Any], kind: str) -> None:
    assert shared.execute(f"select * from recommend('user-7', 3::{kind}, '{{}}')").fetchall() == everything[:3]


def test_null_arguments(shared: psycopg.Connection, everything: list[Any]) -> None:
    def rows(arguments: str) -> list[Any]:
        return shared.execute(f"select * from recommend({arguments})").fetchall()

    assert rows("null") == []
    assert rows("null, 5, '{}'") == []
    assert rows("'user-7', null") == everything[:50]
    assert rows("'user-7', null, '{}'") == everything[:50]
    assert rows("'user-7', 1000, null") == everything
    assert rows("'user-7', 1000, null::text") == everything
    assert rows("'user-7', 1000, null::text[]") == everything
    assert rows("'user-7', 1000, array[null]::text[]") == everything
    assert rows("'user-7', 1000, '{NULL}'") == everything
    assert rows("'user-7', 1000, '{}', null") == everything
    assert rows("'user-7', 1000, '{}', 'none', null, null") == everything
    assert rows("'user-7', fallback => null, filter => null, model => null") == everything[:50]


@pytest.mark.parametrize("k", [0, 1001, -1, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("user", ["user-7", "nobody", None])
def test_k_outside_1_to_1000_is_refused(shared: psycopg.Connection, k: int, user: str | None) -> None:
    for call in ("recommend(%s, %s)", "recommend(%s, %s, '{}')", "recommend(%s, %s, array['a'])"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="between 1 and 1000"), shared.transaction():
            shared.execute(f"select * from {call}", [user, k])


@pytest.mark.parametrize("fallback", ["", "Popular", "none ", "random"])
def test_an_unknown_fallback_is_refused(shared: psycopg.Connection, fallback: str) -> None:
    for exclude in ("'{}'", "array['a']"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="'none' or 'popular'"), shared.transaction():
            shared.execute(f"select * from recommend('user-7', 5, {exclude}, fallback => %s)", [fallback])


@pytest.mark.parametrize("user", ["user-7", "nobody"])
def test_an_unknown_model_is_refused(shared: psycopg.Connection, user: str) -> None:
    for exclude in ("'{}'", "array['a']"):
        with pytest.raises(psycopg.errors.UndefinedObject, match="collaborative_filtering_v9"), shared.transaction():
            shared.execute(f"select * from recommend(%s, 5, {exclude}, model => 'collaborative_filtering_v9')", [user])


def test_a_model_by_its_label(shared: psycopg.Connection, everything: list[Any]) -> None:
    assert recommend(shared, "user-7", 1000, model="collaborative_filtering_v1") == everything


def test_the_name_qualified_by_either_schema(shared: psycopg.Connection, everything: list[Any]) -> None:
    for schema in ("public", "recdb"):
        for exclude in ("'<>'", "array[]::text[]"):
            call = f"select * from {schema}.recommend('user-7', 50, {exclude})"
            assert shared.execute(call).fetchall() == everything[:50]


def test_an_empty_search_path(shared: psycopg.Connection, everything: list[Any]) -> None:
    shared.execute("set local search_path = ''")
    for call in ("public.recommend('user-7', 50, '{}')", "recdb.recommend('user-7')",
                 "recdb.recommend('user-7', 50, '[]')"):  # fmt: skip
        assert shared.execute(f"select * from {call}").fetchall() == everything[:50]
    for call in (
        "recdb.recommend_batch(array['user-7'])",
        "recdb.neighbors('user-7')",
        "recdb.similar_items('post-1')",
        "recdb.audience('post-1')",
        "recdb.trending(5, '400 days')",
        "recdb.recommend('nobody', 5, '<>', 'popular')",
    ):
        assert shared.execute(f"select * from {call}").fetchall()


def test_pgvector_in_a_schema_of_its_own(empty_database: Any) -> None:
    """As hosted databases have it; the caller's search_path does not have to name it."""
    database = empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create schema extensions")
        connection.execute("create extension vector schema extensions")
        migrate.upgrade(database)
        record(connection, tastes())
        train(database)
        expected = recommend(connection, "u1")
        assert len(expected) > 40
        connection.execute("select recdb.track('newcomer', 'i1', 'like')")
        connection.execute("set search_path = ''")
        assert connection.execute("select * from recdb.recommend('u1')").fetchall() == expected
        for call in (
            "public.recommend('newcomer', 50, '<>')",
            "recdb.recommend_for_items(array['i1'])",
            "recdb.neighbors('newcomer')",
            "recdb.similar_items('i1')",
            "recdb.audience('i1')",
        ):
            assert connection.execute(f"select * from {call}").fetchall()
        connection.execute("call recdb.refresh()")
        assert connection.execute("select count(*) from recdb.user_vectors").fetchone() == (41,)


def test_the_callers_search_path_is_not_believed(shared: psycopg.Connection, everything: list[Any]) -> None:
    """The caller has a table or function of their own with a name that recdb uses."""
    shared.execute("create schema mine")
    shared.execute("create table mine.interaction (user_id text, item_id text)")
    shared.execute("create function mine.power(float8, float8) returns float8 language sql return 0")
    shared.execute("create temporary table item_key (item_key integer, item_id text)")
    shared.execute("set local search_path = mine, public, recdb, pg_catalog")
    assert shared.execute("select * from recommend('user-7', 50, '{}')").fetchall() == everything[:50]


def test_a_read_only_transaction(shared: psycopg.Connection, everything: list[Any]) -> None:
    shared.rollback()
    shared.read_only = True
    assert shared.execute("select * from recommend('user-7', 50, '{}')").fetchall() == everything[:50]
    for call in ("recdb.neighbors('user-7')", "recdb.similar_items('post-1')", "recdb.audience('post-1')"):
        assert shared.execute(f"select * from {call}").fetchall()


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_every_isolation_level(shared: psycopg.Connection, everything: list[Any], isolation: str) -> None:
    shared.rollback()
    shared.execute(f"set transaction isolation level {isolation}")
    assert shared.execute("select * from recommend('user-7', 50, '{}')").fetchall() == everything[:50]


def test_a_view_over_the_call(shared: psycopg.Connection, everything: list[Any]) -> None:
    shared.execute('create view feed as select u.id, r.* from "user" u, lateral recommend(u.id, 20, $$<>$$) r')
    rows = shared.execute("select item_id, score, reason, model_version from feed where id = 'user-7'").fetchall()
    assert rows == everything[:20]


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("cast", ["text", "text[]"])
def test_a_prepared_statement_gives_the_same_at_every_execution(
    shared: psycopg.Connection, everything: list[Any], mode: str, cast: str
) -> None:
    """The sixth execution may be the first with a generic plan, of this statement and inside the function."""
    shared.execute(f"set local plan_cache_mode = {mode}")
    shared.execute(f"prepare feed (text, bigint, {cast}) as select * from recommend($1, $2, $3)")
    first = everything[0][0]
    for execution in range(8):
        assert (
            shared.execute(f"execute feed ('user-7', {10 + execution}, '{{{first}}}')").fetchall()
            == (everything[1 : 11 + execution])
        )
        assert shared.execute("execute feed ('nobody', 50, '{}')").fetchall() == []
    shared.execute("deallocate feed")


def test_the_session_settings_are_left_as_they_were(shared: psycopg.Connection) -> None:
    names = ("hnsw.ef_search", "hnsw.iterative_scan", "search_path", "plan_cache_mode", "jit")
    recommend(shared, "user-7")  # loads pgvector's library
    shared.execute("set local hnsw.ef_search = 77")
    shared.execute("set local hnsw.iterative_scan = 'strict_order'")
    settings = [shared.execute(f"show {name}").fetchone() for name in names]
    for call in (
        "recommend('user-7')",
        "recdb.neighbors('user-7', 500)",
        "recdb.similar_items('post-1', 500)",
        "recdb.audience('post-1', 5)",
    ):
        shared.execute(f"select * from {call}")
        assert [shared.execute(f"show {name}").fetchone() for name in names] == settings


def test_plans_that_go_parallel(shared: psycopg.Connection) -> None:
    """Force parallel queries, on a table that is large enough for parallel workers."""
    expected = shared.execute('select u.id, r.* from "user" u, lateral recommend(u.id, 5) r order by 1, 3 desc, 2')
    rows = expected.fetchall()
    shared.execute("set local parallel_setup_cost = 0")
    shared.execute("set local parallel_tuple_cost = 0")
    shared.execute("set local min_parallel_table_scan_size = 0")
    setting = "debug_parallel_query" if shared.info.server_version >= 160000 else "force_parallel_mode"
    for forced in ("off", "on", "regress"):
        shared.execute(f"set local {setting} = {forced}")
        again = shared.execute('select u.id, r.* from "user" u, lateral recommend(u.id, 5) r order by 1, 3 desc, 2')
        assert again.fetchall() == rows
        calls = "select count(*) from \"user\" u where exists (select from recommend(u.id, 3, '{}'))"
        assert shared.execute(calls).fetchone() == (40,)


def test_a_cursor_that_is_read_in_parts(shared: psycopg.Connection, everything: list[Any]) -> None:
    shared.execute("declare feed cursor for select * from recommend('user-7', 50, '{}')")
    parts = [shared.execute("fetch 20 from feed").fetchall() for _ in range(3)]
    assert parts[0] + parts[1] + parts[2] == everything[:50]


def test_ordinary_sql_around_the_call(shared: psycopg.Connection, everything: list[Any]) -> None:
    best = shared.execute("select max(score), count(*) from recommend('user-7', 10) where score > 0").fetchone()
    assert best == (1.0, 10)
    titled = shared.execute(
        'select u.number, r.item_id from "user" u cross join lateral recommend(u.id, 2) r where u.id = %s',
        ["user-7"],
    ).fetchall()
    assert [item for _, item in titled] == [row[0] for row in everything[:2]]
    assert column(shared.execute("select (recommend('user-7', 2)).item_id")) == [row[0] for row in everything[:2]]


def test_two_versions_side_by_side(database: Database) -> None:
    """recommend() serves each kept version by its label; a database without a version is no error."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        assert recommend(connection, "u1") == []
        record(connection, tastes())
        assert recommend(connection, "u1") == []
        first = train(database, blend=1.0)
        before = recommend(connection, "u1")
        second = train(database, blend=0.0)
        after = recommend(connection, "u1")
        assert before != after
        assert recommend(connection, "u1", model=first) == before
        assert recommend(connection, "u1", model=second) == after
        connection.execute("select recdb.activate(%s)", [first])
        assert recommend(connection, "u1") == before
        third = train(database)
        with pytest.raises(psycopg.errors.UndefinedObject):
            recommend(connection, "u1", model=second)
        assert {row[3] for row in recommend(connection, "u1", model=third)} == {third}
