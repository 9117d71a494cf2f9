"""Files that hold one JSON array of objects: each object is read by itself, and has the number of its first line."""

import json
import re
from typing import TextIO

from recdb.data.files import LONGEST_LINE, Lines, file_name
from recdb.errors import InvalidInput

CHUNK = 1 << 16
ONE_A_LINE = "recdb load reads a JSON object in each line, or one array of objects: jq -c '.[]' FILE writes such lines"
BETWEEN = re.compile(r"[ \t\r\n,]*")


def read_lines(stream: TextIO, path: str) -> Lines:
    """Return the lines of a file; of a file with a JSON array, its objects."""
    lines = Lines(stream)
    if lines.peek().lstrip("\ufeff \t\r\n").startswith("["):
        return Elements(stream, lines.peek(), path)
    return lines


class Elements(Lines):
    """The elements of a JSON array, in the place of lines; `number` is the line in which the last one begins."""

    def __init__(self, stream: TextIO, begun: str, path: str) -> None:
        super().__init__(stream)
        self._path = path
        self._text = begun
        self._place = begun.index("[") + 1
        self._line = 1
        self._next: tuple[int, str] | None = None
        self._decoder = json.JSONDecoder()

    def __next__(self) -> str:
        found = self._next or self._find()
        self._next = None
        if found is None:
            raise StopIteration
        self.number = found[0]
        return found[1]

    def peek(self) -> str:
        """Return the next element without reading it; an empty text at the end."""
        self._next = self._next or self._find()
        return self._next[1] if self._next else ""

    def start_row(self) -> int:
        """Return the number of the line in which the next element begins."""
        self.peek()
        return self._next[0] if self._next else self._line

    def reread(self) -> None:
        """Go on with the next element: a bad one is read as a whole."""

    def _find(self) -> tuple[int, str] | None:
        while True:
            start = self._skip()
            if self._text.startswith("]", start):
                return None
            try:
                _, end = self._decoder.raw_decode(self._text, start)
                break
            except ValueError as error:
                self._read_more(error)
        line = self._line
        self._line += self._text.count("\n", start, end)
        self._place = end
        return line, self._text[start:end]

    def _skip(self) -> int:
        found = BETWEEN.match(self._text, self._place)
        assert found is not None
        self._line += self._text.count("\n", self._place, found.end())
        self._place = found.end()
        return self._place

    def _read_more(self, error: ValueError) -> None:
        left = self._text[self._place :]
        more = self._stream.read(max(CHUNK, len(left))) if len(left) < LONGEST_LINE else ""
        if not more:
            reason = f"line {self._line} begins an element that is not JSON" if left else "it has no end"
            raise InvalidInput(f"{file_name(self._path)} is not a JSON array: {reason}", ONE_A_LINE) from error
        self._text, self._place = left + more, 0
