"""The report of a load about its rows: counts, unknown kinds, odd ids, and whether the file was loaded before."""

from dataclasses import dataclass

import psycopg

from recdb.data.files import STDIN, file_name
from recdb.database import fetch_row
from recdb.errors import InvalidInput

SPACES = r"E' \t\r\n\u00a0\ufeff'"


@dataclass(frozen=True)
class Padded:
    """The rows whose id of one kind begins or ends with a space."""

    column: str
    rows: int
    line: int
    """The first of their lines."""
    example: str


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


def find_padded(connection: psycopg.Connection, columns: tuple[str, ...]) -> list[Padded]:
    """Find the staged ids that begin or end with a space: such an id is another one than the id without the space."""
    (unicode,) = fetch_row(connection, "select getdatabaseencoding() = 'UTF8'")
    spaces = SPACES if unicode else r"E' \t\r\n'"
    found = []
    for column in columns:
        rows, line, example = fetch_row(
            connection,
            f"select count(*), min(line), (array_agg({column} order by line))[1] from staged "
            f"where {column} <> btrim({column}, {spaces})",
        )
        if rows:
            found.append(Padded(column, rows, line, example))
    return found


def refuse_again(connection: psycopg.Connection, path: str, digest: bytes) -> None:
    """Raise InvalidInput for a file that was loaded before: its interactions would count twice."""
    before = connection.execute(
        "select file, to_char(loaded_at, 'YYYY-MM-DD HH24:MI'), rows from recdb.load_log where digest = %s "
        "order by load_id desc limit 1",
        [digest],
    ).fetchone()
    if before:
        name, moment, rows = before
        other = "" if name == file_name(path) else f" as {name}"
        raise InvalidInput(
            f"{file_name(path)} was loaded before{other}, on {moment} UTC, with {rows:,} rows; nothing was loaded",
            "pass --again to add them a second time",
        )


def note_file(connection: psycopg.Connection, path: str, digest: bytes, rows: int) -> None:
    """Note that a file was loaded."""
    name = "standard input" if path == STDIN else path
    connection.execute("insert into recdb.load_log (file, digest, rows) values (%s, %s, %s)", [name, digest, rows])
