"""Tuning: the offline search scores as SQL serves, finds better settings, and trains with the best one."""

from collections.abc import Sequence

import numpy as np
import psycopg
import pytest
from support.data import recommend, record, tastes, train
from typer.testing import CliRunner

from recdb import job
from recdb.arrays.events import MOST_OF_A_USER, read_events
from recdb.arrays.settings import read_settings
from recdb.arrays.weighted import read_interactions
from recdb.cli import app
from recdb.database import Database
from recdb.evaluate.scoring import ask
from recdb.learn import Params
from recdb.offline.evaluator import MOST_NEIGHBORS, OfflineEvaluator
from recdb.offline.metrics import Truth, user_metrics
from recdb.offline.search import Search
from recdb.offline.split import split
from recdb.offline.validation import Trial
from recdb.tuning.tune import tune

SETTINGS = {
    "defaults": Params(),
    "people": Params(blend=1.0, neighbors=15, similarity_exponent=2.0, activity_exponent=0.5),
    "items": Params(blend=0.0, item_neighbors=8, cooccurrence_power=0.6, spectral_weight=0.3, dimension=16),
    "few newest items": Params(profile_limit=4, neighbors=25, item_neighbors=10, people_recency=0.6),
    "ease": Params(learner="ease", ease_regularization=0.3, item_neighbors=20),
    "ridge": Params(blend=0.2, spectral_weight=8.0, spectral_filter="ridge", spectral_rank=80, item_neighbors=20),
}


def history(users: int = 150, seed: int = 3) -> list[list[str]]:
    """Interactions by taste, at random times; items that were viewed or clicked may be recommended again."""
    rows = tastes(users=users, items=80, per_user=14, groups=4, seed=seed)
    generator = np.random.default_rng(seed)
    return [
        [*row, f"2026-01-{day:02d} 12:00+00"]
        for row, day in zip(rows, generator.integers(1, 29, len(rows)), strict=True)
    ]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("hides", [("like", "share"), ("view", "click", "like", "share")], ids=["some", "all"])
def test_the_offline_evaluator_and_sql_reach_the_same_metrics(
    database: Database, db: psycopg.Connection, name: str, hides: Sequence[str]
) -> None:
    """Metrics on the same held-out part, offline and through recommend(), differ by less than 2 %."""
    record(db, history())
    db.execute("update recdb.interaction_kind set hides = kind = any (%s)", [list(hides)])
    db.execute("select recdb.rebuild()")
    evaluator = OfflineEvaluator(read_events(db), read_settings(db).profile_limit)
    offline = evaluator.try_out(SETTINGS[name])

    held = split(read_events(db), most_users=10_000)
    users = dict(db.execute("select user_key, user_id from recdb.user_key").fetchall())
    items = dict(db.execute("select item_key, item_id from recdb.item_key").fetchall())
    kinds = [kind for (kind,) in db.execute('select distinct kind collate "C" from recdb.interactions order by 1')]
    kept = held.events
    db.execute("truncate recdb.interaction")
    newest = np.datetime64("2026-01-28T12:00:00")
    record(
        db,
        [
            (users[user], items[item], kinds[kind], str(newest + np.timedelta64(int(second), "s")) + "Z")
            for user, item, kind, second in zip(kept.users, kept.items, kept.kinds, kept.seconds, strict=True)
        ],
    )
    train(database, **SETTINGS[name].to_json())
    relevant: dict[str, set[str]] = {}
    for user, item in zip(held.users, held.items, strict=True):
        relevant.setdefault(users[user], set()).add(items[item])
    asked = list(relevant)
    numbers = {item: key for key, item in items.items()}
    answers = ask(database, asked, 20)
    lists = np.full((len(asked), 20), -1, dtype=np.int64)
    for row, answer in enumerate(answers.lists):
        lists[row, : len(answer)] = [numbers[item] for item in answer]
    truth = Truth(list(relevant.values()), numbers)
    served = user_metrics(truth.hits(lists), truth.counts, 20)

    assert served["recall@20"].mean() == pytest.approx(offline.recall, rel=0.02)
    assert served["ndcg@20"].mean() == pytest.approx(offline.ndcg, rel=0.02)


def test_a_sample_is_of_whole_users_and_the_same_each_time(db: psycopg.Connection) -> None:
    record(db, history(users=200))
    db.execute("select recdb.rebuild()")
    everything = read_events(db)

    sample, again = read_events(db, most=700), read_events(db, most=700)

    assert len(everything.users) == 200 * 14
    assert len(read_events(db, most=10_000).users) == 200 * 14
    assert 500 < len(sample.users) < 900
    assert set(np.bincount(sample.users)) == {0, 14}
    assert np.array_equal(np.sort(sample.pairs), np.sort(again.pairs))


def test_a_crawler_leaves_as_many_others_in_a_sample(db: psycopg.Connection) -> None:
    record(db, history(users=200))
    record(db, [["crawler", f"i{number % 10}", "view"] for number in range(30_000)])
    db.execute("select recdb.rebuild()")

    events, weighted = read_events(db, most=4_000), read_interactions(db, most=4_000)

    assert len(np.unique(events.users)) > 120 < len(np.unique(weighted.users))
    assert np.bincount(events.users).max() <= MOST_OF_A_USER


def test_a_search_starts_from_what_it_is_given_and_never_ends_worse(db: psycopg.Connection) -> None:
    record(db, history())
    db.execute("select recdb.rebuild()")
    evaluator = OfflineEvaluator(read_events(db), 100)
    bad = Params(blend=1.0, neighbors=1, activity_exponent=2.0)

    search = Search(evaluator, seconds=2, width=16, start=bad)
    best = search.run()

    assert search.trials[0].params.neighbors == 1
    assert best is not None
    assert best.objective > search.trials[0].objective * 1.2
    assert best == search.best()


def test_a_trial_does_not_change_the_next(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("select recdb.rebuild()")
    evaluator = OfflineEvaluator(read_events(db), 100)
    several = [
        Params(blend=blend, neighbors=neighbors, learner=learner)
        for blend in (1.0, 0.5)
        for neighbors in (MOST_NEIGHBORS, 3)
        for learner in ("cooccurrence", "ease")
    ]
    first = [evaluator.try_out(params) for params in several]
    assert [evaluator.try_out(params) for params in reversed(several)] == first[::-1]


def test_little_data_have_more_than_one_validation_part(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("select recdb.rebuild()")
    events = read_events(db)
    once, twice = OfflineEvaluator(events, 100), OfflineEvaluator(events, 100, folds=2)
    recall, _ = once.user_metrics(Params())
    both, _ = twice.user_metrics(Params())
    assert len(both) > len(recall)
    assert list(both[: len(recall)]) == list(recall)


def test_hyper_parameters_without_effect_are_not_searched(db: psycopg.Connection) -> None:
    """No times, every kind hides, and all weights equal: no recency, no sessions, no self weight, no exponents."""
    record(db, ((user, item, "like") for user, item, _ in tastes(users=60)))
    db.execute("select recdb.rebuild()")

    search = Search(OfflineEvaluator(read_events(db), 100), seconds=1, width=16)
    search.run()

    tried = [trial.params for trial in search.trials]
    assert {params.profile_recency for params in tried} == {0.0}
    assert {params.self_weight for params in tried} == {0.0}
    assert {params.session_weight for params in tried} == {0.0}
    assert {params.item_weight_exponent for params in tried} == {Params().item_weight_exponent}


def test_tuning_trains_with_the_best_setting_and_stores_the_curve(database: Database, db: psycopg.Connection) -> None:
    record(db, history())

    outcome = tune(database, seconds=1)

    assert outcome.tuning is not None
    row = db.execute("select label, params, metrics from recdb.models where active").fetchone()
    assert row is not None
    assert row[0] == outcome.model
    assert row[1] == outcome.tuning.params.to_json()
    assert len(row[2]["tuning"]["curve"]) == len(outcome.tuning.trials)
    assert row[2]["tuning"]["ndcg@20"] == pytest.approx(outcome.tuning.best.ndcg, abs=1e-6)


def test_the_next_training_keeps_the_tuned_settings(database: Database, db: psycopg.Connection) -> None:
    record(db, history(users=40))
    train(database, blend=0.7, neighbors=9)

    job.run(database, full=True)

    row = db.execute("select params ->> 'blend', params ->> 'neighbors' from recdb.models where active").fetchone()
    assert row == ("0.7", "9")


def test_an_interrupted_search_changes_nothing(database: Database, db: psycopg.Connection) -> None:
    record(db, history(users=40))
    label = train(database)
    before = db.execute("select c, m from recdb.config c, recdb.model m").fetchall()

    def interrupt(trial: Trial, best: Trial) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(database, seconds=5, on_trial=interrupt)

    assert db.execute("select c, m from recdb.config c, recdb.model m").fetchall() == before
    assert {row[3] for row in recommend(db, "u1")} == {label}
    assert job.run(database).ran


def test_a_longer_profile_is_scored_only_where_it_helps(db: psycopg.Connection) -> None:
    """Limits beyond the longest profile are all the same, and the configured one bounds them."""
    record(db, history())
    db.execute("select recdb.rebuild()")

    unbounded = Search(OfflineEvaluator(read_events(db), 500), seconds=1, width=16)
    bounded = Search(OfflineEvaluator(read_events(db), 9), seconds=1, width=16)
    unbounded.run()
    bounded.run()

    assert {trial.params.profile_limit for trial in unbounded.trials} <= {10, 20, Params().profile_limit}
    assert {trial.params.profile_limit for trial in bounded.trials} == {Params().profile_limit}


def test_too_little_to_tune_on_is_one_error(database: Database, db: psycopg.Connection) -> None:
    record(db, [("u", "i", "like")])

    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--budget", "1s"])

    assert "no user has two items" in str(answer.exception)
    assert db.execute("select count(*) from recdb.model").fetchone() == (0,)
