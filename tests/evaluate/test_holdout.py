"""Holding out a database's own interactions, checked by hand on a few rows: the training part has nothing later."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from recdb.errors import InvalidInput, RecdbError
from recdb.evaluate.holdout import Split, hold_out
from recdb.learn.events import Events
from recdb.offline.split import split

WEEK = timedelta(days=7)
WEIGHTS = {"view": (0.1, False), "sample": (0.2, True), "rent": (0.6, True), "buy": (1.0, True), "shown": (0.0, True)}
Row = tuple[str, str, str, str]


def cut(
    shared: psycopg.Connection, rows: Sequence[Row], holdout: timedelta | None
) -> tuple[dict[str, set[str]], Split]:
    """Hold out interactions of a shop, where all kinds but views hide."""
    shared.execute("delete from recdb.interaction_kind")
    shared.execute(
        "create temporary table copied "
        "(user_id text, item_id text, kind text, created_at timestamptz, value double precision)"
    )
    with shared.cursor() as cursor:
        cursor.executemany(
            "insert into recdb.interaction_kind values (%s, %s, %s)",
            [(kind, weight, hides) for kind, (weight, hides) in WEIGHTS.items()],
        )
        cursor.executemany("insert into copied values (%s, %s, %s, %s)", rows)
    shared.execute("set local timezone = 'UTC'")
    return hold_out(shared, holdout, lambda step: None)


def left(shared: psycopg.Connection) -> list[tuple[str, str, str]]:
    return sorted(shared.execute("select user_id, item_id, kind from recdb.interaction").fetchall())


def day(number: int) -> str:
    return f"2026-01-{number:02d} 12:00+00"


def test_the_last_days_are_held_out_for_all_and_earlier_interactions_stay(shared: psycopg.Connection) -> None:
    rows = [
        ("ann", "tea", "buy", day(2)),
        ("ann", "cup", "view", day(12)),
        ("ann", "cup", "buy", day(13)),
        ("ann", "pot", "view", day(19)),
        ("bob", "cup", "buy", "2026-01-13 11:59:59.999+00"),
        ("bob", "tea", "buy", day(20)),
    ]

    relevant, found = cut(shared, rows, WEEK)

    assert relevant == {"ann": {"cup"}, "bob": {"tea"}}
    assert left(shared) == [("ann", "cup", "view"), ("ann", "tea", "buy"), ("bob", "cup", "buy")]
    assert found.cut_at == "2026-01-13 12:00:00+00"
    assert (found.train_interactions, found.held_out_interactions, found.relevant) == (3, 3, 2)


def test_an_item_that_was_hidden_before_is_not_relevant(shared: psycopg.Connection) -> None:
    rows = [
        ("ann", "tea", "sample", day(2)),
        ("ann", "tea", "buy", day(19)),
        ("ann", "cup", "sample", day(18)),
        ("ann", "cup", "rent", day(19)),
        ("ann", "pot", "sample", day(20)),
    ]

    relevant, found = cut(shared, rows, WEEK)

    assert relevant == {"ann": {"cup"}}
    assert found.kinds == ["buy", "rent"]


def test_an_item_that_is_new_to_everybody_is_relevant_and_counted_as_new(shared: psycopg.Connection) -> None:
    relevant, found = cut(shared, [("ann", "tea", "buy", day(1)), ("ann", "cup", "buy", day(20))], WEEK)

    assert relevant == {"ann": {"cup"}}
    assert found.new_items == 1


def test_an_item_that_recommend_never_shows_is_not_relevant(shared: psycopg.Connection) -> None:
    shared.execute(
        "insert into recdb.item (item_id, owner_id, available) values ('own', 'ann', true), ('gone', null, false)"
    )
    rows = [("ann", "tea", "buy", day(1)), *(("ann", item, "buy", day(20)) for item in ("own", "gone", "cup"))]

    relevant, _ = cut(shared, rows, WEEK)

    assert relevant == {"ann": {"cup"}}


def test_interactions_of_the_future_count_as_of_now(shared: psycopg.Connection) -> None:
    now = datetime.now(tz=UTC)
    rows = [
        ("ann", "tea", "buy", str(now - timedelta(days=30))),
        ("ann", "cup", "buy", str(now - timedelta(days=3))),
        ("bob", "cup", "buy", str(now + timedelta(days=3000))),
    ]

    relevant, _ = cut(shared, rows, WEEK)

    assert relevant["ann"] == {"cup"}
    assert left(shared) == [("ann", "tea", "buy")]


def test_the_last_fifth_of_each_users_items_is_held_out_with_all_later_interactions(shared: psycopg.Connection) -> None:
    rows = [
        *(("ann", f"item-{number}", "buy", day(number)) for number in range(1, 11)),
        ("ann", "item-1", "view", day(9)),
        ("ann", "item-1", "view", "2026-01-08 12:00+00"),
        ("bob", "tea", "buy", day(30)),
        ("bob", "cup", "buy", day(31)),
        ("carl", "tea", "buy", day(1)),
    ]

    relevant, found = cut(shared, rows, None)

    assert relevant == {"ann": {"item-9", "item-10"}, "bob": {"cup"}}
    assert left(shared) == sorted(
        [
            *(("ann", f"item-{number}", "buy") for number in range(1, 9)),
            ("ann", "item-1", "view"),
            ("bob", "tea", "buy"),
            ("carl", "tea", "buy"),
        ]
    )
    assert found.cut_at is None
    assert found.random_users == 0


def test_interactions_with_the_timestamp_of_the_split_are_held_out_too(shared: psycopg.Connection) -> None:
    rows = [
        ("ann", "tea", "buy", day(1)),
        ("ann", "cup", "buy", day(2)),
        ("ann", "pot", "buy", day(2)),
        ("ann", "jug", "view", day(2)),
    ]

    relevant, _ = cut(shared, rows, None)

    assert relevant == {"ann": {"cup", "pot"}}
    assert left(shared) == [("ann", "tea", "buy")]


def test_the_visit_that_led_to_a_decision_is_held_out_and_older_visits_stay(shared: psycopg.Connection) -> None:
    rows = [
        ("ann", "tea", "buy", "2026-01-01"),
        ("ann", "cup", "view", "2026-01-02"),
        ("ann", "cup", "view", "2026-02-27"),
        ("ann", "jug", "view", "2026-02-27"),
        ("ann", "cup", "buy", "2026-03-01"),
    ]

    relevant, _ = cut(shared, rows, None)

    assert relevant == {"ann": {"cup"}}
    assert left(shared) == [("ann", "cup", "view"), ("ann", "jug", "view"), ("ann", "tea", "buy")]


def test_without_an_order_the_share_is_drawn_at_random_and_the_same_every_time(shared: psycopg.Connection) -> None:
    rows: list[Row] = [("ann", f"item-{number}", "buy", day(1)) for number in range(100)]
    rows += [("ann", f"item-{number}", "view", day(1)) for number in range(100)]

    relevant, found = cut(shared, rows, None)
    first = left(shared)
    for table in ("copied", "event", "choice", "held"):
        shared.execute(f"drop table {table}")
    shared.execute("delete from recdb.interaction")
    again, _ = cut(shared, rows[::-1], None)

    assert len(relevant["ann"]) == 20
    assert relevant["ann"] != {f"item-{number}" for number in range(80, 100)}
    assert again == relevant
    assert left(shared) == first
    assert not {item for _, item, kind in first if kind == "buy"} & relevant["ann"]
    assert found.random_users == 1


def random_rows(seed: int, users: int = 30) -> list[Row]:
    """Interactions of a shop, all at different seconds of a year."""
    generator = np.random.default_rng(seed)
    seconds = generator.choice(365 * 86400, 600, replace=False)
    return [
        (
            f"u{generator.integers(users)}",
            f"i{generator.integers(25)}",
            str(generator.choice(list(WEIGHTS))),
            str(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=int(second))),
        )
        for second in seconds
    ]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("holdout", [None, timedelta(days=60)])
def test_the_training_part_is_earlier_than_every_relevant_item(
    shared: psycopg.Connection, seed: int, holdout: timedelta | None
) -> None:
    rows = random_rows(seed)
    relevant, _ = cut(shared, rows, holdout)

    latest = dict(shared.execute("select user_id, max(created_at) from recdb.interaction group by user_id").fetchall())
    newest = max(latest.values())
    chosen = 0
    for user, items in relevant.items():
        for item in items:
            first = min(
                datetime.fromisoformat(at)
                for u, i, kind, at in rows
                if (u, i) == (user, item) and kind not in ("view", "shown")
            )
            assert (latest.get(user, datetime.min.replace(tzinfo=UTC)) if holdout is None else newest) < first
            chosen += 1
    assert chosen > 20


@pytest.mark.parametrize("seed", [2, 3])
def test_relevant_items_are_those_of_the_tuners_validation_part(shared: psycopg.Connection, seed: int) -> None:
    rows = random_rows(seed)
    relevant, _ = cut(shared, rows, None)

    kinds = sorted(WEIGHTS)
    events = Events(
        np.array([int(user[1:]) for user, *_ in rows], dtype=np.int32),
        np.array([int(item[1:]) for _, item, *_ in rows], dtype=np.int32),
        np.array([kinds.index(kind) for _, _, kind, _ in rows], dtype=np.int16),
        np.array([datetime.fromisoformat(at).timestamp() for *_, at in rows]).astype(np.int32),
        weights=np.array([WEIGHTS[kind][0] for kind in kinds]),
        hides=np.array([WEIGHTS[kind][1] for kind in kinds]),
        shape=(30, 25),
    )
    tuners = split(events, most_users=1000)

    known = {user for user, *_ in left(shared)}
    found = {(user, item) for user, items in relevant.items() for item in items if user in known}
    assert found == {(f"u{user}", f"i{item}") for user, item in zip(tuners.users, tuners.items, strict=True)}


@pytest.mark.parametrize(
    ("rows", "holdout", "message"),
    [
        ([("ann", "tea", "buy", day(1)), ("ann", "cup", "buy", day(2))], WEEK, "nothing to learn from"),
        ([("ann", "tea", "buy", day(1)), ("ann", "cup", "view", day(20))], WEEK, "nothing new was chosen"),
        ([("ann", "tea", "buy", day(1)), ("bob", "cup", "buy", day(20))], WEEK, "did anything before"),
        (
            [("ann", "tea", "view", day(1)), ("ann", "cup", "view", day(2))],
            WEEK,
            "no interaction is of a kind that hid",
        ),
        (
            [("ann", "tea", "buy", day(1)), ("bob", "tea", "buy", day(2))],
            None,
            "to learn from and a relevant item",
        ),
        ([("ann", "tea", "buy", "-infinity")], WEEK, "nothing to learn from"),
    ],
)
def test_a_part_that_is_empty_is_one_clear_error(
    shared: psycopg.Connection, rows: list[Row], holdout: timedelta | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as error:
        cut(shared, rows, holdout)
    assert error.value.hint


def test_no_interactions_at_all_is_one_clear_error(shared: psycopg.Connection) -> None:
    with pytest.raises(RecdbError, match="no interactions"):
        cut(shared, [], None)


def test_one_row_of_the_future_moves_no_split(shared: psycopg.Connection) -> None:
    rows = [("ann", "tea", "buy", day(2)), ("ann", "cup", "buy", day(20)), ("bob", "tea", "buy", day(1))]

    relevant, found = cut(shared, [*rows, ("bob", "pot", "buy", "2099-01-01 12:00+00")], WEEK)

    assert relevant == {"ann": {"cup"}, "bob": {"pot"}}
    assert found.cut_at == "2026-01-13 12:00:00+00"


@pytest.mark.parametrize("holdout", [WEEK, None])
def test_the_first_and_the_last_time_stop_no_split(shared: psycopg.Connection, holdout: timedelta | None) -> None:
    rows = [("ann", item, "buy", time) for item in ("tea", "cup") for time in ("4713-01-01 BC", "-infinity")]

    relevant, _ = cut(shared, [*rows, ("ann", "pot", "buy", "294276-12-31"), ("ann", "cap", "buy", day(1))], holdout)

    assert relevant["ann"] >= {"pot"}


@pytest.mark.parametrize("holdout", [WEEK, None])
def test_what_was_shown_is_no_choice_and_stays_hidden(shared: psycopg.Connection, holdout: timedelta | None) -> None:
    rows = [("ann", item, "buy", day(2 + number)) for number, item in enumerate(("tea", "cup", "pot", "cap"))]
    rows += [("ann", "mug", "buy", day(20)), ("ann", "jar", "shown", day(3)), ("ann", "pan", "shown", day(21))]

    relevant, _ = cut(shared, rows, holdout)

    assert relevant == {"ann": {"mug"}}
    assert ("ann", "jar", "shown") in left(shared)
