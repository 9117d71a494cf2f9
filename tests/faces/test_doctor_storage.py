"""Each check of recdb doctor finds its mistake, and the fix that it prints works: indexes, vacuum, memory."""

from datetime import timedelta

import psycopg
import pytest
from support.doctor import add_interactions, find, findings

from recdb import job
from recdb.database import Database
from recdb.doctor.storage import check_transactions
from recdb.job.lock import job_lock


def test_an_invalid_index_fails_and_its_fix_works(trained: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        trained.execute("create unique index concurrently twice on recdb.interaction (kind)")

    found = find(trained, "indexes")

    assert found.state == "fail"
    assert found.fix == "reindex index concurrently recdb.twice;"
    trained.execute("delete from recdb.interaction where interaction_id > 1")
    trained.execute(found.fix)
    assert find(trained, "indexes").state == "ok"


def test_vectors_without_their_index_fail_and_the_fix_builds_it(trained: psycopg.Connection) -> None:
    row = trained.execute(
        "select indexname, indexdef from pg_indexes where tablename like 'user\\_vector\\_%' and indexdef like '%hnsw%'"
    ).fetchone()
    assert row is not None
    name, definition = row
    trained.execute(f'drop index recdb."{name}"')

    found = find(trained, "indexes")

    assert found.state == "fail"
    assert found.fix is not None
    trained.execute(found.fix)
    assert find(trained, "indexes").state == "ok"
    assert trained.execute("select indexdef from pg_indexes where indexname = %s", [name]).fetchall() == [(definition,)]


def test_lost_vectors_want_no_index_but_one_repair(trained: psycopg.Connection) -> None:
    trained.execute("drop extension vector cascade; create schema x; create extension vector schema x")
    found = findings(trained)
    assert found["parts"].fix == "recdb init; then: recdb refresh. No interaction is lost."
    assert found["indexes"].fix == "recdb init; then: recdb refresh"
    assert "no vectors" in found["indexes"].message


def test_what_a_cut_off_training_left_is_found_and_removed_by_a_refresh(
    database: Database, trained: psycopg.Connection
) -> None:
    trained.execute("create table recdb.user_vector_77 (like recdb.user_vector)")

    found = find(trained, "leftovers")

    assert (found.state, found.fix) == ("warn", "recdb refresh")
    assert "recdb.user_vector_77" in found.message
    job.run(database)
    assert find(trained, "leftovers").state == "ok"


def test_the_tables_of_a_running_training_are_no_leftovers(database: Database, trained: psycopg.Connection) -> None:
    trained.execute("create table recdb.user_vector_77 (like recdb.user_vector)")

    with job_lock(database) as locked:
        assert locked
        assert find(trained, "leftovers").state == "ok"

    assert find(trained, "leftovers").state == "warn"


def test_vectors_replaced_by_a_refresh_want_a_vacuum(database: Database, db: psycopg.Connection) -> None:
    add_interactions(db, users=1100, items=6)
    job.run(database)
    (partition,) = db.execute("select 'recdb.user_vector_' || model_id from recdb.model").fetchone() or ("",)
    db.execute(f"alter table {partition} set (autovacuum_enabled = off)")
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind) select user_id, 'i1', 'view' from recdb.user_key"
    )
    # Whoever reads a page may remove its dead rows, unless an older snapshot still needs them.
    with psycopg.connect(database.conninfo) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select 1 from recdb.user_key limit 1")
        with psycopg.connect(database.conninfo, autocommit=True) as other:
            other.execute("call recdb.refresh()")
            other.execute("select pg_stat_force_next_flush()")

        found = find(db, "dead rows")

    assert found.state == "warn"
    assert partition in found.message
    assert found.fix is not None
    db.execute(found.fix)
    db.execute("select pg_stat_force_next_flush()")
    assert partition not in find(db, "dead rows").message


def test_a_table_that_was_never_analysed_is_named(db: psycopg.Connection) -> None:
    db.execute("alter table recdb.item set (autovacuum_enabled = off)")
    db.execute("insert into recdb.item (item_id, title) select i, repeat('x', 100) from generate_series(1, 20000) i")

    found = find(db, "statistics")

    assert (found.state, found.fix) == ("warn", "analyze recdb.item;")
    db.execute("analyze recdb.item")
    assert find(db, "statistics").state == "ok"


def test_a_table_without_autovacuum_is_named_and_its_fix_works(db: psycopg.Connection) -> None:
    db.execute("alter table recdb.interaction set (autovacuum_enabled = off)")

    found = find(db, "autovacuum")

    assert found.state == "warn"
    assert found.fix == "alter table recdb.interaction reset (autovacuum_enabled);"
    db.execute(found.fix)
    assert find(db, "autovacuum").state == "ok"


def test_an_autovacuum_that_counts_nothing_is_warned_of(db: psycopg.Connection) -> None:
    db.execute("set track_counts = off")

    assert find(db, "autovacuum").state == "warn"


def test_an_open_transaction_is_named_with_the_statement_that_ends_it(
    database: Database, db: psycopg.Connection
) -> None:
    with psycopg.connect(database.conninfo, application_name="forgotten") as idle:
        idle.execute("select pg_current_xact_id()")

        verdict = check_transactions(db, timedelta(0))

        assert verdict.state == "warn"
        assert "forgotten" in verdict.message
        assert verdict.fix == f"select pg_terminate_backend({idle.info.backend_pid});"
        assert check_transactions(db).state == "ok"


def test_a_cache_smaller_than_what_is_served_is_warned_of(trained: psycopg.Connection) -> None:
    (partition, cache) = trained.execute(
        "select 'recdb.item_neighbor_' || model_id, pg_size_bytes(current_setting('shared_buffers')) from recdb.model"
    ).fetchone() or ("", 0)
    for column in ("neighbor_keys", "weights"):
        trained.execute(f"alter table {partition} alter column {column} set storage external")
    trained.execute(
        f"insert into {partition} (model_id, item_key, neighbor_keys, weights, total_weight) "
        "select 1, 1000 + n, array_fill(1, array[250000]), array_fill(1::real, array[250000]), 250000 "
        "from generate_series(1, %s) n",
        [cache // 2_000_000 + 1],
    )

    found = find(trained, "shared_buffers")

    assert found.state == "warn"
    assert found.fix is not None
    assert found.fix.startswith("alter system set shared_buffers = '")


def test_an_index_that_outgrows_its_memory_is_warned_of(
    superuser: psycopg.Connection, trained: psycopg.Connection
) -> None:
    superuser.execute("update pg_class set reltuples = 1e7 where relname like 'user\\_vector\\__'")
    found = find(trained, "index memory")
    assert found.state == "warn"

    trained.execute("set maintenance_work_mem = '16GB'")

    assert find(trained, "index memory").state == "ok"


def test_a_small_work_mem_is_warned_of(db: psycopg.Connection) -> None:
    db.execute("set work_mem = '64kB'")

    assert find(db, "work_mem").state == "warn"
