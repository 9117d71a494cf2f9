"""Checks of recdb's storage: indexes, dead rows, statistics, memory."""

from datetime import timedelta

import psycopg

from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, age_of, size, some
from recdb.job.indexes import INDEX_OPTIONS, Memory, allowed_memory, needed_memory, wanted
from recdb.job.partitions import LEARNED_TABLES

DEAD_SHARE, DEAD_ROWS = 0.2, 1000
UNKNOWN_SIZE = 1 << 20
TRANSACTION_AGE = timedelta(hours=1)
WORK_MEMORY = 4 << 20


def check_indexes(connection: psycopg.Connection) -> Verdict:
    """Every index is valid, and every served partition of vectors has an HNSW index."""
    (invalid,) = fetch_row(
        connection,
        """
        select coalesce(array_agg(i.indexrelid::regclass::text), '{}')
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'i' and not i.indisvalid
        """,
    )
    if invalid:
        statements = " ".join(f"reindex index concurrently {name};" for name in invalid)
        return Verdict("fail", f"invalid, so PostgreSQL updates but never reads them: {some(invalid)}", statements)
    bare, lost = fetch_row(
        connection,
        """
        select coalesce(array_agg(c.oid::regclass::text) filter (where v.attname is not null), '{}'),
            coalesce(array_agg(c.oid::regclass::text) filter (where v.attname is null), '{}')
        from recdb.model m
        cross join unnest(array['user_vector', 'item_vector']) t(name)
        join pg_class c on c.relnamespace = 'recdb'::regnamespace and c.relname = t.name || '_' || m.model_id
        left join pg_attribute v on v.attrelid = c.oid and v.attname = 'embedding' and not v.attisdropped
        where m.state = 'ready' and not exists (
            select from pg_index i
            join pg_class x on x.oid = i.indexrelid
            join pg_am a on a.oid = x.relam
            where i.indrelid = c.oid and a.amname = 'hnsw')
        """,
    )
    if lost:
        return Verdict("fail", f"no vectors to index: {some(lost)}", "recdb init; then: recdb refresh")
    if bare:
        (schema,) = fetch_row(
            connection, "select e.extnamespace::regnamespace::text from pg_extension e where e.extname = 'vector'"
        )
        statements = " ".join(
            f"create index on {name} using hnsw (embedding {schema}.halfvec_cosine_ops) with ({INDEX_OPTIONS});"
            for name in bare
        )
        return Verdict("fail", f"no HNSW index, so each search scans the whole table: {some(bare)}", statements)
    return Verdict("ok", "all valid")


def check_leftovers(connection: psycopg.Connection) -> Verdict:
    """No interrupted training left tables or half-detached partitions; the tables of a running job do not count."""
    names, total = fetch_row(
        connection,
        """
        select coalesce(array_agg(c.oid::regclass::text order by c.relname), '{}'),
            coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
        from pg_class c
        left join pg_inherits i on i.inhrelid = c.oid
        where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'r'
          and c.relname ~ ('^(' || array_to_string(%s::text[], '|') || ')_[0-9]+$')
          and (not c.relispartition or i.inhdetachpending)
        """,
        [list(LEARNED_TABLES)],
    )
    if not names:
        return Verdict("ok", "none")
    (running,) = fetch_row(connection, "select exists (select from recdb.job_holders())")
    if running:
        return Verdict("ok", "a training is running")
    message = f"{len(names)} tables of an interrupted training, {size(total)}: {some(names)}"
    return Verdict("warn", message, "recdb refresh")


def check_partitions(connection: psycopg.Connection) -> Verdict | None:
    """The partitions of the interactions are whole, and there is one for now and for the time that comes next."""
    row = connection.execute("select p.every, p.source, p.target from recdb.partitioning p").fetchone()
    if row is None:
        return None
    every, source, target = row
    if source is not None:
        command = "--undo" if target == "none" else f"--every {target}"
        message = f"recdb partition is writing {source} again, or was interrupted: until it ends it notes every change"
        return Verdict("warn", message, f"recdb partition {command}")
    count, absent = fetch_row(
        connection,
        """
        select (select count(*) from recdb.interaction_partitions()), not exists (
            select from recdb.interaction_partitions() p
            where p.starts = recdb.period_end(%(every)s, recdb.period_start(%(every)s, now())))
        """,
        {"every": every},
    )
    if absent:
        message = f"no partition for the next {every}: refreshes make them, and none could for a while"
        return Verdict("warn", message, "recdb refresh")
    spans, held = fetch_row(connection, "select count(*), sum(r.held) from recdb.rest_spans() r")
    if spans:
        message = f"interaction_rest holds {held:,} interactions of {spans} {every}s that have ended"
        return Verdict("warn", message, f"recdb partition --every {every}")
    return Verdict("ok", f"{count} by {every}")


def check_dead_rows(connection: psycopg.Connection) -> Verdict:
    """Few dead rows wait for VACUUM: an HNSW index keeps dead vectors, and searches walk through them."""
    rows = connection.execute(
        """
        select s.relid::regclass::text, s.n_dead_tup
        from pg_stat_all_tables s
        where s.schemaname = 'recdb' and s.n_dead_tup >= %s
          and s.n_dead_tup > %s * (s.n_dead_tup + s.n_live_tup)
        order by s.n_dead_tup desc
        """,
        [DEAD_ROWS, DEAD_SHARE],
    ).fetchall()
    if rows:
        listed = some([f"{name} ({dead:,})" for name, dead in rows])
        return Verdict("warn", f"many dead rows: {listed}", f"vacuum (analyze) {', '.join(name for name, _ in rows)};")
    return Verdict("ok", "few")


def check_statistics(connection: psycopg.Connection) -> Verdict:
    """Every table of some size was analysed: the planner guesses without statistics."""
    (names,) = fetch_row(
        connection,
        """
        select coalesce(array_agg(c.oid::regclass::text order by c.relname), '{}')
        from pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'm')
          and pg_relation_size(c.oid) >= %s
          and has_table_privilege(c.oid, 'select')
          and not exists (select from pg_stats s where s.schemaname = 'recdb' and s.tablename = c.relname)
        """,
        [UNKNOWN_SIZE],
    )
    if names:
        return Verdict("warn", f"never analysed, so the planner guesses: {some(names)}", f"analyze {', '.join(names)};")
    return Verdict("ok", "every large table was analysed")


def check_autovacuum(connection: psycopg.Connection) -> Verdict:
    """Autovacuum is on: it removes dead rows and renews statistics."""
    running, counting, excepted = fetch_row(
        connection,
        """
        select current_setting('autovacuum')::boolean, current_setting('track_counts')::boolean,
            (select coalesce(array_agg(c.oid::regclass::text), '{}') from pg_class c
             where c.relnamespace = 'recdb'::regnamespace
               and exists (
                   select from pg_options_to_table(c.reloptions) o
                   where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean))
        """,
    )
    if not running:
        statements = "alter system set autovacuum = on; select pg_reload_conf();"
        return Verdict("warn", "off: tables bloat and statistics get old", statements)
    if not counting:
        message = "it never starts, since track_counts is off: tables bloat and statistics get old"
        return Verdict("warn", message, "set track_counts = on for the server, database or role")
    if excepted:
        statements = " ".join(f"alter table {name} reset (autovacuum_enabled);" for name in excepted)
        return Verdict("warn", f"off for {some(excepted)}", statements)
    return Verdict("ok", "on")


def check_transactions(connection: psycopg.Connection, limit: timedelta = TRANSACTION_AGE) -> Verdict:
    """No transaction is open for long: until it ends, refreshes repeat work and VACUUM removes no dead rows."""
    row = connection.execute(
        """
        select o.name, now() - o.began, o.fix
        from (
            select 'process ' || a.pid || coalesce(' of ' || nullif(a.application_name, ''), '') as name,
                a.xact_start as began, 'select pg_terminate_backend(' || a.pid || ');' as fix
            from pg_stat_activity a
            where a.datname = current_database() and a.pid <> pg_backend_pid()
              and (a.backend_xid is not null or a.backend_xmin is not null)
            union all
            select 'prepared transaction ' || quote_literal(p.gid), p.prepared,
                'rollback prepared ' || quote_literal(p.gid) || ';'
            from pg_prepared_xacts p
            where p.database = current_database()
        ) o
        where o.began < now() - %s
        order by o.began
        limit 1
        """,
        [limit],
    ).fetchone()
    if row:
        name, age, statement = row
        message = f"{name}, open for {age_of(age)}: refreshes repeat work, and VACUUM removes no dead rows"
        return Verdict("warn", message, statement)
    return Verdict("ok", f"none open for more than {age_of(limit)}")


def check_shared_buffers(connection: psycopg.Connection) -> Verdict | None:
    """The server's cache holds the served model, which recommend() reads."""
    row = connection.execute(
        """
        select pg_size_bytes(current_setting('shared_buffers')),
            sum(pg_total_relation_size(c.oid))
        from recdb.model m
        join pg_class c on c.relnamespace = 'recdb'::regnamespace
            and c.relname = any (select t || '_' || m.model_id from unnest(%s::text[]) t)
        where m.active
        group by m.model_id
        """,
        [list(LEARNED_TABLES)],
    ).fetchone()
    if row is None:
        return None
    cache, read = int(row[0]), int(row[1])
    if read > cache:
        message = f"{size(cache)}, but recommend() reads from {size(read)} of vectors, neighbours and indexes"
        wanted = max(1, round(read * 1.5 / (1 << 20)))
        return Verdict("warn", message, f"alter system set shared_buffers = '{wanted}MB'; then restart the server")
    return Verdict("ok", f"{size(cache)}; recommend() reads from {size(read)}")


def check_index_memory(connection: psycopg.Connection) -> Verdict | None:
    """The memory for building the largest HNSW index suffices: a build that needs more is many times slower."""
    row = connection.execute(
        """
        select m.metrics -> 'notes' ->> 0, max(greatest(c.reltuples, 0)), max(a.atttypmod)
        from recdb.model m
        join pg_class c on c.relnamespace = 'recdb'::regnamespace
            and c.relname = any (select t || '_' || m.model_id from unnest(array['user_vector', 'item_vector']) t)
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'embedding'
        where m.active
        group by m.model_id
        """
    ).fetchone()
    if row is None:
        return None
    note, rows, dimension = row
    memory = Memory(needed_memory(float(rows), int(dimension)), allowed_memory(connection))
    if memory.needed > memory.taken:
        message = f"an HNSW index needs about {size(memory.needed)} and gets {size(memory.taken)}: many times slower"
        return Verdict("warn", message, set_memory(connection, wanted(memory)))
    if note:
        return Verdict("warn", f"in the last training, {note}", "change that, then: recdb refresh --full")
    return Verdict("ok", f"an HNSW index needs about {size(memory.needed)} and may take {size(memory.taken)}")


def set_memory(connection: psycopg.Connection, value: str) -> str:
    """Write the statement for maintenance_work_mem: without superuser, for the role that runs the job."""
    superuser, owner = fetch_row(
        connection,
        "select (select r.rolsuper from pg_roles r where r.rolname = current_user), n.nspowner::regrole::text "
        "from pg_namespace n where n.nspname = 'recdb'",
    )
    if superuser:
        return f"alter system set maintenance_work_mem = '{value}'; select pg_reload_conf();"
    return f"alter role {owner} set maintenance_work_mem = '{value}';"


def check_work_mem(connection: psycopg.Connection) -> Verdict:
    """work_mem is not below PostgreSQL's default: recommend() and rebuilds would sort on disk."""
    query = "select pg_size_bytes(current_setting('work_mem')), current_setting('work_mem')"
    setting, shown = fetch_row(connection, query)
    if setting < WORK_MEMORY:
        message = f"{shown} is below PostgreSQL's default: recommend() and rebuilds sort on disk"
        return Verdict("warn", message, "alter system set work_mem = '4MB'; select pg_reload_conf();")
    return Verdict("ok", shown)
