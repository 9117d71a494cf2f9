"""Overloads of every operator and function that recdb uses, made by a role that may only create in some schemas.

PostgreSQL takes the overload whose argument types fit a call best, wherever on the search path it is. So each overload
here is a trap: if any statement of recdb finds it, it counts the call and raises an error.
"""

import re
from itertools import product

import psycopg

from recdb.migrate import database_folder

TYPES = (
    "smallint", "integer", "bigint", "real", "double precision", "numeric", "text", "varchar", "name", "boolean",
    "timestamptz", "timestamp", "interval", "jsonb", "json", "regclass", "xid8", "oid", "bytea",
    "text[]", "integer[]", "real[]", "double precision[]", "bigint[]", "{vector}.halfvec", "{vector}.vector",
)  # fmt: skip

# The shapes by which a role without any privilege became superuser, on the path `recdb, public, pg_temp`.
KNOWN_OPERATORS = (
    ("-", "integer", "double precision"),
    ("=", "real", "integer"),
    (">", "double precision", "numeric"),
    ("*", "bigint", "double precision"),
    ("/", "double precision", "bigint"),
    ("<", "double precision", "integer"),
    (">=", "double precision", "numeric"),
    ("<>", "text", "name"),
)
BOOLEAN = {"=", "<>", "<", ">", "<=", ">=", "~", "!~", "~*", "~~", "!~~", "@>", "<@", "&&", "?", "@?", "@@"}


def used_by_recdb() -> str:
    """Everything that recdb may send to a server: sql/, the revisions and the package."""
    folder = database_folder()
    files = [*folder.glob("sql/*.sql"), *folder.glob("migrations/**/*.py"), *folder.glob("recdb/**/*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def used_functions(connection: psycopg.Connection) -> dict[str, list[list[str]]]:
    """The functions whose names occur in recdb, with the argument types of each of their forms."""
    words = set(re.findall(r"\b([a-z_][a-z0-9_]*)\s*\(", used_by_recdb())) | {"timezone", "date_part", "pg_get_expr"}
    rows = connection.execute(
        """
        select p.proname, array(select format_type(a, null) from unnest(p.proargtypes) a)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where p.proname = any (%s) and p.pronargs between 1 and 4 and p.prokind <> 'p'
          and (n.nspname = 'pg_catalog' or exists (
              select from pg_depend d join pg_extension e on e.oid = d.refobjid
              where d.objid = p.oid and e.extname = 'vector'))
        """,
        [list(words)],
    ).fetchall()
    found: dict[str, list[list[str]]] = {}
    for name, arguments in rows:
        found.setdefault(name, []).append(arguments)
    return found


def used_operators(connection: psycopg.Connection) -> list[str]:
    """The names of the operators that occur in recdb."""
    text = used_by_recdb()
    names = [row[0] for row in connection.execute("select distinct oprname from pg_operator").fetchall()]
    return sorted(name for name in names if name in text and name != "=>")


def set_traps(connection: psycopg.Connection, role: str, schema: str, vector: str) -> int:
    """Make the overloads in a schema as `role`, which needs no other right than to create there; return their number.

    `vector` is the schema of pgvector. An overload with the same types as a function of PostgreSQL is never chosen, but
    costs nothing here either.
    """
    types = [name.format(vector=vector) for name in TYPES]
    functions: set[tuple[str, tuple[str, ...]]] = set()
    for name, forms in used_functions(connection).items():
        for form in forms:
            functions.update((name, arguments) for arguments in variants(form, types))
    names = used_operators(connection)
    operators = [(name, left, right) for name in names for left, right in product(types, types)]
    operators += [operator for operator in KNOWN_OPERATORS if operator[0] not in names]
    connection.execute("create sequence if not exists public.calls; grant usage on sequence public.calls to public")
    connection.execute(f"set role {role}")
    connection.execute("set check_function_bodies = off")
    made = 0
    for statements in batches([function(schema, *one) for one in sorted(functions)]):
        made += create(connection, statements)
    results = {"boolean", "double precision", "text"}
    for result, left, right in product(sorted(results), types, types):
        create(connection, [function(schema, f"trap_{result.split()[0]}", (left, right), result)])
    for statements in batches([operator(schema, *one) for one in operators]):
        made += create(connection, statements)
    connection.execute("reset role")
    connection.execute("reset check_function_bodies")
    return made


def variants(form: list[str], types: list[str]) -> set[tuple[str, ...]]:
    """The argument lists near a form: all pairs of types for two arguments, one argument changed for more."""
    if len(form) <= 2:
        return set(product(types, repeat=len(form)))
    return {
        tuple(one if place == changed else other for place, other in enumerate(form))
        for changed in range(len(form))
        for one in types
    }


def function(schema: str, name: str, arguments: tuple[str, ...], result: str = "double precision") -> str:
    """The statement that makes a trap."""
    what = f"{name}({', '.join(arguments)})".replace("'", "''")
    return (
        f'create function {schema}."{name}"({", ".join(arguments)}) returns {result} language plpgsql as '
        f"$trap$ begin perform pg_catalog.nextval('public.calls'); raise exception 'called: {what}'; end $trap$"
    )


def operator(schema: str, name: str, left: str, right: str) -> str:
    """The statement that makes an operator of a trap with the same types."""
    result = "boolean" if name in BOOLEAN else "text" if name in ("||", "->>", "#>>") else "double"
    return f"create operator {schema}.{name} (leftarg = {left}, rightarg = {right}, function = {schema}.trap_{result})"


def batches(statements: list[str], size: int = 500) -> list[list[str]]:
    """Split statements into lists that are sent at once."""
    return [statements[start : start + size] for start in range(0, len(statements), size)]


def create(connection: psycopg.Connection, statements: list[str]) -> int:
    """Run statements at once; where one is not possible (pgvector has it already, pseudo-types), skip that one."""
    try:
        with connection.transaction():
            connection.execute(";\n".join(statements))
        return len(statements)
    except psycopg.Error:
        if len(statements) == 1:
            return 0
    middle = len(statements) // 2
    return create(connection, statements[:middle]) + create(connection, statements[middle:])


def called(connection: psycopg.Connection) -> bool:
    """Tell whether any trap was called since the last look, even in a transaction that was rolled back."""
    row = connection.execute("select is_called from public.calls").fetchone()
    connection.execute("alter sequence public.calls restart")
    return bool(row and row[0])
