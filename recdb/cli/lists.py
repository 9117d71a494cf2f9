"""Commands that show a list that is no user's own: trending, audience."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recdb import migrate
from recdb.cli.common import Json, Url, app, narrowed, open_database, parse_duration
from recdb.cli.model import FilterOption, read_filter, read_titles
from recdb.client import Recommender
from recdb.database import connect
from recdb.terminal import output


@app.command()
def trending(
    url: Url = None,
    k: Annotated[int, typer.Option("-k", "--k", help="The most items to return.")] = 10,
    window: Annotated[str, typer.Option(metavar="TIME", help="How far back now reaches, such as 1h or 7d.")] = "1d",
    filter: FilterOption = None,
    as_json: Json = False,
) -> None:
    """Show the items that more users touch now than usual, the steepest rise first.

    The seven windows before the last one say how many users are usual. Items that did not rise are left out.
    """
    time_window, wanted = parse_duration(window), read_filter(filter)
    database = open_database(url, quiet=as_json)
    with connect(database) as connection:
        migrate.require_installed(connection)
        rows = Recommender(connection).trending(k, time_window, wanted)
        titles = read_titles(connection, [row.item_id for row in rows])
    if as_json:
        output.print_json(json.dumps([asdict(row) | {"title": titles.get(row.item_id)} for row in rows]))
        return
    if not rows:
        output.print(f"nothing rose in the last {window} (try a longer --window)", markup=False)
        return
    cells = [
        (str(rank), row.item_id, titles.get(row.item_id) or "", f"{row.score:.3f}", f"{row.rise:.1f}", f"{row.users:,}")
        for rank, row in enumerate(rows, 1)
    ]
    output.print(narrowed((">rank", "item", "title", ">score", ">rise", ">users"), cells, foldable=["title"]))


@app.command()
def audience(
    item: Annotated[str, typer.Argument(help="The item's id.")],
    url: Url = None,
    k: Annotated[int, typer.Option("-k", "--k", help="The most users to return.")] = 10,
    as_json: Json = False,
) -> None:
    """Show the users that an item should be sent to: those in whose lists it stands highest.

    Users who touched the item are left out.
    """
    database = open_database(url, quiet=as_json)
    with connect(database) as connection:
        migrate.require_installed(connection)
        rows = Recommender(connection).audience(item, k)
    if as_json:
        output.print_json(json.dumps([asdict(row) for row in rows]))
        return
    if not rows:
        output.print(f"nobody for {item}: the model does not know it, or it is not available", markup=False)
        return
    cells = [(str(rank), row.user_id, f"{row.score:.3f}") for rank, row in enumerate(rows, 1)]
    output.print(narrowed((">rank", "user", ">score"), cells))
