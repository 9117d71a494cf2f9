"""The caller's own interactions count at once, without a refresh."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from support.data import recommend, record, tastes, train

from recdb.database import Database


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
    train(module_database)


def track(connection: psycopg.Connection, user: str, item: str, kind: str, times: int = 1) -> None:
    for _ in range(times):
        connection.execute("select recdb.track(%s, %s, %s)", [user, item, kind])


def ids(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


def assert_same_scores(first: list[Any], second: list[Any], within: float = 1e-6) -> None:
    scores = {row[0]: row[1] for row in first}
    assert scores == pytest.approx({row[0]: row[1] for row in second}, abs=within)


def test_a_new_user_is_served_in_the_transaction_of_the_first_interaction(shared: psycopg.Connection) -> None:
    assert recommend(shared, "newcomer") == []
    track(shared, "newcomer", "i1", "like")
    rows = recommend(shared, "newcomer")
    assert len(rows) > 20
    assert {row[2] for row in rows} == {"collaborative_filtering"}
    assert "i1" not in ids(rows)
    shared.rollback()
    assert recommend(shared, "newcomer") == []


def test_a_new_user_gets_what_the_first_item_belongs_with(shared: psycopg.Connection) -> None:
    """The same users like items whose numbers leave the same remainder by 3."""
    for item in ("i1", "i2"):
        track(shared, f"fan of {item}", item, "like")
        rows = recommend(shared, f"fan of {item}", 10)
        alike = [row for row in ids(rows) if int(row[1:]) % 3 == int(item[1:]) % 3]
        assert len(alike) >= 7


def test_a_plain_insert_counts_as_track_does(shared: psycopg.Connection) -> None:
    track(shared, "newcomer", "i1", "like")
    tracked = recommend(shared, "newcomer")
    shared.execute("insert into recdb.interaction (user_id, item_id, kind) values ('other newcomer', 'i1', 'like')")
    assert recommend(shared, "other newcomer") == tracked


def test_an_interaction_committed_elsewhere_is_seen_by_the_next_statement(
    database: Database, db: psycopg.Connection
) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as writer,
        psycopg.connect(database.conninfo) as reader,
    ):
        record(writer, tastes())
        train(database)
        before = recommend(reader, "u5")
        with writer.transaction():
            track(writer, "u5", before[0][0], "view")
            assert recommend(reader, "u5") == before
        after = recommend(reader, "u5")
        assert before[0][0] not in ids(after)
        assert after[0][1] == 1.0


def test_the_newest_interaction_changes_the_list_at_once(shared: psycopg.Connection) -> None:
    before = recommend(shared, "u0", 1000)
    stranger = next(item for item in reversed(ids(before)) if int(item[1:]) % 3 == 1)
    track(shared, "u0", stranger, "share", times=5)
    after = recommend(shared, "u0", 1000)
    assert stranger not in ids(after)

    def share_of_ones(rows: list[Any]) -> float:
        return sum(row[1] for row in rows if int(row[0][1:]) % 3 == 1) / sum(row[1] for row in rows)

    assert share_of_ones(after) > share_of_ones(before) + 0.1


def test_one_interaction_does_not_change_what_others_get(shared: psycopg.Connection) -> None:
    """Others see it after a refresh."""
    before = recommend(shared, "u1")
    track(shared, "u0", before[0][0], "share")
    assert recommend(shared, "u1") == before


def test_seen_items_never_come_back(shared: psycopg.Connection) -> None:
    """The user views every item that the list shows, until no item is left."""
    seen: list[str] = []
    while rows := recommend(shared, "u3", 7):
        assert set(seen).isdisjoint(ids(rows))
        seen += ids(rows)
        for item in ids(rows):
            track(shared, "u3", item, "view")
        assert len(seen) <= 60
    assert recommend(shared, "u3", 1000, fallback="popular") == []


def test_an_item_that_no_refresh_has_seen_hides_and_does_no_harm(shared: psycopg.Connection) -> None:
    before = recommend(shared, "u2")
    track(shared, "u2", "brand-new", "like")
    assert recommend(shared, "u2") == before


def test_only_unknown_items_are_as_no_interactions(shared: psycopg.Connection) -> None:
    track(shared, "newcomer", "brand-new", "share")
    assert recommend(shared, "newcomer") == []
    popular = recommend(shared, "newcomer", 5, fallback="popular")
    assert popular == recommend(shared, "nobody", 5, fallback="popular")
    assert {row[2] for row in popular} == {"popular"}


def test_ten_views_weigh_one_share(shared: psycopg.Connection) -> None:
    for user, kind, times in (("views", "view", 10), ("shares", "share", 1), ("one view", "view", 1)):
        track(shared, user, "i1", kind, times=times)
        track(shared, user, "i2", "like")
    assert_same_scores(recommend(shared, "views"), recommend(shared, "shares"))
    with pytest.raises(AssertionError):
        assert_same_scores(recommend(shared, "one view"), recommend(shared, "shares"))


@pytest.mark.parametrize(
    ("kind", "weight"), [("view", 0.1), ("click", 0.3), ("like", 0.7), ("share", 1.0), ("unheard-of", 0.1)]
)
def test_kinds_weigh_what_the_contract_says(shared: psycopg.Connection, kind: str, weight: float) -> None:
    track(shared, "one", "i1", kind)
    track(shared, "one", "i2", "share")
    views = round(weight * 10)
    track(shared, "other", "i1", "view", times=views)
    track(shared, "other", "i2", "share")
    assert_same_scores(recommend(shared, "one"), recommend(shared, "other"))
    weights = shared.execute("select weight from recdb.profile_of('one') where item_id = 'i1'").fetchone()
    assert weights == (pytest.approx(weight),)


def test_kinds_of_one_item_are_summed(shared: psycopg.Connection) -> None:
    track(shared, "mixed", "i1", "click")
    track(shared, "mixed", "i1", "like")
    track(shared, "mixed", "i2", "share")
    track(shared, "even", "i1", "share")
    track(shared, "even", "i2", "share")
    assert_same_scores(recommend(shared, "mixed"), recommend(shared, "even"))


def test_a_changed_weight_counts_at_once_for_the_caller(shared: psycopg.Connection) -> None:
    track(shared, "one", "i1", "cart")
    track(shared, "one", "i2", "share")
    as_unlisted = recommend(shared, "one")
    shared.execute("insert into recdb.interaction_kind (kind, weight) values ('cart', 5)")
    assert recommend(shared, "one") != as_unlisted


@pytest.mark.parametrize(
    "change", ["half_life = '2 days'", "default_weight = 3", "profile_limit = 3"], ids=lambda change: change.split()[0]
)
def test_a_changed_setting_counts_at_once_for_the_caller_and_for_others_after_a_full_refresh(
    database: Database, db: psycopg.Connection, change: str
) -> None:
    """As the comment on recdb.config says: only the profile of the caller is read live."""
    kinds = {"view": "hover"}  # an unlisted kind
    rows = [[user, item, kinds.get(kind, kind)] for user, item, kind in tastes()]
    newest = datetime(2024, 3, 1, tzinfo=UTC)
    record(db, [[*row, newest - timedelta(hours=7 * number % 200)] for number, row in enumerate(rows)])
    # No setting changes this user's own profile: one item, of a listed kind, as new as any.
    record(db, [["other", "i1", "like", newest]])
    train(database)
    own, others = recommend(db, "u0", 1000), recommend(db, "other", 1000)
    assert own and others
    train(database)
    assert_same_scores(recommend(db, "u0", 1000), own)
    assert_same_scores(recommend(db, "other", 1000), others)
    own, others = recommend(db, "u0", 1000), recommend(db, "other", 1000)

    db.execute(f"update recdb.config set {change}")

    with pytest.raises(AssertionError):
        assert_same_scores(recommend(db, "u0", 1000), own)
    assert recommend(db, "other", 1000) == others
    db.execute("call recdb.refresh()")
    assert recommend(db, "other", 1000) == others

    train(database)

    with pytest.raises(AssertionError):
        assert_same_scores(recommend(db, "other", 1000), others)


def test_kinds_that_do_not_hide_come_back(shared: psycopg.Connection) -> None:
    first = ids(recommend(shared, "u4"))[0]
    track(shared, "u4", first, "view")
    assert first not in ids(recommend(shared, "u4"))
    shared.execute("update recdb.interaction_kind set hides = false where kind = 'view'")
    assert first in ids(recommend(shared, "u4"))
    track(shared, "u4", first, "share")
    assert first not in ids(recommend(shared, "u4"))


def test_whether_unlisted_kinds_hide_is_a_setting(shared: psycopg.Connection) -> None:
    first = ids(recommend(shared, "u4"))[0]
    track(shared, "u4", first, "hover")
    assert first not in ids(recommend(shared, "u4"))
    shared.execute("update recdb.config set default_hides = false")
    assert first in ids(recommend(shared, "u4"))


def test_a_dislike_pushes_down_what_goes_with_the_item(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.interaction_kind (kind, weight) values ('dislike', -1)")
    track(shared, "critic", "i1", "share")
    track(shared, "critic", "i2", "share")
    before = {row[0]: row[1] for row in recommend(shared, "critic")}
    track(shared, "critic", "i2", "dislike", times=2)
    after = {row[0]: row[1] for row in recommend(shared, "critic")}
    group = [f"i{n}" for n in range(5, 60, 3)]
    assert sum(after.get(item, 0) for item in group) < 0.5 * sum(before.get(item, 0) for item in group)
    assert all(0 <= score <= 1 for score in after.values())


def test_only_dislikes_are_survived(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.interaction_kind (kind, weight) values ('dislike', -1)")
    track(shared, "hater", "i1", "dislike")
    rows = recommend(shared, "hater", 1000)
    assert "i1" not in ids(rows)
    assert all(0 <= row[1] <= 1 for row in rows)


def test_a_weight_that_cancels_out_is_no_weight(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.interaction_kind (kind, weight) values ('undo', -0.3)")
    track(shared, "undecided", "i1", "view", times=3)
    track(shared, "undecided", "i1", "undo")
    assert recommend(shared, "undecided") == []


def test_events_in_the_past_and_the_future_count(shared: psycopg.Connection) -> None:
    shared.execute("update recdb.config set half_life = '1000 days'")
    shared.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "values ('prophet', 'i1', 'like', now() + interval '100 years')"
    )
    shared.execute("select recdb.track('prophet', 'i2', 'like')")
    shared.execute("select recdb.track('today', 'i1', 'like')")
    shared.execute("select recdb.track('today', 'i2', 'like')")
    # It weighs as at the origin, which is some minutes ago.
    assert_same_scores(recommend(shared, "prophet"), recommend(shared, "today"), within=1e-4)
    shared.execute("update recdb.config set half_life = '10 days'")
    shared.execute("select recdb.track('nostalgic', 'i1', 'like', '1970-01-01')")
    assert recommend(shared, "nostalgic")


def test_with_a_half_life_the_newer_interaction_decides(shared: psycopg.Connection) -> None:
    shared.execute("update recdb.config set half_life = '10 days'")
    shared.execute("select recdb.track('u', 'i1', 'like', now() - interval '10 days')")
    shared.execute("select recdb.track('u', 'i2', 'like')")
    weights = dict(shared.execute("select item_id, weight from recdb.profile_of('u')").fetchall())
    assert weights["i1"] / weights["i2"] == pytest.approx(0.5)
    shared.execute("select recdb.track('v', 'i1', 'share', now() - interval '1 microsecond')")
    track(shared, "v", "i2", "share", times=2)
    assert_same_scores(recommend(shared, "u"), recommend(shared, "v"))


def test_the_newer_item_counts_more_and_how_much_newer_does_not_matter(shared: psycopg.Connection) -> None:
    """This holds without a half-life, too; items with the same timestamp count alike."""
    for user, first, second in (
        ("first i1", "2024-01-01", "2024-01-02"),
        ("first i1, long ago", "1999-01-01", "2024-01-02"),
        ("first i2", "2024-01-02", "2024-01-01"),
        ("at once", "2024-01-01", "2024-01-01"),
    ):
        shared.execute("select recdb.track(%s, 'i1', 'like', %s::timestamptz)", [user, first])
        shared.execute("select recdb.track(%s, 'i2', 'like', %s::timestamptz)", [user, second])
    assert recommend(shared, "first i1") == recommend(shared, "first i1, long ago")

    def share_of_ones(user: str) -> float:
        """Items whose numbers leave the same remainder by 3 belong together."""
        rows = recommend(shared, user, 1000)
        return sum(row[1] for row in rows if int(row[0][1:]) % 3 == 1) / sum(row[1] for row in rows)

    assert share_of_ones("first i1") < share_of_ones("at once") < share_of_ones("first i2")


def test_the_items_of_the_largest_precedence_up_to_the_limit_are_scored_with(shared: psycopg.Connection) -> None:
    """A view of long ago has no place beside newer likes; it hides its item and does nothing else."""
    shared.execute("update recdb.config set profile_limit = 3")
    shared.execute("insert into recdb.interaction_kind (kind, weight) values ('seen', 0)")
    for user, kind in (("moved on", "view"), ("only saw it", "seen")):
        for day, item in enumerate(["i1", "i0", "i3", "i6"], start=1):
            shared.execute(
                "select recdb.track(%s, %s, %s, %s::timestamptz)",
                [user, item, kind if item == "i1" else "like", f"2024-01-0{day}"],
            )
    rows = recommend(shared, "moved on", 1000)
    assert rows == recommend(shared, "only saw it", 1000)
    assert "i1" not in ids(rows)
    shared.execute("update recdb.config set profile_limit = 4")
    assert recommend(shared, "moved on", 1000) != rows
