"""Files of rows: opening them in their encoding, and reading them row by row with line numbers."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from recdb.data.packed import BEGINNING, DAMAGED, unpack
from recdb.errors import InvalidInput

STDIN = "-"
LONGEST_LINE = 1 << 24
LONGEST_NUMBER = 1000
QUOTED = (",", ";", "|")
"""The delimiters beside which double quotes enclose a cell; with others they are text."""

# Python decodes bytes that are not UTF-8 as lone surrogates (errors="surrogateescape").
SURROGATE = re.compile("[\ud800-\udfff]")


def file_name(path: str) -> str:
    """Name a file in a message."""
    return "standard input" if path == STDIN else path


class Hashed(io.BufferedIOBase):
    """A stream of bytes that hashes the bytes that are read from it."""

    def __init__(self, plain: Any) -> None:
        self.plain: Any = plain
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """Read some bytes."""
        data: bytes = self.plain.read1(size)
        self.hash.update(data)
        return data

    def read(self, size: int | None = -1, /) -> bytes:
        """Read all bytes up to a number, or to the end."""
        data: bytes = self.plain.read(size)
        self.hash.update(data)
        return data


class Opened:
    """An open file as text."""

    def __init__(self, stream: TextIO, raw: BinaryIO, hashed: Hashed) -> None:
        self.stream = stream
        self._raw = raw
        self._hashed = hashed
        self._size = os.fstat(raw.fileno()).st_size

    def position(self) -> str:
        """Tell how much of the file has been read, to follow other text."""
        return f", {self._raw.tell() / self._size:.0%}" if self._size else ""

    def digest(self) -> bytes:
        """Return the SHA-256 hash of the content that has been read, unpacked."""
        return self._hashed.hash.digest()


@contextmanager
def open_text(path: str, encoding: str = "utf-8") -> Iterator[Opened]:
    """Open a file, plain or packed, as text in an encoding; '-' is standard input."""
    codec = find_encoding(encoding)
    try:
        raw = os.fdopen(sys.stdin.fileno(), "rb", closefd=False) if path == STDIN else Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    with raw:
        try:
            hashed = Hashed(unpack(raw, raw.peek(BEGINNING)[:BEGINNING], file_name(path)))
        except DAMAGED as error:
            raise InvalidInput(f"{file_name(path)} is a damaged archive: {error}") from error
        errors = "surrogateescape" if codec == "utf-8-sig" else "strict"
        stream = io.TextIOWrapper(cast(BinaryIO, hashed), encoding=codec, errors=errors, newline="")
        try:
            yield Opened(stream, raw, hashed)
        except DAMAGED as error:
            kind = "gzip file" if isinstance(hashed.plain, gzip.GzipFile) else "packed file"
            raise InvalidInput(f"{file_name(path)} is a damaged {kind}: {error}") from error
        except UnicodeError as error:
            raise InvalidInput(
                f"{file_name(path)} is not in the encoding {encoding}: {error}", "name its encoding: --encoding NAME"
            ) from error
        except OSError as error:
            raise InvalidInput(f"cannot read {file_name(path)}: {error.strerror or error}") from error


def find_encoding(name: str) -> str:
    """Return the codec of an encoding; a byte order mark may begin UTF-8. Raises InvalidInput for an unknown name."""
    try:
        codec = codecs.lookup(name).name
        "".encode(codec)  # some codecs are for bytes, such as zip
    except (LookupError, ValueError) as error:
        raise InvalidInput(f"there is no encoding '{name}'", "such as utf-8, utf-16, latin-1 or cp1252") from error
    return "utf-8-sig" if codec in ("utf-8", "ascii") else codec


class Lines:
    """The numbered lines of a text; after a bad row, its lines but the first can be read again.

    A quote that is never closed makes a row of all lines after it. Reading these again limits the damage to one line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self.number = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._stream.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_LINE:
            raise InvalidInput(f"line {self.number} has more than {LONGEST_LINE:,} characters: this is not a CSV file")
        self._row.append(line)
        return line

    def peek(self) -> str:
        """Return the next line without reading it; an empty text at the end."""
        if not self._again:
            line = self._stream.readline(LONGEST_LINE)
            if not line:
                return ""
            self._again.append(line)
        return self._again[0]

    def start_row(self) -> int:
        """Start a row at the next line; return the number of this line."""
        self._row.clear()
        return self.number + 1

    def reread(self) -> None:
        """Read the lines of this row again, except the first."""
        self._again.extendleft(reversed(self._row[1:]))
        self.number -= len(self._row) - 1


class NotJSON(csv.Error):
    """A line that is no JSON object, or one with a value that cannot be meant."""


class JsonNumber(str):
    """A number of a JSON object that has a point or an exponent, as it is written there."""

    def as_id(self) -> str:
        """Write it as recdb writes a number that is an id: 42 for 42.0."""
        number = Decimal(self)
        if number == 0:
            return "0"
        if abs(number.adjusted()) > LONGEST_NUMBER:
            return self
        digits = format(number, "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits


class JsonRows:
    """The rows of a file with a JSON object in each line; the first object names the columns."""

    def __init__(self, lines: Lines, wanted: Sequence[str]) -> None:
        self._lines = lines
        first = self._read(lines.peek())
        self.header = list(dict.fromkeys([*first, *wanted]))
        self.keys: Mapping[str, bool] = {}
        """The columns of ids, with True, and of kinds, with False."""

    def __iter__(self) -> "JsonRows":
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        if not line.strip():
            return []
        found = self._read(line)
        for name, is_id in self.keys.items():
            found[name] = _as_key(name, found.get(name), is_id)
        return [_as_text(found.get(name)) for name in self.header]

    @staticmethod
    def _read(line: str) -> dict[str, Any]:
        try:
            found = json.loads(line, parse_int=str, parse_float=JsonNumber)
        except ValueError as error:
            raise NotJSON("not a JSON object") from error
        if not isinstance(found, dict):
            raise NotJSON("not a JSON object")
        if any(isinstance(value, (list, dict)) for value in found.values()):
            # A number of its own keeps its digits; one inside a list or an object stays a number.
            found = {n: v if isinstance(v, (list, dict)) else found[n] for n, v in json.loads(line).items()}
        return found


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_key(name: str, value: Any, is_id: bool) -> Any:
    if isinstance(value, JsonNumber):
        return value.as_id()
    if isinstance(value, (list, dict, float)) or (is_id and isinstance(value, bool)):
        shown = json.dumps(value, ensure_ascii=False)[:40]
        raise NotJSON(f"{name[:40]} is {shown}, which is no {'id' if is_id else 'kind'}")
    return value


def is_json(line: str) -> bool:
    """Tell whether a file with this first line has a JSON object in each line."""
    return line.lstrip("\ufeff \t").startswith("{")


def read_rows(lines: Lines, delimiter: str) -> Iterator[list[str]]:
    """Read the rows of a file with delimiters: CSV with double quotes, or, with a tab or several characters, split."""
    if delimiter in QUOTED:
        return csv.reader(lines, delimiter=delimiter, strict=True)
    return (line.split(delimiter) if line else [] for line in (line.rstrip("\r\n") for line in lines))


def malformed(row: list[str], width: int) -> str | None:
    """Return why a row cannot be stored as text in `width` columns, None if it can."""
    if len(row) != width:
        return f"{len(row)} {'column' if len(row) == 1 else 'columns'} instead of {width}"
    text = "".join(row)
    if "\0" in text:
        return "a NUL byte"
    if not text.isascii() and SURROGATE.search(text):
        return "not UTF-8; for another encoding: --encoding latin-1, or its name"
    return None
