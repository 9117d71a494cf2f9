"""A naive ranking in numpy, written from the formulas alone: what recommend() is held against.

It reads the raw interactions and what was learned, knows every user's vector, compares with all of them, and keeps
users and items in dense arrays. Nothing here shares code with recdb or with its SQL.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

Array = NDArray[np.float64]

NOISE = 0.1
"""A fold-in of weights up to 1 that is shorter than this, 1e-4 of the longest item vector, is no vector."""


def signed_power(values: Array, exponent: float) -> Array:
    """sign(x) |x|^exponent; 0 stays 0."""
    return np.sign(values) * np.abs(values) ** exponent


def inverse_power(sums: Array, exponent: float) -> Array:
    """sums^-exponent; 0 stays 0."""
    result = np.zeros(len(sums))
    result[sums > 0] = sums[sums > 0] ** -exponent
    return result


@dataclass(frozen=True)
class Reference:
    """The active model and the interactions, by user and item position in `users` and `items`."""

    users: list[str]
    items: list[str]
    weights: Array
    """(users, items): summed kind weights, decayed; only a user's newest profile_limit items."""
    hidden: NDArray[np.bool_]
    """(users, items)."""
    catalogue: dict[str, tuple[str | None, bool, dict[str, Any]]]
    """item_id: owner, available, attributes."""
    user_vectors: Array
    """(users, width); 0 for a user without a vector."""
    item_vectors: Array
    item_neighbors: Array
    """(items, items): [j, i] is what j gives to i."""
    params: dict[str, float]

    @cached_property
    def powered(self) -> Array:
        """W, to the model's weight exponent."""
        return signed_power(self.weights, self.params["weight_exponent"])

    def fold_in(self, profile: Array) -> Array | None:
        """Place a profile (items,) in the basis: a unit vector, or None for noise."""
        largest = np.abs(profile).max(initial=0)
        if largest == 0:
            return None
        total = (profile / largest) @ self.item_vectors
        norm = float(np.linalg.norm(total))
        return total / norm if norm >= NOISE else None

    def people(self, user: int) -> Array:
        """Score items by the nearest users: sum of similarity^q d_v^-g W_vi."""
        scores = np.zeros(len(self.items))
        query = self.fold_in(self.powered[user])
        if query is None:
            return scores
        query = query.astype(np.float16).astype(np.float64)  # as pgvector's halfvec compares it
        candidates = []
        for other, vector in enumerate(self.user_vectors):
            if other != user and vector.any():
                cosine = query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)
                candidates.append((cosine, other))
        candidates.sort(reverse=True)
        for cosine, other in candidates[: int(self.params["neighbors"])]:
            if cosine > 0:
                damping = np.abs(self.powered[other]).sum() ** -self.params["activity_exponent"]
                scores += cosine ** self.params["similarity_exponent"] * damping * self.powered[other]
        return scores

    def recommend(
        self, user_id: str, k: int = 50, exclude: Collection[str] = (), filter: dict[str, Any] | None = None
    ) -> list[tuple[str, float]]:
        """Rank (item_id, score), best first, equal scores by item_id."""
        user = self.users.index(user_id)
        profile = self.powered[user]
        if not profile.any():
            return []
        final = np.zeros(len(self.items))
        by_items = (profile / np.abs(profile).max()) @ self.item_neighbors
        for share, part in (
            (self.params["blend"], self.people(user)),
            (1 - self.params["blend"], by_items),
        ):
            if part.max() > 0:
                final += share * part / part.max()
        scores = {}
        for item, item_id in enumerate(self.items):
            owner, available, _ = self.catalogue.get(item_id, (None, True, {}))
            if final[item] > 0 and not self.hidden[user, item] and available and owner != user_id:
                scores[item_id] = final[item]
        top = max(scores.values(), default=1)
        ranked = sorted(
            ((item_id, round(score / top, 9)) for item_id, score in scores.items()),
            key=lambda row: (-row[1], row[0]),
        )
        wanted = (filter or {}).items()
        return [
            row
            for row in ranked
            if row[0] not in exclude
            and (not wanted or (row[0] in self.catalogue and wanted <= self.catalogue[row[0]][2].items()))
        ][:k]


def read(connection: psycopg.Connection) -> Reference:
    """Read the raw interactions and the active model into dense arrays."""
    users = [row[0] for row in connection.execute("select user_id from recdb.user_key order by user_key")]
    items = [row[0] for row in connection.execute("select item_id from recdb.item_key order by item_key")]
    model_id, params = connection.execute("select model_id, params from recdb.model where active").fetchone()
    weights, hidden = weigh(connection, users, items)

    width = connection.execute("select vector_dims(embedding) from recdb.item_vector limit 1").fetchone()[0]
    user_vectors, item_vectors = np.zeros((len(users), width)), np.zeros((len(items), width))
    for ids, vectors, name in ((users, user_vectors, "user"), (items, item_vectors, "item")):
        position = {entry: row for row, entry in enumerate(ids)}
        for entry, embedding in connection.execute(
            f"select k.{name}_id, v.embedding::text from recdb.{name}_vector v "
            f"join recdb.{name}_key k using ({name}_key) where v.model_id = %s",
            [model_id],
        ):
            vectors[position[entry]] = [float(number) for number in embedding.strip("[]").split(",")]

    item_neighbors = np.zeros((len(items), len(items)))
    for source, target, weight in connection.execute(
        "select s.item_id, t.item_id, n.weight from recdb.item_neighbor r "
        "join recdb.item_key s using (item_key), unnest(r.neighbor_keys, r.weights) n(item_key, weight) "
        "join recdb.item_key t on t.item_key = n.item_key where r.model_id = %s",
        [model_id],
    ):
        item_neighbors[position[source], position[target]] = weight

    catalogue = {
        item_id: (owner, available, attributes)
        for item_id, owner, available, attributes in connection.execute(
            "select item_id, owner_id, available, attributes from recdb.item"
        )
    }
    return Reference(users, items, weights, hidden, catalogue, user_vectors, item_vectors, item_neighbors, params)


def weigh(connection: psycopg.Connection, users: list[str], items: list[str]) -> tuple[Array, NDArray[np.bool_]]:
    """Sum the kinds' weights over a user's events with an item, and tell which items hide."""
    half_life, origin, default_weight, default_hides, profile_limit = connection.execute(
        "select extract(epoch from half_life)::float8, decay_origin, default_weight, default_hides, profile_limit "
        "from recdb.config"
    ).fetchone()
    kinds = {
        kind: (weight, hides)
        for kind, weight, hides in connection.execute("select kind, weight, hides from recdb.interaction_kind")
    }
    user_position = {user_id: row for row, user_id in enumerate(users)}
    item_position = {item_id: row for row, item_id in enumerate(items)}
    weights = np.zeros((len(users), len(items)))
    hidden = np.zeros(weights.shape, dtype=bool)
    newest: list[dict[int, datetime]] = [{} for _ in users]
    for user_id, item_id, kind, created_at in connection.execute(
        "select user_id, item_id, kind, created_at from recdb.interaction"
    ):
        user, item = user_position[user_id], item_position[item_id]
        weight, hides = kinds.get(kind, (default_weight, default_hides))
        if half_life is not None:
            counted_at = min(created_at, datetime.now(UTC))
            weight *= 2 ** ((counted_at - origin).total_seconds() / half_life)
        weights[user, item] += weight
        hidden[user, item] |= hides
        newest[user][item] = max(created_at, newest[user].get(item, created_at))
    for user, times in enumerate(newest):
        for item in sorted(times, key=lambda entry: (times[entry], -entry), reverse=True)[profile_limit:]:
            weights[user, item] = 0
    return weights, hidden
