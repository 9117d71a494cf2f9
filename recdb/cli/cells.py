"""The command of several databases that share an item model: gather."""

from typing import Annotated

import typer

from recdb.cli.common import Url, app, narrowed, open_database
from recdb.database import Database, find_schema
from recdb.errors import InvalidInput
from recdb.job.gather import DEFAULT_USERS, gather, list_gathered, remove_gathered
from recdb.terminal import output, progress
from recdb.urls import normalize_url

OtherSchema = Annotated[
    str | None,
    typer.Option(
        "--from-schema",
        metavar="NAME",
        help="The schema of the recommender in the other database. Default: recdb.",
        show_default=False,
    ),
]


def other_database(url: str, schema: str | None, origin: str) -> Database:
    """Return the database at a URL; `origin` says in messages where the URL comes from.

    Raises InvalidInput for a blank text, such as a shell variable that is not set: libpq would read it as the server of
    this machine.
    """
    if not url.strip():
        raise InvalidInput(f"the URL {origin} is empty", "is the variable set that it comes from?")
    if schema is not None and not schema.strip():
        raise InvalidInput("the name given by --from-schema is empty", "leave --from-schema out for schema recdb")
    return Database(normalize_url(url), origin, find_schema(schema, {}))


@app.command("gather")
def gather_command(
    urls: Annotated[list[str] | None, typer.Argument(metavar="URL...", help="The databases to gather from.")] = None,
    url: Url = None,
    users: Annotated[
        int | None,
        typer.Option(min=1, help=f"At most so many users, of all these databases together. Default: {DEFAULT_USERS}."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove the rows of other databases than these.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove everything that was gathered.")] = False,
    from_schema: OtherSchema = None,
) -> None:
    """Bring a sample of other databases' users here, for the next training to learn about items from.

    The users come without their ids, and nothing but trainings reads their interactions. The
    rows that came from a database before are replaced. Without a URL, the command lists these databases.
    """
    if remove and urls:
        raise InvalidInput("--remove removes everything that was gathered, and takes no URL")
    given = {"--replace": replace, "--users": users is not None, "--from-schema": from_schema is not None}
    idle = [name for name, there in given.items() if there]
    if idle and not urls:
        raise InvalidInput(f"{idle[0]} is for databases to gather from", "name them: recdb gather URL...")
    others = [other_database(each, from_schema, "given to gather") for each in urls or []]
    database = open_database(url)
    if remove:
        removed = remove_gathered(database)
        output.print(f"removed {sum(each.interactions for each in removed):,} interactions of other databases")
        return
    if others:
        with progress("gather") as report:
            done = gather(database, others, users=users or DEFAULT_USERS, replace=replace, report=report)
        if done is None:
            output.print("another job is running: nothing done")
            return
    cells = [(each.database, f"{each.users:,}", f"{each.interactions:,}") for each in list_gathered(database)]
    if not cells:
        output.print("nothing is gathered here: recdb gather URL...")
        return
    output.print(narrowed(("database", ">users", ">interactions"), cells, foldable=["database"]))
    if others:
        output.print("next: recdb refresh --full")
