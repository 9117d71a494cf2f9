"""Impressions: a kind that weighs 0 and hides its item takes items off a user's list, and changes nothing else."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import column, record, tastes
from typer.testing import CliRunner

from recdb import job
from recdb.arrays.events import read_events
from recdb.cli import app
from recdb.database import Database
from recdb.offline.evaluator import OfflineEvaluator

USERS = 120
SHOWN = (
    "insert into recdb.interaction (user_id, item_id, kind) "
    "select 'u' || n, r.item_id, 'shown' from generate_series(0, %s) n, recdb.recommend('u' || n, 40) r"
)


@pytest.mark.parametrize("hiding", ["kind is not null", "kind in ('like', 'share', 'shown')"])
def test_pages_shown_to_everybody_leave_training_and_evaluation_as_they_were(
    database: Database, db: psycopg.Connection, hiding: str
) -> None:
    record(db, [[*row, f"2026-01-{1 + n % 28:02}"] for n, row in enumerate(tastes(USERS))])
    db.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('shown', 0, true)")
    db.execute(f"update recdb.interaction_kind set hides = {hiding}")
    first = job.run(database, full=True).model
    before = OfflineEvaluator(read_events(db), 500)
    db.execute(SHOWN, [USERS - 1])

    assert job.run(database, full=True).model != first
    again = job.run(database, full=True).model

    figures = column(db.execute("select (metrics -> 'validation') - 'interval' from recdb.models order by created_at"))
    assert len(figures) == 3 and again is not None
    assert figures[2] == figures[1] and figures[1]["users"] == figures[0]["users"] >= 30
    after = OfflineEvaluator(read_events(db), 500)
    assert list(after.users) == list(before.users)
    assert sorted(after.all_users.relevant) == sorted(before.all_users.relevant)
    assert after.all_users.hidden.nnz > before.all_users.hidden.nnz
    beside = make_conninfo(database.conninfo, dbname="postgres")
    done = CliRunner().invoke(app, ["evaluate", "--json", "--url", database.conninfo, "--scratch-url", beside])
    assert done.exit_code == 0, done.output


def test_impressions_do_not_shrink_the_sample_that_a_training_is_measured_on(db: psycopg.Connection) -> None:
    record(db, tastes(USERS))
    db.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('shown', 0, true), ('seen', 0, false)")
    db.execute("select recdb.rebuild()")
    before = read_events(db, most=600)
    record(db, [[f"u{n % USERS}", f"i{n % 60}", kind] for n in range(4_000) for kind in ("shown", "seen")])

    after = read_events(db, most=600)

    weighed = after.where(after.weights[after.kinds] != 0)
    assert sorted(weighed.pairs) == sorted(before.pairs)
    assert set(after.hidden().indices) >= set(before.hidden().indices)


def test_one_impression_moves_no_new_item_in_the_popular_list(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('shown', 0, true)")
    db.execute(
        "insert into recdb.item (item_id, published_at) "
        "select 'new' || n, now() - n * interval '1 day' from generate_series(1, 6) n"
    )
    db.execute("call recdb.refresh()")
    before = db.execute("select item_id from recdb.popular(1000)").fetchall()

    db.execute("select recdb.track('u5', 'new6', 'shown')")
    db.execute("call recdb.refresh()")
    refreshed = db.execute("select item_id from recdb.popular(1000)").fetchall()
    db.execute("select recdb.rebuild()")

    assert before == refreshed == db.execute("select item_id from recdb.popular(1000)").fetchall()


def test_nobody_is_named_for_impressions_alone(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('shown', 0, true)")
    record(db, [["u1", f"i{n % 60}", "shown"] for n in range(2_000)])

    assert db.execute("select * from recdb.heavy_users()").fetchall() == []


def test_a_training_that_cannot_be_measured_serves_and_says_so(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(USERS))
    job.run(database, full=True)
    db.execute("update recdb.interaction_kind set hides = false")
    db.execute("update recdb.config set default_hides = false")
    said: list[str] = []

    outcome = job.run(database, full=True, report=said.append)

    assert outcome.model is not None
    assert any("this training is not measured" in line for line in said)
    assert column(db.execute("select metrics ? 'validation' from recdb.models order by created_at")) == [True, False]
