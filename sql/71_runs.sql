-- The trace of the maintenance runs: refresh_log has a row from the start of a run on, and the row says how it ended.


-- recdb.take_lock: let this session be the only one that trains, or that activates a version, until it unlocks or ends.
--   parameters  name  job or activation
--   returns     true; false if another session of the owner has the lock
--   writes      secret, if another role holds an advisory lock with this key: then the lock gets another key
-- Every role may take advisory locks, and sees in pg_locks which ones are held.
create or replace function recdb.take_lock(name text)
returns boolean
language plpgsql volatile
as $$
declare
    key bigint;
    held_by_owner boolean;
begin
    loop
        select case take_lock.name when 'job' then s.job_lock else s.activation_lock end into key
        from recdb.secret s
        for update;
        if pg_try_advisory_lock(key) then
            return true;
        end if;
        select bool_or(pg_has_role(a.usesysid, n.nspowner, 'member')) into held_by_owner
        from recdb.lock_holders(key) h
        join pg_catalog.pg_stat_activity a on a.pid = h.pid
        cross join pg_catalog.pg_namespace n
        where n.nspname = 'recdb';
        if held_by_owner then
            return false;
        end if;
        -- NULL: the holder ended meanwhile.
        if not held_by_owner and take_lock.name = 'job' then
            update recdb.secret set job_lock = default;
        elsif not held_by_owner then
            update recdb.secret set activation_lock = default;
        end if;
    end loop;
end
$$;
comment on function recdb.take_lock(text) is
    'Internal: takes the lock of the job or of an activation for this session; false if another session has it.';


-- recdb.lock_holders: the sessions that hold an advisory lock.
--   parameters  key  of the lock
--   returns     their process numbers
create or replace function recdb.lock_holders(key bigint)
returns table (pid integer)
language sql stable
begin atomic
    select l.pid
    from pg_catalog.pg_locks l
    where l.locktype = 'advisory' and l.granted and l.objsubid = 1
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      and (l.classid::bigint << 32) + l.objid::bigint = lock_holders.key;
end;
comment on function recdb.lock_holders(bigint) is
    'Internal: the processes that hold an advisory lock.';


-- recdb.job_holders: the sessions that train.
--   returns     their process numbers: none or one
--   reads       secret
create or replace function recdb.job_holders()
returns table (pid integer)
language sql stable
begin atomic
    select h.pid from recdb.secret s cross join lateral recdb.lock_holders(s.job_lock) h;
end;
comment on function recdb.job_holders() is 'Internal: the process of the session that trains.';


-- recdb.is_running: whether a run that says so still runs.
--   parameters  pid, started_at  as in refresh_log
--   returns     true while this server process holds the lock of a refresh, of the job or of an activation; false if it
--               ended, or if the server started later. A standby cannot know, and believes it: true
-- It runs as recdb's owner, who alone may read the keys of the locks. Every role sees pg_locks whole; of
-- pg_stat_activity a role without rights sees little.
create or replace function recdb.is_running(pid integer, started_at timestamptz)
returns boolean
language sql stable security definer
set search_path from current
begin atomic
    select pg_is_in_recovery() or is_running.started_at >= pg_postmaster_start_time() and (
        exists (
            select from recdb.secret s
            cross join lateral (values (s.job_lock), (s.activation_lock)) k(key)
            cross join lateral recdb.lock_holders(k.key) h
            where h.pid = is_running.pid)
        or exists (
            select from pg_catalog.pg_locks l
            where l.locktype = 'relation' and l.relation = 'recdb.refresh_lock'::regclass and l.granted
              and l.mode = 'ExclusiveLock' and l.pid = is_running.pid
              and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())));
end;
comment on function recdb.is_running(integer, timestamptz) is
    'Internal: whether a run of refresh_log that says that it is running still is.';


-- recdb.mark_lost_runs: end the rows of runs that were killed.
--   writes      refresh_log: state lost, an error, and the time at which this was noticed
create or replace function recdb.mark_lost_runs()
returns void
language sql volatile
begin atomic
    update recdb.refresh_log l
    set state = 'lost', finished_at = clock_timestamp(),
        error = 'the process, its connection or the server was stopped before the run ended'
    where l.state = 'running' and not recdb.is_running(l.pid, l.started_at);
end;
comment on function recdb.mark_lost_runs() is
    'Internal: writes into refresh_log which runs were killed.';


-- recdb.begin_run: write the start of a run. The caller commits it before the work.
--   parameters  kind  as in refresh_log
--   returns     its run_id; NULL, with a notice, for a refresh if another one is running
--   writes      refresh_log: a row in state running; lost for earlier runs that were killed
create or replace function recdb.begin_run(kind text)
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    started bigint;
begin
    if begin_run.kind = 'refresh' and not recdb.take_refresh_lock(false) then
        return null;
    end if;
    perform recdb.mark_lost_runs();
    insert into recdb.refresh_log (kind, started_at, state, pid)
    values (begin_run.kind, clock_timestamp(), 'running', pg_backend_pid())
    returning run_id into started;
    return started;
end
$$;
comment on function recdb.begin_run(text) is
    'Internal: writes the start of a maintenance run into refresh_log; returns its run_id.';


-- recdb.end_run: write the success of a run, in the transaction of its work.
--   parameters  kind, started_at, users, rows, model, seen, error  as the columns of refresh_log; with an error, the
--               new version was rejected
--   writes      refresh_log: the row that begin_run() wrote for this session and kind (a first refresh becomes a
--               rebuild), or a new row if there is none, as inside a caller's transaction
create or replace function recdb.end_run(
    kind text, started_at timestamptz, users bigint, rows bigint, model text default null, seen xid8 default null,
    error text default null
)
returns void
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    served_by constant bigint := case when end_run.seen is not null then recdb.cluster() end;
    ending constant text := case when end_run.error is null then 'succeeded' else 'rejected' end;
begin
    update recdb.refresh_log l
    set kind = end_run.kind, finished_at = clock_timestamp(), users = end_run.users, rows = end_run.rows,
        model = end_run.model, seen = end_run.seen, cluster = served_by, error = end_run.error, state = ending
    where l.run_id = (
        select max(r.run_id) from recdb.refresh_log r
        where r.state = 'running' and r.pid = pg_backend_pid()
          and (r.kind = end_run.kind or r.kind = 'refresh' and end_run.kind = 'rebuild'));
    if not found then
        insert into recdb.refresh_log
            (kind, started_at, finished_at, users, rows, model, seen, cluster, error, state, pid)
        values (end_run.kind, end_run.started_at, clock_timestamp(), end_run.users, end_run.rows, end_run.model,
            end_run.seen, served_by, end_run.error, ending, pg_backend_pid());
    end if;
end
$$;
comment on function recdb.end_run(text, timestamptz, bigint, bigint, text, xid8, text) is
    'Internal: writes the success of a maintenance run into refresh_log.';


-- recdb.fail_run: write how a run ended that began with begin_run() and did not succeed.
--   parameters  run_id  of begin_run()
--               state   failed or cancelled; NULL removes the row: the run found nothing to do
--               error   the message
--   writes      refresh_log: this row, if it has no end yet
create or replace function recdb.fail_run(run_id bigint, state text, error text)
returns void
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    delete from recdb.refresh_log l
    where l.run_id = fail_run.run_id and l.state in ('running', 'lost') and fail_run.state is null;
    update recdb.refresh_log l
    set state = fail_run.state, finished_at = clock_timestamp(), error = fail_run.error
    where l.run_id = fail_run.run_id and l.state in ('running', 'lost');
end
$$;
comment on function recdb.fail_run(bigint, text, text) is
    'Internal: writes into refresh_log how a maintenance run ended that did not succeed.';


-- recdb.log_failure: record a failed run that has no row yet.
--   parameters  kind, started_at, error  as the columns of refresh_log
--   writes      a row of refresh_log
create or replace function recdb.log_failure(kind text, started_at timestamptz, error text)
returns void
language sql volatile security definer
set search_path from current
as $$
    insert into recdb.refresh_log (kind, started_at, finished_at, error, state, pid)
    values (log_failure.kind, log_failure.started_at, clock_timestamp(), log_failure.error, 'failed', pg_backend_pid())
$$;
comment on function recdb.log_failure(text, timestamptz, text) is
    'Internal: records a failed run in refresh_log.';


-- recdb.require_read_committed: refuse an isolation level that hides what other transactions commit meanwhile.
--   errors      25000 under repeatable read and serializable
create or replace function recdb.require_read_committed()
returns void
language plpgsql stable
as $$
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'the weights are refreshed under read committed only, and this transaction is %',
            current_setting('transaction_isolation')
            using errcode = 'invalid_transaction_state',
            hint = 'Begin the transaction with: begin isolation level read committed; '
                'or call it outside a transaction.';
    end if;
end
$$;
comment on function recdb.require_read_committed() is
    'Internal: error 25000 under repeatable read and serializable.';
