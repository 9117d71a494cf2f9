"""What commands print on a terminal of 80 and of 60 columns: everything that is needed, and no word cut in two."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support.commands import Ended, run
from support.data import record, tastes, train

from recdb.database import Database
from recdb.terminal import output

UUID = "0f8fad5b-d9cb-469f-a165-70867728{:04}"
LABEL = "a_label_that_somebody_gave_to_a_version_v1"


@pytest.fixture(scope="module")
def long(module_database: Database) -> Database:
    """Ids that are UUIDs, long titles, and a version with a long label beside one with a usual label."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        rows = [[user, UUID.format(int(item[1:])), kind] for user, item, kind in tastes()]
        record(connection, rows)
        connection.execute(
            "insert into recdb.item (item_id, title) "
            "select distinct item_id, 'A title [bold] of many words, as people write them' from recdb.interaction"
        )
        train(module_database)
        connection.execute("update recdb.model set label = %s", [LABEL])
        train(module_database)
    return module_database


Show = Callable[..., Ended]


@pytest.fixture(params=[80, 60], ids=lambda width: f"{width} columns")
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(output, "width", request.param)
    return int(request.param)


def words(text: str) -> set[str]:
    return set(re.findall(r"\S+", text))


def test_models(
    long: Database, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = run(["models"], monkeypatch, capsys, long.conninfo).output.splitlines()[1:]
    assert max(len(line.rstrip()) for line in shown) <= width
    assert {LABEL, "collaborative_filtering_v1", "active", "ready", "ndcg@20"} <= words("\n".join(shown))


def test_models_leaves_columns_out_where_that_is_enough(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(db, tastes())
    train(database)
    wide = run(["models"], monkeypatch, capsys, database.conninfo).output.splitlines()
    monkeypatch.setattr(output, "width", 80)
    narrow = run(["models"], monkeypatch, capsys, database.conninfo).output.splitlines()
    assert len(narrow) == len(wide) == 3 and max(map(len, narrow)) <= 80
    assert set(narrow[1].split()) < set(wide[1].split())
    assert narrow[2].startswith("collaborative_filtering_v1  active")


def test_recommend(
    long: Database, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids can be copied, and each reason is one word."""
    shown = run(["recommend", "u1", "-k", "3"], monkeypatch, capsys, long.conninfo).output
    assert max(len(line.rstrip()) for line in shown.splitlines()[1:]) <= width
    found = words(shown)
    assert len([word for word in found if re.fullmatch(r"0f8fad5b-d9cb-469f-a165-70867728\d{4}", word)]) == 3
    assert "collaborative_filtering" in found and "[bold]" in found and "1.000" in found


def test_evaluate(
    long: Database, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = run(["evaluate", "-k", "5", "-k", "10"], monkeypatch, capsys, long.conninfo).output.splitlines()
    rows = [line for line in shown if re.match(r"(precision|hit_rate|ndcg)@(5|10) ", line)]
    assert len(rows) == 6 and all(len(row.split()) >= 2 for row in rows)
    assert max(map(len, rows)) <= width


def test_doctor(
    long: Database, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = run(["doctor"], monkeypatch, capsys, long.conninfo).output.splitlines()
    assert max(len(line.rstrip()) for line in shown[1:]) <= width
    assert not any("\x1b" in line for line in shown)
