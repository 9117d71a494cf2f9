"""What the benchmarks of steered lists share: interactions of a data set, lists that SQL serves, sections and plots."""

import csv
import gzip
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from recdb.evaluate.plan import Kinds

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "recdb"
mpl.rcParams["svg.fonttype"] = "none"  # a small file
mpl.rcParams["font.size"] = 9
from matplotlib import pyplot as plt  # noqa: E402  after the backend is chosen

HERE = Path(__file__).parent
PAGE = 20
POOL = 200
"""How many of the best items each list is chosen from: the figures of STEERING.md are for this number."""
TOGETHER = 100
"""The number of users that recommend_batch() is asked for in one call."""


class Event(NamedTuple):
    """An interaction."""

    user: str
    item: str
    kind: str
    at: datetime | None


def read_meta(folder: Path) -> tuple[dict[str, float], Kinds]:
    """Return the weights of the kinds of a data set, and what `recdb evaluate` takes."""
    meta = json.loads((folder / "meta.json").read_text())
    return meta["weights"], Kinds(meta["weights"], None if meta["hides"] == "all" else meta["hides"])


def read_events(*files: Path) -> list[Event]:
    """Read interactions, the oldest first; those without a time come first of all."""
    events = []
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as opened:
            for row in csv.DictReader(opened):
                at = row.get("created_at")
                events.append(
                    Event(
                        row["user_id"], row["item_id"], row.get("kind", ""), datetime.fromisoformat(at) if at else None
                    )
                )
    return sorted(events, key=lambda event: event.at.timestamp() if event.at else 0.0)


def store_events(connection: psycopg.Connection, events: Iterable[Event], later: timedelta) -> None:
    """Store interactions with their times moved."""
    copying = "copy recdb.interaction (user_id, item_id, kind, created_at) from stdin"
    with connection.cursor() as cursor, cursor.copy(copying) as copy:
        for event in events:
            if event.at is None:
                raise ValueError("an interaction without a time cannot be stored with its time moved")
            copy.write_row((event.user, event.item, event.kind, event.at + later))


def set_scenario(connection: psycopg.Connection, name: str, **columns: Any) -> None:
    """Make a scenario with these columns and POOL, or give one these columns and the defaults for all others."""
    columns = {"pool": POOL, **columns}
    connection.execute("delete from recdb.scenario where name = %s", [name])
    names = sql.SQL(", ").join(map(sql.Identifier, ["name", *columns]))
    values = sql.SQL(", ").join([sql.Placeholder()] * (1 + len(columns)))
    connection.execute(
        sql.SQL("insert into recdb.scenario ({}) values ({})").format(names, values), [name, *columns.values()]
    )


def serve(
    connection: psycopg.Connection, users: Sequence[str], scenario: str, fallback: str = "none"
) -> list[list[str]]:
    """Return the lists of PAGE items that recommend_batch() serves to the users."""
    lists: dict[str, list[str]] = {user: [] for user in users}
    for first in range(0, len(users), TOGETHER):
        for user, item in connection.execute(
            "select user_id, item_id from recdb.recommend_batch("
            "%s::text[], %s::bigint, fallback => %s::text, scenario => %s::text) order by user_id, rank",
            [list(users[first : first + TOGETHER]), PAGE, fallback, scenario],
        ):
            lists[user].append(item)
    return list(lists.values())


def as_numbers(lists: Sequence[Sequence[str]], keys: dict[str, int]) -> NDArray[np.int64]:
    """Return lists (users, PAGE) of item numbers, -1 after the end of a shorter list."""
    numbers = np.full((len(lists), PAGE), -1, dtype=np.int64)
    for row, items in enumerate(lists):
        numbers[row, : len(items)] = [keys.get(item, -1) for item in items]
    return numbers


def mean_interval(values: NDArray[np.float64], owners: Sequence[str], samples: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of values, where all values of one owner are drawn together."""
    names, numbers = np.unique(np.array(owners), return_inverse=True)
    sums, counts = np.bincount(numbers, values), np.bincount(numbers)
    drawn = np.random.default_rng(0).integers(0, len(names), (samples, len(names)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return float(low), float(high)


def write_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Rewrite the part of a page between the markers of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = page.read_text()
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    page.write_text(f"{before}\n\n" + "\n".join(lines) + f"\n\n{after}")


def save_plot(figure: Any, file: Path) -> None:
    """Write a figure as SVG without a date, and close it."""
    file.parent.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def plain_axes(axes: Any) -> None:
    """Take the frame off at the top and at the right, and draw light lines."""
    for side in ("top", "right"):
        with suppress(KeyError):
            axes.spines[side].set_visible(False)
    axes.grid(alpha=0.3)
