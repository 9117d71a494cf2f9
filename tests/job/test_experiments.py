"""Experiments: who gets which variant, and figures that come from impressions and the interactions after them."""

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from support.data import column, record, tastes, train
from support.doctor import find, findings
from support.refreshing import refresh
from typer.testing import CliRunner

from recdb import job
from recdb.cli import app
from recdb.client import Recommender
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.offline.always_valid import Sums

NOW = datetime.now(UTC)


def make(db: psycopg.Connection, name: str = "colours", scenario: str = "home", **weights: float) -> None:
    db.execute("insert into recdb.experiment (name, scenario) values (%s, %s)", [name, scenario])
    for variant, weight in (weights or {"blue": 1, "red": 1}).items():
        db.execute(
            "insert into recdb.experiment_variant (experiment, name, weight) values (%s, %s, %s)",
            [name, variant, weight],
        )


def variant(db: psycopg.Connection, user: Any, experiment: str = "colours") -> Any:
    return db.execute("select recdb.variant(%s, %s)", [user, experiment]).fetchone()[0]


def recdb(database: Database, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["experiment", *words, "--url", database.conninfo], env={"COLUMNS": "80"})
    assert done.exit_code == code, done.output
    return done.output


# Who gets which variant ---------------------------------------------------------------------------------------


def test_a_users_variant_is_always_the_same_and_follows_the_documented_hash(shared: psycopg.Connection) -> None:
    make(shared, a=1, b=2, c=1)
    shared.execute("select recdb.start_experiment('colours')")
    users = [f"user-{number}" for number in range(4000)]
    found = dict(shared.execute("select u, recdb.variant(u, 'colours') from unnest(%s::text[]) u", [users]).fetchall())

    def expected(user: str) -> str:
        share = int(hashlib.sha256(f"colours/{user}".encode()).hexdigest()[:13], 16) / 2**52
        return "a" if share < 0.25 else "b" if share < 0.75 else "c"

    assert found == {user: expected(user) for user in users}
    counts = Counter(found.values())
    assert [counts[name] / 4000 for name in "abc"] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert variant(shared, "Zoë 👩‍👩‍👧") == expected("Zoë 👩‍👩‍👧")
    assert variant(shared, 42) == variant(shared, "42") == expected("42")


def test_experiments_are_independent_of_each_other(shared: psycopg.Connection) -> None:
    for name in ("one", "two"):
        make(shared, name, name)
        shared.execute("select recdb.start_experiment(%s)", [name])
    pairs = shared.execute(
        "select recdb.variant(u::text, 'one'), recdb.variant(u::text, 'two') from generate_series(1, 2000) u"
    ).fetchall()
    assert min(Counter(pairs).values()) > 400


def test_nobody_and_users_of_an_experiment_that_does_not_run_get_no_variant(shared: psycopg.Connection) -> None:
    make(shared)
    assert variant(shared, "u1") is None
    shared.execute("select recdb.start_experiment('colours')")
    assert variant(shared, "u1") in ("blue", "red")
    assert variant(shared, None) is None
    shared.execute("select recdb.stop_experiment('colours')")
    assert variant(shared, "u1") is None
    with pytest.raises(psycopg.errors.UndefinedObject, match="no experiment"):
        variant(shared, "u1", "unheard-of")


def test_the_running_experiment_of_a_scenario_decides_its_lists(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    label = train(database)
    make(db)
    db.execute("insert into recdb.scenario (name) values ('home-red')")
    db.execute("update recdb.experiment_variant set model_version = %s, scenario = 'home-red' where name = 'red'",
               [label])  # fmt: skip
    decided = "select * from recdb.experiment_at(%s, %s, now())"
    assert db.execute(decided, ["u1", "home"]).fetchall() == []
    db.execute("select recdb.start_experiment('colours')")
    got = {user: db.execute(decided, [user, "home"]).fetchone() for user in ("u1", "u2", "u3", "u4", "u5")}

    assert set(got.values()) == {("colours", "blue", None, None), ("colours", "red", label, "home-red")}
    assert all(row[1] == variant(db, user) for user, row in got.items() if row)
    assert db.execute(decided, ["u1", "mail"]).fetchall() == db.execute(decided, [None, "home"]).fetchall() == []


def test_a_version_that_an_experiment_compares_is_kept_until_it_stops(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    db.execute("update recdb.config set kept_models = 1")
    old = train(database)
    make(db)
    db.execute("update recdb.experiment_variant set model_version = %s where name = 'red'", [old])
    db.execute("select recdb.start_experiment('colours')")
    train(database)
    train(database)
    kept = "select label from recdb.models where state = 'ready' order by 1"
    assert column(db.execute(kept)) == [old, "collaborative_filtering_v3"]
    assert db.execute("select count(*) from recommend('u1', 5, model => %s)", [old]).fetchone() == (5,)

    db.execute("select recdb.stop_experiment('colours')")
    job.run(database)
    assert column(db.execute(kept)) == ["collaborative_filtering_v3"]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("select recdb.start_experiment('nothing')", "no experiment"),
        ("select recdb.start_experiment('running')", "started before"),
        ("select recdb.start_experiment('lonely')", "fewer than two variants"),
        ("select recdb.start_experiment('gone')", "v77, which is not kept"),
        ("select recdb.start_experiment('beside')", "experiment running runs on scenario home"),
        ("select recdb.stop_experiment('beside')", "no experiment"),
        ("update recdb.experiment set started_at = now() where name = 'beside'", "experiment_running"),
        ("update recdb.experiment_variant set weight = 9 where experiment = 'running'", "stay as they are"),
        ("delete from recdb.experiment_variant where experiment = 'running'", "stay as they are"),
        ("insert into recdb.experiment_variant (experiment, name) values ('running', 'new')", "stay as they are"),
        ("insert into recdb.experiment_variant (experiment, name, weight) values ('gone', 'new', 0)", "violates check"),
        ("insert into recdb.experiment (name) values ('a b')", "violates check"),
        ("insert into recdb.experiment (name, stopped_at) values ('ab', now())", "violates check"),
    ],
)
def test_what_would_spoil_an_experiment_is_refused(shared: psycopg.Connection, statement: str, said: str) -> None:
    make(shared, "running")
    make(shared, "beside")
    make(shared, "lonely", "mail", only=1)
    make(shared, "gone", "mail")
    shared.execute(
        "update recdb.experiment_variant set model_version = 'v77' where (experiment, name) = ('gone', 'red')"
    )
    shared.execute("select recdb.start_experiment('running')")
    with pytest.raises(psycopg.Error, match=said):
        shared.execute(statement)


def test_the_client_asks_for_a_variant(shared: psycopg.Connection) -> None:
    make(shared)
    shared.execute("select recdb.start_experiment('colours')")
    with Recommender(shared) as recommender:
        assert recommender.variant("u1", "colours") == variant(shared, "u1")
        assert recommender.variant(None, "colours") is None


# Figures ------------------------------------------------------------------------------------------------------


def simulate(db: psycopg.Connection, rates: dict[str, float], users: int = 1200, seed: int = 2) -> None:
    """Let users see pages for two days, and click at the rates of their variants; a part of them likes as well."""
    generator = np.random.default_rng(seed)
    shown, clicks = [], []
    for number in range(users):
        user = f"user-{number}"
        mine = variant(db, user)
        taste = generator.beta(rates[mine] * 8, (1 - rates[mine]) * 8)
        for page in range(1 + generator.poisson(2)):
            moment = NOW - timedelta(minutes=5 + 700 * page)
            for place in range(1, 6):
                item = f"i{generator.integers(60)}"
                shown.append((user, item, "home", place, moment, "v1", "colours", mine))
                if generator.random() < taste:
                    clicks.append((user, item, "click", moment + timedelta(seconds=30)))
    columns = "user_id, item_id, scenario, place, shown_at, model_version, experiment, variant"
    with db.cursor().copy(f"copy recdb.impression_new ({columns}) from stdin") as copy:
        for row in shown:
            copy.write_row(row)
    record(db, clicks)
    refresh(db)


@pytest.fixture
def running(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    make(db)
    db.execute("select recdb.start_experiment('colours')")
    db.execute("update recdb.experiment set started_at = now() - interval '10 days'")
    return db


def test_online_metrics_are_those_that_one_counts_by_hand(db: psycopg.Connection) -> None:
    early = datetime(2026, 1, 1, tzinfo=UTC).replace(year=NOW.year, month=NOW.month, day=1)
    db.execute("update recdb.config set impression_retention = interval '100 days'")
    for user, items in (("a", ["x", "y", "z"]), ("b", ["x"]), ("c", ["x", "y"]), ("robot", ["x"])):
        db.execute("select recdb.impressions(%s, %s::text[], 'home', shown_at => %s, model_version => 'v1')",
                   [user, items, early])  # fmt: skip
    later = early + timedelta(hours=2)
    db.execute("select recdb.impressions('a', '{x}', 'mail', shown_at => %s)", [early + timedelta(hours=1)])
    for user, item, kind, moment in (
        ("a", "x", "click", later),  # the mail was the last to show it
        ("a", "y", "click", later), ("a", "y", "click", later + timedelta(minutes=1)),
        ("b", "x", "click", early - timedelta(minutes=1)),
        ("c", "y", "click", early + timedelta(hours=25)),
        ("c", "x", "like", early),
        ("robot", "x", "click", later),
    ):  # fmt: skip
        db.execute("select recdb.track(%s, %s, %s, %s)", [user, item, kind, moment])
    db.execute("insert into recdb.ignored_user (user_id) values ('robot')")
    refresh(db)

    rows = db.execute(
        "select scenario, kind, users, impressions, touched, rate, converted, conversion from recdb.online_metrics "
        "where kind in ('click', 'like') order by 1, 2"
    ).fetchall()

    assert rows == [
        ("home", "click", 3, 6, 1, 1 / 6, 1, 1 / 3),
        ("home", "like", 3, 6, 1, 1 / 6, 1, 1 / 3),
        ("mail", "click", 1, 1, 1, 1, 1, 1),
        ("mail", "like", 1, 1, 0, 0, 0, 0),
    ]
    day = "select distinct day, model_version from recdb.online_metrics where scenario = 'home'"
    assert db.execute(day).fetchall() == [(early.date(), "v1")]
    wider = "select sum(touched) from recdb.measure_impressions(null, null, '2 days') where kind = 'click'"
    assert db.execute(wider).fetchone() == (3,)
    none = "select * from recdb.measure_impressions(%s, null)"
    assert db.execute(none, [early + timedelta(days=1)]).fetchall() == []


def test_intervals_count_users_and_not_impressions(running: psycopg.Connection) -> None:
    simulate(running, {"blue": 0.2, "red": 0.2}, users=400)
    kind, rate, low, high, impressions = running.execute(
        "select kind, rate, rate_low, rate_high, impressions from recdb.online_metrics "
        "where kind = 'click' order by impressions desc limit 1"
    ).fetchone()
    sums = {
        (variant, kind): Sums(*rest)
        for variant, kind, *rest in running.execute(
            "select b.variant, k.kind, b.users, b.impressions, b.xx, k.users, k.touched, k.yy, k.xy "
            "from recdb.experiment_sums('colours') b join recdb.experiment_sums('colours') k using (variant) "
            "where b.kind is null and k.kind is not null"
        ).fetchall()
    }

    assert kind == "click" and low < rate < high
    # Users differ, so the interval is wider than that of as many independent impressions.
    assert (high - low) / 2 > 1.25 * 1.96 * (rate * (1 - rate) / impressions) ** 0.5
    assert {variant: each.rate for (variant, _), each in sums.items()} == pytest.approx(
        {"blue": 0.2, "red": 0.2}, abs=0.03
    )


def test_an_experiment_from_its_start_to_its_end(database: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.scenario (name) values ('home-red')")
    assert "no experiment" in recdb(database, "show")
    started = recdb(database, "start", "colours", "--scenario", "home", "--variant", "blue", "--variant",
                    "red=1,scenario=home-red")  # fmt: skip
    assert started.endswith("experiment colours runs\n")
    assert "no impression was followed yet" in recdb(database, "show", "colours")
    db.execute("update recdb.experiment set started_at = now() - interval '10 days'")
    simulate(db, {"blue": 0.12, "red": 0.24})

    shown = recdb(database, "show", "colours")
    assert max(map(len, shown.splitlines()[1:])) <= 80
    assert "the users are split as planned" in shown
    assert "higher" in shown and "control" in shown
    figures = json.loads(recdb(database, "show", "colours", "--json").partition("\n")[2])
    (red,) = [each for each in figures["kinds"] if (each["kind"], each["variant"]) == ("click", "red")]
    assert red["change_low"] < 0.12 < red["change_high"] and red["verdict"] == "higher"
    assert figures["control"] == "blue" and sum(each["users"] for each in figures["variants"]) == 1200

    assert recdb(database, "stop", "colours").endswith("experiment colours has stopped\n")
    assert json.loads(recdb(database, "show", "--json").partition("\n")[2])[0]["stopped_at"]
    again = json.loads(recdb(database, "show", "colours", "--json").partition("\n")[2])
    assert again["kinds"] == figures["kinds"]


def test_a_wrong_split_and_users_of_two_variants_are_said(database: Database, running: psycopg.Connection) -> None:
    simulate(running, {"blue": 0.2, "red": 0.2}, users=500)
    running.execute("select recdb.merge_users('user-1', 'user-2'), recdb.merge_users('user-3', 'user-5')")
    running.execute("update recdb.impression set variant = 'red' where user_key = "
                    "(select user_key from recdb.user_key where user_id = 'user-7') and place = 1")  # fmt: skip
    running.execute("delete from recdb.impression where variant = 'red' and user_key % 2 = 0")
    figures = json.loads(recdb(database, "show", "colours", "--json").partition("\n")[2])

    assert figures["split_p_value"] < 0.001
    assert "the users are not split as planned" in recdb(database, "show", "colours")
    mixed = running.execute(
        "select count(*) from (select from recdb.impression group by user_key having count(distinct variant) > 1) m"
    ).fetchone()
    assert (figures["crossed_users"],) == mixed and figures["crossed_users"] >= 1


def test_doctor_says_how_much_there_is_and_which_version_is_lost(running: psycopg.Connection) -> None:
    assert "impressions" not in findings(running)
    running.execute("select recdb.impressions('u1', '{i1}')")
    refresh(running)
    assert find(running, "impressions").message.startswith("5 weeks, ")
    running.execute("alter table recdb.experiment_variant disable trigger user")
    running.execute("update recdb.experiment_variant set model_version = 'v77' where name = 'red'")
    lost = find(running, "impressions")
    assert lost.state == "warn" and "v77 of colours" in lost.message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing"], "there is no experiment nothing"),
        (["stop", "nothing"], "no experiment \"nothing\" runs"),
        (["start", "nothing"], "there is no experiment"),
        (["start", "e", "--variant", "a"], "fewer than two variants"),
        (["start", "e", "--variant", "a", "--variant", "a"], "such a variant already"),
        (["start", "e", "--variant", "a=x", "--variant", "b"], "'x' is no weight"),
        (["start", "e", "--variant", "a=-1", "--variant", "b"], "refused"),
        (["start", "e", "--variant", "a,colour=red", "--variant", "b"], "colour is not understood"),
        (["start", "e", "--variant", "a", "--variant", "b,model=v77"], "v77, which is not kept"),
        (["estimate", "v77"], "v77"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_work_says_why_and_changes_nothing(
    database: Database, db: psycopg.Connection, words: list[str], said: str
) -> None:
    done = CliRunner().invoke(app, ["experiment", *words, "--url", database.conninfo])
    assert done.exit_code != 0 and isinstance(done.exception, (RecdbError, psycopg.Error))
    assert said in str(done.exception)
    assert db.execute("select count(*) from recdb.experiment").fetchone() == (0,)


# Estimates for versions that were never served ----------------------------------------------------------------


def test_a_version_is_estimated_from_random_pages(database: Database, db: psycopg.Connection) -> None:
    """Pages of random items, clicks by a hidden taste: the estimate is the truth of the version's own lists."""
    db.execute("update recdb.interaction_kind set weight = 0, hides = false where kind = 'click'")
    record(db, [row for row in tastes(users=60, items=12, per_user=4) if row[2] != "click"])
    label = train(database)
    begin = db.execute("select now()").fetchone()[0]
    generator = np.random.default_rng(7)
    users = column(db.execute("select user_id from recdb.user_key order by user_key"))

    def taste(user: str, item: str) -> float:
        return 0.5 if int(user[1:]) % 3 == int(item[1:]) % 3 else 0.1

    lists = {user: column(db.execute("select item_id from recommend(%s, 2)", [user])) for user in users}
    truth = np.mean([taste(user, item) for user in users for item in lists[user]])
    clicks, shown = [], []
    for user in users:
        for page in range(20):
            moment = begin + timedelta(seconds=page)
            for place, number in enumerate(generator.choice(12, 2, replace=False), 1):
                item = f"i{number}"
                shown.append((user, item, "home", place, moment, 1 / 12))
                if generator.random() < taste(user, item):
                    clicks.append((user, item, "click", moment + timedelta(milliseconds=1)))
    with db.cursor().copy(
        "copy recdb.impression_new (user_id, item_id, scenario, place, shown_at, propensity) from stdin"
    ) as copy:
        for row in shown:
            copy.write_row(row)
    record(db, clicks)
    refresh(db)

    words = ("estimate", label, "--kind", "click")
    found = json.loads(recdb(database, *words, "--json").partition("\n")[2])

    assert found["impressions"] == 40 * len(users) and found["overlap"] == pytest.approx(1, abs=0.25)
    assert found["logged"]["rate"] == pytest.approx(len(clicks) / len(shown))
    assert found["snips"]["low"] < truth < found["snips"]["high"] and truth > found["logged"]["high"]
    assert found["ips"]["rate"] == pytest.approx(truth, abs=0.12)
    assert "effective sample size" in recdb(database, *words, "--scenario", "home", "--since", "1h")
    url = ["--url", database.conninfo]
    with_none = CliRunner().invoke(app, ["experiment", *words, "--scenario", "mail", *url])
    assert "no impressions with propensities" in str(with_none.exception)


def test_a_list_of_earlier_is_made_of_the_interactions_before_it(database: Database, db: psycopg.Connection) -> None:
    """The items that a user has clicked since then are hidden today, and were not hidden then."""
    record(db, [[*row, "2026-01-01"] for row in tastes()])
    label = train(database)
    earlier = "select item_id from recdb.list_then('u1', '2026-02-01', 10, %s, null)"
    before = column(db.execute("select item_id from recommend('u1', 10)"))
    assert column(db.execute(earlier, [label])) == before
    for item in before[:3]:
        db.execute("select recdb.track('u1', %s, 'click', '2026-02-02')", [item])

    assert not set(before[:3]) & set(column(db.execute("select item_id from recommend('u1', 10)")))
    assert column(db.execute(earlier, [label])) == before
    after = "select item_id from recdb.list_then('u1', '2026-02-03', 10, %s, null)"
    assert column(db.execute(after, [label])) == column(db.execute("select item_id from recommend('u1', 10)"))
