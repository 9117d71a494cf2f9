"""Printing for the command line: tables, and progress as a spinner on a terminal or as lines elsewhere."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console, RenderableType
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

# A file or a pipe has no width, so tables that go there are never folded.
UNBOUNDED = 10_000

output = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBOUNDED)
errors = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else UNBOUNDED)


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that reports a step: as a spinner's text on a terminal, as a line with the time elsewhere."""
    if errors.is_terminal:
        with errors.status(title) as status:
            yield lambda step: status.update(f"{title}: {step}")
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
        plain = (Text(cell) if isinstance(cell, str) else cell for cell in cells)
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


def cut(text: str) -> Text:
    """Make a cell that is cut with an ellipsis on a narrow terminal, instead of folded."""
    return Text(text, no_wrap=True, overflow="ellipsis")
