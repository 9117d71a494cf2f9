"""Finding the database: URLs as different tools spell them, and the errors for other texts."""

from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from recdb.cli.shell import libpq_environment
from recdb.database import Database, connect, find_database, normalize_url, prepares_statements
from recdb.errors import InvalidInput, RecdbError

SHOP = {"host": "db", "port": "5433", "user": "ann", "password": "s3cret", "dbname": "shop"}


def parts(url: str) -> dict[str, str]:
    """The parameters that libpq reads from a URL, without those that it adds."""
    return {name: str(value) for name, value in conninfo_to_dict(normalize_url(url)).items() if name != "sslcertmode"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cret@db:5433/shop",
        "postgres://ann:s3cret@db:5433/shop",
        "POSTGRESQL://ann:s3cret@db:5433/shop",
        "  postgresql://ann:s3cret@db:5433/shop\n",
        "postgresql+psycopg://ann:s3cret@db:5433/shop",
        "postgresql+asyncpg://ann:s3cret@db:5433/shop",
        "postgresql://ann:s3cret@db:5433/shop?schema=public&connection_limit=5&pool_timeout=10&pgbouncer=true",
        "postgresql://ann:s3cret@db:5433/shop?",
        "host=db port=5433 user=ann password=s3cret dbname=shop",
    ],
)
def test_every_spelling_means_the_same_database(url: str) -> None:
    assert parts(url) == SHOP


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:///shop", {"dbname": "shop"}),
        ("postgresql:///shop?host=/run/postgresql", {"dbname": "shop", "host": "/run/postgresql"}),
        ("postgresql://%2Frun%2Fpostgresql/shop", {"dbname": "shop", "host": "/run/postgresql"}),
        ("postgresql://", {}),
        ("postgresql://[::1]:5432/shop", {"host": "::1", "port": "5432", "dbname": "shop"}),
        ("postgresql://a:1,b:2/shop", {"host": "a,b", "port": "1,2", "dbname": "shop"}),
        (
            "postgresql+psycopg://ann@/shop?host=a:1&host=b:2",
            {"user": "ann", "dbname": "shop", "host": "a,b", "port": "1,2"},
        ),
        ("postgresql+psycopg://@/shop?host=a%3A1&host=b", {"dbname": "shop", "host": "a,b", "port": "1,"}),
        ("postgresql://@/shop?host=a&host=b&port=1&port=2", {"dbname": "shop", "host": "a,b", "port": "1,2"}),
        ("postgresql://@/shop?host=[::1]:1&host=b:2", {"dbname": "shop", "host": "::1,b", "port": "1,2"}),
        ("postgresql://@/shop?host=/run/a&host=/run/b", {"dbname": "shop", "host": "/run/a,/run/b"}),
        (
            "postgresql://a,b:2/shop?target_session_attrs=read-write",
            {"dbname": "shop", "host": "a,b", "port": ",2", "target_session_attrs": "read-write"},
        ),
        ("postgresql://ann@db", {"user": "ann", "host": "db"}),
        ("postgres://db/shop?sslmode=require&schema=app", {"host": "db", "dbname": "shop", "sslmode": "require"}),
        ("host=db password='a://b'", {"host": "db", "password": "a://b"}),
        (
            "postgresql://db/shop?options=-c%20statement_timeout%3D5s&pool_size=3",
            {"host": "db", "dbname": "shop", "options": "-c statement_timeout=5s"},
        ),
    ],
)
def test_what_libpq_understands_reaches_it_unchanged(url: str, expected: dict[str, str]) -> None:
    assert parts(url) == expected


@pytest.mark.parametrize("password", ["p#ss", "p+ss", "p%40ss", "p%2Fss", "p=ss", "p%3Fss", "pä"])
def test_passwords_keep_their_odd_characters(password: str) -> None:
    direct = conninfo_to_dict(f"postgresql://ann:{password}@db/shop")["password"]

    assert parts(f"postgres://ann:{password}@db/shop?schema=public")["password"] == direct


@pytest.mark.parametrize("url", ["mysql://db/shop", "http://db/shop", "sqlite:///shop.db"])
def test_another_database_systems_url_is_refused_by_its_scheme(url: str) -> None:
    with pytest.raises(InvalidInput, match=url.split(":", maxsplit=1)[0]) as raised:
        normalize_url(url)

    assert raised.value.hint == "write postgresql://user:password@host:5432/database"


@pytest.mark.parametrize(
    "url",
    [
        "shop",
        "postgresql://db/shop?nonsense=1",
        "postgresql://db/%zz",
        "hots=db",
        "postgresql://@/shop?host=a:1&port=2",
        "postgresql://@/shop?host=a&host=b&host=c&port=1&port=2",
    ],
)
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidInput, match="not a PostgreSQL URL") as raised:
        normalize_url(url)

    assert raised.value.hint == "write postgresql://user:password@host:5432/database"


@given(st.text(max_size=60))
def test_any_text_is_either_understood_or_refused(text: str) -> None:
    try:
        conninfo_to_dict(normalize_url(text))
    except InvalidInput as error:
        assert "\n" not in str(error).strip()


def test_the_url_given_comes_before_the_environment_and_its_own_variable_before_the_common_one() -> None:
    environment = {"RECDB_DATABASE_URL": "postgresql://db/own", "DATABASE_URL": "postgresql://db/common"}

    given_first = find_database("postgresql://db/given", environment)
    own_next = find_database(None, environment)
    common_last = find_database(None, {"RECDB_DATABASE_URL": "", "DATABASE_URL": "postgresql://db/common"})

    assert [str(found) for found in (given_first, own_next, common_last)] == [
        "given at db (given by --url)",
        "own at db (from RECDB_DATABASE_URL)",
        "common at db (from DATABASE_URL)",
    ]


def test_a_database_is_named_without_its_password() -> None:
    assert str(Database(normalize_url("postgresql://ann:s3cret@db:5433/shop"), "x")) == "shop at db:5433 (x)"
    assert str(Database("host=/run/postgresql dbname=shop", "x")) == "shop at /run/postgresql (x)"
    assert str(Database(normalize_url("postgresql://ann:s3cret@a:1,b:2/shop"), "x")) == "shop at a:1,b:2 (x)"
    assert str(Database("host=a,b port=1 dbname=shop", "x")) == "shop at a:1,b:1 (x)"
    assert str(Database("host=a,b dbname=shop", "x")) == "shop at a,b (x)"


def test_prismas_mark_of_a_transaction_pooler_turns_prepared_statements_off() -> None:
    assert not prepares_statements("postgresql://db/shop?schema=app&pgbouncer=true")
    assert prepares_statements("postgresql://db/shop?schema=app&pgbouncer=false")
    assert prepares_statements("host=db dbname=shop")


def test_a_server_that_is_not_there_is_one_error_with_the_database_and_no_password(tmp_path: Path) -> None:
    with pytest.raises(RecdbError, match="cannot connect to shop") as raised:
        connect(f"host={tmp_path} dbname=shop password=s3cret")

    assert "s3cret" not in str(raised.value) and raised.value.hint and "\n" not in str(raised.value)
    assert isinstance(raised.value.__cause__, psycopg.OperationalError)


def test_a_program_gets_the_whole_url_in_its_environment_and_nothing_on_its_command_line() -> None:
    conninfo = normalize_url("postgresql://reader:se%20cret@db.example:5433/app?sslmode=require")

    assert libpq_environment(conninfo) == {
        "PGUSER": "reader",
        "PGPASSWORD": "se cret",
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGDATABASE": "app",
        "PGSSLMODE": "require",
    }
