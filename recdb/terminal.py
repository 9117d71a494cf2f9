"""Printing for the command line: tables, and progress as a spinner on a terminal or as lines elsewhere.

Ids, titles, kinds and messages come from whoever may write interactions. A terminal would execute escape sequences in
them, so everything that is printed goes through visible().
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from recdb.schemas import DEFAULT_SCHEMA, in_schema

# A file or a pipe has no width: tables that go there have all columns and are never folded, unless COLUMNS is set.
UNBOUNDED = 10_000

# Control characters but line feed and tab, those of the upper half too, and the marks that reverse a text's direction.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Replace the characters that a terminal would act on by their escapes, such as \\x1b."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Console(Console):
    """A console that prints texts from anywhere; the styles that a terminal shows come from recdb alone."""

    schema = DEFAULT_SCHEMA

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts and tables, and nothing that a terminal acts on in a text.

        Statements and commands in a text are for the recommender that the command works on.
        """
        super().print(
            *(visible(in_schema(one, self.schema)) if isinstance(one, str) else one for one in objects), **options
        )

    def print_json(self, json: str | None = None, **options: Any) -> None:
        """Print JSON; where it holds a character that a terminal acts on, escape all that is not ASCII."""
        escaped = re.search(r"\\u00[89]|\\u20|\\u007f|\\ud", json or "") is not None
        escaped = escaped or "utf" not in (getattr(self.file, "encoding", None) or "utf-8").lower()
        super().print_json(json, ensure_ascii=escaped, **options)


def width_of(stream: Any) -> int | None:
    """Return the width of the text on a stream: the terminal's own for None, COLUMNS for a file or a pipe."""
    if stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() and int(given) else UNBOUNDED


output = _Console(highlight=False, soft_wrap=True, width=width_of(sys.stdout))
errors = _Console(stderr=True, highlight=False, soft_wrap=True, width=width_of(sys.stderr))


def speak_of(schema: str) -> None:
    """Let every later message name this schema."""
    output.schema = errors.schema = schema


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that reports a step: as a spinner's text on a terminal, as a line with the time elsewhere."""
    if errors.is_terminal:
        with errors.status(title) as status:
            yield lambda step: status.update(escape(visible(f"{title}: {step}")))
        return
    last = ""

    def line(step: str) -> None:
        nonlocal last
        stage = step.split(",", maxsplit=1)[0]
        if stage != last:
            errors.print(f"{datetime.now():%H:%M:%S} {title}: {stage}")
            last = stage

    yield line


class _Table(Table):
    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row; text is printed as it is, because brackets in an id or a title are not markup."""
        plain = [Text(cell_text(cell)) if isinstance(cell, str) else cell for cell in cells]
        for cell in plain:
            if isinstance(cell, Text) and CONTROLS.search(cell.plain):
                cell.plain = visible(cell.plain)
        super().add_row(*plain, style=style, end_section=end_section)


def table(*headers: str, title: str | None = None, whole: Collection[str] = ()) -> Table:
    """Make a table; a header that starts with '>' makes a right-aligned column, for numbers.

    On a narrow terminal text is folded, but not numbers and not the columns named in `whole`.
    """
    made = _Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for header in headers:
        name, right = header.lstrip(">"), header.startswith(">")
        made.add_column(name, justify="right" if right else "left", no_wrap=right or name in whole, overflow="fold")
    return made


def cell_text(text: str) -> str:
    """Write a text on one line, so that it cannot look like rows of its own."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def cut(text: str) -> Text:
    """Make a cell that is cut with an ellipsis on a narrow terminal, instead of folded."""
    return Text(cell_text(text), no_wrap=True, overflow="ellipsis")
