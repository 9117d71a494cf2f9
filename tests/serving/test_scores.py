"""The scores are exactly those of the formulas, and so is everything that was learned for them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pytest
from support import reference
from support.data import column, record, tastes, train
from support.neighbors import cooccurrences, ease

from recdb.database import Database

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "equal kinds": {
        "people_weight_exponent": 0.0,
        "neighbor_weight_exponent": 0.0,
        "item_weight_exponent": 0.0,
        "profile_weight_exponent": 0.0,
    },
    "each exponent another": {
        "people_weight_exponent": 1.0,
        "neighbor_weight_exponent": 0.3,
        "item_weight_exponent": 0.7,
        "profile_weight_exponent": 1.5,
    },
    "people only": {"blend": 1.0, "neighbors": 7, "people_recency": 1.5},
    "people whatever their age": {"blend": 1.0, "people_recency": 0.0},
    "items only": {"blend": 0.0, "item_neighbors": 9, "profile_recency": 1.5},
    "items whatever their age": {"blend": 0.0, "profile_recency": 0.0},
    "between": {"blend": 0.6, "neighbors": 5, "similarity_exponent": 3.5},
    "quiet neighbours first": {"blend": 0.7, "activity_exponent": 0.5, "neighbor_weight_exponent": 1.0},
    "narrow basis": {"dimension": 6, "spectrum_exponent": 0.5, "basis_user_exponent": 0.5, "basis_item_exponent": 0.1},
    "no sessions": {"session_weight": 0.0},
    "never for themselves": {"self_weight": 0.0},
    "spectral": {"spectral_weight": 0.5, "cooccurrence_power": 0.7, "source_exponent": 0.3, "target_exponent": 0.8},
    "ridge": {"spectral_weight": 9.0, "spectral_filter": "ridge", "source_exponent": 0.6, "target_exponent": 0.2},
    "ease": {"learner": "ease", "item_neighbors": 30, "ease_dropout": 0.5},
    "ease, solved again": {"learner": "ease", "item_neighbors": 9, "ease_refit": 1},
    "recounted": {"recount_exponent": 1.0},
    "ease without sessions": {"learner": "ease", "session_weight": 0.0, "self_weight": 0.0, "blend": 0.0},
}

VARIANTS: dict[str, str] = {
    "every kind hides": "",
    "views come back": "update recdb.interaction_kind set hides = false where kind in ('view', 'click')",
    "dislikes": "insert into recdb.interaction_kind values ('dislike', -0.437, true)",
    "fading": "update recdb.config set half_life = '20 days'",
    "capped": "update recdb.config set profile_limit = 6",
    "learned from little": "update recdb.config set profile_limit = 6, training_limit = 8",
    "no times": "alter table recdb.interaction alter created_at set default '2024-01-01'",
    # Content has no formula here.
    "catalogue": """
        update recdb.config set content_share = 0;
        insert into recdb.item (item_id, owner_id, available, attributes)
        select 'i' || n, 'u' || n % 9, n % 4 <> 0, jsonb_build_object('parity', n % 2) from generate_series(0, 40) n""",
}


def random_rows(seed: int, kinds: tuple[str, ...] = ("dislike", "unheard-of")) -> list[list[str]]:
    """Interactions by taste, some repeated with other kinds, each with a time: users visit for an hour now and then."""
    generator = np.random.default_rng(seed)
    rows = tastes(users=30, items=45, per_user=9, seed=seed)
    for position in generator.choice(len(rows), size=120):
        user, item, _ = rows[position]
        rows.append([user, item, str(generator.choice(["view", "share", *kinds]))])
    return [
        [*row, f"2024-0{month}-{day:02} 12:{minute:02}:00+00"]
        for row, month, day, minute in zip(
            rows,
            generator.integers(1, 4, size=len(rows)),
            generator.choice([3, 20], size=len(rows)),
            generator.integers(60, size=len(rows)),
            strict=True,
        )
    ]


def store(connection: psycopg.Connection, rows: list[list[str]], variant: str = "every kind hides") -> None:
    """Store interactions in a database of this variant."""
    if VARIANTS[variant]:
        connection.execute(VARIANTS[variant])
    record(connection, [row[:3] for row in rows] if variant == "no times" else rows)


@pytest.fixture
def exact(database: Database) -> Iterator[psycopg.Connection]:
    """A connection on which no HNSW index is used, so that the neighbours are exact."""
    options = "-c enable_indexscan=off -c enable_bitmapscan=off"
    with psycopg.connect(database.conninfo, autocommit=True, options=options) as connection:
        yield connection


@pytest.fixture
def by_index(database: Database) -> Iterator[psycopg.Connection]:
    """A connection on which the HNSW index is used, even for few users."""
    options = "-c enable_seqscan=off -c enable_sort=off"
    with psycopg.connect(database.conninfo, autocommit=True, options=options) as connection:
        yield connection


def assert_ranks_as(expected: list[tuple[str, float]], found: list[tuple[str, float]]) -> None:
    """The items are the same with scores within 1e-3, in the same order if scores differ by more."""
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
    store(db, random_rows(seed=1))
    train(database, **SETTINGS[setting])
    expected = reference.read(db)

    for user in expected.users:
        assert_ranks_as(expected.recommend(user, 1000), ranked(exact, user))


@pytest.mark.parametrize("learner", ["cooccurrence", "ease"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_data_ranks_as_the_formulas_say(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, variant: str, learner: str
) -> None:
    store(db, random_rows(seed=2), variant)
    train(database, learner=learner, blend=0.5, neighbors=10)
    expected = reference.read(db)

    for user in expected.users:
        assert_ranks_as(expected.recommend(user, 1000), ranked(exact, user))


def test_new_events_are_folded_in_live_as_the_formulas_say(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection
) -> None:
    """Without any refresh, for a known user and for one that the training never saw; other users have not changed."""
    record(db, random_rows(seed=3))
    train(database)
    db.execute("insert into recdb.user_key (user_id) values ('newcomer')")
    trained = reference.read(db)
    record(db, [["u4", "i17", "share"], ["u4", "i3", "view"], ["newcomer", "i8", "like"], ["newcomer", "i2", "view"]])
    live = reference.read(db)

    for user_id in ("u4", "newcomer"):
        user = live.users.index(user_id)
        profiles = replace(
            live.profiles, weights=trained.profiles.weights.copy(), seconds=trained.profiles.seconds.copy()
        )
        profiles.weights[user], profiles.seconds[user] = live.profiles.weights[user], live.profiles.seconds[user]
        expected = replace(trained, profiles=profiles)
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
    """The other tests rely on this: one of the two connections uses an HNSW index, the other does not."""
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


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_stored_user_vectors_are_the_fold_in_of_the_stored_item_vectors(
    database: Database, db: psycopg.Connection, exponent: float
) -> None:
    """From the newest items up to the profile's limit, whatever their age."""
    store(db, random_rows(seed=6), "capped")
    train(database, people_weight_exponent=exponent, people_recency=1.0)
    expected = reference.read(db)

    for user, _ in enumerate(expected.users):
        folded = expected.stored(user)
        assert folded is not None
        np.testing.assert_allclose(expected.user_vectors[user], folded, atol=1e-3)


@pytest.mark.parametrize("variant", ["dislikes", "capped"])
def test_the_total_weight_is_the_sum_of_the_weights_that_a_neighbour_contributes(
    database: Database, db: psycopg.Connection, variant: str
) -> None:
    store(db, random_rows(seed=7), variant)
    train(database, activity_exponent=0.4, neighbor_weight_exponent=0.8, people_weight_exponent=0.3)
    expected = reference.read(db)

    stored = dict(db.execute("select user_id, total_weight from recdb.user_vectors").fetchall())
    for user, user_id in enumerate(expected.users):
        assert stored[user_id] == pytest.approx(expected.total_weight(user), rel=1e-4)


@pytest.mark.parametrize(
    ("spectrum_exponent", "variant"), [(0.0, "dislikes"), (0.5, "capped"), (0.3, "learned from little")]
)
def test_item_vectors_are_the_leading_singular_vectors_over_their_exponents(
    database: Database, db: psycopg.Connection, spectrum_exponent: float, variant: str
) -> None:
    """b_i = d_i^-b V_i S^-p, up to the sign and the common scale: compared by their inner products."""
    store(db, random_rows(seed=8), variant)
    train(database, dimension=8, basis_user_exponent=0.5, basis_item_exponent=0.25, spectrum_exponent=spectrum_exponent)
    learned = reference.read(db)

    singular, right, by_item = decompose(learned)
    vectors = by_item[:, None] * right * singular**-spectrum_exponent
    vectors *= 1000 / np.linalg.norm(vectors, axis=1).max()
    products = learned.item_vectors @ learned.item_vectors.T
    np.testing.assert_allclose(products, vectors @ vectors.T, atol=2e-3 * 1000**2)


def decompose(learned: reference.Reference) -> tuple[reference.Array, reference.Array, reference.Array]:
    """Decompose D_u^-a W D_i^-b: its largest singular values, their right vectors (items, dimension), and d_i^-b."""
    weights = reference.limit_masses(
        learned.learned_from("people_weight_exponent"), learned.params["basis_user_exponent"], 0.98
    )
    by_user = reference.inverse_power(np.abs(weights).sum(axis=1), learned.params["basis_user_exponent"])
    by_item = reference.inverse_power(np.abs(weights).sum(axis=0), learned.params["basis_item_exponent"])
    _, singular, right = np.linalg.svd(by_user[:, None] * weights * by_item, full_matrices=False)
    dimension = learned.params["dimension"]
    return singular[:dimension], right[:dimension].T, by_item


LEARNERS: dict[str, dict[str, Any]] = {
    "users' rows": {"session_weight": 0.0, "self_weight": 0.0},
    "sessions' rows too": {"session_weight": 50.0, "self_weight": 1.0},
    "from a source to a target": {"source_exponent": 0.8, "target_exponent": 0.3, "item_user_exponent": 0.4},
    "longer sessions": {"session_gap": 1800.0, "session_weight": 3.0, "item_weight_exponent": 1.0},
    "damped": {"cooccurrence_power": 0.7, "self_weight": 8.0, "item_weight_exponent": 0.0},
    "ideal": {"spectral_weight": 0.3, "cooccurrence_power": 0.8, "self_weight": 0.5, "session_weight": 2.0},
    "ideal, as GF-CF": {
        "spectral_weight": 0.3, "spectral_rank": 6, "item_user_exponent": 0.5, "source_exponent": 1.0,
        "target_exponent": 0.0, "session_weight": 0.0, "self_weight": 0.0,
    },
    "second-order": {"spectral_weight": 0.6, "spectral_filter": "second-order", "session_weight": 3.0},
    "chebyshev": {
        "spectral_weight": 0.2, "spectral_filter": "chebyshev", "spectral_power": 3.0, "item_user_exponent": 0.5,
        "source_exponent": 0.9, "target_exponent": 0.1, "session_weight": 0.0,
    },
    "ridge": {"spectral_weight": 12.0, "spectral_filter": "ridge", "source_exponent": 0.4, "target_exponent": 0.6},
    "ease": {"learner": "ease", "self_weight": 0.0, "session_weight": 0.0},
    "ease with sessions": {"learner": "ease", "self_weight": 2.0, "session_weight": 50.0, "target_exponent": 0.3},
    "ease, regularized": {"learner": "ease", "ease_regularization": 20.0, "item_weight_exponent": 1.0},
    "ease with dropout": {"learner": "ease", "ease_dropout": 0.4, "session_weight": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("variant", ["dislikes", "learned from little", "no times"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_item_neighbours_are_the_strongest_that_the_formulas_give(
    database: Database, db: psycopg.Connection, learner: str, variant: str
) -> None:
    store(db, random_rows(seed=9), variant)
    if variant == "dislikes":
        db.execute(VARIANTS["views come back"])
    train(database, dimension=8, item_neighbors=12, recount_exponent=0.0, **LEARNERS[learner])
    learned = reference.read(db)
    expected = ease(learned) if learned.params["learner"] == "ease" else cooccurrences(learned)

    largest = np.abs(expected).max()
    for item, (row, found) in enumerate(zip(expected, learned.item_neighbors, strict=True)):
        assert found[item] == pytest.approx(row[item], rel=2e-3, abs=1e-5 * largest)
        others, kept = np.delete(row, item), np.delete(found, item)
        strengths = np.sort(np.abs(others))[::-1]
        np.testing.assert_allclose(kept[kept != 0], others[kept != 0], rtol=2e-3, atol=1e-5 * largest)
        assert np.count_nonzero(kept) == min(12, np.count_nonzero(np.abs(others) > 1e-6 * largest))
        assert np.abs(others[kept == 0]).max() <= strengths[11] + 1e-5 * largest
