"""What the command line prints with: tables, progress on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.table import Table

output = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


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


def table(*headers: str, title: str | None = None) -> Table:
    """Make a table; a header that starts with '>' is a right-aligned column."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for header in headers:
        made.add_column(header.lstrip(">"), justify="right" if header.startswith(">") else "left", overflow="fold")
    return made
