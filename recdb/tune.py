"""Choosing hyper-parameters on a validation part of the database's own interactions, and training with them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recdb.database import Database
from recdb.errors import RecdbError
from recdb.events import read_events
from recdb.job import active_params, open_job, rebuild
from recdb.learn import Params
from recdb.learn.search import Bench, Search, Trial
from recdb.train import Report, installed_dimension, profile_limit, train
from recdb.versions import clean_up

MOST_EVENTS = 5_000_000
"""How many interactions a search looks at: those of a sample of the users where there are more."""


@dataclass(frozen=True)
class Tuning:
    """What a search found."""

    best: Trial
    start: Trial
    """What the search started from: the active version's parameters, else the defaults."""
    trials: Sequence[Trial]
    users: int
    """Users of the validation part."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the search as a JSON object; a trial lists what it changed about the start."""
        start = self.start.params.to_json()
        return {
            "recall@20": round(self.best.recall, 6),
            "ndcg@20": round(self.best.ndcg, 6),
            "users": self.users,
            "seconds": round(self.seconds, 1),
            "start": start,
            "curve": [
                {
                    "recall@20": round(trial.recall, 6),
                    "ndcg@20": round(trial.ndcg, 6),
                    "changed": changed(start, trial.params),
                }
                for trial in self.trials
            ],
        }


@dataclass(frozen=True)
class Outcome:
    """What a run of tune() did."""

    ran: bool
    """False where another job was running and nothing was done."""
    tuning: Tuning | None = None
    model: str | None = None
    """The label of the version that was trained with the winner and activated."""


def changed(start: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """Return the parameters that differ from a start."""
    return {name: value for name, value in params.to_json().items() if value != start[name]}


def tune(
    database: Database,
    *,
    seconds: float = 300.0,
    report: Report = lambda step: None,
    on_trial: Callable[[Trial, Trial], None] = lambda trial, best: None,
) -> Outcome:
    """Search for `seconds`, train a version with the best setting, and make it the active one.

    Raises RecdbError where there is too little to cut a validation part from.
    """
    with open_job(database, report) as connection:
        if connection is None:
            return Outcome(ran=False)
        rebuild(connection, report)
        report("reading events")
        bench = Bench(read_events(connection, most=MOST_EVENTS), profile_limit(connection))
        if not len(bench.users):
            raise RecdbError(
                "too few interactions to tune on: no user has two items", "load more, or train with the defaults"
            )
        began = time.monotonic()
        search = Search(
            bench,
            seconds=seconds,
            width=installed_dimension(connection),
            start=active_params(connection),
            report=on_trial,
        )
        best = search.run()
        tuning = Tuning(best, search.trials[0], search.trials, len(bench.users), time.monotonic() - began)
        version = train(connection, best.params, report, {"tuning": tuning.to_json()})
        clean_up(connection, report)
        return Outcome(ran=True, tuning=tuning, model=version.label)
