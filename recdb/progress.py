"""Reporting progress: a long step takes a Report, and calls it with a line for each part of its work."""

from collections.abc import Callable

Report = Callable[[str], None]
"""A function that takes one line: the part of the work that begins."""


def silent(line: str) -> None:
    """Report nothing; this is the default."""
