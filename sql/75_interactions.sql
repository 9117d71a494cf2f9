-- The functions that read interactions, over recdb's own store and the attached tables: their texts are made here.


-- recdb.own_readers: the beginnings of the functions that read interactions, which read recdb's own store.
--   parameters  spread  whether Citus has spread the store
--   returns     the texts that combine_interactions() goes on with: of_user, between_times and since; counted is the
--               whole text of read_interactions()
-- Citus plans a query before PostgreSQL inlines a function: where the store is spread, an inlined one would read no row.
-- Each of its nodes numbers transactions apart: so the bounds of since are values, and rows that were written through
-- another node are found by their time.
create or replace function recdb.own_readers(
    spread boolean, out of_user text, out between_times text, out since text, out counted text
)
language sql immutable
as $$
    select '
#variable_conflict use_column
begin
    return query
        select i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.user_id = interactions_of.user_id;',
    '
#variable_conflict use_column
begin
    return query
        select i.user_id, i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.created_at >= interactions_between.since and i.created_at <= interactions_between.until;',
    '
#variable_conflict use_column
declare
    next constant xid8 := pg_snapshot_xmax(pg_current_snapshot());
    own constant xid8 := pg_current_xact_id_if_assigned();
begin
    return query
        select distinct i.user_id
        from recdb.interaction i
        where i.recorded_in >= users_since.seen
          -- A larger number: a row restored from a server that has numbered more transactions. A rebuild reads it.
          and (i.recorded_in < next or i.recorded_in = own);' || case when own_readers.spread then '
    return query
        select distinct i.user_id
        from recdb.interaction i
        where i.created_at >= users_since.since;' else '' end,
    case when own_readers.spread then '
#variable_conflict use_column
declare
    ignored constant text[] := array(select g.user_id from recdb.ignored_user g);
begin
    return query
        select i.user_id, i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.user_id <> all (ignored);
    return query
        select s.user_id, s.item_id, s.kind, s.created_at, s.value
        from recdb.attached_interactions() s
        where s.user_id <> all (ignored);
end'
    else '
        select a.user_id, a.item_id, a.kind, a.created_at, a.value
        from (
            select i.user_id, i.item_id, i.kind, i.created_at, i.value from recdb.interaction i
            union all
            select s.user_id, s.item_id, s.kind, s.created_at, s.value from recdb.attached_interactions() s
        ) a
        where not exists (select from recdb.ignored_user g where g.user_id = a.user_id)'
    end
$$;
comment on function recdb.own_readers(boolean) is
    'Internal: the beginnings of the functions that read interactions, which read recdb''s own store.';


-- recdb.combine_interactions: write attached_interactions(), interactions_of(), interactions_between() and
-- users_since() again, over recdb's own store and every table that is attached as interactions and can be read.
--   returns     whether anything changed
--   reads       attachment, and the types of the columns of the attached tables
--   writes      the bodies of these functions
-- A row without a time has the time at which its table was attached, and is in no span of interactions_between(), which
-- compares the column itself first, for its index: a clock that is put back shows no time that is a day ahead. A time
-- without time zone is read in the mapping's time zone, else as UTC. The rows of forgotten users are left out; if
-- nobody was forgotten, this costs one look at an empty table.
create or replace function recdb.combine_interactions()
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    spread constant boolean := recdb.is_distributed(to_regclass('recdb.interaction'));
    source record;
    moment text;
    bound text;
    everything text[] := '{}';
    of_user text;
    between_times text;
    since text;
    counted text;
    forgotten constant text := 'exists (select from recdb.forgotten_user f where f.user_digest = sha256(
                (select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(%s, ''UTF8''::name))))';
    -- A parallel worker cannot ask another node. The comment tells write_body() that the function is another one.
    safety constant text := case when spread then 'stable' else 'stable parallel safe' end;
    ending constant text := case when spread then E'\nend -- on Citus\n' else E'\nend\n' end;
    changed boolean[];
begin
    select r.* into of_user, between_times, since, counted from recdb.own_readers(spread) r;
    for source in
        select t.query, t.attached_at, coalesce(t.mapping ->> 'timezone', 'UTC') as zone,
            coalesce(recdb.mapped_type(t.relation, t.mapping ->> 'at'), 'timestamptz'::regtype) as time_type,
            recdb.is_id('s.user_id', 'interactions_of.user_id', recdb.mapped_type(t.relation, t.mapping ->> 'user'))
                as is_user
        from recdb.attachment t
        where t.role = 'interactions' and t.state = 'read' and t.query is not null
        order by t.attachment_id
    loop
        bound := recdb.as_local('users_since.since', source.time_type, source.zone);
        moment := format('coalesce(%s, %L::timestamptz)',
            recdb.as_time('s.created_at', source.time_type, source.zone), source.attached_at);

        everything := everything || format('
            select s.user_id::text collate "default", s.item_id::text collate "default", s.kind, %s, s.value
            from (%s) s
            where not exists (select from recdb.forgotten_user)
               or not %s', moment, source.query, format(forgotten, 's.user_id::text'));
        of_user := of_user || format('
    return query
            select s.item_id::text collate "default", s.kind, %s, s.value
            from (%s) s
            where %s
              and not %s;', moment, source.query, source.is_user, format(forgotten, 'interactions_of.user_id'));
        between_times := between_times || format('
    return query
            select s.user_id::text collate "default", s.item_id::text collate "default", s.kind, %1$s, s.value
            from (%2$s) s
            where s.created_at >= %3$s and s.created_at <= %4$s
              and %1$s between interactions_between.since and interactions_between.until
              and (not exists (select from recdb.forgotten_user) or not %5$s);',
            moment, source.query, replace(bound, 'users_since.', 'interactions_between.'),
            recdb.as_local('(interactions_between.until + interval ''1 day'')', source.time_type, source.zone),
            format(forgotten, 's.user_id::text'));
        since := since || format('
    return query
            select distinct s.user_id::text
            from (%s) s
            where s.created_at >= %s
              and (not exists (select from recdb.forgotten_user)
                or not %s);', source.query, bound, format(forgotten, 's.user_id::text'));
    end loop;

    changed := array[
        recdb.write_body('recdb.attached_interactions()', 'language sql stable parallel safe', case
            when everything = '{}' then 'select null::text, null::text, null::text, null::timestamptz, '
                'null::double precision where false'
            else array_to_string(everything, ' union all ') end),
        recdb.write_body('recdb.read_interactions()', case when spread then 'language plpgsql stable rows 1000000'
            else 'language sql stable parallel safe' end, counted),
        recdb.write_body('recdb.interactions_of(text)',
            format('language plpgsql %s rows 50 set plan_cache_mode = auto', safety), of_user || ending),
        recdb.write_body('recdb.interactions_between(timestamptz, timestamptz)',
            format('language plpgsql %s set plan_cache_mode = auto', safety), between_times || ending),
        recdb.write_body('recdb.users_since(xid8, timestamptz)', 'language plpgsql stable', since || ending)];
    return true = any (changed);
end
$$;
comment on function recdb.combine_interactions() is
    'Internal: writes attached_interactions(), interactions_of(), interactions_between() and users_since() again, over '
    'recdb''s own store and the attached tables; whether anything changed.';
