"""Ranking metrics, computed from the places of each user's list that hold relevant items.

Libraries define these metrics differently. `recdb evaluate` prints these formulas below its figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

FORMULAS: Mapping[str, str] = {
    "recall@k": "hits / relevant items",
    "ndcg@k": "sum over hits of 1/log2(rank+1), divided by the same for min(k, relevant) hits at the top",
    "precision@k": "hits / k",
    "hit_rate@k": "1 if there is a hit, else 0",
    "mrr@k": "1 / rank of the first hit, 0 if there is none",
    "coverage@k": "share of the items in training that are in anybody's list",
    "novelty@k": "mean of -log2(share of users who interacted with the item) over the recommended items",
    "served@k": "share of users with a list that is not empty",
}


@dataclass(frozen=True)
class Scores:
    """The metrics of one ranking, by name ('recall@20'): means over users with 95 % bootstrap intervals."""

    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def without(self, name: str) -> Self:
        """Return the scores without one metric, at every k."""
        return replace(self, means={key: value for key, value in self.means.items() if not key.startswith(f"{name}@")})


class Truth:
    """The relevant items of the scored users."""

    def __init__(self, relevant: Sequence[set[str]], item_keys: Mapping[str, int]) -> None:
        self.counts = np.array([len(items) for items in relevant])
        width = max(item_keys.values(), default=0) + 1
        pairs = [(row, item_keys[item]) for row, items in enumerate(relevant) for item in items if item in item_keys]
        rows, columns = (np.array(pairs, dtype=np.int64).reshape(-1, 2)).T
        self._pairs = np.sort(rows * width + columns)
        self._width = width

    def hits(self, lists: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which places of the lists (users, k) of item numbers, -1 for none, are relevant."""
        codes = np.arange(len(lists))[:, None] * self._width + lists
        return np.isin(codes, self._pairs) & (lists >= 0)


def score_lists(
    lists: NDArray[np.int64],
    truth: Truth,
    popularity: NDArray[np.integer],
    users: int,
    ks: Sequence[int],
    *,
    intervals: bool = False,
) -> Scores:
    """Score lists (users, k) of item numbers at every k."""
    hits = truth.hits(lists)
    means: dict[str, float] = {}
    values: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        scored = user_metrics(hits, truth.counts, k)
        values |= scored
        means |= {name: float(each.mean()) for name, each in scored.items()}
        means |= list_metrics(lists, popularity, users, k)
    if not intervals:
        return Scores(means)
    bounds = confidence_intervals(np.column_stack(list(values.values()))).tolist()
    return Scores(means, {name: (low, high) for name, (low, high) in zip(values, bounds, strict=True)})


def discounts(k: int) -> Float64:
    """Return 1/log2(rank+1) for the ranks 1..k."""
    return 1.0 / np.log2(np.arange(2, k + 2, dtype=np.float64))


def user_metrics(hits: NDArray[np.bool_], relevant: NDArray[np.integer], k: int) -> dict[str, Float64]:
    """Score each user's list.

    `hits` (users, at least k) tells which places of the list hold relevant items; `relevant` (users,) is the number of
    relevant items, at least 1. Returns an array (users,) for each metric, named like 'recall@20'.
    """
    top = hits[:, :k]
    found = top.sum(axis=1)
    gains = discounts(k)[: top.shape[1]]
    ideal = np.cumsum(discounts(k))[np.minimum(relevant, k) - 1]
    first = np.where(top.any(axis=1), top.argmax(axis=1) + 1, np.inf) if top.shape[1] else np.full(len(top), np.inf)
    return {
        f"recall@{k}": found / relevant,
        f"ndcg@{k}": (top @ gains) / ideal,
        f"precision@{k}": found / k,
        f"hit_rate@{k}": (found > 0).astype(np.float64),
        f"mrr@{k}": 1.0 / first,
    }


def list_metrics(lists: NDArray[np.integer], popularity: NDArray[np.integer], users: int, k: int) -> dict[str, float]:
    """Score all lists together: coverage, novelty and the share of users served.

    `lists` (lists, at least k) holds item numbers, -1 where a list is shorter. `popularity` (items,) is the number of
    users, out of `users`, that interacted with each item in training.
    """
    top = lists[:, :k]
    shown = top[top >= 0]
    known = int((popularity > 0).sum())
    share = np.maximum(popularity[shown], 1) / max(users, 1)
    return {
        f"coverage@{k}": len(np.unique(shown)) / known if known else 0.0,
        f"novelty@{k}": float(-np.log2(share).mean()) if len(shown) else 0.0,
        f"served@{k}": float((top >= 0).any(axis=1).mean()) if top.size else 0.0,
    }


def confidence_interval(
    values: Float64, *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return a confidence interval for the mean of `values` (users,) by the bootstrap over users."""
    lowest, highest = confidence_intervals(values[:, None], level=level, samples=samples, seed=seed)[0]
    return float(lowest), float(highest)


def confidence_intervals(values: Float64, *, level: float = 0.95, samples: int = 1000, seed: int = 0) -> Float64:
    """Return confidence intervals (metrics, 2) for the means of `values` (users, metrics), from the same samples."""
    users, metrics = values.shape
    if users == 0:
        return np.zeros((metrics, 2))
    generator = np.random.default_rng(seed)
    means = np.empty((samples, metrics))
    for sample in range(samples):
        means[sample] = np.bincount(generator.integers(0, users, users), minlength=users) @ values / users
    bounds: Float64 = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return bounds
