"""The commands behind a pgbouncer in transaction mode: they work, or stop with one error that says what to do."""

import threading
from pathlib import Path

import psycopg
from support.data import column, recommend, record, tastes, train
from support.nights import remains
from support.pooler import run_pgbouncer
from support.servers import Server
from typer.testing import CliRunner

from recdb import job
from recdb.cli import app
from recdb.database import Database
from recdb.errors import RecdbError


def test_commands_work_behind_a_pgbouncer(
    database: Database, db: psycopg.Connection, server: Server, tmp_path: Path
) -> None:
    record(db, tastes(users=60))
    train(database)
    (tmp_path / "more.csv").write_text("user_id,item_id,kind\nu1,i1,like\n")
    with run_pgbouncer(server, database) as pooled:
        for command in (
            ["init"],
            ["refresh"],
            ["refresh", "--full", "--force"],
            ["tune", "--budget", "1s"],
            ["load", str(tmp_path / "more.csv")],
            ["recommend", "u1"],
            ["recommend-all", str(tmp_path / "lists.csv")],
            ["activate", "collaborative_filtering_v2"],
            ["doctor"],
        ):
            done = CliRunner().invoke(app, [*command, "--url", pooled.conninfo])
            assert done.exit_code == 0, f"{command}: {done.output}"
    assert set(column(db.execute("select state from recdb.refresh_log"))) == {"succeeded"}
    assert remains(db) == {}


def test_a_job_that_a_pooler_gives_other_sessions_harms_nothing(
    database: Database, db: psycopg.Connection, server: Server
) -> None:
    record(db, tastes(users=60))
    train(database)
    before = recommend(db, "u1")
    stopped = threading.Event()

    def disturb(conninfo: str) -> None:
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as other:
            while not stopped.is_set():
                other.execute("select count(*) from recdb.interaction")

    with run_pgbouncer(server, database) as pooled:
        others = [threading.Thread(target=disturb, args=[pooled.conninfo]) for _ in range(2)]
        for thread in others:
            thread.start()
        try:
            done = CliRunner().invoke(app, ["refresh", "--full", "--force", "--url", pooled.conninfo])
        finally:
            stopped.set()
            for thread in others:
                thread.join()
    if done.exit_code:
        assert isinstance(done.exception, RecdbError) and "pooler" in str(done.exception), done.exception
        assert recommend(db, "u1") == before
    else:
        assert "trained" in done.output
    assert job.run(database, full=True, force=True).model is not None
    assert remains(db) == {}
