"""The benchmark of cells, on tiny data and one server: its figures are of the users that it names."""

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from pytest_postgresql.executors import NoopExecutor
from support.cells import clones
from support.data import tastes
from support.servers import Server

from recdb.database import Database

CELLS = Path(__file__).parents[2] / "benchmarks" / "cells"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the benchmark reads /proc")
def test_four_cells_are_compared_with_one_database(
    server: Server, template: NoopExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def clone(folder: Path) -> Iterator[Database]:
        with clones(server, template, 1) as (database,):
            yield database

    monkeypatch.syspath_prepend(str(CELLS))
    module = import_module("run")
    try:
        monkeypatch.setattr(module, "server", clone)
        monkeypatch.setattr(module, "WARM_UP", 1)
        monkeypatch.setattr(module, "ROUNDS", 1)
        rows = tastes(120, 40, 10)
        for name, part in (("train", [row for n, row in enumerate(rows) if n % 5]), ("test", rows[::5])):
            with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as file:
                csv.writer(file).writerows([["user_id", "item_id", "kind"], *part])
        (tmp_path / "meta.json").write_text(json.dumps({"weights": {"view": 0.1, "like": 0.7}, "hides": "all"}))
        found = module.measure(tmp_path, tmp_path)
    finally:
        sys.modules.pop("run")

    assert found["users"] == 120 == sum(found["users of the cells"])
    recalls = found["recall@20"]
    assert 0.5 < recalls["four cells, one item model"] <= 1
    assert found["share of the recall"] == pytest.approx(
        recalls["four cells, one item model"] / recalls["one database"], abs=1e-3
    )
