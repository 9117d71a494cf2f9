"""The time zone of times that have none: the zone that `--timezone` names, and signs that another zone was meant."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from recdb.data.samples import SMALL, limited, measure_size
from recdb.data.sources import Relation
from recdb.database import fetch_row
from recdb.errors import InvalidInput

ZONELESS = ("timestamp without time zone", "date")
NEWEST = 100
HOUR = 3600.0
FURTHEST = 14.5 * HOUR  # clocks of the world are at most 14 hours ahead of UTC
NEAR = 300.0  # a clock that is behind by whole hours is at most so much further behind
# Zones to suggest, at least one for each offset that many people have.
COMMON = (
    "Europe/London", "Europe/Berlin", "Europe/Athens", "Europe/Istanbul", "Europe/Moscow", "Asia/Dubai",
    "Asia/Karachi", "Asia/Kolkata", "Asia/Dhaka", "Asia/Bangkok", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney",
    "Pacific/Auckland", "America/Sao_Paulo", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "America/Halifax", "America/Anchorage", "Pacific/Honolulu", "Australia/Adelaide",
)  # fmt: skip


@dataclass(frozen=True)
class Shift:
    """By how many hours the newest rows are ahead of the clock (or behind, if negative), and zones that explain it."""

    hours: float
    zones: Sequence[str]

    def __str__(self) -> str:
        """Write how far the newest rows are from the clock."""
        hours = f"{abs(self.hours):g} hour{'' if abs(self.hours) == 1 else 's'}"
        return f"{hours} in the future" if self.hours > 0 else f"{hours} old"


def require_zone(connection: psycopg.Connection, zone: str) -> None:
    """Raise InvalidInput for a zone that PostgreSQL does not know."""
    try:
        with connection.transaction():
            connection.execute("select now() at time zone %s::text", [zone])
    except psycopg.DataError as error:
        raise InvalidInput(
            f"--timezone '{zone}': {error.diag.message_primary}", "write a name such as Europe/Berlin or UTC"
        ) from error
    if zone.upper().startswith(("+", "-")) or zone[:1].isdigit():
        raise InvalidInput(f"--timezone '{zone}' is an offset", "write a name such as Europe/Berlin: its clock changes")


def keep_zone(connection: psycopg.Connection, relation: Relation, mapping: dict[str, str]) -> None:
    """Check the zone of a mapping; leave it out if the table's time has a zone of its own, or there is no time."""
    if "timezone" not in mapping:
        return
    require_zone(connection, mapping["timezone"])
    column = relation.column(mapping.get("at", "") or mapping.get("published", ""))
    if column is None or column.type not in ZONELESS:
        del mapping["timezone"]


def find_shift(connection: psycopg.Connection, relation: Relation, column: str, zone: str = "UTC") -> Shift | None:
    """Compare the newest rows of a table with the clock; None if nothing is odd, or looking would be slow."""
    kind = relation.columns[column].type
    if kind == "date" or not reads_newest(connection, relation, column):
        return None
    moment = sql.SQL("{} at time zone {}" if kind in ZONELESS else "{}").format(
        sql.Identifier(column), *([sql.Literal(zone)] if kind in ZONELESS else [])
    )
    query = sql.SQL(
        "select extract(epoch from now() - ({moment}))::double precision from (select {column} from {relation} "
        "where {column} is not null and isfinite({column}) order by {column} desc limit {newest}) n"
    ).format(moment=moment, column=sql.Identifier(column), relation=relation.identifier, newest=NEWEST)
    with limited(connection):
        try:
            with connection.transaction():
                ages = sorted(age for (age,) in connection.execute(query))
        except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege, psycopg.DataError):
            return None
    hours = shifted_by(ages)
    if hours < 0 and kind not in ZONELESS:
        return None  # a time with its zone is of no other zone: nobody has written since
    return Shift(hours, suggest_zones(connection, hours)) if hours else None


def shifted_by(ages: Sequence[float]) -> float:
    """Tell by how many hours the newest rows are ahead, from their ages in seconds; 0 for a right clock.

    Rows ahead are odd in any case. Rows behind may be odd if they follow each other so fast that there should be newer
    ones, and the newest is whole hours old; or nobody has written since.
    """
    if not ages:
        return 0.0
    newest = ages[0]
    if -FURTHEST < newest < -HOUR / 4:
        return -(newest // (HOUR / 2)) / 2
    if len(ages) < 20 or not HOUR <= newest < FURTHEST:
        return 0.0
    gap = (ages[-1] - newest) / (len(ages) - 1)
    rest = newest % HOUR
    busy = 0 < gap < HOUR / 12 and newest > 10 * gap
    return -(newest // HOUR) if busy and rest < min(NEAR, max(10 * gap, 30.0)) else 0.0


def reads_newest(connection: psycopg.Connection, relation: Relation, column: str) -> bool:
    """Tell whether an index, or a small table, gives the newest rows fast."""
    if relation.kind not in ("table", "materialized view"):
        return False
    if measure_size(connection, relation)[0] <= SMALL:
        return True
    (indexed,) = fetch_row(
        connection,
        """
        select exists (
            select from pg_index i
            join pg_class c on c.oid = i.indexrelid
            join pg_am m on m.oid = c.relam and m.amname = 'btree'
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where i.indrelid = %s::regclass and i.indisvalid and i.indpred is null and a.attname = %s)
        """,
        [relation.name, column],
    )
    return bool(indexed)


def suggest_zones(connection: psycopg.Connection, hours: float) -> list[str]:
    """Name zones whose clocks differ from UTC by so many hours now; the server's own zone comes first."""
    rows = connection.execute(
        """
        select z.name
        from unnest(array[current_setting('TimeZone')] || %s::text[]) with ordinality z(name, place)
        where extract(epoch from (now() at time zone z.name) - (now() at time zone 'UTC')) = %s * 3600
          and z.name ~ '/'
        group by z.name
        order by min(z.place)
        limit 2
        """,
        [list(COMMON), hours],
    ).fetchall()
    return [name for (name,) in rows]


def describe_shift(relation: str, column: str, kind: str, shift: Shift, zone: str | None) -> tuple[str, str]:
    """Write the warning about a shift, and the way to correct it; the past is a question, because it may be true."""
    name = shift.zones[0] if shift.zones else "ZONE"
    if shift.hours < 0:
        return (
            f"the newest rows of {relation} are {shift}: has nobody written since, or is {column} in another zone than "
            f"{zone or 'UTC'}?",
            f"write a row, and compare: select max({column}), now() at time zone '{zone or 'UTC'}' from {relation}; "
            f"if these differ, attach it with the zone of the program that writes it, such as --timezone {name}",
        )
    message = f"the newest rows of {relation} are {shift}: {column} does not seem to be in {zone or 'UTC'}"
    if kind in ZONELESS:
        return message, f"attach it with --timezone {name}, or with the zone of the program that writes {column}"
    return message, f"{column} is of type timestamptz: the program that writes it sends local time as UTC ({name}?)"
