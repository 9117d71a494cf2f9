"""The command line: exit codes, standard output and error, and one line with a hint for every failure."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.data import record, tastes, train

from recdb import migrate
from recdb.cli import main
from recdb.database import Database
from recdb.job.lock import job_lock

COMMANDS = (
    "init", "uninstall", "load", "generate", "refresh", "recommend", "models", "activate", "doctor", "demo",
    "attach", "detach", "psql", "stop", "embed", "trending", "audience", "experiment", "gather", "partition", "size",
    "distribute",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The exit code and the output of a command."""

    code: int
    output: str
    errors: str

    @property
    def complaint(self) -> dict[str, str]:
        """The error and its hint; all other lines on standard error are progress."""
        assert "Traceback" not in self.errors
        lines = [line.partition(": ") for line in self.errors.splitlines()]
        return {kind: text for kind, _, text in lines if kind in ("error", "hint")}


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as the entry point does, in this process."""

    def command(*arguments: str, database: Database | None = None) -> Result:
        if database:
            arguments = (*arguments, "--url", database.conninfo)
        monkeypatch.setattr(sys, "argv", ["recdb", *arguments])
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return Result(int(code or 0), captured.out, captured.err)

    return command


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> Database:
    record(db, tastes())
    train(database)
    return database


# Help and wrong usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(command, "--help")

    assert result.code == 0 and "Usage:" in result.output
    assert command in ("stop", "size", "experiment") or "--url" in result.output


def test_the_version_is_that_of_the_distribution(run: Run) -> None:
    result = run("--version")

    assert (result.code, result.output, result.errors) == (0, f"recdb {version('recdb-postgres')}\n", "")


def test_the_help_lists_every_command(run: Run) -> None:
    listed = run("--help").output

    assert [command for command in COMMANDS if f" {command} " not in listed] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["refresh", "--no-such-option"],
        ["recommend"],
        ["activate"],
        ["recommend", "u1", "-k", "many"],
        ["init", "--dimension", "wide"],
        ["generate", "--users", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)

    assert result.code == 2 and "Traceback" not in result.errors and result.output == ""


# Every failure is one line and a hint -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["refresh"], "recdb is not installed in this database", "run: recdb init"),
        (["models"], "recdb is not installed in this database", "run: recdb init"),
        (["recommend", "u1"], "recdb is not installed in this database", "run: recdb init"),
        (["activate", "v1"], "recdb is not installed in this database", "run: recdb init"),
        (["init", "--dimension", "3"], "a dimension of 3 is outside 8..1024", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_failures_before_the_install(
    run: Run, empty_database: Callable[[], Database], arguments: list[str], error: str, hint: str | None
) -> None:
    result = run(*arguments, database=empty_database())

    assert result.code == 1
    assert result.complaint == {"error": error} | ({"hint": hint} if hint else {})


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["activate", "nonsense"], 'no model version is labelled "nonsense"', "Kept versions"),
        (["recommend", "u1", "--model", "nonsense"], 'no model version is labelled "nonsense"', "Kept versions"),
        (["recommend", "u1", "-k", "0"], "between 1 and 1000", ""),
        (["recommend", "u1", "--fallback", "nonsense"], "must be 'none' or 'popular'", ""),
        (["refresh", "--if-stale", "soon"], "'soon' is not an age or duration", "30m, 24h or 7d"),
        (["refresh"], "no interactions to learn from", "recdb load"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_failures_after_the_install(run: Run, database: Database, arguments: list[str], error: str, hint: str) -> None:
    result = run(*arguments, database=database)

    assert result.code == 1
    assert error in result.complaint["error"] and hint in result.complaint.get("hint", "")


def test_a_database_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("models", "--url", f"host={tmp_path} dbname=shop password=s3cret")

    assert result.code == 1
    assert result.complaint["error"].startswith("cannot connect to shop at")
    assert result.complaint["hint"] and "s3cret" not in result.output + result.errors


def test_what_is_no_url(run: Run) -> None:
    result = run("models", "--url", "mysql://db/shop")

    assert result.code == 1
    assert result.complaint == {
        "error": "not a PostgreSQL URL: its scheme is 'mysql'",
        "hint": "write postgresql://user:password@host:5432/database",
    }


# Output -------------------------------------------------------------------------------------------------------


def test_the_first_line_says_which_database_was_taken_and_why(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = run("models", database=database)
    monkeypatch.setenv("DATABASE_URL", database.conninfo)
    common = run("models")
    monkeypatch.setenv("RECDB_DATABASE_URL", database.conninfo)
    own = run("models")

    firsts = [result.output.splitlines()[0] for result in (given, common, own)]
    place = firsts[0].removesuffix(" (given by --url)")
    assert place.startswith("database: tests")
    assert firsts[1:] == [f"{place} (from DATABASE_URL)", f"{place} (from RECDB_DATABASE_URL)"]


def test_init_installs_and_says_the_revision(run: Run, empty_database: Callable[[], Database]) -> None:
    database = empty_database()

    for _ in range(2):
        result = run("init", database=database)
        assert result.code == 0
        assert result.output.splitlines()[-1] == f"recdb is at revision {migrate.newest_revision()}"


def test_refresh_trains_then_refreshes_and_logs_plain_lines(
    run: Run, database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())

    first, second, third = (run("refresh", *more, database=database) for more in ([], [], ["--full"]))

    assert [result.code for result in (first, second, third)] == [0, 0, 0]
    assert "trained and activated collaborative_filtering_v1" in first.output
    assert second.output.splitlines()[1].startswith("refreshed in")
    assert "trained and activated collaborative_filtering_v2" in third.output
    assert len(first.errors.splitlines()) >= 4 and "\x1b" not in first.errors + first.output


def test_a_second_job_says_so_and_exits_0(run: Run, trained: Database, db: psycopg.Connection) -> None:
    with job_lock(trained) as locked:
        assert locked
        result = run("refresh", "--full", database=trained)

    assert result.code == 0
    assert result.output.splitlines()[1] == "another job is running: nothing done"
    assert db.execute("select count(*) from recdb.model").fetchone() == (1,)


def test_recommend_shows_titles_scores_and_reasons(run: Run, trained: Database, db: psycopg.Connection) -> None:
    best = [row[0] for row in db.execute("select item_id from recommend('u1', 3)")]
    db.execute("insert into recdb.item (item_id, title) values (%s, 'The [best] [/one]')", [best[0]])

    lines = run("recommend", "u1", "-k", "3", database=trained).output.splitlines()

    assert lines[1].split() == ["rank", "item", "title", "score", "reason"]
    assert [line.split()[:2] for line in lines[2:]] == [[str(rank), item] for rank, item in enumerate(best, 1)]
    assert "The [best] [/one]" in lines[2] and "1.000" in lines[2] and "collaborative_filtering" in lines[2]


def test_recommend_excludes_and_falls_back(run: Run, trained: Database, db: psycopg.Connection) -> None:
    first, second, third = [row[0] for row in db.execute("select item_id from recommend('u1', 3)")]

    more = run("recommend", "u1", "--k", "1", "--exclude", first, "--exclude", second, "--json", database=trained)
    nobody = run("recommend", "nobody", database=trained)
    popular = run("recommend", "nobody", "-k", "4", "--fallback", "popular", "--json", database=trained)

    assert [row["item_id"] for row in json.loads(more.output)] == [third]
    assert "nothing for nobody" in nobody.output and "--fallback popular" in nobody.output and nobody.code == 0
    assert [row["reason"] for row in json.loads(popular.output)] == ["popular"] * 4


def test_json_is_all_that_is_on_standard_output(run: Run, trained: Database) -> None:
    recommended = run("recommend", "u1", "-k", "2", "--json", database=trained)
    models = run("models", "--json", database=trained)
    doctor = run("doctor", "--json", database=trained)

    rows = json.loads(recommended.output)
    assert [sorted(row) for row in rows] == [["item_id", "model_version", "reason", "score", "title"]] * 2
    (model,) = json.loads(models.output)
    assert model["label"] == "collaborative_filtering_v1" and model["active"] and model["params"]["neighbors"] > 0
    assert json.loads(doctor.output)
    assert all(result.errors.startswith("database: ") for result in (recommended, models, doctor))


def test_models_lists_and_activate_switches(run: Run, trained: Database, db: psycopg.Connection) -> None:
    train(trained)

    assert run("activate", "collaborative_filtering_v1", database=trained).output.splitlines()[1:] == [
        "collaborative_filtering_v1 serves now"
    ]
    listed = run("models", database=trained).output.splitlines()[2:]
    assert [line.split()[:2] for line in listed] == [
        ["collaborative_filtering_v1", "active"], ["collaborative_filtering_v2", "ready"],
    ]  # fmt: skip
    version = db.execute("select model_version from recommend('u1', 1)").fetchone()
    assert version == ("collaborative_filtering_v1",)


def test_models_without_a_model_says_what_to_do(run: Run, database: Database) -> None:
    assert "recdb refresh" in run("models", database=database).output


# As a process of its own --------------------------------------------------------------------------------------


@pytest.mark.server
def test_the_embedded_server_is_taken_by_default_and_starts_by_itself(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    environment |= {"XDG_DATA_HOME": str(tmp_path)}
    folder = tmp_path / "recdb" / "server"

    def recdb(*arguments: str) -> list[str]:
        done = subprocess.run(
            [Path(sys.executable).parent / "recdb", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    try:
        first, second = recdb("init"), recdb("models")
        printed = recdb("psql", "-qAtc", "select count(*) from recdb.models")
        with psycopg.connect(first[0].rpartition(", ")[2].removesuffix(")")) as other:
            connected = other.info.dbname
        stopped, again = recdb("stop"), recdb("stop")
    finally:
        names = "from pathlib import Path; from recdb.embedded import start_embedded, stop_embedded"
        stop = f"{names}; p = Path({str(folder)!r}); start_embedded(p); stop_embedded(p)"
        subprocess.run([sys.executable, "-W", "ignore", "-c", stop], check=True, env=environment, capture_output=True)

    url = first[0].removeprefix(f"database: recdb at {folder} (embedded server, ").removesuffix(")")
    assert first[0] == second[0] and url.startswith("postgresql://postgres@/recdb?host=") and connected == "recdb"
    assert first[-1].startswith("recdb is at revision")
    assert printed == ["0"]
    assert stopped == [f"stopped the embedded server in {folder}"]
    assert again == ["no embedded server is running"]
    assert not (folder / "postmaster.pid").exists()


def test_psql_runs_on_the_database_and_exits_with_its_code(database: Database) -> None:
    command = [sys.executable, "-m", "recdb.cli", "psql", "--url", database.conninfo, "-qAtX"]
    sent = subprocess.run([*command, "-f", "-"], input="select 1 + 1", capture_output=True, text=True, check=False)
    failed = subprocess.run([*command, "-c", "select wrong"], capture_output=True, text=True, check=False)

    assert (sent.returncode, sent.stdout) == (0, "2\n")
    assert failed.returncode == 1 and 'column "wrong" does not exist' in failed.stderr
