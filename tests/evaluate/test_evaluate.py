"""recdb evaluate: it trains in a scratch database, calls recommend() and scores the lists."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import record, tastes, train
from typer.testing import CliRunner, Result

from recdb.cli import app
from recdb.database import Database
from recdb.errors import InvalidInput, NotInstalled
from recdb.evaluate import scoring
from recdb.evaluate.reading import read_eligibility


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A training and a test file: each user's last row is relevant; one test user is unknown."""
    rows = tastes(users=60, items=40, per_user=10, groups=2)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    held = rows[9::10]
    with train.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "kind"), *(row for row in rows if row not in held)])
    with test.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id"), *(row[:2] for row in held), ("stranger", "i1")])
    return str(train), str(test)


def evaluate(server: Database, files: tuple[str, str], *options: str) -> Result:
    arguments = ["evaluate", "--train", files[0], "--test", files[1], "--url", server.conninfo, *options]
    return CliRunner().invoke(app, arguments)


def own(server: Database, *options: str) -> Result:
    """Evaluate on a database's own interactions, in a scratch database on the same server."""
    beside = make_conninfo(server.conninfo, dbname="postgres")
    return CliRunner().invoke(app, ["evaluate", "--url", server.conninfo, "--scratch-url", beside, *options])


def dated(per_user: int = 12) -> list[list[str]]:
    """Interactions by taste, each user's a day apart."""
    rows = tastes(users=60, items=40, per_user=per_user, groups=2)
    return [[*row, f"2026-01-{number % per_user + 1:02d} 12:00+00"] for number, row in enumerate(rows)]


def contents(db: psycopg.Connection) -> list[tuple[object, ...]]:
    """The contents of a database: its schema objects, and the number and hash sum of every table's rows."""
    objects = db.execute("select oid, relname, relkind, relnatts from pg_class order by oid").fetchall()
    functions = db.execute("select oid, proname, prosrc from pg_proc order by oid").fetchall()
    tables = db.execute(
        "select relname from pg_class where relnamespace = 'recdb'::regnamespace and relkind in ('r', 'm') order by 1"
    ).fetchall()
    rows = [
        db.execute(f"select %s, count(*), sum(hashtextextended(t::text, 0)) from recdb.{name} t", [name]).fetchone()
        for (name,) in tables
    ]
    return [*objects, *functions, *(row for row in rows if row is not None)]


def scratch_databases(db: psycopg.Connection) -> int:
    row = db.execute("select count(*) from pg_database where datname like 'recdb\\_scratch\\_%'").fetchone()
    assert row is not None
    return int(row[0])


def test_json_has_the_metrics_the_parameters_and_the_latency(database: Database, files: tuple[str, str]) -> None:
    answer = evaluate(database, files, "--k", "5", "--k", "20", "--json", "--model-params", '{"neighbors": 7}')

    found = json.loads(answer.stdout)
    assert found["users"] == 60
    assert found["unknown_users"] == 1
    assert found["params"]["neighbors"] == 7
    assert set(found["latency_ms"]) == {"p50", "p95", "p99"}
    assert found["train_seconds"] > 0
    assert 0 < found["recall@5"] < found["recall@20"] <= 1
    low, high = found["intervals"]["ndcg@20"]
    assert low < found["ndcg@20"] < high


def test_ours_beats_popularity_where_people_have_tastes(database: Database, files: tuple[str, str]) -> None:
    found = json.loads(evaluate(database, files, "--json").stdout)

    assert found["ndcg@20"] > found["baselines"]["popularity"]["ndcg@20"]


def test_the_database_that_was_named_is_not_touched(
    database: Database, db: psycopg.Connection, files: tuple[str, str]
) -> None:
    evaluate(database, files)

    assert db.execute("select count(*) from recdb.interaction").fetchone() == (0,)
    assert db.execute("select count(*) from recdb.model").fetchone() == (0,)


def test_the_scratch_database_is_gone_after_success_and_after_failure(
    database: Database, db: psycopg.Connection, files: tuple[str, str], tmp_path: Path
) -> None:
    before = scratch_databases(db)
    bad = tmp_path / "bad.csv"
    bad.write_text("user_id,item_id,kind\nu,,view\n")

    assert evaluate(database, files).exit_code == 0
    assert evaluate(database, (str(bad), files[1])).exit_code != 0
    assert scratch_databases(db) == before


def test_items_of_kinds_that_do_not_hide_are_recommended_again(database: Database, files: tuple[str, str]) -> None:
    """Scored on its own training pairs, a ranking can hit only if it recommends them again."""
    again = (files[0], files[0])
    hidden = json.loads(evaluate(database, again, "--json").stdout)
    shown = json.loads(evaluate(database, again, "--json", "--hides", "purchase").stdout)

    assert hidden["hit_rate@20"] == 0
    assert shown["hit_rate@20"] > 0.9


def test_tuning_is_part_of_the_answer(database: Database, files: tuple[str, str]) -> None:
    found = json.loads(evaluate(database, files, "--json", "--tune", "--budget", "1s").stdout)

    assert found["tuning"]["curve"]
    assert found["params"]["self_weight"] == 0


def test_the_table_names_the_formulas(database: Database, files: tuple[str, str]) -> None:
    answer = evaluate(database, files, "--weights", "view=.5,like=2").stdout

    assert "hits / relevant items" in answer
    assert "item-kNN" in answer
    assert "means over 60 users; 1 test users are not in the training data" in answer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model-params", "{"], "not JSON"),
        (["--model-params", "[]"], "not a JSON object"),
        (["--model-params", '{"neighbours": 3}'], "unknown model parameters: neighbours"),
        (["--model-params", '{"neighbors": 0}'], "between 1 and 999"),
        (["--model-params", '{"neighbors": 1.5}'], "whole number"),
        (["--model-params", '{"learner": "magic"}'], "'cooccurrence' or 'ease'"),
        (["--weights", "view"], "no weights"),
        (["--budget", "soon", "--tune"], "duration"),
    ],
)
def test_bad_options_are_one_clear_error(
    database: Database, files: tuple[str, str], options: list[str], message: str
) -> None:
    answer = evaluate(database, files, *options)

    assert isinstance(answer.exception, InvalidInput)
    assert message in str(answer.exception)


def test_a_test_file_of_strangers_is_one_clear_error(
    database: Database, files: tuple[str, str], tmp_path: Path
) -> None:
    strangers = tmp_path / "strangers.csv"
    strangers.write_text("user_id,item_id\nnobody,i1\n")

    answer = evaluate(database, (files[0], str(strangers)))

    assert "no test user occurs" in str(answer.exception)


@pytest.mark.parametrize("options", [[], ["--holdout", "3d"]])
def test_a_database_that_is_evaluated_on_its_own_interactions_is_only_read(
    database: Database, db: psycopg.Connection, options: list[str]
) -> None:
    record(db, dated())
    train(database)
    db.execute("insert into recdb.item (item_id, title) values ('i1', 'One')")
    record(db, [("newcomer", "i1", "like", "2026-01-01"), ("newcomer", "i2", "like", "2026-01-12")])
    before = contents(db)
    db.execute(f'alter database "{db.info.dbname}" set default_transaction_read_only = on')

    answer = own(database, "--json", *options)

    found = json.loads(answer.stdout)
    db.execute(f'alter database "{db.info.dbname}" set default_transaction_read_only = off')
    assert found["users"] > 5
    assert contents(db) == before
    assert scratch_databases(db) == 0


def test_the_split_is_part_of_the_answer(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())

    found = json.loads(own(database, "--json", "--holdout", "3d").stdout)
    text = own(database, "--holdout", "3d", "-k", "5", "--k", "10").stdout

    assert found["split"]["protocol"] == "last days"
    assert found["split"]["cut_at"] == "2026-01-09 12:00:00+00"
    assert found["split"]["train_interactions"] == 60 * 8
    assert found["split"]["held_out_interactions"] == 60 * 4
    assert found["split"]["kinds"] == ["like", "share"]
    assert "learned from the interactions before 2026-01-09 12:00:00+00" in text
    assert text.index("recall@5 ") < text.index("served@5 ") < text.index("recall@10 ")


def test_tuning_uses_the_training_part_only(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())

    found = json.loads(own(database, "--json", "--tune", "--budget", "1s", "--latency", "10s").stdout)

    assert found["tuning"]["curve"]
    assert found["split"]["train_interactions"] < 60 * 12
    assert db.execute("select count(*) from recdb.model").fetchone() == (0,)


def test_a_database_without_recdb_is_one_clear_error(empty_database: Callable[[], Database]) -> None:
    answer = own(empty_database())

    assert isinstance(answer.exception, NotInstalled)
    assert answer.exception.hint == "run: recdb init"


def test_users_without_an_order_are_named(database: Database, db: psycopg.Connection) -> None:
    record(db, ((user, item, "like", "2026-01-01") for user, item, _ in tastes(users=60, items=40)))

    assert "60 users have no order in time: their last fifth was drawn at random" in own(database).stdout


def test_an_item_that_training_never_saw_is_not_found(database: Database, db: psycopg.Connection) -> None:
    """Everybody's last choice is the same new item: known in training, it would be on every list."""
    record(db, [*dated(per_user=11), *((f"u{user}", "new", "share", "2026-01-20") for user in range(60))])

    found = json.loads(own(database, "--json", "--holdout", "3d").stdout)

    assert found["split"]["relevant"] == found["split"]["new_items"] == 60
    assert found["recall@20"] == 0
    assert {name: scores["recall@20"] for name, scores in found["baselines"].items()} == dict.fromkeys(
        found["baselines"], 0
    )


def test_it_trains_as_the_active_version_was_trained(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())
    untrained = json.loads(own(database, "--json").stdout)["params"]
    train(database, blend=0.7, neighbors=9)
    db.execute("update recdb.config set half_life = '1 mon', profile_limit = 50")

    active = json.loads(own(database, "--json").stdout)["params"]
    changed = json.loads(own(database, "--json", "--model-params", '{"neighbors": 7}').stdout)["params"]

    assert untrained["neighbors"] != 9
    assert (active["blend"], active["neighbors"]) == (0.7, 9)
    assert (changed["blend"], changed["neighbors"]) == (0.7, 7)


def test_kinds_other_than_the_databases_own_may_be_tried(database: Database, db: psycopg.Connection) -> None:
    record(db, dated())
    db.execute("update recdb.interaction_kind set hides = false where kind = 'like'")

    own_kinds = json.loads(own(database, "--json").stdout)["split"]["kinds"]
    heavier = json.loads(own(database, "--json", "--weights", "click=2,like=1,share=1").stdout)["split"]["kinds"]
    others = json.loads(own(database, "--json", "--hides", "like").stdout)["split"]["kinds"]

    assert own_kinds == ["share"]
    assert heavier == ["click", "share"]
    assert others == ["like"]


def test_the_baselines_leave_out_unavailable_hidden_and_own_items(database: Database, db: psycopg.Connection) -> None:
    record(db, [("ann", "tea", "like"), ("bob", "cup", "like"), ("bob", "pot", "view")])
    db.execute("update recdb.interaction_kind set hides = kind = 'like'")
    db.execute(
        "insert into recdb.item (item_id, owner_id, available) values ('pot', 'ann', true), ('cup', null, false)"
    )
    db.execute("select recdb.rebuild()")
    users = dict(db.execute("select user_id, user_key from recdb.user_key").fetchall())
    items = dict(db.execute("select item_id, item_key from recdb.item_key").fetchall())

    eligibility = read_eligibility(db, (len(users) + 1, len(items) + 1))

    expected = {(users["ann"], items["tea"]), (users["ann"], items["pot"]), (users["bob"], items["cup"])}
    assert {(int(user), int(item)) for user, item in zip(*eligibility.hidden.nonzero(), strict=True)} == expected
    assert np.flatnonzero(~eligibility.available).tolist() == [items["cup"]]


def test_many_test_users_are_sampled_for_the_baselines_and_it_is_said(
    database: Database, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BASELINE_USERS", 20)

    found = json.loads(evaluate(database, files, "--json").stdout)

    assert (found["users"], found["baseline_users"]) == (60, 20)
    assert set(found) - {"coverage@20"} >= set(found["baselines"]["popularity"])
    assert "on 20 of these users, drawn at random" in evaluate(database, files).stdout


def test_items_that_only_weightless_interactions_hide_are_no_trouble(
    database: Database, files: tuple[str, str], tmp_path: Path
) -> None:
    seen = tmp_path / "seen.csv"
    seen.write_text(Path(files[0]).read_text() + "u1,zzz-seen,seen\nzzz-seer,i1,seen\n")

    found = json.loads(evaluate(database, (str(seen), files[1]), "--json", "--weights", "seen=0,like=1").stdout)

    assert found["users"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train", "a.csv"], "go together"),
        (["--test", "a.csv"], "go together"),
        (["--train", "a.csv", "--test", "a.csv", "--holdout", "7d"], "leave --train and --test out"),
        (["--train", "a.csv", "--test", "a.csv", "--url", "a", "--scratch-url", "b"], "pass one of them"),
        (["--tune", "--model-params", "{}"], "leave --model-params out"),
        (["--latency", "5ms"], "pass that too"),
        (["--k", "0"], "greater than or equal to 1"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(options: list[str], message: str) -> None:
    answer = CliRunner().invoke(app, ["evaluate", *options])

    assert answer.exit_code == 2
    assert message in " ".join(answer.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--holdout", "-7d"], "is nothing"),
        (["--holdout", "week"], "duration"),
        (["--tune", "--budget", "0s"], "no time to search"),
        (["--tune", "--latency", "quick"], "not a latency"),
        (["--holdout", "99d"], "leaves nothing to learn from"),
        (["--model-params", '{"neighbours": 3}'], "unknown model parameters: neighbours"),
    ],
)
def test_an_evaluation_that_is_impossible_is_one_clear_error(
    database: Database, db: psycopg.Connection, options: list[str], message: str
) -> None:
    record(db, dated())

    answer = own(database, *options)

    assert isinstance(answer.exception, InvalidInput)
    assert message in str(answer.exception)
    assert answer.exception.hint
    assert scratch_databases(db) == 0
