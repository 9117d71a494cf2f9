"""Tuning proposes a half-life where tastes drift, and applies it with the trained version; elsewhere it keeps it."""

import json

import psycopg
import pytest
from support.data import record
from support.drift import NOW, year
from typer.testing import CliRunner

from recdb.arrays.events import read_events
from recdb.cli import app
from recdb.database import Database
from recdb.learn import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.half_life import HalfLife, propose
from recdb.tuning import tune as tuning
from recdb.tuning.tune import tune


def proposal(db: psycopg.Connection) -> HalfLife:
    events = read_events(db)
    return propose(events, OfflineEvaluator(events, 500), Params(session_weight=0.0), 500, lambda: True)


def test_where_tastes_drift_a_half_life_is_found_and_applied(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "HALF_LIFE_SHARE", 0.9)
    record(db, year(drifting=True))

    outcome = tune(database, seconds=4)

    assert outcome.tuning is not None
    assert outcome.tuning.half_life is not None
    assert outcome.tuning.half_life.gain > 0.05
    row = db.execute(
        "select extract(day from c.half_life), m.half_life = c.half_life, m.metrics #> '{tuning,half_life}', m.params "
        "from recdb.config c, recdb.model m where m.active"
    ).fetchone()
    assert row is not None
    assert 1 <= row[0] <= 100
    assert row[1]
    assert row[2]["proposed"] == outcome.tuning.half_life.seconds
    assert row[3] == outcome.tuning.params.to_json()
    old, new = db.execute("select min(weight), max(weight) from recdb.user_item_settled").fetchone() or (0, 0)
    assert old < new / 2


def test_where_tastes_stay_none_helps(db: psycopg.Connection) -> None:
    record(db, year(drifting=False))
    db.execute("select recdb.rebuild()")

    found = proposal(db)

    assert not found.changes
    assert str(found) == "half-life: none helps"
    assert len(found.tried) > 3


def test_a_half_life_that_worsens_the_ranking_is_replaced(db: psycopg.Connection) -> None:
    record(db, year(drifting=False))
    db.execute("update recdb.config set half_life = '2 hours'")
    db.execute("select recdb.rebuild()")

    found = proposal(db)

    assert found.before == 7200
    assert found.seconds is None or found.seconds > 86400
    assert found.gain > 0.01


def test_a_failing_training_leaves_the_half_life_and_the_model(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(db, year(drifting=True))
    tune(database, seconds=1)
    before = db.execute("select c.half_life, m.label from recdb.config c, recdb.model m where m.active").fetchone()
    db.execute("update recdb.config set half_life = null")

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "train", fail)
    with pytest.raises(KeyboardInterrupt):
        tune(database, seconds=1)

    after = db.execute("select c.half_life, m.label from recdb.config c, recdb.model m where m.active").fetchone()
    assert before is not None
    assert after == (None, before[1])


def test_without_times_no_half_life_is_tried(database: Database, db: psycopg.Connection) -> None:
    record(db, ((*row[:3], NOW.isoformat()) for row in year(drifting=True, users=20)))

    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--budget", "1s", "--json"])

    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["half_life"] is None
