"""Each check of recdb doctor finds its mistake, and the fix that it prints works."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from recdb import job, migrate
from recdb.cli import app
from recdb.database import Database
from recdb.doctor import Finding, examine
from recdb.doctor.storage import check_transactions
from recdb.job.lock import job_lock


def add_interactions(db: psycopg.Connection, users: int = 12, items: int = 12, kind: str = "like") -> None:
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind) "
        "select 'u' || u, 'i' || i, %s from generate_series(1, %s) u, generate_series(1, %s) i where (u + i) %% 3 > 0",
        [kind, users, items],
    )


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    """A connection to a database with a trained model."""
    add_interactions(db)
    job.run(database)
    return db


@pytest.fixture
def superuser(db: psycopg.Connection) -> psycopg.Connection:
    """A connection that may write the system catalogues, for mistakes that cannot be made otherwise."""
    db.execute("set allow_system_table_mods = on")
    return db


def findings(connection: psycopg.Connection) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(connection)}


def find(connection: psycopg.Connection, check: str) -> Finding:
    return findings(connection)[check]


def test_a_healthy_database_has_no_failure_and_nothing_to_fix_but_its_cache(trained: psycopg.Connection) -> None:
    found = findings(trained)

    assert {finding.check for finding in found.values() if finding.state != "ok"} == set()
    assert all(finding.fix is None for finding in found.values())
    assert found["kinds"].message.startswith("96 interactions")


def test_a_database_without_anything_is_told_to_install(empty_database: Callable[[], Database]) -> None:
    with psycopg.connect(empty_database().conninfo, autocommit=True) as connection:
        found = findings(connection)

    assert set(found) == {"postgresql", "pgvector", "recdb"}
    assert (found["pgvector"].state, found["pgvector"].fix) == ("fail", "recdb init")
    assert (found["recdb"].state, found["recdb"].fix) == ("fail", "recdb init")


def test_a_database_with_pgvector_alone_is_told_to_install(empty_database: Callable[[], Database]) -> None:
    with psycopg.connect(empty_database().conninfo, autocommit=True) as connection:
        connection.execute("create extension vector")
        found = findings(connection)

    assert found["pgvector"].state == "ok"
    assert (found["recdb"].state, found["recdb"].fix) == ("fail", "recdb init")


@pytest.mark.parametrize(("version", "state"), [("0.8.3", "fail"), ("0.8.4", "ok"), ("0.10.0", "ok")])
def test_an_old_pgvector_fails(superuser: psycopg.Connection, version: str, state: str) -> None:
    superuser.execute("update pg_extension set extversion = %s where extname = 'vector'", [version])

    found = find(superuser, "pgvector")

    assert found.state == state
    assert (found.fix == "alter extension vector update;") == (state == "fail")


def test_an_older_revision_is_migrated_by_the_fix(database: Database, db: psycopg.Connection) -> None:
    migrate.downgrade(database, "0003")
    found = find(db, "recdb")
    assert (found.state, found.fix) == ("fail", "recdb init")

    migrate.upgrade(database)

    assert find(db, "recdb").state == "ok"


def test_a_revision_newer_than_the_package_asks_for_a_newer_package(db: psycopg.Connection) -> None:
    db.execute("update recdb.alembic_version set version_num = '9999'")

    found = find(db, "recdb")

    assert (found.state, found.fix) == ("fail", "pip install --upgrade recdb-postgres")


def test_no_interactions_and_no_model_are_warned_of(db: psycopg.Connection) -> None:
    found = findings(db)

    assert found["kinds"].state == "warn"
    assert found["model"].state == "warn"
    assert found["refresh"].state == "warn"


def test_interactions_without_a_model_fail(db: psycopg.Connection) -> None:
    add_interactions(db)

    found = find(db, "model")

    assert (found.state, found.fix) == ("fail", "recdb refresh")


def test_unknown_kinds_are_counted_with_the_weight_they_get(trained: psycopg.Connection) -> None:
    trained.execute("update recdb.config set default_weight = 0.25, default_hides = false")
    add_interactions(trained, 3, 3, kind="buy")

    found = find(trained, "kinds")

    assert found.state == "warn"
    assert "'buy' (6)" in found.message
    assert "weigh 0.25" in found.message
    assert "hide" not in found.message
    trained.execute("insert into recdb.interaction_kind (kind, weight) values ('buy', 1)")
    assert find(trained, "kinds").state == "ok"


def test_an_old_model_is_warned_of_only_when_something_came_since(trained: psycopg.Connection) -> None:
    trained.execute("update recdb.interaction set created_at = now() - interval '30 days'")
    trained.execute("update recdb.model set created_at = now() - interval '9 days'")
    assert find(trained, "model").state == "ok"

    trained.execute("select recdb.track('u1', 'brand-new', 'like')")

    found = find(trained, "model")
    assert found.state == "warn"
    assert "9 days old" in found.message


def test_a_stale_refresh_names_how_many_users_wait_and_is_fixed_by_a_refresh(trained: psycopg.Connection) -> None:
    trained.execute("update recdb.refresh_log set finished_at = now() - interval '2 days'")
    assert find(trained, "refresh").state == "ok"
    for user in ("u1", "u2", "u2"):
        trained.execute("select recdb.track(%s, 'i3', 'view')", [user])

    found = find(trained, "refresh")

    assert found.state == "warn"
    assert found.message.startswith("2 users changed in the 2 days")
    trained.execute("call recdb.refresh()")
    assert find(trained, "refresh").state == "ok"


def test_a_log_from_another_cluster_is_recognised_and_fixed_by_a_refresh(
    database: Database, trained: psycopg.Connection
) -> None:
    trained.execute("update recdb.refresh_log set seen = '99999999999'")
    assert find(trained, "refresh").state == "warn"

    job.run(database)

    assert find(trained, "refresh").state == "ok"


def test_the_last_runs_error_fails_until_a_run_succeeds(trained: psycopg.Connection) -> None:
    trained.execute("select recdb.log_failure('refresh', now(), 'disk [full]')")

    found = find(trained, "last run")

    assert found.state == "fail"
    assert "disk [full]" in found.message
    trained.execute("call recdb.refresh()")
    assert find(trained, "last run").state == "ok"


def test_users_the_model_does_not_know_are_counted(database: Database, trained: psycopg.Connection) -> None:
    trained.execute(
        "insert into recdb.interaction (user_id, item_id, kind) select 'n' || n, 'unheard-of', 'like' "
        "from generate_series(1, 4) n"
    )
    trained.execute("call recdb.refresh()")

    found = find(trained, "user vectors")

    assert found.state == "warn"
    assert "4 of 16 users" in found.message
    job.run(database, full=True)
    assert find(trained, "user vectors").state == "ok"


@pytest.fixture
def visitor(db: psycopg.Connection) -> Iterator[str]:
    """A role that can log in and has no grant."""
    name = f"visitor_{db.info.backend_pid}"
    db.execute(f"create role {name} login")
    yield name
    db.execute(f"drop owned by {name}")
    db.execute(f"drop role {name}")


def test_an_application_without_grants_is_warned_of_until_it_is_granted(db: psycopg.Connection, visitor: str) -> None:
    found = find(db, "grants")
    assert found.state == "warn"
    assert visitor in found.message

    db.execute(f"grant recdb_reader to {visitor}")

    found = find(db, "grants")
    assert found.state == "ok"
    assert visitor in found.message
    db.execute(f"revoke recdb_reader from {visitor}")


def test_a_role_that_may_not_look_is_told_so_instead_of_an_error(
    database: Database, trained: psycopg.Connection, visitor: str
) -> None:
    with psycopg.connect(make_conninfo(database.conninfo, user=visitor), autocommit=True) as connection:
        found = findings(connection)

    assert found["recdb"].state == "warn"
    assert found["recdb"].fix == "run recdb doctor as the owner of schema recdb"
    assert set(found) == {"postgresql", "pgvector", "recdb"}


def test_a_missing_role_fails_and_its_fix_creates_it(superuser: psycopg.Connection) -> None:
    with superuser.transaction(force_rollback=True):
        superuser.execute("alter role recdb_analyst rename to recdb_analyst_of_old")
        found = find(superuser, "roles")
        assert found.state == "fail"
        assert found.fix is not None
        superuser.execute(found.fix.split(" then: ")[0])
        assert find(superuser, "roles").state == "ok"


@pytest.mark.parametrize(
    ("grant", "named"),
    [
        ("grant execute on function recdb.forget_user(text) to public", "recdb.forget_user(text)"),
        ("grant execute on function public.recommend(text, bigint, text, text, jsonb, text) to public", "recommend("),
        ("grant select on recdb.interaction to public", "recdb.interaction"),
        ("create function recdb.helper() returns int language sql as 'select 1'", "recdb.helper()"),
    ],
)
def test_whatever_everybody_may_use_fails_until_it_is_revoked(
    database: Database, db: psycopg.Connection, grant: str, named: str
) -> None:
    db.execute(grant)

    found = find(db, "public")

    assert found.state == "fail"
    assert named in found.message
    assert found.fix is not None
    db.execute(found.fix.split(" then: ")[0])
    migrate.upgrade(database)
    assert find(db, "public").state == "ok"


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


def test_a_check_that_meets_a_lock_is_cancelled_and_the_others_run(
    database: Database, trained: psycopg.Connection
) -> None:
    with psycopg.connect(database.conninfo) as other:
        other.execute("lock table recdb.refresh_log in access exclusive mode")

        found = {finding.check: finding for finding in examine(trained, seconds=1)}

    assert found["refresh"].state == "warn"
    assert "cancelled after 1 s" in found["refresh"].message
    assert found["work_mem"].state == "ok"


def test_doctor_changes_nothing(trained: psycopg.Connection) -> None:
    def writes() -> object:
        trained.execute("select pg_stat_force_next_flush()")
        return trained.execute(
            "select sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) from pg_stat_all_tables where schemaname = 'recdb'"
        ).fetchone()

    counted = writes()
    findings(trained)
    assert writes() == counted


def test_the_command_prints_each_check_and_exits_by_the_worst(database: Database, db: psycopg.Connection) -> None:
    healthy = CliRunner().invoke(app, ["doctor", "--url", database.conninfo])
    assert healthy.exit_code == 0
    assert "there are no interactions yet" in healthy.stdout
    assert "fix: recdb load FILE" in healthy.stdout
    add_interactions(db, kind="[b]uy")

    sick = CliRunner().invoke(app, ["doctor", "--url", database.conninfo])

    assert sick.exit_code == 1
    assert "'[b]uy' (96)" in sick.stdout
    assert "1 failed" in sick.stdout


def test_the_command_gives_json_for_programs(database: Database, db: psycopg.Connection) -> None:
    add_interactions(db)

    result = CliRunner().invoke(app, ["doctor", "--json", "--url", database.conninfo])

    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["healthy"] is False
    model = next(check for check in answer["checks"] if check["check"] == "model")
    assert model == {
        "check": "model",
        "state": "fail",
        "message": "no model is trained: recommend() returns no personal rows",
        "mend": "recdb refresh",
    }
