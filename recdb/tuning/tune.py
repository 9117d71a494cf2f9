"""Chooses hyper-parameters on a validation part of the database's own interactions, and trains with them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from recdb.arrays.events import read_events
from recdb.arrays.settings import read_settings
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.guard import measure_setting
from recdb.job.lock import open_job, require_lock
from recdb.job.publish import publish
from recdb.job.rebuild import rebuild, vacuum
from recdb.job.trace import traced
from recdb.job.train import fit_width, train
from recdb.job.versions import active_params, clean_up
from recdb.learn import Params
from recdb.offline.cache import CACHE_BYTES
from recdb.offline.clock import work_clock
from recdb.offline.evaluator import VALIDATION_USERS, OfflineEvaluator
from recdb.offline.half_life import HalfLife, propose
from recdb.offline.search import Search
from recdb.offline.validation import Trial, best_of
from recdb.progress import Report, silent
from recdb.tuning.latency_model import LatencyModel, Prices, median_latency

FOLDS = 2
MOST_EVENTS = 5_000_000
"""The most interactions that a search reads; if there are more, it reads those of a sample of the users."""
ROUNDS = 3
"""How many settings are trained to meet a latency before tune() gives up."""
COST = 2.0
"""How many times the predicted time of a default call the chosen setting may take, unless the caller says otherwise."""
HALF_LIFE_SHARE = 0.2
"""The share of the search's time that is kept for trying half-lives, where times are known."""


@dataclass(frozen=True)
class Tuning:
    """The result of a search."""

    best: Trial
    start: Trial
    """The trial that the search started from: the active version's parameters, else the defaults."""
    trials: Sequence[Trial]
    frontier: Sequence[Trial]
    """The trials that no other trial beats in both cost and ndcg, the cheapest first."""
    users: int
    """Users of the validation part."""
    seconds: float
    prices: Prices
    """Predicts a trial's latency and its cost."""
    cost_limit: float | None
    """The most default calls that the chosen setting may cost; None for any."""
    finished: bool
    """Whether the search ended before its time because nothing was left to find."""
    half_life: HalfLife | None
    """None if no times are known."""
    measured_ms: float | None = None
    """The median latency of recommend() with the trained version, in milliseconds."""

    @property
    def params(self) -> Params:
        """The parameters to train with: the best trial's, with the exponents that go with the half-life."""
        exponents: Mapping[str, Any] = self.half_life.exponents if self.half_life else {}
        return replace(self.best.params, **exponents)

    @property
    def dearer(self) -> Trial | None:
        """The trial with the best ndcg of those that cost more than the chosen one; None if none is better."""
        last = self.frontier[-1] if self.frontier else self.best
        return last if last.ndcg > self.best.ndcg and last.rows > self.best.rows else None

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object; each trial lists its differences from the start."""
        return {
            "recall@20": round(self.best.recall, 6),
            "ndcg@20": round(self.best.ndcg, 6),
            "users": self.users,
            "seconds": round(self.seconds, 1),
            "finished": self.finished,
            "latency_ms": None if self.measured_ms is None else round(self.measured_ms, 3),
            "default_ms": round(self.prices.milliseconds(self.prices.default_rows), 3),
            "cost": round(self.prices.cost(self.best.rows), 3),
            "cost_limit": self.cost_limit,
            "dearer": None if self.dearer is None else self.more(self.dearer),
            "half_life": self.half_life and self.half_life.to_json(),
            "start": self.start.params.to_json(),
            "frontier": [self.trial_json(trial) for trial in self.frontier],
            "curve": [self.trial_json(trial) for trial in self.trials],
        }

    def more(self, trial: Trial) -> dict[str, float]:
        """Compare a trial with the chosen one: its cost, and how much better its ndcg@20 is."""
        return {
            "cost": round(self.prices.cost(trial.rows), 3),
            "gain": round(trial.ndcg / max(self.best.ndcg, 1e-9) - 1, 6),
        }

    def trial_json(self, trial: Trial) -> dict[str, Any]:
        """Return a trial as a JSON object."""
        return {
            "recall@20": round(trial.recall, 6),
            "ndcg@20": round(trial.ndcg, 6),
            "users": trial.users,
            "seconds": round(trial.seconds, 1),
            "rows": round(trial.rows),
            "predicted_ms": round(self.prices.milliseconds(trial.rows), 3),
            "changed": changed(self.start.params.to_json(), trial.params),
        }


@dataclass(frozen=True)
class Allowance:
    """The time of a search, and the bounds of the chosen setting's cost."""

    seconds: float
    latency_ms: float | None
    """The largest median latency of recommend()."""
    cost: float | None
    """The largest predicted cost, in default calls."""

    def most_rows(self, prices: Prices) -> float:
        """Return how many weights a call may add up."""
        bounds = [np.inf]
        if self.latency_ms is not None:
            bounds.append(prices.latency.most_rows(self.latency_ms))
        if self.cost is not None:
            bounds.append(prices.most_rows(self.cost))
        return float(min(bounds))


@dataclass(frozen=True)
class TuningOutcome:
    """The result of tune()."""

    ran: bool
    """False where another job was running and nothing was done."""
    tuning: Tuning | None = None
    model: str | None = None
    """The label of the version that was trained with the best setting and activated."""


def changed(start: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """Return the parameters that differ from a start."""
    return {name: value for name, value in params.to_json().items() if value != start[name]}


def tune(
    database: Database,
    *,
    seconds: float = 300.0,
    latency_ms: float | None = None,
    cost: float | None = None,
    report: Report = silent,
    on_trial: Callable[[Trial, Trial], None] = lambda trial, best: None,
    on_prices: Callable[[Prices], None] = lambda prices: None,
) -> TuningOutcome:
    """Search for `seconds`, train a version with the best setting, and make it the active one.

    `latency_ms` bounds the median latency of recommend(), `cost` its predicted multiple of that with the defaults; None
    for any. `on_prices` is called once before the first trial. Raises RecdbError where there are too few interactions
    for a validation part, and where no setting is quick enough: then the old version keeps serving.
    """
    with open_job(database, report) as connection:
        if connection is None:
            return TuningOutcome(ran=False)
        rebuild(connection, database, report)
        with traced(connection, database, "tune") as run_id:
            allowed = Allowance(seconds, latency_ms, cost)
            tuning = search(connection, database, allowed, report, on_trial, on_prices)
            reach("searched")
            with decayed(connection, tuning.half_life, run_id, report):
                tuning, label = settle(connection, database, tuning, allowed, report)
        clean_up(connection, report)
        return TuningOutcome(ran=True, tuning=tuning, model=label)


def search(
    connection: psycopg.Connection,
    database: Database,
    allowed: Allowance,
    report: Report,
    on_trial: Callable[[Trial, Trial], None],
    on_prices: Callable[[Prices], None],
) -> Tuning:
    """Search, then try half-lives on the best setting; nothing in the database changes."""
    report("reading events")
    events = read_events(connection, most=MOST_EVENTS)
    settings = read_settings(connection)
    ceiling, width = settings.profile_limit, settings.dimension
    evaluator = OfflineEvaluator(events, ceiling, rank=width, folds=FOLDS)
    if not len(evaluator.users):
        raise RecdbError(
            "too few interactions to tune on: no user has two items", "load more, or train with the defaults"
        )
    clock = work_clock()
    began = time.monotonic()
    report("measuring recommend()")
    prices = Prices(
        calibrate(connection, database, evaluator),
        evaluator.rows(fit_width(Params(), settings), evaluator.few_users),
    )
    on_prices(prices)
    most_rows = allowed.most_rows(prices)
    if most_rows < 1:
        raise too_slow(allowed, f"a call that adds up no weights is predicted to take {prices.milliseconds(0):.1f} ms")
    report("searching")
    found = Search(
        evaluator,
        seconds=allowed.seconds * (1 - HALF_LIFE_SHARE if evaluator.timed else 1),
        width=width,
        most_rows=most_rows,
        beyond=allowed.cost is not None and allowed.latency_ms is None,
        start=active_params(connection),
        report=on_trial,
        clock=clock,
    )
    if not events.timed or len(evaluator.users) >= VALIDATION_USERS:
        # Other users, and where no times are known other items of theirs. The last items of all users are the same.
        found.second = lambda: OfflineEvaluator(events, ceiling, rank=width, seed=1, memory=CACHE_BYTES // 4)
    best = found.run()
    if best is None:
        cheapest = min(found.trials, key=lambda trial: trial.rows)
        took_ms = prices.milliseconds(cheapest.rows)
        raise too_slow(allowed, f"the quickest setting is predicted to take {took_ms:.1f} ms")
    half_life = None
    if evaluator.timed:
        report("trying half-lives")
        half_life = propose(events, evaluator.newest_fold(), best.params, ceiling, lambda: clock() < allowed.seconds)
    took = time.monotonic() - began
    trials = found.trials
    return Tuning(
        best, found.before, trials, found.frontier(), len(evaluator.users), took, prices, allowed.cost, found.finished,
        half_life,
    )  # fmt: skip


def calibrate(connection: psycopg.Connection, database: Database, evaluator: OfflineEvaluator) -> LatencyModel:
    """Return a latency model for this server, corrected by a measurement of the active version if there is one."""
    row = connection.execute("select label from recdb.model where active").fetchone()
    measured = median_latency(database, row[0]) if row else None
    if measured is None:
        return LatencyModel()
    rows = evaluator.rows(active_params(connection), evaluator.few_users)
    return LatencyModel().corrected(rows, measured)


def settle(
    connection: psycopg.Connection, database: Database, tuning: Tuning, allowed: Allowance, report: Report
) -> tuple[Tuning, str]:
    """Train the best setting, measure its latency, and activate it; if it is too slow, take the next best setting.

    Raises RecdbError if none of ROUNDS settings is quick enough.
    """
    measured: list[float] = []
    for _ in range(ROUNDS):
        settings = read_settings(connection)
        params = fit_width(tuning.params, settings)
        with traced(connection, database, "train"):
            started = time.monotonic()
            figure = measure_setting(connection, params, settings, report)
            version = train(connection, params, settings, report, figure)
            require_lock(connection)
            publish(connection, version, figure, time.monotonic() - started, "never")
        reach("version trained")
        for note in version.notes:
            report(note)
        report("measuring recommend()")
        predicted = tuning.prices.milliseconds(tuning.best.rows)
        measured.append(median_latency(database, version.label) or predicted)
        latency = tuning.prices.latency.corrected(tuning.best.rows, measured[-1])
        tuning = replace(tuning, prices=replace(tuning.prices, latency=latency), measured_ms=measured[-1])
        if allowed.latency_ms is None or measured[-1] <= allowed.latency_ms:
            with connection.transaction():
                connection.execute(
                    "update recdb.model set metrics = metrics || jsonb_build_object('tuning', %s::jsonb) "
                    "where label = %s",
                    [Jsonb(tuning.to_json()), version.label],
                )
                connection.execute("select recdb.activate(%s)", [version.label])
                forget_half_life(connection)
            reach("best version activated")
            return tuning, version.label
        connection.execute("update recdb.model set state = 'retired' where label = %s", [version.label])
        clean_up(connection, report)
        most_rows = min(latency.most_rows(allowed.latency_ms), tuning.best.rows * 0.99)
        best = best_of([trial for trial in tuning.trials if trial.rows <= most_rows])
        if best is None:
            break
        tuning = replace(tuning, best=best)
    raise too_slow(allowed, f"of {len(measured)} trained versions the quickest took {min(measured):.1f} ms")


def too_slow(allowed: Allowance, found: str) -> RecdbError:
    """Return the error for when no setting is quick enough."""
    if allowed.latency_ms is None:
        return RecdbError(
            f"no setting costs at most {allowed.cost:g} times a default call: {found}; nothing was changed",
            "allow more with --cost, or search longer with --budget",
        )
    return RecdbError(
        f"no setting keeps the median of recommend() within {allowed.latency_ms:g} ms: {found}; nothing was changed",
        "allow more with --latency, search longer with --budget, or use a faster server",
    )


@contextmanager
def decayed(connection: psycopg.Connection, half_life: HalfLife | None, run_id: int, report: Report) -> Iterator[None]:
    """Weight the interactions with the proposed half-life; where the block fails, with the half-life before it.

    The run's row in the log keeps the half-life before it, so that the next job can do the latter too.
    """
    if half_life is None or not half_life.changes:
        yield
        return
    report("weighting interactions")
    with connection.transaction():
        connection.execute(
            "update recdb.refresh_log set half_life_before = (select jsonb_build_object('half_life', c.half_life) "
            "from recdb.config c) where run_id = %s",
            [run_id],
        )
        set_half_life(connection, half_life.seconds)
    vacuum(connection)
    reach("half-life changed")
    try:
        yield
    except BaseException:
        with connection.transaction():
            set_half_life(connection, half_life.before)
            forget_half_life(connection)
        vacuum(connection)
        raise


def set_half_life(connection: psycopg.Connection, seconds: float | None) -> None:
    """Change the database's half-life and weight its interactions again; readers see both changes at once."""
    connection.execute("update recdb.config set half_life = justify_hours(make_interval(secs => %s))", [seconds])
    connection.execute("select recdb.rebuild()")


def forget_half_life(connection: psycopg.Connection) -> None:
    """Forget the half-life before the tuning: there is nothing to restore."""
    connection.execute("update recdb.refresh_log set half_life_before = null where half_life_before is not null")
