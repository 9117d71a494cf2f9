"""An attached table as the checks of a mapping see it: its columns, its mapping, and some of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg
from psycopg import sql

from recdb.data.naming import find_mark, find_shown, find_state, snake
from recdb.data.samples import Sample, take_sample
from recdb.data.sources import Relation, Role, find_relation

MOST_COLUMNS = 40


class Named(Protocol):
    """An attached table by its name."""

    @property
    def role(self) -> Role:
        """`interactions`, `items` or `impressions`."""

    @property
    def relation(self) -> str:
        """The table's full name."""

    @property
    def mapping(self) -> Mapping[str, str]:
        """The meaning of its columns."""


@dataclass(frozen=True)
class Mapped:
    """An attached table with its mapping, and some rows that its condition keeps; None where no rows could be read."""

    role: Role
    relation: Relation
    mapping: Mapping[str, str]
    sample: Sample | None

    def column(self, key: str) -> str:
        """Return the exact name of the column that is mapped to a key, or an empty string."""
        found = self.relation.column(self.mapping.get(key, ""))
        return found.name if found else ""

    def has_array(self, key: str) -> bool:
        """Tell whether the column that is mapped to a key is an array."""
        column = self.column(key)
        return bool(column) and self.relation.columns[column].type.endswith("[]")

    def values(self, key: str) -> list[str]:
        """Return the sampled values of a mapped column without NULLs."""
        return self.sample.values(self.column(key)) if self.sample else []


def look(connection: psycopg.Connection, named: Named) -> Mapped:
    """Read some rows of an attached table, with the columns that may matter."""
    role, mapping = named.role, named.mapping
    relation = find_relation(connection, named.relation)
    columns = [column.name for column in relation.columns.values() if column.is_id or column.labels]
    marks = {column.name: column.type for column in relation.columns.values()}
    wanted = [relation.column(value) for key, value in mapping.items() if key != "embedding"]  # each may be 20 kB
    first = [column.name for column in wanted if column]
    found = [name for name in (*(find_mark(marks) or ())[:1], find_shown(marks), find_state(marks)) if name]
    every = list(dict.fromkeys([*first, *found, *columns]))[:MOST_COLUMNS]
    return Mapped(role, relation, mapping, take_sample(connection, relation, every, mapping.get("where")))


def read_again(connection: psycopg.Connection, new: Mapped, columns: Sequence[str]) -> Sample | None:
    """Read the sample's columns that were not among the first ones."""
    if new.sample and set(columns) <= set(new.sample.columns):
        return new.sample
    return take_sample(connection, new.relation, columns, new.mapping.get("where"))


def option(new: Mapped, key: str) -> str:
    """Name the option of the command line for a key of a mapping."""
    return "item-id" if new.role == "items" and key == "item" else key


def joined(new: Mapped, key: str, condition: str) -> str:
    """Add a condition to the one that the mapping has."""
    return f"({new.mapping[key]}) and {condition}" if new.mapping.get(key) else condition


def literal(value: str) -> str:
    """Write a text as SQL does."""
    return "'" + value.replace("'", "''") + "'"


def quoted(column: str) -> str:
    """Write a column's name as SQL needs it."""
    return column if snake(column) == column else sql.Identifier(column).as_string()


def usage(key: str, condition: str) -> str:
    """Write an option with a condition for a shell."""
    return (
        f"use --{key} '{condition}'"
        if '"' in condition and "'" not in condition
        else ('use --{} "{}"'.format(key, condition.replace('"', '\\"')))
    )
