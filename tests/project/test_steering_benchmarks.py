"""The benchmarks of steered lists, on tiny data: they find what the data were made to show. No test looks at a time."""

import csv
import gzip
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from recdb.database import Database

QUALITY = Path(__file__).parents[2] / "benchmarks" / "quality"
Benchmark = Callable[[str], ModuleType]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, empty_database: Callable[[], Database]) -> Benchmark:
    """Return a benchmark's module, which takes its databases from the tests' server."""
    monkeypatch.syspath_prepend(str(QUALITY))

    @contextmanager
    def scratch(url: str | None = None) -> Iterator[Database]:
        yield empty_database()

    def load(name: str) -> ModuleType:
        module = import_module(name)
        monkeypatch.setattr(module, "scratch_database", scratch)
        return module

    return load


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder with the page that the benchmarks write."""
    shutil.copy(QUALITY / "STEERING.md", tmp_path)
    return tmp_path


def write(file: Path, header: str, rows: Iterable[Sequence[str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(header.split(","))
        writer.writerows(rows)


@pytest.fixture
def news(tmp_path: Path) -> Path:
    """Make a data set of readers, each with one of three topics, who take the topic's news of the last four days."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "news"
    rows = []
    for hour in range(0, 24 * 24, 3):
        for reader in rng.choice(30, 4, replace=False):
            item = f"{reader % 3}-{max(0, hour // 8 - rng.integers(0, 12))}"
            at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=hour, minutes=int(reader))
            rows.append((f"reader-{reader}", item, "click", at.isoformat()))
    write(folder / "train.csv.gz", "user_id,item_id,kind,created_at", rows)
    write(folder / "test.csv.gz", "user_id,item_id", [(f"reader-{n}", f"{n % 3}-{n}") for n in range(30)])
    items = sorted({item for _, item, _, _ in rows})
    attributes = [(item, json.dumps({"tags": [f"tag-{int(item[2:]) % 4}"]})) for item in items]
    write(folder / "items.csv.gz", "item_id,attributes", attributes)
    (folder / "meta.json").write_text(json.dumps({"weights": {"click": 1.0}, "hides": "all"}))
    return tmp_path / "data"


def rows_of(page: Path, name: str) -> list[list[str]]:
    """Return the cells of the tables of a section."""
    section = page.read_text().split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:2] == "| "]


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def test_readers_of_news_want_freshness(
    benchmark: Benchmark, news: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freshness = benchmark("freshness")
    monkeypatch.setattr(freshness, "HALF_LIVES", (None, 1, 4))
    run(freshness, monkeypatch, str(news), "--windows", "1", "--out", str(out))

    _, (data, relevant, _, half_life, without, with_it, _), *_ = rows_of(out / "STEERING.md", "freshness")
    assert (data, relevant) == ("news", "any")
    assert half_life != "none"
    assert float(with_it) > float(without)
    assert (out / "results" / "freshness.svg").read_text().startswith("<?xml")


def test_the_price_of_diversity_and_caps_is_measured(
    benchmark: Benchmark, news: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diversity = benchmark("diversity")
    monkeypatch.setattr(diversity, "DIVERSITIES", (0.3, 1.0))
    monkeypatch.setattr(diversity, "MOST", (1,))
    run(diversity, monkeypatch, str(news), "--out", str(out))

    _, *rows = rows_of(out / "STEERING.md", "diversity")
    distances = {setting: float(distance) for setting, _, _, _, _, distance, _ in rows}
    lengths = {setting: float(length) for setting, *_, length in rows}
    assert list(distances) == ["nothing", "diversity 0.3", "diversity 1", "max_per_owner 1", "max_per tags 1"]
    assert distances["nothing"] < distances["diversity 0.3"] < distances["diversity 1"]
    assert lengths["max_per tags 1"] < lengths["nothing"]
    assert (out / "results" / "diversity.svg").read_text().startswith("<?xml")


def test_days_pass_and_users_find_items(benchmark: Benchmark) -> None:
    simulation = benchmark("simulation")
    size = simulation.Size(users=20, items=200, new_items=2, days=2)

    figures = simulation.simulate(1, size, {"rotation_rate": 0.9})

    assert figures.shape == (2, 4)
    assert (np.diff(figures, axis=0) >= 0).all()
    found, _, clicks, regret = figures[-1]
    assert 0 < found <= clicks
    assert regret > 0


def test_the_best_page_leaves_no_regret_and_a_tired_user_clicks_less(benchmark: Benchmark) -> None:
    simulation = benchmark("simulation")
    world = simulation.World(1, simulation.Size(users=20, items=60, new_items=0, days=1))
    best = np.argsort(-world.rate, axis=1)[:, : simulation.PAGE]
    fresh, tired = simulation.Audience(world, 0.6), simulation.Audience(world, 0.6)
    tired.looks += 5

    _, (_, _, clicks, regret) = fresh.visit(0, best)
    _, (_, _, fewer, _) = tired.visit(0, best)

    assert regret == pytest.approx(0)
    assert 0 <= fewer < clicks


def test_every_arm_of_the_simulation_is_shown(benchmark: Benchmark, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of the arms are made up: rotation 0.6 and the largest exploration find most."""
    simulation = benchmark("simulation")
    rng = np.random.default_rng(0)

    class MadeUp(simulation.Runs):  # type: ignore[misc, name-defined]
        def run(self, tasks: Iterable[tuple[int, dict[str, float], float]]) -> None:
            for task in tasks:
                arm = task[1]
                gain = 1 + (arm.get("rotation_rate") == 0.6) + arm.get("explore", 0)
                self.done[self.name(task)] = (gain + rng.random((30, 4)).cumsum(0) / 100).tolist()

    monkeypatch.setattr(simulation, "Runs", MadeUp)
    run(simulation, monkeypatch, "--out", str(out))

    rows = rows_of(out / "STEERING.md", "simulation")
    arms = [row[0] for row in rows if len(row) == 7]
    assert arms == ["arm", "always-exploit", "rotation", "exploration", "both"] * 2
    text = (out / "STEERING.md").read_text()
    assert "rotation_rate 0.6" in text.split("Chosen on 1 other seed(s): ")[1].splitlines()[0]
    assert (out / "results" / "simulation.svg").read_text().startswith("<?xml")
