"""An application's table of impressions as a source: a row for each item that a page showed, or for each page."""

import re

import psycopg
from psycopg import sql

from recdb.data.remarks import Remark
from recdb.data.sources import (
    Column,
    Relation,
    constant_kind,
    expression,
    identifier,
    read_relation,
    require_id,
    require_time,
)
from recdb.database import fetch_row
from recdb.errors import InvalidInput
from recdb.schemas import Verbatim

ARRAY = "[]"
ID_ARRAYS = tuple(f"{kind}{ARRAY}" for kind in ("text", "character varying", "uuid", "bigint", "integer", "smallint"))
WHOLE = ("smallint", "integer", "bigint")
NUMBERS = (*WHOLE, "real", "double precision", "numeric")
ROWS_READ = 100_000


def select_impressions(connection: psycopg.Connection, relation: Relation, mapping: dict[str, str]) -> sql.Composable:
    """Compose the view of a table of impressions; ids and times keep their types, so the table's indexes work.

    An array of items becomes a row for each of them. The mapping gets the exact name, or the constant, of the scenario.
    """
    item = relation.require(mapping["item"], "--item")
    is_page = item.type in ID_ARRAYS
    if not is_page:
        require_id(relation, mapping["item"], "--item")
    if "propensity" in mapping and "place" not in mapping and not is_page:
        raise InvalidInput(
            f"{relation.name}: --propensity is the probability of an item at its place, and no place is named",
            "name the column of the place: --place",
        )
    condition = expression(connection, relation, mapping["where"], "--where") if "where" in mapping else None
    rows = sql.SQL(
        "select {user} as user_id, {item} as items, {moment} as shown_at, {scenario} as scenario, {place} as place, "
        "{version} as model_version, {variant} as variant, {propensity} as propensity from {relation}{condition}"
    ).format(
        user=identifier(require_id(relation, mapping["user"], "--user")),
        item=identifier(item),
        moment=identifier(require_time(relation, mapping["at"], "--at")),
        scenario=read_scenario(relation, mapping),
        place=read_number(relation, mapping, "place", is_page=is_page),
        version=read_text(relation, mapping, "model-version"),
        variant=read_text(relation, mapping, "variant"),
        propensity=read_number(relation, mapping, "propensity", is_page=is_page),
        relation=relation.identifier,
        condition=sql.SQL(" where {}").format(condition) if condition else sql.SQL(""),
    )
    if is_page:
        source = sql.SQL("({}) r cross join lateral unnest(r.items) with ordinality i(item_id, number)").format(rows)
        shown, place = sql.SQL("i.item_id"), sql.SQL("i.number")
        if "place" in mapping:
            place = sql.SQL("coalesce(r.place[i.number::integer]::bigint, i.number)")
    else:
        source, shown, place = sql.SQL("({}) r").format(rows), sql.SQL("r.items"), sql.SQL("r.place::bigint")
    return sql.SQL(
        "select r.user_id, {shown} as item_id, r.shown_at, r.scenario, {place} as place, r.model_version, r.variant, "
        "{propensity} as propensity from {source}"
    ).format(shown=shown, place=place, propensity=bound_propensity(relation, mapping), source=source)


def read_scenario(relation: Relation, mapping: dict[str, str]) -> sql.Composable:
    """Compose the scenario from a column, or from a constant in single quotes."""
    named = mapping.get("scenario")
    if named is None:
        return sql.SQL("null::text")
    constant = re.fullmatch(r"'(.*)'", named, re.DOTALL)
    if constant is None:
        column = relation.column(named)
        if column is None:
            raise InvalidInput(
                f"{relation.name} has no column {named} (--scenario)",
                f"its columns: {', '.join(relation.columns)}; for one scenario of all rows: --scenario-is {named}",
            )
        mapping["scenario"] = column.name
        return column_text(column)
    text = constant[1].replace("''", "'")
    if not 1 <= len(text) <= 100:
        raise InvalidInput("--scenario-is: a scenario has 1 to 100 characters")
    mapping["scenario"] = constant_kind(text)
    return sql.SQL("{}::text").format(sql.Literal(text))


def read_text(relation: Relation, mapping: dict[str, str], key: str) -> sql.Composable:
    """Compose a text from the column of a key; NULL if none is named."""
    return column_text(relation.require(mapping[key], f"--{key}")) if key in mapping else sql.SQL("null::text")


def column_text(column: Column) -> sql.Composable:
    """Compose a column as text, whatever its type."""
    return sql.SQL('{}::text collate "default"').format(identifier(column))


def read_number(relation: Relation, mapping: dict[str, str], key: str, *, is_page: bool) -> sql.Composable:
    """Check the type of the column of a place or a propensity: a number, or an array of them beside one of items."""
    if key not in mapping:
        return sql.SQL("null::bigint")
    column = relation.require(mapping[key], f"--{key}")
    types, word = (WHOLE, "whole number") if key == "place" else (NUMBERS, "number")
    allowed = [f"{kind}{ARRAY}" for kind in types] if is_page else list(types)
    if is_page and key == "propensity":
        allowed += types
    if column.type not in allowed:
        expected = f"an array of {word}s, as --item is an array" if is_page else f"a {word}"
        raise InvalidInput(
            f"{relation.name}.{column.name} (--{key}) is of type {column.type}, which is not {expected}",
            "for another type attach a view that casts it",
        )
    return identifier(column)


def bound_propensity(relation: Relation, mapping: dict[str, str]) -> sql.Composable:
    """Compose the propensity of an item, so that no number is out of the range of double precision."""
    if "propensity" not in mapping:
        return sql.SQL("null::double precision")
    column = relation.require(mapping["propensity"], "--propensity")
    number = sql.SQL("r.propensity[i.number::integer]" if column.type.endswith(ARRAY) else "r.propensity")
    if column.type.removesuffix(ARRAY) == "numeric":
        return sql.SQL(
            "case when {0} is not null then least(greatest(round({0}, 40), -1), 2)::double precision end"
        ).format(number)
    return sql.SQL("{}::double precision").format(number)


def inspect_pages(connection: psycopg.Connection, number: int, relation: Relation) -> list[Remark]:
    """Name the rows that are no impressions, among the first ones of a table that is about to be attached."""
    (query,) = fetch_row(
        connection,
        "select recdb.impressions_query(a) from recdb.attachment a where a.attachment_id = %s",
        [number],
    )
    doubts = read_relation(
        connection,
        relation,
        sql.SQL(
            "select d.doubt, count(*) from (select q.* from ({}) q limit {}) q cross join lateral "
            "recdb.impression_doubt(q.user_id, q.item_id, q.scenario, q.place, q.shown_at, q.propensity) d(doubt) "
            "where d.doubt is not null group by d.doubt order by d.doubt"
        ).format(Verbatim(query), ROWS_READ),
    )
    return [
        Remark(f"{relation.name} has {count_rows(count, doubt)}: not read as impressions") for doubt, count in doubts
    ]


def count_rows(count: int, doubt: str) -> str:
    """Write how many rows are no impressions, and why."""
    return f"{count:,} row{'' if count == 1 else 's'} {doubt}"


def describe_left_out(relation: str, left_out: str | None) -> list[Remark]:
    """Say which rows of a table of impressions the last refresh did not copy."""
    return [Remark(f"{relation} as impressions: the last refresh left out {left_out}")] if left_out else []
