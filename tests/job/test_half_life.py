"""Half-lives belong to model versions: activating a version weights the interactions with its half-life."""

from collections.abc import Iterator

import psycopg
import pytest
from support.data import column, recommend, record, tastes
from typer.testing import CliRunner

from recdb import job
from recdb.cli import app
from recdb.database import Database


@pytest.fixture
def notices(db: psycopg.Connection) -> Iterator[list[str]]:
    """The notices that the server sends on the connection."""
    said: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        said.append(notice.message_primary or "")

    db.add_notice_handler(note)
    yield said
    db.remove_notice_handler(note)


def dated() -> list[list[str]]:
    """The interactions of tastes(), a day apart for each user."""
    return [[*row, f"2026-01-{number % 12 + 1:02d} 12:00+00"] for number, row in enumerate(tastes())]


def learn(database: Database) -> str:
    label = job.run(database, full=True, force=True).model
    assert label is not None
    return label


def half_life(db: psycopg.Connection) -> str | None:
    return column(db.execute("select half_life::text from recdb.config"))[0]


def weights(db: psycopg.Connection) -> list[object]:
    return db.execute("select user_id, item_id, weight from recdb.user_item_weights order by 1, 2").fetchall()


def test_rolling_back_and_forth_restores_each_versions_half_life(
    database: Database, db: psycopg.Connection, notices: list[str]
) -> None:
    record(db, dated())
    timeless = learn(database)
    weights_then, answer_then = weights(db), recommend(db, "u1")
    db.execute("update recdb.config set half_life = '2 days'")
    decaying = learn(database)
    weights_now, answer_now = weights(db), recommend(db, "u1")
    assert weights_now != weights_then and half_life(db) == "2 days"

    db.execute("select recdb.activate(%s)", [timeless])

    assert half_life(db) is None
    assert weights(db) == weights_then
    assert recommend(db, "u1") == answer_then
    assert len(notices) == 1 and "half_life is now null" in notices[0] and timeless in notices[0]

    db.execute("select recdb.activate(%s)", [decaying])

    assert half_life(db) == "2 days"
    assert weights(db) == weights_now
    assert recommend(db, "u1") == answer_now
    assert "half_life is now 2 days" in notices[1]


def test_a_half_life_set_by_hand_is_trained_with_and_stays(
    database: Database, db: psycopg.Connection, notices: list[str]
) -> None:
    record(db, dated())
    learn(database)
    db.execute("update recdb.config set half_life = '3 days'")

    label = learn(database)

    assert half_life(db) == "3 days"
    assert column(db.execute("select half_life::text from recdb.model where active")) == ["3 days"]
    rebuilt = column(db.execute("select count(*) from recdb.refresh_log where kind = 'rebuild'"))
    db.execute("select recdb.activate(%s)", [label])
    assert column(db.execute("select count(*) from recdb.refresh_log where kind = 'rebuild'")) == rebuilt
    assert notices == []


def test_versions_of_one_half_life_change_places_without_a_rebuild(
    database: Database, db: psycopg.Connection, notices: list[str]
) -> None:
    record(db, dated())
    first, _ = learn(database), learn(database)
    rebuilt = column(db.execute("select count(*) from recdb.refresh_log where kind = 'rebuild'"))

    db.execute("select recdb.activate(%s)", [first])

    assert column(db.execute("select label from recdb.models where active")) == [first]
    assert column(db.execute("select count(*) from recdb.refresh_log where kind = 'rebuild'")) == rebuilt
    assert notices == []


def test_an_activation_that_is_undone_leaves_everything(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())
    timeless = learn(database)
    db.execute("update recdb.config set half_life = '2 days'")
    decaying = learn(database)
    before = weights(db)

    with pytest.raises(ZeroDivisionError), db.transaction():
        db.execute("select recdb.activate(%s)", [timeless])
        assert recommend(db, "u1")[0][3] == timeless
        raise ZeroDivisionError

    assert column(db.execute("select label from recdb.models where active")) == [decaying]
    assert half_life(db) == "2 days" and weights(db) == before


def test_readers_go_on_while_an_activation_weights_again(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())
    timeless = learn(database)
    db.execute("update recdb.config set half_life = '2 days'")
    decaying = learn(database)

    with psycopg.connect(database.conninfo) as other:
        other.execute("select recdb.activate(%s)", [timeless])
        db.execute("set lock_timeout = '1ms'")
        assert {row[3] for row in recommend(db, "u1")} == {decaying}
    assert {row[3] for row in recommend(db, "u1")} == {timeless}


@pytest.mark.parametrize("origin", ["2016-01-01", "2036-01-01"])
def test_half_lives_far_from_the_origin_train_and_rank_alike(
    database: Database, db: psycopg.Connection, origin: str
) -> None:
    """As after years, or with old data: hundreds of half-lives lie between the interactions and the origin."""
    record(db, dated())
    db.execute("update recdb.config set half_life = '5 days', decay_origin = '2026-01-12'")
    learn(database)
    near = {item: score for item, score, *_ in recommend(db, "u1")}

    db.execute("update recdb.config set decay_origin = %s", [origin])
    learn(database)

    assert {item: score for item, score, *_ in recommend(db, "u1")} == pytest.approx(near, rel=1e-3)


def test_the_command_tells_of_the_half_life(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())
    timeless = learn(database)
    db.execute("update recdb.config set half_life = '2 days'")
    learn(database)

    said = CliRunner().invoke(app, ["activate", timeless, "--url", database.conninfo]).output

    assert "config.half_life is now null" in said and f"{timeless} serves now" in said
    assert half_life(db) is None
