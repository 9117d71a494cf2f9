"""Loading interactions or a catalogue from CSV.

load() reads a file once. Python splits it into rows with line numbers, and copies them into a temporary table.
PostgreSQL checks the values, so that recdb accepts exactly the dates that PostgreSQL reads. Everything happens in one
transaction, so that an error or an interruption leaves nothing behind.
"""

import csv
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO

import psycopg

from recdb.citus import use_connections
from recdb.data.dates import unclear
from recdb.data.files import JsonRows, Lines, NotJSON, file_name, is_json, malformed, open_text, read_rows
from recdb.data.json_arrays import ONE_A_LINE, Elements, read_lines
from recdb.data.layout import (
    Arrangement,
    FileColumn,
    Layout,
    arrange_mapped,
    as_literal,
    embedding_column,
    number_column,
    require_readable,
    suggest_delimiter,
    try_expression,
)
from recdb.data.stored import Padded, count_distinct, find_padded, note_file, refuse_again, unknown_kinds
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import InvalidInput
from recdb.migrate import require_installed
from recdb.progress import Report, silent

SHOWN = 10
REPORT_ROWS = 1 << 16
# An index entry holds at most 2,704 bytes; one entry holds an interaction's ids, kind and time.
LONGEST_BYTES = 2600

DEFAULT = Layout()
RELATIVE = r"\m(now|today|tomorrow|yesterday|epoch|infinity|allballs)\M"
NAMES = {"unix": "seconds", "unix-ms": "milliseconds"}


def text_column(name: str, longest: int) -> FileColumn:
    """Make a required column of text of 1 to `longest` characters."""
    return FileColumn(
        f"case when {name} = '' then '{name} is empty' "
        f"when length({name}) > {longest} then '{name} has more than {longest:,} characters' "
        f"when octet_length({name}) > {LONGEST_BYTES} then '{name} takes more than {LONGEST_BYTES:,} bytes' end",
        name,
        required=True,
    )


def typed_column(name: str, kind: str, what: str, default: str, also: str = "true") -> FileColumn:
    """Make a column of an SQL type; an empty value is `default`, and `also` is one more condition on a value."""
    return FileColumn(
        f"case when {name} = '' then null "
        f"when not recdb.is_input({name}, '{kind}') then format('{name} %L is not {what}', left({name}, 40)) "
        f"when not ({also}) then format('{name} %L is not {what}', left({name}, 40)) end",
        f"coalesce(nullif({name}, '')::{kind}, {default})",
    )


def time_column(name: str, default: str) -> FileColumn:
    """Make a column of times."""
    what = "a date like 2024-01-31T12:00:00Z"
    # Words such as now and yesterday are times for PostgreSQL, but other ones on each day.
    said = f"{name} ~ '[0-9]' and {name} !~* '{RELATIVE}' and isfinite({name}::timestamptz)"
    column = typed_column(name, "timestamptz", what, default, said)
    return replace(column, problem=f"coalesce({column.problem}, {unclear(name)})")


def past_column(name: str, default: str, layout: Layout = DEFAULT) -> FileColumn:
    """Make a column of past times, by the rule of recdb.track(): dates, or seconds or milliseconds since 1970."""
    shown = f"left({name}, 40)"
    if layout.time == "iso":
        column = time_column(name, default)
        # PostgreSQL reads some of these numbers as dates, such as the year 170004; 14 digits are a date and time.
        number = (
            # strpos() is quick, and leaves no usual date to the pattern.
            f"case when strpos({name}, '-') = 0 and {name} ~ '^[0-9]{{9,13}}([.][0-9]+)?$|^[0-9]{{15,}}$' then "
            f"format('{name} %L is not a date but a number; if it counts from 1970: %s', {shown}, "
            f"case when length(split_part({name}, '.', 1)) < 12 then '--time unix' else '--time unix-ms' end) end"
        )
        column = replace(column, problem=f"coalesce({number}, {column.problem})")
        moment = f"nullif({name}, '')::timestamptz"
    else:
        per_second = 1 if layout.time == "unix" else 1000
        moment = f"to_timestamp(nullif({name}, '')::double precision / {per_second})"
        problem = (
            f"case when {name} <> '' and {name} !~ '^[-+]?[0-9]{{1,14}}([.][0-9]+)?$' "
            f"then format('{name} %L is not a number of {NAMES[layout.time]} since 1970', {shown}) end"
        )
        if layout.time == "unix-ms":
            problem += (
                f", case when {name} <> '' and abs({name}::numeric) < 1e11 and not {str(layout.any_time).lower()} then "
                f"format('{name} %L would be before 1974: are these seconds? pass --time unix', {shown}) end"
            )
        column = FileColumn(f"coalesce({problem})", f"coalesce({moment}, {default})")
    if layout.any_time:
        return column
    late = f"{moment} not between '1970-01-01 UTC' and (select now() + interval '1 day')"
    beyond = f"case when {late} then format('{name} %L is not from 1970 until a day from now', {shown}) end"
    return replace(column, problem=f"coalesce({column.problem}, {beyond})")


@dataclass(frozen=True)
class Target:
    """A table to load into, and the columns that a file may have."""

    table: str
    columns: dict[str, FileColumn]
    problem: str = "null"
    """SQL: the problem with a row of good values, NULL for a good row."""

    def required(self) -> list[str]:
        """Return the names of the columns that a file must have."""
        return [name for name, column in self.columns.items() if column.required]


INTERACTIONS = Target(
    "interaction",
    {
        "user_id": text_column("user_id", 1000),
        "item_id": text_column("item_id", 1000),
        "kind": text_column("kind", 100),
        "created_at": past_column("created_at", "now()"),
        "metadata": typed_column("metadata", "jsonb", "JSON", "null"),
        "value": number_column("value"),
    },
    "case when octet_length(user_id) + octet_length(item_id) + octet_length(kind) > "
    f"{LONGEST_BYTES} then 'user_id, item_id and kind together take more than {LONGEST_BYTES:,} bytes' end",
)
ITEMS = Target(
    "item",
    {
        "item_id": text_column("item_id", 1000),
        "title": FileColumn("null", "nullif(title, '')"),
        "owner_id": FileColumn("null", "nullif(owner_id, '')"),
        "published_at": time_column("published_at", "null"),
        "available": typed_column("available", "boolean", "true or false", "true"),
        "attributes": typed_column(
            "attributes", "jsonb", "a JSON object", "'{}'", "jsonb_typeof(attributes::jsonb) = 'object'"
        ),
        "embedding": embedding_column("embedding"),
    },
)


@dataclass(frozen=True)
class Loaded:
    """The result of load(): counts, the bad rows left out, and the rows of kinds not listed in interaction_kind."""

    rows: int
    users: int
    items: int
    refused: "Refused"
    unknown_kinds: dict[str, int]
    default_weight: float
    padded: Sequence[Padded] = ()
    """The ids that begin or end with a space."""
    seconds: float = 0.0


@dataclass
class Refused:
    """Bad rows: their count, and the first of them as (line number, reason)."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Count a bad row; call it in the order of the lines."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append((line, reason))

    def merge(self, other: "Refused") -> "Refused":
        """Merge two sets of bad rows of one file."""
        return Refused(self.count + other.count, sorted(self.first + other.first)[:SHOWN])

    def describe(self) -> str:
        """Return a line for each of the first bad rows, and one with the count of the others."""
        lines = [f"  line {line}: {reason}" for line, reason in self.first]
        if self.count > len(self.first):
            lines.append(f"  and {self.count - len(self.first):,} more")
        return "\n".join(lines)


def load(
    database: Database,
    path: str,
    *,
    items: bool = False,
    skip_bad: bool = False,
    again: bool = False,
    layout: Layout = DEFAULT,
    report: Report = silent,
) -> Loaded:
    """Load a file of interactions, or with `items` of catalogue rows, plain or packed; '-' is standard input.

    Interactions are added: user_id,item_id,kind[,created_at][,metadata][,value], or the columns that `layout` names.
    Catalogue rows set the columns that the file has: item_id[,title][,owner_id][,published_at][,available]
    [,attributes][,embedding]; the last row of an item counts. Dates are those that PostgreSQL reads, in UTC unless
    they name a zone; one such as 03/02/2024, which names neither month nor day, is bad. An empty created_at is now; one
    before 1970 or more than a day ahead is bad.

    Raises InvalidInput, and loads nothing, if the file cannot be read, its header is wrong, it was loaded before
    (unless `again`), or a row is bad; with `skip_bad` the bad rows are left out instead.
    """
    began = time.monotonic()
    layout.check()
    moment = {} if items else {"created_at": past_column("created_at", "now()", layout)}
    target = ITEMS if items else replace(INTERACTIONS, columns=INTERACTIONS.columns | moment)
    with connect(database) as connection, open_text(path, layout.encoding) as opened:
        require_primary(connection)
        require_installed(connection)
        for setting in ("timezone = 'UTC'", "datestyle = 'ISO, MDY'", "work_mem = '64MB'"):
            connection.execute(f"set local {setting}")
        use_connections(connection)
        lines = read_lines(opened.stream, path)
        reader, arrangement = read_header(lines, target, layout, path)
        create_staged(connection, arrangement)
        if layout.value and "value" not in arrangement.staged:
            try_expression(connection, layout.value, arrangement.columns["value"])
        refused = stage(
            connection, reader, lines, arrangement, lambda rows: report(f"reading, {rows:,} rows{opened.position()}")
        )
        report("checking")
        try:
            refused = refused.merge(remove_bad_rows(connection, target, arrangement.columns))
        except psycopg.DataError as error:
            raise InvalidInput(f"--value '{layout.value}': {error.diag.message_primary}") from error
        if refused.count and not skip_bad:
            raise InvalidInput(
                f"{refused.count:,} bad {'row' if refused.count == 1 else 'rows'} in {file_name(path)}; nothing was "
                f"loaded\n{refused.describe()}",
                "fix them, or pass --skip-bad to load the other rows",
            )
        if not items and not again:
            refuse_again(connection, path, opened.digest())
        report("storing")
        rows = store(connection, target, arrangement.columns)
        if rows and not items:
            note_file(connection, path, opened.digest(), rows)
        report("counting")
        counted = Loaded(
            rows=rows,
            users=0 if items else count_distinct(connection, "user_id"),
            items=count_distinct(connection, "item_id"),
            refused=refused,
            unknown_kinds={} if items else unknown_kinds(connection),
            default_weight=float(fetch_row(connection, "select default_weight from recdb.config")[0]),
            padded=find_padded(connection, ("item_id",) if items else ("user_id", "item_id")),
        )
        connection.commit()
    return replace(counted, seconds=time.monotonic() - began)


def read_header(lines: Lines, target: Target, layout: Layout, path: str) -> tuple[Iterator[list[str]], Arrangement]:
    """Read the names of the columns, in any order; return the rows after them, and the arrangement of the columns.

    Raises InvalidInput if a column is missing, unknown or repeated.
    """
    understood = ",".join(n if c.required else f"[{n}]" for n, c in target.columns.items())
    separated = "commas" if layout.separator == "," else f"'{layout.delimiter}'"
    hint = f"the first line names the columns, separated by {separated}: {understood}"
    line = lines.peek()
    reader: Iterator[list[str]]
    try:
        if is_json(line) or (line and isinstance(lines, Elements)):
            reader = rows = JsonRows(lines, layout.wanted())
            cells = rows.header
            rows.keys = layout.keys(cells, target.columns)
        elif layout.header is False:
            reader = read_rows(lines, layout.separator)
            first = next(read_rows(Lines(StringIO(line)), layout.separator), [])
            cells = [str(number) for number in range(1, len(first) + 1)]
        else:
            reader = read_rows(lines, layout.separator)
            cells = [cell.strip().removeprefix("\ufeff") for cell in next(reader, [])]
    except NotJSON as error:
        raise InvalidInput(f"the first line of {file_name(path)} is {error}", ONE_A_LINE) from error
    except csv.Error as error:
        raise InvalidInput(f"the first line of {file_name(path)} is not CSV: {error}", hint) from error
    if not cells:
        raise InvalidInput(f"{file_name(path)} is empty", hint)
    require_readable(cells, path, layout.encoding, hint)
    if layout.maps:
        return reader, arrange_mapped(cells, layout, target.columns, path)
    header = [cell.lower() for cell in cells]
    shown = [cell[:60] for cell in header]
    missing = [column for column in target.required() if column not in header]
    if missing:
        own = "" if target is ITEMS else "; or name yours: --user, --item, and --kind or --kind-is"
        raise InvalidInput(
            f"{file_name(path)} has no column {', '.join(missing)}: it has {', '.join(shown[:20])}",
            f"{hint}{own}{suggest_delimiter(cells)}",
        )
    unknown = [cell for cell, column in zip(shown, header, strict=True) if column not in target.columns]
    if unknown:
        raise InvalidInput(f"unknown {'column' if len(unknown) == 1 else 'columns'} {', '.join(unknown[:20])}", hint)
    if len(set(header)) < len(header):
        raise InvalidInput(f"a column is named twice: {', '.join(shown)}", hint)
    return reader, Arrangement(len(header), header, None, {column: target.columns[column] for column in header})


def create_staged(connection: psycopg.Connection, arrangement: Arrangement) -> None:
    """Create the temporary table that the rows are copied into, as text."""
    columns = [f"{column} text not null" for column in arrangement.staged]
    columns += [
        f"{column} text not null default {as_literal(value)}" for column, value in arrangement.constants.items()
    ]
    connection.execute(f"create temporary table staged (line bigint not null, {', '.join(columns)}) on commit drop")


def stage(
    connection: psycopg.Connection,
    reader: Iterator[list[str]],
    lines: Lines,
    arrangement: Arrangement,
    report: Callable[[int], None],
) -> Refused:
    """Copy the rows as text into the temporary table, with their line numbers; return the malformed rows."""
    width, places = arrangement.width, arrangement.places
    refused = Refused()
    rows = 0
    report(rows)
    statement = f"copy staged (line, {', '.join(arrangement.staged)}) from stdin"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        while True:
            first = lines.start_row()
            try:
                row = next(reader)
            except StopIteration:
                return refused
            except csv.Error as error:
                refused.add(first, str(error) if isinstance(error, NotJSON) else "quotes do not balance")
                lines.reread()
                continue
            if not row:
                continue
            reason = malformed(row, width)
            if reason is None:
                copy.write_row((first, *row) if places is None else (first, *[row[place] for place in places]))
            else:
                refused.add(first, reason if lines.number == first else f"{reason} (it ends in line {lines.number})")
            rows += 1
            if rows % REPORT_ROWS == 0:
                report(rows)


def remove_bad_rows(connection: psycopg.Connection, target: Target, columns: Mapping[str, FileColumn]) -> Refused:
    """Delete the staged rows that have bad values; return these rows."""
    problems = [*(column.problem for column in columns.values()), target.problem]
    problem = f"coalesce({', '.join(problems)})"
    if connection.info.server_version >= 160000:
        # PostgreSQL's own check is several times as fast; for JSON it does not catch every error.
        problem = re.sub(r"recdb\.is_input\((\w+, 'timestamptz')\)", r"pg_input_is_valid(\1)", problem)
    found = connection.execute(
        f"""
        with bad as (
            delete from staged where {problem} is not null
            returning line, {problem} as reason
        )
        select count(*) over (), line, reason from bad order by line limit {SHOWN}
        """
    ).fetchall()
    return Refused(found[0][0] if found else 0, [(line, reason) for _, line, reason in found])


def store(connection: psycopg.Connection, target: Target, header: Mapping[str, FileColumn]) -> int:
    """Write the staged rows and analyse the table; return the number of rows."""
    columns = ", ".join(header)
    values = ", ".join(column.value for column in header.values())
    if target is ITEMS:
        updates = ", ".join(f"{column} = excluded.{column}" for column in header if column != "item_id")
        statement = f"""
            insert into recdb.item ({columns})
            select distinct on (item_id) {values} from staged order by item_id, line desc
            on conflict (item_id) do {f"update set {updates}" if updates else "nothing"}
        """
    else:
        # Sorted by user this is twice as fast as in the file's order, because it fills the index from left to right.
        # recommend() reads a user's interactions together, and then finds them on few pages.
        statement = f"insert into recdb.interaction ({columns}) select {values} from staged order by user_id, line"
    rows = connection.execute(statement).rowcount
    connection.execute(f"analyze recdb.{target.table}")
    return rows
