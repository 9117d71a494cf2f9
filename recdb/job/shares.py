"""The users who hold more than a fair share of all interactions: a training and the doctor name them."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

NAMED = 10
"""A message names so many users; the statements that leave them out are for all."""


@dataclass(frozen=True)
class HeavyUser:
    """A user with more than a fair share, and the statement that leaves the user out."""

    user_id: str
    interactions: int
    share: float
    statement: str

    def __str__(self) -> str:
        """Write the user with the share, for a message."""
        return f"'{self.user_id}' holds {self.share:.0%} of all interactions ({self.interactions:,})"


def heavy_users(connection: psycopg.Connection) -> list[HeavyUser]:
    """Find the users who hold more than a fair share, the heaviest first; at most 99, since each has more than 1 %."""
    rows = connection.execute("select user_id, interactions, share, statement from recdb.heavy_users()").fetchall()
    return [HeavyUser(*row) for row in rows]


def name_some(users: Sequence[HeavyUser]) -> list[str]:
    """Write the heaviest users with their shares, and how many more there are."""
    more = len(users) - NAMED
    return [*map(str, users[:NAMED]), *([f"and {more} more hold too much"] if more > 0 else [])]


def leave_out(users: Sequence[HeavyUser]) -> str:
    """Return the statements that leave some users out."""
    return " ".join(user.statement for user in users)
