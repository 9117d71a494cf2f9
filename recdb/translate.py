"""Turns the errors of a database into recdb's own: the message of the database, and a hint that says how to go on."""

import re
from collections.abc import Mapping
from typing import TypeVar

import psycopg
import sqlalchemy.exc

from recdb.errors import InvalidInput, ModelNotFound, NotInstalled, NotPermitted, RecdbError, Unavailable
from recdb.schemas import DEFAULT_SCHEMA, in_schema

ERRORS: Mapping[str, type[RecdbError]] = {  # by SQLSTATE, or by its class
    "22023": InvalidInput,  # invalid_parameter_value
    "22P02": InvalidInput,  # invalid_text_representation
    "22021": InvalidInput,  # character_not_in_repertoire
    "22": InvalidInput,
    "42704": ModelNotFound,  # undefined_object
    "3F000": NotInstalled,  # invalid_schema_name
    "42883": NotInstalled,  # undefined_function
    "42P01": NotInstalled,  # undefined_table
    "42501": NotPermitted,  # insufficient_privilege
    "25006": Unavailable,  # read_only_sql_transaction: after a failover, the wrong server
    "08": Unavailable,
    "53": Unavailable,
    "55": Unavailable,
    "57": Unavailable,
    "58": Unavailable,
}
FAMILIES: Mapping[type[psycopg.Error], type[RecdbError]] = {  # for errors without a SQLSTATE, and all others
    psycopg.DataError: InvalidInput,
    psycopg.OperationalError: Unavailable,
    psycopg.InterfaceError: Unavailable,
}

T = TypeVar("T")

AGAIN = "run it again: what was not finished has changed nothing"
KILLED = f"{AGAIN}. If the server's log says that a process was killed (signal 9), its machine has too little memory"
HINTS: Mapping[str, str] = {  # by SQLSTATE, or by its class, where the database gives no hint
    "08": AGAIN,
    "22021": "ids and texts are UTF-8",
    "22P05": "this database's encoding has no such character: use a database in UTF8",
    "25006": "run it on the primary, in a transaction that may write: this server is a standby, or its transactions "
    "are read-only. With several hosts in the URL, add target_session_attrs=read-write to it",
    "3F000": "run: recdb init",
    "40": AGAIN,
    "42501": "connect as the owner of schema recdb, or as a role that has the right one of recdb's roles",
    "42703": "run: recdb init",
    "42883": "run: recdb init",
    "42P01": "run: recdb init",
    "53100": "free some space on the server's disk, and run it again",
    "53200": "the server has too little memory: lower maintenance_work_mem or work_mem, or give it more",
    "53300": "close other connections, or raise max_connections",
    "53400": "raise temp_file_limit for this role, or work_mem, so that it needs fewer temporary files",
    "55P03": "another transaction holds a lock: run it again when that has ended",
    "57014": "a timeout or another session cancelled it: raise statement_timeout, and run it again",
    "57P01": f"an administrator or a restart ended the session; {AGAIN}",
    "57P02": f"the server crashed; {KILLED}",
    "57P03": "the server is starting or stopping: run it again in a moment",
    "57P05": AGAIN,
}
LOST = re.compile(r"closed the connection|connection (is lost|is closed|not open)|terminating connection|SSL SYSC")


def by_state(table: Mapping[str, T], state: str) -> T | None:
    """Look a SQLSTATE up in a table, else its class, which is its first two characters."""
    return table.get(state) or table.get(state[:2])


def translate(error: Exception, schema: str = DEFAULT_SCHEMA) -> RecdbError:
    """Turn an error of psycopg, or of SQLAlchemy over any driver, into one of recdb's own.

    A hint names the commands for the recommender in `schema`.
    """
    translated = translate_error(error)
    if translated.hint:
        translated.hint = in_schema(translated.hint, schema)
    return translated


def translate_error(error: Exception) -> RecdbError:
    """Do the same with the commands for schema recdb."""
    raised = getattr(error, "orig", None) if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    if isinstance(raised, RecdbError):
        return raised
    if not isinstance(raised, psycopg.Error):
        return translate_foreign(raised or error)
    state = raised.sqlstate or ""
    message = one_line(raised.diag.message_primary or str(raised)) or type(raised).__name__
    family = next((FAMILIES[family] for family in FAMILIES if isinstance(raised, family)), RecdbError)
    hint = raised.diag.message_hint or by_state(HINTS, state)
    if hint is None and not state and LOST.search(message):
        hint = KILLED
    return (by_state(ERRORS, state) or family)(message, hint)


def translate_foreign(error: BaseException) -> RecdbError:
    """Turn an error of another driver, such as psycopg2 or asyncpg, into one of recdb's own."""
    cause = error.__cause__ or error
    if error.args and isinstance(error.args[0], dict):  # pg8000
        fields = error.args[0]
        state, message = str(fields.get("C", "")), one_line(str(fields.get("M", "")))
        return (by_state(ERRORS, state) or RecdbError)(message, fields.get("H") or by_state(HINTS, state))
    states = (getattr(one, name, None) for one in (error, cause) for name in ("sqlstate", "pgcode"))
    state = str(next((state for state in states if state), ""))
    diagnostics = getattr(error, "diag", None)
    message = getattr(diagnostics, "message_primary", None) or str(cause)
    hint = getattr(diagnostics, "message_hint", None) or getattr(cause, "hint", None)
    kind = by_state(ERRORS, state) or RecdbError
    return kind(one_line(message) or type(error).__name__, hint or by_state(HINTS, state))


def one_line(message: str) -> str:
    """Return the first line of a message that is not empty."""
    return next((line.strip() for line in message.splitlines() if line.strip()), "")
