"""The clock of a search: it counts the work that is done, so that a busy machine does not shorten a search."""

import time
from collections.abc import Callable

PATIENCE = 2.0
"""How many times longer than its seconds a search may take where other programs hold the processors."""


def work_clock() -> Callable[[], float]:
    """Return a clock that begins at 0: it counts the seconds that passed or, if less, this process's processor seconds.

    While other programs hold the processors it stands still, but it never counts less than 1 / PATIENCE of the time.
    """
    began, worked = time.monotonic(), time.process_time()

    def elapsed() -> float:
        passed = time.monotonic() - began
        return max(passed / PATIENCE, min(passed, time.process_time() - worked))

    return elapsed
