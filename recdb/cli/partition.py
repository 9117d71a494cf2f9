"""The command that partitions the interactions by time: partition."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recdb.cli.common import Json, Url, app, open_database
from recdb.cli.data import count_of
from recdb.job import aging
from recdb.terminal import output, progress


@app.command()
def partition(
    url: Url = None,
    every: Annotated[
        str | None, typer.Option(metavar="month|week|day", help="The time that each partition holds.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Join the partitions into one table again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the steps.")] = False,
    as_json: Json = False,
) -> None:
    """Partition recdb's own interactions by time, while applications read and write.

    Run it again to go on after an interruption, and from time to time to pack the partitions that have ended.
    """
    database = open_database(url, quiet=as_json)
    with progress("partition") as report:
        made = aging.partition(database, every, undo=undo, dry_run=dry_run, report=report)
    if as_json:
        output.print_json(json.dumps(asdict(made) | {"seconds": round(made.seconds, 3), "dry_run": dry_run}))
        return
    if not made.steps:
        output.print("nothing to do")
        return
    for step in made.steps:
        output.print(f"{'would ' if dry_run else ''}{step}", markup=False)
    if dry_run:
        output.print(f"about {count_of(made.rows, 'interaction')} in {made.bytes_before / 1e6:,.1f} MB", markup=False)
        return
    sizes = f"{made.bytes_before / 1e6:,.1f} MB before, {made.bytes_after / 1e6:,.1f} MB now"
    output.print(f"copied {count_of(made.rows, 'interaction')} in {made.seconds:.1f} s: {sizes}", markup=False)
