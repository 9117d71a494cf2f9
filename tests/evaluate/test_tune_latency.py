"""--latency bounds the settings that tune searches, and the measured latency decides which version goes live."""

import json

import psycopg
import pytest
from support.data import record, tastes, train
from typer.testing import CliRunner

from recdb.arrays.events import read_events
from recdb.cli import app
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.learn import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.search import Search
from recdb.tuning import tune as tuning
from recdb.tuning.latency_model import LatencyModel
from recdb.tuning.tune import tune


def versions(db: psycopg.Connection) -> list[tuple[str, bool]]:
    return db.execute("select label, active from recdb.model where state = 'ready' order by label").fetchall()


@pytest.fixture
def loaded(db: psycopg.Connection) -> psycopg.Connection:
    record(db, tastes(users=80, items=60, per_user=14))
    return db


def test_a_search_tries_only_settings_within_its_rows(loaded: psycopg.Connection) -> None:
    loaded.execute("select recdb.rebuild()")
    evaluator = OfflineEvaluator(read_events(loaded), 500)

    search = Search(evaluator, seconds=2, width=16, most_rows=100)
    best = search.run()

    assert best is not None
    assert best.rows <= 100
    assert search.trials[0].rows > 100
    assert max(trial.rows for trial in search.trials[1:]) <= 100


def test_rows_are_the_weights_that_the_score_sources_give(loaded: psycopg.Connection) -> None:
    """Five neighbours and a profile of seven items each; every item has three neighbours and no weight for itself."""
    loaded.execute("select recdb.rebuild()")
    evaluator = OfflineEvaluator(read_events(loaded), 500)

    people = evaluator.rows(Params(blend=1, neighbors=5, profile_limit=7), evaluator.all_users)
    items = evaluator.rows(Params(blend=0, item_neighbors=3, profile_limit=7, self_weight=0), evaluator.all_users)
    both = evaluator.rows(Params(neighbors=5, item_neighbors=3, profile_limit=7, self_weight=0), evaluator.all_users)

    assert people == pytest.approx(35)
    assert items == pytest.approx(21)
    assert both == pytest.approx(56)


def test_the_frontier_rises_with_the_cost(loaded: psycopg.Connection) -> None:
    loaded.execute("select recdb.rebuild()")
    search = Search(OfflineEvaluator(read_events(loaded), 500), seconds=1, width=16)
    search.run()

    frontier = search.frontier()

    assert frontier[-1].ndcg == max(trial.ndcg for trial in search.trials)
    assert [trial.rows for trial in frontier] == sorted(trial.rows for trial in frontier)
    assert [trial.ndcg for trial in frontier] == sorted({trial.ndcg for trial in frontier})


def test_a_measured_latency_is_predicted() -> None:
    latency = LatencyModel().corrected(1000, 4.2)

    assert latency.predict(1000) == pytest.approx(4.2)
    assert latency.predict(latency.most_rows(3.1)) == pytest.approx(3.1)


def test_a_latency_that_is_met_is_printed_and_stored(database: Database, loaded: psycopg.Connection) -> None:
    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--budget", "1s", "--latency", "10s"])

    assert answer.exit_code == 0, answer.stderr
    assert "quality against latency" in answer.stdout
    assert "recommend() takes" in answer.stdout
    row = loaded.execute("select metrics -> 'tuning' from recdb.models where active").fetchone()
    assert row is not None
    assert 0 < row[0]["latency_ms"] < 10_000
    assert all(trial["predicted_ms"] > 0 and trial["rows"] >= 0 for trial in row[0]["curve"])


def test_the_next_best_is_trained_where_the_best_is_too_slow(
    database: Database, loaded: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(database)
    measured = iter([1.0, 5.05, 2.0])
    monkeypatch.setattr(tuning, "median_latency", lambda database, label: next(measured))

    outcome = tune(database, seconds=1, latency_ms=5.0)

    assert outcome.tuning is not None
    assert outcome.tuning.measured_ms == 2.0
    assert versions(loaded) == [("collaborative_filtering_v1", False), ("collaborative_filtering_v3", True)]


@pytest.mark.parametrize("took", [1.0, 1e6])
def test_a_latency_that_nothing_meets_leaves_the_old_version(
    database: Database, loaded: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, took: float
) -> None:
    """The first trained version is too slow, or the version that serves is."""
    train(database)
    measured = iter([took, *[1e6] * tuning.ROUNDS])
    monkeypatch.setattr(tuning, "median_latency", lambda database, label: next(measured))

    with pytest.raises(RecdbError, match="no setting keeps the median of recommend\\(\\) within 5 ms"):
        tune(database, seconds=1, latency_ms=5.0)

    assert versions(loaded) == [("collaborative_filtering_v1", True)]


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        (["--latency", "fast"], "'fast' is not a latency", "write 5ms or 0.5s"),
        (["--latency", "-3ms"], "'-3ms' is not a latency", "write 5ms or 0.5s"),
        (["--latency", "5"], "'5' is not a latency", "write 5ms or 0.5s"),
        (["--budget", "soon"], "'soon' is not an age or duration", "write 90s"),
        (["--budget", "0s"], "leaves no time", "write 90s, 5m or 1h"),
    ],
)
def test_a_wrong_option_is_one_error_with_a_hint(database: Database, options: list[str], said: str, hint: str) -> None:
    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, *options])

    assert isinstance(answer.exception, RecdbError)
    assert said in str(answer.exception)
    assert hint in str(answer.exception.hint)


def test_json_has_the_whole_curve(database: Database, loaded: psycopg.Connection) -> None:
    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--budget", "1s", "--json"])

    found = json.loads(answer.stdout)

    assert found["model"] == "collaborative_filtering_v1"
    assert {"recall@20", "ndcg@20", "users", "rows", "seconds", "predicted_ms", "changed"} == set(found["curve"][0])
    assert found["curve"][0]["changed"] == {}
    assert found["frontier"][-1]["ndcg@20"] >= found["ndcg@20"]
