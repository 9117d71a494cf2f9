"""What acted on a steered list: the reasons in it and the rows of explain() agree."""

from collections.abc import Iterator

import psycopg
import pytest
from support.data import recommend, record, tastes, train

from recdb.database import Database

OUTSIDE = ("explored", "pinned")
"""The sources that are no part of the score."""


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=40, items=60, per_user=9))
        connection.execute(
            "insert into recdb.item (item_id, attributes) select 'i' || n, jsonb_build_object('topic', n % 5) "
            "from generate_series(0, 59) n"
        )
        connection.execute("insert into recdb.scenario (name, explore) values ('curious', 0.3)")
        connection.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('open', 0.5, false)")
        train(module_database, neighbors=15)
        yield connection


@pytest.fixture(autouse=True)
def undone(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        connection.execute("insert into recdb.scenario (name) values ('here')")
        yield


def explain(connection: psycopg.Connection, item: str, user: str = "u6", scenario: str = "here") -> dict[str, float]:
    """By source; the sources of the model are in one row."""
    rows: dict[str, float] = {}
    for source, contribution in connection.execute(
        "select source, contribution from recdb.explain(%s, %s, scenario => %s)", [user, item, scenario]
    ):
        name = "model" if source in ("item", "neighbors", "content", "author") else source
        rows[name] = rows.get(name, 0) + contribution
    return rows


def add_up(rows: dict[str, float]) -> float:
    return sum(contribution for source, contribution in rows.items() if source not in OUTSIDE)


def rule(connection: psycopg.Connection, topic: int, **values: float) -> None:
    ((name, value),) = values.items()
    connection.execute(
        f"insert into recdb.rule (scenario, condition, {name}) values ('here', %s, %s)",  # type: ignore[call-overload]
        [f'{{"topic": {topic}}}', value],
    )


def test_boosted_is_an_item_that_the_rules_together_lift(connection: psycopg.Connection) -> None:
    for topic, factors in ((1, (3, 0.1)), (2, (3, 0.9)), (3, (2,))):
        for factor in factors:
            rule(connection, topic, factor=factor)
    seen = set()
    for item, score, reason, _ in recommend(connection, "u6", 60, scenario="here"):
        rows = explain(connection, item)
        assert add_up(rows) == pytest.approx(score, abs=1e-6)
        assert (reason == "boosted") == ("rule" in rows and rows["rule"] >= 0)
        seen.add((int(item[1:]) % 5, reason))
    assert {(1, "collaborative_filtering"), (2, "boosted"), (3, "boosted")} <= seen
    assert (1, "boosted") not in seen


def test_what_was_touched_and_stays_in_the_list_does_not_rotate(connection: psycopg.Connection) -> None:
    shown, touched = (row[0] for row in recommend(connection, "u6", 3)[1:])
    connection.execute("update recdb.scenario set rotation_rate = 0.9 where name = 'here'")
    connection.execute("select recdb.impressions('u6', array[%s, %s]::text[])", [shown, touched])
    connection.execute("select recdb.track('u6', %s, 'open')", [touched])
    scores = {row[0]: row[1] for row in recommend(connection, "u6", 60, scenario="here")}
    assert explain(connection, shown)["rotation"] < 0
    assert "rotation" not in explain(connection, touched)
    for item in (shown, touched):
        assert add_up(explain(connection, item)) == pytest.approx(scores[item], abs=1e-6)


@pytest.mark.parametrize(
    ("k", "arguments"),
    [(60, ""), (10, ", filter => '{\"topic\": 2}'"), (5, ", among => array['i1', 'i2', 'i3', 'i4', 'i8', 'i9']")],
)
@pytest.mark.parametrize("filter", ["null", "'{\"topic\": 2}'"])
def test_every_explored_item_has_its_number(
    connection: psycopg.Connection, k: int, arguments: str, filter: str
) -> None:
    connection.execute(f"update recdb.scenario set pool = 20, filter = {filter} where name = 'curious'")  # type: ignore[call-overload]
    rows = connection.execute(
        f"select item_id, reason from recdb.recommend('u6', {k}, scenario => 'curious', "  # type: ignore[call-overload]
        f"fallback => 'popular'{arguments})"
    ).fetchall()
    explored = [item for item, reason in rows if reason == "explored"]
    assert explored or "among" in arguments
    assert all(0 < explain(connection, item, scenario="curious")["explored"] < 1 for item in explored)


def test_popular_items_that_a_scenario_changes_are_explained(connection: psycopg.Connection) -> None:
    connection.execute("update recdb.scenario set fallback = 'popular' where name = 'here'")
    rule(connection, 2, factor=3)
    rule(connection, 3, factor=0.5)
    reasons = set()
    for item, score, reason, _ in recommend(connection, "nobody", 20, scenario="here"):
        rows = explain(connection, item, "nobody")
        assert set(rows) == ({"popular", "rule"} if int(item[1:]) % 5 in (2, 3) else set())
        assert not rows or add_up(rows) == pytest.approx(score, abs=1e-6)
        reasons.add(reason)
    assert reasons == {"boosted", "popular"}
    connection.execute("update recdb.scenario set fallback = 'none' where name = 'here'")
    assert explain(connection, item, "nobody") == {}


def test_a_pinned_item_has_its_place(connection: psycopg.Connection) -> None:
    rule(connection, 2, place=3)
    rows = recommend(connection, "u6", 5, scenario="here")
    assert rows[2][2] == "pinned"
    assert explain(connection, rows[2][0])["pinned"] == 3
    assert "pinned" not in explain(connection, next(row[0] for row in rows if int(row[0][1:]) % 5 != 2))
