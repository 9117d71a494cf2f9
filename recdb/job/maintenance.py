"""The maintenance job: refresh in SQL, or train a new model version and publish it.

train() writes a version's vectors into tables of their own, beside the version that serves. publish() makes these
tables partitions and sets `active` in one short transaction, unless the new version ranks clearly worse. If the job is
interrupted, the old version keeps serving, and the next run removes the tables of the interrupted one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from recdb.arrays.settings import read_settings
from recdb.data.pages import describe_left_out
from recdb.database import Database
from recdb.errors import Rejected
from recdb.faults import reach
from recdb.job.aging import age
from recdb.job.guard import Figure, measure_setting
from recdb.job.lock import open_job, require_lock
from recdb.job.memory import sparing
from recdb.job.publish import publish
from recdb.job.rebuild import rebuild
from recdb.job.shares import HeavyUser, heavy_users, leave_out, name_some
from recdb.job.take import Offer, find_offer, link_own_items, measure_taken, place
from recdb.job.trace import traced
from recdb.job.train import Trained, fit_width, train
from recdb.job.versions import active_params, clean_up
from recdb.learn import Params
from recdb.progress import Report, silent


@dataclass(frozen=True)
class Outcome:
    """The result of a run of the job."""

    ran: bool
    """False if another job was running, so this one did nothing."""
    refreshed: bool = False
    model: str | None = None
    """The label of the version that was trained and activated, if there is one."""
    seconds: float = 0.0
    heavy: Sequence[HeavyUser] = ()
    """The users who hold more than a fair share of the interactions that a training learned from."""
    notes: Sequence[str] = ()
    """The steps that were slower than they could be, and the remedy; attached impressions that were left out."""
    taken: str | None = None
    """The version of another database whose item half the new version has."""


def run(
    database: Database,
    *,
    full: bool = False,
    if_stale: timedelta | None = None,
    force: bool = False,
    params: Params | None = None,
    model_from: Database | None = None,
    report: Report = silent,
) -> Outcome:
    """Refresh; train instead if there is no model, with `full`, or if the last training is older than `if_stale`.

    The job trains with `params`, else with the active version's parameters, else with the defaults. The new version
    becomes the active one. If it ranks clearly worse, and without `force`, the old version keeps serving and run()
    raises Rejected. `force` also rebuilds if most of the weighted interactions are lost with it.

    With `model_from`, a training takes the item half of that database's active version instead of learning one, and
    places the users in it. If that version serves here already, run() only rebuilds, or refreshes without `full`. If it
    cannot be read, run() refreshes, and raises RecdbError.

    If another job is running, run() does nothing and returns `ran=False`.
    """
    began = time.monotonic()
    with open_job(database, report) as connection:
        if connection is None:
            return Outcome(ran=False)
        due = full or is_stale(connection, if_stale)

        def refresh() -> None:
            refresh_changed(connection, database, report)

        offer = None
        if due and model_from:
            offer = find_offer(connection, database, model_from, report, otherwise=refresh, force=force)
        here_already = offer is not None and offer.half is None
        if not due or (here_already and not full):
            refresh()
        else:
            rebuild(connection, database, report, force=force)
        if not due or here_already:
            notes = [*([offer.remark] if offer else []), *left_out(connection)]
            return Outcome(ran=True, refreshed=True, seconds=time.monotonic() - began, notes=notes)
        with traced(connection, database, "train"):
            reach("training begun")
            started = time.monotonic()
            trained, figure = make_version(connection, params, offer, report)
            seconds = time.monotonic() - started
            require_lock(connection)
            rejection = publish(connection, trained, figure, seconds, "always" if force else "unless worse")
            if offer:
                link_own_items(connection, trained.label, report)
        clean_up(connection, report)
        waiting = age(connection, database, report, pack=True)
        heavy = heavy_users(connection)
        if rejection:
            message = "; ".join([rejection, *name_some(heavy)])
            again = f"recdb refresh --full{' --model-from URL' if offer else ''}"
            hint = how_to_activate(connection, trained.label, again)
            if heavy:
                hint = f"to leave out whoever is no person: {leave_out(heavy)} then: {again}\nhint: {hint}"
            raise Rejected(message, hint, trained.label)
        notes = [*trained.notes, *left_out(connection), *waiting]
        taken = str(offer.origin) if offer else None
        return Outcome(True, True, trained.label, time.monotonic() - began, heavy, notes, taken)


def refresh_changed(connection: psycopg.Connection, database: Database, report: Report) -> None:
    """Refresh the changed users, and let config.retention act on old interactions."""
    report("refreshing changed users")
    reach("before refresh")
    sparing(connection, lambda: connection.execute("call recdb.refresh()"), report)
    reach("after refresh")
    age(connection, database, report, pack=False)


def make_version(
    connection: psycopg.Connection, params: Params | None, offer: Offer | None, report: Report
) -> tuple[Trained, Figure | None]:
    """Measure and write a version: learn it from the weighted interactions, or place the users in an offer's items."""
    settings = read_settings(connection)
    setting = offer.origin.params if offer else fit_width(params or active_params(connection), settings)

    def measured() -> Figure | None:
        if offer:
            return measure_taken(connection, offer, settings, report)
        return measure_setting(connection, setting, settings, report)

    figure = sparing(connection, measured, report)
    reach("measured")
    if offer:
        return place(connection, offer, settings, report), figure
    return train(connection, setting, settings, report, figure), figure


def is_stale(connection: psycopg.Connection, age: timedelta | None) -> bool:
    """Tell whether no version is active, or the last training, even a rejected one, is older than `age`."""
    row = connection.execute(
        "select now() - (select max(created_at) from recdb.model where state <> 'training') "
        "from recdb.model where active"
    ).fetchone()
    return row is None or (age is not None and bool(row[0] > age))


def left_out(connection: psycopg.Connection) -> list[str]:
    """Say which rows of attached tables of impressions the refresh did not copy."""
    rows = connection.execute("select relation, left_out from recdb.attachment order by attachment_id").fetchall()
    return [remark.message for relation, lost in rows for remark in describe_left_out(relation, lost)]


def how_to_activate(connection: psycopg.Connection, label: str, again: str) -> str:
    """Return the hint for a rejected version: the commands that activate it, or make another one, all the same."""
    # With config.kept_models at 1 the rejected version is gone already.
    kept = connection.execute("select from recdb.model where label = %s and state = 'ready'", [label]).fetchone()
    commands = [f"recdb activate {label}"] * (kept is not None) + [f"{again} --force"]
    return f"to activate it all the same: {', or '.join(commands)}"
