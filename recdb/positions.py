"""Positions of the primary's log: how far a standby has to be to show a user's own writes.

A position is the text of a pg_lsn, such as 0/3000148. An application may carry it, in a cookie or a header, from the
server that wrote to the server that reads.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

from recdb.errors import InvalidInput

KEPT = 600.0
"""Seconds for which a position is kept. A standby that is further behind than that serves nobody, see `max_lag`."""
MOST_USERS = 100_000
END = "FFFFFFFF/FFFFFFFF"
"""A position that no standby reaches: the reads of the user go to the primary."""
PATTERN = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"


def number_of_position(position: object) -> int:
    """Return a position as a number; raise InvalidInput for anything else."""
    if not isinstance(position, str) or not re.fullmatch(PATTERN[1:-1], position):
        raise InvalidInput("position is no position of PostgreSQL's log", "pass one that position() returned")
    high, low = position.split("/")
    return int(high, 16) << 32 | int(low, 16)


def text_of_position(number: int) -> str | None:
    """Return a position as text; None for 0, which every server has reached."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}" if number else None


class Positions:
    """The position after the last write of each user who wrote within KEPT seconds; threads may share it.

    It holds MOST_USERS users. The largest position that it had to drop counts for everybody until it is too old, so
    that nobody's write is forgotten.
    """

    def __init__(self, most: int = MOST_USERS, kept: float = KEPT) -> None:
        self._most, self._kept = most, kept
        self._of_users: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._dropped = (0, 0.0)
        self._lock = threading.Lock()

    def note(self, users: Iterable[str], number: int) -> None:
        """Keep a position for users, unless a later one is known."""
        now = time.monotonic()
        with self._lock:
            for user in users:
                before, _ = self._of_users.pop(user, (0, 0.0))
                self._of_users[user] = (max(number, before), now)
            while self._of_users and (
                len(self._of_users) > self._most or next(iter(self._of_users.values()))[1] < now - self._kept
            ):
                _, (position, at) = self._of_users.popitem(last=False)
                if at >= now - self._kept:
                    largest = max(position, self._dropped[0] if self._dropped[1] >= now - self._kept else 0)
                    self._dropped = (largest, at)

    def of(self, users: Iterable[str]) -> int:
        """Return the largest position of these users; 0 if none of them wrote lately."""
        oldest = time.monotonic() - self._kept
        with self._lock:
            found = [self._dropped, *(self._of_users.get(user, (0, 0.0)) for user in users)]
        return max(position if at >= oldest else 0 for position, at in found)

    def own(self, user: str) -> int:
        """Return the position of one user, without those of others that were dropped."""
        position, at = self._of_users.get(user, (0, 0.0))
        return position if at >= time.monotonic() - self._kept else 0
