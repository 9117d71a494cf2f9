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
    published_at: datetime | None = None
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

    def number(self, item: str, score: float) -> float:
        """The score of an item before the choice; 0 leaves it out."""
        steering, thing = self.steering, self.catalogue.get(item, Thing())
        if steering.freshness and thing.published_at:
            score *= 0.5 ** min(max(self.now - thing.published_at, timedelta()) / steering.freshness, 500)
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
        for row in [*rows, None]:
            open_ones = {
                item: (1 - share) * number + share * (1 - self.likeness(item, above))
                for item, number in left.items()
                if all(counts[group] < group[2] for group in self.groups(item))
            }
            if row is None:
                assert len(rows) == k or not open_ones, (rows, open_ones)
                return
            assert row[0] in open_ones, row
            assert abs(row[1] - open_ones[row[0]]) < CLOSE, (row, open_ones[row[0]])
            assert max(open_ones.values()) - open_ones[row[0]] < CLOSE, (row, open_ones)
            del left[row[0]]
            above.append(row[0])
            counts.update(self.groups(row[0]))


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
    catalogue = {
        item: Thing(owner, published_at, attributes, unit(vectors.get(item)))
        for item, owner, published_at, attributes in connection.execute(
            "select item_id, owner_id, published_at, attributes from recdb.item"
        )
    }
    return {item: Thing(vector=unit(vector)) for item, vector in vectors.items()} | catalogue
