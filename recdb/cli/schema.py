"""Commands that install and remove."""

from typing import Annotated

import typer

from recdb import migrate
from recdb.cli.common import Url, app, open_database
from recdb.terminal import output


@app.command()
def init(
    url: Url = None,
    dimension: Annotated[
        int | None, typer.Option(help="The width of the vector columns; only the first install sets it.")
    ] = None,
    role_prefix: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the names of the roles begin with; only the first install sets it."),
    ] = None,
) -> None:
    """Install recdb, migrate it to the newest revision, and repair the missing parts."""
    database = open_database(url)
    for line in migrate.upgrade(database, dimension=dimension, role_prefix=role_prefix):
        output.print(line, markup=False)
    output.print(f"recdb is at revision {migrate.newest_revision()}")


@app.command()
def uninstall(
    url: Url = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove recdb and all its data from the database."""
    database = open_database(url)
    if not yes:
        typer.confirm("Remove schema recdb with all interactions and models?", abort=True)
    for line in migrate.uninstall(database):
        output.print(f"left {line}", markup=False)
    output.print("recdb is removed")
