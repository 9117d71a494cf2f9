"""Whether a database to read from is a standby of the one that is written to, or another one by mistake."""

import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from recdb.database import Database
from recdb.errors import NoStandby
from recdb.schemas import with_schema

BEGIN = "begin isolation level read committed read only"
"""PostgreSQL has no serializable transactions on a standby, and a database may make them the default."""
ASKED = "select recdb.database_identity() as value"
COMPARE_WAIT, COMPARE_REST = 2.0, 30.0
"""Seconds that a read waits for the primary's answer, and for which none asks again if none came."""
NOTHING_TO_COMPARE = (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege)
"""A recdb from before database_identity(), or a role that may not ask."""


def require_same_database(primary: Database, standby: Database, options: Mapping[str, Any]) -> None:
    """Raise NoStandby if both servers answer, and have different databases; `options` are those of a connection."""
    found = []
    for database in (primary, standby):
        given = conninfo_to_dict(database.conninfo)
        kept = {name: value for name, value in options.items() if name not in given}
        with suppress(psycopg.Error), psycopg.connect(database.conninfo, **kept) as connection:
            connection.execute(BEGIN)
            row = connection.execute(with_schema(ASKED, database.schema)).fetchone()
            found.append(row and row[0])
    if len(found) == 2 and found[0] != found[1]:
        raise no_standby(standby)


def no_standby(database: Database) -> NoStandby:
    """Return the error that a database to read from is another one than that which is written to."""
    return NoStandby(
        f"{database} is no standby of the database that is written to, but another one",
        "let read_url name the same database on a streaming standby, or leave it out: see docs/replicas.md",
    )


class SameDatabase:
    """The connections that lead to a standby of the primary: each is compared once, so a call costs nothing."""

    def __init__(self, database: Database) -> None:
        self.refusal: NoStandby | None = None
        """The error of reads while the database is no standby of the primary."""
        self.primary: str | None = None
        """The primary's identity, once it has answered."""
        self.statement = with_schema(ASKED, database.schema)
        self._database = database
        self._same: weakref.WeakSet[Any] = weakref.WeakSet()
        self._ask_from = 0.0

    def knows(self, connection: Any) -> bool:
        """Tell whether nothing is left to compare."""
        return connection in self._same

    def accept(self, connection: Any) -> None:
        """Let a connection be read from."""
        self._same.add(connection)

    def may_ask(self) -> bool:
        """Tell whether to ask the primary: not if it gave no answer a moment ago."""
        return time.monotonic() >= self._ask_from

    def no_answer(self) -> None:
        """Note that the primary is away: then the standby answers as it is."""
        self._ask_from = time.monotonic() + COMPARE_REST

    def settle(self, connection: Any, found: str | None) -> None:
        """Accept a connection if it leads to the primary's database; raise NoStandby if it does not."""
        self.refusal = None if found == self.primary else no_standby(self._database)
        if self.refusal:
            raise self.refusal
        self.accept(connection)
