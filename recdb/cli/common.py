"""What the commands share: the application, the options all have, and opening the database."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

import typer

from recdb.database import Database, find_database
from recdb.errors import InvalidInput
from recdb.job import tracking
from recdb.terminal import errors, output

app = typer.Typer(
    name="recdb",
    help="Recommendations inside PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The database; else RECDB_DATABASE_URL, else DATABASE_URL, else an embedded server.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Mlflow = Annotated[
    str | None,
    typer.Option("--mlflow", metavar="FOLDER_OR_URI", help="Log the version to MLflow (pip install 'recdb[mlflow]')."),
]
Budget = Annotated[str, typer.Option(metavar="TIME", help="How long to search, such as 90s, 5m or 1h.")]
LatencyOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="What the median of recommend() must stay within, such as 5ms."),
]


def open_database(url: str | None, *, quiet: bool = False) -> Database:
    """Find the database and say which one was taken, on standard error where standard output is for a program."""
    database = find_database(url)
    (errors if quiet else output).print(f"database: {database}", markup=False)
    return database


def tracker(database: Database, place: str | None) -> Callable[[str], None]:
    """Return a function that logs a trained version to MLflow, where the option --mlflow says so."""
    return tracking.tracker(database, place, lambda line: errors.print(f"warning: {line}", markup=False))


def parse_duration(text: str) -> timedelta:
    """Read a duration such as 90s, 30m, 24h or 7d."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    try:
        return timedelta(**{units[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise InvalidInput(f"'{text}' is not an age or duration", "write 90s, 30m, 24h or 7d") from error


def parse_budget(text: str) -> float:
    """Read the seconds of a time budget."""
    seconds = parse_duration(text).total_seconds()
    if seconds <= 0:
        raise InvalidInput(f"a budget of '{text}' leaves no time to search", "write 90s, 5m or 1h")
    return seconds


def parse_latency(text: str) -> float:
    """Read milliseconds from a latency such as 5ms or 0.5s."""
    for unit, length in (("ms", 1.0), ("s", 1000.0)):
        number = text.strip().removesuffix(unit)
        if number != text.strip():
            try:
                value = float(number) * length
            except ValueError:
                break
            if 0 < value < float("inf"):
                return value
    raise InvalidInput(f"'{text}' is not a latency", "write 5ms or 0.5s")
