"""For applications that use Alembic: `alembic revision --autogenerate` leaves recdb's tables alone.

With `include_schemas=True` Alembic compares all schemas of the database with the application's models, and proposes to
drop everything that the models do not have. Put this into env.py:

    import recdb.alembic

    context.configure(..., include_schemas=True, include_object=recdb.alembic.include_object)

A schema of recdb is recognised by its name, recdb, or by its comment, which begins with 'recdb: '. Where no env.py
runs, as in a test that calls compare_metadata(), nobody can be asked for the comment: then a table of recdb is
recognised by its name and its columns.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from recdb.tables import Base

SCHEMA = "recdb"
FIND_SCHEMAS = text(
    "select n.nspname from pg_catalog.pg_namespace n "
    "where pg_catalog.obj_description(n.oid, 'pg_namespace') like 'recdb: %'"
)

COLUMNS: Mapping[str, set[str]] = {
    "alembic_version": {"version_num"},
    **{table.name: {column.name for column in table.columns} for table in Base.metadata.tables.values()},
}
"""The columns of each of recdb's tables."""

Include = Callable[[Any, str | None, str, bool, Any], bool]


def include_object(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Tell Alembic whether to compare an object: not one that was found in a schema of recdb.

    An application with a filter of its own asks both: `recdb.alembic.include_object(*args) and mine(*args)`.
    """
    if not reflected or compare_to is not None:
        return True
    table = object if type_ == "table" else getattr(object, "table", None)
    schema = getattr(table, "schema", None)
    return schema is None or not (is_ours(schema) or (looks_ours(table) and not is_connected()))


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Tell Alembic whether to read a schema at all: faster than include_object(), for the same effect."""
    return type_ != "schema" or name is None or not is_ours(name)


def leaving_out(*schemas: str) -> Include:
    """Make an include_object() for schemas of recdb that cannot be recognised, as when their comments are gone."""

    def include(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
        table = object if type_ == "table" else getattr(object, "table", None)
        named = reflected and compare_to is None and getattr(table, "schema", None) in schemas
        return not named and include_object(object, name, type_, reflected, compare_to)

    return include


def is_ours(schema: str) -> bool:
    """Tell whether a schema is one of recdb's."""
    return schema == SCHEMA or schema in find_schemas()


def looks_ours(table: Any) -> bool:
    """Tell whether a table has the name and the columns of one of recdb's, or of a model version's part of one."""
    own = COLUMNS.get(re.sub(r"_[0-9]+$", "", table.name))
    return own is not None and own <= {column.name for column in table.columns}


def is_connected() -> bool:
    """Tell whether an env.py is running, whose connection find_schemas() can ask."""
    try:
        return isinstance(context.get_bind(), Connection)
    except (NameError, AttributeError):
        return False


def find_schemas() -> set[str]:
    """Find the schemas of recdb in the database that Alembic is connected to; none outside of env.py."""
    return set(context.get_bind().execute(FIND_SCHEMAS).scalars()) if is_connected() else set()
