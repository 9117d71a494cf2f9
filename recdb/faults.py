"""Points at which a test kills this process, to see the remains that a killed process leaves behind.

With the name of a point in the environment variable RECDB_FAULT, the process ends there by SIGKILL, as by `kill -9`.
Without the variable a point does nothing.
"""

import os
import signal

VARIABLE = "RECDB_FAULT"

POINTS = {
    "refresh": ("job locked", "before refresh", "after refresh"),
    "training": (
        "rebuild begun",
        "rebuilt",
        "training begun",
        "measured",
        "tables made",
        "item vectors written",
        "user vectors written",
        "item neighbors written",
        "one index built",
        "indexed",
        "partitions attached",
        "version activated",
        "published",
        "caught up",
        "versions retired",
        "partitions detached",
        "tables dropped",
    ),
    "taking": (
        "tables of the taken version made",
        "taken vectors written",
        "own users placed",
        "taken items written",
        "taken version indexed",
        "own items linked",
    ),
    "tuning": ("searched", "half-life changed", "version trained", "best version activated"),
    "activation": ("before activating", "after activating"),
    "recommend-all": ("lists opened", "lists begun", "lists written"),
    "partitioning": (
        "changes noted",
        "part copied",
        "store copied",
        "changes carried",
        "swap made",
        "stores swapped",
    ),
    "distribution": ("spread", "brought back"),
    "attach": ("view made", "views combined", "attached"),
    "uninstall": ("schema dropped",),
    "init": ("prepared", "migrated", "replayed"),
}
"""The points by the work that reaches them, in its order."""


def reach(point: str) -> None:
    """Die here if the environment says so."""
    if os.environ.get(VARIABLE) == point:
        os.kill(os.getpid(), signal.SIGKILL)
