"""The scores are exactly what the formulas give, and so is everything that was learned for them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pytest
import reference
from data import column, record, tastes, train

from recdb.database import Database

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "equal kinds": {"weight_exponent": 0.0},
    "kinds as weighted": {"weight_exponent": 1.0},
    "people only": {"blend": 1.0, "neighbors": 7},
    "items only": {"blend": 0.0, "item_neighbors": 9},
    "between": {"blend": 0.3, "neighbors": 5, "similarity_exponent": 3.5, "activity_exponent": 0.0},
    "narrow basis": {"dimension": 6, "spectrum_exponent": 0.5, "user_exponent": 0.25, "item_exponent": 0.5},
    "no basis exponents": {"user_exponent": 0.0, "item_exponent": 0.0, "activity_exponent": 0.5},
    "plain counts": {"cooccurrence_power": 1.0, "spectral_weight": 0.0, "cooccurrence_exponent": 0.5},
    "items for themselves": {"self_weight": 1.0},
    "never for themselves": {"self_weight": 0.0},
}

VARIANTS: dict[str, str] = {
    "every kind hides": "",
    "views come back": "update recdb.interaction_kind set hides = false where kind in ('view', 'click')",
    "dislikes": "insert into recdb.interaction_kind values ('dislike', -0.437, true)",
    "fading": "update recdb.config set half_life = '20 days'",
    "capped": "update recdb.config set profile_limit = 6",
    "catalogue": """
        insert into recdb.item (item_id, owner_id, available, attributes)
        select 'i' || n, 'u' || n % 9, n % 4 <> 0, jsonb_build_object('parity', n % 2) from generate_series(0, 40) n""",
}


def random_rows(seed: int, kinds: tuple[str, ...] = ("dislike", "unheard-of")) -> list[list[str]]:
    """Tastes, repeats of some with other kinds, and a date for each."""
    generator = np.random.default_rng(seed)
    rows = tastes(users=30, items=45, per_user=9, seed=seed)
    for position in generator.choice(len(rows), size=120):
        user, item, _ = rows[position]
        rows.append([user, item, str(generator.choice(["view", "share", *kinds]))])
    days = generator.permutation(len(rows)) % 90
    return [
        [*row, f"2024-03-01 00:00:{second % 60:02}+00".replace("03-01", f"{1 + day // 30:02}-{1 + day % 28:02}")]
        for second, (row, day) in enumerate(zip(rows, days, strict=True))
    ]


@pytest.fixture
def exact(database: Database) -> Iterator[psycopg.Connection]:
    """A connection on which no HNSW index is used, so that the neighbours are the exact ones."""
    options = "-c enable_indexscan=off -c enable_bitmapscan=off"
    with psycopg.connect(database.conninfo, autocommit=True, options=options) as connection:
        yield connection


@pytest.fixture
def by_index(database: Database) -> Iterator[psycopg.Connection]:
    """A connection on which the HNSW index is used, however few users there are."""
    options = "-c enable_seqscan=off -c enable_sort=off"
    with psycopg.connect(database.conninfo, autocommit=True, options=options) as connection:
        yield connection


def assert_ranks_as(expected: list[tuple[str, float]], found: list[tuple[str, float]]) -> None:
    """The same items with scores within 1e-3, in the same order wherever scores differ by more."""
    scores = dict(expected)
    assert {item for item, _ in found} == set(scores)
    for item, score in found:
        assert score == pytest.approx(scores[item], abs=1e-3), item
    order = [scores[item] for item, _ in found]
    for earlier, later in pairwise(order):
        assert later <= earlier + 1e-3


def ranked(connection: psycopg.Connection, user: str) -> list[tuple[str, float]]:
    return connection.execute("select item_id, score from recommend(%s, 1000, '{}')", [user]).fetchall()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_hyperparameter_ranks_as_the_formulas_say(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, setting: str
) -> None:
    db.execute("update recdb.interaction_kind set hides = false where kind = 'view'")
    record(db, random_rows(seed=1))
    train(database, **SETTINGS[setting])
    expected = reference.read(db)

    for user in expected.users:
        assert_ranks_as(expected.recommend(user, 1000), ranked(exact, user))


@pytest.mark.parametrize("weight_exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_data_ranks_as_the_formulas_say(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, variant: str, weight_exponent: float
) -> None:
    if VARIANTS[variant]:
        db.execute(VARIANTS[variant])
    record(db, random_rows(seed=2))
    train(database, weight_exponent=weight_exponent, neighbors=10)
    expected = reference.read(db)

    for user in expected.users:
        assert_ranks_as(expected.recommend(user, 1000), ranked(exact, user))


def test_new_events_are_folded_in_live_as_the_formulas_say(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection
) -> None:
    """Without any refresh, for an old user and for one the training never saw: the others are as they were."""
    record(db, random_rows(seed=3))
    train(database)
    db.execute("insert into recdb.user_key (user_id) values ('newcomer')")
    trained = reference.read(db)
    record(db, [["u4", "i17", "share"], ["u4", "i3", "view"], ["newcomer", "i8", "like"], ["newcomer", "i2", "view"]])
    live = reference.read(db)

    for user_id in ("u4", "newcomer"):
        user = live.users.index(user_id)
        weights = trained.weights.copy()
        weights[user] = live.weights[user]
        expected = replace(trained, weights=weights, hidden=live.hidden)
        assert_ranks_as(expected.recommend(user_id, 1000), ranked(exact, user_id))


def test_exclude_and_filter_leave_what_the_formulas_say(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection
) -> None:
    db.execute(VARIANTS["catalogue"])
    record(db, random_rows(seed=4))
    train(database)
    expected = reference.read(db)

    for user in expected.users[:8]:
        exclude = [item for item, _ in expected.recommend(user, 3)]
        found = exact.execute(
            "select item_id, score from recommend(%s, 6, exclude => %s::text[], filter => '{\"parity\": 1}')",
            [user, exclude],
        ).fetchall()
        assert_ranks_as(expected.recommend(user, 6, exclude, {"parity": 1}), found)


def test_neighbours_are_exact_or_found_by_index_as_these_tests_want(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, by_index: psycopg.Connection
) -> None:
    """What the tests above and below rely on: which of their connections walks an HNSW index."""
    record(db, random_rows(seed=5))
    train(database)
    nearest = (
        "explain select user_key from recdb.user_vector where model_id = 1 "
        "order by embedding <=> (select embedding from recdb.user_vector limit 1) limit 5"
    )
    assert not any("embedding_idx" in line for line in column(exact.execute(nearest)))
    assert any("embedding_idx" in line for line in column(by_index.execute(nearest)))


def test_with_the_vector_index_95_percent_of_the_top_20_agree(
    database: Database, db: psycopg.Connection, by_index: psycopg.Connection
) -> None:
    record(db, tastes(users=1000, items=200, per_user=12, groups=8))
    train(database, neighbors=50)
    expected = reference.read(db)

    agreeing = 0
    users = expected.users[::40]
    for user in users:
        found = column(by_index.execute("select item_id from recommend(%s, 20, '{}')", [user]))
        assert len(found) == 20
        agreeing += len(set(found) & {item for item, _ in expected.recommend(user, 20)})
    assert agreeing >= 0.95 * 20 * len(users)


@pytest.mark.parametrize("weight_exponent", [0.0, 0.5, 1.0])
def test_stored_user_vectors_are_the_fold_in_of_the_stored_item_vectors(
    database: Database, db: psycopg.Connection, weight_exponent: float
) -> None:
    record(db, random_rows(seed=6))
    train(database, weight_exponent=weight_exponent)
    expected = reference.read(db)

    for user, _ in enumerate(expected.users):
        folded = expected.fold_in(expected.powered[user])
        assert folded is not None
        np.testing.assert_allclose(expected.user_vectors[user], folded, atol=1e-3)


def test_damping_is_the_users_summed_weight_to_minus_the_activity_exponent(
    database: Database, db: psycopg.Connection
) -> None:
    db.execute(VARIANTS["dislikes"])
    record(db, random_rows(seed=7))
    train(database, activity_exponent=0.4)
    expected = reference.read(db)

    stored = dict(db.execute("select user_id, damping from recdb.user_vectors").fetchall())
    for user, user_id in enumerate(expected.users):
        assert stored[user_id] == pytest.approx(np.abs(expected.powered[user]).sum() ** -0.4, rel=1e-4)


@pytest.mark.parametrize("spectrum_exponent", [0.0, 0.5])
def test_item_vectors_are_the_leading_singular_vectors_over_their_exponents(
    database: Database, db: psycopg.Connection, spectrum_exponent: float
) -> None:
    """b_i = d_i^-b V_i S^-p, up to the sign and the common scale: compared by their inner products."""
    record(db, random_rows(seed=8))
    train(database, dimension=8, user_exponent=0.5, item_exponent=0.25, spectrum_exponent=spectrum_exponent)
    learned = reference.read(db)

    _, singular, right, by_item = decompose(learned, user_exponent=0.5, item_exponent=0.25)
    vectors = by_item[:, None] * right[:8].T * singular[:8] ** -spectrum_exponent
    vectors *= 1000 / np.linalg.norm(vectors, axis=1).max()
    products = learned.item_vectors @ learned.item_vectors.T
    np.testing.assert_allclose(products, vectors @ vectors.T, atol=2e-3 * 1000**2)


def decompose(learned: reference.Reference, *, user_exponent: float, item_exponent: float) -> tuple[Any, ...]:
    """Take the full SVD of D_u^-a W D_i^-b; also return d_i^-b."""
    matrix = learned.powered
    by_user = reference.inverse_power(np.abs(matrix).sum(axis=1), user_exponent)
    by_item = reference.inverse_power(np.abs(matrix).sum(axis=0), item_exponent)
    return *np.linalg.svd(by_user[:, None] * matrix * by_item, full_matrices=False), by_item


@pytest.mark.parametrize(
    ("exponent", "power", "spectral_weight", "self_weight"),
    [(0.5, 1.0, 0.0, 0.0), (0.6, 0.8, 0.1, 0.5), (0.5, 0.7, 0.3, 2.0)],
)
def test_item_neighbours_are_the_strongest_cooccurrences(
    database: Database,
    db: psycopg.Connection,
    exponent: float,
    power: float,
    spectral_weight: float,
    self_weight: float,
) -> None:
    db.execute(VARIANTS["dislikes"])
    record(db, random_rows(seed=9))
    train(
        database,
        dimension=8,
        cooccurrence_exponent=exponent,
        cooccurrence_power=power,
        spectral_weight=spectral_weight,
        self_weight=self_weight,
        item_neighbors=12,
    )
    learned = reference.read(db)

    matrix = learned.powered
    item_sums = np.abs(matrix).sum(axis=0)
    scaled = (
        reference.inverse_power(np.abs(matrix).sum(axis=1), exponent)[:, None]
        * matrix
        * reference.inverse_power(item_sums, 1 - exponent)
    )
    _, _, right, _ = decompose(learned, user_exponent=0.5, item_exponent=0.25)
    spectral = right[:8].T @ right[:8] * np.sqrt(item_sums / item_sums[:, None])
    expected = reference.signed_power(scaled.T @ scaled, power) + spectral_weight * spectral
    np.fill_diagonal(expected, 0)
    np.fill_diagonal(expected, self_weight * np.abs(expected).max(axis=1))

    for item in range(len(learned.items)):
        strengths = np.sort(np.abs(expected[item]))[::-1]
        kept = learned.item_neighbors[item] != 0
        np.testing.assert_allclose(learned.item_neighbors[item][kept], expected[item][kept], rtol=2e-3, atol=2e-4)
        assert np.abs(expected[item][~kept]).max() <= strengths[11] + 1e-3
        assert kept.sum() <= 12
