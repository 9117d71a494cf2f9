"""The baselines, compared with naive dense numpy: with ties, hidden, unavailable and disliked items."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from recdb.offline import baselines
from recdb.offline.baselines import Eligibility

Dense = NDArray[np.float64]
MAKERS: dict[str, Callable[..., baselines.Scorer]] = {"user": baselines.user_knn, "item": baselines.item_knn}


def random_weights(seed: int, users: int = 40, items: int = 30) -> Dense:
    """Weights that are mostly 0, tie often, and are negative now and then; the first user and item have none."""
    generator = np.random.default_rng(seed)
    weights = generator.choice([0, 0, 0, 1, 1, 2, -1], size=(users, items)).astype(np.float64)
    weights[0], weights[:, 0] = 0, 0
    weights[5] = weights[6]
    weights[:, 7] = weights[:, 8]
    return weights


def cosines(rows: Dense) -> Dense:
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    unit = rows / lengths
    return unit @ unit.T


def keep(similar: Dense, count: int) -> Dense:
    """Keep the `count` largest of each row that are above 0, with ties."""
    edge = np.sort(similar, axis=1)[:, -count][:, None] if count < similar.shape[1] else 0
    return np.where((similar >= edge * (1 - 1e-6)) & (similar > 0), similar, 0)


def naive_scores(name: str, weights: Dense, neighbors: int) -> Dense:
    if name == "item":
        return weights @ keep(cosines(weights.T), neighbors)
    similar = cosines(weights)
    np.fill_diagonal(similar, 0)
    return keep(similar, neighbors) @ weights


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("neighbors", [3, 10, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_those_of_dense_numpy(name: str, neighbors: int, seed: int) -> None:
    weights = random_weights(seed)
    users = np.array([3, 5, 6, 0, 39])

    scores = MAKERS[name](sparse.csr_array(weights.astype(np.float32)), neighbors)(users)

    assert scores.toarray() == pytest.approx(naive_scores(name, weights, neighbors)[users], abs=1e-4)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("block_bytes", [1, 2**28])
def test_lists_are_in_order_and_leave_out_items_that_are_not_eligible(
    name: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "BLOCK_BYTES", block_bytes)
    weights = random_weights(4)
    users = np.arange(1, 40)
    hidden = sparse.csr_array((weights > 1).astype(np.float32))

    lists = baselines.top_lists(
        MAKERS[name](sparse.csr_array(weights.astype(np.float32)), 5), users, Eligibility(hidden, [9, 10]), 6
    )

    scores = naive_scores(name, weights, 5)[users]
    scores[(weights > 1)[users]] = 0
    scores[:, [9, 10]] = 0
    for row, found in zip(scores, lists, strict=True):
        shown = found[found >= 0]
        best = np.sort(row[row > 1e-6])[::-1][:6]
        assert len(set(shown)) == len(shown) == len(best)
        assert row[shown] == pytest.approx(best, abs=1e-4)


def test_ties_go_to_the_smaller_item_number() -> None:
    scores = sparse.csr_array(np.array([[0, 2, 1, 2, 2, 0, 3]], dtype=np.float32))

    lists = baselines.top_lists(
        lambda users: scores[users], np.array([0]), Eligibility(sparse.csr_array(scores.shape)), 3
    )

    assert lists.tolist() == [[6, 1, 3]]


def test_popularity_is_the_number_of_users_and_leaves_out_items_that_are_not_eligible() -> None:
    touched = np.array([[0, 1, 1, 1, 0, 1], [0, 1, 1, 0, 0, 1], [0, 0, 1, 5, 0, 1]], dtype=np.float32)
    hidden = sparse.csr_array(np.array([[0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0]]))

    lists = baselines.popularity(sparse.csr_array(touched), np.arange(3), Eligibility(hidden, [5]), 2)

    assert lists.tolist() == [[1, 3], [-1, -1], [2, 1]]
