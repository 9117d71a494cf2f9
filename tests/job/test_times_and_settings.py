"""No time and no setting stops a job or a list: what can never be right is refused, and the rest does no harm."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from support.data import recommend, record, tastes, train
from support.refreshing import refresh
from typer.testing import CliRunner

from recdb import job
from recdb.arrays.events import read_events
from recdb.cli import app
from recdb.data import load as loading
from recdb.data.attach import attach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.errors import InvalidInput
from recdb.tuning.tune import tune

STRANGE = {
    "milliseconds for seconds": "57872-10-01",
    "infinity": "infinity",
    "-infinity": "-infinity",
    "before Christ": "0044-03-15 BC",
    "the first date": "4713-01-01 BC",
    "the last date": "294276-12-31",
    "no time": "1970-01-01",
    "a wrong year": "2099-01-01",
    "a clock ahead": "tomorrow",
}


def store(db: psycopg.Connection, *times: str) -> None:
    """Store an interaction of a user of its own for each time, and one of each by u1."""
    for number, time in enumerate(times):
        db.execute(
            "insert into recdb.interaction (user_id, item_id, kind, created_at) "
            "values (%(user)s, 'i1', 'like', %(time)s), (%(user)s, 'i4', 'like', %(time)s), ('u1', %(item)s, 'like', "
            "%(time)s)",
            {"user": f"strange{number}", "time": time, "item": f"i{number}"},
        )


@pytest.mark.parametrize("half_life", [None, "1 hour", "30 days"])
@pytest.mark.parametrize("times", [[time] for time in STRANGE.values()] + [list(STRANGE.values())])
def test_a_time_that_cannot_be_right_stops_nothing(
    database: Database, db: psycopg.Connection, times: list[str], half_life: str | None
) -> None:
    db.execute("update recdb.config set half_life = %s::interval", [half_life])
    record(db, [[*row, f"2024-01-{1 + n % 28:02}"] for n, row in enumerate(tastes())])
    store(db, *times)
    refresh(db)
    train(database)
    assert recommend(db, "u1") and recommend(db, "u2") and recommend(db, "strange0")
    assert db.execute("select * from recdb.explain('u2', %s)", [recommend(db, "u2")[0][0]]).fetchall()
    store(db, *times)
    refresh(db)
    train(database)
    assert recommend(db, "strange0")
    (bad,) = db.execute(
        "select count(*) from recdb.user_item where last_at > now() or not weight between 0 and 1e300"
    ).fetchone() or [None]
    assert bad == 0


def test_the_order_of_the_others_survives_one_time_in_the_future(db: psycopg.Connection) -> None:
    record(db, [["u1", f"i{n}", "view", f"2024-01-{n:02}"] for n in range(1, 20)])
    refresh(db)
    before = read_events(db).seconds
    store(db, "57872-10-01")
    refresh(db)
    found = read_events(db).seconds
    assert len(set(before)) == 19 and len(set(found)) == 20
    assert found.max() == 0 and sorted(found - found.min())[:19] == sorted(before - before.min())


@pytest.mark.parametrize("times", [["infinity"], ["-infinity"], ["0044-03-15 BC"]])
def test_nothing_but_such_times(database: Database, db: psycopg.Connection, times: list[str]) -> None:
    db.execute("update recdb.config set half_life = '1 hour', decay_origin = '2001-01-01'")
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) select 'u' || n %% 9, 'i' || n %% 7, "
        "'like', %s::timestamptz from generate_series(1, 60) n",
        times,
    )
    train(database)
    db.execute("select recdb.track('u1', 'i9', 'like')")
    refresh(db)
    assert recommend(db, "u8", fallback="popular")


def test_tuning_and_a_file_of_lists_stand_such_times(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    record(db, [[*row, f"2024-01-{1 + n % 28:02}"] for n, row in enumerate(tastes())])
    store(db, *STRANGE.values())
    train(database)
    tune(database, seconds=1)
    for command in (
        ["recommend-all", str(tmp_path / "lists.csv")],
        ["evaluate", "--holdout", "7d", "--json"],
        ["doctor"],
        ["models"],
    ):
        done = CliRunner().invoke(app, [*command, "--url", database.conninfo])
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "time",
    ["57872-10-01", "infinity", "-infinity", "0044-03-15 BC", "1969-12-31 23:59:59+00", "2099-01-01"],
)
def test_track_refuses_a_time_that_cannot_be_meant(shared: psycopg.Connection, time: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="from 1970 until a day from now"):
        shared.execute("select recdb.track('u', 'i', 'like', %s::timestamptz)", [time])


@pytest.mark.parametrize("time", ["null", "now()", "now() + interval '23 hours'", "'1970-01-01 00:00:00+00'"])
def test_track_takes_a_clock_that_is_a_day_ahead(shared: psycopg.Connection, time: str) -> None:
    shared.execute(f"select recdb.track('u', 'i', 'like', {time})")


def test_a_file_with_such_a_time_is_refused_by_line(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "user_id,item_id,kind,created_at\nu,i,view,2024-01-01\nu,i,view,57872-10-01\nu,i,view,2099-01-01\n"
        f"u,i,view,1960-01-01\nu,i,view,0044-03-15 BC\nu,i,view,{datetime.now(UTC) + timedelta(hours=20)}\nu,i,view,\n"
    )
    with pytest.raises(InvalidInput) as raised:
        loading.load(database, str(path))
    message = str(raised.value)
    assert message.startswith("4 bad rows")
    for line, time in ((3, "57872-10-01"), (4, "2099-01-01"), (5, "1960-01-01"), (6, "0044-03-15 BC")):
        assert f"line {line}: created_at '{time}' is not from 1970 until a day from now" in message


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_attach_shows_such_times_and_reads_them(database: Database, db: psycopg.Connection, kind: str) -> None:
    furthest = "5874897-12-31" if kind == "date" else "57872-10-01"
    times = ["infinity", "-infinity", "0044-03-15 BC", furthest, "1970-01-01", "2099-01-01"]
    db.execute(f"create table did (u text, i text, at {kind})")
    db.execute(f"create table thing (id text primary key, at {kind}, note jsonb)")
    for number, time in enumerate(times):
        db.execute("insert into did select 'u' || n, 'i' || %s, %s from generate_series(1, 9) n", [number, time])
        db.execute("insert into thing values ('i' || %s, %s, '{\"a\": 1}')", [number, time])
    items = Source("items", "public.thing", {"item": "id", "published": "at", "attributes": "note"})
    found = attach(database, [parse_source("public.did user=u item=i kind='like' at=at"), items])
    shown = [row["created_at"] for row in found[0].sample] + [row["published_at"] for row in found[1].sample]
    assert "infinity" in shown and "-infinity" in shown and any("BC" in (time or "") for time in shown)
    job.run(database)
    db.execute("insert into did values ('u10', 'i2', now()), ('u10', 'i9', now())")
    refresh(db)
    assert {row[0] for row in recommend(db, "u10", fallback="popular")} == {"i1", "i4"}  # the others are not published


SETTINGS = {
    "default_weight": ["'NaN'", "'infinity'", "1e308", "-1e308", "1e-300"],
    "half_life": ["'0'", "'1 microsecond'", "'-1 day'", "'100000 years'"],
    "decay_origin": ["'infinity'", "'-infinity'"],
    "profile_limit": ["0", "2147483647"],
    "kept_models": ["0", "-1"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values])
def test_a_setting_that_can_never_be_right_is_refused(shared: psycopg.Connection, name: str, value: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        shared.execute(f"update recdb.config set {name} = {value}")


@pytest.mark.parametrize("weight", ["'NaN'", "'infinity'", "1e308", "1e-300"])
def test_so_is_such_a_weight_of_a_kind(shared: psycopg.Connection, weight: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        shared.execute(f"update recdb.interaction_kind set weight = {weight} where kind = 'view'")


@pytest.mark.parametrize("statement", ["delete from recdb.config", "truncate recdb.config"])
def test_a_deleted_row_of_settings_comes_back_with_the_defaults(
    database: Database, db: psycopg.Connection, statement: str
) -> None:
    record(db, tastes())
    train(database)
    before = recommend(db, "u1")
    db.execute("update recdb.config set default_weight = 7, listed_only = true")
    db.execute(statement)
    assert db.execute("select default_weight, listed_only from recdb.config").fetchall() == [(0.1, False)]
    assert recommend(db, "u1") == before
    refresh(db)
    train(database)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("half_life", ["1 second", "1 hour"])
def test_a_short_half_life_and_a_month_without_a_rebuild_overflow_nothing(
    database: Database, db: psycopg.Connection, half_life: str, exponent: float
) -> None:
    db.execute("update recdb.config set half_life = %s::interval", [half_life])
    db.execute("insert into recdb.interaction_kind (kind, weight) values ('huge', 1e6), ('tiny', -0.001)")
    record(db, [[*row, f"2024-01-{1 + n % 28:02}"] for n, row in enumerate(tastes())])
    train(
        database, neighbor_weight_exponent=exponent, people_weight_exponent=exponent, profile_weight_exponent=exponent
    )
    for kind in ("huge", "tiny", "like"):
        db.execute("select recdb.track('u1', 'i' || n, %s) from generate_series(0, 50) n", [kind])
        db.execute("select recdb.track('v' || n, 'i' || n, %s) from generate_series(0, 50) n", [kind])
    refresh(db)
    assert recommend(db, "u2") and recommend(db, "v1", fallback="popular")
    db.execute("select recdb.rebuild()")
    db.execute("select recdb.track('u1', 'i' || n, 'huge') from generate_series(0, 50) n")
    refresh(db)
    assert recommend(db, "u2") and recommend(db, "u1", fallback="popular")
    train(
        database, neighbor_weight_exponent=exponent, people_weight_exponent=exponent, profile_weight_exponent=exponent
    )


def test_an_edited_and_a_deleted_interaction(database: Database, db: psycopg.Connection) -> None:
    """The user's own list follows at once; everybody else's with the next full refresh."""
    record(db, tastes())
    train(database)
    (item,) = db.execute("select item_id from recdb.interaction where user_id = 'u1' limit 1").fetchone() or [None]
    query = "select exists (select from recdb.user_item_weights where user_id = 'u1' and item_id = %s)"
    assert item not in {row[0] for row in recommend(db, "u1", 1000)}
    db.execute("delete from recdb.interaction where user_id = 'u1' and item_id = %s", [item])
    assert item in {row[0] for row in recommend(db, "u1", 1000, fallback="popular")}
    refresh(db)
    assert db.execute(query, [item]).fetchone() == (True,)
    train(database)
    assert db.execute(query, [item]).fetchone() == (False,)
    db.execute("update recdb.interaction set item_id = %s where user_id = 'u1'", [item])
    assert item not in {row[0] for row in recommend(db, "u1", 1000, fallback="popular")}
    train(database)
    assert db.execute("select count(*) from recdb.user_item_weights where user_id = 'u1'").fetchone() == (1,)
