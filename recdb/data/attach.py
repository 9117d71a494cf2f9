"""Attaching an application's own tables: recdb reads them in place, and never alters them.

A view `recdb.attached_N`, which names the columns as recdb does, serves the checks, and is dropped with them. Its query
stays, in recdb.attachment, and SQL functions write the queries of all attached tables into the bodies of recdb's
functions (sql/75_attach.sql), which depend on nothing. All of it is one transaction, and the application's writers wait
for none of its locks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from recdb.citus import keep_definitions_here, require_here
from recdb.data.doubts import weigh_doubts
from recdb.data.embeddings import read_embedding
from recdb.data.pages import describe_left_out, inspect_pages, select_impressions
from recdb.data.readable import require_readable_rows
from recdb.data.remarks import Remark, inspect_kinds, inspect_values, sample_query, shown_columns
from recdb.data.sources import (
    KEYS,
    REQUIRED,
    Relation,
    Role,
    Source,
    find_relation,
    read_relation,
    select_interactions,
    select_items,
    use_safe_part,
)
from recdb.data.timezones import keep_zone
from recdb.data.tools import advise_index
from recdb.data.values import read_value
from recdb.database import SEARCH_PATH, Database, callers_path, connect, fetch_row, require_primary
from recdb.errors import InvalidInput, RecdbError
from recdb.faults import reach
from recdb.migrate import require_installed
from recdb.preconditions import lock_out_installs
from recdb.progress import Report, silent
from recdb.schemas import in_schema, schema_of

JOB_TIMEOUT = "1s"  # how long we wait for a refresh to end


@dataclass(frozen=True)
class Attached:
    """An attached table: its full name, the meaning of its columns, some of its rows, and warnings."""

    role: Role
    relation: str
    mapping: Mapping[str, str]
    sample: Sequence[Mapping[str, str | None]] = ()
    warnings: Sequence[Remark] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the table as `recdb attach --json` prints it."""
        warnings = [{"message": warning.message, "mend": warning.fix} for warning in self.warnings]
        return asdict(self) | {"warnings": warnings}


# The functions that programs and the command line call --------------------------------------------------------


def attach(
    database: Database,
    sources: Sequence[Source],
    *,
    dry_run: bool = False,
    force: bool = False,
    report: Report = silent,
) -> list[Attached]:
    """Attach tables, all or none; a table that is already attached in the same role gets the new mapping.

    With `dry_run` all checks run and nothing changes. Raises InvalidInput for a table, column, type or expression
    that recdb cannot read, and, without `force`, for a mapping that would be of no use; RecdbError if a privilege is
    missing, or row-level security or a lock prevents it.
    """
    with connect(database) as connection:
        require_installed(connection)
        become_owner(connection)
        lock_out_others(connection)
        known = read_attached(connection)
        made: dict[int, Attached] = {}
        path = callers_path(database)
        sources = [replace(s, relation=find_relation(connection, s.relation, path).name) for s in sources]
        require_rights(connection, [source.relation for source in sources])
        use_safe_part(connection, path)
        try:
            for source in sources:
                report(f"reading {source.relation}")
                made |= create_view(connection, source)
            reach("view made")
            found = [inspect(connection, number, attached) for number, attached in made.items()]
            report("checking the mapping")
            new = {(attached.role, attached.relation) for attached in found}
            replaced = [number for number, old in known.items() if (old.role, old.relation) in new]
            replaced += renamed(connection, found)
            doubts = weigh_doubts(connection, found, known, replaced, force=force)
            found = [replace(each, warnings=[*each.warnings, *more]) for each, more in zip(found, doubts, strict=True)]
        except psycopg.errors.LockNotAvailable as error:
            raise RecdbError(
                "a table is locked by another transaction, perhaps a migration: nothing was changed", "try again"
            ) from error
        roles = {attached.role for attached in made.values()}
        if dry_run:
            connection.rollback()
            return found
        (resumed,) = fetch_row(connection, "select exists (select from recdb.attachment a where a.listed_only)")
        remove_attached(connection, replaced)
        report("redefining recdb's functions")
        for number in made:
            keep_query(connection, number)
        combine_sources(connection, roles)
        reach("views combined")
        if "items" in roles and (resumed or not any(old.role == "items" for old in known.values())):
            connection.execute("update recdb.config set listed_only = true where not listed_only")
    reach("attached")
    return found


def detach(database: Database, relation: str | None) -> list[Attached]:
    """Detach a table in all its roles, or every table for None; return the detached tables.

    The impressions that were copied from it go; recdb's own store stays.
    """
    with connect(database) as connection:
        require_installed(connection)
        become_owner(connection)
        lock_out_others(connection)
        known = read_attached(connection)
        path = callers_path(database)
        gone = {n: old for n, old in known.items() if relation is None or is_named(connection, old, relation, path)}
        if relation is not None and not gone:
            names = ", ".join(dict.fromkeys(old.relation for old in known.values()))
            raise InvalidInput(f"{relation} is not attached", f"attached: {names or 'nothing'}")
        remove_attached(connection, list(gone))
        roles = {old.role for old in gone.values()}
        combine_sources(connection, roles)
        if "items" in roles:
            # Without a catalogue, listed_only would hide every item.
            connection.execute(
                "update recdb.config set listed_only = false where listed_only and not exists (select from recdb.item) "
                "and not exists (select from recdb.attachment a where a.role = 'items')"
            )
    return list(gone.values())


def read_attached(connection: psycopg.Connection) -> dict[int, Attached]:
    """Read the attached tables, by attachment_id."""
    rows = connection.execute(
        "select attachment_id, role, relation, mapping, left_out from recdb.attachment order by attachment_id"
    ).fetchall()
    return {
        number: Attached(role, relation, {k: m[k] for k in KEYS[role] if k in m}, (), describe_left_out(relation, lost))
        for number, role, relation, m, lost in rows
    }


# The steps ----------------------------------------------------------------------------------------------------


def become_owner(connection: psycopg.Connection) -> None:
    """Become the owner of schema recdb, because recommend() reads the tables as this owner.

    A superuser does not: the functions of this owner would run in the session, and could return to the superuser.
    """
    require_primary(connection)
    owner, may_become = fetch_row(
        connection,
        """
        select n.nspowner::regrole::text, n.nspowner = r.oid or pg_has_role(n.nspowner, 'member') and not r.rolsuper
        from pg_namespace n, pg_roles r where n.nspname = 'recdb' and r.rolname = current_user
        """,
    )
    if not may_become:
        raise RecdbError(f"only {owner}, who owns schema recdb, may attach or detach", f"connect as {owner}")
    connection.execute(sql.SQL("set local role {}").format(sql.SQL(owner)))


def lock_out_others(connection: psycopg.Connection) -> None:
    """Keep other attaches, refreshes and installs from running at the same time."""
    lock_out_installs(connection, seconds=1.0)
    keep_definitions_here(connection)
    connection.execute("select set_config('lock_timeout', %s, true)", [JOB_TIMEOUT])
    try:
        connection.execute("select recdb.take_refresh_lock(true)")
    except psycopg.errors.LockNotAvailable as error:
        raise RecdbError(
            f"a refresh or another attach is running: {error.diag.message_primary}; nothing was changed",
            "try again when it is done",
        ) from error


def require_rights(connection: psycopg.Connection, names: Sequence[str]) -> None:
    """Raise RecdbError if recdb's owner may not read some tables; the hint grants all of them."""
    owner, missing = fetch_row(
        connection,
        """
        select quote_ident(current_user),
            array(
                select distinct n from unnest(%s::text[]) n where not has_any_column_privilege(n, 'select') order by n)
        """,
        [list(names)],
    )
    if missing:
        raise RecdbError(
            f"{owner}, who owns schema recdb, may not read {', '.join(missing)}",
            f"grant select on {', '.join(missing)} to {owner};",
        )


def create_view(connection: psycopg.Connection, source: Source) -> dict[int, Attached]:
    """Create the view of a source and its row in recdb.attachment; return the table by its attachment_id."""
    relation = find_relation(connection, source.relation)
    require_own_views(connection, relation)
    require_here(connection, relation.name)
    mapping = {key: value for key, value in source.mapping.items() if value}
    missing = [key for key in REQUIRED[source.role] if key not in mapping]
    if missing:
        raise InvalidInput(f"{relation.name} as {source.role}: no column is named for the {missing[0]}")
    keep_zone(connection, relation, mapping)
    selection: sql.Composable
    if source.role == "interactions":
        known_kinds = [kind for (kind,) in connection.execute("select kind from recdb.interaction_kind")]
        value = read_value(connection, relation, mapping["value"]) if "value" in mapping else None
        selection = select_interactions(connection, relation, mapping, known_kinds, value)
    elif source.role == "items":
        selection = select_items(connection, relation, mapping, read_embedding(connection, relation, mapping))
    else:
        selection = select_impressions(connection, relation, mapping)
    (number,) = fetch_row(
        connection,
        "insert into recdb.attachment (role, relation, mapping) values (%s, %s, %s) returning attachment_id",
        [source.role, relation.name, Jsonb(mapping)],
    )
    view = sql.Identifier("recdb", f"attached_{number}")
    connection.execute(sql.SQL("create view {} as {}").format(view, selection))
    return {number: Attached(source.role, relation.name, mapping)}


def require_own_views(connection: psycopg.Connection, relation: Relation) -> None:
    """Raise RecdbError if a view could run another role's functions with the rights of recdb's owner.

    Called before the first row is read: a check reads rows too.
    """
    foreign = connection.execute("select recdb.foreign_views(%s::regclass)::text", [relation.name])
    for (table,) in foreign.fetchall():
        (owner,) = fetch_row(connection, "select quote_ident(current_user)")
        raise RecdbError(
            f"{table} belongs to a role that is not {owner}, who owns schema recdb: its functions would run as {owner}",
            f"alter {'view' if relation.name != table or relation.kind == 'view' else relation.kind} {table} "
            f"owner to {owner};",
        )


def inspect(connection: psycopg.Connection, number: int, attached: Attached) -> Attached:
    """Read some rows of an attached view as recdb will, and collect the warnings."""
    view = sql.Identifier("recdb", f"attached_{number}")
    relation = find_relation(connection, attached.relation)
    hidden = connection.execute(
        "select recdb.hidden_tables(%s::regclass)::text", [f"{schema_of(connection)}.attached_{number}"]
    )
    for (table,) in hidden.fetchall():
        (owner,) = fetch_row(connection, "select quote_ident(current_user)")
        raise RecdbError(
            f"row-level security of {table} would hide rows from {owner}, who owns schema recdb",
            f"create policy recdb_reads on {table} for select to {owner} using (true); "
            f"or, as a superuser: alter role {owner} bypassrls;",
        )
    unread = require_readable_rows(connection, number, attached.relation)
    zone = attached.mapping.get("timezone", "UTC") if attached.role != "items" else "UTC"
    value = attached.mapping.get("value")
    doubts = inspect_values(connection, view, relation, value) if value else []
    cursor = read_relation(connection, relation, sample_query(connection, number, view, zone))
    names = [column.name for column in cursor.description or ()]
    shown = shown_columns(names, attached.mapping)
    sample = [{name: row[names.index(name)] for name in shown} for row in cursor.fetchall()]
    warnings = unread if sample or unread else [Remark(f"{attached.relation} has no rows yet")]
    if attached.role == "interactions":
        warnings += inspect_kinds(connection, view, relation, attached.mapping["kind"])
        warnings += doubts
        if "at" not in attached.mapping:
            warnings.append(
                Remark(
                    f"{attached.relation} is read without times: its rows count as new, and new rows change the "
                    "lists of other users only after recdb refresh --full"
                )
            )
    elif attached.role == "impressions":
        warnings += inspect_pages(connection, number, relation)
    elif is_first_catalogue(connection, number):
        warnings.append(
            Remark(
                "from now on recommend() returns only items of a catalogue; to return other items too:",
                "update recdb.config set listed_only = false;",
            )
        )
    for reason, statement in connection.execute(
        "select reason, statement from recdb.missing_indexes() where attachment_id = %s", [number]
    ):
        fix = advise_index(connection, attached.relation, statement)
        warnings.append(Remark(f"{attached.relation} lacks an index: {reason}", fix))
    for numbered, numbers, catalogue, statement in connection.execute(
        "select relation || '.' || item_column, refers_to, catalogue, statement from recdb.mistaken_items() "
        "where %s in (attachment_id, catalogue_id)",
        [number],
    ):
        message = f"{numbered} holds numbers of {numbers}, not of {catalogue}; attach a view instead:"
        warnings.append(Remark(message, statement))
    schema = str(schema_of(connection))
    warnings = [Remark(in_schema(each.message, schema), each.fix and in_schema(each.fix, schema)) for each in warnings]
    return Attached(attached.role, attached.relation, attached.mapping, sample, warnings)


def is_first_catalogue(connection: psycopg.Connection, number: int) -> bool:
    """Tell whether attaching these items sets config.listed_only: recommend() then returns only catalogue items."""
    (first,) = fetch_row(
        connection,
        """
        select not c.listed_only
            and not exists (select from recdb.attachment a where a.role = 'items' and a.attachment_id <> %s)
        from recdb.config c
        """,
        [number],
    )
    return bool(first)


def keep_query(connection: psycopg.Connection, number: int) -> None:
    """Keep the query of an attached view, with every name in it qualified, and drop the view."""
    (path,) = fetch_row(connection, "select current_setting('search_path')")
    set_path = "select pg_catalog.set_config('search_path'::pg_catalog.text, %s::pg_catalog.text, true)"
    connection.execute(set_path, [SEARCH_PATH])
    connection.execute(
        """
        update recdb.attachment a
        set query = rtrim(pg_get_viewdef(v.oid), ';'),
            reads = array(
                select format('%%I.%%I', n.nspname, c.relname)
                from pg_rewrite r
                join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
                    and d.refclassid = 'pg_class'::regclass and d.refobjid <> v.oid
                join pg_class c on c.oid = d.refobjid
                join pg_namespace n on n.oid = c.relnamespace
                where r.ev_class = v.oid
                group by 1
                order by 1)
        from pg_class v
        where a.attachment_id = %s and v.oid = format('recdb.attached_%%s', a.attachment_id)::regclass
        """,
        [number],
    )
    connection.execute(
        "update recdb.attachment set seen = recdb.current_oids(reads) where attachment_id = %s", [number]
    )
    connection.execute(sql.SQL("drop view {}").format(sql.Identifier("recdb", f"attached_{number}")))
    connection.execute(set_path, [path])


def combine_sources(connection: psycopg.Connection, roles: set[Role]) -> None:
    """Write recdb's functions over the attached tables again."""
    for role in sorted(roles - {"impressions"}):  # these are copied at each refresh
        connection.execute(sql.SQL("select recdb.{}()").format(sql.Identifier(f"combine_{role}")))


# Helpers ------------------------------------------------------------------------------------------------------


def remove_attached(connection: psycopg.Connection, numbers: Sequence[int]) -> None:
    """Remove attached tables by attachment_id, and the impressions that were copied from them."""
    connection.execute("delete from recdb.attachment where attachment_id = any (%s)", [list(numbers)])
    connection.execute("select recdb.drop_copies(%s::integer[])", [list(numbers)])


def renamed(connection: psycopg.Connection, found: Sequence[Attached]) -> list[int]:
    """Find the attached tables whose old names are gone, and which are now attached by their new names."""
    rows = connection.execute(
        """
        select a.attachment_id
        from recdb.attachment a, unnest(%s::text[], %s::text[]) f(role, relation)
        where a.role = f.role and a.relation <> f.relation and to_regclass(a.relation) is null
          and to_regclass(f.relation)::oid = any (a.seen)
        """,
        [[attached.role for attached in found], [attached.relation for attached in found]],
    )
    return [number for (number,) in rows.fetchall()]


def is_named(connection: psycopg.Connection, attached: Attached, name: str, path: str) -> bool:
    """Tell whether a name, in any spelling, is the name of an attached table, even if the table is gone."""
    if name == attached.relation:
        return True
    try:
        return find_relation(connection, name, path).name == attached.relation
    except RecdbError:
        return False
