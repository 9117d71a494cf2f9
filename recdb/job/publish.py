"""Publishing: one short transaction makes a trained version available, and active unless it ranks clearly worse."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from recdb.database import fetch_row
from recdb.faults import reach
from recdb.job.guard import Figure, is_clearly_worse
from recdb.job.partitions import attach_partitions
from recdb.job.train import Trained

Activation = Literal["always", "unless worse", "never"]
"""When a trained version becomes active; "unless worse" compares its figure with the active version's."""


def publish(
    connection: psycopg.Connection, trained: Trained, figure: Figure | None, seconds: float, activation: Activation
) -> str | None:
    """Make a trained version available by its label, and active according to `activation`.

    Its row stores `figure` and `seconds`, the time of measuring and training. If the new version is clearly worse,
    publish() returns the reason and the old version stays active; else it returns None.
    """
    metrics: dict[str, Any] = {"train_seconds": round(seconds, 2)}
    if trained.notes:
        metrics["notes"] = list(trained.notes)
    if trained.taken is not None:
        metrics["taken"] = dict(trained.taken)
    if figure is not None:
        metrics["validation"] = figure.to_json()
    with connection.transaction():
        attach_partitions(connection, trained.model_id)
        reach("partitions attached")
        mark_ready(connection, trained.model_id, metrics)
        rejection = reason_to_reject(connection, trained.label, figure) if activation == "unless worse" else None
        if activation != "never" and rejection is None:
            make_active(connection, trained.model_id)
            reach("version activated")
        log_training(connection, trained.model_id, seconds, rejection)
    reach("published")
    catch_up(connection, trained.began_at)
    reach("caught up")
    return rejection


def mark_ready(connection: psycopg.Connection, model_id: int, metrics: Mapping[str, Any]) -> None:
    """Set a version's state to ready, without the users that forget_user() erased during the training."""
    # Two statements: Citus deletes nothing by a join with a table that it has not spread.
    (forgotten,) = fetch_row(
        connection,
        "select array_agg(g.user_key) from (select v.user_key from recdb.user_vector v where v.model_id = %s "
        "except select u.user_key from recdb.user_key u) g",
        [model_id],
    )
    if forgotten:
        connection.execute(
            "delete from recdb.user_vector v where v.model_id = %s and v.user_key = any (%s)", [model_id, forgotten]
        )
    connection.execute(
        "update recdb.model set state = 'ready', metrics = %s where model_id = %s", [Jsonb(metrics), model_id]
    )


def reason_to_reject(connection: psycopg.Connection, label: str, figure: Figure | None) -> str | None:
    """Return why a version should not replace the active one, None if it may."""
    row = connection.execute("select label, metrics -> 'validation' from recdb.model where active").fetchone()
    served = Figure.from_json(row[1]) if row and row[1] else None
    if row is None or served is None or not is_clearly_worse(figure, served):
        return None
    return f"{label} is clearly worse than {row[0]}, which keeps serving: ndcg@20 {figure}, before ndcg@20 {served}"


def make_active(connection: psycopg.Connection, model_id: int) -> None:
    """Make a new version the active one; unlike recdb.activate(), this leaves the half-life in recdb.config alone."""
    connection.execute("update recdb.model set active = false where active")
    connection.execute("update recdb.model set active = true, activated_at = now() where model_id = %s", [model_id])


def catch_up(connection: psycopg.Connection, moment: datetime) -> None:
    """Update the vectors of users who were refreshed since a time: the training may have read their old weights."""
    with connection.transaction():
        connection.execute("select recdb.take_refresh_lock(true)")
        connection.execute(
            "select recdb.refresh_vectors(array("
            "select r.user_key from recdb.recent_user r where r.refreshed_at >= %s))",
            [moment],
        )


def log_training(connection: psycopg.Connection, model_id: int, seconds: float, error: str | None) -> None:
    """Write the end of the training into recdb.refresh_log, with `error` as a rejection."""
    connection.execute(
        "select recdb.end_run('train', clock_timestamp() - make_interval(secs => %s), m.users, m.interactions, "
        "m.label, error => %s::text) from recdb.model m where m.model_id = %s",
        [seconds, error, model_id],
    )
