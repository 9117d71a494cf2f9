"""Commands that write interactions: load and generate."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from recdb.cli.columns import (
    AnyTime,
    At,
    Attributes,
    Available,
    Delimiter,
    Embedding,
    Encoding,
    Header,
    IsCatalogue,
    Item,
    Kind,
    KindIs,
    Owner,
    Published,
    Time,
    Title,
    User,
    Value,
)
from recdb.cli.common import Json, Url, app, open_database
from recdb.data import generate as generating
from recdb.data import load as loading
from recdb.data.kinds import read_stars, sounds_low
from recdb.data.layout import Layout
from recdb.data.remarks import WEIGHT_RULE
from recdb.data.stored import Padded
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.migrate import require_installed
from recdb.terminal import errors, output, progress

SHOWN_KINDS = 10


@app.command()
def load(
    file: Annotated[
        str,
        typer.Argument(
            help="A CSV file, a JSON object in each line, or a JSON array of objects; plain, or packed by gzip, bzip2, "
            "xz or zip; - is standard input.",
            show_default=False,
        ),
    ],
    url: Url = None,
    items: IsCatalogue = False,
    user: User = None,
    item: Item = None,
    kind: Kind = None,
    kind_is: KindIs = None,
    at: At = None,
    value: Value = None,
    title: Title = None,
    owner: Owner = None,
    published: Published = None,
    available: Available = None,
    attributes: Attributes = None,
    embedding: Embedding = None,
    delimiter: Delimiter = ",",
    header: Header = None,
    encoding: Encoding = "utf-8",
    time: Time = "iso",
    any_time: AnyTime = False,
    again: Annotated[bool, typer.Option("--again", help="Load a file that was loaded before.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out bad rows; otherwise nothing loads.")] = False,
    as_json: Json = False,
) -> None:
    """Load interactions from a file: user_id, item_id, kind [, created_at, metadata, value], in any order.

    A file with other columns is loaded by naming them: --user, --item, and --kind or --kind-is.
    Dates are read as PostgreSQL reads them, in UTC unless they name a zone; an empty date is now. One such as
    03/02/2024 is a bad row, since another country reads another day.
    All rows are loaded, or none. A file that was loaded before is refused.
    """
    named = {"title": title, "owner_id": owner, "published_at": published, "available": available}
    named |= {"attributes": attributes, "embedding": embedding}
    of_items = {column: name for column, name in named.items() if name}
    layout = Layout(user, item, kind, kind_is, at, value, delimiter, header, encoding, time, any_time, of_items)
    if items and (user or kind or kind_is or at or value or time != "iso" or any_time):
        raise typer.BadParameter(
            "--user, --kind, --kind-is, --at, --value and --time are not for a catalogue (--items)"
        )
    if of_items and not items:
        raise typer.BadParameter("--title, --owner, --published, --available, --attributes, --embedding need --items")
    database = open_database(url, quiet=as_json)
    with progress("load") as report:
        loaded = loading.load(database, file, items=items, skip_bad=skip_bad, again=again, layout=layout, report=report)
    if loaded.refused.count:
        errors.print(f"warning: left out {count_of(loaded.refused.count, 'bad row')}", markup=False)
        errors.print(loaded.refused.describe(), markup=False)
    for padded in loaded.padded:
        errors.print(describe_padded(padded), markup=False)
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
                    "padded": {padded.column: padded.rows for padded in loaded.padded},
                    "unknown_kinds": loaded.unknown_kinds,
                    "seconds": round(loaded.seconds, 3),
                }
            )
        )
    elif items:
        output.print(f"loaded {count_of(loaded.rows, 'item')} in {loaded.seconds:.1f} s")
    else:
        output.print(
            f"loaded {count_of(loaded.rows, 'interaction')} of {count_of(loaded.users, 'user')} with "
            f"{count_of(loaded.items, 'item')} in {loaded.seconds:.1f} s; next: recdb refresh"
        )


def count_of(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_padded(padded: Padded) -> str:
    """Return the warning about ids that begin or end with a space."""
    rows = f"{count_of(padded.rows, 'row')} {'has' if padded.rows == 1 else 'have'}"
    return (
        f"warning: {rows} a {padded.column} that begins or ends with a space, such as line {padded.line}: "
        f"{padded.example[:40]!r}; it is another id than without the space"
    )


def describe_kinds(kinds: dict[str, int], weight: float) -> str:
    """Return the warning about kinds that interaction_kind does not list."""
    shown = ", ".join(f"{kind[:40]} ({rows:,})" for kind, rows in list(kinds.items())[:SHOWN_KINDS])
    more = f" and {len(kinds) - SHOWN_KINDS:,} more" if len(kinds) > SHOWN_KINDS else ""
    return (
        f"warning: kinds without a weight of their own weigh {weight:g}: {shown}{more}\n"
        "to give them one: insert into recdb.interaction_kind (kind, weight) values ('KIND', …) "
        f"({WEIGHT_RULE}){describe_low(kinds)}"
    )


def describe_low(kinds: Iterable[str]) -> str:
    """Return the end of that warning, about kinds that sound like dislikes."""
    if read_stars(list(kinds)):
        return "\nif these are stars and not kinds: --kind-is KIND --value 'COLUMN - 2.5', with 2.5 for the middle"
    low = [kind[:40] for kind in kinds if sounds_low(kind)][:SHOWN_KINDS]
    return f"\nuntil then these count in favour of an item, and sound like dislikes: {', '.join(low)}" if low else ""


@app.command()
def generate(
    url: Url = None,
    users: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The number of users (default 1000); with --existing, at most.",
            show_default=False,
        ),
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The number of items (default 1000); with --existing, at most.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="The number of interactions.")] = 50_000,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="The number of days that the interactions cover.")] = 90,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="The last day, in UTC; default: now."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and --until give the same rows.")] = 1,
    existing: Annotated[
        bool, typer.Option("--existing", help="Take existing users and items, also from attached tables.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write beside other data without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Generate plausible interactions (views, clicks, likes, shares) of users with tastes, and a catalogue.

    Generated interactions have the key "generated" in their metadata, and generated items in their attributes.
    """
    database = open_database(url, quiet=as_json)
    if not yes:
        confirm_beside_other_data(database)
    with progress("generate") as report:
        made = generating.generate(
            database,
            users=users,
            items=items,
            count=count,
            days=days,
            seed=seed,
            existing=existing,
            until=until and until.replace(tzinfo=UTC),
            report=report,
        )
    if as_json:
        output.print_json(json.dumps(asdict(made)))
        return
    known = "existing " if existing else ""
    output.print(
        f"generated {count_of(made.interactions, 'interaction')} of {count_of(made.users, known + 'user')} with "
        f"{count_of(made.items, known + 'item')} in {made.seconds:.1f} s; next: recdb refresh"
    )


def confirm_beside_other_data(database: Database) -> None:
    """Ask before generated interactions are mixed with other data; refuse if there is no terminal to ask on."""
    with connect(database) as connection:
        require_installed(connection)
        if not generating.has_other_data(connection):
            return
    if not sys.stdin.isatty():
        raise RecdbError(
            "this database has interactions or items that were not generated", "pass --yes to write beside them"
        )
    typer.confirm(
        "This database has interactions or items that were not generated. Write generated ones beside them?", abort=True
    )
