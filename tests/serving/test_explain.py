"""explain(): the contributions add up to the score, and name the items and users that the score came from."""

from collections import defaultdict

import psycopg
import pytest
from support.data import recommend, record, tastes, train
from test_scores import VARIANTS, random_rows

from recdb.database import Database


def store(db: psycopg.Connection, variant: str) -> None:
    """Store random interactions on a database prepared in some way."""
    if VARIANTS[variant]:
        db.execute(VARIANTS[variant])
    record(db, random_rows(seed=3))


@pytest.mark.parametrize("learner", ["cooccurrence", "ease"])
@pytest.mark.parametrize(
    "variant", ["every kind hides", "views come back", "dislikes", "fading", "capped", "catalogue"]
)
def test_contributions_add_up_to_the_score(
    database: Database, db: psycopg.Connection, variant: str, learner: str
) -> None:
    store(db, variant)
    train(database, blend=0.4, learner=learner)
    for user in range(0, 30, 3):
        rows = recommend(db, f"u{user}", 1000)
        scores = {row[0]: row[1] for row in rows}
        assert scores
        for item_id in [*list(scores)[:5], *list(scores)[-3:]]:
            parts = db.execute("select * from recdb.explain(%s, %s)", [f"u{user}", item_id]).fetchall()
            assert sum(part[2] for part in parts) == pytest.approx(scores[item_id], abs=1e-6)
            assert parts == sorted(parts, key=lambda part: (-part[2], part[1] or "~"))
            neighbors = db.execute(
                "select sum(contribution) from recdb.explain_neighbors(%s, %s)", [f"u{user}", item_id]
            ).fetchone()
            together = [part[2] for part in parts if part[0] == "neighbors"]
            assert len(together) <= 1
            assert (neighbors or (None,))[0] == (pytest.approx(together[0]) if together else None)


def test_every_part_is_the_users_own_item_or_all_neighbours(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    own = defaultdict(set)
    for user, item, _ in tastes():
        own[user].add(item)
    item = recommend(db, "u1", 1)[0][0]
    parts = db.execute("select source, because_id from recdb.explain('u1', %s)", [item]).fetchall()
    assert {source for source, _ in parts} == {"item", "neighbors"}
    assert {because for source, because in parts if source == "item"} <= own["u1"]
    assert [because for source, because in parts if source == "neighbors"] == [None]
    for neighbor, similarity, contribution in db.execute("select * from recdb.explain_neighbors('u1', %s)", [item]):
        assert item in own[neighbor]
        assert 0 < similarity <= 1.001
        assert contribution > 0


def test_one_like_explains_all_that_a_newcomer_gets(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database, blend=0.0)
    db.execute("select recdb.track('newcomer', 'i4', 'like')")
    for item_id, score, *_ in recommend(db, "newcomer", 5):
        parts = db.execute("select * from recdb.explain('newcomer', %s)", [item_id]).fetchall()
        assert parts == [("item", "i4", pytest.approx(score, abs=1e-6))]


def test_what_is_not_recommended_has_no_explanation(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("insert into recdb.item (item_id, owner_id, available) values ('i7', 'u1', true), ('i8', null, false)")
    train(database)
    for item_id in ("i7", "i8", "unheard-of", None):
        assert db.execute("select * from recdb.explain('u1', %s)", [item_id]).fetchall() == []
    assert db.execute("select * from recdb.explain('nobody', 'i1')").fetchall() == []
    assert db.execute("select * from recdb.explain(null, 'i1')").fetchall() == []


def test_if_the_user_has_already_seen_the_item_the_explanation_ignores_that_interaction(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, random_rows(seed=3))
    train(database, blend=0.4)
    for user in ("u2", "u5", "newcomer"):
        db.execute("select recdb.track('newcomer', 'i4', 'like')")
        item_id, score, *_ = recommend(db, user, 3)[-1]
        before = db.execute("select * from recdb.explain(%s, %s)", [user, item_id]).fetchall()
        db.execute("select recdb.track(%s, %s, 'view')", [user, item_id])
        assert item_id not in [row[0] for row in recommend(db, user, 1000)]
        after = db.execute("select * from recdb.explain(%s, %s)", [user, item_id]).fetchall()
        assert {row[1]: row[2] for row in after} == pytest.approx({row[1]: row[2] for row in before}, abs=1e-6)
        assert sum(row[2] for row in after) == pytest.approx(score, abs=1e-6)


def test_another_version_explains_its_own_scores(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    first = train(database, blend=1.0)
    train(database, blend=0.0)
    item_id, score, *_ = recommend(db, "u1", 1, model=first)[0]
    parts = db.execute("select * from recdb.explain('u1', %s, model => %s)", [item_id, first]).fetchall()
    assert parts == [("neighbors", None, pytest.approx(score, abs=1e-6))]
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("select * from recdb.explain('u1', %s, 'nothing')", [item_id])


def test_without_a_model_there_is_no_explanation(db: psycopg.Connection) -> None:
    record(db, tastes())
    assert db.execute("select * from recdb.explain('u1', 'i1')").fetchall() == []


@pytest.mark.parametrize("mode", ["auto", "force_custom_plan"])
def test_contributions_add_up_after_much_has_changed(database: Database, db: psycopg.Connection, mode: str) -> None:
    """recommend() and its explanation find the same neighbours only if both search by the same plan."""
    rows = tastes(users=400, items=120)
    record(db, rows)
    train(database, blend=1.0, neighbors=20)
    for turn in range(3):
        record(db, [(f"u{number}", f"i{(number * 7 + turn) % 120}", "like") for number in range(0, 400, 2)])
        db.execute("call recdb.refresh()")
    with psycopg.connect(database.conninfo, autocommit=True) as asking:
        asking.execute(f"set plan_cache_mode = {mode}")
        for number in range(0, 400, 9):
            for item_id, score, *_ in recommend(asking, f"u{number}", 3):
                for function in ("explain", "explain_neighbors"):
                    total = asking.execute(
                        f"select sum(contribution) from recdb.{function}(%s, %s)", [f"u{number}", item_id]
                    ).fetchone()
                    assert (total or (None,))[0] == pytest.approx(score, abs=1e-6), (function, number, item_id)


def test_what_searches_for_neighbours_is_planned_as_recommend_is(db: psycopg.Connection) -> None:
    """With another plan a call may find other neighbours than recommend() did: an index search is approximate."""
    pins = dict(
        db.execute(
            "select proname, (select option_value from pg_options_to_table(proconfig) "
            "where option_name = 'plan_cache_mode') from pg_proc where pronamespace = 'recdb'::regnamespace "
            "and prosecdef "
            "and proname in ('list_for_items', 'explain', 'explain_neighbors', 'neighbors', 'similar_items')"
        ).fetchall()
    )
    assert len(pins) == 5 and set(pins.values()) == {"force_generic_plan"}
