"""The database that a client connects to, from the source that its caller gave: helpers of recdb.client."""

from typing import Any

import sqlalchemy

from recdb.database import APPLICATION_NAME, Database, connect, find_database, prepares_statements
from recdb.errors import RecdbError, Unavailable


def explain_timeout(database: Database | None) -> RecdbError:
    """Say why the pool gave no connection. Connecting outside the pool gives the reason, if the server is down."""
    try:
        if database is not None:
            connect(database).close()
    except RecdbError as reason:
        return reason
    return Unavailable("all connections of the pool are busy", "allow more, or keep them for a shorter time")


def text_of_url(source: Any) -> Any:
    """Return SQLAlchemy's object for a URL as text, and everything else as it is."""
    return source.render_as_string(hide_password=False) if isinstance(source, sqlalchemy.URL) else source


def find_source(source: str | None, schema: str | None) -> tuple[Database, dict[str, Any]]:
    """Find the database that a client connects to; return it with the options of each connection."""
    database = find_database(source, schema=schema)
    options: dict[str, Any] = {"application_name": APPLICATION_NAME}
    if source and not prepares_statements(source):
        options["prepare_threshold"] = None
    return database, options
