"""Commands for an application's own tables: attach and detach."""

import json
from typing import Annotated, Any

import typer

from recdb.cli.common import Json, Url, app, open_database
from recdb.data import attach as attaching
from recdb.data.attach import Attached
from recdb.data.sources import Source, parse_source
from recdb.database import connect
from recdb.migrate import require_installed
from recdb.terminal import cut, errors, output, progress, table


def option(metavar: str, help: str) -> Any:
    """Make an option whose help shows no default."""
    return typer.Option(metavar=metavar, help=help, show_default=False)


@app.command()
def attach(
    url: Url = None,
    interactions: Annotated[str | None, option("TABLE", "The table, or view, of interactions.")] = None,
    user: Annotated[str, option("COLUMN", "The user's id: text, uuid or an integer.")] = "",
    item: Annotated[str, option("COLUMN", "The item's id: text, uuid or an integer.")] = "",
    kind: Annotated[
        str, option("COLUMN|'CONSTANT'", "The kind of interaction: a column (also an enum) or a constant.")
    ] = "",
    at: Annotated[str, option("COLUMN", "The time; a timestamp without time zone is read as UTC.")] = "",
    where: Annotated[str, option("SQL", "Keep only the rows that meet this condition.")] = "",
    also: Annotated[
        list[str] | None,
        option(
            "SOURCE",
            "Another table of interactions: 'TABLE user=COLUMN item=COLUMN kind=COLUMN|CONSTANT [at=COLUMN] "
            "[where=SQL]'. May be repeated.",
        ),
    ] = None,
    items: Annotated[str | None, option("TABLE", "The table, or view, of items.")] = None,
    item_id: Annotated[str, typer.Option(metavar="COLUMN", help="The item's id.")] = "id",
    owner: Annotated[
        str, option("COLUMN", "The owner's user id: recommend() never returns an item to its owner.")
    ] = "",
    published: Annotated[str, option("COLUMN", "The time of publication.")] = "",
    available: Annotated[
        str, option("COLUMN|SQL", "Whether recommend() may return the item, such as 'deleted_at is null'.")
    ] = "",
    title: Annotated[str, option("COLUMN", "The title that recdb's commands show.")] = "",
    attributes: Annotated[
        str, option("COLUMN,...", "The attributes that filter => matches: one jsonb column, or several columns.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show everything, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Read an application's own tables in place, beside recdb's own store; without options, list the attached tables.

    recdb never alters the tables. A table that you attach again gets the new mapping.
    """
    sources: list[Source] = []
    if interactions:
        mapping = {"user": user, "item": item, "kind": kind, "at": at, "where": where}
        require({"--user": user, "--item": item, "--kind": kind}, "--interactions")
        sources.append(Source("interactions", interactions, mapping))
    elif user or item or kind or at or where:
        raise typer.BadParameter("name the table: --interactions TABLE")
    sources += [parse_source(text) for text in also or ()]
    if items:
        catalogue = {"owner": owner, "published": published, "available": available, "title": title}
        sources.append(Source("items", items, {"item": item_id, **catalogue, "attributes": attributes}))
    elif owner or published or available or title or attributes:
        raise typer.BadParameter("name the table: --items TABLE")
    database = open_database(url, quiet=as_json)
    if not sources:
        with connect(database) as connection:
            require_installed(connection)
            show(list(attaching.read_attached(connection).values()), as_json)
        return
    with progress("attach") as report:
        found = attaching.attach(database, sources, dry_run=dry_run, report=report)
    show(found, as_json)
    if not as_json:
        output.print("dry run: nothing was changed" if dry_run else "attached; next: recdb refresh --full")


def require(options: dict[str, str], table_option: str) -> None:
    """Refuse a table if an option that it needs is missing."""
    missing = [name for name, value in options.items() if not value]
    if missing:
        raise typer.BadParameter(f"{table_option} also needs {', '.join(missing)}")


def show(found: list[Attached], as_json: bool) -> None:
    """Print the mapping of each table, some of its rows, and the warnings."""
    if as_json:
        output.print_json(json.dumps([attached.to_json() for attached in found]))
        return
    if not found:
        output.print("nothing is attached")
    for attached in found:
        mapping = ", ".join(f"{key} {value}" for key, value in attached.mapping.items())
        output.print(f"{attached.relation} as {attached.role}: {mapping}", markup=False)
        if attached.sample:
            rows = table(*(f"  {name}" if not column else name for column, name in enumerate(attached.sample[0])))
            for row in attached.sample:
                cells = ["" if value is None else value.replace("\n", " ") for value in row.values()]
                rows.add_row(cut(f"  {cells[0]}"), *(cut(cell) for cell in cells[1:]))
            output.print(rows)
    for attached in found:
        for warning in attached.warnings:
            errors.print(f"warning: {warning.message}", markup=False)
            if warning.fix:
                errors.print(f"  {warning.fix}", markup=False)


@app.command()
def detach(
    relation: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="The attached table.", show_default=False)
    ] = None,
    url: Url = None,
    everything: Annotated[bool, typer.Option("--all", help="Detach every table.")] = False,
) -> None:
    """Stop reading an attached table. The table and recdb's own store stay as they are."""
    if (relation is None) != everything:
        raise typer.BadParameter("name a table, or --all")
    gone, left = attaching.detach(open_database(url), relation)
    for attached in gone:
        output.print(f"detached {attached.relation} as {attached.role}", markup=False)
    for view in left:
        output.print(f"a transaction still reads {view}: the next attach or detach removes it", markup=False)
    output.print("next: recdb refresh --full" if gone else "nothing is attached")
