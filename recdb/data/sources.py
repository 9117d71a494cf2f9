"""An application's tables as sources: finding them in the system catalogues, checking them, composing their views."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql

from recdb.data.suggestions import suggest_tables
from recdb.database import SEARCH_PATH, fetch_row, split_path
from recdb.errors import InvalidInput, RecdbError
from recdb.schemas import Verbatim, schema_of

Role = Literal["interactions", "items", "impressions"]

KEYS: Mapping[Role, Sequence[str]] = {
    "interactions": ("user", "item", "kind", "at", "timezone", "value", "where"),
    "items": ("item", "owner", "published", "timezone", "available", "title", "attributes", "embedding"),
    "impressions": (
        "user", "item", "at", "timezone", "scenario", "place", "variant", "propensity", "model-version", "where",
    ),
}  # fmt: skip

REQUIRED: Mapping[Role, Sequence[str]] = {
    "interactions": ("user", "item", "kind"),
    "items": ("item",),
    "impressions": ("user", "item", "at"),
}

ID_TYPES = "text, varchar, uuid, bigint, integer and smallint"

TIMES: Mapping[str, LiteralString] = {
    "timestamp with time zone": "{}",
    "timestamp without time zone": "{} at time zone {zone}",
    # A date reaches further than a timestamp.
    "date": "(case when {0} > date '9999-12-31' then 'infinity' else {0} end)::timestamp at time zone {zone}",
}

READABLE = {"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table"}


@dataclass(frozen=True)
class Source:
    """A table of the application, and a column, a constant or SQL for each of KEYS."""

    role: Role
    relation: str
    mapping: Mapping[str, str]


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
    """The application's table as the system catalogues describe it; `name` is quoted for SQL."""

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
        """Find a column; the error lists the columns that exist."""
        found = self.column(name)
        if found is None:
            raise InvalidInput(f"{self.name} has no column {name} ({key})", f"its columns: {', '.join(self.columns)}")
        return found


def parse_source(text: str) -> Source:
    """Parse a source of interactions: 'TABLE user=COLUMN item=COLUMN kind=COLUMN [at=COLUMN] [value=SQL] [where=SQL]'.

    kind-is= names a constant, timezone= the zone of at=; value= and where= come last, and take all text that follows.
    Raises InvalidInput.
    """
    form = "write 'public.\"like\" user=user_id item=post_id kind=like [at=created_at] [value=SQL] [where=SQL]'"
    found = re.fullmatch(r"\s*(\S+)(.*?)(?:\svalue=(.*?))?(?:\swhere=(.*))?", text, re.DOTALL)
    if found is None:
        raise InvalidInput("no table is named", form)
    relation, settings, value, where = found[1], found[2].split(), (found[3] or "").strip(), (found[4] or "").strip()
    mapping = {key: value for key, _, value in (setting.partition("=") for setting in settings)}
    if mapping.get("kind-is") and "kind" not in mapping:
        mapping["kind"] = constant_kind(mapping.pop("kind-is"))
    unknown = [key for key, value in mapping.items() if key not in KEYS["interactions"] or not value]
    missing = [key for key in REQUIRED["interactions"] if key not in mapping]
    if unknown or missing:
        wrong = f"{unknown[0]} is not understood" if unknown else f"{missing[0]}= is missing"
        raise InvalidInput(f"'{text.strip()}': {wrong}", form)
    last = {key: text for key, text in (("value", value), ("where", where)) if text}
    return Source("interactions", relation, mapping | last)


def look_up(connection: psycopg.Connection, name: str) -> int | None:
    """Return the OID of a relation; None if there is none, or if no relation can have such a name."""
    try:
        with connection.transaction():
            (oid,) = fetch_row(connection, "select pg_catalog.to_regclass(%s::pg_catalog.text)::pg_catalog.oid", [name])
    except (psycopg.errors.InvalidName, psycopg.errors.SyntaxError):  # PostgreSQL 15 raises them
        return None
    return None if oid is None else int(oid)


def constant_kind(kind: str) -> str:
    """Write a kind as the constant that a mapping holds."""
    return "'" + kind.replace("'", "''") + "'"


def find_relation(connection: psycopg.Connection, name: str, path: str = "") -> Relation:
    """Find a table by its name, with or without SQL's quotes: public."like", public.like, public.UserInteraction.

    A name without a schema is looked up in `path`, the search path of the user.
    """
    exact = ".".join('"' + part.strip('"').replace('"', '""') + '"' for part in name.split("."))
    try:
        with connection.transaction():
            # Nothing but these two look-ups runs under the user's path.
            set_path = "select pg_catalog.set_config('search_path'::pg_catalog.text, %s::pg_catalog.text, true)"
            if path:
                connection.execute(set_path, [path])
            oids = [look_up(connection, spelling) for spelling in (name, exact)]
            if path:
                connection.execute(set_path, [SEARCH_PATH])
            row = connection.execute(
                """
                select c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind, n.nspname, c.relpersistence
                from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where c.oid = coalesce(%s::oid, %s::oid)
                """,
                oids,
            ).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        (owner,) = fetch_row(connection, "select quote_ident(current_user)")
        raise RecdbError(
            f"{owner}, who owns schema recdb, may not read {name}: {error.diag.message_primary}",
            f"grant usage on schema {name.split('.', maxsplit=1)[0]} to {owner};",
        ) from error
    except psycopg.Error as error:
        raise InvalidInput(f"'{name}' is not a table name", "write schema.table") from error
    if row is None:
        raise InvalidInput(f"there is no table {name}", suggest_tables(connection))
    oid, full_name, kind, schema, persistence = row
    if (
        schema in ("recdb", schema_of(connection), "pg_catalog", "information_schema")
        or kind not in READABLE
        or persistence == "t"
    ):
        raise InvalidInput(f"{full_name} cannot be attached", "attach a table or a view of the application")
    return Relation(full_name, READABLE[kind], read_columns(connection, oid))


def read_columns(connection: psycopg.Connection, oid: int) -> dict[str, Column]:
    """Read the columns of a relation, in their order."""
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


def select_interactions(
    connection: psycopg.Connection,
    relation: Relation,
    mapping: dict[str, str],
    known_kinds: Sequence[str],
    value: sql.Composable | None = None,
) -> sql.Composable:
    """Compose the view of a table of interactions; ids and times keep their types, so the table's indexes work."""
    user, item = (identifier(require_id(relation, mapping[key], f"--{key}")) for key in ("user", "item"))
    moment: sql.Composable = sql.SQL("null::timestamptz")
    if "at" in mapping:
        moment = identifier(require_time(relation, mapping["at"], "--at"))
    mapping["kind"], kind = read_kind(relation, mapping["kind"], known_kinds)
    condition = expression(connection, relation, mapping["where"], "--where") if "where" in mapping else None
    return sql.SQL(
        'select {user} as user_id, {item} as item_id, {kind}::text collate "default" as kind, {moment} as created_at, '
        "{value} as value from {relation} where {user} is not null and {item} is not null{condition}"
    ).format(
        user=user,
        item=item,
        kind=kind,
        moment=moment,
        value=value or sql.SQL("null::double precision"),
        relation=relation.identifier,
        condition=sql.SQL(" and {}").format(condition) if condition else sql.SQL(""),
    )


def select_items(
    connection: psycopg.Connection, relation: Relation, mapping: dict[str, str], embedding: sql.Composable | None
) -> sql.Composable:
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
        zone = sql.Literal(mapping.get("timezone", "UTC"))
        published = sql.SQL(TIMES[column.type]).format(identifier(column), zone=zone)
    available: sql.Composable = sql.SQL("true")
    if "available" in mapping:
        column_or_none = relation.column(mapping["available"])
        text_of = sql.Identifier(column_or_none.name).as_string() if column_or_none else mapping["available"]
        available = sql.SQL("coalesce({}, false)").format(expression(connection, relation, text_of, "--available"))
    return sql.SQL(
        "select {key} as item_id, {owner} as owner_id, {published} as published_at, {available} as available, "
        "{attributes} as attributes, {title} as title{embedding} from {relation} where {key} is not null"
    ).format(
        key=identifier(key),
        owner=text("owner"),
        published=published,
        available=available,
        attributes=read_attributes(relation, mapping.get("attributes")),
        title=text("title"),
        embedding=sql.SQL(", {} as embedding").format(embedding) if embedding else sql.SQL(""),
        relation=relation.identifier,
    )


def read_kind(relation: Relation, kind: str, known_kinds: Sequence[str]) -> tuple[str, sql.Composable]:
    """Tell a column from a constant; return the text to store, and the SQL.

    A constant without quotes must be a kind that has a weight, so that a misspelt column is not read as a constant.
    """
    quoted = re.fullmatch(r"'(.+)'", kind)
    column = None if quoted else relation.column(kind)
    if column:
        return column.name, sql.Identifier(column.name)
    constant = quoted[1].replace("''", "'") if quoted else kind
    if not quoted and constant not in known_kinds:
        raise InvalidInput(
            f"{kind} is neither a column of {relation.name} nor a kind that has a weight",
            f"its columns: {', '.join(relation.columns)}; a new kind is written in single quotes: '{kind}'",
        )
    return kind if quoted else f"'{kind}'", sql.Literal(constant)


def read_attributes(relation: Relation, names: str | None) -> sql.Composable:
    """Compose an item's attributes: a JSON column as it is, or an object of the named columns."""
    if names is None:
        return sql.SQL("'{}'::jsonb")
    columns = [relation.require(name.strip(), "--attributes") for name in names.split(",")]
    if len(columns) == 1 and columns[0].type in ("json", "jsonb"):
        return sql.SQL("coalesce({}::jsonb, '{{}}')").format(identifier(columns[0]))
    pairs = [part for column in columns for part in (sql.Literal(column.name), identifier(column))]
    return sql.SQL("jsonb_strip_nulls(jsonb_build_object({}))").format(sql.SQL(", ").join(pairs))


def identifier(column: Column) -> sql.Identifier:
    """Quote a column's name."""
    return sql.Identifier(column.name)


def require_id(relation: Relation, name: str, key: str) -> Column:
    """Find a column; raise InvalidInput if its type cannot hold ids."""
    column = relation.require(name, key)
    if not column.is_id:
        raise InvalidInput(
            f"{relation.name}.{column.name} ({key}) is of type {column.type}, which recdb does not read as ids",
            f"recdb reads {ID_TYPES}; for another type attach a view that casts it to text",
        )
    return column


def require_time(relation: Relation, name: str, key: str) -> Column:
    """Find a column; raise InvalidInput if its type is not a time."""
    column = relation.require(name, key)
    if column.type not in TIMES:
        raise InvalidInput(
            f"{relation.name}.{column.name} ({key}) is of type {column.type}, which is not a time",
            epoch_hint(column)
            or "recdb reads timestamptz, timestamp (as UTC) and date; for another type attach a view that casts it",
        )
    return column


def epoch_hint(column: Column) -> str | None:
    """Say how to read a number of seconds or milliseconds since 1970."""
    if column.type not in ("bigint", "integer", "numeric", "double precision"):
        return None
    name = identifier(column).as_string()
    return f"attach a view that has to_timestamp({name}) for seconds, or to_timestamp({name} / 1000.0) for milliseconds"


def require_distinct(connection: psycopg.Connection, relation: Relation, key: Column) -> None:
    """Refuse a table without a unique index on the item id, and a view that has an item twice."""
    statement = sql.SQL("create unique index concurrently on {} ({});").format(relation.identifier, identifier(key))
    if relation.kind in ("table", "materialized view"):
        raise InvalidInput(
            f"{relation.name}.{key.name} (--item-id) is not unique: recommend() could return an item twice",
            statement.as_string(connection),
        )
    query = sql.SQL("select {0}::text from {1} where {0} is not null group by {0} having count(*) > 1 limit 1")
    row = read_relation(connection, relation, query.format(identifier(key), relation.identifier)).fetchone()
    if row:
        raise InvalidInput(f"{relation.name}.{key.name} (--item-id) is not unique: {row[0]} occurs more than once")


def use_safe_part(connection: psycopg.Connection, path: str) -> None:
    """Look names in conditions up in pg_catalog and in those schemas of the user's path that no other role may write.

    In another schema somebody could have made an operator that fits the condition better, and would run as recdb's
    owner: there a condition has to name the schema.
    """
    set_path = "select pg_catalog.set_config('search_path'::pg_catalog.text, %s::pg_catalog.text, true)"
    connection.execute(set_path, [path])
    safe, _ = split_path(connection)
    names = [sql.Identifier(name).as_string(connection) for name in ("pg_catalog", *safe)]
    connection.execute(set_path, [", ".join(names)])


def expression(
    connection: psycopg.Connection, relation: Relation, text: str, key: str, *, type: str = "boolean"
) -> sql.Composable:
    """Put a condition, or an expression for numbers, in brackets and try it on its relation.

    It is tried in a place that allows no aggregate, no window function and no set of rows: these would read more than
    the one row.
    """
    # The line end closes a comment. A prepared statement cannot be more than one statement.
    condition = sql.SQL("(\n{}\n)").format(Verbatim(text))
    try:
        with connection.transaction():
            tried = sql.SQL("{}::boolean" if type == "boolean" else "{}").format(condition)
            for query in ("select {0} from {1} limit 0", "select from {1} where ({0}) is not null limit 0"):
                connection.execute(sql.SQL(query).format(tried, relation.identifier), prepare=True)
    except psycopg.errors.InsufficientPrivilege as error:
        raise not_readable(connection, relation, error) from error
    except (
        psycopg.ProgrammingError,
        psycopg.DataError,
        psycopg.NotSupportedError,
        psycopg.errors.ProtocolViolation,  # a parameter such as $1
    ) as error:
        raise InvalidInput(
            f"{key} '{text}' of {relation.name}: {error.diag.message_primary}",
            f"write an SQL {'condition' if type == 'boolean' else 'expression'} on the columns "
            f"{', '.join(relation.columns)}",
        ) from error
    return condition


def read_relation(connection: psycopg.Connection, relation: Relation, query: sql.Composed) -> psycopg.Cursor[Any]:
    """Run a query on the application's table; if recdb's owner may not read it, the error names the grant."""
    try:
        with connection.transaction():
            return connection.execute(query)
    except psycopg.errors.InsufficientPrivilege as error:
        raise not_readable(connection, relation, error) from error


def not_readable(connection: psycopg.Connection, relation: Relation, error: psycopg.Error) -> RecdbError:
    """Return the error that recdb's owner may not read a table, with the grant as its hint."""
    (owner,) = fetch_row(connection, "select quote_ident(current_user)")
    message = f"{owner}, who owns schema recdb, may not read {relation.name}: {error.diag.message_primary}"
    return RecdbError(message, f"grant {owner} select on every table that {relation.name} reads")
