"""Choosing hyper-parameters on a validation part of the database's own interactions, and training with them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

from recdb.copy import copy_out
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.job import active_params, job_lock, rebuild, watch_for_lost_client
from recdb.learn import Params
from recdb.learn.events import Events
from recdb.learn.search import Bench, Search, Trial
from recdb.migrate import require_installed
from recdb.train import Report, installed_dimension, profile_limit, train
from recdb.versions import clean_up


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
    with connect(database, autocommit=True) as connection, job_lock(database) as locked:
        if not locked:
            return Outcome(ran=False)
        require_installed(connection)
        watch_for_lost_client(connection)
        clean_up(connection, report)
        rebuild(connection, report)
        report("reading events")
        bench = Bench(read_events(connection), profile_limit(connection))
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
        label = train(connection, best.params, report, {"tuning": tuning.to_json()})
        clean_up(connection, report)
        return Outcome(ran=True, tuning=tuning, model=label)


def read_events(connection: psycopg.Connection) -> Events:
    """Read every interaction, 14 bytes each."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        kinds = connection.execute(
            """
            select coalesce(k.weight, c.default_weight), coalesce(k.hides, c.default_hides)
            from (select distinct i.kind from recdb.interactions i) i
            cross join recdb.config c
            left join recdb.interaction_kind k on k.kind = i.kind
            order by i.kind collate "C"
            """
        ).fetchall()
        row = connection.execute("select extract(epoch from half_life)::float8 from recdb.config").fetchone()
        columns = copy_out(
            connection,
            """
            select u.user_key, t.item_key, k.number::smallint,
                greatest(-2147483648, date_part('epoch', least(i.created_at, newest.created_at))
                    - date_part('epoch', newest.created_at))::integer
            from recdb.interactions i
            join recdb.user_key u on u.user_id = i.user_id
            join recdb.item_key t on t.item_id = i.item_id
            join (
                select d.kind, row_number() over (order by d.kind collate "C") - 1 as number
                from (select distinct e.kind from recdb.interactions e) d
            ) k on k.kind = i.kind
            cross join (
                select max(e.created_at) as created_at from recdb.interactions e where isfinite(e.created_at)
            ) newest
            """,
            [("users", np.int32), ("items", np.int32), ("kinds", np.int16), ("seconds", np.int32)],
        )
    return Events(
        columns["users"],
        columns["items"],
        columns["kinds"],
        columns["seconds"],
        weights=np.array([weight for weight, _ in kinds], dtype=np.float64),
        hides=np.array([hides for _, hides in kinds], dtype=np.bool_),
        shape=(int(columns["users"].max(initial=0)) + 1, int(columns["items"].max(initial=0)) + 1),
        half_life=row[0] if row else None,
    )
