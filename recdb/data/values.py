"""The value of an interaction in an attached table: a column of numbers, or an SQL expression."""

import psycopg
from psycopg import sql

from recdb.data.sources import Column, Relation, expression
from recdb.database import fetch_row
from recdb.errors import InvalidInput


def read_value(connection: psycopg.Connection, relation: Relation, text: str) -> sql.Composed:
    """Compose the column `value` from a column or an SQL expression of a type of numbers.

    No row can stop a job: NULL, NaN and infinity count as 1, and a value beyond a million counts as a million.
    """
    column = relation.column(text)
    number = expression(connection, relation, as_sql(column) if column else text, "--value", type="numbers")
    finite = "coalesce(nullif(nullif(nullif({0}::{1}, 'NaN'::{1}), 'Infinity'::{1}), '-Infinity'::{1}), 1::{1})"
    bounded = f"least(greatest({finite}, -1000000::{{1}}), 1000000::{{1}})"
    kind = value_type(connection, relation, number)
    if kind == "numeric":
        shape = f"round({bounded}, 12)::double precision"
    elif kind in ("real", "double precision"):
        shape = f"round({bounded} * 1000000000000::{{1}}) / 1000000000000::{{1}}"
    elif kind in ("smallint", "integer", "bigint"):
        shape = bounded
    else:
        raise InvalidInput(
            f"--value '{text}' of {relation.name} is of type {kind}, which is not a number",
            "cast it, or compute a number: extract(epoch from watched) / 3600, stars::numeric - 2.5",
        )
    type_name = sql.SQL("numeric" if kind == "numeric" else "double precision")
    return sql.SQL(shape).format(number, type_name)


def value_type(connection: psycopg.Connection, relation: Relation, number: sql.Composable) -> str:
    """Return the type of an expression, for a domain its base type."""
    cursor = connection.execute(sql.SQL("select {} from {} limit 0").format(number, relation.identifier))
    codes = [column.type_code for column in cursor.description or ()]
    (name,) = fetch_row(connection, "select %s::oid::regtype::text", codes)
    return str(name)


def as_sql(column: Column) -> str:
    """Write the name of a column as SQL."""
    return sql.Identifier(column.name).as_string()
