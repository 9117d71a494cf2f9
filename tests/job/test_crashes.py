"""kill -9 of every command at every named point: the old version serves on, and the next run heals by itself."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.drift import year
from support.nights import die_at, last_runs, remains

from recdb import everyone, faults, job, migrate
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database
from recdb.learn import Params

PACKAGE = Path(faults.__file__).parent
# After these points the transaction that publishes has committed.
PUBLISHED = ("published", "caught up")
TRACED = {
    "rebuild begun": "rebuild",
    **dict.fromkeys(faults.POINTS["training"][2:12], "train"),
}


def test_every_point_is_listed_and_reached() -> None:
    named = {point for points in faults.POINTS.values() for point in points}
    reached = [
        point for file in PACKAGE.rglob("*.py") for point in re.findall(r'^\s+reach\("(.+?)"\)', file.read_text(), re.M)
    ]
    assert sorted(reached) == sorted(named)


def lists(db: psycopg.Connection) -> list[object]:
    return [recommend(db, f"u{number}", fallback="popular") for number in range(0, 40, 7)]


@pytest.mark.parametrize("point", [*faults.POINTS["training"], faults.POINTS["refresh"][0]])
def test_a_training_killed_anywhere(database: Database, db: psycopg.Connection, point: str) -> None:
    record(db, tastes())
    db.execute("update recdb.config set kept_models = 1")
    train(database), train(database)
    before = lists(db)

    die_at(point, database, "refresh", "--full")

    label = column(db.execute("select label from recdb.models where active"))[0]
    assert label == f"collaborative_filtering_v{3 if point in PUBLISHED else 2}"
    if point not in PUBLISHED:
        assert lists(db) == before
    if kind := TRACED.get(point):
        assert last_runs(db)[kind] == "lost"
        assert db.execute("select failing, last_error like '%stopped%' from recdb.health").fetchone() == ([kind], True)

    assert job.run(database).ran
    assert remains(db) == {}
    if kind := TRACED.get(point):
        states = column(db.execute("select state from recdb.refresh_log where kind = %s order by run_id", [kind]))
        assert states == ["succeeded", "succeeded", "lost"]
    assert job.run(database, full=True, force=True).model is not None
    assert remains(db) == {}
    assert db.execute("select failing from recdb.health").fetchone() == (None,)
    assert lists(db)


@pytest.mark.parametrize("point", faults.POINTS["refresh"])
def test_a_refresh_killed_anywhere(database: Database, db: psycopg.Connection, point: str) -> None:
    record(db, tastes())
    train(database)
    before = lists(db)
    db.execute("select recdb.track('u50', 'i1', 'like')")

    die_at(point, database, "refresh")

    if point != "after refresh":
        assert lists(db) == before
    assert job.run(database).ran
    assert remains(db) == {}
    assert column(db.execute("select item_id from recdb.user_item_weights where user_id = 'u50'")) == ["i1"]


@pytest.mark.parametrize("point", faults.POINTS["tuning"])
def test_a_tuning_killed_anywhere_leaves_no_other_half_life(
    database: Database, db: psycopg.Connection, point: str
) -> None:
    record(db, year(drifting=True))
    train(database)
    before = lists(db)

    die_at(point, database, "tune", "--budget", "12s")

    activated = point == "best version activated"
    assert last_runs(db)["tune"] == "lost"
    assert column(db.execute("select count(*) from recdb.models where active")) == [1]
    assert job.run(database).ran
    assert remains(db) == {}
    (half_life,) = column(db.execute("select half_life is not null from recdb.config"))
    (trained_with,) = column(db.execute("select half_life is not null from recdb.model where active"))
    assert half_life == trained_with
    if not activated:
        assert not half_life
        assert lists(db) == before
    assert job.run(database, full=True, force=True).model is not None


@pytest.mark.parametrize("point", faults.POINTS["activation"])
def test_an_activation_killed_anywhere(database: Database, db: psycopg.Connection, point: str) -> None:
    record(db, tastes())
    first, second = train(database), train(database)

    die_at(point, database, "activate", first)

    serving = second if point == "before activating" else first
    assert column(db.execute("select label from recdb.models where active")) == [serving]
    assert last_runs(db)["activate"] == "lost"
    job.activate(database, second, lambda line: None)
    assert remains(db) == {}
    assert last_runs(db)["activate"] == "succeeded"
    assert {row[3] for row in recommend(db, "u1")} == {second}


@pytest.mark.parametrize("point", faults.POINTS["recommend-all"])
def test_everybodys_lists_killed_anywhere_leave_the_old_file(
    database: Database, db: psycopg.Connection, tmp_path: Path, point: str
) -> None:
    record(db, tastes())
    train(database)
    file = tmp_path / "lists.csv"
    everyone.recommend_all(database, str(file), k=5)
    before = file.read_text()

    die_at(point, database, "recommend-all", str(file), "-k", "5")

    assert file.read_text() == before
    everyone.recommend_all(database, str(file), k=5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lists.csv"]
    assert sorted(file.read_text().splitlines()) == sorted(before.splitlines())


@pytest.mark.parametrize("point", faults.POINTS["attach"])
def test_an_attach_killed_anywhere(database: Database, db: psycopg.Connection, point: str) -> None:
    record(db, tastes())
    train(database)
    before = lists(db)
    db.execute("create table seen (who text, what text, how text, at timestamptz)")
    db.execute("insert into seen values ('u1', 'i1', 'like', now()), ('u77', 'i3', 'like', now())")
    options = ("--interactions", "seen", "--user", "who", "--item", "what", "--kind", "how", "--at", "at")

    die_at(point, database, "attach", *options)

    attached = column(db.execute("select relation from recdb.attachment"))
    assert attached == (["public.seen"] if point == "attached" else [])
    if not attached:
        assert lists(db) == before
    mapping = {"user": "who", "item": "what", "kind": "how", "at": "at"}
    attach(database, [Source("interactions", "seen", mapping)])
    assert column(db.execute("select count(*) from pg_views where viewname like 'attached%'")) == [0]
    assert job.run(database).ran
    assert remains(db) == {}
    assert column(db.execute("select count(*) from recdb.interactions where user_id = 'u77'")) == [1]


@pytest.mark.parametrize("point", faults.POINTS["uninstall"])
def test_an_uninstall_killed_changes_nothing(database: Database, db: psycopg.Connection, point: str) -> None:
    record(db, tastes())
    train(database)
    before = lists(db)

    die_at(point, database, "uninstall", "--yes")

    assert lists(db) == before
    assert job.run(database, full=True).model is not None
    assert remains(db) == {}


@pytest.mark.parametrize("installed", [True, False], ids=["replay", "install"])
@pytest.mark.parametrize("point", faults.POINTS["init"])
def test_an_installation_killed_anywhere(empty_database: Callable[[], Database], point: str, installed: bool) -> None:
    database = empty_database()
    if installed:
        migrate.upgrade(database)
        with psycopg.connect(database.conninfo) as db:
            record(db, tastes())
        train(database)

    die_at(point, database, "init")

    with psycopg.connect(database.conninfo, autocommit=True) as db:
        if installed:
            assert recommend(db, "u1")
        else:
            assert column(db.execute("select count(*) from pg_namespace where nspname = 'recdb'")) == [0]
        migrate.upgrade(database)
        assert remains(db) == {}
        record(db, [("u1", "i1", "like")])
        assert job.run(database, params=Params()).ran
