"""A naive choice of a steered list, written from the formulas alone; tests follow a list of recommend() with it.

It takes the list that nothing steers, with its scores, and the catalogue. It shares no code with recdb or with its SQL.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

CLOSE = 1e-6


@dataclass(frozen=True)
class Thing:
    """An item of the catalogue."""

    owner: str | None = None
    appeared_at: datetime | None = None
    """When it was published, else its first interaction."""
    attributes: dict[str, Any] | None = None
    """None if no catalogue has the item."""
    vector: NDArray[np.float64] | None = None
    """Of length 1; None if the model has none."""


@dataclass(frozen=True)
class Steering:
    """A scenario and its rules: (condition, factor)."""

    freshness: timedelta | None = None
    max_per_owner: int | None = None
    max_per_attribute: str | None = None
    max_per_number: int | None = None
    diversity: float = 0.0
    rotation_rate: float = 0.0
    rotation_time: timedelta = timedelta(days=1)
    filter: dict[str, Any] | None = None
    minimum_score: float | None = None
    explore: float = 0.0
    explore_for: timedelta = timedelta(hours=1)
    explore_below: int = 100
    rules: Sequence[tuple[dict[str, Any], float]] = ()

    def columns(self) -> dict[str, Any]:
        """Return the columns of the row of recdb.scenario."""
        row = {name: value for name, value in vars(self).items() if name != "rules"}
        return row | {"filter": None if self.filter is None else json.dumps(self.filter)}


def meets(thing: Thing, condition: dict[str, Any]) -> bool:
    """Tell whether an item has each of these attributes; a list has to contain the elements of the condition's."""
    if thing.attributes is None:
        return False
    return all(
        set(value) <= set(thing.attributes.get(name, [])) if isinstance(value, list)
        else name in thing.attributes and thing.attributes[name] == value
        for name, value in condition.items()
    )  # fmt: skip


@dataclass
class Choice:
    """The choice of one list, item by item."""

    steering: Steering
    catalogue: dict[str, Thing]
    now: datetime
    shown: dict[str, datetime]
    drawn: Sequence[str] = ()
    """The items that may be explored, the one with the largest draw first."""
    start: float = 0.0
    """Where the explored places begin, in 0..1."""

    def number(self, item: str, score: float) -> float:
        """The score of an item before the choice; 0 leaves it out."""
        steering, thing = self.steering, self.catalogue.get(item, Thing())
        if steering.freshness and thing.appeared_at:
            score *= 0.5 ** min(max(self.now - thing.appeared_at, timedelta()) / steering.freshness, 500)
        if steering.rotation_rate and item in self.shown:
            score *= 1 - steering.rotation_rate * 0.5 ** ((self.now - self.shown[item]) / steering.rotation_time)
        factors = [factor for condition, factor in steering.rules if meets(thing, condition)]
        for factor in factors:
            score *= min(factor, 1)
        lifts = float(np.prod([factor for factor in factors if factor > 1]))
        return lifts * score / (1 + (lifts - 1) * score)

    def groups(self, item: str) -> list[tuple[str, str, int]]:
        """The groups that an item counts for: of its owner, and of the values of the attribute, with their limits."""
        steering, thing = self.steering, self.catalogue.get(item, Thing())
        found = []
        if steering.max_per_owner and thing.owner:
            found.append(("owner", thing.owner, steering.max_per_owner))
        value = (thing.attributes or {}).get(steering.max_per_attribute or "")
        if steering.max_per_number and value is not None:
            values = {str(one) for one in value} if isinstance(value, list) else {str(value)}
            found += [("attribute", one, steering.max_per_number) for one in values]
        return found

    def likeness(self, item: str, others: Collection[str]) -> float:
        """The largest cosine of an item with others, at least 0."""
        vector = self.catalogue.get(item, Thing()).vector
        vectors = [self.catalogue.get(other, Thing()).vector for other in others]
        known = [vector @ other for other in vectors if vector is not None and other is not None]
        return max([0.0, *known])

    def candidates(self, plain: Sequence[Any], exclude: Collection[str]) -> dict[str, float]:
        """The items that may come, with their numbers."""
        steering = self.steering
        numbers = {}
        for item, score, reason, *_ in plain:
            if item in exclude or ((steering.minimum_score or 0) > score and reason != "popular"):
                continue
            if steering.filter is not None and not meets(self.catalogue.get(item, Thing()), steering.filter):
                continue
            numbers[item] = self.number(item, score)
        buried = {item for item in numbers if self.number(item, 1.0) == 0.0}
        return {item: number for item, number in numbers.items() if item not in buried}

    def follow(self, plain: Sequence[Any], rows: Sequence[Any], k: int, exclude: Collection[str] = ()) -> None:
        """Assert that a list is the greedy choice, with its scores; what is closer than CLOSE may come in any order."""
        left = self.candidates(plain, exclude)
        above = list(exclude)
        counts = Counter(group for item in above for group in self.groups(item))
        share = self.steering.diversity
        last_score = 1.0
        for row in [*rows, None]:
            open_ones = {
                item: (1 - share) * number + share * (1 - self.likeness(item, above))
                for item, number in left.items()
                if all(counts[group] < group[2] for group in self.groups(item))
            }
            explorer = self.explorer(above, counts)
            if row is None:
                assert len(rows) == k or not (open_ones or explorer), (rows, open_ones, explorer)
                return
            assert (row[2] == "explored") == (explorer is not None), (row, explorer)
            if explorer is not None:
                assert row[0] == explorer
                assert abs(row[1] - min(last_score, max(open_ones.values(), default=0.0))) < CLOSE, (row, open_ones)
                left.pop(row[0], None)
                above.append(row[0])
                counts.update(self.groups(row[0]))
                continue
            assert row[0] in open_ones, row
            assert abs(row[1] - open_ones[row[0]]) < CLOSE, (row, open_ones[row[0]])
            assert max(open_ones.values()) - open_ones[row[0]] < CLOSE, (row, open_ones)
            last_score = row[1]
            del left[row[0]]
            above.append(row[0])
            counts.update(self.groups(row[0]))

    def explorer(self, above: Sequence[str], counts: Counter[tuple[str, str, int]]) -> str | None:
        """The item that gets the next place because it is explored there; None if none is."""
        place = len(set(above)) + 1
        share = self.steering.explore
        if np.floor(place * share + self.start) <= np.floor((place - 1) * share + self.start):
            return None
        return next((
            item for item in self.drawn
            if item not in above and all(counts[group] < group[2] for group in self.groups(item))
        ), None)  # fmt: skip


def beta_draws(
    hashes: NDArray[np.int64], impressions: NDArray[np.int64], touched: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draw from Beta(1 + touched, 1 + impressions - touched): the 64 random bits of a draw are its hash."""
    bits = hashes.view(np.uint64)
    radius = np.sqrt(-2 * np.log(((bits & np.uint64(2**32 - 1)) + 0.5) / 2**32))
    angle = 2 * np.pi * (bits >> np.uint64(32)) / 2**32

    def gamma(shape: NDArray[np.float64], normal: NDArray[np.float64]) -> Any:
        return shape * np.maximum(1 - 1 / (9 * shape) + normal / (3 * np.sqrt(shape)), 1e-3) ** 3

    gained = gamma(1.0 + touched, radius * np.cos(angle))
    lost = gamma(1.0 + impressions - touched, radius * np.sin(angle))
    return np.asarray(gained / (gained + lost))


def draw_items(
    connection: psycopg.Connection,
    steering: Steering,
    visitor: str,
    scenario: str,
    size: int,
    may_get: Callable[[str], bool],
) -> tuple[list[str], float]:
    """Return the items that a list of a visitor may explore, the largest draw first, and where the places begin.

    The hashes are those of PostgreSQL; `may_get` tells whether the list may have an item at all.
    """
    (own, epoch) = connection.execute(
        "select hashtextextended(%s, hashtextextended(%s, 0)), date_part('epoch', now())", [visitor, scenario]
    ).fetchone() or (0, 0.0)
    period = int(np.floor(epoch / steering.explore_for.total_seconds() + (own & 65535) / 65536))
    (seed,) = connection.execute("select hashint8extended(%s, %s)", [period, own]).fetchone() or (0,)
    rows = connection.execute(
        "select t.item_id, hashint4(l.item_key), hashint8extended(%(seed)s, 1) >> 32, "
        "hashint4extended(l.item_key, %(seed)s), l.impressions, l.touched, l.item_key "
        "from recdb.little_shown l join recdb.item_key t using (item_key)",
        {"seed": seed},
    ).fetchall()
    rows.sort(key=lambda row: (row[1] < row[2], row[1], row[6]))
    rows = [row for row in rows if row[4] < steering.explore_below]
    draws = beta_draws(*(np.array([row[column] for row in rows], dtype=np.int64) for column in (3, 4, 5)))
    best = sorted(range(len(rows)), key=lambda number: (-draws[number], rows[number][6]))
    drawn = [rows[number][0] for number in best if may_get(rows[number][0])]
    return drawn[: int(np.ceil(steering.explore * size))], ((seed >> 20) & 1048575) / 1048576 + 1e-9


def read_catalogue(connection: psycopg.Connection) -> dict[str, Thing]:
    """Read recdb's own catalogue, and the item vectors of the active version."""
    vectors = {
        item: np.array(json.loads(text))
        for item, text in connection.execute(
            "select t.item_id, v.embedding::text from recdb.item_vector v join recdb.item_key t using (item_key) "
            "join recdb.model m using (model_id) where m.active"
        )
    }
    unit: Callable[[Any], Any] = lambda vector: None if vector is None else vector / np.linalg.norm(vector)  # noqa: E731
    touched = dict(
        connection.execute("select item_id, min(created_at) from recdb.interaction group by item_id").fetchall()
    )
    catalogue = {
        item: Thing(owner, published_at or touched.get(item), attributes, unit(vectors.get(item)))
        for item, owner, published_at, attributes in connection.execute(
            "select item_id, owner_id, published_at, attributes from recdb.item"
        )
    }
    return {
        item: Thing(appeared_at=touched.get(item), vector=unit(vectors.get(item))) for item in {*vectors, *touched}
    } | catalogue
