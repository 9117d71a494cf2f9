"""The speed benchmark runs, and its results have the shape that the README's table needs. No test looks at a time."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"

pytestmark = pytest.mark.server  # the benchmark starts its own


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the benchmark with a few users and return the folder with its results."""
    folder = tmp_path_factory.mktemp("speed")
    shutil.copy(SPEED / "README.md", folder)
    command = [sys.executable, str(SPEED / "run.py"), "--out", str(folder)]
    command += ["--sizes", "200", "--calls", "10", "--seconds", "1", "--clients", "2", "--settings", "10/10/20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def result(measured: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((measured / "results" / "200.json").read_text())
    return found


def test_latency_is_measured_for_every_profile_size_and_rival(result: dict[str, Any]) -> None:
    assert list(result["latency_ms"]) == ["average", "1", "10", "40", "50"]
    assert set(result["rivals_ms"]) == {
        "kNN rebuilt per request", "ALS in memory", "ALS in memory, catalogue asked", "item-kNN in memory",
        "item-kNN in memory, catalogue asked", "nearest items by pgvector",
    }  # fmt: skip
    for figures in (*result["latency_ms"].values(), *result["rivals_ms"].values()):
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
        assert figures["calls"] > 0


def test_every_figure_stands_beside_what_it_depends_on(result: dict[str, Any]) -> None:
    assert set(result["model"]) == {"neighbors", "item_neighbors", "dimension", "profile_limit", "learner"}
    assert {"cores", "memory_gb", "postgresql", "pgvector", "settings"} <= set(result["machine"])
    assert (result["users"], result["items"], result["interactions"], result["k"]) == (200, 100, 8000, 50)


def test_the_job_and_the_batches_are_measured(result: dict[str, Any]) -> None:
    for name in ("load", "train", "recommend_all"):
        assert result[name]["seconds"] > 0 and result[name]["peak_mb"] > 10
    assert result["train"]["sizes_mb"]["database"] > 0
    assert result["recommend_batch"]["ms_per_user"] > 0
    assert [refresh["share"] for refresh in result["refresh"]] == [0.001, 0.01, 0.1]
    assert all(refresh["events"] >= 8 and refresh["users"] > 0 for refresh in result["refresh"])
    assert [each["clients"] for each in result["throughput"]] == [2]


def test_steered_lists_are_measured_beside_plain_ones(result: dict[str, Any]) -> None:
    assert {"plain", "scenario that does nothing", "everything on", "among 10,000"} <= set(result["steered_ms"])
    for figures in result["steered_ms"].values():
        assert figures["calls"] == 10 and 0 < figures["p50"] <= figures["max"] and figures["times_plain"] > 0
    assert result["steered_ms"]["plain"]["times_plain"] == 1


def test_the_curve_has_quality_and_latency(result: dict[str, Any]) -> None:
    (point,) = result["curve"]

    assert (point["neighbors"], point["item_neighbors"], point["profile_limit"]) == (10, 10, 20)
    assert 0 < point["ndcg@20"] <= 1 and point["latency_ms"]["p50"] > 0


def test_table_and_plots_are_written(measured: Path) -> None:
    text = (measured / "README.md").read_text()

    assert "| average users | " in text and "### Ranking quality against latency, 200 users" in text
    assert text.startswith("# Speed") and "<!-- /results -->\n\n## What was tried" in text
    for name in ("growth.svg", "curve.svg"):
        assert f"(results/{name})" in text
        assert (measured / "results" / name).read_text().startswith("<?xml")
