"""The layout of a file of interactions: the meaning of its columns, and how its times are written."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import psycopg
from psycopg import sql

from recdb.data.files import file_name, malformed
from recdb.errors import InvalidInput

TimeForm = Literal["iso", "unix", "unix-ms"]

DELIMITERS = {"tab": "\t", "\\t": "\t"}
NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*$"
VALUE_RANGE = "from -1,000,000 to 1,000,000, and 0 or at least 1e-9 in size"
SUGGESTED = (";", "\t", "::", "|")


@dataclass(frozen=True)
class FileColumn:
    """A column of the file."""

    problem: str
    """SQL: the problem with a value, NULL for a good value."""
    value: str
    """SQL: the value to store."""
    required: bool = False


@dataclass(frozen=True)
class Layout:
    """The meaning of a file's columns; None for the column of recdb's own name, if the file has it."""

    user: str | None = None
    item: str | None = None
    kind: str | None = None
    kind_is: str | None = None
    """The kind of every row, in a file without a column for it."""
    at: str | None = None
    value: str | None = None
    """A column, or an SQL expression over the columns, whose names stand for numbers."""
    delimiter: str = ","
    header: bool | None = None
    """Whether the first line names the columns; without it, columns are given by number, the first is 1."""
    encoding: str = "utf-8"
    time: TimeForm = "iso"
    any_time: bool = False
    """Load times before 1970 and of the future too."""
    of_items: Mapping[str, str] = field(default_factory=dict)
    """The columns of a catalogue by recdb's names for them; attributes may be several columns, with commas."""

    @property
    def named(self) -> dict[str, str]:
        """The file's columns by recdb's names for them, without the value and the attributes."""
        names = {"user_id": self.user, "item_id": self.item, "kind": self.kind, "created_at": self.at}
        names |= {column: name for column, name in self.of_items.items() if column != "attributes"}
        return {column: name for column, name in names.items() if name is not None}

    @property
    def attributes(self) -> list[str]:
        """The columns that make the attributes of an item."""
        return [name.strip() for name in self.of_items.get("attributes", "").split(",") if name.strip()]

    @property
    def maps(self) -> bool:
        """Whether the file has columns of its own; those without a meaning are ignored."""
        return bool(self.named or self.value or self.kind_is or self.attributes or self.header is False)

    @property
    def separator(self) -> str:
        """The delimiter as it is in the file."""
        return DELIMITERS.get(self.delimiter.lower(), self.delimiter)

    def keys(self, cells: Sequence[str], known: Collection[str]) -> dict[str, bool]:
        """Return the columns of a file that hold ids, with True, or kinds, with False."""
        found = {}
        for column, is_id in {"user_id": True, "item_id": True, "owner_id": True, "kind": False}.items():
            place = find_column(cells, self.named.get(column, column))
            if place is not None and column in known and not (column == "kind" and self.kind_is):
                found[cells[place]] = is_id
        return found

    def wanted(self) -> list[str]:
        """Return the names that a JSON object may leave out."""
        names = [*self.named.values(), *self.attributes, *([] if self.value is None else tokens(self.value))]
        return [name for name in names if re.fullmatch(r"\w+", name) and not name[0].isdigit()]

    def check(self) -> None:
        """Raise InvalidInput for options that contradict each other."""
        if self.kind and self.kind_is:
            raise InvalidInput("--kind names a column and --kind-is the kind of every row: pass one of them")
        if self.kind_is is not None and not 1 <= len(self.kind_is) <= 100:
            raise InvalidInput("--kind-is needs a kind of 1 to 100 characters")
        if not self.separator or any(character in self.separator for character in '"\r\n\0'):
            raise InvalidInput(f"'{self.delimiter}' cannot be a delimiter", "such as , ; tab | or ::")
        numbers = [name for name in (*self.named.values(), *self.attributes) if name.isdigit()]
        if numbers and self.header is None:
            raise InvalidInput(
                f"column {numbers[0]} is given by its number, and recdb cannot tell whether the first line is a header",
                "pass --no-header if the first line is a row already, or --header if it names the columns",
            )


@dataclass(frozen=True)
class Arrangement:
    """The columns that are staged of the file, and the columns that are made of them."""

    width: int
    """How many columns the file has."""
    staged: Sequence[str]
    """The staged columns, in the order of `places`."""
    places: Sequence[int] | None
    """Where the staged columns are in a row; None if it is the whole row."""
    columns: Mapping[str, FileColumn]
    """The columns to store."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """The columns that have the same value in every row."""


def number_column(name: str) -> FileColumn:
    """Make a column of numbers that an interaction's value can be; an empty one counts as 1."""
    shown = f"left({name}, 40)"
    return FileColumn(
        f"case when {name} = '' then null when {name} !~ '{NUMBER}' then format('{name} %L is not a number', {shown}) "
        f"when {beyond(f'{name}::numeric')} then format('{name} %L is not {VALUE_RANGE}', {shown}) end",
        f"nullif({name}, '')::double precision",
    )


def embedding_column(name: str) -> FileColumn:
    """Make a column of embeddings: a JSON list, or the text of a vector."""
    array = f"'{{' || btrim({name}, E'[]{{}} \\t\\r\\n') || '}}'"
    # A cast is fast; the slow way reads numbers that are too small for it as 0.
    read = (
        f"case when recdb.is_input({array}, 'real[]') then recdb.clean_embedding(({array})::real[]) "
        f"else recdb.parse_embedding({name}) end"
    )
    return FileColumn(
        f"case when {name} <> '' and {read} is null then format('{name} %L is not a list of 1 to 4,000 numbers, one of "
        f"which is not 0', left({name}, 40)) end",
        f"case when {name} <> '' then {read} end",
    )


def beyond(number: str) -> str:
    """Return the SQL condition that a number cannot be an interaction's value."""
    return f"not ({number} between -1e6 and 1e6 and ({number} = 0 or abs({number}) >= 1e-9))"


def arrange_mapped(cells: list[str], layout: Layout, known: Mapping[str, FileColumn], path: str) -> Arrangement:
    """Find the columns that a layout names in the header of a file, and those of recdb's own names."""
    shown = ", ".join(cell[:60] for cell in cells[:20])
    found: dict[str, int] = {}
    for column, name in layout.named.items():
        found[column] = require_column(cells, name, layout, path)
    if layout.header is not False:
        folded = [cell.lower() for cell in cells]
        for column in known:
            if column not in found and column in folded and not (column == "kind" and layout.kind_is):
                found[column] = folded.index(column)
    constants = {"kind": layout.kind_is} if layout.kind_is is not None and "kind" in known else {}
    missing = [c for c, column in known.items() if column.required and c not in found and c not in constants]
    if missing:
        option = {"user_id": "--user COLUMN", "item_id": "--item COLUMN"}
        raise InvalidInput(
            f"{file_name(path)}: no column is named for {', '.join(missing)}; it has {shown}",
            "name it: " + ", ".join(option.get(column, "--kind COLUMN or --kind-is KIND") for column in missing),
        )
    columns = {column: known[column] for column in (*found, *constants)}
    if layout.value is not None:
        place = find_column(cells, layout.value)
        if place is not None:
            found["value"] = place
            columns["value"] = known["value"]
        else:
            found.pop("value", None)
            inputs = find_inputs(cells, layout.value)
            columns["value"] = expression_column(layout.value, cells, inputs)
            found |= {f"input_{place}": place for place in inputs.values()}
    if layout.attributes:
        places = {name: require_column(cells, name, layout, path) for name in layout.attributes}
        found.pop("attributes", None)
        columns["attributes"] = attributes_column({cells[place]: place for place in places.values()})
        found |= {f"input_{place}": place for place in places.values()}
    return Arrangement(len(cells), list(found), list(found.values()), columns, constants)


def require_column(cells: list[str], name: str, layout: Layout, path: str) -> int:
    """Return the place of a column that a layout names; raise InvalidInput if there is none, or more than one."""
    place = find_column(cells, name)
    if place is None:
        hint = "recdb takes it as the first line names it"
        if layout.header is None and any(re.fullmatch(NUMBER, cell) for cell in cells):
            hint = "if the first line is a row already: --no-header, and the columns by number, as in --user 1"
        shown = ", ".join(cell[:60] for cell in cells[:20])
        raise InvalidInput(f"{file_name(path)} has no column {name}: it has {shown}", hint)
    if cells.count(cells[place]) > 1 and not name.isdigit():
        raise InvalidInput(
            f"{file_name(path)} has several columns {cells[place]}",
            "give the column by its number, as in --user 1, with --header",
        )
    return place


def find_column(cells: Sequence[str], name: str) -> int | None:
    """Return the place of a column: by its exact name, by its name in any case, or by its number."""
    folded = [cell.lower() for cell in cells]
    if name in cells:
        return cells.index(name)
    if name.lower() in folded:
        return folded.index(name.lower())
    if name.isdigit() and 1 <= int(name) <= len(cells):
        return int(name) - 1
    return None


def tokens(expression: str) -> list[str]:
    """Return the names in an SQL expression, without the text in single quotes."""
    bare = re.sub(r"'[^']*'", " ", expression)
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|([^\W\d]\w*)', bare)]


def find_inputs(cells: Sequence[str], expression: str) -> dict[str, int]:
    """Return the columns that an expression names, as SQL reads the name; a file without header has c1, c2, ..."""
    inputs: dict[str, int] = {}
    folded = [cell.lower() for cell in cells]
    for token in tokens(expression):
        if token in cells:
            place = cells.index(token)
        elif token.lower() in folded:
            place = folded.index(token.lower())
        elif re.fullmatch(r"[cC][1-9]\d*", token) and int(token[1:]) <= len(cells):
            place = int(token[1:]) - 1
        else:
            continue
        inputs[token if f'"{token}"' in expression else token.lower()] = place
    return inputs


def expression_column(expression: str, cells: Sequence[str], inputs: Mapping[str, int]) -> FileColumn:
    """Make the column of values that an SQL expression computes from columns of numbers."""
    if not inputs:
        raise InvalidInput(
            f"--value '{expression}' names no column of the file",
            f"its columns: {', '.join(cells[:20])}; without a header they are c1, c2, ...",
        )
    problems = [
        f"case when input_{place} <> '' and input_{place} !~ '{NUMBER}' then "
        f"format('%s %L is not a number', {as_literal(cells[place])}, left(input_{place}, 40)) end"
        for place in inputs.values()
    ]
    numbers = ", ".join(
        f"nullif(input_{place}, '')::numeric as {as_identifier(name)}" for name, place in inputs.items()
    )
    # The line end closes a comment.
    value = f"(select (\n{expression}\n)::numeric from (select {numbers}) c)"
    wrong = f"case when {beyond('v')} then format('value %s is not {VALUE_RANGE}', v) end"
    wrong = f"(select {wrong} from (select {value}) r(v))"
    return FileColumn(f"coalesce({', '.join([*problems, wrong])})", f"{value}::double precision")


def attributes_column(places: Mapping[str, int]) -> FileColumn:
    """Make the attributes of an item of columns: one with JSON objects as they are, else an object of the columns.

    A cell with a JSON list or object is read as such, any other as text; an empty cell gives no attribute.
    """

    def read(name: str) -> str:
        json = f"{name} ~ '^\\s*[\\[{{]' and recdb.is_input({name}, 'jsonb')"
        return f"case when {name} = '' then null when {json} then {name}::jsonb else to_jsonb({name}) end"

    pairs = ", ".join(f"{as_literal(cell)}, {read(f'input_{place}')}" for cell, place in places.items())
    value = f"jsonb_strip_nulls(jsonb_build_object({pairs}))"
    if len(places) == 1:
        name = f"input_{next(iter(places.values()))}"
        value = f"case when jsonb_typeof({read(name)}) = 'object' then {name}::jsonb else {value} end"
    return FileColumn("null::text", value)


def try_expression(connection: psycopg.Connection, expression: str, column: FileColumn) -> None:
    """Raise InvalidInput if the expression for the value is none, before any row is read."""
    try:
        with connection.transaction():
            # A prepared statement cannot be more than one statement.
            connection.execute(sql.SQL("select {} from staged limit 0").format(sql.SQL(column.value)), prepare=True)
    except psycopg.Error as error:
        raise InvalidInput(
            f"--value '{expression}': {error.diag.message_primary}", "write an SQL expression on columns of numbers"
        ) from error


def as_literal(text: str) -> str:
    """Write a text as an SQL literal."""
    return sql.Literal(text).as_string()


def as_identifier(name: str) -> str:
    """Write a name as an SQL identifier."""
    return sql.Identifier(name).as_string()


def suggest_delimiter(cells: Sequence[str]) -> str:
    """Return a hint for a header of one cell that holds another delimiter; an empty text if it does not."""
    if len(cells) == 1:
        for delimiter in SUGGESTED:
            if delimiter in cells[0]:
                return f"; this one may need --delimiter {'tab' if delimiter == chr(9) else repr(delimiter)}"
    return ""


def require_readable(cells: list[str], path: str, encoding: str, hint: str) -> None:
    """Raise InvalidInput for a first line that is not text."""
    if malformed(cells, len(cells)):
        raise InvalidInput(
            f"{file_name(path)} is not a CSV file in {encoding.upper()}",
            f"{hint}; for another encoding: --encoding utf-16, or its name",
        )
