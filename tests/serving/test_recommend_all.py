"""recommend-all: the file holds the list of every user as recommend() gives it."""

import csv
import gzip
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train
from test_scores import SETTINGS, VARIANTS, random_rows, store
from typer.testing import CliRunner

from recdb import everyone
from recdb.cli import app
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError
from recdb.everyone import rank
from recdb.everyone import write as writing
from recdb.learn.nearest import largest, make_cells, nearest_cells

Row = tuple[str, int, str, float, str, str]


@pytest.fixture
def exact(database: Database) -> Iterator[psycopg.Connection]:
    """A connection on which no HNSW index is used, so that the neighbours are exact."""
    options = "-c enable_indexscan=off -c enable_bitmapscan=off"
    with psycopg.connect(database.conninfo, autocommit=True, options=options) as connection:
        yield connection


def write(database: Database, path: Path, k: int = 50) -> dict[str, list[Row]]:
    """Write the file; return each user's rows in the file's order."""
    everyone.recommend_all(database, str(path), k=k)
    return read(path.read_bytes())


def read(content: bytes) -> dict[str, list[Row]]:
    lists: dict[str, list[Row]] = {}
    for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
        assert list(row) == ["user_id", "rank", "item_id", "score", "reason", "model_version"]
        lists.setdefault(row["user_id"], []).append(
            (row["user_id"], int(row["rank"]), row["item_id"], float(row["score"]), row["reason"], row["model_version"])
        )
    return lists


def assert_same(lists: dict[str, list[Row]], connection: psycopg.Connection, k: int = 50) -> None:
    """The rows of every user are those of recommend(): the same items, scores within 1e-6, equal order but for ties."""
    users = [row[0] for row in connection.execute("select user_id from recdb.user_key")]
    assert set(lists) <= set(users)
    for user in users:
        expected = recommend(connection, user, k)
        found = lists.get(user, [])
        assert [row[1] for row in found] == list(range(1, len(expected) + 1))
        assert {(row[2], *row[4:]) for row in found} == {(row[0], *row[2:]) for row in expected}
        assert [row[3] for row in found] == pytest.approx([row[1] for row in expected], abs=1e-6)
        scores = {row[0]: row[1] for row in expected}
        assert {row[2]: row[3] for row in found} == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_model_gives_the_rows_of_recommend(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, tmp_path: Path, setting: str
) -> None:
    db.execute("update recdb.interaction_kind set hides = false where kind = 'view'")
    store(db, random_rows(seed=1))
    train(database, **SETTINGS[setting])

    for k in (4, 1000):
        assert_same(write(database, tmp_path / "all.csv", k), exact, k)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_data_gives_the_rows_of_recommend(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, tmp_path: Path, variant: str
) -> None:
    store(db, random_rows(seed=2), variant)
    train(database, blend=0.5, neighbors=10)

    for k in (4, 1000):
        assert_same(write(database, tmp_path / "all.csv", k), exact, k)


def test_only_listed_items_where_listed_only_is_set(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, tmp_path: Path
) -> None:
    store(db, random_rows(seed=3), "catalogue")
    db.execute("update recdb.config set listed_only = true")
    train(database)

    lists = write(database, tmp_path / "all.csv")

    assert_same(lists, exact)
    listed = {row[0] for row in db.execute("select item_id from recdb.item where available")}
    assert {row[2] for rows in lists.values() for row in rows} <= listed


def test_equal_scores_stand_in_the_order_of_ids(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, tmp_path: Path
) -> None:
    twins = [
        [f"u{user}", f"i{item}{twin}", "like"] for user in range(9) for item in range(user, user + 3) for twin in "ab"
    ]
    record(db, twins)
    train(database)

    lists = write(database, tmp_path / "all.csv", 3)

    for user, rows in lists.items():
        assert [row[2] for row in rows] == [row[0] for row in recommend(exact, user, 3)]


def test_refreshed_interactions_count_and_later_ones_do_not(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, tmp_path: Path
) -> None:
    record(db, tastes())
    train(database)
    record(db, [("u1", "i7", "share"), ("newcomer", "i3", "like"), ("newcomer", "brand-new", "like")])
    db.execute("call recdb.refresh()")
    assert_same(write(database, tmp_path / "refreshed.csv"), exact)

    record(db, [("later", "i3", "like")])

    assert "later" not in write(database, tmp_path / "all.csv")


@pytest.mark.parametrize("blend", [0.3, 1.0])
def test_items_newer_than_the_model_stand_in_the_lists(
    database: Database, db: psycopg.Connection, exact: psycopg.Connection, tmp_path: Path, blend: float
) -> None:
    """Untouched ones, ones that came after the training, ones that users touched since, and the users who have them."""
    record(db, tastes(users=90, items=60))
    described = [
        (f"i{number}", f"author {number % 6}", Jsonb({"topic": f"topic {number % 3}"})) for number in range(75)
    ]
    insert = "insert into recdb.item (item_id, owner_id, attributes) values (%s, %s, %s)"
    db.cursor().executemany(insert, described[:66])
    train(database, dimension=16, blend=blend)
    db.cursor().executemany(insert, described[66:])
    record(db, [(f"u{number}", "i66", "like") for number in range(0, 30, 3)])
    record(db, [("u1", "i67", "like"), ("newcomer", "i68", "like")])
    db.execute("call recdb.refresh()")

    lists = write(database, tmp_path / "all.csv", 1000)

    assert_same(lists, exact, 1000)
    reasons = {row[2]: row[4] for rows in lists.values() for row in rows}
    assert reasons["i66"] == "collaborative_filtering"
    assert {reasons["i62"], reasons["i67"], reasons["i74"]} == {"content"}
    assert [row[2] for row in lists["newcomer"]]


def test_users_without_a_recommendation_have_no_rows(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    record(db, tastes())
    train(database)
    record(db, [("stranger", "unknown-to-the-model", "like")])
    db.execute("call recdb.refresh()")

    assert "stranger" not in write(database, tmp_path / "all.csv")


def test_cells_find_nearly_all_of_the_exact_neighbours(
    database: Database, db: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If neighbours are searched in cells, hardly an item of the lists changes."""
    record(db, tastes(users=1500, items=80, groups=8))
    train(database, neighbors=20)
    exactly = write(database, tmp_path / "exact.csv", 10)
    monkeypatch.setattr(rank, "EXACT", 1000)
    monkeypatch.setattr(rank, "PROBED", 3)

    in_cells = write(database, tmp_path / "cells.csv", 10)

    assert set(in_cells) == set(exactly)
    same = [len({row[2] for row in rows} & {row[2] for row in exactly[user]}) for user, rows in in_cells.items()]
    assert np.mean(same) > 9


def test_odd_ids_come_back_whole(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    rows = [(f'u,"{user}"', f"i\n{item}, ü", kind) for user, item, kind in tastes(users=12, items=20)]
    db.cursor().executemany("insert into recdb.interaction (user_id, item_id, kind) values (%s, %s, %s)", rows)
    train(database)

    lists = write(database, tmp_path / "all.csv")

    assert set(lists) == {row[0] for row in rows}
    assert {row[2] for found in lists.values() for row in found} <= {row[1] for row in rows}


# The file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> Database:
    record(db, tastes())
    train(database)
    return database


def run(database: Database, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["recommend-all", *arguments, "--url", database.conninfo])


def test_plain_gzipped_and_standard_output_have_the_same_content(trained: Database, tmp_path: Path) -> None:
    plain, packed = tmp_path / "all.csv", tmp_path / "all.csv.gz"
    said = run(trained, str(plain), "-k", "3")
    assert said.exit_code == 0
    assert "wrote 120 rows of collaborative_filtering_v1 for 40 users" in said.stdout
    assert run(trained, str(packed), "--k", "3").exit_code == 0
    printed = run(trained, "-", "-k", "3")

    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes() == printed.stdout_bytes
    assert "wrote 120 rows" in printed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.csv.gz"]


def test_a_failure_keeps_the_file_that_was_there(
    trained: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.csv"
    path.write_text("yesterday's")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "quote", fail)
    with pytest.raises(InvalidInput, match=r"cannot write .*all\.csv: No space left on device"):
        everyone.recommend_all(trained, str(path))

    assert path.read_text() == "yesterday's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_goes_away_is_one_error(trained: Database) -> None:
    command = [sys.executable, "-m", "recdb.cli", "recommend-all", "-", "--url", trained.conninfo]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        complaints = process.stderr.read()

    assert process.returncode == 1
    assert "error: standard output was closed" in complaints and "Traceback" not in complaints


def test_a_pipe_is_written_to_directly(trained: Database, tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe", tmp_path / "received"
    os.mkfifo(pipe)
    with received.open("wb") as target, subprocess.Popen(["cat", str(pipe)], stdout=target):
        everyone.recommend_all(trained, str(pipe), k=3)

    assert pipe.is_fifo() and len(read(received.read_bytes())) == 40


def test_wrong_arguments_and_no_model_are_errors(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    with pytest.raises(RecdbError, match="no model has been trained yet"):
        everyone.recommend_all(database, str(tmp_path / "all.csv"))
    with pytest.raises(InvalidInput, match="between 1 and 1000"):
        everyone.recommend_all(database, str(tmp_path / "all.csv"), k=0)
    with pytest.raises(InvalidInput, match="cannot write"):
        everyone.recommend_all(database, str(tmp_path / "nowhere" / "all.csv"))
    assert list(tmp_path.iterdir()) == []


# Nearest vectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "n"), [(7, 30, 30), (5, 1000, 10), (20, 20_000, 40), (3, 323, 2), (1, 1, 1)]
)
def test_the_largest_are_found_whatever_the_shape(rows: int, columns: int, n: int) -> None:
    values = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)

    found, best = largest(values, n)

    expected = np.argsort(-values, axis=1)[:, :n]
    assert np.array_equal(found, expected)
    assert np.array_equal(best, np.take_along_axis(values, expected, axis=1))


def test_every_vector_is_in_the_cell_of_the_nearest_centre() -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    cells = make_cells(vectors)

    assert np.array_equal(np.sort(cells.members), np.arange(len(vectors)))
    assert np.array_equal(cells.vectors, vectors[cells.members])
    inside = np.repeat(np.arange(len(cells.centres)), np.diff(cells.starts))
    assert np.array_equal(inside, nearest_cells(cells.vectors, cells.centres))
    (own,) = cells.near(cells.vectors[:1], 1)
    assert own == inside[0]
    chosen = cells.near(vectors[:5], 4)
    assert 4 <= len(chosen) <= 20 and (np.diff(chosen) > 0).all()
    assert set(nearest_cells(vectors[:5], cells.centres)) <= set(chosen)
    assert np.array_equal(cells.vectors_at(cells.places(chosen)), cells.vectors[np.isin(inside, chosen)])
    assert np.array_equal(cells.near(vectors, 1000), np.arange(len(cells.centres)))


@pytest.mark.parametrize("step", ["reading ids", "reading interactions", "reading vectors"])
def test_a_training_that_retires_the_version_midway_empties_no_file(
    database: Database, db: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The file has the lists of the version that served when the command began, all of them."""
    monkeypatch.setattr("recdb.job.versions.PATIENCE", 0.1)
    record(db, tastes())
    db.execute("update recdb.config set kept_models = 1")
    label = train(database)
    expected = write(database, tmp_path / "lists.csv")
    assert len(expected) == 40
    trained: list[str] = []

    def report(text: str) -> None:
        if text == step:
            trained.append(train(database, neighbors=7))

    everyone.recommend_all(database, str(tmp_path / "lists.csv"), report=report)
    assert len(trained) == 1
    assert read((tmp_path / "lists.csv").read_bytes()) == expected
    assert {row[5] for rows in expected.values() for row in rows} == {label}
    everyone.recommend_all(database, str(tmp_path / "lists.csv"))
    assert {row[5] for rows in read((tmp_path / "lists.csv").read_bytes()).values() for row in rows} == set(trained)
    assert db.execute("select label from recdb.models where state = 'retired'").fetchall() == [(label,)]
