"""Item neighbours by spectral filters and by EASE are those of the papers' formulas, computed densely."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from recdb.errors import InvalidInput
from recdb.learn import Interactions, Params, fit_item_neighbors, item_neighbors, to_matrix
from recdb.learn.filters import FILTERS, find_spectrum
from recdb.learn.limits import Rows
from recdb.learn.params import NAMES

Dense = NDArray[np.float64]
PLAIN = Params(
    item_neighbors=100, self_weight=0.0, source_exponent=0.5, target_exponent=0.5, spectral_weight=0.0,
    spectral_filter="ideal", spectral_rank=100, recount_exponent=0.0,
)  # fmt: skip


def some_rows(users: int = 40, items: int = 25, seed: int = 0) -> Rows:
    """Rows of users who have some items of two tastes each, of different weights; the last item is unknown."""
    generator = np.random.default_rng(seed)
    taste = np.add.outer(np.arange(users), np.arange(items)) % 2
    occurs = generator.random((users, items)) < np.where(taste, 0.3, 0.04)
    occurs[:, -1] = False
    rows, columns = np.nonzero(occurs)
    known = Interactions.sort(
        rows.astype(np.int32),
        columns.astype(np.int32),
        generator.uniform(0.2, 2, len(rows)).astype(np.float32),
        np.ones(len(rows), dtype=np.int16),
        np.zeros(len(rows), dtype=np.int32),
    )
    weights = replace(known, shape=(users, items)).matrix()
    return Rows(weights, generator.uniform(0.3, 1, users).astype(np.float32))


def learned(rows: Rows, params: Params) -> Dense:
    found: Dense = to_matrix(fit_item_neighbors(rows, params), rows.weights.shape[1]).toarray().astype(np.float64)
    return found


def power(sums: Dense, exponent: float) -> Dense:
    return np.where(sums > 0, np.where(sums > 0, sums, 1.0) ** exponent, 0)


def normalized(rows: Rows, user: float, item: float) -> tuple[Dense, Dense]:
    """R = sqrt(c) D_r^-user W D_i^-item, and d."""
    weights = rows.weights.toarray().astype(np.float64)
    item_sums = rows.counts @ weights
    by_row = np.sqrt(rows.counts) * power(weights.sum(axis=1), -user)
    return by_row[:, None] * weights * power(item_sums, -item), item_sums


def of_matrix(matrix: Dense, function: Callable[[Dense], Dense], rank: int = 1000) -> Dense:
    """A function of a symmetric matrix: of its largest eigenvalues, in units of the largest."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    kept = np.argsort(eigenvalues)[::-1][:rank]
    kept = kept[eigenvalues[kept] > 1e-9 * eigenvalues.max()]
    found: Dense = (vectors[:, kept] * function(eigenvalues[kept] / eigenvalues.max())) @ vectors[:, kept].T
    return found


def without_diagonal(matrix: Dense) -> Dense:
    return matrix * (1 - np.eye(len(matrix)))


def test_the_ideal_filter_is_that_of_gf_cf() -> None:
    """GF-CF: R'R + w D^-1/2 V V' D^1/2, with R = D_u^-1/2 W D_i^-1/2, where its R'R has D^-1/2 and D^1/2 around it."""
    rows = some_rows()
    params = replace(
        PLAIN, item_user_exponent=0.5, source_exponent=1.0, target_exponent=0.0, spectral_weight=0.3, spectral_rank=6
    )
    scaled, sums = normalized(rows, 0.5, 0.5)
    both = scaled.T @ scaled
    largest = np.linalg.eigvalsh(both).max()
    expected = power(sums, -0.5)[:, None] * (both + 0.3 * largest * of_matrix(both, np.ones_like, 6)) * power(sums, 0.5)

    np.testing.assert_allclose(learned(rows, params), without_diagonal(expected), atol=2e-4)


def test_the_second_order_filter_takes_the_square_off() -> None:
    """N = P - w P^2 / u, with u the largest eigenvalue, symmetric for x = y."""
    rows = some_rows(seed=1)
    params = replace(PLAIN, spectral_weight=0.6, spectral_filter="second-order", item_user_exponent=0.3)
    scaled, _ = normalized(rows, 0.3, 0.5)
    both = scaled.T @ scaled
    expected = both - 0.6 * both @ both / np.linalg.eigvalsh(both).max()

    np.testing.assert_allclose(learned(rows, params), without_diagonal(expected), atol=1e-4)


@pytest.mark.parametrize("steepness", [0.5, 1.0, 2.0, 4.0])
def test_the_chebyshev_filter_is_a_plateau_and_the_ideal_one(steepness: float) -> None:
    """D^-e (1/2 -+ 1/2 |1 - 2 l|^p + w) D^e of P: what P itself adds is taken off again."""
    rows = some_rows(seed=2)
    params = replace(
        PLAIN, spectral_weight=0.2, spectral_filter="chebyshev", spectral_power=steepness, source_exponent=0.9,
        target_exponent=0.1,
    )  # fmt: skip
    scaled, sums = normalized(rows, 0.25, 0.5)
    both = scaled.T @ scaled

    def plateau(eigenvalues: Dense) -> Dense:
        below = 0.5 - 0.5 * np.abs(1 - 2 * eigenvalues) ** steepness
        return np.where(eigenvalues < 0.5, below, 1 - below) + 0.2

    filtered = of_matrix(both, plateau) * np.linalg.eigvalsh(both).max()
    expected = power(sums, -0.4)[:, None] * filtered * power(sums, 0.4)
    np.testing.assert_allclose(learned(rows, params), without_diagonal(expected), atol=3e-4)


def test_the_ridge_filter_is_the_regression_of_items_on_items() -> None:
    """P (P + rho I)^-1 rho, rho = u / w, which is EASE without its constraint."""
    rows = some_rows(seed=3)
    params = replace(PLAIN, spectral_weight=12.0, spectral_filter="ridge")
    scaled, _ = normalized(rows, 0.25, 0.5)
    both = scaled.T @ scaled
    rho = np.linalg.eigvalsh(both).max() / 12
    expected = both @ np.linalg.inv(both + rho * np.eye(len(both))) * rho

    np.testing.assert_allclose(learned(rows, params), without_diagonal(expected), atol=1e-4)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_recommends_items_that_never_occurred_together(name: str) -> None:
    rows = some_rows(seed=4)
    params = replace(PLAIN, spectral_weight=0.5, spectral_filter=name, spectral_rank=4)
    occurs = (rows.weights != 0).toarray().astype(int)
    apart = occurs.T @ occurs == 0

    plain, filtered = learned(rows, PLAIN), learned(rows, params)

    assert not plain[apart].any()
    assert filtered[apart].any()
    assert not filtered[-1].any() and not filtered[:, -1].any(), "nobody knows the last item"


@pytest.mark.parametrize("name", FILTERS)
def test_with_very_many_items_a_filter_weighs_those_that_occur_together(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = some_rows(seed=5)
    params = replace(PLAIN, spectral_weight=0.5, spectral_filter=name, spectral_rank=4, self_weight=2.0)
    everywhere, together = learned(rows, params), learned(rows, PLAIN) != 0

    monkeypatch.setattr(item_neighbors, "FILTERED_ITEMS", 3)

    expected = np.where(together | np.eye(len(together), dtype=bool), everywhere, 0)
    np.testing.assert_allclose(learned(rows, params), expected, atol=1e-5)


@pytest.mark.parametrize("name", FILTERS)
def test_each_item_keeps_its_strongest_neighbours_and_itself(name: str) -> None:
    rows = some_rows(seed=6)
    params = replace(PLAIN, spectral_weight=0.5, spectral_filter=name, self_weight=2.0)
    whole, cut = learned(rows, params), learned(rows, replace(params, item_neighbors=5))

    for item, (row, kept) in enumerate(zip(whole, cut, strict=True)):
        assert kept[item] == pytest.approx(row[item])
        strongest = np.sort(np.abs(np.delete(row, item)))[::-1][:5]
        np.testing.assert_allclose(np.sort(np.abs(np.delete(kept, item)))[::-1][:5], strongest, atol=1e-6)
        assert np.count_nonzero(np.delete(kept, item)) <= 5


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_ease_with_dropout_regularizes_what_is_dropped_most(dropout: float) -> None:
    """EDLAE (Steck 2020): N = -P / diag(P), P = (G + lambda I + p / (1 - p) diag(G))^-1."""
    rows = some_rows(seed=7)
    params = replace(PLAIN, learner="ease", ease_dropout=dropout, ease_regularization=0.4, target_exponent=0.2)
    scaled, sums = normalized(rows, 0.25, 0.2)
    gram = scaled.T @ scaled
    added = 0.4 * np.trace(gram) / np.count_nonzero(sums) * np.eye(len(gram))
    inverse = np.linalg.inv(gram + added + dropout / (1 - dropout) * np.diag(np.diag(gram)))

    np.testing.assert_allclose(learned(rows, params), without_diagonal(-inverse / np.diag(inverse)), atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_ease_of_all_eigenvectors_is_exact_and_of_few_is_close(monkeypatch: pytest.MonkeyPatch, dropout: float) -> None:
    rows = some_rows(users=300, items=60, seed=8)
    params = replace(PLAIN, learner="ease", ease_dropout=dropout, self_weight=0.5, spectral_rank=60)
    exact = learned(rows, params)

    monkeypatch.setattr(item_neighbors, "EASE_ITEMS", 10)

    np.testing.assert_allclose(learned(rows, params), exact, atol=2e-4)
    few = learned(rows, replace(params, spectral_rank=20))
    assert np.corrcoef(few.ravel(), exact.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("recount", [0.0, 0.5])
def test_weights_that_are_solved_again_are_the_regression_on_the_kept_neighbours(
    dropout: float, recount: float
) -> None:
    """SLIM with the choice of EASE: of item i on S, those that keep it and itself, (G + L)_SS^-1 G_Si."""
    rows = some_rows(seed=12)
    params = replace(
        PLAIN, learner="ease", ease_dropout=dropout, ease_regularization=0.4, target_exponent=0.2, self_weight=0.5
    )
    cut, again = (learned(rows, replace(params, item_neighbors=5, ease_refit=value)) for value in (0, 1))
    scaled, sums = normalized(rows, 0.25, 0.2)
    gram = scaled.T @ scaled
    added = 0.4 * np.trace(gram) / np.count_nonzero(sums) + dropout / (1 - dropout) * np.diag(gram)

    expected = np.diag(np.diag(cut))
    for item, kept in enumerate((without_diagonal(cut) != 0).T):
        chosen = np.append(np.flatnonzero(kept), item)
        solved = np.linalg.solve((gram + np.diag(added))[np.ix_(chosen, chosen)], gram[chosen, item])
        expected[kept, item] = solved[:-1]

    np.testing.assert_allclose(again, expected, atol=1e-4)
    assert np.abs(again - cut).max() > 0.01
    recounted = learned(rows, replace(params, item_neighbors=5, ease_refit=1, recount_exponent=recount))
    assert np.array_equal(recounted != 0, again != 0)
    assert np.allclose(recounted, again) == (recount == 0)


def test_a_regression_of_too_many_variables_has_those_of_the_largest_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all neighbours kept, it scales EASE's weights of an item by one factor."""
    rows = some_rows(seed=13)
    params = replace(PLAIN, learner="ease", target_exponent=0.2)
    cut, whole = learned(rows, params), learned(rows, replace(params, ease_refit=1))
    known = np.abs(cut).sum(axis=0) > 0
    factors = np.abs(whole).sum(axis=0)[known] / np.abs(cut).sum(axis=0)[known]
    np.testing.assert_allclose(whole[:, known], cut[:, known] * factors, atol=1e-4)

    monkeypatch.setattr("recdb.learn.refit.MOST_SOURCES", 15)
    again = learned(rows, replace(params, ease_refit=1))

    assert 0 < np.abs(again - whole).max() < 0.3 * np.abs(whole).max()
    assert np.corrcoef(again.ravel(), whole.ravel())[0, 1] > 0.95


def test_the_neighbours_of_some_items_are_learned_alone() -> None:
    rows = some_rows(seed=9)
    some = np.array([2, 3, 11, 24])
    ease = replace(PLAIN, learner="ease")
    for params in (PLAIN, replace(PLAIN, spectral_weight=1.0), ease, replace(ease, ease_refit=1, item_neighbors=5)):
        whole = learned(rows, params)
        found = to_matrix(fit_item_neighbors(rows, params, sources=some), whole.shape[1]).toarray()

        np.testing.assert_allclose(found[some], whole[some], atol=1e-6)
        assert not np.delete(found, some, axis=0).any()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("rank", [2, 100])
def test_a_filter_links_no_items_that_no_user_connects(name: str, rank: int) -> None:
    """Two shops in one database, and pairs of items that are alike: an eigenvector of equal eigenvalues mixes them."""
    one = some_rows(users=30, items=12, seed=11)
    pairs = sparse.csr_array(np.kron(np.eye(8), np.ones((2, 2))))
    weights = sparse.csr_array(sparse.block_diag([one.weights, one.weights, pairs], format="csr", dtype=np.float32))
    rows = Rows(weights, np.ones(weights.shape[0], dtype=np.float32))
    params = replace(PLAIN, spectral_weight=0.5, spectral_filter=name, spectral_rank=rank)

    found = learned(rows, params)

    connected = np.kron(np.eye(8), np.ones((2, 2)))
    assert not found[24:, 24:][connected == 0].any() and found[24, 25] != 0
    assert not found[:12, 12:].any() and not found[12:24, 24:].any() and not found[24:, :24].any()


def test_one_spectrum_serves_every_lower_rank_and_each_filter() -> None:
    rows = some_rows(users=300, items=60, seed=10)
    spectrum = find_spectrum(rows, PLAIN, 40)
    for name in FILTERS:
        params = replace(PLAIN, spectral_weight=0.4, spectral_filter=name, spectral_rank=2)
        given = to_matrix(fit_item_neighbors(rows, params, spectrum=spectrum), 60).toarray()

        np.testing.assert_allclose(given, learned(rows, params), atol=2e-3 * np.abs(given).max())


def test_nothing_is_learned_from_nothing() -> None:
    empty = some_rows()
    empty = Rows(empty.weights[:0], empty.counts[:0])
    for learner in NAMES["learner"]:
        params = replace(PLAIN, learner=learner, spectral_weight=0.4)
        assert learned(empty, params).sum() == 0


def test_a_gram_matrix_that_rounding_made_indefinite_is_inverted_all_the_same() -> None:
    """Two items that always occur together, and next to no regularization."""
    gram = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-5]], dtype=np.float32)

    inverse = item_neighbors.inverted(gram.copy())

    np.testing.assert_allclose(inverse @ gram, np.eye(2), atol=0.1)


def test_parameters_of_older_versions_load() -> None:
    old = {"learner": "cooccurrence", "spectral_weight": 0.03, "source_exponent": 0.7, "dimension": 64}

    params = Params.of_version(old)

    assert (params.spectral_weight, params.spectral_filter, params.ease_dropout) == (0.03, "ideal", 0.0)
    assert params.recount_exponent == 0.0
    assert Params.of_version({"dimension": 64}).spectral_weight == 0.0
    assert Params.of_version(Params().to_json()) == Params()
    assert set(NAMES["spectral_filter"]) == set(FILTERS)


def test_an_unknown_filter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="spectral_filter is 'median', and must be 'ideal' or 'second-order' or"):
        Params(spectral_filter="median")
