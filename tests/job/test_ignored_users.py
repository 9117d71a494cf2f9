"""A user in recdb.ignored_user counts in nobody else's list, until the row is deleted."""

from typing import Any

import psycopg
from support.data import recommend, record, tastes, train
from support.refreshing import refresh, weights
from typer.testing import CliRunner

from recdb import job
from recdb.arrays.events import read_events
from recdb.cli import app
from recdb.database import Database

CRAWLED = [["crawler", f"i{n % 6}", "view"] for n in range(1500)]


def learned(db: psycopg.Connection) -> dict[str, Any]:
    """What others' lists are made of: weights, vectors and popularity."""
    return {
        "weights": {key: weight.expected for key, weight in weights(db).items()},
        "vectors": sorted(db.execute("select user_id, model from recdb.user_vectors").fetchall()),
        "popularity": sorted(db.execute("select item_id, weight, users from recdb.item_popularity").fetchall()),
    }


def users(state: dict[str, Any]) -> set[str]:
    return {user for user, _ in state["weights"]} | {user for user, _ in state["vectors"]}


def test_an_ignored_user_is_out_with_the_next_refresh_and_back_with_the_one_after(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    record(db, CRAWLED)
    train(database)
    before = learned(db)
    own = recommend(db, "crawler")
    assert "crawler" in users(before) and own

    db.execute("insert into recdb.ignored_user (user_id, reason) values ('crawler', 'no person')")
    assert learned(db) == before
    refresh(db)
    without = learned(db)
    assert "crawler" not in users(without)
    assert sum(row[2] for row in without["popularity"]) == sum(row[2] for row in before["popularity"]) - 6
    assert {row[0] for row in recommend(db, "crawler")} == {row[0] for row in own}
    assert "crawler" not in {row[0] for row in db.execute("select neighbor_id from recdb.neighbors('u0', 50)")}

    db.execute("select recdb.track('crawler', 'i9', 'view')")
    refresh(db)
    assert learned(db) == without

    db.execute("delete from recdb.ignored_user")
    refresh(db)
    after = learned(db)
    assert after["vectors"] == before["vectors"]
    assert after["weights"].keys() == before["weights"].keys() | {("crawler", "i9")}


def test_a_rebuild_and_a_training_leave_the_ignored_out_as_if_they_had_no_rows(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    train(database)
    clean = learned(db), recommend(db, "u0")
    record(db, CRAWLED)
    db.execute("insert into recdb.ignored_user (user_id) values ('crawler')")
    train(database)
    found = learned(db)
    assert found["weights"] == clean[0]["weights"] and found["popularity"] == clean[0]["popularity"]
    assert [row[:2] for row in recommend(db, "u0")] == [row[:2] for row in clean[1]]
    assert len(read_events(db).users) == len(tastes())

    db.execute("truncate recdb.ignored_user")
    train(database)
    assert "crawler" in users(learned(db))
    db.execute("insert into recdb.ignored_user (user_id) values ('crawler')")
    db.execute("select recdb.rebuild()")
    assert "crawler" not in users(learned(db))


def test_leaving_out_who_has_most_of_the_interactions_is_no_loss(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    record(db, [["crawler", f"page-{number}", "view"] for number in range(3000)])
    train(database)
    db.execute("insert into recdb.ignored_user (user_id) values ('crawler')")
    assert job.run(database, full=True).model == "collaborative_filtering_v2"
    assert "crawler" not in users(learned(db))
    db.execute("delete from recdb.ignored_user")
    db.execute("call recdb.refresh()")
    assert "crawler" in users(learned(db))


def test_forgetting_a_user_erases_the_id_here_too(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    db.execute("insert into recdb.ignored_user (user_id) values ('u1')")
    db.execute("select recdb.forget_user('u1')")
    for table in ("ignored_user", "changed_user", "user_key"):
        assert db.execute(f"select count(*) from recdb.{table} where user_id = 'u1'").fetchone() == (0,)


def test_a_training_names_who_holds_more_than_a_fair_share(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    record(db, CRAWLED)
    record(db, [["it's a bot", f"i{n % 40}", "like"] for n in range(1000)])
    done = CliRunner().invoke(app, ["refresh", "--full", "--url", database.conninfo])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert [("crawler" in line, "it's a bot" in line) for line in lines] == [(True, False), (False, True)]
    assert "'crawler' holds 50% of all interactions (1,500)" in lines[0]
    for line in lines:
        db.execute(line.partition("if this is no person: ")[2])
    done = CliRunner().invoke(app, ["refresh", "--full", "--url", database.conninfo])
    assert done.exit_code == 0 and "warning" not in done.stderr
    assert users(learned(db)) == {row[0] for row in tastes()}


def test_an_even_crowd_holds_fair_shares(db: psycopg.Connection) -> None:
    record(db, [[f"u{n % 30}", f"i{n % 77}", "view"] for n in range(30 * 1200)])
    assert db.execute("select * from recdb.heavy_users()").fetchall() == []
