"""The users who hold more than a fair share of all interactions: a training and the doctor name them."""

from dataclasses import dataclass

import psycopg


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
    """Find the users who hold more than a fair share, at most three, the heaviest first."""
    rows = connection.execute("select user_id, interactions, share, statement from recdb.heavy_users()").fetchall()
    return [HeavyUser(*row) for row in rows]


def leave_out(users: list[HeavyUser]) -> str:
    """Return the statements that leave some users out."""
    return " ".join(user.statement for user in users)
