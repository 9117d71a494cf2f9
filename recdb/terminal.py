"""What the command line prints with: tables, progress on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console, RenderableType
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

# What is not a terminal has no width: tables that go into a file or a program are never folded to fit one.
UNBOUNDED = 10_000

output = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBOUNDED)
errors = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else UNBOUNDED)


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that reports a step: a spinner's text on a terminal, a line with the time elsewhere."""
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
        """Add a row; text is shown as it is: an id or a title with brackets is no markup."""
        plain = (Text(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*plain, style=style, end_section=end_section)


def table(*headers: str, title: str | None = None, whole: Collection[str] = ()) -> Table:
    """Make a table; a header that starts with '>' is a right-aligned column, of numbers.

    Where a terminal is too narrow, text is folded, but neither numbers nor the columns named in `whole`.
    """
    made = _Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for header in headers:
        name, right = header.lstrip(">"), header.startswith(">")
        made.add_column(name, justify="right" if right else "left", no_wrap=right or name in whole, overflow="fold")
    return made


def cut(text: str) -> Text:
    """Make a cell that ends in an ellipsis, instead of being folded, where a terminal is too narrow."""
    return Text(text, no_wrap=True, overflow="ellipsis")
