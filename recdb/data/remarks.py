"""A look at the rows of a table that is about to be attached: a sample to show, and the kinds that have no weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from recdb.data.kinds import read_stars, sounds_low
from recdb.data.sources import Column, Relation, read_relation
from recdb.errors import InvalidInput
from recdb.schemas import schema_of

SAMPLE = 3
KINDS_READ = 1_000_000
WEIGHT_RULE = "a dislike needs a negative weight"
OPTIONAL = ("value", "scenario", "place", "variant", "propensity", "model_version")


@dataclass(frozen=True)
class Remark:
    """A warning, and the statement that fixes it; a grave one means that the mapping is of no use."""

    message: str
    fix: str | None = None
    grave: bool = False


def inspect_kinds(connection: psycopg.Connection, view: sql.Composable, relation: Relation, kind: str) -> list[Remark]:
    """Warn of kinds without a weight: among an enum's labels, or else among the first million rows."""
    column = relation.column(kind)
    if column and column.labels:
        found: list[str] = list(column.labels)
    elif column is None:
        query = sql.SQL("select s.kind from {} s limit 1")
        found = [row[0] for row in read_relation(connection, relation, query.format(view))]
    else:
        query = sql.SQL("select distinct s.kind from (select kind from {} limit {}) s where s.kind is not null")
        found = [row[0] for row in read_relation(connection, relation, query.format(view, KINDS_READ))]
    unknown = connection.execute(
        """
        select u.kind, k.weight, c.default_weight
        from unnest(%s::text[]) u(kind)
        cross join recdb.config c
        left join recdb.interaction_kind k on k.kind = lower(u.kind)
        where not exists (select from recdb.interaction_kind e where e.kind = u.kind)
        order by u.kind
        """,
        [found],
    ).fetchall()
    if not unknown:
        return []
    default = f"{unknown[0][2]:g}"
    stars = read_stars([kind for kind, *_ in unknown])
    if stars and column:
        return [ask_for_values(relation, column, stars, default)]
    # recdb cannot know whether a kind is a sign of interest, so it suggests no weight: '…' makes the statement fail.
    low = [name for name, weight, _ in unknown if weight is None and sounds_low(name)]
    weights = (
        sql.SQL("-…" if name in low else "…") if weight is None else sql.Literal(weight) for name, weight, _ in unknown
    )
    values = sql.SQL(", ").join(map(sql.SQL("({}, {})").format, (kind for kind, *_ in unknown), weights))
    statement = sql.SQL("insert into recdb.interaction_kind (kind, weight) values {};").format(values)
    kinds = ", ".join(kind for kind, *_ in unknown)
    message = f"{relation.name} has kinds without a weight, so they weigh {default}: {kinds} ({WEIGHT_RULE})"
    remarks = [Remark(message, statement.as_string(connection))]
    if low:
        names = ", ".join(low)
        sound = "sounds like a dislike, and counts" if len(low) == 1 else "sound like dislikes, and count"
        remarks.append(Remark(f"{names} {sound} {default} in favour of the item until it has a weight of its own"))
    return remarks


def ask_for_values(relation: Relation, column: Column, stars: Sequence[float], default: str) -> Remark:
    """Return the warning that a column of kinds holds numbers, which are values if they are stars."""
    name = sql.Identifier(column.name).as_string()
    number = name
    if column.type in ("text", "character varying", "character") or column.labels:
        number = f"substring({name}::text from '[0-9.]+')::numeric"
    middle = (stars[0] + stars[-1]) / 2 - (stars[-1] - stars[0]) / 8
    shown = ", ".join(f"{star:g}" for star in stars[:10])
    return Remark(
        f"{relation.name}.{column.name} holds numbers as kinds ({shown}), and each of them weighs {default}: a low one "
        "counts in favour of the item too. If they are stars, read them as values; if they are codes of kinds, give "
        "each a weight in recdb.interaction_kind",
        f"""recdb attach ... --kind "'rating'" --value '{number} - {middle:g}'""".replace("'[0-9.]+'", "$$[0-9.]+$$"),
    )


def inspect_values(connection: psycopg.Connection, view: sql.Composable, relation: Relation, text: str) -> list[Remark]:
    """Compute the values of the first million rows: an expression that fails is refused, and an odd one is named."""
    query = sql.SQL(
        "select count(*), min(s.value), max(s.value), count(*) filter (where s.value = 0) "
        "from (select value from {} limit {}) s"
    ).format(view, KINDS_READ)
    try:
        rows, least, most, zeros = fetch_row_of(read_relation(connection, relation, query))
    except psycopg.DataError as error:
        raise InvalidInput(
            f"--value '{text}' of {relation.name}: {error.diag.message_primary}", "such as: hours / nullif(visits, 0)"
        ) from error
    if not rows:
        return []
    if most <= 0:
        return [Remark(f"no value of {relation.name} is above 0 ({least:g} to {most:g}): all its rows are dislikes")]
    if zeros * 2 > rows:
        return [Remark(f"{zeros:,} of {rows:,} values of {relation.name} are 0, and these rows have no weight")]
    return []


def fetch_row_of(cursor: psycopg.Cursor[Any]) -> Any:
    """Return the one row of a result."""
    row = cursor.fetchone()
    assert row is not None
    return row


def sample_query(connection: psycopg.Connection, number: int, view: sql.Composable, zone: str = "UTC") -> sql.Composed:
    """Compose the query for some rows of an attached view as text; times in UTC, as recdb reads them.

    PostgreSQL writes the times: Python can hold neither infinity nor the years before 1 and after 9999.
    """
    columns = connection.execute(
        "select a.attname, recdb.column_type(a.attrelid, a.attname)::text from pg_attribute a "
        "where a.attrelid = %s::regclass and a.attnum > 0 order by a.attnum",
        [f"{schema_of(connection)}.attached_{number}"],
    ).fetchall()
    texts = {
        "timestamp with time zone": "({} at time zone 'UTC')::text",
        "timestamp without time zone": "({} at time zone {zone} at time zone 'UTC')::text",
    }
    zoned = "case when isfinite({0}) then regexp_replace({1}, '( BC)?$', '+00:00\\1') else {1} end as {0}"
    selected = []
    for name, kind in columns:
        column = sql.Identifier(name)
        if kind in texts:
            selected.append(sql.SQL(zoned).format(column, sql.SQL(texts[kind]).format(column, zone=sql.Literal(zone))))
        else:
            shown = "left({0}::text, 60) as {0}" if name == "embedding" else "{0}::text as {0}"
            selected.append(sql.SQL(shown).format(column))
    return sql.SQL("select {} from {} limit {}").format(sql.SQL(", ").join(selected), view, SAMPLE)


def shown_columns(names: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    """Choose the columns of a sample to show: no optional one whose key is not mapped."""
    return [name for name in names if name not in OPTIONAL or name.replace("_", "-") in mapping]
