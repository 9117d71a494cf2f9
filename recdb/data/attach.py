"""Attaching an application's own tables: they are read where they are, and never altered.

Each attached table gets a view `recdb.attached_N` that names its columns as recdb does; SQL then defines the views and
functions that all else reads anew, of recdb's own store and these views (sql/75_attach.sql). All of it is one
transaction that takes no lock an application's writers would wait for.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from recdb.data.sources import (
    KEYS,
    REQUIRED,
    Relation,
    Role,
    Source,
    find_relation,
    one,
    read,
    select_interactions,
    select_items,
)
from recdb.database import Database, connect
from recdb.errors import InvalidInput, RecdbError
from recdb.migrate import INSTALL_LOCK, require_installed
from recdb.progress import Report, silent

SAMPLE = 3
KINDS_READ = 1_000_000
NEW_KIND_WEIGHT = 0.5

# How long others may have to wait behind us, and how often we try: an open transaction may use recdb's views.
LOCK_TIMEOUT = "1s"
ATTEMPTS = 5
PAUSE = 0.3


@dataclass(frozen=True)
class Remark:
    """What is not as it could be, and the statement that mends it."""

    message: str
    mend: str | None = None


@dataclass(frozen=True)
class Attached:
    """A table that was attached: its full name, what its columns mean, some of its rows, and what to look at."""

    role: Role
    relation: str
    mapping: Mapping[str, str]
    sample: Sequence[Mapping[str, str | None]] = ()
    warnings: Sequence[Remark] = ()


# What the command line and programs call ---------------------------------------------------------------------


def attach(
    database: Database,
    sources: Sequence[Source],
    *,
    dry_run: bool = False,
    report: Report = silent,
) -> list[Attached]:
    """Attach tables, all or none; one that was attached before in the same role is attached anew.

    With `dry_run` everything is looked at and nothing changed. Raises InvalidInput for a table, column, type or
    expression that cannot be read, RecdbError where rights, row-level security or another transaction are in the way.
    """
    with connect(database) as connection:
        require_installed(connection)
        become_owner(connection)
        lock(connection)
        known = listed(connection)
        made: dict[int, Attached] = {}
        require_rights(connection, [find_relation(connection, source.relation).name for source in sources])
        try:
            for source in sources:
                report(f"reading {source.relation}")
                made |= create_view(connection, source)
            found = [look_at(connection, number, attached) for number, attached in made.items()]
        except psycopg.errors.LockNotAvailable as error:
            raise RecdbError(
                "a table is locked by another transaction, a migration perhaps: nothing was changed", "try again"
            ) from error
        roles = {attached.role for attached in made.values()}
        if dry_run:
            connection.rollback()
            return found
        replaced = [n for n, old in known.items() if (old.role, old.relation) in {(a.role, a.relation) for a in found}]
        connection.execute("delete from recdb.attachment where attachment_id = any (%s)", [replaced])
        report("redefining recdb's views")
        combine(connection, roles)
        if "items" in roles and not any(old.role == "items" for old in known.values()):
            connection.execute("update recdb.config set listed_only = true where not listed_only")
    drop_stale(database)
    return found


def detach(database: Database, relation: str | None) -> tuple[list[Attached], list[str]]:
    """Undo the attaching of a table in all its roles, of every table for None; recdb's own store stays.

    Returns what was detached, and the views that others still read, which the next attach or detach removes.
    """
    with connect(database) as connection:
        require_installed(connection)
        become_owner(connection)
        lock(connection)
        known = listed(connection)
        gone = {n: old for n, old in known.items() if relation is None or is_named(connection, old, relation)}
        if relation is not None and not gone:
            names = ", ".join(dict.fromkeys(old.relation for old in known.values()))
            raise InvalidInput(f"{relation} is not attached", f"attached: {names or 'nothing'}")
        connection.execute("delete from recdb.attachment where attachment_id = any (%s)", [list(gone)])
        roles = {old.role for old in gone.values()}
        combine(connection, roles)
        if "items" in roles:
            # Where no catalogue is left, nothing would be recommended.
            connection.execute(
                "update recdb.config set listed_only = false where listed_only and not exists (select from recdb.item) "
                "and not exists (select from recdb.attachment a where a.role = 'items')"
            )
    return list(gone.values()), drop_stale(database)


def listed(connection: psycopg.Connection) -> dict[int, Attached]:
    """Read what is attached, by attachment_id."""
    rows = connection.execute(
        "select attachment_id, role, relation, mapping from recdb.attachment order by attachment_id"
    ).fetchall()
    return {
        number: Attached(role, relation, {key: mapping[key] for key in KEYS[role] if key in mapping})
        for number, role, relation, mapping in rows
    }


# The steps -----------------------------------------------------------------------------------------------------


def become_owner(connection: psycopg.Connection) -> None:
    """Go on as the owner of schema recdb, who will read the tables whenever somebody asks for recommendations."""
    owner, is_member = one(
        connection,
        "select nspowner::regrole::text, pg_has_role(nspowner, 'member') from pg_namespace where nspname = 'recdb'",
    )
    if not is_member:
        raise RecdbError(f"only {owner}, who owns schema recdb, may attach or detach", f"connect as {owner}")
    connection.execute(sql.SQL("set local role {}").format(sql.SQL(owner)))


def lock(connection: psycopg.Connection) -> None:
    """Let no other attach, refresh or install run meanwhile."""
    connection.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
    try:
        connection.execute(
            "select pg_advisory_xact_lock(%s), pg_advisory_xact_lock(recdb.refresh_lock())", [INSTALL_LOCK]
        )
    except psycopg.errors.LockNotAvailable as error:
        raise RecdbError(
            "a refresh, an install or another attach is running: nothing was changed", "try again when it is done"
        ) from error


def require_rights(connection: psycopg.Connection, names: Sequence[str]) -> None:
    """Refuse tables that recdb's owner may not read, and name the grant for all of them."""
    owner, missing = one(
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
    """Make the view of a source and its row in recdb.attachment; return it by its attachment_id."""
    relation = find_relation(connection, source.relation)
    mapping = {key: value for key, value in source.mapping.items() if value}
    missing = [key for key in REQUIRED[source.role] if key not in mapping]
    if missing:
        raise InvalidInput(f"{relation.name} as {source.role}: it is not said which column is the {missing[0]}")
    known_kinds = [kind for (kind,) in connection.execute("select kind from recdb.interaction_kind")]
    selection = (
        select_interactions(connection, relation, mapping, known_kinds)
        if source.role == "interactions"
        else select_items(connection, relation, mapping)
    )
    (number,) = one(
        connection,
        "insert into recdb.attachment (role, relation, mapping) values (%s, %s, %s) returning attachment_id",
        [source.role, relation.name, Jsonb(mapping)],
    )
    view = sql.Identifier("recdb", f"attached_{number}")
    connection.execute(sql.SQL("create view {} as {}").format(view, selection))
    connection.execute(
        sql.SQL("comment on view {} is {}").format(view, sql.Literal(f"{relation.name}, as recdb reads it."))
    )
    connection.execute(sql.SQL("grant select on {} to recdb_analyst").format(view))
    return {number: Attached(source.role, relation.name, mapping)}


def look_at(connection: psycopg.Connection, number: int, attached: Attached) -> Attached:
    """Read some rows of an attached view as recdb will, and collect what deserves a warning."""
    view = sql.Identifier("recdb", f"attached_{number}")
    relation = find_relation(connection, attached.relation)
    hidden = connection.execute("select recdb.hidden_tables(%s::regclass)::text", [f"recdb.attached_{number}"])
    for (table,) in hidden.fetchall():
        (owner,) = one(connection, "select quote_ident(current_user)")
        raise RecdbError(
            f"row-level security of {table} would hide rows from {owner}, who owns schema recdb",
            f"create policy recdb_reads on {table} for select to {owner} using (true); "
            f"or, as a superuser: alter role {owner} bypassrls;",
        )
    cursor = read(connection, relation, sql.SQL("select * from {} limit {}").format(view, SAMPLE), attached.relation)
    names = [column.name for column in cursor.description or ()]
    sample = [dict(zip(names, map(shown, row), strict=True)) for row in cursor.fetchall()]
    warnings = [] if sample else [Remark(f"{attached.relation} gives no rows yet")]
    if attached.role == "interactions":
        warnings += look_at_kinds(connection, view, relation, attached.mapping["kind"])
        if "at" not in attached.mapping:
            warnings.append(
                Remark(
                    f"{attached.relation} is read without times: its rows count as of now, and what "
                    "others get from new ones shows after recdb refresh --full"
                )
            )
    elif is_first_catalogue(connection, number):
        warnings.append(
            Remark(
                "only items of a catalogue are recommended from now on; to recommend others too:",
                "update recdb.config set listed_only = false;",
            )
        )
    for reason, statement in connection.execute(
        "select reason, statement from recdb.missing_indexes() where attachment_id = %s", [number]
    ):
        warnings.append(Remark(f"{attached.relation} lacks an index: {reason}", statement))
    for numbered, numbers, catalogue, statement in connection.execute(
        "select relation || '.' || item_column, refers_to, catalogue, statement from recdb.mistaken_items() "
        "where %s in (attachment_id, catalogue_id)",
        [number],
    ):
        message = f"{numbered} holds numbers of {numbers}, taken for those of {catalogue}; attach a view instead:"
        warnings.append(Remark(message, statement))
    return Attached(attached.role, attached.relation, attached.mapping, sample, warnings)


def is_first_catalogue(connection: psycopg.Connection, number: int) -> bool:
    """Tell whether attaching these items is what makes the catalogue the measure of what is recommended."""
    (first,) = one(
        connection,
        """
        select not c.listed_only
            and not exists (select from recdb.attachment a where a.role = 'items' and a.attachment_id <> %s)
        from recdb.config c
        """,
        [number],
    )
    return bool(first)


def look_at_kinds(connection: psycopg.Connection, view: sql.Composable, relation: Relation, kind: str) -> list[Remark]:
    """Warn of kinds without a weight: an enum's labels, else what the first million rows have."""
    column = relation.column(kind)
    if column and column.labels:
        found: list[str] = list(column.labels)
    else:
        query = sql.SQL("select distinct s.kind from (select kind from {} limit {}) s where s.kind is not null")
        found = [row[0] for row in read(connection, relation, query.format(view, KINDS_READ))]
    unknown = connection.execute(
        """
        select u.kind, coalesce(k.weight, %s), c.default_weight
        from unnest(%s::text[]) u(kind)
        cross join recdb.config c
        left join recdb.interaction_kind k on k.kind = lower(u.kind)
        where not exists (select from recdb.interaction_kind e where e.kind = u.kind)
        order by u.kind
        """,
        [NEW_KIND_WEIGHT, found],
    ).fetchall()
    if not unknown:
        return []
    values = sql.SQL(", ").join(sql.SQL("({}, {})").format(kind, weight) for kind, weight, _ in unknown)
    statement = sql.SQL("insert into recdb.interaction_kind (kind, weight) values {};").format(values)
    kinds = ", ".join(kind for kind, *_ in unknown)
    message = f"{relation.name} has kinds without a weight, which weigh {unknown[0][2]:g}: {kinds}"
    return [Remark(message, statement.as_string(connection))]


def combine(connection: psycopg.Connection, roles: set[Role]) -> None:
    """Define the views and functions that all else reads anew."""

    def define(role: Role) -> None:
        with connection.transaction():
            connection.execute(sql.SQL("select recdb.{}()").format(sql.Identifier(f"combine_{role}")))

    for role in sorted(roles):
        if not try_again(partial(define, role)):
            raise RecdbError(
                "recdb's views are in use by a transaction that stays open: nothing was changed",
                "try again; select * from pg_stat_activity where state = 'idle in transaction' shows who",
            )


def drop_stale(database: Database) -> list[str]:
    """Drop the views that are not read any more, each in a transaction of its own; return those still in use."""

    def drop(view: str) -> None:
        with connection.transaction():
            become_owner(connection)
            connection.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            connection.execute(sql.SQL("drop view {}").format(sql.SQL(view)))

    with connect(database, autocommit=True) as connection:
        stale = [row[0] for row in connection.execute("select s::text from recdb.stale_sources() s")]
        return [view for view in stale if not try_again(partial(drop, view))]


# Helpers --------------------------------------------------------------------------------------------------------


def try_again(step: Callable[[], None]) -> bool:
    """Take a step that may find its lock held, some times; return False where it always was."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            step()
        except psycopg.errors.LockNotAvailable:
            continue
        return True
    return False


def is_named(connection: psycopg.Connection, attached: Attached, name: str) -> bool:
    """Tell whether a name, in any spelling, is that of an attached table, which may have been renamed since."""
    if name == attached.relation:
        return True
    try:
        return find_relation(connection, name).name == attached.relation
    except RecdbError:
        return False


def shown(value: Any) -> str | None:
    """Write a value of a sample; times as what they are taken for."""
    if isinstance(value, datetime):
        value = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return None if value is None else str(value)
