"""`recdb evaluate --cold` ranks only items that nobody touched in training; warm figures stand beside them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import record, tastes, train
from typer.testing import CliRunner, Result

from recdb import migrate
from recdb.cli import app
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database, connect
from recdb.evaluate.cold import NewItems, offer_untouched, score_cold
from recdb.evaluate.plan import Stopwatch
from recdb.progress import silent

GROUPS = 2
NEW = [f"new{n}" for n in range(20)]


def group_of(name: str) -> int:
    return int("".join(filter(str.isdigit, name))) % GROUPS


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Users of two tastes, a catalogue that says which taste an item is of, and new items that only the test has."""
    folder = tmp_path_factory.mktemp("cold")
    rows = tastes(users=60, items=40, per_user=10, groups=GROUPS)
    items = [f"i{n}" for n in range(40)]
    users = sorted({row[0] for row in rows})
    relevant = [(u, i) for u in users for i in NEW[:10] if group_of(u) == group_of(i)]
    contents: dict[str, list[Any]] = {
        "train": [("user_id", "item_id", "kind"), *rows],
        "test": [("user_id", "item_id"), *relevant, ("stranger", "new1")],
        "items": [
            ("item_id", "title", "attributes"),
            *((i, f"A thing {i}", json.dumps({"genre": f"genre {group_of(i)}"})) for i in [*items, *NEW]),
        ],
    }
    for name, lines in contents.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    return {name: str(folder / f"{name}.csv") for name in contents}


def evaluate(server: Database, files: dict[str, str], *options: str) -> Result:
    arguments = [part for name in ("train", "test", "items") for part in (f"--{name}", files[name])]
    return CliRunner().invoke(app, ["evaluate", "--cold", *arguments, "--url", server.conninfo, *options])


def own(server: Database, *options: str) -> Result:
    beside = make_conninfo(server.conninfo, dbname="postgres")
    return CliRunner().invoke(app, ["evaluate", "--cold", "--url", server.conninfo, "--scratch-url", beside, *options])


def test_new_items_are_ranked_alone_beside_warm_figures(database: Database, files: dict[str, str]) -> None:
    result = evaluate(database, files, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)

    assert found["cold"] == {"items": 20, "relevant": 300}
    assert (found["users"], found["unknown_users"]) == (60, 1)
    assert {"recall@20", "ndcg@20", "coverage@20", "served@20"} <= set(found) and "novelty@20" not in found
    assert found["baselines"]["TF-IDF profile"]["ndcg@20"] > found["baselines"]["random"]["ndcg@20"] + 0.05
    # The test file has no touched items: the training measured them.
    assert found["warm"]["part"] == "validation" and 0 < found["warm"]["recall@20"] <= 1
    assert found["latency_ms"]["p50"] > 0


def test_relevant_items_that_were_touched_make_the_warm_figures(
    database: Database, files: dict[str, str], tmp_path: Path
) -> None:
    test = tmp_path / "test.csv"
    test.write_text(Path(files["test"]).read_text() + "u0,i1\nu1,i2\nu2,i3\n")
    result = evaluate(database, files | {"test": str(test)}, "-k", "5")
    assert result.exit_code == 0, result.output
    assert "new items: 20 that nobody touched in training, ranked alone" in result.output
    assert "other items, on the test part, new items among them: recall@5" in result.output
    assert "TF-IDF profile" in result.output and "user-kNN and item-kNN" not in result.output


def test_nothing_but_the_ranking_fills_a_list(empty_database: Callable[[], Database]) -> None:
    """The harness ranks untouched items alone, whatever the model knows, and fills up with nothing."""
    scratch = empty_database()
    migrate.upgrade(scratch)
    with psycopg.connect(scratch.conninfo, autocommit=True) as db:
        record(db, tastes(users=60, items=40, per_user=10, groups=GROUPS))
        train(scratch)
        # As if nobody had touched them: the model still ranks these, and every user likes those of the own taste.
        db.execute("delete from recdb.interaction where item_id in ('i1', 'i2', 'i3', 'i4')")
        db.execute("call recdb.refresh()")
        db.execute("insert into recdb.item (item_id) values ('i1'), ('i2'), ('i3'), ('i4'), ('unknown')")
        users = [user for (user,) in db.execute("select distinct user_id from recdb.interaction").fetchall()]
        relevant = {
            user: {item for item in ("i1", "i2", "i3", "i4") if group_of(item) == group_of(user)} for user in users
        }
        found = score_cold(scratch, NewItems(relevant), [2, 20], Stopwatch(), silent, None)
        with connect(scratch) as connection:
            assert offer_untouched(connection) == ["i1", "i2", "i3", "i4", "unknown"]
        shown = {
            item
            for user in users[:20]
            for (item,) in db.execute("select item_id from recdb.recommend(%s::text, 50)", [user]).fetchall()
        }
    assert found.cold is not None and (found.cold.items, found.cold.relevant) == (5, 120)
    assert shown and shown <= {"i1", "i2", "i3", "i4"}
    assert found.ours.means["recall@2"] > 0.7 and found.baselines["random"].means["recall@2"] < 0.6


def test_items_of_the_database_are_withheld_whole(database: Database, db: psycopg.Connection) -> None:
    rows = tastes(users=60, items=40, per_user=12, groups=GROUPS)
    record(db, [[*row[:2], "like", f"2026-01-{n % 12 + 1:02d}"] for n, row in enumerate(rows)])
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into recdb.item (item_id, attributes, available) values (%s, %s, %s)",
            [(f"i{n}", json.dumps({"genre": f"genre {n % GROUPS}"}), n != 3) for n in range(40)],
        )
    # recdb keeps no id as long as this one.
    db.execute("create table public.post (id text primary key); insert into post values (repeat('x', 1200))")
    attach(database, [Source("items", "public.post", {"item": "id"})])
    before = db.execute(
        "select count(*), (select count(*) from recdb.item where available) from recdb.interaction"
    ).fetchone()

    first, second = (json.loads(own(database, "--json").stdout) for _ in range(2))

    assert first["cold"]["items"] == 4 and first["cold"] == second["cold"]
    assert first["warm"]["part"] == "test" and first["warm"]["users"] > 50
    assert first["warm"]["baselines"]["user-kNN (exact cosine)"]["recall@20"] > 0
    assert first["split"]["protocol"] == "last share"
    after = db.execute(
        "select count(*), (select count(*) from recdb.item where available) from recdb.interaction"
    ).fetchone()
    assert after == before


def test_a_database_without_a_catalogue_is_told_to_bring_one(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    result = own(database)
    assert result.exit_code == 1
    assert "no item of the catalogue was chosen" in str(result.exception)


def test_a_database_without_interactions_is_told_to_bring_some(database: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.item (item_id, title) values ('a', 'A thing')")
    assert "no interactions to evaluate on" in str(own(database).exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train", "a", "--test", "b"], "--items FILE"),
        (["--items", "c"], "the database has its own"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--cold", *options])
    assert result.exit_code == 2 and message in " ".join(result.output.replace("│", " ").split())


def test_a_test_file_without_new_items_is_one_clear_error(
    database: Database, files: dict[str, str], tmp_path: Path
) -> None:
    test = tmp_path / "test.csv"
    test.write_text("user_id,item_id\nu0,i1\n")
    result = evaluate(database, files | {"test": str(test)})
    assert "relevant item that nobody touched" in str(result.exception)
