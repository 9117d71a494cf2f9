-- What an application may have done to its tables, to pgvector and to what depends on these; until `recdb init` has
-- repaired it, the calls say so.


-- recdb.vector_schema: the schema of pgvector that the functions of recdb name.
--   returns     its name, quoted for SQL, as of the last `recdb init`
create or replace function recdb.vector_schema()
returns text
language sql immutable parallel safe
begin atomic
    select '@vector@'::text;
end;
comment on function recdb.vector_schema() is
    'Internal: the schema of pgvector that recdb''s functions name, as of the last `recdb init`.';


-- recdb.vector_dimension: the width of the vector columns, which `recdb init` needs if the columns are gone.
--   returns     the width that the first install set
create or replace function recdb.vector_dimension()
returns integer
language sql immutable parallel safe
begin atomic
    select @dimension@;
end;
comment on function recdb.vector_dimension() is
    'Internal: the width of the vector columns, which the first install set.';


-- recdb.source_problem: why recdb cannot read an attached table.
--   parameters  source  a row of attachment
--   returns     the reason; NULL if recdb can read the table
--   reads       the table: no row of it
create or replace function recdb.source_problem(source recdb.attachment)
returns text
language plpgsql stable
set search_path from current
as $$
declare
    key constant text := case source.role when 'items' then 'item' else 'user' end;
    renamed text;
    foreign_view text;
    moment regtype;
    amount regtype;
begin
    if to_regclass(source.relation) is null then
        select format('%I.%I', n.nspname, c.relname) into renamed
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = any (source.seen) and not format('%I.%I', n.nspname, c.relname) = any (source.reads)
        limit 1;
        return 'there is no such table' || coalesce(', which may be called ' || renamed || ' now', '');
    elsif source.query is null then
        return 'its columns are not known any more: attach it again';
    end if;
    select f.view::text into foreign_view
    from unnest(source.reads) r(name)
    cross join lateral recdb.foreign_views(to_regclass(r.name)) f(view)
    limit 1;
    if found then
        return format('%s belongs to a role that is not recdb''s owner', foreign_view);
    end if;
    if recdb.spread_source(source) is not null then
        return format('Citus has spread %s over its nodes, and recdb reads tables of the coordinator only',
            recdb.spread_source(source));
    end if;
    moment := recdb.mapped_type(source.relation, source.mapping ->> 'at');
    if source.role <> 'items' and moment not in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
    then
        return format('column %s is of type %s, which is no time', source.mapping ->> 'at', moment);
    end if;
    amount := recdb.mapped_type(source.relation, source.mapping ->> 'value');
    if source.role = 'interactions' and not recdb.is_number(amount) then
        return format('column %s is of type %s, which is not a number', source.mapping ->> 'value', amount);
    elsif source.role = 'impressions' then
        return recdb.impressions_problem(source);
    elsif source.role = 'items' then  -- in the types that the functions return
        execute format('
            select s.owner_id, s.published_at, s.available, s.attributes, s.title from (%s) s
            union all
            select null::text, null::timestamptz, null::boolean, null::jsonb, null::text
            limit 0', source.query);
    end if;
    execute format('select s.* from (%s) s limit 0', source.query);
    if recdb.as_id('', recdb.mapped_type(source.relation, source.mapping ->> key)) is null then
        return format('column %s is of type %s, which recdb does not read as ids', source.mapping ->> key,
            recdb.mapped_type(source.relation, source.mapping ->> key));
    end if;
    return null;
exception
    when lock_not_available or deadlock_detected then
        raise;
    when others then
        return sqlerrm;
end
$$;
comment on function recdb.source_problem(recdb.attachment) is
    'Internal: why recdb cannot read an attached table; NULL if it can.';


-- recdb.review_sources: look at every attached table again.
--   parameters  give_up  what happens to a table that recdb cannot read. True: it is read without the columns that only
--                        describe an item; or it becomes missing, and its rows no longer count. False: nothing, the
--                        caller raises an error
--   returns     one row for each table that is read in another way now: the new state, and the reason why it is missing
--               or what it is read without
--   writes      attachment; the functions that read the sources, if a table came or went, or the type of a column
--               changed; config.listed_only, which would hide every item once the application dropped its catalogue.
--               It stays while a catalogue is there that recdb cannot read: nobody knows which items that one hides
create or replace function recdb.review_sources(give_up boolean)
returns table (relation text, role text, state text, problem text)
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    source recdb.attachment;
    tried recdb.attachment;
    reason text;
    lost text;
    less text;
    found_state text;
begin
    for source in select a.* from recdb.attachment a order by a.attachment_id loop
        tried := source;
        tried.query := coalesce(source.whole_query, source.query);
        tried.whole_query := null;
        reason := recdb.source_problem(tried);
        if reason is not null then
            select f.query, f.lost into less, lost from recdb.fewer_columns(tried) f;
            if give_up or source.state = 'missing' or less = source.query then
                tried.whole_query := tried.query;
                tried.query := less;
                if recdb.source_problem(tried) is null then
                    reason := null;
                end if;
            end if;
        end if;
        found_state := case when reason is null then 'read' when give_up then 'missing' else source.state end;
        if reason is null then
            update recdb.attachment a
            set seen = recdb.current_oids(a.reads), query = tried.query, whole_query = tried.whole_query
            where a.attachment_id = source.attachment_id
              and (a.seen <> recdb.current_oids(a.reads) or a.query is distinct from tried.query);
        end if;
        if found_state <> source.state or reason is null and tried.query <> source.query then
            update recdb.attachment a set state = found_state, changed_at = clock_timestamp()
            where a.attachment_id = source.attachment_id;
            return query select source.relation, source.role, found_state,
                coalesce(reason, case when tried.whole_query is not null then lost end);
        end if;
    end loop;
    perform recdb.combine_interactions(), recdb.combine_items();

    if exists (select from recdb.attachment a where recdb.may_hide(a)) then
        update recdb.config c set listed_only = true
        where exists (select from recdb.attachment a where a.listed_only and recdb.may_hide(a));
        update recdb.attachment a set listed_only = false where a.listed_only and recdb.may_hide(a);
    elsif not exists (select from recdb.item) then
        update recdb.attachment a set listed_only = true
        from recdb.config c
        where c.listed_only and a.role = 'items';
        update recdb.config c set listed_only = false
        where c.listed_only and exists (select from recdb.attachment a where a.listed_only);
    end if;
end
$$;
comment on function recdb.review_sources(boolean) is
    'Internal: looks at every attached table again: takes in those that are back, and with give_up leaves out those '
    'that recdb cannot read.';


-- recdb.current_oids: the tables that have some names now.
--   parameters  names  names of tables and views
--   returns     their oids, in the same order; 0 for a name that no table has
create or replace function recdb.current_oids(names text[])
returns oid[]
language sql stable
begin atomic
    select array(
        select coalesce(to_regclass(n.name)::oid, 0::oid)
        from unnest(current_oids.names) with ordinality n(name, place)
        order by n.place);
end;
comment on function recdb.current_oids(text[]) is
    'Internal: the oids of the tables and views with these names, 0 where there is none.';


-- recdb.check_sources: refuse to read a view that another role has put in the place of an attached table. Its functions
-- would run with the rights of recdb's owner.
--   reads       attachment; where a table is not the one that recdb looked at last, the system catalogues
--   errors      42501 for such a view
create or replace function recdb.check_sources()
returns void
language plpgsql stable
as $$
declare
    taken record;
begin
    if not exists (
        select from recdb.attachment a where a.state = 'read' and a.seen <> recdb.current_oids(a.reads))
    then
        return;
    end if;
    select a.relation, f.view::text as view, n.nspowner::regrole::text as owner into taken
    from recdb.attachment a
    join pg_catalog.pg_namespace n on n.nspname = 'recdb'
    cross join lateral unnest(a.reads) r(name)
    cross join lateral recdb.foreign_views(to_regclass(r.name)) f(view)
    where a.state = 'read'
    limit 1;
    if found then
        raise exception '%, which recdb reads, belongs to a role that is not recdb''s owner', taken.view
            using errcode = 'insufficient_privilege', hint = format(
                'Its functions would run with the rights of %2$s, who owns schema recdb. If they may: alter view %1$s '
                'owner to %2$s; else: recdb detach %3$s', taken.view, taken.owner, taken.relation);
    end if;
end
$$;
comment on function recdb.check_sources() is
    'Internal: error 42501 if another role has put a view in the place of an attached table.';


-- recdb.broken: what recdb cannot do without, and `recdb init` can repair.
--   returns     one row for each: pgvector is missing or has moved, a part of recdb is missing, or recdb cannot read an
--               attached table; and how to go on
--   reads       attachment, the system catalogues
create or replace function recdb.broken()
returns table (problem text, hint text)
language plpgsql stable
set search_path from current
as $$
declare
    lives_in text;
begin
    select n.nspname into lives_in
    from pg_catalog.pg_extension e
    join pg_catalog.pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'vector';
    return query
    select 'the extension vector (pgvector), which recdb needs, is missing',
        'Run: recdb init; then: recdb refresh, which trains a new model. No interaction is lost.'
    where lives_in is null
    union all
    select format('the extension vector (pgvector) has moved from schema %s to %I', recdb.vector_schema(), lives_in),
        'Run: recdb init'
    where lives_in <> btrim(recdb.vector_schema(), '"')
    union all
    select p.part || ' is missing', 'Run: recdb init; then: recdb refresh. No interaction is lost.'
    from recdb.missing_parts() p(part)
    where lives_in is not null
    union all
    select format('recdb cannot read %s, which is attached as %s: %s', s.relation, s.role, s.reason),
        format('If the table or its columns have other names now, attach it again: recdb attach. Or go on without '
            'it: recdb init, which takes it in again when it is back; or for good: recdb detach %s', s.relation)
    from (
        select a.relation, a.role, recdb.source_problem(a) as reason
        from recdb.attachment a
        where a.state = 'read'
        order by a.attachment_id
        offset 0
    ) s
    where s.reason is not null;
    if found or exists (select from recdb.missing_parts()) then
        return;
    end if;
    -- The queries work, but perhaps not what recdb compares with their columns. NULL finds no row, and looks for none.
    perform from recdb.interactions_of(null);
    perform from recdb.users_since(null, null);
    perform from recdb.interactions_between(null, null);
    perform from recdb.attached_interactions() limit 0;
    perform from recdb.read_item('') limit 0;
    perform from recdb.read_items() limit 0;
exception when syntax_error_or_access_rule_violation or invalid_schema_name then
    return query
    select 'a column of an attached table has another type now: ' || sqlerrm, 'Run: recdb refresh, or recdb init';
end
$$;
comment on function recdb.broken() is
    'The things that recdb needs and that something dropped or changed: pgvector, parts of recdb, attached tables; '
    'with the way to go on.';


-- recdb.refuse_broken: say what recdb cannot do without. Functions call it when one of their statements failed for a
-- missing table, column, type or function.
--   reads       broken()
--   errors      55000 with the first row of broken(), and 42501 as check_sources()
create or replace function recdb.refuse_broken()
returns void
language plpgsql stable
as $$
declare
    first record;
begin
    perform recdb.check_sources();
    select b.problem, b.hint into first from recdb.broken() b limit 1;
    if found then
        raise exception '%', first.problem using errcode = 'object_not_in_prerequisite_state', hint = first.hint;
    end if;
end
$$;
comment on function recdb.refuse_broken() is
    'Internal: error 55000 if pgvector, a part of recdb or an attached table is missing, with a hint how to go on.';


-- recdb.missing_parts: the tables, columns, views and functions that something dropped with `cascade`.
--   returns     their names
--   reads       the system catalogues
create or replace function recdb.missing_parts()
returns setof text
language sql stable
begin atomic
    select p.name
    from unnest(array[
        'recdb.user_item_settled', 'recdb.user_item', 'recdb.user_item_settled_key', 'recdb.interactions',
        'recdb.all_interactions', 'recdb.items', 'recdb.weighted_interactions']) p(name)
    where to_regclass(p.name) is null
    union all
    select p.name || '()'
    from unnest(array[
        'recdb.fold_in', 'recdb.nearest_users', 'recdb.nearest_items', 'recdb.scaled', 'recdb.unit',
        'recdb.profile', 'recdb.profile_of', 'recdb.rank_items', 'recdb.interactions_of', 'recdb.read_item',
        'recdb.read_items', 'recdb.users_since', 'recdb.interactions_between']) p(name)
    where not exists (
        select from pg_catalog.pg_proc f
        where f.pronamespace = 'recdb'::regnamespace and f.proname = split_part(p.name, '.', 2))
    union all
    select t.name || '.embedding'
    from unnest(array['recdb.user_vector', 'recdb.item_vector', 'recdb.item']) t(name)
    where recdb.column_type(to_regclass(t.name), 'embedding') is null;
end;
comment on function recdb.missing_parts() is
    'Internal: the parts of recdb that something dropped with cascade; `recdb init` makes them again.';


-- recdb.show_interactions: the interactions of the attached tables, for the views that analysts read.
--   returns     as attached_interactions(), with the rights of recdb's owner
--   errors      as refuse_broken()
create or replace function recdb.show_interactions()
returns table (user_id text, item_id text, kind text, created_at timestamptz, value double precision)
language plpgsql stable security definer
set search_path from current
as $$
begin
    perform recdb.check_sources();
    return query select s.user_id, s.item_id, s.kind, s.created_at, s.value from recdb.attached_interactions() s;
exception when others then
    perform recdb.refuse_unreadable(sqlstate);
    raise;
end
$$;
comment on function recdb.show_interactions() is
    'Internal: the interactions of the attached tables, for the views that analysts read.';


-- recdb.sources_changed: whether an attached table of interactions or items went missing or came back since the last
-- rebuild.
--   returns     true or false
--   reads       attachment, refresh_log
create or replace function recdb.sources_changed()
returns boolean
language plpgsql stable
as $$
begin
    return exists (
        select from recdb.attachment a
        where a.changed_at > a.attached_at and a.role <> 'impressions'
          and a.changed_at > coalesce(
              (select max(l.finished_at) from recdb.refresh_log l where l.kind = 'rebuild' and l.state = 'succeeded'),
              '-infinity'));
end
$$;
comment on function recdb.sources_changed() is
    'Internal: whether an attached table of interactions or items went missing or came back since the last rebuild.';
