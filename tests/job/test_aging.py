"""Logs that age: partitions by time are made and joined under load and over any crash, and retention forgets."""

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from support.aging import Writers, everything, lists, schema_of, spread, whole
from support.attached import owned_by_librarian
from support.data import column, recommend, train
from support.doctor import find
from support.nights import die_at, remains
from support.waiting import until, waits_for_a_lock

from recdb import faults, migrate
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError
from recdb.job.aging import partition

POINTS = faults.POINTS["partitioning"]


def test_partitions_and_back_leave_everything_as_it_was(database: Database, db: psycopg.Connection) -> None:
    spread(db)
    db.execute("select recdb.track('u1', 'i2', 'like', null, '{\"a\": 1}', 2.5)")
    db.execute("create view public.counted as select count(*) as n from recdb.interaction")
    db.execute("create role aging_reader")
    db.execute("grant usage on schema recdb to aging_reader")
    db.execute("grant select, insert on recdb.interaction to aging_reader with grant option")
    train(database, dimension=8)
    rows, shape, before = everything(db), schema_of(db), lists(db)
    trending = db.execute("select * from recdb.trending(20, '30 days')").fetchall()

    made = partition(database, "month")

    assert (made.every, made.rows) == ("month", len(rows)) and made.partitions >= 7
    assert everything(db) == rows and lists(db) == before and whole(db)
    assert db.execute("select * from recdb.trending(20, '30 days')").fetchall() == trending
    assert db.execute("select n from public.counted").fetchone() == (len(rows),)
    assert migrate.upgrade(database) == []  # a replay finds everything at its place
    (new,) = db.execute("select recdb.track('u1', 'i3', 'like')").fetchone() or (0,)
    assert new > max(row[0] for row in rows)
    db.execute("set role aging_reader")
    db.execute("insert into recdb.interaction (user_id, item_id, kind) values ('u2', 'i2', 'view')")
    db.execute("reset role")
    assert partition(database, "month").steps == []
    with pytest.raises(RecdbError, match="partitioned by month"):
        partition(database, "week")

    db.execute("delete from recdb.interaction where interaction_id >= %s", [new])
    made = partition(database, None, undo=True)

    assert (made.every, made.partitions) == (None, 0)
    assert everything(db) == rows and lists(db) == before and whole(db)
    assert schema_of(db) == shape
    assert partition(database, None, undo=True).steps == []
    db.execute("drop owned by aging_reader")
    db.execute("drop role aging_reader")


def test_nothing_is_lost_or_doubled_under_writers(database: Database, db: psycopg.Connection) -> None:
    """Nor fails a reader or a writer, while partitions are made, packed, and joined."""
    spread(db)
    train(database, dimension=8)
    start = column(db.execute("select max(interaction_id) from recdb.interaction"))[0]

    with Writers(database) as writers:
        partition(database, "week")
        db.execute("call recdb.refresh()")
        partition(database, None, undo=True)
        partition(database, "month")

    assert column(
        db.execute("select interaction_id from recdb.interaction where interaction_id > %s order by 1", [start])
    ) == writers.expected()  # fmt: skip
    assert column(db.execute("select count(*) from recdb.interaction where interaction_id <= %s", [start])) == [2400]
    assert whole(db)
    # What came meanwhile is found by a refresh, as everything that is new.
    db.execute("call recdb.refresh()")
    live = "select sum(weight) from (select distinct user_id from recdb.interaction) u, recdb.profile_of(u.user_id)"
    (expected,) = column(db.execute(live))
    assert column(db.execute("select sum(weight) from recdb.user_item_weights")) == [pytest.approx(expected)]


@pytest.mark.parametrize(("point", "undo"), [*((point, False) for point in POINTS), *((p, True) for p in POINTS[1::2])])
def test_a_partitioning_killed_anywhere_goes_on(
    database: Database, db: psycopg.Connection, point: str, undo: bool
) -> None:
    spread(db, months=4)
    if undo:
        partition(database, "month")
    arguments = ["--undo"] if undo else ["--every", "month"]
    rows = everything(db)

    die_at(point, database, "partition", *arguments)

    assert everything(db) == rows
    # A row comes, one changes and one goes, before the next run goes on.
    db.execute("select recdb.track('u3', 'i3', 'like', now() - interval '60 days')")
    db.execute("update recdb.interaction set kind = 'share' where interaction_id = 7")
    db.execute("delete from recdb.interaction where interaction_id = 11")
    rows = everything(db)

    made = partition(database, None if undo else "month", undo=undo)

    assert made.every == (None if undo else "month")
    assert everything(db) == rows and whole(db) and remains(db) == {}


def test_what_has_not_ended_is_taken_back(database: Database, db: psycopg.Connection) -> None:
    spread(db)
    rows, shape = everything(db), schema_of(db)
    die_at("part copied", database, "partition", "--every", "month")
    with pytest.raises(RecdbError, match="has not ended"):
        partition(database, "week")
    found = find(db, "partitions")
    assert (found.state, found.fix) == ("warn", "recdb partition --every month")

    made = partition(database, None, undo=True)

    assert made.steps == ["take back the partitioning that has not ended"]
    assert everything(db) == rows and schema_of(db) == shape and whole(db)


def test_a_truncated_store_begins_again(database: Database, db: psycopg.Connection) -> None:
    spread(db)
    die_at("store copied", database, "partition", "--every", "month")
    db.execute("truncate recdb.interaction")
    db.execute("select recdb.track('u3', 'i3', 'like')")
    rows = everything(db)

    partition(database, "month")

    assert everything(db) == rows and len(rows) == 1 and whole(db)


def test_a_swap_waits_for_readers_and_lets_others_go_on(database: Database, db: psycopg.Connection) -> None:
    spread(db, months=2)
    reader = psycopg.connect(database.conninfo)
    reader.execute("select count(*) from recdb.interaction")
    failed: list[Exception] = []

    def run() -> None:
        try:
            partition(database, "month")
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: waits_for_a_lock(db) or failed)
    for number in range(30):
        db.execute("select recdb.track('u1', %s, 'view')", [f"i{number}"])
        recommend(db, "u1")
    assert not failed and thread.is_alive()
    reader.close()
    thread.join()
    assert not failed and whole(db)


def test_a_snapshot_from_before_is_waited_for(database: Database, db: psycopg.Connection) -> None:
    """A transaction that cannot see the copied rows would find the store empty."""
    spread(db, months=2)
    with psycopg.connect(database.conninfo) as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        with pytest.raises(RecdbError, match="is still open"):
            partition(database, "month", patience=0)
        assert column(old.execute("select count(*) from recdb.interaction")) == [960]
        with pytest.raises(RecdbError, match="has been in use by process"):  # it has read the store now
            partition(database, None, undo=True, patience=0)
    partition(database, "month")
    assert len(everything(db)) == 960 and whole(db)


@pytest.fixture
def monthly(database: Database, db: psycopg.Connection) -> Iterator[Database]:
    spread(db)
    partition(database, "month")
    yield database


def test_rows_of_any_time_land_rightly(monthly: Database, db: psycopg.Connection) -> None:
    for moment in ("now()", "now() - interval '3 months'", "'1971-01-01'", "now() + interval '20 hours'"):
        db.execute(f"select recdb.track('x', 'i1', 'like', {moment})")
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) values ('x', 'i2', 'like', 'infinity'), "
        "('x', 'i3', 'like', '-infinity'), ('x', 'i4', 'like', now() + interval '100 days')"
    )
    in_rest = "select item_id from recdb.interaction_rest order by 1"

    assert column(db.execute(in_rest)) == ["i1", "i2", "i3", "i4"]
    assert len(column(db.execute("select item_id from recdb.interactions_of('x')"))) == 7


def test_a_refresh_makes_partitions_ahead_and_takes_their_rows(monthly: Database, db: psycopg.Connection) -> None:
    """As if two months had passed: the newest partitions are gone, and their rows are in the one for the rest."""
    names = column(db.execute("select name from recdb.interaction_partitions() order by starts"))
    for name in names[-3:]:
        db.execute(f"drop table recdb.{name}")
    db.execute("select recdb.track('late', 'i1', 'like')")
    assert column(db.execute("select user_id from recdb.interaction_rest")) == ["late"]
    assert (find(db, "partitions").state, find(db, "partitions").fix) == ("warn", "recdb refresh")

    db.execute("call recdb.refresh()")

    assert column(db.execute("select name from recdb.interaction_partitions() order by starts")) == names
    assert column(db.execute("select count(*) from recdb.interaction_rest")) == [0]
    assert column(db.execute("select item_id from recdb.interactions_of('late')")) == ["i1"]
    assert find(db, "partitions").state == "ok"
    indexes = "select count(*) from pg_index where indrelid in (%s::regclass, %s::regclass) group by indrelid"
    assert column(db.execute(indexes, [f"recdb.{name}" for name in names[-2:]])) == [4, 4]


def test_a_row_waits_for_its_new_partition_and_lands_there(monthly: Database, db: psycopg.Connection) -> None:
    """As after months without a refresh: what is recorded meanwhile belongs to the partition that the refresh makes."""
    names = column(db.execute("select name from recdb.interaction_partitions() order by starts"))
    for name in names[-3:]:
        db.execute(f"drop table recdb.{name}")
    failed: list[Exception] = []

    def writer() -> None:
        try:
            with psycopg.connect(monthly.conninfo) as connection:
                connection.execute("select recdb.track('late', 'i1', 'like')")
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=writer)
    with psycopg.connect(monthly.conninfo) as refreshing:
        refreshing.execute("select recdb.add_interaction_partitions()")
        thread.start()
        until(lambda: waits_for_a_lock(db, ""))
    thread.join()

    assert failed == []
    assert column(db.execute("select user_id from recdb.interaction_rest")) == []
    assert column(db.execute("select item_id from recdb.interactions_of('late')")) == ["i1"]


def test_a_dump_of_the_schema_alone_keeps_its_partitions(monthly: Database, db: psycopg.Connection) -> None:
    db.execute("truncate recdb.interaction, recdb.partitioning, recdb.alembic_version")

    assert "begins again" in migrate.upgrade(monthly)[0]

    assert column(db.execute("select every from recdb.partitioning")) == ["month"]
    assert find(db, "partitions").state == "ok"


def test_on_postgres_16(older_database: Callable[[], Database]) -> None:
    """Where a partition has no identity of its own."""
    database = older_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        spread(db, months=4)
        rows, shape = everything(db), schema_of(db)
        with Writers(database) as writers:
            partition(database, "month")
        db.execute("update recdb.config set retention = '40 days'")
        db.execute("call recdb.refresh()")
        db.execute("update recdb.config set retention = null")
        assert len(everything(db)) < len(rows) + len(writers.expected())
        partition(database, None, undo=True)
        assert schema_of(db) == shape and whole(db)


@pytest.mark.parametrize("point", ["", "part copied", "swap made"])
def test_partitions_that_have_ended_are_packed(monthly: Database, db: psycopg.Connection, point: str) -> None:
    """Rows that came late into an ended month: it is written again in the order of its users."""
    rows = everything(db)
    (name,) = column(
        db.execute("select name from recdb.interaction_partitions() where packed order by starts desc limit 1")
    )
    db.execute(f"drop index recdb.{name}_user")
    db.execute(f"create index {name}_user on recdb.{name} (user_id, created_at) include (item_id, kind, value)")
    if point:
        die_at(point, monthly, "partition", "--every", "month")
        db.execute(f"update recdb.{name} set kind = 'share' where interaction_id = (select min(interaction_id) "
                   f"from recdb.{name})")  # fmt: skip
        rows = everything(db)

    if point:
        partition(monthly, "month")
    else:  # the nightly job does it too
        train(monthly, dimension=8)

    assert column(db.execute("select packed from recdb.interaction_partitions() where name = %s", [name])) == [True]
    assert everything(db) == rows and whole(db)
    assert partition(monthly, "month").steps == []


@pytest.mark.parametrize(
    ("statement", "obstacle"),
    [
        ("create table public.note (id bigint references recdb.interaction)", "foreign key"),
        ("create index by_metadata on recdb.interaction using gin (metadata)", "index recdb.by_metadata"),
        ("create materialized view public.m as select user_id from recdb.interaction", "materialized view public.m"),
        ("create policy mine on recdb.interaction using (true)", "policy mine"),
        ("create publication out_ for table recdb.interaction", "publication out_"),
        ("create trigger t before insert on recdb.interaction for each row "
         "execute function suppress_redundant_updates_trigger()", "trigger t"),
        ("create table public.t (u text); create policy p on public.t using "
         "(exists (select from recdb.interaction i where i.user_id = u))", "policy p on table public.t"),
        ("create table public.t (u text); create rule r as on insert to public.t do also "
         "delete from recdb.interaction i where i.user_id = new.u", "rule r on table public.t"),
        ("create function public.f(i recdb.interaction) returns text language sql as 'select $1.user_id'",
         r"function public.f\(recdb.interaction\)"),
        ("create function public.f() returns setof recdb.interaction begin atomic select * from recdb.interaction; end",
         r"function public.f\(\)"),
        ("create table public.t (i recdb.interaction)", "column i of table public.t"),
        ("create table public.t (i recdb.interaction[])", "column i of table public.t"),
        ("create view public.v as select i from recdb.interaction i", "column i of view public.v"),
        ("create table public.t () inherits (recdb.interaction)", "table public.t"),
        ("create table public.t (n bigint default nextval('recdb.interaction_interaction_id_seq'))", "public.t"),
        ("create view public.v as select interaction_id, user_id from recdb.interaction group by interaction_id",
         "view public.v"),
        ("create temporary view v as select user_id from recdb.interaction", "view pg_temp.*v of role"),
    ],
)  # fmt: skip
def test_what_would_not_go_with_it_is_named(
    database: Database, db: psycopg.Connection, statement: str, obstacle: str
) -> None:
    db.execute("set client_min_messages = error")
    db.execute(statement)
    with pytest.raises(RecdbError, match=obstacle):
        partition(database, "month")
    assert whole(db)


def test_what_is_made_again_goes_there_and_back(database: Database, db: psycopg.Connection) -> None:
    spread(db, months=2)
    db.execute("create view public.v as select row_to_json(i) as j, (null::recdb.interaction).kind from "
               "recdb.interaction i; create view public.v2 as select count(*) as n from public.v")  # fmt: skip
    db.execute("create function public.f() returns bigint begin atomic select count(i) from recdb.interaction i; end")

    partition(database, "month")
    partition(database, None, undo=True)

    assert db.execute("select n, public.f() from public.v2").fetchone() == (960, 960)


def test_what_the_owner_may_not_replace_is_named(db: psycopg.Connection) -> None:
    """Views and functions of a role that recdb's owner may not act as, before anything is copied."""
    with owned_by_librarian(db) as librarian:
        spread(db, months=2)
        db.execute("create schema reports; create view reports.v as select user_id from recdb.interaction")
        db.execute("create function public.f() returns bigint "
                   "begin atomic select count(*) from recdb.interaction; end")  # fmt: skip
        named = rf"(?s)function public\.f\(\) of role {db.info.user}.*view reports\.v of role {db.info.user}"
        with pytest.raises(RecdbError, match=named):
            partition(librarian, "month")
        assert whole(db)
        # A role that it is a member of, in a schema where it may create.
        db.execute("drop function public.f(); alter view reports.v owner to librarian")
        with pytest.raises(RecdbError, match=r"view reports\.v of role librarian"):
            partition(librarian, "month")
        db.execute("grant create, usage on schema reports to librarian")
        assert partition(librarian, "month").rows == 960
        assert column(db.execute("select count(*) from reports.v")) == [960]


@pytest.mark.parametrize(("every", "undo"), [(None, False), ("month", True), ("year", False)])
def test_wrong_usage_is_refused(database: Database, every: str | None, undo: bool) -> None:
    with pytest.raises(InvalidInput):
        partition(database, every, undo=undo)


def test_default_privileges_grant_nothing(database: Database, db: psycopg.Connection) -> None:
    """Nor to a new table, nor to a partition, nor to a sequence: the grants are those of the old table."""
    spread(db, months=3)
    db.execute("create role aging_rep")
    db.execute('create role "Aging other"')
    db.execute('grant select (user_id), insert on recdb.interaction to "Aging other"')
    db.execute('grant usage on sequence recdb.interaction_interaction_id_seq to "Aging other"')
    db.execute("alter default privileges grant select on tables to aging_rep, public")
    db.execute("alter default privileges grant all on sequences to aging_rep")
    grants = (
        "select c.relname, a.grantee::regrole::text, a.privilege_type from pg_class c, aclexplode(c.relacl) a "
        "where c.relnamespace = 'recdb'::regnamespace and a.grantee <> c.relowner "
        "and c.relname ~ '^(interaction|impression|(user|item)_(vector|neighbor)_)' order by 1, 2, 3"
    )
    before = db.execute(grants).fetchall()
    assert len(before) >= 4
    try:
        partition(database, "month")
        newest = column(db.execute("select name from recdb.interaction_partitions() order by starts desc"))[0]
        db.execute(f"drop table recdb.{newest}")
        db.execute("select recdb.impressions('u1', array['i1', 'i2'])")
        train(database, dimension=8)
        (packed, *_) = column(db.execute("select name from recdb.interaction_partitions() order by starts"))
        db.execute(f"drop index recdb.{packed}_user")
        assert partition(database, "month").steps
        assert db.execute(grants).fetchall() == before
        partition(database, None, undo=True)
        assert db.execute(grants).fetchall() == before
    finally:
        db.execute("alter default privileges revoke select on tables from aging_rep, public")
        db.execute("alter default privileges revoke all on sequences from aging_rep")
        db.execute('drop owned by aging_rep, "Aging other"')
        db.execute('drop role aging_rep, "Aging other"')
