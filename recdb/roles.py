"""The names of recdb's roles. Roles belong to the server: an installation may have roles of its own, by a prefix.

`sql/90_grants.sql` says recdb_reader and so on, and with_prefix() writes the installation's own names there.
"""

import re

import psycopg

from recdb.errors import InvalidInput

DEFAULT_PREFIX = "recdb"
KINDS = {
    "reader": "may call recommend() and the other functions that give lists; for an application",
    "writer": "may call recdb.track(); for an application",
    "analyst": "may read all tables and views of schema recdb and call functions on users' data",
    "maintainer": "may CALL recdb.refresh() and read its log; for cron or pg_cron",
    "self": "may call recdb.recommend_me() and recdb.explain_me(), which answer for the caller alone",
}
NAMES = re.compile(rf"\brecdb_({'|'.join(KINDS)})\b")


def role_comments(prefix: str = DEFAULT_PREFIX) -> dict[str, str]:
    """Return the roles' names, each with its comment."""
    return {f"{prefix}_{kind}": f"recdb: {what}" for kind, what in KINDS.items()}


def check_prefix(prefix: str) -> None:
    """Raise InvalidInput for a prefix that needs quotes or makes too long a name."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", prefix) or prefix.startswith("pg_"):
        raise InvalidInput(f"'{prefix}' is no prefix for the names of roles", "use lower-case letters, digits and _")


def with_prefix(statements: str, prefix: str) -> str:
    """Write the installation's own role names into SQL that names the default ones."""
    return NAMES.sub(rf"{prefix}_\1", statements)


def installed_prefix(connection: psycopg.Connection) -> str:
    """Return the prefix that the installation was made with: the comment on schema recdb has it, also in a dump."""
    row = connection.execute(
        "select substring(obj_description(oid, 'pg_namespace') from 'roles ([a-z0-9_]+)_\\*') "
        "from pg_namespace where nspname = 'recdb'"
    ).fetchone()
    return str(row[0]) if row and row[0] else DEFAULT_PREFIX
