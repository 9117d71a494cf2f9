"""Loading interactions or a catalogue from CSV.

load() reads a file once. Python splits it into rows with line numbers, and copies them into a temporary table.
PostgreSQL checks the values, so that recdb accepts exactly the dates that PostgreSQL reads. Everything happens in one
transaction, so that an error or an interruption leaves nothing behind.
"""

import csv
import gzip
import io
import os
import re
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import psycopg

from recdb.database import Database, connect, fetch_row
from recdb.errors import InvalidInput
from recdb.migrate import require_installed
from recdb.progress import Report, silent

STDIN = "-"
SHOWN = 10
REPORT_ROWS = 1 << 16
LONGEST_LINE = 1 << 24
GZIP_MAGIC = b"\x1f\x8b"

# Python decodes bytes that are not UTF-8 as lone surrogates (errors="surrogateescape").
SURROGATE = re.compile("[\ud800-\udfff]")

# An index entry holds at most 2,704 bytes; one entry holds an interaction's ids, kind and time.
LONGEST_BYTES = 2600


@dataclass(frozen=True)
class FileColumn:
    """A column of the file."""

    problem: str
    """SQL: the problem with a value, NULL for a good value."""
    value: str
    """SQL: the value to store."""
    required: bool = False


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
    return typed_column(name, "timestamptz", what, default, f"isfinite({name}::timestamptz)")


def past_column(name: str, default: str) -> FileColumn:
    """Make a column of past times, by the rule of recdb.track()."""
    column = time_column(name, default)
    late = f"nullif({name}, '')::timestamptz not between '1970-01-01 UTC' and now() + interval '1 day'"
    beyond = f"case when {late} then format('{name} %L is not from 1970 until a day from now', left({name}, 40)) end"
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
    database: Database, path: str, *, items: bool = False, skip_bad: bool = False, report: Report = silent
) -> Loaded:
    """Load a CSV file of interactions, or with `items` of catalogue rows, plain or gzipped; '-' is standard input.

    Interactions are added: user_id,item_id,kind[,created_at][,metadata]. Catalogue rows set the columns that the file
    has: item_id[,title][,owner_id][,published_at][,available][,attributes]; the last row of an item counts.
    Dates are those that PostgreSQL reads: in UTC unless they name a zone, with the month before the day if they have
    slashes. An empty created_at is now; one before 1970 or more than a day ahead is bad.

    Raises InvalidInput, and loads nothing, if the file cannot be read, its header is wrong, or a row is bad; with
    `skip_bad` the bad rows are left out instead.
    """
    began = time.monotonic()
    target = ITEMS if items else INTERACTIONS
    with connect(database) as connection, open_text(path) as (stream, position):
        require_installed(connection)
        for setting in ("timezone = 'UTC'", "datestyle = 'ISO, MDY'", "work_mem = '64MB'"):
            connection.execute(f"set local {setting}")
        lines = Lines(stream)
        reader = csv.reader(lines, strict=True)
        header = read_header(reader, target, path)
        refused = stage(connection, reader, lines, header, lambda rows: report(f"reading, {rows:,} rows{position()}"))
        report("checking")
        refused = refused.merge(remove_bad_rows(connection, target, header))
        if refused.count and not skip_bad:
            raise InvalidInput(
                f"{refused.count:,} bad {'row' if refused.count == 1 else 'rows'} in {file_name(path)}; nothing was "
                f"loaded\n{refused.describe()}",
                "fix them, or pass --skip-bad to load the other rows",
            )
        report("storing")
        rows = store(connection, target, header)
        report("counting")
        counted = Loaded(
            rows=rows,
            users=0 if items else count_distinct(connection, "user_id"),
            items=count_distinct(connection, "item_id"),
            refused=refused,
            unknown_kinds={} if items else unknown_kinds(connection),
            default_weight=float(fetch_row(connection, "select default_weight from recdb.config")[0]),
        )
        connection.commit()
    return replace(counted, seconds=time.monotonic() - began)


def file_name(path: str) -> str:
    """Name a file in a message."""
    return "standard input" if path == STDIN else path


@contextmanager
def open_text(path: str) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Open a file, plain or gzipped, as text; the second value tells how much of the file has been read."""
    try:
        raw = os.fdopen(sys.stdin.fileno(), "rb", closefd=False) if path == STDIN else Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    with raw:
        size = os.fstat(raw.fileno()).st_size
        plain = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP_MAGIC else raw
        stream = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield stream, lambda: f", {raw.tell() / size:.0%}" if size else ""
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidInput(f"{file_name(path)} is a damaged gzip file: {error}") from error
        except OSError as error:
            raise InvalidInput(f"cannot read {file_name(path)}: {error.strerror or error}") from error


class Lines:
    """The numbered lines of a text; after a bad row, its lines but the first can be read again.

    A quote that is never closed makes a row of all lines after it. Reading these again limits the damage to one line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self.number = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._stream.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_LINE:
            raise InvalidInput(f"line {self.number} has more than {LONGEST_LINE:,} characters: this is not a CSV file")
        self._row.append(line)
        return line

    def start_row(self) -> int:
        """Start a row at the next line; return the number of this line."""
        self._row.clear()
        return self.number + 1

    def reread(self) -> None:
        """Read the lines of this row again, except the first."""
        self._again.extendleft(reversed(self._row[1:]))
        self.number -= len(self._row) - 1


def read_header(reader: Iterator[list[str]], target: Target, path: str) -> list[str]:
    """Read the names of the columns, in any order; raise InvalidInput if one is missing, unknown or repeated."""
    understood = ",".join(n if c.required else f"[{n}]" for n, c in target.columns.items())
    hint = f"the first line names the columns, separated by commas: {understood}"
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
    except csv.Error as error:
        raise InvalidInput(f"the first line of {file_name(path)} is not CSV: {error}", hint) from error
    if not header:
        raise InvalidInput(f"{file_name(path)} is empty", hint)
    if malformed(header, len(header)):
        raise InvalidInput(f"{file_name(path)} is not a CSV file in UTF-8", hint)
    shown = [cell[:60] for cell in header]
    missing = [column for column in target.required() if column not in header]
    if missing:
        raise InvalidInput(
            f"{file_name(path)} has no column {', '.join(missing)}: it has {', '.join(shown[:20])}", hint
        )
    unknown = [cell for cell, column in zip(shown, header, strict=True) if column not in target.columns]
    if unknown:
        raise InvalidInput(f"unknown {'column' if len(unknown) == 1 else 'columns'} {', '.join(unknown[:20])}", hint)
    if len(set(header)) < len(header):
        raise InvalidInput(f"a column is named twice: {', '.join(shown)}", hint)
    return header


def stage(
    connection: psycopg.Connection,
    reader: Iterator[list[str]],
    lines: Lines,
    header: list[str],
    report: Callable[[int], None],
) -> Refused:
    """Copy the rows as text into a temporary table, with their line numbers; return the malformed rows."""
    columns = ", ".join(f"{column} text not null" for column in header)
    connection.execute(f"create temporary table staged (line bigint not null, {columns}) on commit drop")
    refused = Refused()
    rows = 0
    report(rows)
    with connection.cursor() as cursor, cursor.copy("copy staged from stdin") as copy:
        while True:
            first = lines.start_row()
            try:
                row = next(reader)
            except StopIteration:
                return refused
            except csv.Error:
                refused.add(first, "quotes do not balance")
                lines.reread()
                continue
            if not row:
                continue
            reason = malformed(row, len(header))
            if reason is None:
                copy.write_row((first, *row))
            else:
                refused.add(first, reason if lines.number == first else f"{reason} (it ends in line {lines.number})")
            rows += 1
            if rows % REPORT_ROWS == 0:
                report(rows)


def malformed(row: list[str], width: int) -> str | None:
    """Return why a row cannot be stored as text in `width` columns, None if it can."""
    if len(row) != width:
        return f"{len(row)} {'column' if len(row) == 1 else 'columns'} instead of {width}"
    text = "".join(row)
    if "\0" in text:
        return "a NUL byte"
    if not text.isascii() and SURROGATE.search(text):
        return "not UTF-8"
    return None


def remove_bad_rows(connection: psycopg.Connection, target: Target, header: list[str]) -> Refused:
    """Delete the staged rows that have bad values; return these rows."""
    problems = [*(target.columns[column].problem for column in header), target.problem]
    problem = f"coalesce({', '.join(problems)})"
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


def store(connection: psycopg.Connection, target: Target, header: list[str]) -> int:
    """Write the staged rows and analyse the table; return the number of rows."""
    columns = ", ".join(header)
    values = ", ".join(target.columns[column].value for column in header)
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


def count_distinct(connection: psycopg.Connection, column: str) -> int:
    """Count the different values of a staged column."""
    (count,) = fetch_row(connection, f"select count(*) from (select distinct {column} from staged) d")
    return int(count)


def unknown_kinds(connection: psycopg.Connection) -> dict[str, int]:
    """Count the rows of each staged kind that interaction_kind does not list, the most frequent first."""
    rows = connection.execute(
        """
        select s.kind, count(*) from staged s
        where not exists (select from recdb.interaction_kind k where k.kind = s.kind)
        group by s.kind order by count(*) desc, s.kind
        """
    )
    return dict(rows.fetchall())
