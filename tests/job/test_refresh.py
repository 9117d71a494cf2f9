"""CALL recdb.refresh(): changes of other users become visible, at the cost of these changes, and none gets lost."""

import numpy as np
import psycopg
import pytest
from support import reference
from support.data import recommend, record, tastes, train
from support.refreshing import log, refresh, track, weights

from recdb import job
from recdb.database import Database


def test_the_first_refresh_takes_everything_in(db: psycopg.Connection) -> None:
    record(db, [["u1", "i1", "view"]] * 10 + [["u1", "i2", "share"], ["u2", "i1", "unheard-of"]])
    refresh(db)
    assert weights(db) == {("u1", "i1"): 1.0, ("u1", "i2"): 1.0, ("u2", "i1"): 0.1}


def test_what_others_did_is_seen_after_a_refresh_and_not_before(database: Database, db: psycopg.Connection) -> None:
    """Twenty users get a new habit; a user who shares a taste with them is recommended its item."""
    record(db, tastes())
    record(db, [["curator", "i59", "view"]])
    train(database, blend=1.0)
    before = {row[0]: row[1] for row in recommend(db, "u0", 1000)}
    target = min(before, key=lambda item: before[item])
    for user in range(3, 40, 3):
        track(db, *[(f"u{user}", target, "share")] * 3)
    assert {row[0]: row[1] for row in recommend(db, "u0", 1000)} == before
    refresh(db)
    after = {row[0]: row[1] for row in recommend(db, "u0", 1000)}
    assert after[target] > before[target] + 0.3


def test_a_new_user_becomes_a_neighbor_with_a_refresh(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    db.execute("select recdb.track('newcomer', item_id, kind) from recdb.interaction where user_id = 'u5'")
    assert "newcomer" not in [row[0] for row in db.execute("select * from recdb.neighbors('u5', 1000)")]
    refresh(db)
    nearest = db.execute("select * from recdb.neighbors('u5', 1)").fetchone()
    assert nearest == ("newcomer", pytest.approx(1, abs=1e-3), 12)


def test_a_new_item_becomes_popular_with_a_refresh(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    track(db, *[(f"u{n}", "brand-new", "share") for n in range(30)])
    assert "brand-new" not in [row[0] for row in recommend(db, "nobody", 1000, fallback="popular")]
    refresh(db)
    assert recommend(db, "nobody", 1, fallback="popular")[0][:2] == ("brand-new", 1.0)


def test_refreshing_step_by_step_equals_a_rebuild(database: Database, db: psycopg.Connection) -> None:
    """Weights, popularity and lists, after changes to old users and items, new ones, and dislikes."""
    db.execute("insert into recdb.interaction_kind (kind, weight) values ('dislike', -0.437)")
    db.execute("update recdb.config set profile_limit = 10, half_life = '30 days'")
    generator = np.random.default_rng(0)
    record(db, [[*row, f"2024-01-{1 + n % 28:02}"] for n, row in enumerate(tastes())])
    train(database)
    for _ in range(4):
        for _ in range(25):
            user, item = generator.integers(45), generator.integers(70)
            kind = str(generator.choice(["view", "like", "dislike"]))
            db.execute(
                "select recdb.track(%s, %s, %s, '2024-02-01'::timestamptz + make_interval(secs => %s))",
                [f"u{user}", f"i{item}", kind, int(generator.integers(10**6))],
            )
        refresh(db)
    stepwise = weights(db)
    popular = {row[0]: row[1] for row in recommend(db, "nobody", 1000, fallback="popular")}
    lists = {user: recommend(db, user) for user in ("u1", "u20", "u44")}
    assert db.execute("select count(*) > 20 from recdb.recent_user").fetchone() == (True,)

    db.execute("select recdb.rebuild()")

    assert db.execute("select count(*) from recdb.recent_user").fetchone() == (0,)
    assert weights(db) == stepwise
    assert {row[0]: row[1] for row in recommend(db, "nobody", 1000, fallback="popular")} == pytest.approx(popular)
    for user, rows in lists.items():
        again = {row[0]: row[1] for row in recommend(db, user)}
        assert again == pytest.approx({row[0]: row[1] for row in rows}, abs=1e-6)


@pytest.mark.parametrize("half_life", [None, "20 days"])
def test_refreshed_vectors_are_the_fold_in_in_every_kept_version(
    database: Database, db: psycopg.Connection, half_life: str | None
) -> None:
    db.execute("insert into recdb.interaction_kind (kind, weight) values ('dislike', -0.437)")
    db.execute("update recdb.config set half_life = %s::interval, profile_limit = 9", [half_life])
    record(db, [[*row, f"2024-01-{1 + n % 28:02}"] for n, row in enumerate(tastes())])
    labels = [
        train(
            database,
            people_weight_exponent=exponent,
            neighbor_weight_exponent=1 - exponent / 2,
            activity_exponent=0.3,
            dimension=dimension,
        )
        for exponent, dimension in ((1.0, 12), (0.5, 24))
    ]
    track(db, *(("u1", f"i{item}", "share") for item in (0, 3, 6, 9)))
    track(db, *(("u2", f"i{item}", "dislike") for item in range(2, 24, 3)))
    track(db, ("newcomer", "i3", "like"), ("newcomer", "i8", "view"))
    refresh(db)

    for label in labels:
        db.execute("select recdb.activate(%s)", [label])
        expected = reference.read(db)
        totals = dict(db.execute("select user_id, total_weight from recdb.user_vectors where model = %s", [label]))
        for user_id in ("u1", "u2", "newcomer", "u3"):
            user = expected.users.index(user_id)
            np.testing.assert_allclose(expected.user_vectors[user], expected.stored(user), atol=1e-3)
            assert totals[user_id] == pytest.approx(expected.total_weight(user), rel=1e-3)


def test_a_vector_is_replaced_when_its_user_has_moved(database: Database, db: psycopg.Connection) -> None:
    rows = tastes()
    record(db, [*rows, *(["steady", f"i{item}", "share"] for item in range(0, 60, 3))])
    train(database)
    stored = "select embedding::text, total_weight from recdb.user_vectors where user_id = 'steady'"

    vector, total = db.execute(stored).fetchone() or ("", 0)
    track(db, ("steady", "i1", "view"))
    refresh(db)
    nearly, more = db.execute(stored).fetchone() or ("", 0)
    assert nearly == vector
    learned = reference.read(db)
    assert total == pytest.approx(learned.neighbor_limit)
    assert more == pytest.approx(learned.total_weight(learned.users.index("steady")))

    for item in range(1, 60, 3):
        track(db, ("steady", f"i{item}", "share"))
    refresh(db)
    moved, _ = db.execute(stored).fetchone() or ("", 0)
    expected = reference.read(db)
    user = expected.users.index("steady")
    assert moved != vector
    np.testing.assert_allclose(expected.user_vectors[user], expected.stored(user), atol=1e-3)


def test_somebody_whose_weights_cancel_out_is_nobodys_neighbor(database: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.interaction_kind (kind, weight) values ('undo', -0.7)")
    record(db, [*tastes(), ["single", "i1", "like"]])
    train(database)
    around = "select neighbor_id from recdb.neighbors('u1', 1000)"
    assert ("single",) in db.execute(around).fetchall()
    track(db, ("single", "i1", "undo"))
    refresh(db)
    assert ("single",) not in db.execute(around).fetchall()
    track(db, ("single", "i2", "view"))
    refresh(db)
    assert ("single",) in db.execute(around).fetchall()


def test_a_refresh_costs_what_changed(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    track(db, ("u1", "i1", "view"), ("newcomer", "i2", "view"))
    refresh(db)
    changed = db.execute("select count(distinct item_id) from recdb.interaction where user_id in ('u1', 'newcomer')")
    assert log(db)[-1] == ("refresh", None, 2, changed.fetchone()[0])
    refresh(db)
    assert log(db)[-1] == ("refresh", None, 0, 0)


def test_back_dated_rows_are_seen(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    db.execute("select recdb.track('u1', 'brand-new', 'like', '2001-01-01')")
    refresh(db)
    assert weights(db)["u1", "brand-new"] == 0.7


def test_deleted_rows_and_changed_weights_are_seen_by_the_full_refresh(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, [["u1", "i1", "view"], ["u1", "i2", "view"], ["u2", "i1", "view"], ["u2", "i2", "like"]])
    train(database)
    db.execute("delete from recdb.interaction where user_id = 'u1' and item_id = 'i1'")
    db.execute("update recdb.interaction_kind set weight = 0.2 where kind = 'view'")
    job.run(database, full=True)
    assert weights(db) == {("u1", "i2"): 0.2, ("u2", "i1"): 0.2, ("u2", "i2"): 0.7}


def test_a_database_restored_into_another_cluster_is_rebuilt(db: psycopg.Connection) -> None:
    """The other cluster numbers transactions differently, so a horizon in the future has no meaning."""
    record(db, tastes())
    refresh(db)
    db.execute("update recdb.refresh_log set seen = '18000000000000000000'")
    track(db, ("u1", "brand-new", "like"))
    refresh(db)
    assert weights(db)["u1", "brand-new"] == 0.7
    assert log(db)[-1][0] == "rebuild"


def test_a_neighbour_beyond_the_profile_limit_recommends_the_newest_items(
    database: Database, db: psycopg.Connection
) -> None:
    """All weights are kept, but only the newest three contribute to scores, after a rebuild and after a refresh."""
    db.execute("update recdb.config set profile_limit = 3")
    record(db, [["u1", f"i{n}", "view", f"2024-01-{n:02}"] for n in range(1, 5)] + [["u2", "i4", "view", "2024-01-04"]])
    train(database, blend=1.0)
    assert weights(db).keys() == {("u1", f"i{n}") for n in range(1, 5)} | {("u2", "i4")}
    assert {row[0] for row in recommend(db, "u2")} == {"i2", "i3"}
    db.execute("select recdb.track('u1', 'i5', 'view', '2024-01-05')")
    db.execute("select recdb.track('u1', 'i1', 'view', '2024-01-06')")
    refresh(db)
    assert weights(db).keys() == {("u1", f"i{n}") for n in range(1, 6)} | {("u2", "i4")}
    assert {row[0] for row in recommend(db, "u2")} == {"i5", "i1"}


def test_the_future_counts_as_now_and_what_is_far_ahead_as_the_newest(db: psycopg.Connection) -> None:
    db.execute("update recdb.config set half_life = '10 days', decay_origin = now()")
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select 'u1', t.item, 'share', now() + t.ahead::interval "
        "from (values ('i1', '1000 days'), ('i2', '-20 days'), ('i3', '1 hour')) t(item, ahead)"
    )
    refresh(db)
    found = db.execute("select item_id, weight from recdb.user_item_weights").fetchall()
    # The origin of the weights is the newest time that is not in the future.
    assert dict(found) == {item: pytest.approx(weight, abs=4e-3) for item, weight in (("i1", 1), ("i2", 1), ("i3", 4))}


def test_very_old_and_very_many_half_lives_neither_overflow_nor_fail(db: psycopg.Connection) -> None:
    db.execute("update recdb.config set half_life = '1 second', decay_origin = '2020-01-01'")
    record(db, [["u1", "i1", "share", "0001-01-01"], ["u1", "i2", "share", "2024-01-01"]])
    refresh(db)
    found = dict(db.execute("select item_id, weight from recdb.user_item_weights").fetchall())
    assert 0 <= found["i1"] < found["i2"] < float("inf")


def test_refreshing_nothing_is_fine(db: psycopg.Connection) -> None:
    refresh(db)
    refresh(db)
    assert weights(db) == {}
    assert all(run[1] is None for run in log(db))


def test_popularity_is_added_to_as_if_it_were_summed_up_again(database: Database, db: psycopg.Connection) -> None:
    """After new, changed and deleted interactions, new items and forgotten users."""
    record(db, tastes())
    train(database)

    def assert_exact() -> None:
        kept = db.execute("select item_key, total, users from recdb.item_popularity order by item_key").fetchall()
        summed = db.execute(
            "select item_key, sum(least(greatest(weight, 0), heaviest)), count(*) from recdb.user_item "
            "where weight <> 0 group by 1 order by 1"
        ).fetchall()
        assert [(key, users) for key, _, users in kept] == [(key, users) for key, _, users in summed]
        assert [total for _, total, _ in kept] == pytest.approx([total for _, total, _ in summed])

    assert_exact()
    for number in range(3):
        record(db, [["u1", "i1", "share"], [f"new{number}", f"fresh{number}", "like"], ["u2", "i2", "view"]])
        db.execute("delete from recdb.interaction where user_id = 'u1' and kind = 'view'")
        db.execute("call recdb.refresh()")
        assert_exact()
    db.execute("select recdb.forget_user('new1')")
    assert_exact()
    gone = db.execute("select from recdb.item_popularity where item_id = 'fresh1'").fetchone()
    assert gone is None
