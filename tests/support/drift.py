"""A year of likes, with tastes that stay or drift."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def year(*, drifting: bool, users: int = 150, items: int = 60) -> Iterator[Sequence[str]]:
    """A year of likes in four groups of items; where tastes drift, users like another group in the last two months."""
    generator = np.random.default_rng(0)
    for user in range(users):
        for count, days, recent in ((16, (60, 365), False), (8, (0, 60), True)):
            inside = (
                np.arange(items) // 15 == user // 4 % 4 if drifting and recent else np.arange(items) % 4 == user % 4
            )
            chances = np.where(inside, 4 / inside.sum(), 1 / (~inside).sum())
            for item in generator.choice(items, count, replace=False, p=chances / chances.sum()):
                yield f"u{user}", f"i{item}", "like", (NOW - timedelta(days=generator.uniform(*days))).isoformat()
