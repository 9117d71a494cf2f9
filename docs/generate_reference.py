"""Write docs/reference.md from the comments in the database.

    python docs/generate_reference.py

The script starts an embedded PostgreSQL server of its own (the extra `embedded`), installs recdb there and reads the
catalogue. tests/project/test_reference.py compares the file with the comments in a database.
"""

import re
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from recdb import migrate
from recdb.database import Database
from recdb.embedded import start_embedded

PAGE = Path(__file__).with_name("reference.md")

# Functions that people call and that no role is granted.
OWNERS = ("activate", "current_user_id", "forget_user", "rebuild")
# Functions that a role may call because a view or another function calls them with the caller's rights.
HELPERS = (
    "convert_id", "convert_ids", "decay", "id_text", "id_texts", "interactions_of", "is_input", "item_of",
    "list_for_items", "list_for_me", "list_for_user", "lists_for_users", "log_failure", "parse_exclude", "profile_of",
    "refresh_changed", "settle"
)  # fmt: skip

HEAD = """\
# Reference

Every role, function, table and view. In psql, `\\df+ recdb.*`, `\\d+ recdb.*` and `\\dd recdb.*` show the same texts.

The functions that take ids are shown with ids of type text, and with arrays of ids of any type (`anyarray`,
`anycompatiblearray`). Each of them takes integers, uuids and other types as well, by forms with the same result and the
same names of arguments; psql shows these forms too.

`python docs/generate_reference.py` writes this page from the comments in the database. Change the comments, not this
page.
"""

FUNCTIONS: LiteralString = """
    select n.nspname as schema, p.proname as name, p.prokind as kind,
        pg_get_function_arguments(p.oid) as arguments, pg_get_function_identity_arguments(p.oid) as identity,
        pg_get_function_result(p.oid) as result,
        case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end as volatility,
        p.prosecdef as as_owner, obj_description(p.oid, 'pg_proc') as comment,
        array(
            select distinct r.rolname::text
            from aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
            where starts_with(r.rolname, 'recdb_') order by 1
        ) as roles
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where (n.nspname = 'recdb' or n.nspname = 'public' and p.proname = 'recommend')
      and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
      -- without the forms for ids of other types
      and not exists (
          select from unnest(p.proargtypes) with ordinality a(type, position)
          where a.type in ('anynonarray'::regtype, 'anycompatiblenonarray'::regtype)
             or p.proargnames[a.position] = '')
    order by p.proname collate "C", n.nspname collate "C" desc, pg_get_function_identity_arguments(p.oid) collate "C"
"""

RELATIONS: LiteralString = """
    select c.oid, c.relname as name, c.relkind as kind, obj_description(c.oid, 'pg_class') as comment,
        array(
            select distinct r.rolname::text
            from aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee
            where starts_with(r.rolname, 'recdb_') and a.privilege_type = 'SELECT' order by 1
        ) as roles
    from pg_class c
    where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
      and c.relname <> 'alembic_version'
    order by c.relname collate "C"
"""

READABLE_COLUMNS: LiteralString = """
    select r.rolname::text as role, c.relname::text as relation, array_agg(a.attname::text order by a.attnum) as columns
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid
    cross join lateral aclexplode(a.attacl) g
    join pg_roles r on r.oid = g.grantee
    where c.relnamespace = 'recdb'::regnamespace and starts_with(r.rolname, 'recdb_') and g.privilege_type = 'SELECT'
    group by r.rolname, c.relname
    order by r.rolname collate "C", c.relname collate "C"
"""

COLUMNS: LiteralString = """
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required,
        case when a.attidentity <> '' then 'identity' when a.attgenerated <> '' then 'generated'
            else pg_get_expr(d.adbin, d.adrelid) end as initial,
        col_description(a.attrelid, a.attnum) as comment
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""

ROLES: LiteralString = "select rolname::text as name from pg_roles where starts_with(rolname, 'recdb_') order by 1"


def describe(connection: psycopg.Connection[Any]) -> str:
    """Return the page about the recdb that is installed in a database."""
    connection.execute("set search_path to public")
    functions = read(connection, FUNCTIONS)
    relations = read(connection, RELATIONS)
    granted = [each for each in functions if each["roles"] and each["name"] not in HELPERS]
    owners = [each for each in functions if not each["roles"] and each["name"] in OWNERS]
    internal = [each for each in functions if each not in granted and each not in owners]
    tables = [each for each in relations if each["kind"] in "rp"]
    views = [each for each in relations if each["kind"] in "vm"]
    parts = [
        HEAD,
        "## Roles\n",
        describe_roles(read(connection, ROLES), granted, relations, read(connection, READABLE_COLUMNS)),
        "## Functions\n",
        *describe_functions(granted),
        "## Functions for the owner\n\nNo role may call these; the owner of the schema may.\n",
        *describe_functions(owners),
        "## Tables\n",
        *(describe_relation(each, read(connection, COLUMNS, each["oid"])) for each in tables),
        "## Views\n",
        *(describe_relation(each, read(connection, COLUMNS, each["oid"])) for each in views),
        "## Internal functions\n\nOther functions and views call these. They may change at any time.\n",
        "".join(f"- `{call(each)}`: {prose(each['comment'])}\n" for each in internal),
    ]
    return "\n".join(parts)


def read(connection: psycopg.Connection[Any], query: LiteralString, *parameters: object) -> list[dict[str, Any]]:
    """Return a query's rows by column."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def describe_roles(
    roles: list[dict[str, Any]],
    functions: list[dict[str, Any]],
    relations: list[dict[str, Any]],
    columns: list[dict[str, Any]],
) -> str:
    """Name the functions that each role may call, and the tables, views and single columns that it may read."""
    rows = []
    for role in (each["name"] for each in roles):
        calls = list(dict.fromkeys(f"`{each['name']}`" for each in functions if role in each["roles"]))
        reads = [f"`{each['name']}`" for each in relations if role in each["roles"]]
        if len(reads) == len(relations):
            reads = ["every table and view"]
        for each in columns:
            if each["role"] == role:
                reads.append(f"`{each['relation']}` (" + ", ".join(f"`{column}`" for column in each["columns"]) + ")")
        rows.append((f"`{role}`", ", ".join(calls), ", ".join(reads)))
    return table(("role", "may call", "may read"), rows)


def describe_functions(functions: list[dict[str, Any]]) -> list[str]:
    """Describe functions, those of one name under one heading."""
    return [
        f"### {name}\n\n" + "\n".join(describe_function(each) for each in same)
        for name, same in groupby(functions, lambda each: f"{each['schema']}.{each['name']}")
    ]


def describe_function(function: dict[str, Any]) -> str:
    """Describe one function: its signature, comment and properties."""
    name, result = f"{function['schema']}.{function['name']}", function["result"]
    if function["kind"] == "p":
        signature = f"call {name}({function['arguments']})"
    else:
        signature = f"{name}({spread(function['arguments'])})\nreturns "
        columns = re.fullmatch(r"TABLE\((.*)\)", result)
        signature += f"table ({spread(columns[1])})" if columns else result
    properties = ["procedure" if function["kind"] == "p" else function["volatility"]]
    properties.append("runs with the owner's rights" if function["as_owner"] else "runs with the caller's rights")
    if function["roles"]:
        properties.append("granted to " + ", ".join(f"`{role}`" for role in function["roles"]))
    return f"```text\n{signature}\n```\n\n{prose(function['comment'])}\n\n*{'; '.join(properties)}.*\n"


def prose(comment: str) -> str:
    """Return a function's comment without the mark that it begins with."""
    return escape(re.sub(r"^(Internal|recdb): (.)", lambda found: found[2].upper(), comment))


def spread(parameters: str) -> str:
    """Write each parameter in a line of its own if there are several."""
    return "\n    " + parameters.replace(", ", ",\n    ") + "\n" if ", " in parameters else parameters


def describe_relation(relation: dict[str, Any], columns: list[dict[str, Any]]) -> str:
    """Describe one table or view: its comment and columns."""
    stored = relation["kind"] in "rp"
    heading = ("column", "type", "null", "default", "comment") if stored else ("column", "type")
    rows = []
    for column in columns:
        kind = f"`{column['type']}`"
        if stored:
            initial = f"`{column['initial']}`" if column["initial"] else ""
            rows.append(
                (f"`{column['name']}`", kind, "" if column["required"] else "yes", initial, escape(column["comment"]))
            )
        else:
            rows.append((f"`{column['name']}`", kind))
    title = f"### recdb.{relation['name']}\n"
    comment = escape(relation["comment"])
    if relation["kind"] == "m":
        comment = f"Materialized. {comment}"
    return "\n".join([title, comment, "", table(heading, rows)])


def call(function: dict[str, Any]) -> str:
    """Name a function with its arguments' names and types."""
    return f"{function['name']}({function['identity']})"


def escape(comment: str | None) -> str:
    """Return a comment as Markdown, where a `<` outside of code would begin an HTML tag."""
    parts = re.split("(`[^`]*`)", comment or "")
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a table in Markdown."""
    lines = [heading, ("---",) * len(heading), *rows]
    return "".join("| " + " | ".join(clean(cell) for cell in line) + " |\n" for line in lines)


def clean(cell: str) -> str:
    """Fit a text into one cell."""
    return " ".join(cell.split()).replace("|", "\\|")


def main() -> None:
    """Start a server, install recdb, and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(start_embedded(Path(folder) / "data", temporary=True), "the generator's own")
        migrate.upgrade(database)
        with psycopg.connect(database.conninfo) as connection:
            page = describe(connection)
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE.name}: {len(page.splitlines())} lines")


if __name__ == "__main__":
    main()
