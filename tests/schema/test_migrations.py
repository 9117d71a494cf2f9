"""Installing and upgrading: every way gives the same schema, and an install that cannot work fails with a reason."""

import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import alembic.script
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.data import column, recommend, record, tastes
from support.outside import catalogue, dump_schema
from support.servers import Server, since

from recdb import job, migrate
from recdb.database import Database
from recdb.errors import InvalidInput, NotInstalled, RecdbError

Make = Callable[[], Database]

PROJECT = Path(__file__).parents[2]
SCRIPTS = alembic.script.ScriptDirectory(PROJECT / "migrations")
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


@pytest.fixture(scope="module")
def fresh_schema(empty_database: Make) -> str:
    """The schema of a database where recdb was installed in one step."""
    database = empty_database()
    migrate.upgrade(database)
    return dump_schema(database)


def owned_database(make: Make, server: Server, *statements: str) -> Database:
    """Make a database whose owner may do nothing else; an administrator runs `statements` in it."""
    database = make()
    with psycopg.connect(database.conninfo, autocommit=True) as administrator:
        name = sql.Identifier(administrator.info.dbname)
        administrator.execute("create role shop login")
        administrator.execute(sql.SQL("alter database {} owner to shop").format(name))
        for statement in statements:
            administrator.execute(statement)
    return Database(make_conninfo(database.conninfo, user="shop"), "test")


# Every way gives the same schema ------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_from_any_revision_gives_the_schema_of_a_fresh_install(
    empty_database: Make, fresh_schema: str, revision: str
) -> None:
    database = empty_database()
    migrate.upgrade(database, revision=revision)
    migrate.upgrade(database)

    assert dump_schema(database) == fresh_schema


@pytest.mark.parametrize("revision", ["base", *REVISIONS[:-1]])
def test_going_down_and_up_again_gives_the_same_schema(empty_database: Make, fresh_schema: str, revision: str) -> None:
    database = empty_database()
    migrate.upgrade(database)

    migrate.downgrade(database, revision)
    assert dump_schema(database) != fresh_schema
    migrate.upgrade(database)

    assert dump_schema(database) == fresh_schema


def test_migrating_again_changes_nothing(empty_database: Make, fresh_schema: str) -> None:
    database = empty_database()
    for _ in range(3):
        migrate.upgrade(database)

    assert dump_schema(database) == fresh_schema


def test_migrating_again_keeps_data_settings_and_models(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    job.run(database)
    db.execute("update recdb.config set profile_limit = 77")
    before = recommend(db, "u1")

    migrate.upgrade(database)

    assert before and recommend(db, "u1") == before
    assert db.execute("select profile_limit from recdb.config").fetchone() == (77,)


def test_base_leaves_the_empty_schema_its_version_table_and_the_roles(empty_database: Make) -> None:
    database = empty_database()
    migrate.upgrade(database)
    migrate.downgrade(database, "base")

    with psycopg.connect(database.conninfo) as connection:
        assert migrate.installed_revision(connection) is None
        left = column(connection.execute("select relname from pg_class where relnamespace = 'recdb'::regnamespace"))
        assert sorted(left) == ["alembic_version", "alembic_version_pkc"]
        assert (
            column(connection.execute("select proname from pg_proc where pronamespace = 'recdb'::regnamespace")) == []
        )
        assert column(connection.execute("select proname from pg_proc where proname = 'recommend'")) == []
        assert set(migrate.ROLES) <= set(column(connection.execute("select rolname from pg_roles")))


def test_going_down_with_a_trained_model_works(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    job.run(database)

    migrate.downgrade(database, "base")
    migrate.upgrade(database)

    assert db.execute("select count(*) from recdb.interaction").fetchone() == (0,)


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """Twenty processes, forked from one that has imported all modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recdb.migrate"])
    with ProcessPoolExecutor(20, mp_context=context) as pool:
        yield pool


def test_twenty_installs_at_once_end_well(empty_database: Make, fresh_schema: str, processes: Executor) -> None:
    database = empty_database()
    for done in [processes.submit(migrate.upgrade, database) for _ in range(20)]:
        done.result(60)

    assert dump_schema(database) == fresh_schema


def test_installs_in_many_databases_of_a_server_at_once_make_the_roles_once(
    other_database: Make, processes: Executor
) -> None:
    made = [other_database() for _ in range(5)]
    for done in [processes.submit(migrate.upgrade, database) for database in made]:
        done.result(60)

    for database in made:
        with psycopg.connect(database.conninfo) as connection:
            assert migrate.installed_revision(connection) == migrate.newest_revision()
            assert set(migrate.ROLES) <= set(column(connection.execute("select rolname from pg_roles")))


def test_threads_of_one_process_may_install_at_once(empty_database: Make, fresh_schema: str) -> None:
    made = [empty_database() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(migrate.upgrade, database) for database in made]:
            done.result(60)

    assert [dump_schema(database) == fresh_schema for database in made] == [True] * 3


def test_plain_alembic_does_what_init_does(empty_database: Make, fresh_schema: str, tmp_path: Path) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        url = f"postgresql:///{connection.info.dbname}?host={connection.info.host}&user={connection.info.user}"
        # recdb must leave another program's version table alone.
        connection.execute("create table public.alembic_version (version_num text); "
                           "insert into public.alembic_version values ('the application''s')")  # fmt: skip
    alembic = [sys.executable, "-m", "alembic", "--config", str(PROJECT / "alembic.ini"), "-x", f"url={url}"]

    subprocess.run([*alembic, "upgrade", "head"], cwd=tmp_path, check=True, capture_output=True)

    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        assert migrate.installed_revision(connection) == migrate.newest_revision()
        assert column(connection.execute("select version_num from public.alembic_version")) == ["the application's"]
        connection.execute("drop table public.alembic_version")
    assert dump_schema(database) == fresh_schema
    subprocess.run([*alembic, "downgrade", "base"], cwd=tmp_path, check=True, capture_output=True)
    with psycopg.connect(database.conninfo) as connection:
        assert migrate.installed_revision(connection) is None


# Settings of the install --------------------------------------------------------------------------------------


def test_the_width_of_the_vectors_is_chosen_once(empty_database: Make) -> None:
    database = empty_database()
    migrate.upgrade(database, dimension=64)
    migrate.upgrade(database, dimension=64)
    migrate.upgrade(database)

    with pytest.raises(InvalidInput, match="64 wide"):
        migrate.upgrade(database, dimension=128)
    with psycopg.connect(database.conninfo) as connection:
        types = connection.execute(
            "select distinct format_type(atttypid, atttypmod) from pg_attribute "
            "where attrelid in ('recdb.user_vector'::regclass, 'recdb.item_vector'::regclass) and attname = 'embedding'"
        )
        assert column(types) == ["halfvec(64)"]
        record(connection, tastes())
    assert job.run(database).model
    with psycopg.connect(database.conninfo) as connection:
        assert recommend(connection, "u1")


@pytest.mark.parametrize("dimension", [-1, 0, 7, 1025])
def test_a_width_that_no_model_can_use_is_refused(empty_database: Make, dimension: int) -> None:
    database = empty_database()
    with pytest.raises(InvalidInput, match=str(dimension)):
        migrate.upgrade(database, dimension=dimension)


# An install that cannot work fails with a reason and changes nothing ------------------------------------------


def refuse(database: Database, message: str) -> str:
    """Try to install, check that nothing has changed, and return the error's hint."""
    before = catalogue(database)
    with pytest.raises(RecdbError, match=message) as raised:
        migrate.upgrade(database)
    assert catalogue(database) == before
    assert "\n" not in str(raised.value)
    return raised.value.hint or ""


def provide_pgvector(database: Database, folder: Path, version: str | None) -> None:
    """Let the server look for extensions only in `folder`, and put this version of pgvector there, or none."""
    extensions = folder / "extension"
    extensions.mkdir(parents=True)
    for path in (folder, extensions):
        path.chmod(0o755)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        if version:
            found = connection.execute("select setting from pg_config where name = 'SHAREDIR'").fetchone()
            source = Path(found[0] if found else "") / "extension"
            control = (source / "vector.control").read_text()
            script = next(source.glob("vector--?.?.?.sql")).read_text()
            (extensions / "vector.control").write_text(
                "\n".join(f"default_version = '{version}'" if "default_version" in line else line
                          for line in control.splitlines())
            )  # fmt: skip
            (extensions / f"vector--{version}.sql").write_text(script)
        connection.execute(
            sql.SQL("alter database {} set extension_control_path = {}").format(
                sql.Identifier(connection.info.dbname), sql.Literal(str(folder))
            )
        )


@pytest.fixture
def readable_folder(server: Server) -> Path:
    """A folder that the server's own user can read; it is removed with the server."""
    with psycopg.connect(server.conninfo("postgres")) as connection:
        since(18, connection)  # extension_control_path
    number = sum(1 for _ in server.folder.parent.glob("extensions*"))
    return server.folder.parent / f"extensions{number}"


def test_a_server_without_pgvector_is_said_to_lack_it(empty_database: Make, readable_folder: Path) -> None:
    database = empty_database()
    provide_pgvector(database, readable_folder, None)

    assert "install pgvector 0.8.0 or newer" in refuse(database, "pgvector is not installed on this server")


def test_a_pgvector_without_iterative_scans_is_refused(empty_database: Make, readable_folder: Path) -> None:
    database = empty_database()
    provide_pgvector(database, readable_folder, "0.7.4")

    hint = refuse(database, "pgvector 0.7.4 is too old: recdb needs 0.8.0 or newer")
    assert "alter extension vector update" in hint


def test_the_oldest_pgvector_that_providers_have_is_accepted(empty_database: Make, readable_folder: Path) -> None:
    database = empty_database()
    provide_pgvector(database, readable_folder, "0.8.0")

    migrate.upgrade(database)

    with psycopg.connect(database.conninfo) as connection:
        assert column(connection.execute("select extversion from pg_extension where extname = 'vector'")) == ["0.8.0"]


def test_an_applications_own_recommend_is_left_alone(empty_database: Make) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("create function public.recommend(integer) returns text language sql as $$ select 'mine' $$")
        connection.execute("comment on function public.recommend(integer) is 'older than recdb: and not of it'")

    assert "rename or drop it" in refuse(database, r"recommend\(integer\) of its own")
    with psycopg.connect(database.conninfo) as connection:
        assert connection.execute("select recommend(1)").fetchone() == ("mine",)


def test_a_revision_of_a_newer_recdb_is_refused(empty_database: Make) -> None:
    database = empty_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("update recdb.alembic_version set version_num = 'from the future'")

    assert "pip install --upgrade recdb-postgres" in refuse(database, "does not know: .*from the future")
    with psycopg.connect(database.conninfo) as connection, pytest.raises(NotInstalled, match="from the future"):
        migrate.require_installed(connection)


def test_an_applications_view_on_recommend_stops_a_downgrade_and_is_named(empty_database: Make) -> None:
    database = empty_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("create view public.front_page as select * from recommend('u1')")
    before = dump_schema(database)

    with pytest.raises(RecdbError, match="changed nothing") as raised:
        migrate.downgrade(database, "base")

    assert raised.value.hint is not None and "front_page" in raised.value.hint
    assert dump_schema(database) == before
    migrate.upgrade(database)
    assert dump_schema(database) == before


# The installing role -------------------------------------------------------------------------------------------------


def test_an_owner_without_superuser_is_told_what_an_administrator_has_to_run(
    other_database: Make, other_server: Server
) -> None:
    database = owned_database(other_database, other_server)

    hint = refuse(database, "vector .* is missing and this role may not create it")
    first, _, statements = hint.partition("\n")
    assert first == "an administrator runs once, in this database:"
    with psycopg.connect(database.conninfo, user="postgres") as administrator:
        administrator.execute(statements)
    migrate.upgrade(database)

    with psycopg.connect(database.conninfo) as owner:
        assert owner.execute("select current_user").fetchone() == ("shop",)
        record(owner, tastes())
    assert job.run(database).model == "collaborative_filtering_v1"
    with psycopg.connect(database.conninfo, autocommit=True) as owner:
        assert recommend(owner, "u1")
        owner.execute("select recdb.track('guest', 'i1', 'like')")
        owner.execute("call recdb.refresh()")
        assert owner.execute("select neighbor_id from recdb.neighbors('u1', 5)").fetchall()
        # The owner grants the role that the application connects as.
        owner.execute("grant recdb_reader to current_user")
    assert job.run(database, full=True).model == "collaborative_filtering_v2"


def test_an_owner_is_told_of_missing_roles_where_the_extension_is_there(
    other_database: Make, other_server: Server
) -> None:
    database = owned_database(other_database, other_server, "create extension vector", "create role recdb_reader")

    hint = refuse(database, "the role recdb_writer is missing")

    assert "create role recdb_writer nologin;" in hint and "create role recdb_reader" not in hint


def test_a_role_that_owns_nothing_is_told_to_let_the_owner_install(other_database: Make, other_server: Server) -> None:
    database = owned_database(other_database, other_server, "create extension vector", "create role guest login")
    guest = Database(make_conninfo(database.conninfo, user="guest"), "test")

    assert "owner" in refuse(guest, "may not create a schema")


def test_pgvector_may_live_in_a_schema_of_its_own(empty_database: Make) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("create schema extensions; create extension vector schema extensions")

    migrate.upgrade(database)

    with psycopg.connect(database.conninfo) as connection:
        record(connection, tastes())
    job.run(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        assert recommend(connection, "u1")
        assert connection.execute("select * from recdb.similar_items('i1')").fetchall()
        connection.execute("select recdb.track('u1', 'i2', 'like')")
        connection.execute("call recdb.refresh()")
        assert connection.execute("select * from recdb.neighbors('u1')").fetchall()
    assert job.run(database, full=True).model == "collaborative_filtering_v2"


def test_an_older_database_gets_the_corrected_comment_on_config() -> None:
    """0005 repeats the comment of 0001, which was false in databases from before its correction."""
    statement = re.compile(r"^comment on table recdb\.config is\n(?:    '.*\n)*    '.*';$", re.MULTILINE)
    folder = PROJECT / "migrations" / "versions"
    first, again = (
        statement.findall((folder / name).read_text()) for name in ("0001_interactions.py", "0005_safety.py")
    )

    assert len(first) == 1 and first == again
