"""Servers with little memory: a training ends on them, says what was slow, and says what would make it faster."""

import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from support.data import column, record, tastes, train
from support.doctor import find
from support.outside import recdb
from support.servers import Server, bin_folder, database_maker, programs, run_server

from recdb import migrate
from recdb.database import Database
from recdb.doctor.storage import check_index_memory
from recdb.job.indexes import SAFE_PARALLEL, pgvector_version

SMALL_SHM = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"', "sh")
"""Runs a program with 4 MB in /dev/shm, as a container with little of it does."""
EAGER = """
min_parallel_table_scan_size = 0
min_parallel_index_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
"""
"""Settings with which the server uses parallel workers for small tables too."""
WITHOUT_MEMORY = """
    create function public.refuse() returns event_trigger language plpgsql as $$
    begin
        if current_query() like 'create index%hnsw%'
            and pg_size_bytes(current_setting('maintenance_work_mem')) > pg_size_bytes('{most}')
        then
            raise exception 'out of memory' using errcode = 'out_of_memory';
        end if;
    end $$;
    create event trigger refuse on ddl_command_start execute function public.refuse();
"""
HNSW = (
    "select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid "
    "join pg_am a on a.oid = c.relam where a.amname = 'hnsw' and i.indrelid::regclass::text ~ '_[0-9]+$'"
)


@pytest.fixture(scope="module")
def cramped() -> Iterator[Server]:
    """A server with 4 MB in /dev/shm, which works in parallel wherever it can."""
    if subprocess.run([*SMALL_SHM, "true"], capture_output=True, check=False).returncode:
        pytest.skip(
            "this process may not give a server a small /dev/shm: not root, or in a container without the right"
        )
    # Its own /dev/shm hides the one where other servers have their folders.
    with run_server(programs(bin_folder(), prefix=SMALL_SHM, settings=EAGER), in_memory=False) as server:
        yield server


@pytest.mark.server
def test_a_training_ends_where_shared_memory_is_small(cramped: Server) -> None:
    database = Database(cramped.conninfo("postgres"), "test")
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo) as connection:
        record(connection, tastes())

    printed = recdb("refresh", "--full", database=database)

    assert "trained and activated" in printed
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        found = find(connection, "index memory")
        if pgvector_version(connection) >= SAFE_PARALLEL:
            said = (
                "the index of user_vector was built without parallel workers: the server has no 96 MB of shared memory"
            )
            assert f"note: {said}. Faster: more room in /dev/shm" in printed
            assert (found.state, found.message) == (
                "warn",
                found.message,
            ) and "without parallel workers" in found.message
        assert len(connection.execute("select * from recommend('u1')").fetchall()) > 0
        # The same index can be built again without shared memory.
        indexes = column(connection.execute(HNSW))
        assert len(indexes) == 2
        for name in indexes:
            connection.execute(f"reindex index concurrently {name}")
    assert "refreshed" in recdb("refresh", database=database)


def test_a_server_without_parallel_workers_needs_no_shared_memory(cramped: Server) -> None:
    database = database_maker(cramped)()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute(f"alter database {connection.info.dbname} set max_parallel_maintenance_workers = 0")
        connection.execute(f"alter database {connection.info.dbname} set max_parallel_workers_per_gather = 0")

        printed = recdb("refresh", "--full", database=database)

        assert "trained and activated" in printed and "note:" not in printed and "no memory" not in printed
        assert find(connection, "index memory").state == "ok"


def test_an_index_is_built_in_the_memory_that_is_there(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute(WITHOUT_MEMORY.format(most="3MB"))

    printed = recdb("refresh", "--full", database=database)

    assert "note: the index of user_vector was built in 2 MB of memory and needs 5 MB" in printed
    assert "Faster: a server with that much memory, and maintenance_work_mem = '5MB'" in printed
    found = find(db, "index memory")
    assert (found.state, found.fix) == ("warn", "change that, then: recdb refresh --full")
    assert len(column(db.execute(HNSW))) == 2
    db.execute("drop event trigger refuse")

    assert "note:" not in recdb("refresh", "--full", database=database)
    assert find(db, "index memory").state == "ok"


def test_a_server_without_any_memory_fails_with_one_line_and_keeps_the_old_version(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    recdb("refresh", "--full", database=database)
    served = db.execute("select * from recommend('u1')").fetchall()
    db.execute(WITHOUT_MEMORY.format(most="0"))

    printed = recdb("refresh", "--full", database=database, code=1)

    assert "error: the server has no memory to build the index of item_vector" in printed
    assert "Traceback" not in printed
    assert db.execute("select * from recommend('u1')").fetchall() == served


def test_no_build_takes_more_than_the_server_says_it_has(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)

    # A large table on a small server.
    db.execute("set allow_system_table_mods = on")
    db.execute("update pg_class set reltuples = 1e6 where relname ~ '^user_vector_[0-9]+$'")
    db.execute("set effective_cache_size = '512MB'")
    found = find(db, "index memory")

    assert (found.state, found.message) == (
        "warn", "an HNSW index needs about 920 MB and gets 128 MB: many times slower"
    )  # fmt: skip
    assert found.fix == "alter system set maintenance_work_mem = '920MB'; select pg_reload_conf();"
    # A provider lets nobody alter the system; the owner of recdb may have the setting for itself.
    db.execute("create role tenant; grant recdb_analyst to tenant; set role tenant")
    try:
        verdict = check_index_memory(db)
        assert verdict and verdict.fix == "alter role postgres set maintenance_work_mem = '920MB';"
    finally:
        db.execute("reset role; drop owned by tenant; drop role tenant")
    db.execute("set effective_cache_size = '4GB'")
    assert find(db, "index memory").state == "ok"


def test_a_rebuild_and_a_refresh_go_on_without_parallel_workers(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute(
        """
        create function public.full() returns trigger language plpgsql as $$
        begin
            if current_setting('max_parallel_workers_per_gather') <> '0' then
                raise exception 'could not resize shared memory segment' using errcode = 'disk_full';
            end if;
            return null;
        end $$;
        create trigger full_memory before insert or delete on recdb.recent_user execute function public.full();
        """
    )

    for command in (["refresh", "--full"], ["refresh"]):
        db.execute("select recdb.track('u1', 'i1', 'like')")
        printed = recdb(*command, database=database)

        assert "the server has no memory for parallel workers: going on without them (could not resize" in printed
    assert column(db.execute("select recommend is not null from recommend('u1') limit 1")) == [True]


def test_an_index_that_misses_neighbours_is_found_and_its_fix_works(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=400, groups=40))
    train(database)
    assert find(db, "recall").state == "ok"
    # A graph with hardly any links misses as much as a damaged one.
    query = HNSW.replace("select ", "select i.indrelid::regclass::text, ")
    row = db.execute(f"{query} and c.relname ~ 'user'").fetchone()
    table, index = row or ("", "")
    db.execute(f"drop index {index}")
    options = "(embedding halfvec_cosine_ops) with (m = 2, ef_construction = 4)"
    db.execute(f"create index bad on {table} using hnsw {options}")
    db.execute(f"alter database {db.info.dbname} set enable_seqscan = off")
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        found = find(connection, "recall")

        assert found.state == "warn", found
        assert found.fix == "reindex index concurrently recdb.bad; or: recdb refresh --full"
    train(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        assert find(connection, "recall").state == "ok"
    db.execute(f"alter database {db.info.dbname} reset enable_seqscan")


def test_an_old_pgvector_builds_without_parallel_workers(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("update pg_extension set extversion = '0.8.1' where extname = 'vector'")
    train(database)

    tables = "select reloptions from pg_class where relkind = 'r' and relname ~ '^(user|item)_vector_[0-9]+$'"
    # A REINDEX and a restore build an index of such a table without parallel workers, too.
    assert ["parallel_workers=0" in options for options in column(db.execute(tables))] == [True, True]
    db.execute("update pg_extension set extversion = '0.8.2' where extname = 'vector'")
    db.execute("update recdb.config set kept_models = 1")
    train(database)

    assert ["parallel_workers=0" in (options or []) for options in column(db.execute(tables))] == [False, False]
