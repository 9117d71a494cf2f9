"""How long work says what it does: every step that takes time is handed a Report and calls it with a line."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Takes one line: what the work does now."""


def silent(line: str) -> None:
    """Say nothing: the Report of callers that do not ask."""
