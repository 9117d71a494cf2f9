"""While an experiment runs on a scenario, lists follow the variant of their user."""

import csv
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.doctor import find, findings
from support.waiting import until, waits_for_a_lock

from recdb.database import Database
from recdb.everyone import recommend_all

USERS = [f"u{number}" for number in range(30)]


@pytest.fixture(scope="module")
def versions(module_database: Database) -> Iterator[psycopg.Connection]:
    """Two kept versions, which rank differently; and the scenarios home, steered and reversed."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=30, items=40, per_user=9))
        train(module_database, blend=0.0)
        train(module_database, blend=1.0)
        connection.execute("insert into recdb.item (item_id, attributes) select 'i' || n, '{}' "
                           "from generate_series(0, 39) n")  # fmt: skip
        connection.execute("update recdb.item set attributes = '{\"odd\": true}' where right(item_id, 1) in "
                           "('1', '3', '5', '7', '9')")  # fmt: skip
        connection.execute("insert into recdb.scenario (name) values ('steered')")
        connection.execute(
            "insert into recdb.rule (scenario, condition, factor) values ('steered', '{\"odd\": true}', 0)"
        )
        yield connection


@pytest.fixture
def shared(versions: psycopg.Connection) -> Iterator[psycopg.Connection]:
    with versions.transaction(force_rollback=True):
        yield versions


def start(
    connection: psycopg.Connection, name: str, scenario: str, *variants: tuple[str, str | None, str | None]
) -> None:
    """Start an experiment of variants, each a name, a model version and a scenario."""
    connection.execute("insert into recdb.experiment (name, scenario) values (%s, %s)", [name, scenario])
    for variant in variants:
        connection.execute(
            "insert into recdb.experiment_variant (experiment, name, model_version, scenario) values (%s, %s, %s, %s)",
            [name, *variant],
        )
    connection.execute("select recdb.start_experiment(%s)", [name])


def variants(connection: psycopg.Connection, name: str) -> dict[str, str]:
    rows = connection.execute("select u, recdb.variant(u, %s) from unnest(%s::text[]) u", [name, USERS]).fetchall()
    return dict(rows)


def test_lists_follow_the_scenario_of_the_variant(shared: psycopg.Connection) -> None:
    usual = {user: recommend(shared, user, 8) for user in USERS}
    steered = {user: recommend(shared, user, 8, scenario="steered") for user in USERS}
    start(shared, "odd", "home", ("usual", None, None), ("even", None, "steered"))
    got = variants(shared, "odd")
    assert set(got.values()) == {"usual", "even"}
    for user in USERS:
        expected = steered if got[user] == "even" else usual
        assert recommend(shared, user, 8, scenario="home") == expected[user]
        assert recommend(shared, user, 8) == usual[user], "another scenario is none of its business"
    guest = "select * from recdb.recommend_for_items(array['i1', 'i2'], 8, scenario => %s)"
    assert shared.execute(guest, ["home"]).fetchall() == shared.execute(guest, [None]).fetchall()
    shared.execute("select recdb.stop_experiment('odd')")
    assert all(recommend(shared, user, 8, scenario="home") == usual[user] for user in USERS)


def test_lists_follow_the_model_version_of_the_variant(shared: psycopg.Connection) -> None:
    first, active = column(shared.execute("select label from recdb.models order by created_at"))
    of_first = {user: recommend(shared, user, 8, model=first) for user in USERS}
    usual = {user: recommend(shared, user, 8) for user in USERS}
    start(shared, "versions", "default", ("a", first, None), ("b", None, None))
    got = variants(shared, "versions")
    for user in USERS:
        rows = recommend(shared, user, 8)
        assert rows == (of_first if got[user] == "a" else usual)[user]
        assert {row[3] for row in rows} == {first if got[user] == "a" else active}
        assert recommend(shared, user, 8, model=active) == usual[user], "a model that the caller names wins"
        item, score = rows[0][:2]
        explained = column(shared.execute(f"select sum(contribution) from recdb.explain('{user}', '{item}')"))
        assert explained == [pytest.approx(score, abs=1e-6)]
    batch = shared.execute(
        "select user_id, item_id, score from recdb.recommend_batch(%s::text[], 8)", [USERS]
    ).fetchall()
    assert batch == [(user, *row[:2]) for user in USERS for row in recommend(shared, user, 8)]


def refuse(connection: psycopg.Connection, statement: str, said: str) -> None:
    refused = pytest.raises(
        (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.ForeignKeyViolation), match=said
    )
    with refused, connection.transaction():
        connection.execute(statement)  # type: ignore[call-overload]


def test_the_scenario_of_a_variant_stays_while_the_experiment_runs(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.scenario (name, filter) values ('early', '{\"odd\": true}')")
    shared.execute("insert into recdb.experiment (name, scenario) values ('lost', 'home')")
    shared.execute("insert into recdb.experiment_variant (experiment, name, scenario) "
                   "values ('lost', 'a', 'early'), ('lost', 'b', null)")  # fmt: skip
    shared.execute("update recdb.scenario set name = 'short-lived' where name = 'early'")
    shared.execute("select recdb.start_experiment('lost')")
    lists = {user: recommend(shared, user, 8, scenario="home") for user in USERS}
    assert any(lists[user] != recommend(shared, user, 8) for user in USERS)
    for statement in (
        "delete from recdb.scenario where name = 'short-lived'",
        "update recdb.scenario set name = 'other' where name = 'short-lived'",
        "update recdb.scenario set name = 'other' where name = 'home'",
    ):
        refuse(shared, statement, "stays as long as experiment lost runs")
    shared.execute("update recdb.scenario set note = 'a', name = name, experiment = experiment")
    assert {user: recommend(shared, user, 8, scenario="home") for user in USERS} == lists
    shared.execute("select recdb.stop_experiment('lost')")
    shared.execute("update recdb.scenario set name = 'other' where name = 'home'")
    shared.execute("delete from recdb.scenario where name = 'short-lived'")


def test_a_row_follows_an_experiment_that_can_decide_there(shared: psycopg.Connection) -> None:
    follow = "update recdb.scenario set experiment = %s where name = 'home'"
    shared.execute("insert into recdb.scenario (name) values ('home'), ('mail')")
    start(shared, "odd", "mail", ("usual", None, None), ("even", None, "steered"))
    refuse(shared, "update recdb.scenario set experiment = 'ood' where name = 'home'", 'no experiment "ood"')
    shared.execute(follow, ["odd"])
    refused = pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="home follows experiment odd: first, up")
    with refused, shared.transaction():
        start(shared, "new", "home", ("usual", None, None), ("even", None, "steered"))
    shared.execute(follow, [None])
    start(shared, "new", "home", ("usual", None, None), ("even", None, "steered"))
    refuse(shared, "update recdb.scenario set experiment = 'odd' where name = 'home'", "new runs on scenario")
    shared.execute(follow, ["new"])
    shared.execute("select recdb.stop_experiment('odd')")
    refuse(shared, "insert into recdb.scenario (name, experiment) values ('search', 'odd')", "odd has stopped")


def test_a_row_follows_the_new_name_of_its_experiment(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.experiment (name, scenario) values ('draft', 'mail')")
    shared.execute("insert into recdb.scenario (name, experiment) values ('home', 'draft')")
    followed = "select experiment from recdb.scenario where name = 'home'"
    shared.execute("update recdb.experiment set name = 'ready'")
    assert column(shared.execute(followed)) == ["ready"]
    shared.execute("delete from recdb.experiment")
    assert column(shared.execute(followed)) == [None]


def test_doctor_names_rows_of_old_that_keep_lists_from_their_experiment(shared: psycopg.Connection) -> None:
    start(shared, "odd", "home", ("usual", None, None), ("even", None, "steered"))
    assert "steering" not in findings(shared)
    for statement, said in (
        ("update recdb.scenario set experiment = 'gone' where name = 'home'", "experiment gone, which is not there"),
        ("delete from recdb.scenario where name = 'steered'", 'scenario "steered", which has no row'),
    ):
        shared.execute("set local session_replication_role = replica")
        shared.execute(statement)  # type: ignore[call-overload]
        shared.execute("set local session_replication_role = origin")
        found = find(shared, "steering")
        assert found.state == "warn" and found.fix is not None and said in found.message
        shared.execute(found.fix)
        assert "steering" not in findings(shared)


def test_a_variant_that_the_running_experiment_does_not_have_is_an_error(shared: psycopg.Connection) -> None:
    record = "select recdb.impressions('u1', '{i1}'::text[], 'home', variant => %s)"
    shared.execute(record, ["zzz"])  # The application's own: no experiment runs.
    start(shared, "odd", "home", ("usual", None, None), ("even", None, "steered"))
    for variant in ("usual", "even", None):
        shared.execute(record, [variant])
    refused = pytest.raises(psycopg.errors.InvalidParameterValue, match='experiment odd has no variant "zzz"')
    with refused, shared.transaction():
        shared.execute(record, ["zzz"])
    own = variants(shared, "odd")["u1"]
    recorded = "select experiment, variant from recdb.impression_new where user_id = 'u1' order by experiment, variant"
    of_odd = sorted([("odd", "even"), ("odd", "usual"), ("odd", own)])
    assert shared.execute(recorded).fetchall() == [*of_odd, (None, "zzz")]


def test_of_two_that_start_at_once_one_is_told_of_the_other(
    versions: psycopg.Connection, module_database: Database
) -> None:
    names = ("first", "second")
    for name in names:
        versions.execute("insert into recdb.experiment (name, scenario) values (%s, 'home')", [name])
        versions.execute(
            "insert into recdb.experiment_variant (experiment, name) values (%s, 'a'), (%s, 'b')", [name] * 2
        )
    said: list[str | None] = []

    def start_second() -> None:
        with psycopg.connect(module_database.conninfo, application_name="starter") as other:
            try:
                other.execute("select recdb.start_experiment('second')")
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                said.append(error.diag.message_primary)

    try:
        with psycopg.connect(module_database.conninfo) as one:
            one.execute("select recdb.start_experiment('first')")
            thread = Thread(target=start_second)
            thread.start()
            until(lambda: bool(said) or waits_for_a_lock(versions, "starter"))
            one.commit()
            thread.join()
        assert said == ["experiment second cannot start: experiment first runs on scenario home"]
    finally:
        versions.execute("delete from recdb.experiment where name = any (%s)", [list(names)])
        versions.execute("delete from recdb.scenario where name = 'home'")


def test_lists_and_figures_follow_the_same_experiment(shared: psycopg.Connection) -> None:
    """However its rows were written, and whatever happens to the row of the scenario meanwhile."""
    start(shared, "odd", "home", ("usual", None, None), ("even", None, "steered"))
    got = variants(shared, "odd")
    even = next(user for user in USERS if got[user] == "even")
    steered = recommend(shared, even, 8, scenario="steered")
    shared.execute("delete from recdb.scenario where name = 'home'")
    shared.execute("insert into recdb.scenario (name) values ('home')")
    assert recommend(shared, even, 8, scenario="home") == steered
    shared.execute("insert into recdb.scenario (name, experiment) values ('mail', 'odd')")
    assert recommend(shared, even, 8, scenario="mail") == steered
    shared.execute("select recdb.impressions(%s, '{i1}'::text[], 'mail')", [even])
    recorded = "select experiment, variant from recdb.impression_new where user_id = %s"
    assert shared.execute(recorded, [even]).fetchall() == [("odd", "even")]
    shared.execute("update recdb.experiment set stopped_at = now() where name = 'odd'")
    assert recommend(shared, even, 8, scenario="home") != steered


def test_an_experiment_needs_the_scenarios_of_its_variants(shared: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="names the scenario nowhere, which has no"):
        start(shared, "wrong", "home", ("a", None, "nowhere"), ("b", None, None))


def test_the_file_of_all_lists_follows_a_running_experiment(
    versions: psycopg.Connection, module_database: Database, tmp_path: Path
) -> None:
    (first,) = column(versions.execute("select label from recdb.models order by created_at limit 1"))
    start(versions, "file", "default", ("a", first, None), ("b", None, "steered"))
    recommend_all(module_database, str(tmp_path / "lists.csv"), k=5)
    with (tmp_path / "lists.csv").open() as file:
        written = [(row["user_id"], row["item_id"], row["model_version"]) for row in csv.DictReader(file)]
    expected = [(user, row[0], row[3]) for user in dict.fromkeys(user for user, *_ in written)
                for row in recommend(versions, user, 5)]  # fmt: skip
    versions.execute("select recdb.stop_experiment('file')")
    versions.execute("delete from recdb.experiment where name = 'file'")
    assert written == expected
    assert {user for user, *_ in written} >= set(USERS[:5])
    assert len({label for *_, label in written}) == 2
