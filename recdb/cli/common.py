"""Code that the commands share: the application, common options, parsing of options, opening the database."""

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import timedelta
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import typer
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from recdb.database import Database, find_database
from recdb.distribution import install_command, installed_version
from recdb.errors import InvalidInput
from recdb.job import tracking
from recdb.terminal import UNBOUNDED, errors, output, speak_of, table

Command = TypeVar("Command", bound=Callable[..., Any])

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The database. Default: RECDB_DATABASE_URL, DATABASE_URL, or else an embedded server.",
        show_default=False,
    ),
]
_schema: ContextVar[str | None] = ContextVar("_schema", default=None)

Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="NAME",
        help="The schema of the recommender, if the database has several. Default: RECDB_SCHEMA, or else recdb.",
        show_default=False,
    ),
]


class Application(typer.Typer):
    """The commands of recdb: each one with --url also gets --schema, for open_database(); the demo needs none."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[Command], Command]:
        """Return a decorator that registers a command."""
        register = super().command(*arguments, **options)

        def decorate(function: Command) -> Command:
            has_url = "url" in inspect.signature(function).parameters and function.__name__ != "demo"
            register(take_schema(function) if has_url else function)
            return function

        return decorate


def take_schema(function: Command) -> Command:
    """Add the option --schema to a command, behind --url."""

    @wraps(function)
    def command(*arguments: Any, schema: str | None, **options: Any) -> Any:
        _schema.set(schema)
        return function(*arguments, **options)

    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    place = 1 + [parameter.name for parameter in parameters].index("url")
    option = inspect.Parameter("schema", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Schema)
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    named.insert(place, option)
    command.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    command.__annotations__ = hints | {"schema": Schema}
    return cast("Command", command)


app = Application(
    name="recdb",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def print_version(wanted: bool) -> None:
    """Print the version and stop, if --version is given."""
    if wanted:
        output.print(f"recdb {installed_version()}")
        raise typer.Exit


@app.callback()
def recdb(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Recommendations inside PostgreSQL."""


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Mlflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="FOLDER_OR_URI",
        help=escape(f"Log the new version to MLflow ({install_command('mlflow')})."),
    ),
]
Budget = Annotated[str, typer.Option(metavar="TIME", help="How long to search, such as 90s, 5m or 1h.")]
LatencyOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="The most that the median call of recommend() may take, such as 5ms."),
]


def open_database(url: str | None, *, quiet: bool = False) -> Database:
    """Find the database and print which one; with `quiet` to standard error, because a program reads the output."""
    database = find_database(url, schema=_schema.get())
    speak_of(database.schema)
    (errors if quiet else output).print(f"database: {database}", markup=False)
    return database


def narrowed(headers: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> Table:
    """Make a table without folded cells; on a narrow terminal it leaves out columns of `spare`, in their order."""
    left_out: list[str] = []
    while True:
        kept = [place for place, header in enumerate(headers) if header not in left_out]
        made = table(*(headers[place] for place in kept), whole=headers)
        for row in rows:
            made.add_row(*(row[place] for place in kept))
        wide = Measurement.get(output, output.options.update(width=UNBOUNDED), made).maximum
        if wide <= output.width or len(left_out) == len(spare):
            return made
        left_out.append(spare[len(left_out)])


def tracker(database: Database, place: str | None) -> Callable[[str], None]:
    """Return a function that logs a trained version to MLflow, if --mlflow is given."""
    return tracking.version_tracker(database, place, lambda line: errors.print(f"warning: {line}", markup=False))


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 30m, 24h or 7d."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    try:
        return timedelta(**{units[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise InvalidInput(f"'{text}' is not an age or duration", "write 90s, 30m, 24h or 7d") from error


def parse_budget(text: str) -> float:
    """Parse a time budget; return seconds."""
    seconds = parse_duration(text).total_seconds()
    if seconds <= 0:
        raise InvalidInput(f"a budget of '{text}' leaves no time to search", "write 90s, 5m or 1h")
    return seconds


def parse_latency(text: str) -> float:
    """Parse a latency such as 5ms or 0.5s; return milliseconds."""
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
