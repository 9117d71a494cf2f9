"""The command that estimates the size of a database: size."""

import json
import re
from dataclasses import asdict
from typing import Annotated

import typer

from recdb.cli.common import Json, app
from recdb.errors import InvalidInput
from recdb.sizing import SPARE_CORES, Load, Server, Sizes, divide, make_plan
from recdb.terminal import output, table

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
MOST = 10**15
USUAL_REPEATS = 2.5
"""The interactions of a user with the same item, where nobody says how many there are."""


@app.command()
def size(
    users: Annotated[str, typer.Option(help="The users, such as 250000, 250k or 10M.")],
    items: Annotated[str, typer.Option(help="The items.")],
    events: Annotated[str, typer.Option(help="The interactions.")],
    pairs: Annotated[
        str | None,
        typer.Option(help="The pairs of a user and an item with interactions. Default: two fifths of the events."),
    ] = None,
    id_bytes: Annotated[int, typer.Option(help="The mean length of an id, in bytes; a UUID has 36.", min=1)] = 12,
    metadata_bytes: Annotated[int, typer.Option(help="The mean length of an interaction's metadata.", min=0)] = 0,
    partitioned: Annotated[bool, typer.Option(help="The interactions are partitioned by time, and packed.")] = False,
    dimension: Annotated[int, typer.Option(help="The width of the vectors.", min=8, max=4000)] = 128,
    memory: Annotated[str, typer.Option(help="The memory of one server, such as 64GB.")] = "128GB",
    cores: Annotated[int, typer.Option(help="The cores of one server.", min=1)] = 16,
    calls: Annotated[str, typer.Option(help="The calls of recommend() a second at the peak.")] = "0",
    as_json: Json = False,
) -> None:
    """Estimate disk, memory, the time of a training and the number of servers. Needs no database."""
    count = parse_count(events, "--events")
    most_pairs = min(count, parse_count(users, "--users") * parse_count(items, "--items"))
    load = Load(
        parse_count(users, "--users"),
        parse_count(items, "--items"),
        count,
        parse_count(pairs, "--pairs") if pairs is not None else min(most_pairs, round(count / USUAL_REPEATS)),
        id_bytes,
        id_bytes,
        metadata_bytes,
        dimension,
        partitioned=partitioned,
    )
    if load.pairs > most_pairs:
        raise InvalidInput(
            f"{load.pairs:,} pairs of a user and an item: there are at most {most_pairs:,}",
            "give the pairs that have interactions, or leave --pairs out",
        )
    server = Server(parse_memory(memory), cores)
    plan = make_plan(load, server, parse_count(calls, "--calls", least=0))
    if as_json:
        output.print_json(json.dumps(describe(plan)))
    else:
        show(load, server, plan)


def parse_count(text: str, option: str, least: int = 1) -> int:
    """Parse a number such as 250000, 250,000, 250k, 10M or 1B; raise InvalidInput for others, and below `least`."""
    found = re.fullmatch(
        r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]{0,30}(?:\.[0-9]{1,9})?)([kmbt]?)", text.strip().lower()
    )
    number = round(float(re.sub("[_,]", "", found[1])) * UNITS[found[2]]) if found else -1
    if not least <= number <= MOST:
        raise InvalidInput(
            f"{option} {text}: not a number from {least} to 1000T", f"write {option} 250000, 250k or 10M"
        )
    return number


def parse_memory(text: str) -> int:
    """Parse an amount such as 64GB, 64G, 64GiB or 512MB; raise InvalidInput for any other text."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([mgt])(?:i?b)?", text.strip().lower())
    number = round(float(found[1]) * UNITS[found[2]]) if found else 0
    if not 0 < number <= MOST:
        raise InvalidInput(f"--memory {text}: not an amount of memory", "write --memory 64GB or 512MB")
    return number


def describe(plan: Sizes) -> dict[str, object]:
    """Return a plan as a JSON object, in bytes, seconds and milliseconds."""
    return asdict(plan) | {"disk": plan.disk, "hot": plan.hot}


def show(load: Load, server: Server, plan: Sizes) -> None:
    """Print a plan: the parts of one server, its job and its calls, and how many servers there are."""
    output.print(
        f"{short(load.users)} users, {short(load.items)} items, "
        f"{short(load.interactions)} interactions of {short(load.pairs)} pairs"
    )
    if plan.cells > 1:
        output.print(f"each of {plan.cells:,} cells, with {short(divide(load, plan.cells).users)} users:")
    made = table("", ">disk", ">in memory")
    for part in plan.parts:
        made.add_row(part.name, written(part.disk), written(part.hot) if part.hot else "")
    made.add_row("total", written(plan.disk), written(plan.hot), style="bold")
    made.add_row("more during a training", written(plan.training_disk), written(plan.index_memory + plan.job_memory))
    output.print(made)
    output.print(
        f"a training: {spell(plan.training_seconds)} on 2 cores; "
        f"{written(plan.job_memory)} for the job, {written(plan.index_memory)} for an index"
    )
    a_second = server.cores * (1 - SPARE_CORES) * 1000 / plan.call_ms
    output.print(f"a call: {plan.call_ms:.1f} ms of a core; {a_second:,.0f} calls a second on {server.cores} cores")
    output.print(f"servers of {written(server.memory)}: {advice(plan)}")


def advice(plan: Sizes) -> str:
    """Say which servers a load takes, and which page is about them."""
    if plan.cells > 1:
        return f"{plan.cells:,} cells (docs/cells.md), or Citus if calls are few (docs/citus.md)"
    if plan.copies > 1:
        return f"{plan.copies:,}, a primary and streaming replicas (docs/replicas.md)"
    return "1, and a streaming replica for its failure (docs/replicas.md)"


def short(count: float) -> str:
    """Write a number of users, items or interactions with its unit: 250k, 10M, 1.6B."""
    for unit, size_ in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size_:
            return f"{count / size_:.3g}{unit}"
    return f"{count:.0f}"


def written(count: float) -> str:
    """Write a number of bytes with two digits or more, and its unit."""
    for unit, size_ in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size_:
            return f"{count / size_:.1f} {unit}" if count < 100 * size_ else f"{count / size_:,.0f} {unit}"
    return f"{count / 1000:.0f} kB"


def spell(seconds: float) -> str:
    """Write a time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
