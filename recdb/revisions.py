"""The helpers that the revisions in `migrations/` call: frozen with the first release, as the revisions are.

A released revision must never change its effect. So `migrations/released.txt` locks this module by
its hash together with the revisions, and this module imports nothing from recdb. Do not change it after the first
release: a later revision that needs another helper brings its own, or gets it in a new module.

Revisions rely on this much of the living code, which therefore has to stay: before the first revision runs,
`recdb.migrate.prepare()` has created pgvector and schema `recdb`, set the search path to `pg_catalog, pg_temp`, and set
`recdb.dimension` to the width of the vector columns, or to the empty string.

No schema that others may write is on the path. So a revision names every object of recdb and of pgvector by schema: it
writes `@vector@.halfvec`, and fill_in() puts the schema of the extension there.
"""

from collections.abc import Collection

import psycopg
from alembic import op


def execute(statements: str) -> None:
    """Run a revision's SQL: several statements, no parameters; `@vector@` is the schema of pgvector."""
    connection = _connection()
    connection.execute(fill_in(statements, vector_schema(connection)))


def vector_schema(connection: psycopg.Connection) -> str:
    """Return the schema of pgvector, quoted for SQL; it may be anywhere, and is on no search path of recdb."""
    row = connection.execute(
        "select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace "
        "where e.extname = 'vector'"
    ).fetchone()
    assert row is not None, "prepare() has created the extension"
    return str(row[0])


def fill_in(statements: str, vector: str) -> str:
    """Write the schema of pgvector into SQL, in the place of `@vector@`, also inside the bodies of functions."""
    return statements.replace("@vector@", vector)


def withdraw(*, keep: Collection[str]) -> None:
    """Drop the views and routines that were replayed from `sql/`, so that a revision can drop its tables.

    `keep` names the views and routines that this revision and those before it created. The views attached_N, which
    `recdb attach` makes, stay too. All are dropped at once and without cascade: if an application's own view depends on
    one of them, PostgreSQL raises an error that names it.
    """
    views, routines = _connection().execute(
        """
        select
            (select string_agg(c.oid::regclass::text, ', ') from pg_class c
             where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'v' and c.relname <> all (%(keep)s)
                and c.relname !~ '^attached_[0-9]+$'),
            (select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p
             where p.pronamespace = 'recdb'::regnamespace and p.proname <> all (%(keep)s)
                or p.pronamespace = 'public'::regnamespace and p.proname = 'recommend'
                    and obj_description(p.oid, 'pg_proc') like 'recdb: %%'
                    and p.proowner = (select n.nspowner from pg_namespace n where n.nspname = 'recdb'))
        """,
        {"keep": list(keep)},
    ).fetchone() or (None, None)
    if views:
        _connection().execute(f"drop view {views}")
    if routines:
        _connection().execute(f"drop routine {routines}")


def _connection() -> psycopg.Connection:
    """Return the driver's own connection of the running migration."""
    driver = op.get_bind().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
