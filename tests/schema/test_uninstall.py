"""`recdb uninstall` removes everything that the install made, and nothing of an application or another database."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import column, record, tastes, train
from support.outside import catalogue, dump_schema, recdb
from support.servers import Server

from recdb import migrate
from recdb.database import Database
from recdb.errors import NotInstalled, RecdbError

Make = Callable[[], Database]


def run(database: Database, *statements: str) -> None:
    """Execute statements in a database, as its administrator."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def use(database: Database) -> None:
    """Install recdb and let it store, learn and serve."""
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
    train(database)
    run(database, "select recdb.track('u1', 'i1', 'like')", "call recdb.refresh()")


def test_nothing_is_left_in_the_database_nor_on_the_server(other_database: Make) -> None:
    database = other_database()
    before = catalogue(database)
    use(database)
    assert catalogue(database) != before

    assert migrate.uninstall(database) == []

    assert catalogue(database) == before


def test_what_an_interrupted_training_left_goes_too(other_database: Make) -> None:
    database = other_database()
    before = catalogue(database)
    use(database)
    run(database, "create table recdb.user_vector_99 (like recdb.user_vector)")

    assert migrate.uninstall(database) == []

    assert catalogue(database) == before


def test_an_application_in_the_same_database_keeps_everything(other_database: Make) -> None:
    database = other_database()
    run(
        database,
        "create extension vector",
        "create table post (id text primary key, embedding vector(3))",
        "create table alembic_version (version_num text)",
        "create function popular() returns text language sql as $$ select 'mine' $$",
    )
    before, schema = catalogue(database), dump_schema(database)
    use(database)

    assert migrate.uninstall(database) == []

    assert catalogue(database) == before
    assert dump_schema(database) == schema


def test_pgvector_stays_where_a_table_has_come_to_use_it(other_database: Make) -> None:
    database = other_database()
    migrate.upgrade(database)
    run(database, "create table post (id text primary key, embedding vector(3))")

    (left,) = migrate.uninstall(database)

    assert left.startswith("extension vector: cannot drop")
    run(database, "insert into post values ('p1', '[1,2,3]')")


def test_roles_stay_while_another_database_needs_them(other_database: Make) -> None:
    first, second = other_database(), other_database()
    migrate.upgrade(first)
    use(second)

    left = migrate.uninstall(first)

    assert [line.split(":", maxsplit=1)[0] for line in left] == [f"role {role}" for role in migrate.ROLES]
    with psycopg.connect(second.conninfo) as connection:
        assert column(connection.execute("select item_id from recommend('u1', 3)"))
    assert migrate.uninstall(second) == []


def test_an_applications_view_on_recdb_is_named_and_nothing_is_removed(other_database: Make) -> None:
    database = other_database()
    migrate.upgrade(database)
    run(database, "create view public.trending as select * from recdb.popular(10)")
    before = catalogue(database)

    with pytest.raises(RecdbError) as raised:
        migrate.uninstall(database)

    assert "trending" in str(raised.value.hint)
    assert catalogue(database) == before
    run(database, "drop view public.trending")
    assert migrate.uninstall(database) == []


def test_a_database_owner_without_superuser_uninstalls(other_database: Make, other_server: Server) -> None:
    database = other_database()
    with psycopg.connect(database.conninfo, autocommit=True) as administrator:
        administrator.execute("create role shop login")
        administrator.execute(f"alter database {administrator.info.dbname} owner to shop")
    owner = Database(make_conninfo(database.conninfo, user="shop"), "test")
    before = catalogue(database)
    with psycopg.connect(owner.conninfo) as connection:
        statements = migrate.administrator_statements(connection)
    run(database, *statements.split("\n"))
    migrate.upgrade(owner)

    left = migrate.uninstall(owner)

    # The administrator made these roles.
    assert [line.split(":", maxsplit=1)[0] for line in left] == [f"role {role}" for role in migrate.ROLES]
    run(database, "drop extension vector", *(f"drop role {role}" for role in migrate.ROLES))
    assert catalogue(database) == before


def test_a_database_without_recdb_is_said_to_have_none_and_stays_as_it_is(other_database: Make) -> None:
    database = other_database()
    before = catalogue(database)

    with pytest.raises(NotInstalled, match="not installed"):
        migrate.uninstall(database)

    assert catalogue(database) == before


def test_what_a_downgrade_to_base_leaves_is_removed(other_database: Make) -> None:
    database = other_database()
    before = catalogue(database)
    migrate.upgrade(database)
    migrate.downgrade(database, "base")

    assert migrate.uninstall(database) == []

    assert catalogue(database) == before


def test_the_command_asks_first(other_database: Make) -> None:
    database = other_database()
    migrate.upgrade(database)
    before = catalogue(database)

    assert "Remove schema recdb" in recdb("uninstall", database=database, code=1)
    assert catalogue(database) == before

    assert recdb("uninstall", "--yes", database=database).endswith("recdb is removed\n")
