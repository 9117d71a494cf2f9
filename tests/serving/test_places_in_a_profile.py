"""Which items have a place in a user's profile: what weighs nothing takes none, and small weights crowd nothing out."""

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train

from recdb.database import Database

LIKED = ("i0", "i3", "i6", "i9")


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    record(db, tastes())
    db.execute("insert into recdb.interaction_kind (kind, weight) values ('shown', 0)")
    train(database)
    return db


def like_and_be_shown(db: psycopg.Connection, user: str, shown: int, kind: str = "shown") -> None:
    """Like a few items in January, and interact with as many others in February."""
    for day, item in enumerate(LIKED, 1):
        db.execute("select recdb.track(%s, %s, 'like', %s::timestamptz)", [user, item, f"2024-01-{day:02}"])
    for number in range(shown):
        moment = f"2024-02-01 {number // 60:02}:{number % 60:02}"
        db.execute("select recdb.track(%s, %s, %s, %s::timestamptz)", [user, f"page-{number}", kind, moment])


def test_items_that_were_only_shown_change_nothing_but_that_they_are_hidden(trained: psycopg.Connection) -> None:
    like_and_be_shown(trained, "reader", 0)
    before = recommend(trained, "reader", 30)

    like_and_be_shown(trained, "watcher", 200)
    for item in (before[0][0], before[4][0]):
        trained.execute("select recdb.track('watcher', %s, 'shown')", [item])
    after = recommend(trained, "watcher", 30)

    top = before[1][1]
    left = [(item, score) for item, score, *_ in before if item not in (before[0][0], before[4][0])]
    assert [item for item, *_ in after[:28]] == [item for item, _ in left]
    assert [score for _, score, *_ in after[:28]] == pytest.approx([score / top for _, score in left], abs=1e-8)


@pytest.mark.parametrize("full", [False, True], ids=["after a refresh", "after a training"])
def test_whoever_was_shown_pages_of_items_keeps_a_vector(
    database: Database, trained: psycopg.Connection, full: bool
) -> None:
    for user in ("watcher", "reader"):
        like_and_be_shown(trained, user, 200 if user == "watcher" else 0)

    if full:
        train(database)
    else:
        trained.execute("call recdb.refresh()")

    vectors = dict(trained.execute(
        "select user_id, (embedding, total_weight)::text from recdb.user_vectors "
        "where user_id in ('watcher', 'reader') and model = (select label from recdb.models where active)"
    ).fetchall())  # fmt: skip
    assert vectors["watcher"] == vectors["reader"]


def test_a_hundred_newer_views_leave_older_likes_their_places(trained: psycopg.Connection) -> None:
    like_and_be_shown(trained, "browser", 100, "view")
    trained.execute("call recdb.refresh()")
    trained.execute("update recdb.config set profile_limit = 20")

    kept = column(trained.execute(
        "select t.item_id from recdb.user_item w join recdb.item_key t using (item_key) join recdb.user_key u "
        "using (user_key) where u.user_id = 'browser' and w.position <= 20"
    ))  # fmt: skip
    scored = column(trained.execute(
        "select t.item_id from recdb.profile('browser') p, unnest(p.item_keys[:20]) k(item_key) "
        "join recdb.item_key t using (item_key)"
    ))  # fmt: skip
    assert set(LIKED) <= set(kept)
    assert sorted(scored) == sorted(kept)


def test_the_live_profile_and_the_refreshed_one_have_the_same_order(trained: psycopg.Connection) -> None:
    like_and_be_shown(trained, "browser", 30, "view")
    trained.execute("call recdb.refresh()")
    recent = trained.execute(
        "select w.item_key, w.rank, w.weight from recdb.user_item w join recdb.user_key u using (user_key) "
        "where u.user_id = 'browser' and w.weight <> 0 order by w.position"
    ).fetchall()
    trained.execute("select recdb.rebuild()")
    settled = trained.execute(
        "select w.item_key, w.rank, w.weight from recdb.user_item_settled w join recdb.user_key u using (user_key) "
        "where u.user_id = 'browser' and w.weight <> 0 order by w.position"
    ).fetchall()
    live = trained.execute(
        "select p.* from recdb.profile('browser') f, "
        "unnest(f.item_keys, f.ranks::integer[], f.weights) p(item_key, rank, weight)"
    ).fetchall()

    assert recent == settled == live
