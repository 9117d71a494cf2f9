"""Each check of recdb doctor finds its mistake, and the fix that it prints works: installation, grants, freshness."""

import json
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.doctor import add_interactions, find, findings
from support.waiting import until
from typer.testing import CliRunner

from recdb import job, migrate
from recdb.cli import app
from recdb.database import Database
from recdb.doctor import examine


def test_a_healthy_database_has_no_failure_and_nothing_to_fix_but_its_cache(trained: psycopg.Connection) -> None:
    found = findings(trained)

    # The server of the tests may have an old pgvector, of which doctor warns.
    others = [finding for finding in found.values() if finding.check != "pgvector"]
    assert {finding.check for finding in others if finding.state != "ok"} == set()
    assert all(finding.fix is None for finding in others)
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

    assert found["pgvector"].state in ("ok", "warn")
    assert (found["recdb"].state, found["recdb"].fix) == ("fail", "recdb init")


@pytest.mark.parametrize(
    ("version", "state", "said"),
    [
        ("0.7.4", "fail", "pgvector 0.7.4 is too old"),
        ("0.8.0", "warn", "without parallel workers, which are unsafe before 0.8.2"),
        ("0.8.2", "warn", "a VACUUM can damage an HNSW index"),
        ("0.8.3", "warn", "a VACUUM can damage an HNSW index"),
        ("0.8.4", "ok", "pgvector 0.8.4"),
        ("0.10.0", "ok", "pgvector 0.10.0"),
    ],
)
def test_an_old_pgvector_is_refused_or_warned_of(
    superuser: psycopg.Connection, version: str, state: str, said: str
) -> None:
    superuser.execute("update pg_extension set extversion = %s where extname = 'vector'", [version])

    found = findings(superuser)

    assert (found["pgvector"].state, said in found["pgvector"].message) == (state, True)
    assert ("alter extension vector update;" in (found["pgvector"].fix or "")) == (state != "ok")
    assert ("recdb refresh --full" in (found["pgvector"].fix or "")) == (state == "warn")
    # The other checks run with every pgvector that recdb works with.
    assert ("grants" in found) == (state != "fail")


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
        (
            "grant execute on function public.recommend(text, bigint, text, text, jsonb, text, text[], text, jsonb) "
            "to public",
            "recommend(",
        ),
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
    others = (
        "select from pg_stat_activity where backend_type = 'client backend' "
        "and datname = current_database() and pid <> pg_backend_pid()"
    )
    until(lambda: not trained.execute(others).fetchall())  # a session counts its writes when it ends

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
