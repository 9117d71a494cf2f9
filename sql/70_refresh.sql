-- The part of the maintenance job that needs no Python: it keeps the weighted interactions, the vectors of changed
-- users and popularity up to date. Run it from cron with psql, or from pg_cron.


-- recdb.take_refresh_lock: keep other refreshes, rebuilds and erasures out until this transaction ends.
--   parameters  patient  true: wait for the session that holds the lock; false: return at once
--   returns     true; false, with a notice that describes the other session, if it is not patient and has no lock
--   errors      55P03 after the caller's lock_timeout
create or replace function recdb.take_refresh_lock(patient boolean)
returns boolean
language plpgsql volatile
as $$
begin
    if patient then
        lock table recdb.refresh_lock in exclusive mode;
    else
        lock table recdb.refresh_lock in exclusive mode nowait;
    end if;
    return true;
exception when lock_not_available then
    if patient then
        raise exception 'the weighted interactions are locked by %',
            coalesce(recdb.refresh_holder(), 'another session')
            using errcode = 'lock_not_available', hint = 'Wait for it, or end it with pg_terminate_backend().';
    end if;
    raise notice 'another refresh is running, in %: nothing done', coalesce(recdb.refresh_holder(), 'another session');
    return false;
end
$$;
comment on function recdb.take_refresh_lock(boolean) is
    'Internal: locks the table refresh_lock for this transaction, as refresh(), rebuild() and forget_user() do.';


-- recdb.refresh_holder: the session that holds the lock of take_refresh_lock().
--   returns     a text for messages: process, role, application, start of its transaction; NULL if nobody holds it
--   reads       the system catalogues; without rights on the other session's role, the last two are unknown
create or replace function recdb.refresh_holder()
returns text
language sql stable
begin atomic
    select format('process %s (role %s, application %s, since %s)', l.pid, a.usename,
        coalesce(nullif(a.application_name, ''), 'unknown'),
        coalesce(date_trunc('second', a.xact_start)::text, 'unknown'))
    from pg_catalog.pg_locks l
    left join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'relation' and l.relation = 'recdb.refresh_lock'::regclass and l.granted
      and l.mode = 'ExclusiveLock' and l.pid is distinct from pg_backend_pid()
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
    limit 1;
end;
comment on function recdb.refresh_holder() is
    'Internal: describes the session that rewrites the weighted interactions at this moment.';


-- recdb.cluster: the server that numbers the transactions, and the materialized view that the last rebuild filled.
--   returns     the server's system identifier, exclusive or the view's oid; the oid alone if recdb's owner may not
--               call pg_control_system()
-- A dump restored into another server meets other numbers. One restored into the same server has a new view, with the
-- weights as of the restore, beside tables as of the dump. A copy by a template has the same view.
create or replace function recdb.cluster()
returns bigint
language plpgsql stable
set search_path from current
as $$
declare
    server bigint := 0;
begin
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then
        server := (select s.system_identifier from pg_catalog.pg_control_system() s);
    end if;
    return server # coalesce(to_regclass('recdb.user_item_settled')::oid::bigint, 0::bigint);
end
$$;
comment on function recdb.cluster() is
    'Internal: a number that stands for the server and for the view user_item_settled.';


-- recdb.refresh_items: weigh the interactions of some users again.
--   parameters  user_keys  the users
--   returns     the number of rows written
--   reads       profiles_of() of the users who are not ignored
--   writes      user_item_recent, recent_user; item_key for items without a key, and as date_items(); the difference to
--               item_popularity
create or replace function recdb.refresh_items(user_keys integer[])
returns bigint
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    written bigint;
    before constant record := recdb.popularity_of(user_keys);
    counted constant text[] := array(
        select u.user_id from recdb.user_key u
        where u.user_key = any (user_keys)
          and not exists (select from recdb.ignored_user g where g.user_id = u.user_id));
    after record;
begin
    delete from recdb.user_item_recent n where n.user_key = any (user_keys);
    insert into recdb.recent_user (user_key)
    select unnest(user_keys)
    on conflict (user_key) do update set refreshed_at = now();
    with profile as materialized (
        select u.user_key, p.item_id, p.item_key, p.weight, p.last_at, p.heaviest
        from recdb.profiles_of(counted) p
        join recdb.user_key u on u.user_id = p.user_id
    ), added as (
        insert into recdb.item_key (item_id)
        select distinct p.item_id
        from profile p
        where p.item_key is null and octet_length(p.item_id) <= 2600
        order by p.item_id
        returning item_id, item_key
    )
    insert into recdb.user_item_recent (user_key, position, item_key, rank, weight, last_at, heaviest)
    select k.user_key,
        row_number() over (
            partition by k.user_key order by recdb.precedence(k.weight, k.rank) desc, k.last_at desc, k.item_key),
        k.item_key, k.rank, k.weight, k.last_at, k.heaviest
    from (
        select p.user_key, t.item_key, p.weight, p.last_at, p.heaviest,
            rank() over (partition by p.user_key, p.weight = 0 order by p.last_at desc) as rank
        from profile p
        left join added a on p.item_key is null and a.item_id = p.item_id
        cross join lateral (select coalesce(p.item_key, a.item_key) as item_key) t
        where t.item_key is not null
    ) k;
    get diagnostics written = row_count;
    perform recdb.date_items(user_keys);
    after := recdb.popularity_of(user_keys);
    perform recdb.add_popularity(
        before.item_keys || after.item_keys,
        array(select -b.weight from unnest(before.weights) b(weight)) || after.weights,
        array(select -b.users from unnest(before.users) b(users)) || after.users);
    perform recdb.link_touched(before.item_keys || after.item_keys);
    return written;
end
$$;
comment on function recdb.refresh_items(integer[]) is
    'Internal: weighs the interactions of some users again; returns the number of rows written.';


-- recdb.refresh_queued: weigh the interactions of the users in changed_user again, who have no new interaction.
--   reads       interactions_of(), ignored_user
--   writes      empties changed_user; user_key, and as refresh_items(), refresh_vectors() and uncount_members()
-- A user who is left without any interaction and impression, such as a guest who became a member, loses the key.
create or replace function recdb.refresh_queued()
returns void
language plpgsql volatile
as $$
declare
    queued text[];
    user_keys integer[];
begin
    with due as (
        delete from recdb.changed_user c returning c.user_id
    )
    select array_agg(distinct d.user_id) into queued from due d;
    if queued is null then
        return;
    end if;
    insert into recdb.user_key (user_id)
    select q.user_id from unnest(queued) q(user_id)
    where not exists (select from recdb.user_key u where u.user_id = q.user_id)
      and octet_length(q.user_id) <= 2600
      and exists (select from recdb.interactions_of(q.user_id))
    order by q.user_id;
    user_keys := array(select u.user_key from recdb.user_key u where u.user_id = any (queued) order by u.user_key);
    perform recdb.refresh_items(user_keys);
    perform recdb.refresh_vectors(user_keys);
    perform recdb.uncount_members(array(
        select u.user_key from recdb.user_key u
        where u.user_key = any (user_keys) and (
            exists (select from recdb.ignored_user g where g.user_id = u.user_id)
            or not exists (select from recdb.interactions_of(u.user_id)))));
    delete from recdb.user_key u
    where u.user_key = any (user_keys) and not exists (select from recdb.interactions_of(u.user_id))
      and not exists (select from recdb.impression m where m.user_key = u.user_key);
end
$$;
comment on function recdb.refresh_queued() is
    'Internal: weighs the interactions of the users in changed_user again, and empties it.';


-- recdb.refresh_changed: the work of CALL recdb.refresh(), in one transaction, as recdb's owner.
--   returns     true; false, with a notice, if another refresh is running
--   reads, writes  as all that it calls: user_key, refresh_log (where the last run ended), the stored rows of users
create or replace function recdb.refresh_changed()
returns boolean
language plpgsql volatile security definer
set search_path from current
as $$
declare
    began constant timestamptz := clock_timestamp();
    horizon xid8 := pg_snapshot_xmin(pg_current_snapshot());
    last record;
    changed text[];
    user_keys integer[];
    before bigint;
    written bigint;
begin
    perform recdb.require_read_committed();
    if not recdb.take_refresh_lock(false) then
        return false;
    end if;
    perform recdb.review_sources(false);
    perform recdb.refuse_broken();
    select l.seen, l.started_at, l.cluster into last
    from recdb.refresh_log l
    where l.seen is not null and l.error is null
    order by l.run_id desc
    limit 1;
    if last.seen is null or last.cluster is distinct from recdb.cluster()
        or last.seen > pg_snapshot_xmax(pg_current_snapshot()) or not recdb.weights_ready() or recdb.sources_changed()
    then
        -- Never refreshed, or restored: into another cluster, which numbers transactions differently, or without rows.
        -- Or an attached table went missing, or is back.
        perform recdb.rebuild();
        return true;
    end if;
    -- The users whose rows are hidden would lose their weights, and the next run would not look at these rows again.
    perform recdb.refuse_hidden_rows();
    if not recdb.await_commits() then
        horizon := last.seen;
    end if;
    perform recdb.link_new_items();

    select coalesce(array_agg(distinct s.user_id), '{}') into changed
    from recdb.users_since(last.seen, last.started_at - interval '10 minutes') s;
    insert into recdb.user_key (user_id)
    select c.user_id from unnest(changed) c(user_id)
    where not exists (select from recdb.user_key u where u.user_id = c.user_id)
      and octet_length(c.user_id) <= 2600
    order by c.user_id;
    user_keys := array(select u.user_key from recdb.user_key u where u.user_id = any (changed) order by u.user_key);
    select count(*) into before from recdb.user_item w
    where w.user_key = any (user_keys) and w.last_at >= (select recdb.kept_since());
    written := recdb.refresh_items(user_keys);
    perform recdb.refuse_loss(before, written);
    perform recdb.refresh_vectors(user_keys);
    perform recdb.refresh_queued();
    perform recdb.keep_impressions(recount => false);
    perform recdb.keep_little_shown(refill => false);
    perform recdb.keep_segments(recount => false);
    perform recdb.end_run('refresh', began, cardinality(user_keys), written, seen => horizon);
    perform recdb.keep_interactions();
    return true;
exception when others then
    perform recdb.refuse_unreadable(sqlstate);
    raise;
end
$$;
comment on function recdb.refresh_changed() is
    'Internal: the work of CALL recdb.refresh(), in one transaction; false if another refresh is running.';


-- recdb.refresh: update the weighted interactions, vectors and popularity by the changes since the last run.
--   reads, writes  as refresh_changed(), and a row of refresh_log from the start on
--   errors         any that refresh_changed() raises, a timeout and a cancellation too. The procedure records it in
--                  refresh_log, commits, and raises it again; inside a caller's transaction, where it may not commit,
--                  it only raises it
-- It runs with the caller's rights: a procedure that commits can neither be SECURITY DEFINER nor have a SET clause.
-- If the CALL is all that the client sent, and outside a transaction, the procedure commits the start of the run first,
-- and sets the isolation level that it needs, whatever the role's default is. Nothing tells whether a procedure may
-- commit: hence the look at the text of the query.
create or replace procedure recdb.refresh()
language plpgsql
as $$
declare
    began constant timestamptz := clock_timestamp();
    outside constant boolean := pg_catalog.transaction_timestamp() = pg_catalog.statement_timestamp();
    alone constant boolean := outside and pg_catalog.regexp_replace(
            pg_catalog.current_query(), '/[*]([^*]|[*]+[^*/])*[*]+/|--[^\n]*', ' ', 'g')
        ~* ('^[[:space:]]*call[[:space:]]+("?recdb"?[[:space:]]*[.][[:space:]]*)?"?refresh"?'
            '[[:space:]]*[(][[:space:]]*[)][[:space:];]*$');
    run bigint;
    worked boolean;
    failed boolean := false;
    state text;
    message text;
    details text;
    advice text;
begin
    if alone then
        commit;
        set transaction isolation level read committed, read write;
        run := recdb.begin_run('refresh');
        if run is null then
            return;
        end if;
        commit;
        set transaction isolation level read committed, read write;
    end if;
    begin
        worked := recdb.refresh_changed();
    exception when query_canceled or assert_failure or others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, details = pg_exception_detail,
            advice = pg_exception_hint;
        failed := true;
    end;
    if failed and alone then
        perform recdb.fail_run(run, case when state = '57014' then 'cancelled' else 'failed' end, message);
        commit;
    elsif failed and outside then
        -- With several statements in one string this commit fails: the warning says why.
        perform recdb.log_failure('refresh', began, message);
        raise warning '%', message using errcode = state, detail = details;
        commit;
    elsif alone then
        -- The run found nothing to do, or another one began before it had the lock and took it for lost: the work then
        -- has a row of its own.
        perform recdb.fail_run(run, null, null);
    end if;
    if failed and advice <> '' then
        raise exception using errcode = state, message = message, detail = details, hint = advice;
    elsif failed then
        raise exception using errcode = state, message = message, detail = details;
    end if;
end
$$;
comment on procedure recdb.refresh() is
    'Updates the weighted interactions and vectors of changed users, and the popularity of items: call it from cron or '
    'pg_cron. The first call, and one after a restore into another server, computes everything again. A row of '
    'recdb.refresh_log says how it ended. A failure is recorded there and raised; inside a transaction of yours it is '
    'only raised. Error 25000 inside a transaction of yours that is not read committed.';
