"""fallback => 'popular' fills up to k: personal rows, then popular items, then items without interactions."""

from typing import Any

import psycopg
import pytest
from support.data import recommend, record, tastes, train

from recdb.database import Database

UNTOUCHED = ["newest", "newer", "older-a", "older-b", "the film of 1969", "a book of 1869", "undated-a", "undated-b"]


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Sixty items with interactions, only some of them listed, and eight listed items without interactions."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.item (item_id) select 'i' || n from generate_series(0, 9) n")
        connection.execute(
            """
            insert into recdb.item (item_id, published_at) values
            ('newest', '2024-06-03'), ('newer', '2024-06-02'), ('older-b', '2024-06-01'), ('older-a', '2024-06-01'),
            ('a book of 1869', '1869-06-01'), ('the film of 1969', '1969-06-01'),
            ('undated-b', null), ('undated-a', null)
            """
        )
    train(module_database, neighbors=3, item_neighbors=10)


def ids(rows: list[Any], reason: str | None = None) -> list[str]:
    return [row[0] for row in rows if reason in (None, row[2])]


def popularity(connection: psycopg.Connection) -> list[tuple[str, float]]:
    """The weights of all users' interactions by item, from the raw interactions."""
    return connection.execute(
        "select i.item_id, sum(k.weight) from recdb.interaction i join recdb.interaction_kind k using (kind) "
        "group by 1 order by round(sum(k.weight)::numeric, 9) desc, 1"
    ).fetchall()


def test_somebody_unknown_gets_nothing_or_what_is_popular(shared: psycopg.Connection) -> None:
    assert recommend(shared, "nobody", fallback="none") == []
    assert recommend(shared, "nobody") == []
    rows = recommend(shared, "nobody", 60, fallback="popular")
    expected = popularity(shared)
    assert {row[2] for row in rows} == {"popular"}
    assert {row[0]: row[1] for row in rows} == pytest.approx(
        {item: weight / expected[0][1] for item, weight in expected}
    )
    assert rows[0][1] == 1.0


def test_the_whole_list_is_in_order_of_score_then_id(shared: psycopg.Connection) -> None:
    for user in (f"u{n}" for n in range(40)):
        rows = recommend(shared, user, 1000, fallback="popular")
        assert {row[2] for row in rows} == {"collaborative_filtering", "popular"}
        assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))


def test_nobody_is_null_too(shared: psycopg.Connection) -> None:
    popular = recommend(shared, "nobody", 1000, fallback="popular")
    assert recommend(shared, None, 1000, fallback="popular") == popular


def test_popular_is_the_fallback_of_nobody_in_particular(shared: psycopg.Connection) -> None:
    for k in (1, 7, 50, 1000, None):
        expected = [row[:2] for row in recommend(shared, "nobody", k, fallback="popular")]
        assert shared.execute("select * from recdb.popular(%s::bigint)", [k]).fetchall() == expected
    assert len(shared.execute("select * from recdb.popular()").fetchall()) == 50
    for k in (0, 1001):
        with pytest.raises(psycopg.errors.InvalidParameterValue), shared.transaction():
            shared.execute("select * from recdb.popular(%s::bigint)", [k])


def test_items_without_interactions_come_last_and_the_newest_first(shared: psycopg.Connection) -> None:
    rows = recommend(shared, "nobody", 1000, fallback="popular")
    assert len(rows) == 60 + len(UNTOUCHED)
    assert ids(rows)[60:] == UNTOUCHED
    assert rows[59][1] > rows[60][1]


def test_a_list_is_filled_below_its_lowest_personal_score(shared: psycopg.Connection) -> None:
    """The scores of the filler are in proportion to popularity."""
    weights = dict(popularity(shared))
    for user in ("u3", "u8", "u30"):
        personal = recommend(shared, user, 1000)
        filled = recommend(shared, user, 1000, fallback="popular")
        assert filled[: len(personal)] == personal
        popular = filled[len(personal) :]
        filler = [row for row in popular if row[0] in weights]
        assert len(filler) > 3
        assert {row[2] for row in popular} == {"popular"}
        assert all(0 <= row[1] <= personal[-1][1] for row in popular)
        proportions = [weights[row[0]] / weights[filler[0][0]] for row in filler]
        assert [row[1] / filler[0][1] for row in filler] == pytest.approx(proportions, rel=1e-3)


@pytest.mark.parametrize("user", ["u3", "nobody"])
def test_exactly_as_many_rows_as_asked_for_or_as_are_eligible(shared: psycopg.Connection, user: str) -> None:
    everything = recommend(shared, user, 1000, fallback="popular")
    seen = shared.execute("select count(distinct item_id) from recdb.interaction where user_id = %s", [user])
    assert len(everything) == 60 + len(UNTOUCHED) - seen.fetchone()[0]
    assert len(set(ids(everything))) == len(everything)
    for k in range(1, len(everything) + 3):
        rows = recommend(shared, user, k, fallback="popular")
        assert rows == everything[:k]
        scores = [row[1] for row in rows]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("user", ["u3", "nobody"])
def test_scores_are_the_same_on_every_page(shared: psycopg.Connection, user: str) -> None:
    everything = recommend(shared, user, 1000, fallback="popular")
    for start in range(0, len(everything), 9):
        page = recommend(shared, user, 9, exclude=ids(everything)[:start], fallback="popular")
        assert page == everything[start : start + 9]


def test_nothing_hidden_own_unavailable_or_excluded_fills(shared: psycopg.Connection) -> None:
    before = recommend(shared, "nobody", 1000, fallback="popular")
    first, second = ids(before)[:2]
    shared.execute(
        "insert into recdb.item (item_id, owner_id) values (%s, 'me') "
        "on conflict (item_id) do update set owner_id = 'me'",
        [first],
    )
    shared.execute("update recdb.item set owner_id = 'me' where item_id = 'newest'")
    shared.execute("update recdb.item set available = false where item_id = 'newer'")
    shared.execute("select recdb.track('me', 'older-a', 'view')")
    rows = recommend(shared, "me", 1000, exclude=[second, "older-b"], fallback="popular")
    gone = {first, second, "newest", "newer", "older-a", "older-b"}
    assert set(ids(rows)) == set(ids(before)) - gone
    others = recommend(shared, "somebody else", 1000, fallback="popular")
    assert set(ids(others)) == set(ids(before)) - {"newer"}


def test_an_item_comes_back_when_it_is_available_again(shared: psycopg.Connection) -> None:
    first = recommend(shared, "nobody", 1, fallback="popular")[0][0]
    for available, expected in ((False, 0), (True, 1)):
        shared.execute(
            "insert into recdb.item (item_id, available) values (%(item)s, %(available)s) "
            "on conflict (item_id) do update set available = %(available)s",
            {"item": first, "available": available},
        )
        assert ids(recommend(shared, "nobody", 1000, fallback="popular")).count(first) == expected


def test_a_filter_holds_for_the_filler(shared: psycopg.Connection) -> None:
    shared.execute("update recdb.item set attributes = '{\"lang\": \"fi\"}' where item_id in ('i3', 'i7', 'newest')")
    rows = recommend(shared, "nobody", 1000, filter='{"lang": "fi"}', fallback="popular")
    assert sorted(ids(rows)) == ["i3", "i7", "newest"]
    everything = {row[0]: row for row in recommend(shared, "nobody", 1000, fallback="popular")}
    assert rows == [everything[item] for item in ids(rows)]
    assert ids(recommend(shared, "nobody", 1, filter='{"lang": "fi"}', fallback="popular")) == ids(rows)[:1]


def test_a_user_whose_items_the_model_does_not_know_gets_what_is_popular(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('newcomer', 'brand-new', 'share')")
    assert recommend(shared, "newcomer", 1000, fallback="popular") == (
        recommend(shared, "nobody", 1000, fallback="popular")
    )


def test_before_anything_is_known_the_newest_items_are_shown(db: psycopg.Connection) -> None:
    assert recommend(db, "anybody", fallback="popular") == []
    db.execute(
        "insert into recdb.item (item_id, published_at) select 'p' || n, now() - n * interval '1 day' "
        "from generate_series(1, 5) n"
    )
    rows = recommend(db, "anybody", fallback="popular")
    assert ids(rows) == ["p1", "p2", "p3", "p4", "p5"]
    assert {row[2:] for row in rows} == {("popular", None)}


def test_without_a_model_popular_items_are_shown_after_a_refresh(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("call recdb.refresh()")
    assert recommend(db, "u1") == []
    rows = recommend(db, "u1", 1000, fallback="popular")
    seen = db.execute("select array_agg(item_id) from recdb.interaction where user_id = 'u1'").fetchone()[0]
    assert sorted(ids(rows)) == sorted({f"i{n}" for n in range(60)} - set(seen))


def test_dislikes_do_not_make_popular(db: psycopg.Connection) -> None:
    db.execute("insert into recdb.interaction_kind (kind, weight) values ('dislike', -1)")
    record(db, [[f"u{n}", "hated", "dislike"] for n in range(20)] + [["u1", "liked", "view"]])
    record(db, [["u1", "hated and liked", "like"], ["u2", "hated and liked", "dislike"]])
    db.execute("call recdb.refresh()")
    rows = recommend(db, "nobody", fallback="popular")
    assert ids(rows) == ["hated and liked", "liked", "hated"]
    assert 1 == rows[0][1] > rows[1][1] > rows[2][1] >= 0


def test_with_a_half_life_the_newer_is_the_more_popular(db: psycopg.Connection) -> None:
    db.execute("update recdb.config set half_life = '7 days'")
    record(
        db,
        [[f"u{n}", "old", "like", "2024-01-01"] for n in range(9)]
        + [[f"u{n}", "new", "like", "2024-03-01"] for n in range(2)],
    )
    db.execute("call recdb.refresh()")
    assert ids(recommend(db, "nobody", fallback="popular")) == ["new", "old"]


def test_twenty_thousand_excluded_ids_leave_the_rest_as_it_was(shared: psycopg.Connection) -> None:
    everything = recommend(shared, "me", 1000, fallback="popular")
    left_out = [f"nothing-{number}" for number in range(20_000)] + ids(everything)[:3]
    assert recommend(shared, "me", 1000, exclude=left_out, fallback="popular") == everything[3:]
