"""MLflow: versions are logged as runs to a real local folder, and a failure there never undoes a training."""

import shutil
import sys
from pathlib import Path

import numpy as np
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from psycopg.conninfo import make_conninfo
from support.data import column, record, tastes, train
from typer.testing import CliRunner

from recdb.cli import app
from recdb.database import Database
from recdb.errors import Rejected
from recdb.job import tracking

# Warnings about how MLflow uses its libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs, made once because MLflow takes seconds for it."""
    made = tmp_path_factory.mktemp("empty")
    client(made).search_experiments()
    return made


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path) -> Path:
    """The folder that the runs are logged to."""
    return Path(shutil.copytree(empty_store, tmp_path / "my runs"))


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def runs(folder: Path) -> list[Run]:
    """The runs as MLflow reads them back, the oldest first."""
    reader = client(folder)
    experiment = reader.get_experiment_by_name("recdb")
    assert experiment is not None
    return list(reader.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def test_a_training_is_a_run_with_its_parameters_and_figures(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    record(db, tastes(100))
    folder = tmp_path / "not" / "there yet"

    said = CliRunner().invoke(app, ["refresh", "--full", "--mlflow", str(folder), "--url", database.conninfo])

    assert said.exit_code == 0, said.output
    (run,) = runs(folder)
    row = db.execute(
        "select label, params, metrics, users, items, interactions, current_database() from recdb.models"
    ).fetchone()
    assert row is not None
    label, params, metrics, users, items, interactions, name = row
    assert run.info.run_name == label and run.info.status == "FINISHED"
    assert run.data.params == {key: str(value) for key, value in params.items()}
    logged = run.data.metrics
    assert logged["validation/ndcg_at_20"] == metrics["validation"]["ndcg@20"]
    assert logged["validation/recall_at_20"] == metrics["validation"]["recall@20"]
    assert [logged["validation/ndcg_at_20_low"], logged["validation/ndcg_at_20_high"]] == metrics["validation"][
        "interval"
    ]
    assert logged["train_seconds"] == metrics["train_seconds"]
    assert (logged["users"], logged["items"], logged["interactions"]) == (users, items, interactions)
    assert run.data.tags["recdb.database"] == name and run.data.tags["recdb.active"] == "true"


def test_a_tuning_logs_its_curve_as_steps(database: Database, db: psycopg.Connection, folder: Path) -> None:
    record(db, tastes(100))

    said = CliRunner().invoke(app, ["tune", "--budget", "1s", "--mlflow", str(folder), "--url", database.conninfo])

    assert said.exit_code == 0, said.output
    (run,) = runs(folder)
    (found,) = column(db.execute("select metrics -> 'tuning' from recdb.models where active"))
    curve = client(folder).get_metric_history(run.info.run_id, "tuning/ndcg_at_20")
    assert [(point.step, point.value) for point in sorted(curve, key=lambda point: point.step)] == [
        (step, trial["ndcg@20"]) for step, trial in enumerate(found["curve"])
    ]
    assert run.data.metrics["tuning/best_ndcg_at_20"] == found["ndcg@20"]


def test_each_version_is_a_run_and_a_rejected_one_too(database: Database, db: psycopg.Connection, folder: Path) -> None:
    record(db, tastes(400))
    command = ["refresh", "--full", "--mlflow", str(folder), "--url", database.conninfo]
    CliRunner().invoke(app, command)
    items = column(db.execute("select item_id from recdb.interaction"))
    rows = [(user, kind) for user, _, kind in tastes(400)]
    db.execute("truncate recdb.interaction")
    dealt = np.random.default_rng(1).permutation(items)
    record(db, [(user, str(item), kind) for (user, kind), item in zip(rows, dealt, strict=True)])

    said = CliRunner().invoke(app, command)

    assert isinstance(said.exception, Rejected)
    first, second = runs(folder)
    assert (first.info.run_name, second.info.run_name) == ("collaborative_filtering_v1", "collaborative_filtering_v2")
    assert second.data.tags["recdb.active"] == "false"
    assert second.data.metrics["validation/ndcg_at_20"] < first.data.metrics["validation/ndcg_at_20"]


def test_no_password_is_logged(database: Database, db: psycopg.Connection, folder: Path) -> None:
    record(db, tastes())
    secret = "pa55-of-the-test"
    label = train(database)

    tracking.log_version(Database(make_conninfo(database.conninfo, password=secret), "test"), label, str(folder))

    assert all(secret.encode() not in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert secret not in str(runs(folder)[0].to_dictionary())


def test_a_long_curve_is_logged_whole(database: Database, db: psycopg.Connection, folder: Path) -> None:
    record(db, tastes())
    label = train(database)
    db.execute(
        """
        update recdb.model set metrics = metrics || jsonb_build_object('tuning', jsonb_build_object(
            'recall@20', 0.2, 'ndcg@20', 0.1, 'users', 10, 'seconds', 3, 'curve', (
                select jsonb_agg(jsonb_build_object('recall@20', n / 9999.0, 'ndcg@20', n / 9999.0, 'changed', '{}'))
                from generate_series(0, 1499) n)))
        """
    )

    run = tracking.log_version(database, label, str(folder))

    assert len(client(folder).get_metric_history(run, "tuning/recall_at_20")) == 1500


def test_without_mlflow_nothing_is_trained(
    database: Database, db: psycopg.Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(db, tastes())
    monkeypatch.setitem(sys.modules, "mlflow", None)

    for command in (["refresh", "--full"], ["tune", "--budget", "1s"]):
        said = CliRunner().invoke(app, [*command, "--mlflow", str(folder), "--url", database.conninfo])
        assert "MLflow is not installed" in str(said.exception)
        assert "pip install 'recdb-postgres[mlflow]'" in getattr(said.exception, "hint", "")

    assert column(db.execute("select count(*) from recdb.model")) == [0]


def test_a_place_that_cannot_be_written_is_a_warning(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    record(db, tastes())
    file = tmp_path / "file"
    file.write_text("not a folder")

    said = CliRunner().invoke(app, ["refresh", "--full", "--mlflow", str(file), "--url", database.conninfo])

    assert said.exit_code == 0
    assert "warning: collaborative_filtering_v1 is trained, but MLflow at" in said.stderr
    assert column(db.execute("select label from recdb.models where active")) == ["collaborative_filtering_v1"]
