"""Publishing: one short transaction, after which a version can be served, and serves unless it is clearly worse."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from recdb.job.guard import Figure, clearly_worse
from recdb.job.partitions import attach_partitions
from recdb.job.train import Trained

Activation = Literal["always", "unless worse", "never"]
"""When a trained version becomes the active one; "unless worse" compares its figure with the active one's."""


def publish(
    connection: psycopg.Connection, trained: Trained, figure: Figure | None, seconds: float, activation: Activation
) -> str | None:
    """Let a trained version be served, and make it the active one by `activation`.

    `figure` and `seconds`, what measuring and training took, are stored on its row. Returns why the version before it
    stays active, where the new one was found clearly worse.
    """
    metrics: dict[str, Any] = {"train_seconds": round(seconds, 2)}
    if figure is not None:
        metrics["validation"] = figure.to_json()
    with connection.transaction():
        attach_partitions(connection, trained.model_id)
        mark_ready(connection, trained.model_id, metrics)
        rejected = compare(connection, trained.label, figure) if activation == "unless worse" else None
        if activation != "never" and rejected is None:
            activate(connection, trained.model_id)
        log(connection, trained.model_id, seconds, rejected)
    catch_up(connection, trained.began_at)
    return rejected


def mark_ready(connection: psycopg.Connection, model_id: int, metrics: Mapping[str, Any]) -> None:
    """Say that a version may be served; users that were forgotten while it trained are not in it."""
    connection.execute(
        "delete from recdb.user_vector v where v.model_id = %s "
        "and not exists (select from recdb.user_key u where u.user_key = v.user_key)",
        [model_id],
    )
    connection.execute(
        "update recdb.model set state = 'ready', metrics = %s where model_id = %s", [Jsonb(metrics), model_id]
    )


def compare(connection: psycopg.Connection, label: str, figure: Figure | None) -> str | None:
    """Say why a version should not replace the active one, None where it may."""
    row = connection.execute("select label, metrics -> 'validation' from recdb.model where active").fetchone()
    served = Figure.from_json(row[1]) if row and row[1] else None
    if row is None or served is None or not clearly_worse(figure, served):
        return None
    found = f"ndcg@20 {figure}" if figure else "nobody's items are left to measure it on"
    return f"{label} is clearly worse than {row[0]}, which keeps serving: {found}, before ndcg@20 {served}"


def activate(connection: psycopg.Connection, model_id: int) -> None:
    """Make a version that was just trained the active one; what changed in recdb.config meanwhile stays as it is."""
    connection.execute("update recdb.model set active = false where active")
    connection.execute("update recdb.model set active = true, activated_at = now() where model_id = %s", [model_id])


def catch_up(connection: psycopg.Connection, moment: datetime) -> None:
    """Bring the vectors of users who were refreshed since a moment up to date: a new version may have missed them."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(recdb.refresh_lock())")
        connection.execute(
            "select recdb.refresh_vectors(array("
            "select r.user_key from recdb.recent_user r where r.refreshed_at >= %s))",
            [moment],
        )


def log(connection: psycopg.Connection, model_id: int, seconds: float, error: str | None) -> None:
    """Write the training into recdb.refresh_log."""
    connection.execute(
        "insert into recdb.refresh_log (kind, started_at, finished_at, users, rows, model, error) "
        "select 'train', clock_timestamp() - make_interval(secs => %s), clock_timestamp(), m.users, "
        "m.interactions, m.label, %s from recdb.model m where m.model_id = %s",
        [seconds, error, model_id],
    )
