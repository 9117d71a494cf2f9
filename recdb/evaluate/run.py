"""Evaluates the ranking: trains in a scratch database, and scores the lists that recommend() returns to test users.

The training and the test part come from two files, or from a database's own interactions (see holdout.py). That
database is only read. The scratch database is an embedded server of its own, deleted at the end; or, given a server's
URL, a new database on that server, dropped at the end.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg

from recdb import job, migrate
from recdb.arrays.settings import read_settings
from recdb.data.load import load
from recdb.database import Database, connect, scratch_database
from recdb.evaluate.cold import NewItems, score_cold, split_relevant, withhold_items
from recdb.evaluate.holdout import copy_interactions, hold_out
from recdb.evaluate.plan import Evaluation, Kinds, Plan, Stopwatch
from recdb.evaluate.reading import read_test
from recdb.evaluate.scoring import score
from recdb.job.versions import active_params
from recdb.learn import Params
from recdb.migrate import require_whole
from recdb.progress import Report, silent
from recdb.tuning.tune import tune

SCRATCH_DIMENSION = 256


def evaluate_files(
    train: str, test: str, plan: Plan, *, scratch_url: str | None = None, report: Report = silent
) -> Evaluation:
    """Train on one CSV file and score on another.

    Raises InvalidInput for files that cannot be read or a test file that has no user of the training file.
    """
    stopwatch = Stopwatch()
    params = Params.from_json(dict(plan.params))
    relevant = read_test(test)
    with scratch_database(scratch_url) as scratch:
        migrate.upgrade(scratch, dimension=SCRATCH_DIMENSION)
        with connect(scratch) as connection:
            set_kinds(connection, plan.kinds)
        report("loading")
        load(scratch, train, report=report)
        if plan.items is not None:
            load(scratch, plan.items, items=True, report=report)
        warm, new = split_relevant(scratch, relevant) if plan.cold else (relevant, None)
        stopwatch.lap("load")
        return train_and_score(scratch, warm, params, plan, stopwatch, report, new)


def evaluate_database(
    database: Database,
    plan: Plan,
    *,
    holdout: timedelta | None = None,
    scratch_url: str | None = None,
    report: Report = silent,
) -> Evaluation:
    """Train on one part of a database's own interactions and score on the other; the database is only read.

    With `holdout`, the last days before the newest interaction are held out; with None, the last share of each user's
    items. Raises InvalidInput where one of the parts would be empty.
    """
    stopwatch = Stopwatch()
    with connect(database, autocommit=True) as source:
        require_whole(source)
        params = Params.from_json(active_params(source).to_json() | dict(plan.params))
        width = read_settings(source).dimension
    with scratch_database(scratch_url) as scratch:
        migrate.upgrade(scratch, dimension=width)
        with connect(scratch) as connection:
            report("copying")
            with connect(database, autocommit=True) as source:
                copy_interactions(source, connection)
            set_kinds(connection, plan.kinds)
            new = withhold_items(connection) if plan.cold else None
            relevant, split = hold_out(connection, holdout, report)
        stopwatch.lap("load")
        return replace(train_and_score(scratch, relevant, params, plan, stopwatch, report, new), split=split)


def train_and_score(
    scratch: Database,
    relevant: Mapping[str, set[str]],
    params: Params,
    plan: Plan,
    stopwatch: Stopwatch,
    report: Report,
    new: NewItems | None = None,
) -> Evaluation:
    """Train or tune in the scratch database, and score the lists of the users in `relevant`.

    With `new`, the lists of new items alone are scored, and the others stand beside them.
    """
    curve: Mapping[str, Any] = {}
    if plan.tune_seconds is not None:
        found = tune(
            scratch, seconds=plan.tune_seconds, latency_ms=plan.latency_ms, cost=plan.cost, report=report
        ).tuning
        curve = found.to_json() if found else {}
    else:
        job.run(scratch, full=True, params=params, report=report)
    stopwatch.lap("train")
    if new is None:
        return replace(score(scratch, relevant, plan.ks, stopwatch, report), tuning=curve)
    warm = score(scratch, relevant, plan.ks, stopwatch, report) if relevant else None
    return replace(score_cold(scratch, new, plan.ks, stopwatch, report, warm), tuning=curve)


def set_kinds(connection: psycopg.Connection, kinds: Kinds) -> None:
    """Store the kinds' weights, and which of them hide an item, in the scratch database."""
    if kinds.weights is not None:
        connection.execute("delete from recdb.interaction_kind where kind <> all (%s)", [list(kinds.weights)])
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into recdb.interaction_kind (kind, weight) values (%s, %s) "
                "on conflict (kind) do update set weight = excluded.weight",
                list(kinds.weights.items()),
            )
    if kinds.hides is not None:
        connection.execute("update recdb.interaction_kind set hides = kind = any (%s)", [list(kinds.hides)])
        connection.execute("update recdb.config set default_hides = false")
        unknown = connection.execute(
            "select k from unnest(%s::text[]) k where k not in (select kind from recdb.interaction_kind)",
            [list(kinds.hides)],
        ).fetchall()
        connection.execute(
            "insert into recdb.interaction_kind (kind, weight, hides) "
            "select k, (select default_weight from recdb.config), true from unnest(%s::text[]) k",
            [[kind for (kind,) in unknown]],
        )
