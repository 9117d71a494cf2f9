"""A naive choice of a steered list, written from the formulas alone; tests follow a list of recommend() with it.

It takes the list that nothing steers, filled with popular items, with its scores, and the catalogue. It shares no code
with recdb or with its SQL.
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
    """A scenario and its rules: (condition, factor), and those that pin: (condition, place)."""

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
    pool: int = 100
    rules: Sequence[tuple[dict[str, Any], float]] = ()
    pins: Sequence[tuple[dict[str, Any], int]] = ()

    def columns(self) -> dict[str, Any]:
        """Return the columns of the row of recdb.scenario."""
        row = {name: value for name, value in vars(self).items() if name not in {"rules", "pins"}}
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
class Pool:
    """The items from which a part of a list is chosen, with their numbers before the choice, the best first."""

    size: int
    numbers: dict[str, float]
    is_last: bool
    """Whether there is nothing else."""


class Ambiguous(Exception):
    """Two scores are too close for the reference to tell which of them is in the pool."""


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
    fallback: bool = False
    filter: dict[str, Any] | None = None
    """Of the caller."""
    lowest: float = 1.0
    """The lowest score of the model of any item, 1 if it gives none."""

    def thing(self, item: str) -> Thing:
        return self.catalogue.get(item, Thing())

    def factors(self, item: str) -> list[float]:
        return [factor for condition, factor in self.steering.rules if meets(self.thing(item), condition)]

    def number(self, item: str, score: float) -> float:
        """The score of an item before the choice."""
        steering, thing = self.steering, self.thing(item)
        factors = self.factors(item)
        if any(factor > 1 for factor in factors):
            score = max(score, self.lowest / 100)
        if steering.freshness and thing.appeared_at:
            score *= 0.5 ** min(max(self.now - thing.appeared_at, timedelta()) / steering.freshness, 500)
        if steering.rotation_rate and item in self.shown:
            score *= 1 - steering.rotation_rate * 0.5 ** ((self.now - self.shown[item]) / steering.rotation_time)
        for factor in factors:
            score *= min(factor, 1)
        return lift(score, float(np.prod([factor for factor in factors if factor > 1])))

    def groups(self, item: str) -> list[tuple[str, str, int]]:
        """The groups that an item counts for: of its owner, and of the values of the attribute, with their limits."""
        steering, thing = self.steering, self.thing(item)
        found = []
        if steering.max_per_owner and thing.owner:
            found.append(("owner", thing.owner, steering.max_per_owner))
        value = (thing.attributes or {}).get(steering.max_per_attribute or "")
        if steering.max_per_number and value is not None:
            values = {f"{one:g}" if isinstance(one, float) else str(one) for one in as_list(value)}
            found += [("attribute", one, steering.max_per_number) for one in values]
        return found

    def is_open(self, item: str, counts: Counter[tuple[str, str, int]]) -> bool:
        return all(counts[group] < group[2] for group in self.groups(item))

    def likeness(self, item: str, others: Collection[str]) -> float:
        """The largest cosine of an item with others, at least 0."""
        vector = self.thing(item).vector
        vectors = [self.thing(other).vector for other in others]
        known = [vector @ other for other in vectors if vector is not None and other is not None]
        return max([0.0, *known])

    def may_come(self, item: str) -> bool:
        """Tell whether both filters and the rules with the factor 0 let an item in."""
        filters = [self.steering.filter, self.filter]
        return all(one is None or meets(self.thing(item), one) for one in filters) and 0 not in self.factors(item)

    def pool(self, plain: Sequence[Any], above: Collection[str], size: int) -> Pool:
        """The items for the part of a list whose pool has this size."""
        steering = self.steering
        minimum = steering.minimum_score or 0
        of_model = [row for row in plain if row[2] != "popular"]
        scores = {
            row[0]: row[1] for row in plain if self.may_come(row[0]) and (row[2] == "popular" or row[1] >= minimum)
        }
        personal = [row[0] for row in of_model if row[0] in scores]
        popular = [row[0] for row in plain if row[2] == "popular" and row[0] in scores]
        if len(personal) > size and scores[personal[size - 1]] - scores[personal[size]] < CLOSE:
            raise Ambiguous
        lifting = float(np.prod([factor for _, factor in steering.rules if factor > 1]))
        further = 2000 if steering.pins else size // 2 if lifting > 1 else 0
        reaching = [item for item in personal[size:][:further] if self.lifted(item) or self.pinned(item)]
        filled = popular[: max(0, size - len(personal))] if self.fallback else []
        named = []
        if lifting > 1 and (len(of_model) < size or lift(self.lowest / 100, lifting) >= of_model[size - 1][1]):
            named = [row[0] for row in plain if row[2] == "popular" and row[0] in scores and self.lifted(row[0])]
        chosen = dict.fromkeys([*personal[:size], *reaching, *filled, *named])
        numbers = {item: self.number(item, scores[item]) for item in chosen if item not in above}
        numbers = dict(sorted(numbers.items(), key=lambda pair: (-float(f"{pair[1]:.10g}"), pair[0])))
        for condition, place in sorted(steering.pins, key=lambda pin: pin[1]):
            if self.has_ended(condition, place, above) or any(meets(self.thing(item), condition) for item in numbers):
                continue
            best = [item for item in scores if item not in above and meets(self.thing(item), condition)]
            best.sort(key=lambda item: (-max(scores[item], self.lowest / 100 if item in popular else 0), item))
            numbers |= dict.fromkeys(best[:1], 0.0)
        return Pool(size, numbers, len(numbers) + len(above) < size)

    def lifted(self, item: str) -> bool:
        return any(factor > 1 for factor in self.factors(item))

    def pinned(self, item: str) -> bool:
        return any(meets(self.thing(item), condition) for condition, _ in self.steering.pins)

    def has_ended(self, condition: dict[str, Any], place: int, above: Collection[str]) -> bool:
        return place <= len(above) and any(meets(self.thing(item), condition) for item in above)

    def pins(self, pool: Pool, above: Collection[str], counts: Counter[tuple[str, str, int]]) -> dict[str, int]:
        """The items that are pinned, with their places; counts gets their groups."""
        places: dict[str, int] = {}
        for condition, place in sorted(self.steering.pins, key=lambda pin: pin[1]):
            if self.has_ended(condition, place, above):
                continue
            for item in pool.numbers:
                if item not in places and meets(self.thing(item), condition) and self.is_open(item, counts):
                    places[item] = max(place - len(above), max(places.values(), default=0) + 1)
                    counts.update(self.groups(item))
                    break
        return places

    def follow(self, plain: Sequence[Any], rows: Sequence[Any], k: int, exclude: Collection[str] = ()) -> None:
        """Assert that a list is the greedy choice, with its scores; what is closer than CLOSE may come in any order.

        Of two items that are too close to tell which one is in the pool, it says nothing: then it raises Ambiguous.
        """
        above = list(dict.fromkeys(exclude))
        before = len(above)
        size = self.steering.pool
        while 0.6 * size < before + 1:
            size *= 2
        self.last_score = 1.0
        if not self.fallback and self.steering.explore < 1 and self.lowest == 1.0:
            assert rows == []
            return
        while True:
            pool = self.pool(plain, above, size)
            upto = min(k, size * 3 // 5 - before)
            self.follow_part(pool, rows[len(above) - before : upto], upto - (len(above) - before), above)
            if len(above) - before == k or (pool.is_last and len(above) - before < upto):
                assert len(above) - before == len(rows)
                return
            size *= 2

    def follow_part(self, pool: Pool, rows: Sequence[Any], places: int, above: list[str]) -> None:
        """Follow the part of a list that is chosen from one pool, and append its items to above."""
        begin = len(above)
        counts = Counter(group for item in above for group in self.groups(item))
        pins = self.pins(pool, above, counts)
        left = {item: number for item, number in pool.numbers.items() if item not in pins}
        if (
            pool.is_last
            and not any(self.is_open(item, counts) for item in left)
            and (self.explorer(pool, above, {*above, *pins}, counts) is None)
        ):
            numbers = {item: one for item, one in pool.numbers.items() if not self.came_last(item, pool, above)}
            counts = Counter(group for item in above for group in self.groups(item))
            pins = self.pins(Pool(pool.size, numbers, True), above, counts)
        waiting = list(pins)
        share = self.steering.diversity
        ended = False
        for place in range(1, places + 1):
            row = rows[place - 1] if place <= len(rows) else None
            others = {*above, *waiting}
            open_ones = {
                item: (1 - share) * number + share * (1 - self.likeness(item, others))
                for item, number in left.items()
                if self.is_open(item, counts)
            }
            explorer = self.explorer(pool, above, others, counts)
            is_pinned = bool(waiting) and pins[waiting[0]] == place
            ended = ended or not (is_pinned or open_ones or explorer)
            if ended and not (pool.is_last and waiting):
                return
            assert row is not None, (above, open_ones, explorer, waiting)
            if is_pinned or ended:
                assert (row[0], row[2]) == (waiting[0], "pinned"), (row, waiting)
                assert abs(row[1] - self.last_score) < CLOSE, (row, self.last_score)
                above.append(waiting.pop(0))
                continue
            assert (row[2] == "explored") == (explorer is not None), (row, explorer)
            if explorer is not None:
                assert row[0] == explorer
                expected = max(open_ones.values(), default=0.0)
                left.pop(row[0], None)
            else:
                assert row[0] in open_ones, row
                expected = open_ones[row[0]]
                assert max(open_ones.values()) - expected < CLOSE, (row, open_ones)
                del left[row[0]]
            assert abs(row[1] - min(self.last_score, expected)) < CLOSE, (row, expected, self.last_score)
            self.last_score = row[1]
            above.append(row[0])
            counts.update(self.groups(row[0]))
        assert len(above) - begin == places

    def came_last(self, item: str, pool: Pool, above: Collection[str]) -> bool:
        """Tell whether an item without a score is pinned by a rule that had one at the end of the list before."""
        return pool.numbers[item] == 0 and any(
            meets(self.thing(item), condition) and any(meets(self.thing(other), condition) for other in above)
            for condition, _ in self.steering.pins
        )

    def explorer(
        self, pool: Pool, above: Sequence[str], others: Collection[str], counts: Counter[tuple[str, str, int]]
    ) -> str | None:
        """The item that gets the next place because it is explored there; None if none is."""
        place = len(above) + 1
        share = self.steering.explore
        if np.floor(place * share + self.start) <= np.floor((place - 1) * share + self.start):
            return None
        return next((
            item for item in self.drawn[: int(np.ceil(share * pool.size))]
            if item not in others and self.is_open(item, counts)
        ), None)  # fmt: skip


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def lift(score: float, factor: float) -> float:
    """A score with its odds times a factor of 1 or more."""
    return factor * score / (1 + (factor - 1) * score)


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
    return drawn, ((seed >> 20) & 1048575) / 1048576 + 1e-9


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
