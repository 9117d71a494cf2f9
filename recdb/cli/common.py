"""Code that the commands share: the application, common options, parsing of options, opening the database."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import psycopg
import typer
import typer.core
from rich.measure import Measurement
from rich.table import Table

from recdb.data.readable import name_failure
from recdb.database import Database, connect, find_database
from recdb.distribution import install_command, installed_version
from recdb.errors import InvalidInput, RecdbError
from recdb.job import tracking
from recdb.terminal import UNBOUNDED, errors, output, speak_of, table, visible
from recdb.tuning.tune import COST

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
_opened: ContextVar[Database | None] = ContextVar("_opened", default=None)

Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="NAME",
        help="The schema of the recommender, if the database has several. Default: RECDB_SCHEMA, or else recdb.",
        show_default=False,
    ),
]


# The classes of SQLSTATEs that no expression of an attached table raises, as recdb.may_be_of_source() has them.
NOT_OF_SOURCES = ("08", "25", "40", "53", "55", "57", "58", "XX")


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


@contextmanager
def visible_refusals() -> Iterator[None]:
    """Escape control characters in the errors of Click, which quote arguments and print themselves."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(getattr(error, "message", None), str):
            error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


class Commands(typer.core.TyperGroup):
    """The list of commands, with the whole first sentence of each: Click cuts it where the line ends."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments before the command."""
        with visible_refusals():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read the arguments of the command, and run it."""
        with visible_refusals():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=1000)) for name, one in found if one and not one.hidden]
            )


# Without Rich's markup: it would read [brackets] in a help text as styles, and leave them out.
app = Application(
    name="recdb",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
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
        help=f"Log the new version to MLflow ({install_command('mlflow')}).",
    ),
]
Budget = Annotated[str, typer.Option(metavar="TIME", help="How long to search, such as 90s, 5m or 1h.")]
LatencyOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="The most that the median call of recommend() may take, such as 5ms."),
]
CostOption = Annotated[
    str | None,
    typer.Option(
        metavar="FACTOR",
        help="The most that a call may cost, in calls with the defaults, such as 3; any takes the best whatever it "
        "costs. Default: 2, or any with --latency.",
        show_default=False,
    ),
]


def open_database(url: str | None, *, quiet: bool = False) -> Database:
    """Find the database and print which one; with `quiet` to standard error, because a program reads the output."""
    database = find_database(url, schema=_schema.get())
    _opened.set(database)
    speak_of(database.schema)
    (errors if quiet else output).print(f"database: {database}", markup=False)
    return database


def name_source(error: Exception) -> Exception:
    """Return the error that names the attached table whose row made a command fail; `error` if it was none."""
    database = _opened.get()
    if database is None or not isinstance(error, psycopg.Error) or (error.sqlstate or "08")[:2] in NOT_OF_SOURCES:
        return error
    with suppress(psycopg.Error, RecdbError), connect(database, autocommit=True) as connection:
        return name_failure(connection, error) or error
    return error


def narrowed(
    headers: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = (), foldable: Sequence[str] = ()
) -> Table:
    """Make a table that fits the terminal, and folds no cell but those of the columns `foldable`.

    On a narrow terminal it leaves out columns of `spare`, in their order. If that is not enough, each row becomes a
    list of its cells, one a line.
    """
    left_out: list[str] = []
    while True:
        kept = [place for place, header in enumerate(headers) if header not in left_out]
        whole = [header.lstrip(">") for header in headers if header not in foldable]
        # A column that may be folded needs some letters in a line.
        short = [[row[place][: None if headers[place] not in foldable else 16] for place in kept] for row in rows]
        if wide_of([headers[place] for place in kept], short, whole) <= output.width:
            return fill(table(*(headers[place] for place in kept), whole=whole), [[r[p] for p in kept] for r in rows])
        if len(left_out) == len(spare):
            return listed(headers, rows)
        left_out.append(spare[len(left_out)])


def wide_of(headers: Sequence[str], rows: Sequence[Sequence[str]], whole: Sequence[str]) -> int:
    """Measure a table that is not folded."""
    made = fill(table(*headers, whole=whole), rows)
    return Measurement.get(output, output.options.update(width=UNBOUNDED), made).maximum


def fill(made: Table, rows: Sequence[Sequence[str]]) -> Table:
    """Add rows to a table, and return it."""
    for row in rows:
        made.add_row(*row)
    return made


def listed(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table of the names and values of each row, one below the other."""
    made = table("name", "value", whole=["name"])
    made.show_header = False
    for place, row in enumerate(rows):
        if place:
            made.add_row("", "")
        for header, cell in zip(headers, row, strict=True):
            if cell:
                made.add_row(header.lstrip(">"), cell)
    return made


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


def parse_cost(text: str | None, latency: str | None) -> float | None:
    """Parse a cost such as 2 or 2x, in default calls; None for any. A latency replaces the default bound."""
    if text is None:
        return COST if latency is None else None
    if text.strip() == "any":
        return None
    try:
        value = float(text.strip().removesuffix("x"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InvalidInput(f"'{text}' is not a cost", "write 2 for twice the cost of a call with the defaults, or any")
    return value


def price_line(tuned: Mapping[str, Any]) -> str:
    """Describe the price of the chosen setting, and the gain at a higher one; `tuned` is Tuning.to_json()."""
    limit = "any cost was allowed" if tuned["cost_limit"] is None else f"at most {tuned['cost_limit']:g}x was allowed"
    line = f"a call costs {tuned['cost']:.1f}x a call with the defaults; {limit}"
    if tuned["dearer"] is None:
        return line
    return f"{line}; ndcg {tuned['dearer']['gain']:+.1%} at {tuned['dearer']['cost']:.1f}x: --cost any"
