"""Commands that bring data in: load and generate."""

import json
from typing import Annotated

import typer

from recdb import load as loading
from recdb.cli.common import Json, Url, app, open_database
from recdb.terminal import errors, output, progress

SHOWN_KINDS = 10


@app.command()
def load(
    file: Annotated[str, typer.Argument(help="A CSV file, plain or gzipped; - is standard input.", show_default=False)],
    url: Url = None,
    items: Annotated[
        bool,
        typer.Option(
            "--items",
            help="The file is a catalogue: item_id[,title][,owner_id][,published_at][,available][,attributes]. "
            "Known items are updated.",
        ),
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out instead of refusing all.")] = False,
    as_json: Json = False,
) -> None:
    """Load interactions from CSV: user_id,item_id,kind[,created_at][,metadata], columns in any order.

    Dates are what PostgreSQL reads: UTC where they name no zone; an empty one is now. All rows are loaded or none.
    """
    database = open_database(url, quiet=as_json)
    with progress("load") as report:
        loaded = loading.load(database, file, items=items, skip_bad=skip_bad, report=report)
    if loaded.refused.count:
        errors.print(f"warning: {loaded.refused.count:,} bad rows were left out", markup=False)
        errors.print(loaded.refused.describe(), markup=False)
    if loaded.unknown_kinds:
        errors.print(describe_kinds(loaded.unknown_kinds, loaded.default_weight), markup=False)
    if as_json:
        output.print_json(
            json.dumps(
                {
                    "rows": loaded.rows,
                    "users": None if items else loaded.users,
                    "items": loaded.items,
                    "bad_rows": loaded.refused.count,
                    "unknown_kinds": loaded.unknown_kinds,
                    "seconds": round(loaded.seconds, 3),
                }
            )
        )
    elif items:
        output.print(f"loaded {loaded.rows:,} items in {loaded.seconds:.1f} s")
    else:
        output.print(
            f"loaded {loaded.rows:,} interactions of {loaded.users:,} users with {loaded.items:,} items "
            f"in {loaded.seconds:.1f} s; next: recdb refresh"
        )


def describe_kinds(kinds: dict[str, int], weight: float) -> str:
    """Name the kinds that interaction_kind does not list, and what to do."""
    shown = ", ".join(f"{kind[:40]} ({rows:,})" for kind, rows in list(kinds.items())[:SHOWN_KINDS])
    more = f" and {len(kinds) - SHOWN_KINDS:,} more" if len(kinds) > SHOWN_KINDS else ""
    return (
        f"warning: kinds without a weight of their own count {weight:g}: {shown}{more}\n"
        "to give one: insert into recdb.interaction_kind (kind, weight) values ('KIND', 0.5)"
    )
