"""The verdict that every check gives, and how messages write names, sizes and ages."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import psycopg

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Verdict:
    """The result of a check: its state, a message, and the statement or command that fixes it."""

    state: State
    message: str
    fix: str | None = None


# None: the check does not apply.
Check = Callable[[psycopg.Connection], Verdict | None]


def some(names: list[str], shown: int = 3) -> str:
    """List the first names and the number of the others."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def size(count: float) -> str:
    """Write a number of bytes with its unit."""
    for unit, bytes_ in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= bytes_:
            return f"{count / bytes_:,.0f} {unit}"
    return f"{count:.0f} bytes"


def age_of(age: timedelta) -> str:
    """Write an age in minutes, hours or days."""
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
