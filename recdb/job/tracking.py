"""Logging model versions to MLflow: parameters, metrics and the tuning curve. MLflow is an optional extra."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from recdb.database import Database, connect
from recdb.distribution import install_command
from recdb.errors import RecdbError
from recdb.schemas import DEFAULT_SCHEMA
from recdb.urls import quotes_credentials, without_credentials

EXPERIMENT = "recdb"
BATCH = 1000
"""How many metrics MLflow accepts in one request."""


def version_tracker(database: Database, place: str | None, warn: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that logs a trained version, by its label, to `place`; for None it does nothing.

    If the logging fails, the function warns: the version is trained all the same. Raises RecdbError at once, before
    any training, if MLflow is not installed.
    """
    if place is None:
        return lambda label: None
    require_mlflow()

    def track(label: str) -> None:
        try:
            log_version(database, label, place)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            if not reason or quotes_credentials(reason, place):
                reason = type(error).__name__
            warn(f"{label} is trained, but MLflow at {without_credentials(place)} did not accept it: {reason}")

    return track


def require_mlflow() -> None:
    """Raise RecdbError if MLflow is not installed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow  # noqa: F401, PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError("MLflow is not installed", f"run: {install_command('mlflow')}") from error


def tracking_uri(place: str) -> str:
    """Return MLflow's URI for a place: a URI as it is; for a folder, which is created, the SQLite store in it."""
    if "://" in place or place.startswith(("file:", "sqlite:", "databricks")):
        return place
    folder = Path(place).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / 'mlflow.db').as_posix()}"


def log_version(database: Database, label: str, place: str) -> str:
    """Log a version as a run of the experiment 'recdb', named by its label; return the run's id.

    `place` is a folder or a tracking URI. The run holds the version's row of recdb.models and the database's name.
    """
    require_mlflow()
    from mlflow import MlflowClient  # noqa: PLC0415  the extra is optional
    from mlflow.entities import Metric, Param  # noqa: PLC0415

    with connect(database) as connection:
        row = connection.execute(
            "select current_database(), params, metrics, users, items, interactions, created_at, active "
            "from recdb.models where label = %s",
            [label],
        ).fetchone()
    if row is None:
        raise RecdbError(f"no model version is labelled '{label}'", "see: recdb models")
    name, params, metrics, users, items, interactions, created_at, active = row

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = tracking_uri(place)
    client = MlflowClient(tracking_uri=uri)
    run = client.create_run(
        experiment_id(client, uri),
        run_name=label,
        start_time=milliseconds(created_at),
        tags={"recdb.database": name, "recdb.model": label, "recdb.active": str(active).lower()}
        | ({} if database.schema == DEFAULT_SCHEMA else {"recdb.schema": database.schema}),
    )
    now = int(time.time() * 1000)
    sizes = {"users": users, "items": items, "interactions": interactions}
    points = [(key, value, 0) for key, value in (sizes | single_values(metrics)).items()] + curve(metrics)
    logged = [Metric(key, float(value), now, step) for key, value, step in points]
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
    for start in range(0, len(logged), BATCH):
        client.log_batch(run.info.run_id, metrics=logged[start : start + BATCH])
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def experiment_id(client: Any, uri: str) -> str:
    """Find or create the experiment; in a folder, the artifacts lie beside the store."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    folder = Path(uri.removeprefix("sqlite:///")).parent / "artifacts" if uri.startswith("sqlite:///") else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=folder.as_uri() if folder else None))


def single_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return a version's metrics; MLflow does not allow '@' in their names."""
    values = {"train_seconds": metrics["train_seconds"]}
    if validation := metrics.get("validation"):
        low, high = validation["interval"]
        values |= {f"validation/{plain(key)}": value for key, value in validation.items() if key != "interval"}
        values |= {"validation/ndcg_at_20_low": low, "validation/ndcg_at_20_high": high}
    if tuning := metrics.get("tuning"):
        values |= {f"tuning/best_{plain(key)}": tuning[key] for key in ("recall@20", "ndcg@20")}
        kept = ("users", "seconds", "latency_ms")
        values |= {f"tuning/{key}": tuning[key] for key in kept if tuning.get(key) is not None}
    return values


def curve(metrics: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """Return the metrics of each trial of the tuning: (metric, value, step)."""
    trials = metrics.get("tuning", {}).get("curve", [])
    return [
        (f"tuning/{plain(key)}", trial[key], step)
        for step, trial in enumerate(trials)
        for key in ("recall@20", "ndcg@20")
    ]


def plain(name: str) -> str:
    """Replace the '@' in a metric's name: 'ndcg@20' becomes 'ndcg_at_20'."""
    return name.replace("@", "_at_")


def milliseconds(moment: datetime) -> int:
    """Return a time in milliseconds of the epoch, as MLflow does."""
    return int(moment.timestamp() * 1000)
