"""Attaching an application's own tables: they are read where they are, and never altered.

Each attached table gets a view `recdb.attached_N` that names its columns as recdb does; SQL then defines the views and
functions that all else reads anew, of recdb's own store and these views (sql/75_attach.sql). All of it is one
transaction that takes no lock an application's writers would wait for.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from recdb.database import Database, connect
from recdb.errors import InvalidInput, RecdbError
from recdb.migrate import INSTALL_LOCK, require_installed

Role = Literal["interactions", "items"]
Report = Callable[[str], None]

KEYS: Mapping[Role, Sequence[str]] = {
    "interactions": ("user", "item", "kind", "at", "where"),
    "items": ("item", "owner", "published", "available", "title", "attributes"),
}
REQUIRED: Mapping[Role, Sequence[str]] = {"interactions": ("user", "item", "kind"), "items": ("item",)}

ID_TYPES = "text, varchar, uuid, bigint, integer and smallint"
TIMES: Mapping[str, LiteralString] = {
    "timestamp with time zone": "{}",
    "timestamp without time zone": "{} at time zone 'UTC'",
    "date": "{}::timestamp at time zone 'UTC'",
}
READABLE = {"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table"}

SAMPLE = 3
KINDS_READ = 1_000_000
NEW_KIND_WEIGHT = 0.5

# How long others may have to wait behind us, and how often we try: an open transaction may use recdb's views.
LOCK_TIMEOUT = "1s"
ATTEMPTS = 5
PAUSE = 0.3


@dataclass(frozen=True)
class Source:
    """A table of the application's, and what its columns mean: by each of KEYS a column, a constant or SQL."""

    role: Role
    relation: str
    mapping: Mapping[str, str]


@dataclass(frozen=True)
class Warning:
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
    warnings: Sequence[Warning] = ()


@dataclass(frozen=True)
class Column:
    """A column of the application's table."""

    name: str
    type: str
    is_id: bool
    is_unique: bool
    labels: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Relation:
    """The application's table as the catalogues describe it; `name` is written as SQL needs it."""

    name: LiteralString
    kind: str
    columns: Mapping[str, Column]

    @property
    def identifier(self) -> sql.SQL:
        """The name as part of a statement."""
        return sql.SQL(self.name)

    def column(self, name: str) -> Column | None:
        """Find a column by its exact name, with or without double quotes."""
        return self.columns.get(name) or self.columns.get(name.strip('"'))

    def require(self, name: str, key: str) -> Column:
        """Find a column or say which there are."""
        found = self.column(name)
        if found is None:
            raise InvalidInput(f"{self.name} has no column {name} ({key})", f"its columns: {', '.join(self.columns)}")
        return found


# What the command line and programs call ---------------------------------------------------------------------


def parse_source(text: str) -> Source:
    """Read an interactions source written as 'TABLE user=COLUMN item=COLUMN kind=COLUMN [at=COLUMN] [where=SQL]'.

    where= comes last and takes everything that follows. Raises InvalidInput.
    """
    form = "write 'public.\"like\" user=user_id item=post_id kind=like [at=created_at] [where=SQL]'"
    found = re.fullmatch(r"\s*(\S+)(.*?)(?:\swhere=(.*))?", text, re.DOTALL)
    if found is None:
        raise InvalidInput("no table is named", form)
    relation, settings, where = found[1], found[2].split(), (found[3] or "").strip()
    mapping = {key: value for key, _, value in (setting.partition("=") for setting in settings)}
    unknown = [key for key, value in mapping.items() if key not in KEYS["interactions"] or not value]
    missing = [key for key in REQUIRED["interactions"] if key not in mapping]
    if unknown or missing:
        wrong = f"{unknown[0]} is not understood" if unknown else f"{missing[0]}= is missing"
        raise InvalidInput(f"'{text.strip()}': {wrong}", form)
    return Source("interactions", relation, mapping | ({"where": where} if where else {}))


def attach(
    database: Database,
    sources: Sequence[Source],
    *,
    dry_run: bool = False,
    report: Report = lambda step: None,
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
        for source in sources:
            report(f"reading {source.relation}")
            made |= create_view(connection, source)
        roles = {attached.role for attached in made.values()}
        found = [look_at(connection, number, attached) for number, attached in made.items()]
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
    return {number: Attached(role, relation, mapping) for number, role, relation, mapping in rows}


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


def select_interactions(
    connection: psycopg.Connection, relation: Relation, mapping: dict[str, str], known_kinds: Sequence[str]
) -> sql.Composable:
    """Compose the view of a table of interactions; ids and times keep their types, so that its indexes serve."""
    user, item = (identifier(require_id(relation, mapping[key], f"--{key}")) for key in ("user", "item"))
    moment: sql.Composable = sql.SQL("null::timestamptz")
    if "at" in mapping:
        moment = identifier(require_time(relation, mapping["at"], "--at"))
    mapping["kind"], kind = read_kind(relation, mapping["kind"], known_kinds)
    condition = expression(connection, relation, mapping["where"], "--where") if "where" in mapping else None
    return sql.SQL(
        'select {user} as user_id, {item} as item_id, {kind}::text collate "default" as kind, {moment} as created_at '
        "from {relation} where {user} is not null and {item} is not null{condition}"
    ).format(
        user=user,
        item=item,
        kind=kind,
        moment=moment,
        relation=relation.identifier,
        condition=sql.SQL(" and {}").format(condition) if condition else sql.SQL(""),
    )


def select_items(connection: psycopg.Connection, relation: Relation, mapping: dict[str, str]) -> sql.Composable:
    """Compose the view of a table of items."""
    key = require_id(relation, mapping["item"], "--item-id")
    if not key.is_unique:
        require_distinct(connection, relation, key)

    def text(name: str) -> sql.Composable:
        if name not in mapping:
            return sql.SQL("null::text")
        return sql.SQL('{}::text collate "default"').format(identifier(relation.require(mapping[name], f"--{name}")))

    published: sql.Composable = sql.SQL("null::timestamptz")
    if "published" in mapping:
        column = require_time(relation, mapping["published"], "--published")
        published = sql.SQL(TIMES[column.type]).format(identifier(column))
    available: sql.Composable = sql.SQL("true")
    if "available" in mapping:
        column_or_none = relation.column(mapping["available"])
        text_of = sql.Identifier(column_or_none.name).as_string() if column_or_none else mapping["available"]
        available = sql.SQL("coalesce({}, false)").format(expression(connection, relation, text_of, "--available"))
    return sql.SQL(
        "select {key} as item_id, {owner} as owner_id, {published} as published_at, {available} as available, "
        "{attributes} as attributes, {title} as title from {relation} where {key} is not null"
    ).format(
        key=identifier(key),
        owner=text("owner"),
        published=published,
        available=available,
        attributes=read_attributes(relation, mapping.get("attributes")),
        title=text("title"),
        relation=relation.identifier,
    )


def read_kind(relation: Relation, kind: str, known_kinds: Sequence[str]) -> tuple[str, sql.Composable]:
    """Tell a column from a constant; return how it is stored, and the SQL.

    Without quotes a constant must be a kind that has a weight: what was meant to be a column is not taken for one.
    """
    quoted = re.fullmatch(r"'(.+)'", kind)
    column = None if quoted else relation.column(kind)
    if column:
        return column.name, sql.Identifier(column.name)
    constant = quoted[1] if quoted else kind
    if not quoted and constant not in known_kinds:
        raise InvalidInput(
            f"{kind} is neither a column of {relation.name} nor a kind that has a weight",
            f"its columns: {', '.join(relation.columns)}; a new kind is written in single quotes: '{kind}'",
        )
    return f"'{constant}'", sql.Literal(constant)


def read_attributes(relation: Relation, names: str | None) -> sql.Composable:
    """Compose an item's attributes: a column of JSON as it is, or an object of the columns named."""
    if names is None:
        return sql.SQL("'{}'::jsonb")
    columns = [relation.require(name.strip(), "--attributes") for name in names.split(",")]
    if len(columns) == 1 and columns[0].type in ("json", "jsonb"):
        return sql.SQL("coalesce({}::jsonb, '{{}}')").format(identifier(columns[0]))
    pairs = [part for column in columns for part in (sql.Literal(column.name), identifier(column))]
    return sql.SQL("jsonb_strip_nulls(jsonb_build_object({}))").format(sql.SQL(", ").join(pairs))


def identifier(column: Column) -> sql.Identifier:
    """Write a column's name."""
    return sql.Identifier(column.name)


def require_id(relation: Relation, name: str, key: str) -> Column:
    """Find a column that can hold ids."""
    column = relation.require(name, key)
    if not column.is_id:
        raise InvalidInput(
            f"{relation.name}.{column.name} ({key}) is of type {column.type}, which recdb does not take ids of",
            f"it takes {ID_TYPES}; for another type attach a view that casts it to text",
        )
    return column


def require_time(relation: Relation, name: str, key: str) -> Column:
    """Find a column that holds a time."""
    column = relation.require(name, key)
    if column.type not in TIMES:
        raise InvalidInput(
            f"{relation.name}.{column.name} ({key}) is of type {column.type}, which is no time",
            "it takes timestamptz, timestamp (holding UTC) and date; for another type attach a view that casts it",
        )
    return column


def require_distinct(connection: psycopg.Connection, relation: Relation, key: Column) -> None:
    """Refuse a table whose items nothing keeps distinct, and a view where they are not."""
    statement = sql.SQL("create unique index concurrently on {} ({});").format(relation.identifier, identifier(key))
    if relation.kind in ("table", "materialized view"):
        raise InvalidInput(
            f"{relation.name}.{key.name} (--item-id) is not unique: an item could be recommended twice",
            statement.as_string(connection),
        )
    query = sql.SQL("select {0}::text from {1} where {0} is not null group by {0} having count(*) > 1 limit 1")
    row = read(connection, relation, query.format(identifier(key), relation.identifier)).fetchone()
    if row:
        raise InvalidInput(f"{relation.name}.{key.name} (--item-id) is not unique: {row[0]} is there more than once")


def expression(connection: psycopg.Connection, relation: Relation, text: str, key: str) -> sql.Composable:
    """Write a condition in brackets, tried on the relation it is about."""
    # The line end closes a comment; prepared, it can be no more than one statement.
    condition = sql.SQL("(\n{}\n)").format(sql.SQL(text))
    try:
        with connection.transaction():
            query = sql.SQL("select {}::boolean from {} limit 0").format(condition, relation.identifier)
            connection.execute(query, prepare=True)
    except psycopg.errors.InsufficientPrivilege as error:
        raise not_readable(connection, relation, error) from error
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        raise InvalidInput(
            f"{key} '{text}' of {relation.name}: {error.diag.message_primary}",
            f"it is an SQL condition on the columns {', '.join(relation.columns)}",
        ) from error
    return condition


def find_relation(connection: psycopg.Connection, name: str) -> Relation:
    """Find a table by its name, as SQL writes it or as it is: public."like", public.like, public.UserInteraction."""
    exact = ".".join('"' + part.strip('"').replace('"', '""') + '"' for part in name.split("."))
    try:
        with connection.transaction():
            row = connection.execute(
                """
                select c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind, n.nspname, c.relpersistence
                from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where c.oid = coalesce(to_regclass(%s), to_regclass(%s))
                """,
                [name, exact],
            ).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        (owner,) = one(connection, "select quote_ident(current_user)")
        raise RecdbError(
            f"{owner}, who owns schema recdb, may not read {name}: {error.diag.message_primary}",
            f"grant usage on schema {name.split('.', maxsplit=1)[0]} to {owner};",
        ) from error
    except psycopg.Error as error:
        raise InvalidInput(f"'{name}' is no name of a table", "write schema.table") from error
    if row is None:
        raise InvalidInput(f"there is no table {name}", suggest_tables(connection))
    oid, full_name, kind, schema, persistence = row
    if schema in ("recdb", "pg_catalog", "information_schema") or kind not in READABLE or persistence == "t":
        raise InvalidInput(f"{full_name} cannot be attached", "attach a table or view of the application's")
    return Relation(full_name, READABLE[kind], read_columns(connection, oid))


def suggest_tables(connection: psycopg.Connection) -> str:
    """Name the tables that could have been meant."""
    rows = connection.execute(
        """
        select format('%I.%I', n.nspname, c.relname)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('recdb', 'information_schema')
          and n.nspname !~ '^pg_'
          and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
        order by 1
        limit 20
        """
    ).fetchall()
    return f"there are: {', '.join(row[0] for row in rows)}" if rows else "this database has no tables"


def read_columns(connection: psycopg.Connection, oid: int) -> dict[str, Column]:
    """Read a relation's columns, in their order."""
    rows = connection.execute(
        """
        select a.attname, t.type::text, recdb.as_id('', t.type) is not null,
            exists (
                select from pg_index i
                where i.indrelid = a.attrelid and i.indisunique and i.indisvalid and i.indnkeyatts = 1
                  and i.indkey[0] = a.attnum and i.indpred is null),
            array(select e.enumlabel::text from pg_enum e where e.enumtypid = t.type order by e.enumsortorder)
        from pg_attribute a
        cross join lateral (select recdb.column_type(a.attrelid, a.attname) as type) t
        where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
        order by a.attnum
        """,
        [oid],
    ).fetchall()
    return {row[0]: Column(*row) for row in rows}


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
    warnings = [] if sample else [Warning(f"{attached.relation} gives no rows yet")]
    if attached.role == "interactions":
        warnings += look_at_kinds(connection, view, relation, attached.mapping["kind"])
        if "at" not in attached.mapping:
            warnings.append(
                Warning(
                    f"{attached.relation} is read without times: its rows count as of now, and what "
                    "others get from new ones shows after recdb refresh --full"
                )
            )
    for reason, statement in connection.execute(
        "select reason, statement from recdb.missing_indexes() where attachment_id = %s", [number]
    ):
        warnings.append(Warning(f"{attached.relation} lacks an index: {reason}", statement))
    return Attached(attached.role, attached.relation, attached.mapping, sample, warnings)


def look_at_kinds(connection: psycopg.Connection, view: sql.Composable, relation: Relation, kind: str) -> list[Warning]:
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
    return [Warning(message, statement.as_string(connection))]


def combine(connection: psycopg.Connection, roles: set[Role]) -> None:
    """Define the views and functions that all else reads anew."""
    for role in sorted(roles):
        query = sql.SQL("select recdb.{}()").format(sql.Identifier(f"combine_{role}"))
        if not try_again(lambda query=query: run(connection, query)):  # type: ignore[misc]
            raise RecdbError(
                "recdb's views are in use by a transaction that stays open: nothing was changed",
                "try again; select * from pg_stat_activity where state = 'idle in transaction' shows who",
            )


def drop_stale(database: Database) -> list[str]:
    """Drop the views that are not read any more, each in a transaction of its own; return those still in use."""
    with connect(database, autocommit=True) as connection:
        stale = [row[0] for row in connection.execute("select s::text from recdb.stale_sources() s")]
        connection.execute("select set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
        return [
            view
            for view in stale
            if not try_again(
                lambda view=view: run(connection, sql.SQL("drop view {}").format(sql.SQL(view)))  # type: ignore[misc]
            )
        ]


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


def run(connection: psycopg.Connection, query: sql.Composed) -> None:
    """Execute a statement in a transaction, or a savepoint, of its own."""
    with connection.transaction():
        connection.execute(query)


def read(
    connection: psycopg.Connection, relation: Relation, query: sql.Composed, name: str | None = None
) -> psycopg.Cursor[Any]:
    """Read from the application's table; where recdb's owner may not, say what to grant."""
    try:
        with connection.transaction():
            return connection.execute(query)
    except psycopg.errors.InsufficientPrivilege as error:
        raise not_readable(connection, relation, error) from error


def not_readable(connection: psycopg.Connection, relation: Relation, error: psycopg.Error) -> RecdbError:
    """Say that recdb's owner may not read a table, and what to grant."""
    (owner,) = one(connection, "select quote_ident(current_user)")
    return RecdbError(
        f"{owner}, who owns schema recdb, may not read {relation.name}: {error.diag.message_primary}",
        f"grant select on {relation.name} to {owner};",
    )


def is_named(connection: psycopg.Connection, attached: Attached, name: str) -> bool:
    """Tell whether a name, in any spelling, is that of an attached table, which may have been renamed since."""
    if name == attached.relation:
        return True
    try:
        return find_relation(connection, name).name == attached.relation
    except RecdbError:
        return False


def shown(value: Any) -> str | None:
    """Write a value of a sample."""
    return None if value is None else str(value)


def one(connection: psycopg.Connection, query: LiteralString, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Run a query that gives one row, and return it."""
    row = connection.execute(query, parameters or None).fetchone()
    assert row is not None
    return tuple(row)
