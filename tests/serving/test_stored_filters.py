"""The filters and conditions that rows of recdb.scenario and recdb.rule hold: a bad one fails nobody's list."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train
from support.doctor import find, findings

from recdb import Recommender, Unavailable
from recdb.cli.model import read_filter
from recdb.database import Database

BAD = [
    "$.price < $max",
    # A part that an item without these attributes does not reach.
    '$.topic == "birds" && $.price < $max',
    'exists($.topic) && $[$n].price > 1 && $."a \\"b" == "c"',
    "price <",
    # It fails for an item whose time has a zone.
    '$.sold.datetime() < "2027-01-01".datetime()',
    '$.sold.date() < "2027-01-01".date()',
]
GOOD = [
    "$.price < 20 && $.lang == \"de\"",
    '$.name == "a $\\"b" || $."$max" > 1 || $.date == "x.date()" || $.datetime > 3',
    '$.sold < "2027-01-01"',
    "$.tags[*] ? (@ == \"a\")",
    'strict $.a like_regex "^\\\\$\\""',
]  # fmt: skip


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=20, items=30, per_user=9))
        connection.execute(
            "insert into recdb.item (item_id, attributes) select 'i' || n, "
            "jsonb_build_object('price', n, 'topic', 'birds', 'sold', '2026-01-01T00:00:00+02') "
            "from generate_series(0, 29) n"
        )
        connection.execute("insert into recdb.scenario (name) values ('home')")
        train(module_database)
        yield connection


@pytest.fixture(autouse=True)
def undone(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_could_fail_a_list_is_refused(connection: psycopg.Connection, path: str) -> None:
    connection.execute("insert into recdb.rule (scenario, condition, factor) values ('home', '{}', 2)")
    for statement, what in (
        ("insert into recdb.rule (scenario, condition, factor) values ('home', %s, 2)", 'a rule of scenario "home"'),
        ("update recdb.rule set condition = %s", 'a rule of scenario "home"'),
        ("insert into recdb.scenario (name, filter) values ('mail', %s)", 'scenario "mail"'),
        ("update recdb.scenario set filter = %s where name = 'home'", 'scenario "home"'),
    ):
        with pytest.raises(psycopg.errors.CheckViolation, match=what), connection.transaction():
            connection.execute(statement, [Jsonb(path)])


@pytest.mark.parametrize("path", GOOD)
def test_other_paths_are_taken(connection: psycopg.Connection, path: str) -> None:
    connection.execute("insert into recdb.rule (scenario, condition, factor) values ('home', %s, 0.5)", [Jsonb(path)])
    connection.execute("update recdb.scenario set filter = %s where name = 'home'", [Jsonb(path)])
    assert len(recommend(connection, "u6", 5)) == 5
    assert len(recommend(connection, "u6", 5, scenario="home")) <= 5


def test_a_product_team_that_may_only_edit_the_rows_is_told_too(connection: psycopg.Connection) -> None:
    connection.execute("create role product_team")
    connection.execute("grant usage on schema recdb to product_team")
    connection.execute("grant insert, update, delete on recdb.scenario, recdb.rule to product_team")
    connection.execute("set local role product_team")
    connection.execute("insert into recdb.rule (scenario, condition, factor) values ('home', '\"$.price < 9\"', 2)")
    with pytest.raises(psycopg.errors.CheckViolation, match="a variable"), connection.transaction():
        connection.execute("insert into recdb.rule (scenario, condition, factor) values ('home', '\"$.a < $b\"', 2)")


def let_in(connection: psycopg.Connection, statement: str) -> None:
    """Write a row as an older recdb would have let it in."""
    connection.execute("set local session_replication_role = replica")
    connection.execute(statement)  # type: ignore[call-overload]
    connection.execute("set local session_replication_role = origin")


def test_a_bad_rule_of_old_does_not_act_and_doctor_names_it(connection: psycopg.Connection) -> None:
    plain = recommend(connection, "u6", 10)
    boosted = "insert into recdb.rule (scenario, condition, factor) values ('home', '{\"price\": 7}', 1000)"
    connection.execute(boosted)
    expected = recommend(connection, "u6", 10, scenario="home")
    assert "steering" not in findings(connection)
    for scenario in ("home", "default"):
        let_in(
            connection, "insert into recdb.rule (scenario, condition, factor) "
            f"values ('{scenario}', '\"$.price < $max\"', 0)",
        )  # fmt: skip
    assert recommend(connection, "u6", 10, scenario="home") == expected
    assert recommend(connection, "u6", 10) == plain
    found = find(connection, "steering")
    assert found.state == "fail" and found.fix is not None
    assert 'of scenario "default" (it is not a JSON path' in found.message
    connection.execute(found.fix[found.fix.index("delete") :])
    assert "steering" not in findings(connection)
    assert recommend(connection, "u6", 10, scenario="home") == expected


def test_lists_of_a_scenario_with_a_bad_filter_of_old_fail_with_its_name(
    connection: psycopg.Connection, module_database: Database
) -> None:
    plain = recommend(connection, "u6", 10)
    let_in(connection, "update recdb.scenario set filter = '\"$.price < $max\"' where name = 'home'")
    assert recommend(connection, "u6", 10) == plain
    named = pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match='the filter of scenario "home" cannot be read'
    )
    with named, connection.transaction():
        recommend(connection, "u6", 10, scenario="home")
    assert 'the filter of scenario "home"' in find(connection, "steering").message


def test_a_client_does_not_take_a_bad_row_for_its_own_filter(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as other:
        with other.transaction():
            let_in(other, "insert into recdb.scenario (name, filter) values ('broken', '\"$.price < $max\"')")
        try:
            with Recommender(module_database.conninfo) as client, pytest.raises(Unavailable, match='"broken"'):
                client.recommend("u6", scenario="broken")
        finally:
            other.execute("delete from recdb.scenario where name = 'broken'")


def test_the_command_line_takes_a_path_in_the_spelling_of_sql_too() -> None:
    path = '$.topic == "birds"'
    assert read_filter(path) == read_filter('"$.topic == \\"birds\\""') == path
    assert read_filter('"birds" == $.topic') == '"birds" == $.topic'
    assert read_filter('{"topic": "birds"}') == {"topic": "birds"}
