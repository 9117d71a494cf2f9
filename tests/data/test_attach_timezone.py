"""Times without time zone: read in the zone that --timezone names; a wrong zone is noticed by the newest rows."""

from datetime import datetime

import psycopg
import pytest
from support.data import column
from typer.testing import CliRunner

from recdb.cli import app
from recdb.data.attach import attach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.doctor import examine
from recdb.errors import InvalidInput

BERLIN = parse_source("did user=who item=what kind=like at=at timezone=Europe/Berlin")


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_times_are_read_in_the_named_zone_in_summer_and_in_winter(
    database: Database, db: psycopg.Connection, kind: str
) -> None:
    db.execute(f"create table did (who text, what text, at {kind})")
    db.execute("insert into did values ('a', 'summer', '2025-07-01'), ('a', 'winter', '2025-12-01')")
    (found,) = attach(database, [BERLIN])
    assert found.mapping["timezone"] == "Europe/Berlin"
    read = "select item_id, to_char(created_at at time zone 'UTC', 'MM-DD HH24') from {} order by 1"
    expected = [("summer", "06-30 22"), ("winter", "11-30 23")]
    assert db.execute(read.format("recdb.interactions")).fetchall() == expected
    assert db.execute(read.format("recdb.interactions_of('a')")).fetchall() == expected
    if kind == "timestamp":
        assert {row["created_at"] for row in found.sample} == {"2025-06-30 22:00:00+00:00", "2025-11-30 23:00:00+00:00"}


def test_new_rows_are_found_in_the_hour_that_a_clock_shows_twice(database: Database, db: psycopg.Connection) -> None:
    """Berlin's clock went back from 3:00 to 2:00 at 1:00 UTC: a row of 2:10 may be newer than one of 2:50."""
    db.execute("create table did (who text, what text, at timestamp)")
    attach(database, [BERLIN])
    db.execute("insert into did values ('first', 'x', '2025-10-26 01:10'), ('second', 'x', '2025-10-26 02:10')")
    since = "select user_id from recdb.users_since('0', %s) order by 1"
    assert column(db.execute(since, [datetime.fromisoformat("2025-10-26T00:50Z")])) == ["second"]
    assert column(db.execute(since, [datetime.fromisoformat("2025-10-25T23:00Z")])) == ["first", "second"]
    assert column(db.execute(since, [datetime.fromisoformat("2025-10-26T02:00Z")])) == []


def test_an_items_publication_is_read_in_the_named_zone(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table post (id text primary key, at timestamp); insert into post values ('a', '2025-07-01')")
    attach(database, [Source("items", "post", {"item": "id", "published": "at", "timezone": "Asia/Tokyo"})])
    assert column(db.execute("select published_at at time zone 'UTC' from recdb.items")) == [datetime(2025, 6, 30, 15)]


@pytest.mark.parametrize("zone", ["Europe/Berlim", "+02", "2"])
def test_what_is_no_zone_is_refused(database: Database, db: psycopg.Connection, zone: str) -> None:
    db.execute("create table did (who text, what text, at timestamp)")
    with pytest.raises(InvalidInput, match="--timezone") as refused:
        attach(database, [parse_source(f"did user=who item=what kind=like at=at timezone={zone}")])
    assert "Europe/Berlin" in (refused.value.hint or "")


def test_the_option_holds_for_every_table_and_says_if_it_changes_nothing(
    database: Database, db: psycopg.Connection
) -> None:
    db.execute(
        "create table did (who text, what text, at timestamp); create table saw (who text, what text, at timestamptz)"
    )

    def run(options: str) -> str:
        options = f"attach --dry-run --user who --item what --kind-is like --at at --timezone Asia/Tokyo {options}"
        done = CliRunner().invoke(app, [*options.split(" ", 15), "--url", database.conninfo])
        assert done.exit_code == 0, done.output
        return done.output

    assert "timezone Asia/Tokyo" in run("--interactions did")
    assert "--timezone changes nothing" in run("--interactions saw")
    mixed = run("--interactions saw --also did user=who item=what kind=like at=at")
    assert mixed.count("timezone Asia/Tokyo") == 1 and "changes nothing" not in mixed


SHIFTS = {
    "two hours ahead": ("interval '2 hours'", "2 hours in the future"),
    "half an hour past": ("interval '5 hours 30 minutes'", "5.5 hours in the future"),
    "five hours behind": ("interval '-5 hours'", "5 hours old: has nobody written since, or is at in another zone"),
    "right": ("interval '0'", None),
    "a site that sleeps": ("interval '-3 hours -25 minutes'", None),
}


@pytest.mark.parametrize("what", SHIFTS)
def test_new_rows_that_are_off_by_hours_are_noticed(database: Database, db: psycopg.Connection, what: str) -> None:
    by, expected = SHIFTS[what]
    db.execute(
        "create table did (who text, what text, at timestamp); insert into did "
        "select n, n, now() at time zone 'UTC' - n * interval '7 seconds' from generate_series(1, 300) n"
    )
    source = parse_source("did user=who item=what kind=like at=at")
    db.execute(f"update did set at = at + {by}")
    (found,) = attach(database, [source])
    said = [remark for remark in found.warnings if "newest rows" in remark.message]
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        checks = [finding for finding in examine(connection) if finding.check == "clock"]
    assert bool(said) == bool(checks) == bool(expected)
    for message, fix in [(one.message, one.fix) for one in (*said, *checks)]:
        assert f"the newest rows of public.did are {expected}" in message
        assert "--timezone" in (fix or "")
    if what == "half an hour past":
        assert "Asia/Kolkata" in (said[0].fix or "")


def test_a_time_with_its_zone_is_never_behind_but_may_be_ahead(database: Database, db: psycopg.Connection) -> None:
    """Nobody wrote for two hours: that is no sign of another zone."""
    db.execute(
        "create table did (who text, what text, at timestamptz); insert into did "
        "select n, n, now() - interval '2 hours' - n * interval '7 seconds' from generate_series(1, 300) n"
    )
    source = parse_source("did user=who item=what kind=like at=at")
    (found,) = attach(database, [source])
    assert not [remark for remark in found.warnings if "newest rows" in remark.message]
    db.execute("update did set at = at + interval '4 hours'")
    (found,) = attach(database, [source])
    (said,) = [remark for remark in found.warnings if "newest rows" in remark.message]
    assert "2 hours in the future" in said.message and "sends local time as UTC" in (said.fix or "")
