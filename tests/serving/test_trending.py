"""trending(): the items that more users touch now than usual, compared with the formula in numpy."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from support.data import column, record

from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database

WEIGHTS = {"view": 0.1, "click": 0.3, "like": 0.7, "share": 1.0, "hide": -1.0, "shown": 0.0}


def draw(seed: int, rows: int = 900, users: int = 40, items: int = 25) -> list[list[Any]]:
    """Interactions of ten days, of which some repeat, and the items rise and fall at random."""
    generator = np.random.default_rng(seed)
    middle, now = generator.uniform(0, 10, items), datetime.now(UTC)
    drawn = []
    for _ in range(rows):
        item = int(generator.integers(items))
        age = abs(generator.normal(middle[item], 3))
        kind = str(generator.choice(list(WEIGHTS)))
        drawn.append([f"u{generator.integers(users)}", f"i{item}", kind, now - timedelta(days=float(age))])
    return drawn


def expected(rows: list[Any], now: datetime, window: timedelta) -> dict[str, tuple[float, float, int]]:
    """(score, rise, users) of each item that rose; rows are (user_id, item_id, kind, created_at, value)."""
    slices: dict[tuple[int, str, str], list[tuple[float, float]]] = {}
    for user, item, kind, created_at, value in rows:
        place = int(np.floor((now - created_at) / window))
        if 0 <= place < 8 and created_at <= now:
            weight = WEIGHTS[kind]
            slices.setdefault((place, user, item), []).append(
                (weight * (1 if value is None else value), max(weight, 0))
            )
    pairs = {
        key: min(sum(weight for weight, _ in found), max(heaviest for _, heaviest in found))
        for key, found in slices.items()
    }
    pairs = {key: weight for key, weight in pairs.items() if weight > 1e-12}
    weights = np.array(list(pairs.values()))
    unit = (weights**2).sum() / weights.sum()
    users_now = len({user for place, user, _ in pairs if place == 0})
    users_before = len({(place, user) for place, user, _ in pairs if place > 0})
    found = {}
    for item in {item for place, _, item in pairs if place == 0}:
        seen = sum(weight for (place, _, of), weight in pairs.items() if of == item and place == 0) / unit
        before = sum(weight for (place, _, of), weight in pairs.items() if of == item and place > 0) / unit
        usual = before * users_now / users_before if users_before else 0.0
        rise = (seen + 2) / (usual + 2)
        if rise > 1:
            weights = np.array([weight for (place, _, of), weight in pairs.items() if of == item and place == 0])
            n = weights.sum() ** 2 / (weights**2).sum() + 2
            bound = rise * (1 - 1 / (9 * n) - 1.6449 / (3 * np.sqrt(n))) ** 3
            found[item] = (bound, rise, sum(place == 0 and of == item for place, _, of in pairs))
    top = max(bound for bound, _, _ in found.values())
    return {item: (bound / top, rise, users) for item, (bound, rise, users) in found.items()}


def kinds(db: psycopg.Connection) -> None:
    for kind in ("hide", "shown"):
        db.execute("insert into recdb.interaction_kind (kind, weight) values (%s, %s)", [kind, WEIGHTS[kind]])


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_formula(shared: psycopg.Connection, seed: int) -> None:
    kinds(shared)
    record(shared, draw(seed))
    shared.execute("update recdb.interaction set value = interaction_id % 7 - 1 where interaction_id % 3 = 1")
    (now,) = shared.execute("select now()").fetchone() or (None,)
    rows = shared.execute("select user_id, item_id, kind, created_at, value from recdb.interaction").fetchall()
    for window in (timedelta(days=1), timedelta(hours=7), timedelta(days=30)):
        found = shared.execute("select * from recdb.trending(1000, %s)", [window]).fetchall()
        wanted = expected(rows, now, window)
        assert {item: row for item, *row in found} == {
            item: pytest.approx(list(values), rel=1e-6) for item, values in wanted.items()
        }
        assert found == sorted(found, key=lambda row: (-row[1], row[0]))
        assert found[0][1] == 1
        assert shared.execute("select * from recdb.trending(3, %s)", [window]).fetchall() == found[:3]


def visits(item: str, users: range, hours: float, kind: str = "view") -> list[list[Any]]:
    """One interaction of each user with an item, so many hours ago; 0.02 is before this transaction began."""
    return [[f"u{user}", item, kind, datetime.now(UTC) - timedelta(hours=hours)] for user in users]


def trending(db: psycopg.Connection, *arguments: Any) -> list[str]:
    places = ", ".join(["%s::bigint", "%s::interval", "%s::jsonb"][: len(arguments)])
    return column(db.execute(f"select item_id from recdb.trending({places})", arguments))


@pytest.fixture
def shop(shared: psycopg.Connection) -> psycopg.Connection:
    """For eight days 60 users a day view `always`; `fading` loses its users, and 20 find `rising` today."""
    for day in range(8):
        record(shared, visits("always", range(60), 24 * day + 2))
        record(shared, visits("fading", range(8 * day), 24 * day + 2)) if day else None
    record(shared, visits("rising", range(20), 3))
    record(shared, visits("chance", range(2), 3))
    return shared


def test_a_trend_is_more_than_popularity(shop: psycopg.Connection) -> None:
    shop.execute("call recdb.refresh()")
    assert column(shop.execute("select item_id from recdb.popular(1)")) == ["always"]

    found = shop.execute("select item_id, rise, users from recdb.trending()").fetchall()

    assert [(item, users) for item, _, users in found] == [("rising", 20), ("chance", 2)]
    assert found[0][1] == pytest.approx(11, rel=0.01) and found[1][1] == pytest.approx(2, rel=0.01)


def test_an_item_of_a_moment_ago_is_in_the_list_before_any_refresh(shop: psycopg.Connection) -> None:
    record(shop, visits("news", range(59), 0.02))

    assert trending(shop, 2) == ["news", "rising"]
    assert trending(shop, 2, "1 hour") == ["news"]


def test_a_busy_hour_makes_nothing_rise_by_itself(shared: psycopg.Connection) -> None:
    """Twice as many users as usual touch everything: nothing rises but what has more than its share of them."""
    for hour in range(8):
        users = range(100 if hour == 0 else 50)
        for item in ("a", "b", "c"):
            record(shared, visits(item, users, hour + 0.5))
    record(shared, visits("d", range(70), 0.5))
    record(shared, visits("d", range(25), 1.5))

    assert trending(shared, 10, "1 hour") == ["d"]


def test_a_user_counts_once_for_an_item(shop: psycopg.Connection) -> None:
    before = shop.execute("select * from recdb.trending()").fetchall()
    record(shop, visits("chance", range(1), 0.02) * 500)

    assert shop.execute("select * from recdb.trending()").fetchall() == before


def test_one_user_with_the_heaviest_kind_comes_below_many_with_the_lightest(shop: psycopg.Connection) -> None:
    record(shop, visits("shared once", range(1), 1, "share"))
    record(shop, visits("viewed", range(8), 1))

    assert trending(shop, 3) == ["rising", "viewed", "shared once"]


def test_a_crawler_takes_no_item_down(shop: psycopg.Connection) -> None:
    """It touches thousands of items: each has one more user, and the others are as many as they were."""
    moment = datetime.now(UTC) - timedelta(hours=0.02)
    record(shop, [["crawler", f"page-{number}", "share", moment] for number in range(3000)])
    record(shop, [["crawler", "always", "view", moment]])

    found = shop.execute("select item_id, users from recdb.trending(2)").fetchall()

    assert found[0] == ("rising", 20)
    assert "always" not in trending(shop, 1000)
    shop.execute("insert into recdb.ignored_user (user_id) values ('crawler')")
    assert trending(shop) == ["rising", "chance"]


def test_what_users_dislike_and_what_was_only_shown_does_not_rise(shop: psycopg.Connection) -> None:
    kinds(shop)
    record(shop, visits("shown", range(50), 1, "shown"))
    record(shop, visits("hidden", range(50), 1, "hide"))
    record(shop, [*visits("regretted", range(50), 2), *visits("regretted", range(50), 1, "hide")])

    assert trending(shop) == ["rising", "chance"]


def test_the_catalogue_decides_what_is_listed(shop: psycopg.Connection) -> None:
    record(shop, [*visits("later", range(30), 1), *visits("gone", range(30), 1), *visits("secret", range(30), 1)])
    shop.execute(
        "insert into recdb.item (item_id, available, published_at, attributes) values ('rising', true, null, %s), "
        "('gone', false, null, '{}'), ('secret', true, now() + interval '1 day', '{}'), ('chance', true, null, %s)",
        ['{"topic": "jazz"}', '{"topic": "tea"}'],
    )
    everything = dict(shop.execute("select item_id, score from recdb.trending()").fetchall())
    assert list(everything) == ["later", "rising", "chance"]
    filtered = shop.execute('select item_id, score from recdb.trending(5, filter => \'{"topic": "tea"}\')').fetchall()
    assert filtered == [("chance", everything["chance"])]
    shop.execute("update recdb.config set listed_only = true")
    assert trending(shop) == ["rising", "chance"]


def test_a_clock_that_is_ahead_does_not_count_yet(shop: psycopg.Connection) -> None:
    record(shop, visits("tomorrow", range(50), -20))

    assert "tomorrow" not in trending(shop)


@pytest.mark.parametrize("wrong", ["0", "-1 day", "500 days"])
def test_a_window_that_cannot_be_is_refused(shared: psycopg.Connection, wrong: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="time_window"), shared.transaction():
        trending(shared, 5, wrong)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="k is 0"), shared.transaction():
        trending(shared, 0)
    assert trending(shared, None, None, None) == []


@pytest.mark.parametrize(
    ("type_", "zone"), [("timestamptz", None), ("timestamp", "UTC"), ("timestamp", "Europe/Berlin"), ("date", "UTC")]
)
def test_attached_tables_count_by_the_index_of_their_times(
    database: Database, db: psycopg.Connection, type_: str, zone: str | None
) -> None:
    moment = f"(now() {f'at time zone {zone!r}' if zone else ''} - n * interval '97 minutes')::{type_}"
    db.execute(f"create table event (who integer, what integer, at {type_})")
    db.execute(f"insert into event select n %% 50, n %% 7, {moment} from generate_series(1, 20000) n", [])
    db.execute(f"insert into event select n, 7, {moment.replace('97', '1')} from generate_series(1, 40) n")
    db.execute("insert into event values (1, 8, null); create index event_at on event (at); analyze event")
    mapping = {"user": "who", "item": "what", "kind": "'view'", "at": "at"}
    attach(database, [Source("interactions", "public.event", mapping | ({"timezone": zone} if zone else {}))])
    record(db, visits("own", range(3), 1))

    found = db.execute("select item_id, users from recdb.trending(2, '2 days')").fetchall()

    assert found == [("7", 40), ("own", 3)]
    plan = "\n".join(column(db.execute(
        "explain select * from recdb.interactions_between(now() - interval '1 day', now())")))  # fmt: skip
    assert "event_at" in plan and "Seq Scan on event" not in plan
    db.execute("select recdb.forget_user('5')")
    assert dict(db.execute("select item_id, users from recdb.trending(2, '2 days')").fetchall())["7"] == 39
