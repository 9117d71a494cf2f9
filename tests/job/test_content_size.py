"""The size of new items' scores: what they cost known items is bounded, and they count more if users choose them."""

import numpy as np
import pytest

from recdb.learn.content_size import PLACES, RELEVANCE, best_size, highest, size_losing

USERS, KNOWN, NEW = 300, 60, 15


@pytest.fixture(scope="module")
def scores() -> tuple[np.ndarray, np.ndarray]:
    """The scores of new items, on a scale of their own, and those of known ones."""
    generator = np.random.default_rng(3)
    return (
        (generator.random((USERS, NEW)) * 700).astype(np.float32),
        generator.random((USERS, KNOWN)).astype(np.float32),
    )


def known_ndcg(new: np.ndarray, known: np.ndarray) -> float:
    """The expected dcg of known items in lists of both; that at rank r of known ones is relevant by r^-RELEVANCE."""
    found = 0.0
    for row in range(len(known)):
        order = np.argsort(-known[row])
        rank_alone = {item: rank for rank, item in enumerate(order[:PLACES])}
        together = np.argsort(-np.r_[known[row], new[row]])[:PLACES]
        for place, item in enumerate(together):
            if item in rank_alone:
                found += (rank_alone[item] + 1) ** -RELEVANCE / np.log2(place + 2)
    return found


@pytest.mark.parametrize("share", [0.002, 0.02, 0.2])
def test_new_items_cost_known_ones_the_share(scores: tuple[np.ndarray, np.ndarray], share: float) -> None:
    new, known = scores
    size = size_losing(new, highest(known), share)
    cost = 1 - known_ndcg(new * size, known) / known_ndcg(new * 0 - 1, known)
    assert 0.7 * share < cost <= share * 1.001


def test_new_items_that_users_choose_count_more(scores: tuple[np.ndarray, np.ndarray]) -> None:
    new, known = scores
    sizes = np.geomspace(size_losing(new, highest(known), 0.002), size_losing(new, highest(known), 0.3), 9)
    chosen = np.full(USERS, 10.0)
    best_of_user = new == new.max(axis=1, keepdims=True)

    def size(relevant: np.ndarray) -> float:
        return best_size(new, relevant, highest(known), 0.1, chosen, sizes)

    assert size(np.zeros_like(best_of_user)) == sizes[0] < size(best_of_user)


def test_scores_of_nothing_have_no_size() -> None:
    nothing = np.zeros((USERS, NEW), dtype=np.float32)
    assert size_losing(nothing, np.ones((USERS, PLACES), dtype=np.float32), 0.1) == 0
