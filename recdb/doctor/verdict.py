"""What the checks share: the verdict they give, and how they ask and write."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, LiteralString

import psycopg

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Verdict:
    """What a check found: its state, what that means, and what mends it."""

    state: State
    message: str
    mend: str | None = None


# None: the check does not apply.
Check = Callable[[psycopg.Connection], Verdict | None]


def fetch(connection: psycopg.Connection, query: LiteralString, parameters: Any = None) -> tuple[Any, ...]:
    """Run a query that gives one row, and return it."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return tuple(row)


def some(names: list[str], shown: int = 3) -> str:
    """List a few of many names."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def size(count: float) -> str:
    """Write a number of bytes for a person."""
    for unit, bytes_ in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= bytes_:
            return f"{count / bytes_:,.0f} {unit}"
    return f"{count:.0f} bytes"


def age_of(age: timedelta) -> str:
    """Write a length of time for a person."""
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
