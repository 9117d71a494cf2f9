"""The ranking metrics, on lists small enough to score by hand."""

import numpy as np
import pytest

from recdb.offline.metrics import (
    Truth,
    confidence_interval,
    confidence_intervals,
    list_metrics,
    score_lists,
    user_metrics,
)

HITS = np.array([[True, False, True, False], [False, False, False, False], [False, True, False, False]])


def test_the_metrics_are_their_formulas() -> None:
    scored = user_metrics(HITS, np.array([2, 1, 5]), 3)

    second, third = 1 / np.log2(3), 1 / np.log2(4)
    assert scored["recall@3"] == pytest.approx([2 / 2, 0, 1 / 5])
    assert scored["precision@3"] == pytest.approx([2 / 3, 0, 1 / 3])
    assert scored["hit_rate@3"] == pytest.approx([1, 0, 1])
    assert scored["mrr@3"] == pytest.approx([1, 0, 1 / 2])
    assert scored["ndcg@3"] == pytest.approx([(1 + third) / (1 + second), 0, second / (1 + second + third)])


def test_only_the_first_k_places_count() -> None:
    assert user_metrics(HITS, np.array([2, 1, 5]), 1)["recall@1"] == pytest.approx([1 / 2, 0, 0])


def test_more_places_than_were_returned_are_misses() -> None:
    assert user_metrics(HITS, np.array([2, 1, 5]), 10)["precision@10"] == pytest.approx([2 / 10, 0, 1 / 10])


def test_a_perfect_list_has_ndcg_1_however_many_items_are_relevant() -> None:
    perfect = np.ones((3, 5), dtype=np.bool_)
    assert user_metrics(perfect, np.array([5, 6, 50]), 5)["ndcg@5"] == pytest.approx([1, 1, 1])


def test_coverage_novelty_and_service_are_those_of_all_lists() -> None:
    lists = np.array([[1, 2], [1, -1], [-1, -1]])
    scored = list_metrics(lists, popularity=np.array([0, 4, 1, 2]), users=4, k=2)

    assert scored["coverage@2"] == pytest.approx(2 / 3)
    assert scored["novelty@2"] == pytest.approx((0 + 2 + 0) / 3)
    assert scored["served@2"] == pytest.approx(2 / 3)


def test_the_interval_is_around_the_mean_and_narrows_with_more_users() -> None:
    generator = np.random.default_rng(0)
    few, many = generator.random(50), generator.random(5000)

    for values in (few, many):
        low, high = confidence_interval(values)
        assert low < values.mean() < high
    assert np.diff(confidence_interval(many)) < np.diff(confidence_interval(few)) / 5


def test_intervals_of_several_metrics_are_those_of_each() -> None:
    values = np.random.default_rng(1).random((200, 3))

    together = confidence_intervals(values)

    assert together == pytest.approx(np.array([confidence_interval(values[:, metric]) for metric in range(3)]))


def test_lists_are_scored_at_every_k() -> None:
    truth = Truth([{"tea", "cup"}, {"pot", "never seen"}], {"tea": 1, "cup": 2, "pot": 3})
    lists = np.array([[1, 3, 2], [2, -1, -1]])

    scored = score_lists(lists, truth, np.array([0, 2, 2, 1]), 2, [1, 3], intervals=True)

    assert scored.means["recall@1"] == pytest.approx((1 / 2 + 0) / 2)
    assert scored.means["recall@3"] == pytest.approx((2 / 2 + 0) / 2)
    assert scored.means["coverage@1"] == pytest.approx(2 / 3)
    assert scored.means["coverage@3"] == pytest.approx(3 / 3)
    assert scored.intervals["recall@3"] == (0, 1)
    assert set(scored.without("coverage").means) == set(scored.means) - {"coverage@1", "coverage@3"}
