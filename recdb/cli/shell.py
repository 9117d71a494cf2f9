"""Commands for the database itself: a shell in it, and the end of the embedded server."""

import os
import subprocess
from typing import Annotated

import psycopg
import typer

from recdb.cli.common import Url, app, open_database
from recdb.embedded import find_program, stop_servers
from recdb.schemas import DEFAULT_SCHEMA
from recdb.terminal import output


def libpq_environment(conninfo: str) -> dict[str, str]:
    """Return a connection string as the environment variables that every program of PostgreSQL reads."""
    options = psycopg.pq.Conninfo.parse(conninfo.encode())
    return {
        each.envvar.decode(): each.val.decode() for each in options if each.envvar is not None and each.val is not None
    }


@app.command(context_settings={"ignore_unknown_options": True})
def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="Arguments of psql, such as -c 'select 1'.")
    ] = None,
    url: Url = None,
) -> None:
    """Open psql on the database, also on the embedded server; exits with psql's code.

    With --schema, that schema is the first one of the search path.
    """
    program = find_program("psql")
    database = open_database(url, quiet=True)
    # Other users of the machine can read a command line, but not an environment.
    environment = os.environ | libpq_environment(database.conninfo)
    if database.schema != DEFAULT_SCHEMA:
        path = f"-c search_path={database.schema},public"
        environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} {path}".strip()
    process = subprocess.Popen([program, *(arguments or [])], env=environment)
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:  # psql gets Ctrl-C as well, and cancels its query
            continue


@app.command()
def stop() -> None:
    """Stop the embedded server; the next command that needs it starts it again, with its data."""
    stopped = stop_servers()
    for folder in stopped:
        output.print(f"stopped the embedded server in {folder}", markup=False)
    if not stopped:
        output.print("no embedded server is running")
