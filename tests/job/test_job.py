"""The maintenance job: when it trains, which versions stay, and that it never makes a reader wait."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.waiting import until, waits_for_a_lock

from recdb import job
from recdb.client import Recommender
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.learn import Params


@pytest.fixture
def in_background() -> Iterator[Callable[..., "Future[Any]"]]:
    """A function that runs another one in a thread; the threads are joined at the end."""
    with ThreadPoolExecutor(4) as threads:
        yield threads.submit


def learned_tables(db: psycopg.Connection) -> list[str]:
    """All tables of model versions, attached or not."""
    return column(
        db.execute(
            "select relname from pg_class where relnamespace = 'recdb'::regnamespace and relkind = 'r' "
            "and relname ~ '^(user_vector|item_vector|item_neighbor)_' order by relname"
        )
    )


def states(db: psycopg.Connection) -> dict[str, str]:
    """The label of each version, and its state: active, ready or retired."""
    rows = db.execute("select label, case when active then 'active' else state end from recdb.models order by label")
    return dict(rows.fetchall())


def test_the_first_run_trains_and_the_next_only_refreshes(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())

    first, second = job.run(database), job.run(database)

    assert first.ran and first.model == "collaborative_filtering_v1"
    assert second.ran and second.refreshed and second.model is None
    assert column(db.execute("select kind from recdb.refresh_log order by run_id")) == ["rebuild", "train", "refresh"]


def test_a_run_trains_when_told_to_and_when_the_model_is_old(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)

    assert job.run(database, if_stale=timedelta(hours=1)).model is None
    db.execute("update recdb.model set created_at = now() - interval '2 hours'")
    assert job.run(database).model is None
    assert job.run(database, if_stale=timedelta(hours=1)).model == "collaborative_filtering_v2"
    assert job.run(database, full=True).model == "collaborative_filtering_v3"


def test_a_refresh_brings_new_users_in_as_neighbours(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    record(db, [("late", item, "share") for user, item, _ in tastes() if user == "u1"])

    job.run(database)

    assert "late" in column(db.execute("select neighbor_id from recdb.neighbors('u1', 3)"))


def test_the_model_row_tells_what_was_trained_on(database: Database, db: psycopg.Connection) -> None:
    rows = tastes()
    record(db, rows)

    label = train(database, neighbors=7, blend=0.25)

    users, items, interactions, params, metrics = (
        db.execute(
            "select users, items, interactions, params, metrics from recdb.models where label = %s", [label]
        ).fetchone()
        or ()
    )
    assert users == len({user for user, _, _ in rows})
    assert items == len({item for _, item, _ in rows})
    assert interactions == len({(user, item) for user, item, _ in rows})
    assert Params.from_json(params) == Params(neighbors=7, blend=0.25)
    assert metrics["train_seconds"] > 0


def test_the_last_two_versions_are_kept_and_older_ones_leave_nothing_but_their_row(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    first, second, third = train(database), train(database), train(database)

    assert states(db) == {first: "retired", second: "ready", third: "active"}
    assert learned_tables(db) == [
        f"{table}_{key}" for table in ("item_neighbor", "item_vector", "user_vector") for key in (2, 3)
    ]
    with pytest.raises(psycopg.errors.UndefinedObject, match=first):
        recommend(db, "u1", model=first)


def test_config_says_how_many_versions_are_kept(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("update recdb.config set kept_models = 1")
    train(database)
    last = train(database)

    assert [label for label, state in states(db).items() if state != "retired"] == [last]
    assert len(learned_tables(db)) == 3


def test_a_version_serves_by_its_label_and_after_activation(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    first, second = train(database), train(database, blend=1.0)

    by_label, by_default = recommend(db, "u1", model=first), recommend(db, "u1")
    assert {row[3] for row in by_label} == {first}
    assert {row[3] for row in by_default} == {second}
    assert [row[:2] for row in by_label] != [row[:2] for row in by_default]

    db.execute("select recdb.activate(%s)", [first])
    assert recommend(db, "u1") == by_label
    db.execute("select recdb.activate(%s)", [second])
    assert recommend(db, "u1") == by_default


def test_the_version_served_last_is_the_one_kept_for_going_back(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    first, second = train(database), train(database)
    db.execute("select recdb.activate(%s)", [first])

    third = train(database)

    assert states(db) == {first: "ready", second: "retired", third: "active"}


def test_activating_what_is_not_kept_changes_nothing(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    label = train(database)

    with pytest.raises(psycopg.errors.UndefinedObject, match="no model version"):
        db.execute("select recdb.activate('nonsense')")

    assert states(db) == {label: "active"}


def test_a_job_beside_a_running_one_does_nothing(
    database: Database, db: psycopg.Connection, in_background: Callable[..., "Future[Any]"]
) -> None:
    record(db, tastes())
    with psycopg.connect(database.conninfo) as holder:
        holder.execute("lock table recdb.refresh_log in share mode")
        running = in_background(job.run, database)
        until(lambda: waits_for_a_lock(db))
        beside = job.run(database, full=True)
        holder.rollback()

    assert not beside.ran and beside.model is None and not beside.refreshed
    assert running.result(60).model == "collaborative_filtering_v1"
    assert states(db) == {"collaborative_filtering_v1": "active"}


def test_an_analysts_open_transaction_delays_neither_the_job_nor_any_reader(
    database: Database, db: psycopg.Connection, in_background: Callable[..., "Future[Any]"]
) -> None:
    record(db, tastes())
    train(database), train(database)
    lines: list[str] = []
    with psycopg.connect(database.conninfo) as analyst, psycopg.connect(database.conninfo) as reader:
        seen = analyst.execute("select count(*) from recdb.user_vector").fetchone()
        running = in_background(job.run, database, full=True, report=lines.append)
        until(lambda: waits_for_a_lock(db))
        reader.execute("set lock_timeout = '500ms'")
        assert recommend(reader, "u1")
        assert analyst.execute("select count(*) from recdb.user_vector where model_id = 1").fetchone() is not None
        reader.rollback()
        assert running.result(60).model == "collaborative_filtering_v3"
        assert seen is not None and seen[0] > 0

        assert "an old model version is still being read: the next run removes it" in lines
        assert len(learned_tables(db)) == 9
        assert {row[3] for row in recommend(db, "u1")} == {"collaborative_filtering_v3"}

        # While the transaction stays open, the next runs train too, and leave more tables.
        assert job.run(database, full=True).model == "collaborative_filtering_v4"
        assert len(learned_tables(db)) == 12

    assert job.run(database).ran
    assert len(learned_tables(db)) == 6
    assert list(states(db).values()) == ["retired", "retired", "ready", "active"]


def test_a_user_forgotten_while_a_version_is_trained_is_not_in_it(
    database: Database, db: psycopg.Connection, in_background: Callable[..., "Future[Any]"]
) -> None:
    record(db, tastes())
    train(database)
    with psycopg.connect(database.conninfo) as holder:
        # The publishing transaction has to wait for this lock; by then everything is learned.
        holder.execute("lock table recdb.user_vector in share update exclusive mode")
        running = in_background(job.run, database, full=True)
        until(lambda: waits_for_a_lock(db))
        assert (db.execute("select recdb.forget_user('u1')").fetchone() or [0])[0] > 0
        holder.rollback()
    running.result(60)

    assert (db.execute("select count(*) from recdb.user_vectors where user_id = 'u1'").fetchone()) == (0,)
    keys = db.execute(
        "select count(*) from recdb.user_vector v where not exists "
        "(select from recdb.user_key u where u.user_key = v.user_key)"
    ).fetchone()
    assert keys == (0,)
    assert recommend(db, "u1") == []


def test_what_changes_while_a_version_is_trained_is_in_it(database: Database, db: psycopg.Connection) -> None:
    """A refresh updates only the versions that exist; publishing must catch up."""
    record(db, tastes())

    def late(step: str) -> None:
        if step == "indexing user_vector":
            record(db, [["u1", f"i{number}", "share"] for number in range(40, 60)])
            record(db, [["newcomer", "i1", "like"]])
            db.execute("call recdb.refresh()")

    job.run(database, full=True)
    label = job.run(database, full=True, report=late).model

    totals = "select user_id, model, total_weight from recdb.user_vectors where user_id in ('u1', 'newcomer')"
    found = {(user, model): total for user, model, total in db.execute(totals)}
    assert {model for _, model in found} == {"collaborative_filtering_v1", label}
    for user in ("u1", "newcomer"):
        assert found[user, label] == pytest.approx(found[user, "collaborative_filtering_v1"])


def test_long_rows_stay_whole_on_their_pages(database: Database, db: psycopg.Connection) -> None:
    record(db, [[f"u{user}", f"i{item}", "like"] for user in range(30) for item in range(user, 600, 2)])

    label = train(database, profile_limit=500, item_neighbors=500)

    (model,) = db.execute("select model_id from recdb.model where label = %s", [label]).fetchone() or (0,)
    for table, array in (("user_vector", "item_keys"), ("item_neighbor", "neighbor_keys")):
        longest, packed, toast = db.execute(
            f"select max(cardinality(t.{array})), count(pg_column_compression(t.{array})), "
            "(select pg_relation_size(c.reltoastrelid) from pg_class c "
            f"where c.oid = 'recdb.{table}_{model}'::regclass) from recdb.{table} t where t.model_id = {model}"
        ).fetchone() or (0, 0, 0)
        assert longest > 280 and packed == 0 and toast == 0


def test_a_training_learns_from_a_sample_of_users_where_there_are_many(
    database: Database, db: psycopg.Connection
) -> None:
    """The sample bounds the memory; all other users get vectors from the item vectors learned from it."""
    record(db, tastes(users=300))
    db.execute("update recdb.config set training_interactions = 1200")

    train(database)

    users, interactions = db.execute("select users, interactions from recdb.models").fetchone() or (0, 0)
    assert 70 < users < 130
    assert interactions == users * 12
    assert db.execute("select count(*) from recdb.user_vectors").fetchone() == (300,)
    assert all(recommend(db, f"u{number}") for number in range(300))


def test_a_database_without_interactions_has_nothing_to_learn(database: Database, db: psycopg.Connection) -> None:
    with pytest.raises(RecdbError, match="no interactions to learn from") as raised:
        job.run(database)

    assert raised.value.hint is not None and "recdb load" in raised.value.hint
    assert states(db) == {} and learned_tables(db) == []
    assert recommend(db, "u1") == []


def test_interactions_that_all_weigh_nothing_are_said_to(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("update recdb.interaction_kind set weight = 0")

    with pytest.raises(RecdbError, match="all of them weigh 0"):
        job.run(database)

    assert states(db) == {} and learned_tables(db) == []


def test_a_training_that_cannot_be_leaves_the_old_version_serving(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    label = train(database)
    db.execute("update recdb.interaction_kind set weight = 0 where kind <> 'share'")
    db.execute("delete from recdb.interaction where kind = 'share'")
    shared = ("u1", "i1", "share")

    with pytest.raises(RecdbError, match="weigh 0"):
        job.run(database, full=True)
    record(db, [shared])

    assert states(db) == {label: "active"}
    assert {row[3] for row in recommend(db, "u1")} == {label}


def test_a_limit_that_leaves_nobody_to_learn_from_is_named(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("update recdb.config set training_interactions = 1")

    with pytest.raises(RecdbError, match="training_interactions is 1"):
        job.run(database)


def test_a_long_number_in_a_label_of_yours_stops_no_training(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    db.execute("update recdb.model set label = 'collaborative_filtering_v99999999999'")

    assert train(database) == "collaborative_filtering_v100000000000"


@pytest.mark.parametrize(
    "rows",
    [
        [("u1", "i1", "like")],
        [("u1", f"i{item}", "like") for item in range(5)],
        [(f"u{user}", "i1", "like") for user in range(5)],
        [("u1", "i1", "like"), ("u2", "i2", "share")],
    ],
    ids=["one interaction", "one user", "one item", "nothing shared"],
)
def test_the_smallest_databases_train_and_serve(
    database: Database, db: psycopg.Connection, rows: list[tuple[str, str, str]]
) -> None:
    record(db, rows)

    label = train(database)

    assert states(db) == {label: "active"}
    for user in {user for user, _, _ in rows}:
        touched = {item for owner, item, _ in rows if owner == user}
        got = recommend(db, user, fallback="popular")
        assert {row[0] for row in got} == {item for _, item, _ in rows} - touched
        assert all(0 <= row[1] <= 1 for row in got)


def test_dislikes_alone_train_and_recommend_nothing_disliked(database: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.interaction_kind values ('dislike', -1, true)")
    record(db, [(user, item, "dislike") for user, item, _ in tastes(12, 12, 4)])

    train(database)

    with Recommender(database.conninfo) as recommender:
        disliked = {item for user, item, _ in tastes(12, 12, 4) if user == "u1"}
        assert not disliked & {row.item_id for row in recommender.recommend("u1", 50, fallback="popular")}


def test_vectors_narrower_than_their_columns_are_filled_up(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())

    train(database, dimension=8)

    width, filled = db.execute(
        "select min(vector_dims(embedding)), max((select max(n) from "
        "unnest(embedding::vector::real[]) with ordinality e(value, n) where value <> 0)) from recdb.user_vector"
    ).fetchone() or (0, 0)
    assert width == 128 and filled <= 8
    assert recommend(db, "u1")


def test_a_job_on_a_database_without_recdb_says_what_to_run(empty_database: Callable[[], Database]) -> None:
    with pytest.raises(RecdbError, match="not installed") as raised:
        job.run(empty_database())

    assert raised.value.hint == "run: recdb init"
