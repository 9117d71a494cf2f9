"""The schema of a recommender: a database may hold several, each with its own tables, functions and views.

All SQL of recdb names schema `recdb`. For a recommender in another schema, recdb.revisions.in_schema() writes the name
in: into `sql/` and the revisions when they are run, and into all other statements by the cursors of this module.
"""

import re
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import Row

from recdb.errors import InvalidInput
from recdb.revisions import DEFAULT_SCHEMA, in_schema

__all__ = [
    "DEFAULT_SCHEMA",
    "check_schema",
    "describe_place",
    "in_schema",
    "schema_of",
    "use_schema",
    "with_schema",
]

_in_schema = lru_cache(maxsize=1000)(in_schema)


def check_schema(name: str) -> str:
    """Return the name; raise InvalidInput for one that needs quotes or belongs to PostgreSQL or to everybody."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,40}", name):
        raise InvalidInput(
            f"'{name}' is no name for a schema of recdb",
            "use up to 41 lower-case letters, digits and _, no digit first",
        )
    if name.startswith("pg_") or name in ("public", "information_schema"):
        raise InvalidInput(f"schema {name} is not for recdb alone", "give it a schema of its own, such as people")
    return name


def with_schema(query: Any, schema: str) -> Any:
    """Write the name of a schema into a statement of any kind that psycopg takes.

    In a composed statement a value, or a single name, stays as it is: it may be anything, and is no text of recdb.
    """
    if schema == DEFAULT_SCHEMA or isinstance(query, Verbatim):
        return query
    if isinstance(query, str):
        return _in_schema(query, schema)
    if isinstance(query, bytes):
        return _in_schema(query.decode(), schema).encode()
    return _in_composed(query, schema)


def _in_composed(query: Any, schema: str) -> Any:
    if isinstance(query, sql.Composed):
        return sql.Composed([with_schema(part, schema) for part in query])
    if isinstance(query, sql.SQL):
        text = _in_schema(query.as_string(), schema)
        # The name of the object follows as a part of its own.
        return sql.SQL(re.sub(r"(?<![\w.])recdb\.\Z", f"{schema}.", text))
    if isinstance(query, sql.Identifier):
        first, *others = query._obj
        return sql.Identifier(schema, *others) if others and first == DEFAULT_SCHEMA else query
    return query


class Verbatim(sql.SQL):
    """A part of a statement that a user wrote: names in it are the user's."""


class SchemaCursor(psycopg.Cursor[Row]):
    """A cursor whose statements are for the recommender in `schema`."""

    schema = DEFAULT_SCHEMA

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
        """Run a statement."""
        return super().execute(with_schema(query, self.schema), *arguments, **options)

    def executemany(self, query: Any, *arguments: Any, **options: Any) -> None:
        """Run a statement with each of several sets of parameters."""
        super().executemany(with_schema(query, self.schema), *arguments, **options)

    def stream(self, query: Any, *arguments: Any, **options: Any) -> Any:
        """Run a query and yield its rows as they arrive."""
        return super().stream(with_schema(query, self.schema), *arguments, **options)

    def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        """Run a COPY."""
        return super().copy(with_schema(statement, self.schema), *arguments, **options)


class SchemaServerCursor(psycopg.ServerCursor[Row]):
    """A named cursor whose query is for the recommender in `schema`."""

    schema = DEFAULT_SCHEMA

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
        """Declare the cursor for a query."""
        return super().execute(with_schema(query, self.schema), *arguments, **options)


@lru_cache
def _cursors(schema: str) -> tuple[type[SchemaCursor[Any]], type[SchemaServerCursor[Any]]]:
    return (
        type("SchemaCursor", (SchemaCursor,), {"schema": schema}),
        type("SchemaServerCursor", (SchemaServerCursor,), {"schema": schema}),
    )


def use_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    """Let every later cursor of a connection write the name of a schema into its statements."""
    connection.cursor_factory, connection.server_cursor_factory = _cursors(schema)


def schema_of(connection: object) -> str | None:
    """Return the schema that use_schema() gave a connection; None for a connection of somebody else."""
    schema = getattr(getattr(connection, "cursor_factory", None), "schema", None)
    return schema if isinstance(schema, str) else None


def describe_place(connection: object) -> str:
    """Name the place of a recommender in a message: its database, or its schema there."""
    schema = schema_of(connection) or DEFAULT_SCHEMA
    return "this database" if schema == DEFAULT_SCHEMA else f"schema {schema} of this database"
