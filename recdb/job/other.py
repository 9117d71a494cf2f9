"""Another database with recdb, which this one reads: it is checked first, and read in one snapshot."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from recdb.database import Database, connect, fetch_row
from recdb.errors import InvalidInput, NotInstalled, NotPermitted, RecdbError
from recdb.schemas import DEFAULT_SCHEMA
from recdb.translate import one_line
from recdb.urls import describe_url

LOCK_WAIT = "1min"
"""How long the reading waits for a lock there."""
PARTITIONED = {"item_vector", "item_neighbor"}
"""These tables are locked, as readers lock them: else a partition that the snapshot shows could be dropped."""

USUAL_PORT = "5432"
LOCAL = dict.fromkeys(("", "localhost", "127.0.0.1", "::1"), "local")
"""The usual ways to this machine: two servers here have two ports."""

Columns = Mapping[str, Sequence[str]]
"""The tables and views to read, and their columns."""


@contextmanager
def open_other(
    connection: psycopg.Connection, here: Database, other: Database, columns: Columns
) -> Iterator[psycopg.Connection]:
    """Yield a connection to another database, in one snapshot of it that is read only.

    Raises RecdbError if it is the database of `connection`, or has nothing that this recdb and this role can read, and
    where reading fails later. No message holds a password.
    """
    place = name_of(other)
    with connect(other, autocommit=True) as reader:
        refuse_same(connection, here, reader, other)
        require_columns(reader, place, columns)
        with reader.transaction():
            try:
                reader.execute("set transaction isolation level repeatable read, read only")
                reader.execute(f"set local lock_timeout = '{LOCK_WAIT}'")
                for table in sorted(PARTITIONED & set(columns)):
                    reader.execute(f"lock table recdb.{table} in access share mode")
                yield reader
            except psycopg.Error as error:
                if reader.info.transaction_status in (TransactionStatus.INERROR, TransactionStatus.UNKNOWN):
                    raise RecdbError(f"{place} could not be read: {one_line(str(error))}", "run this again") from error
                raise


def name_of(other: Database) -> str:
    """Name a database, its host and port, and its schema if that is not recdb: nothing else of its URL."""
    parts = conninfo_to_dict(other.conninfo)
    host, port = str(parts.get("host") or parts.get("hostaddr") or ""), parts.get("port") or USUAL_PORT
    named = describe_url(make_conninfo(other.conninfo, host=host) if host else other.conninfo)
    # describe_url() leaves the port of a socket out.
    at_port = f", port {port}" if host.startswith("/") and port != USUAL_PORT else ""
    return f"{named}{at_port}{'' if other.schema == DEFAULT_SCHEMA else f', schema {other.schema}'}"


def identify(reader: psycopg.Connection, other: Database) -> str:
    """Return a text that is the same however the URL of a database is written, and another one for each schema.

    Where nobody may ask the server for its system identifier, the address in the URL takes its place.
    """
    (database,) = fetch_row(
        reader, "select d.oid::text from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()"
    )
    return f"{system_identifier(reader) or address_of(other)}/{database}/{other.schema}"


def system_identifier(reader: psycopg.Connection) -> str | None:
    """Return the number that a server got when it was made: the role asks, or reads it from the owner's last run.

    None if neither of them may ask.
    """
    # Two statements: the plan of one that calls the function needs the right to it, whatever a CASE around it says.
    (may_ask, may_read) = fetch_row(
        reader,
        "select pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute'), "
        "pg_catalog.has_table_privilege('recdb.refresh_log', 'select')",
    )
    if may_ask:
        (found,) = fetch_row(reader, "select s.system_identifier::text from pg_catalog.pg_control_system() s")
        return str(found)
    if not may_read:
        return None
    noted = reader.execute(
        "select nullif(l.cluster # to_regclass('recdb.user_item_settled')::oid::bigint, 0)::text "  # recdb.cluster()
        "from recdb.refresh_log l where l.cluster is not null order by l.run_id desc limit 1"
    ).fetchone()
    return noted[0] if noted else None


def address_of(other: Database) -> str:
    """Return all hosts and ports of a URL, as libpq completes it, however they are written there."""
    filled = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    filled |= {name: str(value) for name, value in conninfo_to_dict(other.conninfo).items()}
    hosts = (filled.get("host") or filled.get("hostaddr") or "").split(",")
    ports = (filled.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return ",".join(
        f"{LOCAL.get(host.lower(), host.lower() if host[:1] != '/' else host)}:{port or USUAL_PORT}"
        for host, port in zip(hosts, ports, strict=False)
    )


def refuse_same(connection: psycopg.Connection, here: Database, reader: psycopg.Connection, other: Database) -> None:
    """Raise InvalidInput if both connections lead to the same recommender, by whichever URLs."""
    if here.schema != other.schema:
        return
    key = secrets.randbits(63)
    connection.execute("select pg_catalog.pg_advisory_lock(%s::bigint)", [key])
    try:
        (same,) = fetch_row(
            reader,
            "select exists (select from pg_catalog.pg_locks l where l.locktype = 'advisory' "
            "and (l.classid::bigint << 32) + l.objid::bigint = %s and l.objsubid = 1 and l.database = ("
            "select d.oid from pg_catalog.pg_database d where d.datname = current_database()))",
            [key],
        )
    finally:
        connection.execute("select pg_catalog.pg_advisory_unlock(%s::bigint)", [key])
    if same:
        raise InvalidInput(f"{name_of(other)} is this database itself", "name another one")


def require_columns(reader: psycopg.Connection, place: str, columns: Columns) -> None:
    """Raise RecdbError if a column is missing in another database, or this role may not read a table."""
    usable, role = fetch_row(
        reader,
        "select (select has_schema_privilege(n.oid, 'usage') from pg_namespace n where n.nspname = 'recdb'), "
        "quote_ident(current_user)",
    )
    if usable is None:
        raise NotInstalled(f"{place} has no recdb", "is the URL right? recdb init installs it there")
    hint = f"run there: grant recdb_analyst to {role};"
    if not usable:
        raise NotPermitted(f"role {role} may not read recdb at {place}", hint)
    names = [(table, column) for table, listed in columns.items() for column in listed]
    missing, forbidden = fetch_row(
        reader,
        """
        select array_agg(w.name || '.' || w.field order by w.place) filter (where a.attnum is null),
            min(w.name) filter (where not has_table_privilege(c.oid, 'select'))
        from unnest(%s::text[], %s::text[]) with ordinality w(name, field, place)
        left join (pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'recdb')
            on c.relname = w.name
        left join pg_attribute a on a.attrelid = c.oid and a.attname = w.field and not a.attisdropped
        """,
        [[table for table, _ in names], [column for _, column in names]],
    )
    if missing:
        raise NotInstalled(f"recdb at {place} is older than here: it has no {missing[0]}", "run there: recdb init")
    if forbidden:
        raise NotPermitted(f"role {role} may not read recdb.{forbidden} at {place}", hint)
