"""Commands that install and remove."""

from typing import Annotated

import typer

from recdb import migrate, spread
from recdb.cli.common import Url, app, open_database
from recdb.errors import InvalidInput
from recdb.terminal import output, progress


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


@app.command()
def distribute(
    url: Url = None,
    shards: Annotated[
        int | None, typer.Option(metavar="N", help="How many parts each table gets. Default: one for each node.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the tables back to this server.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps, and change nothing.")] = False,
) -> None:
    """Spread the interactions and the vectors of users over the nodes of a Citus cluster, in place.

    One transaction does it: readers and writers wait until the rows are copied. The URL is the coordinator's.
    """
    if undo and shards is not None:
        raise InvalidInput("--undo needs no --shards", "recdb distribute --undo")
    database = open_database(url)
    with progress("distribute") as report:
        if undo:
            lines = spread.undo(database, report, dry_run=dry_run)
        else:
            lines = spread.distribute(database, shards, report, dry_run=dry_run)
    for line in lines:
        output.print(line, markup=False)
    if dry_run:
        output.print("nothing was changed")
