"""The helpers that the revisions in `migrations/` call: frozen with the first release, as the revisions are.

A released revision must never change its effect. So `migrations/released.txt` locks this module by
its hash together with the revisions, and this module imports nothing from recdb. Do not change it after the first
release: a later revision that needs another helper brings its own, or gets it in a new module.

Revisions rely on this much of the living code, which therefore has to stay: before the first revision runs,
`recdb.migrate.prepare()` has created pgvector and the schema, set the search path to `pg_catalog, pg_temp`, and set
`recdb.dimension` to the width of the vector columns, or to the empty string.

No schema that others may write is on the path. So a revision names every object of recdb and of pgvector by schema: it
writes `@vector@.halfvec`, and fill_in() puts the schema of the extension there.

A database may hold several recommenders, each in a schema of its own. A revision names schema `recdb`, and in_schema()
writes the name of another one there.
"""

import re
from collections.abc import Collection

import psycopg
from alembic import op

DEFAULT_SCHEMA = "recdb"

# Where `recdb` is the name of the schema, in SQL and in texts about it. It is also the name of the project ("recdb: ",
# "recdb reads"), of the command, of roles (recdb_reader) and of settings (recdb.user_id), which stay as they are.
_NAMES = re.compile(
    r"""
    # before a name, a format's placeholder or a quoted name: recdb.config, 'recdb.attached_%s', recdb.%I
    (?<![\w.$@/]) (?<!current_setting\(') (?<!set_config\(') (?<!\bset[ ]) (?<!\blocal[ ]) (?<!\breset[ ])
    (?<!\bshow[ ]) recdb (?= \. (?! (?: dimension | user_id ) \b ) [a-z_%{"] )
    | (?<= ") recdb (?= "\. ) | (?<= ') recdb (?= \.' )
    # schema recdb, and in a list: search_path = recdb, pg_temp
    | (?<= \bschema[ ] ) recdb \b
    | (?<= \bschema[ ]if[ ]not[ ]exists[ ] ) recdb \b
    | (?<= \bschema[ ]if[ ]exists[ ] ) recdb \b
    | (?<= \bsearch_path[ ]=[ ] ) recdb \b | (?<= \bsearch_path[ ]to[ ] ) recdb \b
    # a text of its own, but not the name of a database or of a program
    | (?<! datname[ ]=[ ]') (?<! rolname[ ]=[ ]') (?<! application_name[ ]=[ ]') (?<= ') recdb (?= ')
    # the pattern of a statement, where space may stand before the dot
    | \b recdb (?= (?: "\?)? \[\[:space:\]\]\* \[\.\] )
    # the name of a policy, which its table has only once
    | (?<= \bpolicy[ ] ) recdb (?= _ )
    """,
    re.VERBOSE,
)
# A command, which needs the name as an option; a long text may go on in the next line.
_COMMANDS = re.compile(
    r"(?<![\w./-])recdb (?:'\s*\n\s*')?(?:init|uninstall|attach|detach|load|embed|generate|refresh|recommend-all|gather"
    r"|recommend|evaluate|tune|models|activate|doctor|serve|psql|experiment|trending|audience|partition|distribute)"
    r"(?![\w-])(?! --schema)"
)


def execute(statements: str) -> None:
    """Run a revision's SQL: several statements, no parameters; `@vector@` is the schema of pgvector."""
    connection = _connection()
    # A cursor that writes no name in: fill_in() has written it.
    psycopg.Cursor(connection).execute(fill_in(statements, vector_schema(connection), _schema()))


def in_schema(text: str, schema: str) -> str:
    """Write the name of another schema into SQL, or into a text about it, in the place of `recdb`.

    A command becomes one for that schema: `recdb refresh --schema people`. For schema `recdb` nothing changes.
    """
    if schema == DEFAULT_SCHEMA:
        return text
    text = _NAMES.sub(schema, text)
    return _COMMANDS.sub(lambda command: f"{command[0]} --schema {schema}", text)


def vector_schema(connection: psycopg.Connection) -> str:
    """Return the schema of pgvector, quoted for SQL; it may be anywhere, and is on no search path of recdb."""
    row = connection.execute(
        "select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace "
        "where e.extname = 'vector'"
    ).fetchone()
    assert row is not None, "prepare() has created the extension"
    return str(row[0])


def fill_in(statements: str, vector: str, schema: str = DEFAULT_SCHEMA) -> str:
    """Write schemas into SQL, also inside the bodies of functions: pgvector's for `@vector@`, and recdb's own."""
    return in_schema(statements, schema).replace("@vector@", vector)


def withdraw(*, keep: Collection[str]) -> None:
    """Drop the views and routines that were replayed from `sql/`, so that a revision can drop its tables.

    `keep` names the views and routines that this revision and those before it created. The views attached_N, which
    `recdb attach` makes, stay too. The triggers that `sql/` made go with their functions. All are dropped at once and
    without cascade: if an application's own view depends on one of them, PostgreSQL raises an error that names it.
    """
    statement = """
        select
            (select string_agg(c.oid::regclass::text, ', ') from pg_class c
             where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'v' and c.relname <> all (%(keep)s)
                and c.relname !~ '^attached_[0-9]+$'),
            (select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p
             where p.pronamespace = 'recdb'::regnamespace and p.proname <> all (%(keep)s)
                or p.pronamespace = 'public'::regnamespace and p.proname = 'recommend'
                    and obj_description(p.oid, 'pg_proc') like 'recdb: %%'
                    and p.proowner = (select n.nspowner from pg_namespace n where n.nspname = 'recdb')
                    -- It may belong to another recommender of this database.
                    and pg_get_functiondef(p.oid) ~ format('[^a-z0-9_]%%s[.]', 'recdb'))
    """
    cursor = psycopg.Cursor(_connection())
    # The triggers that `sql/` made: their functions go.
    triggers = in_schema(
        "select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_trigger t "
        "join pg_class c on c.oid = t.tgrelid "
        "where c.relnamespace = 'recdb'::regnamespace and not t.tgisinternal and t.tgname ~ '^replayed_'",
        _schema(),
    )
    for (drop_trigger,) in cursor.execute(triggers).fetchall():
        cursor.execute(drop_trigger)
    views, routines = cursor.execute(in_schema(statement, _schema()), {"keep": list(keep)}).fetchone() or (None, None)
    if views:
        cursor.execute(f"drop view {views}")
    if routines:
        cursor.execute(f"drop routine {routines}")


def _schema() -> str:
    """Return the schema that is migrated: the one of Alembic's version table."""
    return op.get_context().version_table_schema or DEFAULT_SCHEMA


def _connection() -> psycopg.Connection:
    """Return the driver's own connection of the running migration."""
    driver = op.get_bind().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
