"""While an experiment runs on a scenario, lists follow the variant of their user."""

import csv
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train

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


def test_a_variant_without_its_scenario_gets_the_usual_list(shared: psycopg.Connection) -> None:
    usual = {user: recommend(shared, user, 8) for user in USERS}
    shared.execute("insert into recdb.scenario (name, filter) values ('short-lived', '{\"odd\": true}')")
    start(shared, "lost", "home", ("a", None, "short-lived"), ("b", None, None))
    assert any(recommend(shared, user, 8, scenario="home") != usual[user] for user in USERS)
    shared.execute("delete from recdb.scenario where name = 'short-lived'")
    assert all(recommend(shared, user, 8, scenario="home") == usual[user] for user in USERS)


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
