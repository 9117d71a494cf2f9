-- The SQL half of the maintenance job. The Python half trains; what is here keeps the weighted interactions,
-- the changed users' vectors and popularity up to date, and needs nothing but SQL: cron with psql, or pg_cron.

-- The advisory lock that serializes whatever rewrites the weighted interactions ("refresh" in ASCII).
create or replace function recdb.refresh_lock()
returns bigint
language sql immutable parallel safe
begin atomic
    select x'72656672657368'::bigint;
end;
comment on function recdb.refresh_lock() is 'Key of the advisory lock held by refresh(), rebuild() and forget_user().';


-- recdb.cluster: which server this is, as far as transactions are numbered; a dump restored elsewhere meets another one.
--   returns  the system identifier; NULL where an administrator has withdrawn pg_control_system() from everybody
create or replace function recdb.cluster()
returns bigint
language plpgsql stable
as $$
begin
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then
        return (select s.system_identifier from pg_catalog.pg_control_system() s);
    end if;
    return null;
end
$$;
comment on function recdb.cluster() is 'The system identifier of the server.';


-- recdb.assign_keys: give new users and items their dense keys, in order of id. An attached table may hold ids that
-- are too long for an index; they get none.
create or replace function recdb.assign_keys()
returns void
language plpgsql volatile
as $$
begin
    insert into recdb.user_key (user_id)
    select distinct i.user_id from recdb.interactions i
    where not exists (select from recdb.user_key u where u.user_id = i.user_id)
      and octet_length(i.user_id) <= 2600
    order by i.user_id;
    insert into recdb.item_key (item_id)
    select distinct i.item_id from recdb.interactions i
    where not exists (select from recdb.item_key t where t.item_id = i.item_id)
      and octet_length(i.item_id) <= 2600
    order by i.item_id;
end
$$;
comment on function recdb.assign_keys() is 'Gives dense integer keys to users and items that have none.';


-- recdb.add_popularity: add to what items gathered; negative numbers take away.
--   writes  item_popularity: rows of the items given; an item that nobody is left for goes
create or replace function recdb.add_popularity(item_keys integer[], weights double precision[], users bigint[])
returns void
language plpgsql volatile
as $$
#variable_conflict use_column
begin
    insert into recdb.item_popularity as p (item_key, item_id, total, users)
    select c.item_key, t.item_id, c.total, c.users
    from (
        select a.item_key, sum(a.weight) as total, sum(a.users) as users
        from unnest(item_keys, weights, users) a(item_key, weight, users)
        group by a.item_key
    ) c
    join recdb.item_key t on t.item_key = c.item_key
    where c.total <> 0 or c.users <> 0
    order by c.item_key
    on conflict (item_key) do update
    set total = p.total + excluded.total, users = p.users + excluded.users;
    delete from recdb.item_popularity p where p.item_key = any (item_keys) and p.users <= 0;
end
$$;
comment on function recdb.add_popularity(integer[], double precision[], bigint[]) is
    'Adds weights and users to the popularity of items; negative ones take away.';


-- recdb.popularity_of: what the given users' weighted interactions amount to, in arrays, an entry an item.
create or replace function recdb.popularity_of(user_keys integer[])
returns table (item_keys integer[], weights double precision[], users bigint[])
language sql stable
begin atomic
    select array_agg(s.item_key), array_agg(s.weight), array_agg(s.users)
    from (
        select w.item_key, sum(greatest(w.weight, 0)) as weight, count(*) as users
        from unnest(popularity_of.user_keys) u(user_key)
        cross join lateral (
            select s.item_key, s.weight from recdb.user_item_settled s
            where s.user_key = u.user_key and not exists (select from recdb.recent_user r where r.user_key = u.user_key)
            union all
            select n.item_key, n.weight from recdb.user_item_recent n
            where n.user_key = u.user_key
            offset 0
        ) w
        group by w.item_key
    ) s;
end;
comment on function recdb.popularity_of(integer[]) is 'What users add to the popularity of the items they touched.';


-- recdb.refresh_items: weigh the given users' interactions again; what they touched first gets its key.
--   returns  count of rows written
--   writes   user_item_recent, recent_user, item_key, and by what changed item_popularity
create or replace function recdb.refresh_items(user_keys integer[])
returns bigint
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    written bigint;
    before constant record := recdb.popularity_of(user_keys);
    after record;
begin
    delete from recdb.user_item_recent n where n.user_key = any (user_keys);
    insert into recdb.recent_user (user_key)
    select unnest(user_keys)
    on conflict (user_key) do update set refreshed_at = now();
    with profile as materialized (
        select u.user_key, p.item_id, p.item_key, p.weight, p.last_at
        from recdb.user_key u
        cross join lateral recdb.profile_of(u.user_id) p
        where u.user_key = any (user_keys)
    ), added as (
        insert into recdb.item_key (item_id)
        select distinct p.item_id
        from profile p
        where p.item_key is null and octet_length(p.item_id) <= 2600
        order by p.item_id
        returning item_id, item_key
    )
    insert into recdb.user_item_recent (user_key, position, item_key, weight, last_at)
    select k.user_key, row_number() over (partition by k.user_key order by k.last_at desc, k.item_key),
        k.item_key, k.weight, k.last_at
    from (
        select p.user_key, coalesce(p.item_key, a.item_key) as item_key, p.weight, p.last_at
        from profile p
        left join added a on p.item_key is null and a.item_id = p.item_id
    ) k
    where k.item_key is not null;
    get diagnostics written = row_count;
    after := recdb.popularity_of(user_keys);
    perform recdb.add_popularity(
        before.item_keys || after.item_keys,
        array(select -b.weight from unnest(before.weights) b(weight)) || after.weights,
        array(select -b.users from unnest(before.users) b(users)) || after.users);
    return written;
end
$$;
comment on function recdb.refresh_items(integer[]) is 'Weighs the interactions of the given users again.';


-- recdb.refresh_vectors: bring the given users' vectors up to date, in every kept model version.
-- What they speak for is always exact. A vector is replaced once the fold-in has moved away from it, to a cosine below
-- 0.9: other new interactions move a user less, and an entry of an HNSW index costs more than all the rest. A thousand
-- users at a time, so that what is sorted stays small.
create or replace function recdb.refresh_vectors(user_keys integer[])
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    block integer[];
begin
    for done in 0 .. cardinality(user_keys) - 1 by 1000 loop
        block := user_keys[done + 1 : done + 1000];
        with item as (
            select m.model_id, s.user_key, s.item_key, s.liking * m.drift as liking,
                s.position / max(abs(s.position)) over (partition by m.model_id, s.user_key) as position
            from (
                select s.*
                from recdb.model m
                cross join lateral recdb.serving(m.label) s
                where m.state = 'ready'
            ) m
            cross join lateral (
                select n.user_key, n.item_key,
                    recdb.signed_power(n.weight, m.people_weight_exponent) as position,
                    recdb.signed_power(n.weight, m.neighbor_weight_exponent) as liking
                from recdb.user_item_recent n
                where n.user_key = any (block) and n.weight <> 0 and n.position <= m.profile_limit
            ) s
        ), folded as (
            select i.model_id, i.user_key, array_agg(i.item_key) as item_keys,
                array_agg(case when abs(i.liking) > 1e-30 then i.liking else 0 end::real) as weights,
                sum(abs(i.liking)) as total_weight,
                recdb.unit(sum(recdb.scaled(v.embedding, i.position)) filter (where v.embedding is not null))::halfvec
                    as embedding
            from item i
            left join recdb.item_vector v on v.model_id = i.model_id and v.item_key = i.item_key
            group by i.model_id, i.user_key
        ), gone as (
            delete from recdb.user_vector v
            using recdb.model m
            where m.state = 'ready' and v.model_id = m.model_id and v.user_key = any (block)
              and not exists (
                  select from folded f
                  where f.model_id = v.model_id and f.user_key = v.user_key and f.embedding is not null)
        )
        insert into recdb.user_vector as v (model_id, user_key, embedding, item_keys, weights, total_weight)
        select f.model_id, f.user_key, f.embedding, f.item_keys, f.weights, f.total_weight
        from folded f
        where f.embedding is not null
        on conflict (model_id, user_key) do update
        set item_keys = excluded.item_keys, weights = excluded.weights, total_weight = excluded.total_weight,
            embedding = case when 1 - (v.embedding <=> excluded.embedding) < 0.9
                then excluded.embedding else v.embedding end;
    end loop;
end
$$;
comment on function recdb.refresh_vectors(integer[]) is
    'Brings the vectors of the given users up to date in every kept model version, where they have moved.';


-- recdb.refresh_changed: what CALL refresh() does, in one transaction, as recdb's owner.
--   returns  false where another refresh is running
create or replace function recdb.refresh_changed()
returns boolean
language plpgsql volatile security definer
set search_path from current
as $$
declare
    began constant timestamptz := clock_timestamp();
    horizon constant xid8 := pg_snapshot_xmin(pg_current_snapshot());
    last record;
    changed text[];
    user_keys integer[];
    written bigint;
begin
    if not pg_try_advisory_xact_lock(recdb.refresh_lock()) then
        raise notice 'another refresh is running: nothing done';
        return false;
    end if;
    select l.seen, l.started_at, l.cluster into last
    from recdb.refresh_log l
    where l.seen is not null and l.error is null
    order by l.run_id desc
    limit 1;
    if last.seen is null or last.cluster is distinct from recdb.cluster()
        or last.seen > pg_snapshot_xmax(pg_current_snapshot())
    then
        -- Never refreshed, or restored into another cluster, whose transactions are numbered anew.
        perform recdb.rebuild();
        return true;
    end if;

    select coalesce(array_agg(distinct s.user_id), '{}') into changed
    from recdb.users_since(last.seen, last.started_at - interval '10 minutes') s;
    insert into recdb.user_key (user_id)
    select c.user_id from unnest(changed) c(user_id)
    where not exists (select from recdb.user_key u where u.user_id = c.user_id)
      and octet_length(c.user_id) <= 2600
    order by c.user_id;
    select coalesce(array_agg(u.user_key order by u.user_key), '{}') into user_keys
    from recdb.user_key u
    where u.user_id = any (changed);
    written := recdb.refresh_items(user_keys);
    perform recdb.refresh_vectors(user_keys);
    insert into recdb.refresh_log (kind, started_at, finished_at, users, rows, seen, cluster)
    values ('refresh', began, clock_timestamp(), cardinality(user_keys), written, horizon, recdb.cluster());
    return true;
end
$$;
comment on function recdb.refresh_changed() is 'The work of recdb.refresh(), in one transaction; false where another one is running.';


-- recdb.sum_popularity: popularity from scratch; readers see the old until all of it is there.
create or replace function recdb.sum_popularity()
returns void
language plpgsql volatile
as $$
begin
    delete from recdb.item_popularity;
    insert into recdb.item_popularity (item_key, item_id, total, users)
    select s.item_key, t.item_id, s.total, s.users
    from (
        select w.item_key, sum(greatest(w.weight, 0)) as total, count(*) as users
        from recdb.user_item w
        group by w.item_key
    ) s
    join recdb.item_key t on t.item_key = s.item_key
    order by s.item_key;
end
$$;
comment on function recdb.sum_popularity() is 'Sums popularity up from the weighted interactions.';


-- recdb.rebuild: the weighted interactions from scratch: catches deleted rows, changed weights and half-lives.
--   writes  config.decay_origin too, where the newest interaction is more than a half-life away from it: so new ones
--           always weigh about what their kinds do, in old data as after years of running, and mostly no row changes
create or replace function recdb.rebuild()
returns void
language plpgsql volatile security definer
set search_path from current
as $$
declare
    began constant timestamptz := clock_timestamp();
    horizon xid8;
    written bigint;
begin
    perform pg_advisory_xact_lock(recdb.refresh_lock());
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    perform recdb.lift_tombstones();
    perform recdb.assign_keys();
    -- A table of one row that was never analysed counts as a thousand, and the plan below drowns in them.
    analyze recdb.user_key, recdb.item_key, recdb.config, recdb.interaction_kind, recdb.forgotten_user;
    update recdb.config c set decay_origin = i.newest
    from (
        select max(least(e.created_at, now())) as newest
        from recdb.interactions e
        where isfinite(e.created_at) and (select f.half_life is not null from recdb.config f)
    ) i
    where abs(date_part('epoch', i.newest) - date_part('epoch', c.decay_origin)) > date_part('epoch', c.half_life);
    if exists (select from recdb.user_item_settled) then
        refresh materialized view concurrently recdb.user_item_settled;
    else
        refresh materialized view recdb.user_item_settled;
    end if;
    delete from recdb.user_item_recent;
    delete from recdb.recent_user;
    perform recdb.sum_popularity();
    select count(*) into written from recdb.user_item_settled;
    insert into recdb.refresh_log (kind, started_at, finished_at, users, rows, seen, cluster)
    values ('rebuild', began, clock_timestamp(), (select count(*) from recdb.user_key), written, horizon,
        recdb.cluster());
end
$$;
comment on function recdb.rebuild() is 'Builds the weighted interactions and popularity from scratch; readers go on meanwhile.';


-- recdb.log_failure: a row in refresh_log for a run that failed.
create or replace function recdb.log_failure(kind text, started_at timestamptz, error text)
returns void
language sql volatile security definer
set search_path from current
as $$
    insert into recdb.refresh_log (kind, started_at, finished_at, error)
    values (log_failure.kind, log_failure.started_at, clock_timestamp(), log_failure.error)
$$;
comment on function recdb.log_failure(text, timestamptz, text) is 'Writes a failed run into refresh_log.';


-- CALL recdb.refresh(): an invoker's procedure, because one that commits can be neither SECURITY DEFINER nor have
-- a SET clause. A failure is logged, committed and raised again; inside a caller's transaction, where nothing may
-- be committed, it is only raised.
create or replace procedure recdb.refresh()
language plpgsql
as $$
declare
    began constant timestamptz := clock_timestamp();
    failed boolean := false;
    state text;
    message text;
    details text;
begin
    begin
        perform recdb.refresh_changed();
    exception when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, details = pg_exception_detail;
        failed := true;
    end;
    if failed then
        -- A transaction that this very statement began may be committed; a caller's began before it. Where both began
        -- at once (several statements in one string) the commit fails, and the warning is what says why.
        if pg_catalog.transaction_timestamp() = pg_catalog.statement_timestamp() then
            perform recdb.log_failure('refresh', began, message);
            raise warning '%', message using errcode = state, detail = details;
            commit;
        end if;
        raise exception using errcode = state, message = message, detail = details;
    end if;
end
$$;
comment on procedure recdb.refresh() is
    'Brings weighted interactions, changed users'' vectors and popularity up to date; what a cron line or pg_cron calls.';
