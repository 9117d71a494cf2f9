"""Items that a model predicts more often than people choose them lose by the recount of degrees."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from recdb.learn import Params, fit_item_neighbors, recount, to_matrix
from recdb.learn.limits import Rows

PLAIN = Params(item_neighbors=6, self_weight=1.0, spectral_weight=0.0, recount_exponent=0.0)


def some_rows(users: int = 60, items: int = 30, seed: int = 0) -> Rows:
    """Rows of users who choose some items more often than others, and of as many sessions."""
    generator = np.random.default_rng(seed)
    chosen = generator.random((2 * users, items)) < np.linspace(0.5, 0.05, items)
    chosen[0] = chosen[:, -1] = False
    weights = np.where(chosen, generator.uniform(0.2, 2, chosen.shape), 0).astype(np.float32)
    return Rows(sparse.csr_array(weights), generator.uniform(0.3, 1, 2 * users).astype(np.float32), users)


def learned(rows: Rows, params: Params) -> np.ndarray:
    return to_matrix(fit_item_neighbors(rows, params), rows.weights.shape[1]).toarray().astype(np.float64)


@pytest.mark.parametrize("learner", ["cooccurrence", "ease"])
def test_weights_are_divided_by_the_degrees_with_the_best_predictions(learner: str) -> None:
    """N_ji ((k_i + 1) / (k_i + 1 + q_i))^g, q_i: how many get i among their best fifth as many as they have, less 1."""
    rows = some_rows()
    plain, counted = (learned(rows, replace(PLAIN, learner=learner, recount_exponent=g)) for g in (0.0, 0.7))

    users = rows.weights.toarray().astype(np.float64)[: rows.users]
    predicted = np.zeros(users.shape[1])
    for user in users[users.any(axis=1)]:
        scores = np.where(user == 0, user @ plain, 0)
        best = np.argsort(-scores)[: max(1, round(0.2 * np.count_nonzero(user)))]
        predicted[best[scores[best] > 0]] += 1
    have = np.count_nonzero(users, axis=0) + 1
    expected = plain * (have / (have + np.maximum(predicted - 1, 0))) ** 0.7

    assert (predicted > 1).any()
    np.testing.assert_allclose(counted, expected, rtol=1e-4, atol=1e-9)


def test_one_user_alone_makes_no_item_lose() -> None:
    rows = some_rows(users=2)
    params = replace(PLAIN, recount_exponent=1.0)

    np.testing.assert_array_equal(learned(rows, params), learned(rows, PLAIN))


@pytest.mark.parametrize("learner", ["cooccurrence", "ease"])
def test_the_neighbours_of_some_items_are_recounted_like_those_of_all(learner: str) -> None:
    rows, some = some_rows(seed=1), np.array([2, 3, 11, 29])
    params = replace(PLAIN, learner=learner, recount_exponent=0.5)
    whole = learned(rows, params)
    found = to_matrix(fit_item_neighbors(rows, params, sources=some), whole.shape[1]).toarray()

    np.testing.assert_allclose(found[some], whole[some], rtol=1e-5)
    assert not np.delete(found, some, axis=0).any()


def test_a_sample_of_many_users_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(users=600, seed=2)
    params = replace(PLAIN, recount_exponent=0.5)
    whole = learned(rows, params)

    monkeypatch.setattr(recount, "MOST_USERS", 300)

    half = learned(rows, params)
    assert not np.array_equal(half, whole)
    np.testing.assert_allclose(half[whole != 0], whole[whole != 0], rtol=0.15)


def test_nothing_is_recounted_where_nobody_has_anything() -> None:
    rows = some_rows()
    empty = Rows(rows.weights[:0], rows.counts[:0], 0)

    assert not learned(empty, replace(PLAIN, recount_exponent=0.5)).any()
