"""The validation part: the items that a user chose last, and the events that would reveal the choice."""

import numpy as np
import pytest

from recdb.learn.events import Events
from recdb.offline.split import Validation, split

DAY = 86400
VIEW, BUY = 0, 1


def shop(*rows: tuple[int, int, int, int], hides: tuple[bool, bool] = (False, True)) -> Events:
    """Events of (user, item, kind, day); a view weighs .1, a purchase 1."""
    users, items, kinds, days = (np.array(column) for column in zip(*rows, strict=True))
    return Events(
        users.astype(np.int32),
        items.astype(np.int32),
        kinds.astype(np.int16),
        (days * DAY).astype(np.int32),
        weights=np.array([0.1, 1.0]),
        hides=np.array(hides),
        shape=(int(users.max()) + 1, int(items.max()) + 1),
    )


def left(events: Events) -> set[tuple[int, int, int]]:
    return set(zip(events.users.tolist(), events.items.tolist(), events.kinds.tolist(), strict=True))


def test_the_last_purchase_is_relevant() -> None:
    cut = split(shop((1, 1, BUY, 0), (1, 2, BUY, 50), (1, 3, VIEW, 60)), most_users=10)

    assert list(zip(cut.users, cut.items, strict=True)) == [(1, 2)]
    assert left(cut.events) == {(1, 1, BUY), (1, 3, VIEW)}


def test_views_of_the_same_visit_are_held_out_with_the_purchase_and_older_ones_stay() -> None:
    cut = split(shop((1, 1, BUY, 0), (1, 2, VIEW, 5), (1, 2, VIEW, 99), (1, 2, BUY, 100)), most_users=10)

    assert list(cut.items) == [2]
    assert len(cut.events.users) == 2
    assert left(cut.events) == {(1, 1, BUY), (1, 2, VIEW)}


def test_without_times_views_stay_because_visits_are_unknown() -> None:
    cut = split(shop((1, 1, VIEW, 0), (1, 2, VIEW, 0), (1, 2, BUY, 0)), most_users=10)

    assert left(cut.events) == {(1, 1, VIEW), (1, 2, VIEW)}


def test_items_of_light_kinds_are_held_out_but_not_relevant() -> None:
    cut = split(shop((1, 1, BUY, 0), (1, 2, VIEW, 50), hides=(True, True)), most_users=10)

    assert left(cut.events) == {(1, 1, BUY)}
    assert len(cut.items) == 0


def test_a_fifth_of_a_long_history_is_held_out() -> None:
    cut = split(shop(*((1, item, BUY, item) for item in range(1, 21))), most_users=10)

    assert sorted(cut.items) == [17, 18, 19, 20]


def test_a_user_of_one_item_keeps_it() -> None:
    cut = split(shop((1, 1, BUY, 0), (2, 1, BUY, 0), (2, 2, BUY, 1)), most_users=10)

    assert set(cut.users) == {2}


def test_no_more_users_than_asked_for_are_held_out() -> None:
    rows = [(user, item, BUY, item) for user in range(1, 40) for item in range(1, 4)]

    assert len(np.unique(split(shop(*rows), most_users=7).users)) == 7


@pytest.mark.parametrize(("visitors", "expected"), [(0, 0), (20, 8), (100, 30)])
def test_users_left_without_a_purchase_are_as_frequent_as_among_all_users(
    visitors: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a single purchase the split leaves a visitor, who is ranked for by other settings than a customer."""
    monkeypatch.setattr("recdb.offline.split.LEAST_USERS", 0)
    buyers = [(user, user, VIEW, 0) for user in range(1, 51)] + [(user, 60, BUY, 50) for user in range(1, 51)]
    regulars = [(user, 61, BUY, 90) for user in range(31, 51)]
    viewers = [(100 + user, 62, VIEW, 5) for user in range(visitors)]

    cut = split(shop(*buyers, *regulars, *viewers), most_users=1000)

    users = set(cut.users.tolist())
    assert users >= set(range(31, 51))
    assert len(users & set(range(1, 31))) == expected


def test_where_few_bought_twice_a_single_purchase_is_held_out() -> None:
    rows = [(user, item, kind, 0) for user in range(1, 400) for item, kind in ((user, VIEW), (500, BUY))]

    assert len(np.unique(split(shop(*rows), most_users=1000).users)) == 300


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_held_out_is_left_to_learn_from(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [tuple(map(int, generator.integers((1, 1, 0, 0), (9, 30, 2, 200)))) for _ in range(400)]
    cut = split(shop(*rows), most_users=100)  # type: ignore[arg-type]

    bought = {(user, item) for user, item, kind in left(cut.events) if kind == BUY}
    assert len(cut.items) > 5
    assert not bought & set(zip(cut.users.tolist(), cut.items.tolist(), strict=True))


@pytest.mark.parametrize(("number", "least"), [(200, 0.15), (8000, 0.04)])
def test_without_times_held_out_items_are_as_popular_as_the_last_items_of_each_user(number: int, least: float) -> None:
    """600 users meet the items that interest them at random, popular ones more often; of 200 items they meet most."""
    generator = np.random.default_rng(1)
    rates = np.exp(generator.normal(0, 1.2, number)) / number
    interesting = generator.random((600, number)) < 0.5
    met = generator.exponential(size=(600, number)) / rates
    seen = interesting & (met < generator.choice([50, 100, 200], (600, 1)))
    users, items = np.nonzero(seen)
    popularity = np.log(seen.sum(0).clip(1))

    def fall(cut: Validation) -> float:
        """Of the popularity, from a user's items to those held out."""
        return float(popularity[items].mean() - popularity[cut.items].mean())

    def cut(times: np.ndarray) -> Validation:
        return split(
            shop(*zip(users.tolist(), items.tolist(), [BUY] * len(users), times, strict=True)), most_users=2000
        )

    truth = fall(cut((met[seen] * 100).astype(int).tolist()))
    drawn = fall(cut([0] * len(users)))
    assert truth > least
    assert drawn == pytest.approx(truth, rel=0.15)
