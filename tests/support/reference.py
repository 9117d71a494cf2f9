"""A naive ranking in numpy, written from the formulas alone; tests compare recommend() with it.

It reads the raw interactions and the learned tables, compares a user's vector with those of all users, and keeps users
and items in dense arrays. It shares no code with recdb or with its SQL.
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
"""A fold-in of weights up to 1 that is shorter than this, 1e-4 of the longest item vector, counts as no vector."""
NOISE_COSINE = 0.001
"""A smaller cosine is the noise of half precision."""


def signed_power(values: Array, exponent: float) -> Array:
    """sign(x) |x|^exponent; 0 stays 0."""
    return np.sign(values) * np.abs(values) ** exponent


def inverse_power(sums: Array, exponent: float) -> Array:
    """sums^-exponent; 0 stays 0."""
    result = np.zeros(len(sums))
    result[sums > 0] = sums[sums > 0] ** -exponent
    return result


def masses(rows: Array, exponent: float) -> Array:
    """The sums of d^-2a W_j W_i over the pairs of different items, of each row (rows, items)."""
    magnitudes = np.abs(rows)
    pairs = magnitudes.sum(axis=1) ** 2 - (magnitudes**2).sum(axis=1)
    pairs = np.where((magnitudes > 0).sum(axis=1) > 1, pairs, 0)
    found: Array = pairs * inverse_power(magnitudes.sum(axis=1), 2 * exponent)
    return found


def limit_masses(rows: Array, exponent: float, quantile: float) -> Array:
    """Scale down the rows whose mass is above a quantile of the positive masses, to that quantile."""
    found = masses(rows, exponent) if exponent <= 0.9 else np.abs(rows).sum(axis=1)
    limit = np.quantile(found[found > 0], quantile) if (found > 0).any() else np.inf
    ratio = np.where(found > limit, limit / np.where(found > 0, found, 1), 1.0)
    scaled: Array = rows * ratio[:, None] ** (1 / (2 - 2 * exponent) if exponent <= 0.9 else 1)
    return scaled


def session_counts(rows: Array, owners: NDArray[np.int64], users: int, exponent: float, share: float) -> Array:
    """How often each session counts: small ones less, and those of users with more than a share of the mass, found by
    bisection.

    Where too few of the `users` have a mass for that, all come down to the median of all users' masses.
    """
    sums = np.abs(rows).sum(axis=1)
    usual = np.median([np.average(sums[owners == owner], weights=sums[owners == owner]) for owner in np.unique(owners)])
    small = np.where(sums < usual, sums / usual, 1) ** (2 * exponent)
    found = np.bincount(owners, small * sums ** (2 - 2 * exponent), minlength=users)
    positive = found[found > 0]
    everybody = np.r_[positive, np.zeros(users - len(positive))]
    limit = float(np.median(everybody))
    if len(positive) * share > 1:
        low, high = 0.0, float(positive.max())
        for _ in range(200):
            limit = (low + high) / 2
            low, high = (limit, high) if limit < share * np.minimum(positive, limit).sum() else (low, limit)
    ratio = np.where(found > limit, limit / np.where(found > 0, found, 1), 1.0)
    counts: Array = small * ratio[owners]
    return counts


def shares(parts: Array) -> Array:
    """The sums of parts (parts, items) by item, divided by the sum of all magnitudes; 0 if that is 0."""
    total = np.abs(parts).sum()
    summed: Array = parts.sum(axis=0)
    return summed / total if total > 0 else np.zeros(parts.shape[1])


@dataclass(frozen=True)
class Profiles:
    """The interactions of every user, summed by item: arrays (users, items)."""

    weights: Array
    """The decayed weights of the kinds, summed; 0 without interactions."""
    hidden: NDArray[np.bool_]
    seconds: Array
    """The time of the newest interaction; NaN without interactions."""

    @cached_property
    def positions(self) -> Array:
        """The place of each item in its user's profile: by |w| r^-0.6, then newest first, then by key."""
        times = np.where(np.isnan(self.seconds), np.inf, -self.seconds)
        precedence = np.where(self.weights != 0, np.abs(self.weights) * self.ranks**-0.6, 0)
        order = np.lexsort((np.broadcast_to(np.arange(times.shape[1]), times.shape), times, -precedence), axis=1)
        return np.argsort(order, axis=1) + 1.0

    @cached_property
    def ranks(self) -> Array:
        """The ranks by time among the items that have a weight; items with the same timestamp share a rank."""
        known = np.where(self.weights != 0, self.seconds, np.nan)
        return np.array([[1.0 + (times > time).sum() for time in times] for times in known])

    def first(self, limit: int) -> Array:
        """The weights of each user's first items by place; 0 for the others."""
        return np.where(self.positions <= limit, self.weights, 0)


@dataclass(frozen=True)
class Reference:
    """The active model and the interactions, by user and item position in `users` and `items`."""

    users: list[str]
    items: list[str]
    profiles: Profiles
    profile_limit: int
    training_limit: int
    catalogue: dict[str, tuple[str | None, bool, dict[str, Any]]]
    """item_id: owner, available, attributes."""
    user_vectors: Array
    """(users, width); 0 for a user without a vector."""
    item_vectors: Array
    item_neighbors: Array
    """(items, items): [j, i] is the weight that j contributes to i."""
    params: dict[str, Any]
    pair_limit: float
    """The most that one weight counts as a neighbour's."""
    neighbor_limit: float
    """The most that the weights of one neighbour add up to."""
    returns: bool
    """Whether an item may be recommended again: whether there is a kind that does not hide."""

    @property
    def self_weight(self) -> float:
        """The factor of an item's weight for itself; 0 if items are not recommended again."""
        return float(self.params["self_weight"]) if self.returns else 0.0

    def learned_from(self, exponent: str) -> Array:
        """W (users, items) of the items that a training reads, to the exponent of this name."""
        limited = np.clip(self.profiles.first(self.training_limit), -self.pair_limit, self.pair_limit)
        return signed_power(limited, self.params[exponent])

    @cached_property
    def scored(self) -> Array:
        """W (users, items) of the items that lists are scored with."""
        return self.profiles.first(self.profile_limit)

    def asks(self, user: int, exponent: str, recency: str) -> Array:
        """A user's profile (items,): p_j = w_j^x r_j^-recency."""
        recent = self.profiles.ranks[user] ** -self.params[recency]
        return signed_power(self.scored[user], self.params[exponent]) * recent

    def fold_in(self, profile: Array) -> Array | None:
        """Fold a profile (items,) into a unit vector; None for noise."""
        largest = np.abs(profile).max(initial=0)
        if largest == 0:
            return None
        total = (profile / largest) @ self.item_vectors
        norm = float(np.linalg.norm(total))
        return total / norm if norm >= NOISE else None

    def query(self, user: int) -> Array | None:
        """The user's vector: the stored vectors nearest to it are those of the user's neighbours."""
        return self.fold_in(self.asks(user, "people_weight_exponent", "people_recency"))

    def stored(self, user: int) -> Array | None:
        """The stored vector, by which a user is found as a neighbour: recency does not count."""
        return self.fold_in(signed_power(self.scored[user], self.params["people_weight_exponent"]))

    def contributed(self, user: int) -> Array:
        """The weights (items,) that a user contributes as a neighbour."""
        limited = np.clip(self.scored[user], -self.pair_limit, self.pair_limit)
        weights = signed_power(limited, self.params["neighbor_weight_exponent"])
        total = np.abs(weights).sum()
        return weights * min(1.0, self.neighbor_limit / total) if total > 0 else weights

    def total_weight(self, user: int) -> float:
        """The sum of the magnitudes that a user contributes: d_v."""
        return float(np.abs(self.contributed(user)).sum())

    def people(self, user: int) -> Array:
        """Score items by the nearest users: shares of the sum of similarity^q d_v^-g W_vi."""
        parts = np.zeros((self.params["neighbors"], len(self.items)))
        query = self.query(user)
        if query is None:
            return shares(parts)
        query = query.astype(np.float16).astype(np.float64)  # as pgvector's halfvec compares it
        candidates = []
        for other, vector in enumerate(self.user_vectors):
            if other != user and vector.any():
                cosine = query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)
                candidates.append((cosine, other))
        candidates.sort(reverse=True)
        for place, (cosine, other) in enumerate(candidates[: self.params["neighbors"]]):
            if cosine > NOISE_COSINE:
                damping = self.total_weight(other) ** -self.params["activity_exponent"]
                parts[place] = cosine ** self.params["similarity_exponent"] * damping * self.contributed(other)
        return shares(parts)

    def because(self, user: int) -> Array:
        """Score items by the neighbours of the profile's items: shares of the sum of p_j N_ji."""
        asked = self.asks(user, "profile_weight_exponent", "profile_recency")
        return shares(asked[:, None] * self.item_neighbors)

    def recommend(
        self, user_id: str, k: int = 50, exclude: Collection[str] = (), filter: dict[str, Any] | None = None
    ) -> list[tuple[str, float]]:
        """Rank (item_id, score), best first, equal scores by item_id."""
        user = self.users.index(user_id)
        share = self.params["blend"]
        final = share * self.people(user) + (1 - share) * self.because(user)
        scores = {}
        for item, item_id in enumerate(self.items):
            owner, available, _ = self.catalogue.get(item_id, (None, True, {}))
            if final[item] > 0 and not self.profiles.hidden[user, item] and available and owner != user_id:
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
    model_id, params, *limits = connection.execute(
        "select model_id, params, pair_limit, neighbor_limit from recdb.model where active"
    ).fetchone()
    profile_limit, training_limit = connection.execute(
        "select profile_limit, training_limit from recdb.config"
    ).fetchone()

    (returns,) = connection.execute(
        "select not default_hides or exists (select from recdb.interaction_kind where not hides) from recdb.config"
    ).fetchone()

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
    return Reference(
        users,
        items,
        read_profiles(connection, users, items),
        min(profile_limit, params["profile_limit"]),
        training_limit,
        catalogue,
        user_vectors,
        item_vectors,
        item_neighbors,
        params,
        *limits,
        returns,
    )


def read_profiles(connection: psycopg.Connection, users: list[str], items: list[str]) -> Profiles:
    """Sum the weights of each user's interactions with each item, and find the hidden items."""
    half_life, origin, default_weight, default_hides = connection.execute(
        "select extract(epoch from half_life)::float8, decay_origin, default_weight, default_hides from recdb.config"
    ).fetchone()
    kinds = {
        kind: (weight, hides)
        for kind, weight, hides in connection.execute("select kind, weight, hides from recdb.interaction_kind")
    }
    user_position = {user_id: row for row, user_id in enumerate(users)}
    item_position = {item_id: row for row, item_id in enumerate(items)}
    weights = np.zeros((len(users), len(items)))
    hidden = np.zeros(weights.shape, dtype=bool)
    seconds = np.full(weights.shape, np.nan)
    for user_id, item_id, kind, created_at in connection.execute(
        "select user_id, item_id, kind, created_at from recdb.interaction"
    ):
        place = user_position[user_id], item_position[item_id]
        weight, hides = kinds.get(kind, (default_weight, default_hides))
        if half_life is not None:
            counted_at = min(created_at, datetime.now(UTC))
            weight *= 2 ** ((counted_at - origin).total_seconds() / half_life)
        weights[place] += weight
        hidden[place] |= hides
        seconds[place] = np.fmax(seconds[place], created_at.timestamp())
    return Profiles(weights, hidden, seconds)
