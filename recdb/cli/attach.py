"""Commands for an application's own tables: attach and detach."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recdb.cli.common import Json, Url, app, open_database
from recdb.data import attach as attaching
from recdb.data.attach import Attached
from recdb.data.sources import Source, parse_source
from recdb.database import connect
from recdb.migrate import require_installed
from recdb.terminal import cut, errors, output, progress, table

COLUMN = "COLUMN"


@app.command()
def attach(
    url: Url = None,
    interactions: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table, or view, of what users did.", show_default=False)
    ] = None,
    user: Annotated[str, typer.Option(metavar=COLUMN, help="Who: text, uuid or an integer.", show_default=False)] = "",
    item: Annotated[str, typer.Option(metavar=COLUMN, help="With what: likewise.", show_default=False)] = "",
    kind: Annotated[
        str,
        typer.Option(
            metavar="COLUMN|'CONSTANT'", help="How: a column, an enum too, or a constant.", show_default=False
        ),
    ] = "",
    at: Annotated[
        str,
        typer.Option(metavar=COLUMN, help="When; a timestamp without time zone holds UTC.", show_default=False),
    ] = "",
    where: Annotated[str, typer.Option(metavar="SQL", help="Only rows that meet this.", show_default=False)] = "",
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="One more table: 'TABLE user=COLUMN item=COLUMN kind=COLUMN|CONSTANT [at=COLUMN] [where=SQL]'. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    items: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table, or view, of the items.", show_default=False)
    ] = None,
    item_id: Annotated[str, typer.Option(metavar=COLUMN, help="An item's id.")] = "id",
    owner: Annotated[
        str, typer.Option(metavar=COLUMN, help="Whose it is: never recommended to them.", show_default=False)
    ] = "",
    published: Annotated[str, typer.Option(metavar=COLUMN, help="Since when it is there.", show_default=False)] = "",
    available: Annotated[
        str,
        typer.Option(
            metavar="COLUMN|SQL", help="Whether to recommend it, such as 'deleted_at is null'.", show_default=False
        ),
    ] = "",
    title: Annotated[str, typer.Option(metavar=COLUMN, help="What to show people.", show_default=False)] = "",
    attributes: Annotated[
        str,
        typer.Option(
            metavar="COLUMN,...", help="What filter => matches: a jsonb column or several.", show_default=False
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at everything, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Read an application's own tables, in place, beside recdb's own store; without options: what is attached.

    The tables are not altered. A table that is attached again gets the new mapping.
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
            show(list(attaching.listed(connection).values()), as_json)
        return
    with progress("attach") as report:
        found = attaching.attach(database, sources, dry_run=dry_run, report=report)
    show(found, as_json)
    if not as_json:
        output.print("dry run: nothing was changed" if dry_run else "attached; next: recdb refresh --full")


def require(options: dict[str, str], table_option: str) -> None:
    """Refuse a table without the options that it needs."""
    missing = [name for name, value in options.items() if not value]
    if missing:
        raise typer.BadParameter(f"{table_option} needs {', '.join(missing)} too")


def show(found: list[Attached], as_json: bool) -> None:
    """Print what each table's columns mean, some of its rows, and the warnings."""
    if as_json:
        output.print_json(json.dumps([asdict(attached) for attached in found]))
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
                rows.add_row(f"  {cells[0]}", *(cut(cell) for cell in cells[1:]))
            output.print(rows)
    for attached in found:
        for warning in attached.warnings:
            errors.print(f"warning: {warning.message}", markup=False)
            if warning.mend:
                errors.print(f"  {warning.mend}", markup=False)


@app.command()
def detach(
    relation: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="The table, as it was attached.", show_default=False)
    ] = None,
    url: Url = None,
    everything: Annotated[bool, typer.Option("--all", help="Every table.")] = False,
) -> None:
    """Undo attach: the table is no longer read. recdb's own store stays, and so does the table."""
    if (relation is None) != everything:
        raise typer.BadParameter("name a table, or --all")
    gone, left = attaching.detach(open_database(url), relation)
    for attached in gone:
        output.print(f"detached {attached.relation} as {attached.role}", markup=False)
    for view in left:
        output.print(f"left {view}, which a transaction reads: the next attach or detach removes it", markup=False)
    output.print("next: recdb refresh --full" if gone else "nothing is attached")
