-- An application's own tables. recdb keeps a query for each of them in recdb.attachment, which `recdb attach` wrote: it
-- leaves user_id and item_id in the table's own types, so that the table's indexes can be used. The functions here
-- write these queries into functions whose bodies are strings. PostgreSQL inlines such a function, but records nothing
-- that its body names: so the application may drop and alter its tables, and no `cascade` reaches recdb.


-- recdb.as_id: the SQL that turns a text into an id of another type.
--   parameters  parameter  an SQL expression of type text
--               type       the type of the ids
--   returns     an SQL expression, which is NULL, never an error, for a text that PostgreSQL would not write for such
--               an id; NULL for a type whose ids recdb cannot read
create or replace function recdb.as_id(parameter text, type regtype)
returns text
language sql immutable parallel safe
begin atomic
    -- The cast stands outside the case: inside, PostgreSQL would cast a constant, and fail, before it checks the
    -- condition.
    select case
        when as_id.type in ('text'::regtype, 'varchar'::regtype) then as_id.parameter
        when as_id.type = 'uuid'::regtype then
            format('(case when %1$s ~ ''^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$''::text then %1$s end)::uuid',
                as_id.parameter)
        when as_id.type in ('bigint'::regtype, 'integer'::regtype, 'smallint'::regtype) then
            -- Wide enough for all three: a column may become wider.
            format('(case when (case when %1$s ~ ''^(0|-?[1-9][0-9]{0,18})$''::text then %1$s end)::numeric'
                ' between ''-9223372036854775808''::numeric and ''9223372036854775807''::numeric'
                ' then %1$s end)::bigint', as_id.parameter)
    end;
end;
comment on function recdb.as_id(text, regtype) is
    'Internal: the SQL that turns a text into an id of a type; it is NULL for a text that is no such id.';


-- recdb.is_id: the SQL that compares ids with a text.
--   parameters  ids        an SQL expression of that type, such as a column
--               parameter  an SQL expression of type text
--               type       the type of the ids; NULL if it is not known
--   returns     a condition that an index of the ids serves. All types are exact: PostgreSQL parses the body of a
--               function that it inlines on the caller's search path, where another operator could fit better
create or replace function recdb.is_id(ids text, parameter text, type regtype)
returns text
language sql immutable parallel safe
begin atomic
    select coalesce(
        case when is_id.type not in ('text'::regtype, 'varchar'::regtype) then
            is_id.ids || ' = ' || recdb.as_id(is_id.parameter, is_id.type) end,
        is_id.ids || '::text = ' || is_id.parameter);
end;
comment on function recdb.is_id(text, text, regtype) is
    'Internal: the SQL that compares ids of a type with a text.';


-- recdb.as_time: the SQL that turns a time of any type into a timestamptz.
--   parameters  expression  an SQL expression of that type
--               type        timestamptz, timestamp or date
--               zone        the time zone of a time that has none
--   returns     an SQL expression. A date reaches further than a timestamp: one after the year 9999 is infinity
create or replace function recdb.as_time(expression text, type regtype, zone text default 'UTC')
returns text
language sql immutable parallel safe
begin atomic
    select case as_time.type
        when 'timestamptz'::regtype then as_time.expression
        when 'date'::regtype then
            format('(case when %1$s > date ''9999-12-31'' then ''infinity'' else %1$s end)::timestamp'
                ' at time zone %2$L::text', as_time.expression, as_time.zone)
        else format('%s::timestamp at time zone %L::text', as_time.expression, as_time.zone)
    end;
end;
comment on function recdb.as_time(text, regtype, text) is
    'Internal: the SQL that turns a time of type timestamptz, timestamp or date into a timestamptz; zone is the time '
    'zone of a time that has none.';


-- recdb.as_local: the SQL for the first time that a column of some type may show from a moment on.
--   parameters  expression  an SQL expression of type timestamptz: the moment
--               type, zone  as in as_time()
--   returns     an SQL expression of that type
-- Where a clock is put back, the hour before is shown twice. Then the first time is one that the clock shows after it
-- was put back, within the next three hours.
create or replace function recdb.as_local(expression text, type regtype, zone text default 'UTC')
returns text
language sql immutable parallel safe
begin atomic
    select case
        when as_local.type = 'timestamptz'::regtype then as_local.expression
        when as_local.zone = 'UTC' then
            format('(%s at time zone ''UTC''::text)::%s', as_local.expression, as_local.type)
        else
            format('least(%1$s at time zone %2$L::text, '
                '(%1$s + interval ''3 hours'') at time zone %2$L::text - interval ''3 hours'')::%3$s',
                as_local.expression, as_local.zone, as_local.type)
    end;
end;
comment on function recdb.as_local(text, regtype, text) is
    'Internal: the SQL for the first time that a column of some type may show from a moment on, in a time zone.';


-- recdb.column_type: the type of a column.
--   parameters  relation, name  the table or view and its column
--   returns     the type, for a domain its base type; NULL if there is no such column
--   reads       the system catalogues
create or replace function recdb.column_type(relation regclass, name text)
returns regtype
language sql stable parallel safe
begin atomic
    with recursive types as (
        select a.atttypid as type
        from pg_catalog.pg_attribute a
        where a.attrelid = column_type.relation and a.attname = column_type.name and a.attnum > 0 and not a.attisdropped
        union all
        select t.typbasetype from types s join pg_catalog.pg_type t on t.oid = s.type and t.typtype = 'd'
    )
    select s.type::regtype
    from types s
    join pg_catalog.pg_type t on t.oid = s.type and t.typtype <> 'd';
end;
comment on function recdb.column_type(regclass, text) is
    'Internal: the type of a column, for a domain its base type; NULL if there is no such column.';


-- recdb.mapped_type: the type of a column of an attached table.
--   parameters  relation  the table's name
--               name      the column as it was given to `recdb attach`, perhaps in double quotes
--   returns     the type; NULL if the table or the column is gone
create or replace function recdb.mapped_type(relation text, name text)
returns regtype
language sql stable
begin atomic
    select coalesce(
        recdb.column_type(to_regclass(mapped_type.relation), mapped_type.name),
        recdb.column_type(to_regclass(mapped_type.relation), btrim(mapped_type.name, '"')));
end;
comment on function recdb.mapped_type(text, text) is
    'Internal: the type of a column of an attached table; NULL if the table or the column is gone.';


-- recdb.is_number: whether a type holds numbers, as the column of --value has to.
--   parameters  type  the type, for a domain its base type
--   returns     true or false; NULL for NULL
create or replace function recdb.is_number(type regtype)
returns boolean
language sql immutable parallel safe
begin atomic
    select is_number.type in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype,
        'real'::regtype, 'double precision'::regtype);
end;
comment on function recdb.is_number(regtype) is
    'Internal: whether a type holds numbers, as the column of --value has to.';


-- recdb.element_type: the type of the elements of an array.
--   parameters  type  a type
--   returns     the type of its elements; the type itself if it is no array; NULL for NULL
--   reads       the system catalogues
create or replace function recdb.element_type(type regtype)
returns regtype
language sql stable
begin atomic
    select case t.typcategory when 'A' then t.typelem else t.oid end::regtype
    from pg_catalog.pg_type t
    where t.oid = element_type.type;
end;
comment on function recdb.element_type(regtype) is
    'Internal: the type of the elements of an array; of any other type, the type itself.';


-- recdb.write_body: give a function another body, unless it has this body already.
--   parameters  target    the function
--               settings  what stands between its result and its body
--               body      SQL
--   returns     whether the body changed
--   writes      the function. PostgreSQL does not check the body, which may name a table that is gone
create or replace function recdb.write_body(target regprocedure, settings text, body text)
returns boolean
language plpgsql volatile
set search_path from current
set check_function_bodies = off
as $$
begin
    if (select p.prosrc = body from pg_catalog.pg_proc p where p.oid = target) then
        return false;
    end if;
    perform recdb.keep_definitions_here();
    execute format('create or replace function recdb.%I(%s) returns %s %s as %L',
        (select p.proname from pg_catalog.pg_proc p where p.oid = target),
        pg_get_function_arguments(target), pg_get_function_result(target), settings, body);
    return true;
end
$$;
comment on function recdb.write_body(regprocedure, text, text) is
    'Internal: gives a function another body, unless it has this body already; whether it changed.';


-- recdb.combine_interactions: write attached_interactions(), interactions_of(), interactions_between() and
-- users_since() again, over recdb's own store and every table that is attached as interactions and can be read.
--   returns     whether anything changed
--   reads       attachment, and the types of the columns of the attached tables
--   writes      the bodies of these functions
-- A row without a time has the time at which its table was attached, and is in no span of interactions_between(), which
-- compares the column itself first, for its index: a clock that is put back shows no time that is a day ahead. A time
-- without time zone is read in the mapping's time zone, else as UTC. The rows of forgotten users are left out; if
-- nobody was forgotten, this costs one look at an empty table. New rows of recdb's own store are between two bounds, of
-- which the second holds for every row: then PostgreSQL expects few rows, also of a table without statistics.
create or replace function recdb.combine_interactions()
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    source record;
    moment text;
    bound text;
    everything text[] := '{}';
    of_user text[] := array['select i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.user_id = interactions_of.user_id'];
    between_times text[] := array['select i.user_id, i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.created_at >= interactions_between.since and i.created_at <= interactions_between.until'];
    since text[] := array['select distinct i.user_id
        from recdb.interaction i
        where i.recorded_in::text::bigint between users_since.seen::text::bigint and 9223372036854775807
          -- A larger number: a row restored from a server that has numbered more transactions. A rebuild reads it.
          and (i.recorded_in < pg_snapshot_xmax(pg_current_snapshot())
              or i.recorded_in = pg_current_xact_id_if_assigned())'];
    forgotten constant text := 'exists (select from recdb.forgotten_user f where f.user_digest = sha256(
                (select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(%s, ''UTF8''::name))))';
    changed boolean[];
begin
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
            select s.item_id::text collate "default", s.kind, %s, s.value
            from (%s) s
            where %s
              and not %s', moment, source.query, source.is_user, format(forgotten, 'interactions_of.user_id'));
        between_times := between_times || format('
            select s.user_id::text collate "default", s.item_id::text collate "default", s.kind, %1$s, s.value
            from (%2$s) s
            where s.created_at >= %3$s and s.created_at <= %4$s
              and %1$s between interactions_between.since and interactions_between.until
              and (not exists (select from recdb.forgotten_user) or not %5$s)',
            moment, source.query, replace(bound, 'users_since.', 'interactions_between.'),
            recdb.as_local('(interactions_between.until + interval ''1 day'')', source.time_type, source.zone),
            format(forgotten, 's.user_id::text'));
        since := since || format('
            select s.user_id::text
            from (%s) s
            where s.created_at >= %s
              and (not exists (select from recdb.forgotten_user)
                or not %s)', source.query, bound, format(forgotten, 's.user_id::text'));
    end loop;

    changed := array[
        recdb.write_body('recdb.attached_interactions()', 'language sql stable parallel safe', case
            when everything = '{}' then 'select null::text, null::text, null::text, null::timestamptz, '
                'null::double precision where false'
            else array_to_string(everything, ' union all ') end),
        recdb.write_read_interactions(),
        recdb.write_sums(),
        recdb.write_reader('recdb.interactions_of(text)', of_user),
        recdb.write_reader_of_users(of_user),
        recdb.write_reader('recdb.interactions_between(timestamptz, timestamptz)', between_times),
        recdb.write_reader('recdb.users_since(xid8, timestamptz)', since)];
    return true = any (changed);
end
$$;
comment on function recdb.combine_interactions() is
    'Internal: writes attached_interactions(), interactions_of(), interactions_between() and users_since() again, over '
    'recdb''s own store and the attached tables; whether anything changed.';


-- recdb.combine_items: write read_items() and read_item() again, over every table that is attached as items and can be
-- read, and recdb's own catalogue.
--   returns     whether anything changed
--   reads       attachment, and the types of the columns of the attached tables
--   writes      the bodies of these functions
-- If several tables have an item, the table that was attached first counts, and recdb's own catalogue counts last. An
-- embedding that `recdb embed` made counts where the catalogue has none, but for no item of a table that was attached
-- with a column of embeddings: they would not compare with those of that column. A caller who does not ask for
-- embeddings reads none. A downgrade cuts out what stands between `embedding:` and `end`.
create or replace function recdb.combine_items()
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    source record;
    everything text := '';
    of_item text := '';
    taken text := '';
    taken_of text := '';
    made constant text := '/* embedding: */ coalesce(%s,
                (select e.embedding from recdb.item_embedding e where e.item_id = %s)) as embedding /* end */';
    own constant text := format(made, 'recdb.clean_embedding(i.embedding::real[])', 'i.item_id');
    changed boolean[];
begin
    for source in
        select t.query,
            recdb.is_id('s.item_id', 'i.item_id::text', t.type) as is_taken,
            recdb.is_id('s.item_id', 'read_item.item_id', t.type) as is_taken_of,
            recdb.is_id('i.item_id', 'read_item.item_id', t.type) as is_item,
            case when t.brings_embeddings
                then format('/* embedding: */ %s as embedding /* end */',
                    coalesce(recdb.as_embedding('i.embedding', t.embedding_type), 'null::real[]'))
                else format(made, 'null::real[]', 'i.item_id::text') end as embedding
        from (
            select a.attachment_id, a.query,
                coalesce(recdb.mapped_type(a.relation, a.mapping ->> 'item'), 'text'::regtype) as type,
                a.mapping ->> 'embedding' is not null as brings_embeddings,
                recdb.mapped_type(a.relation, a.mapping ->> 'embedding') as embedding_type
            from recdb.attachment a
            where a.role = 'items' and a.state = 'read' and a.query is not null
        ) t
        order by t.attachment_id
    loop
        everything := everything || format('
            select i.item_id::text collate "default" as item_id,
                i.owner_id, i.published_at, i.available, i.attributes, i.title,
                %s
            from (%s) i
            where true %s
            union all', source.embedding, source.query, taken);
        of_item := of_item || format('
            select i.item_id::text collate "default", i.owner_id, i.published_at, i.available, i.attributes, i.title,
                %s
            from (%s) i
            where %s %s
            union all', source.embedding, source.query, source.is_item, taken_of);
        taken := taken || format('
            and not exists (select from (%s) s where %s)', source.query, source.is_taken);
        taken_of := taken_of || format('
            and not exists (select from (%s) s where %s)', source.query, source.is_taken_of);
    end loop;

    changed := array[
        recdb.write_body('recdb.read_items()', 'language sql stable parallel safe', format('%s
            select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title,
                %s
            from recdb.item i %s', everything, own, regexp_replace(taken, '^[[:space:]]*and', ' where'))),
        recdb.write_body('recdb.read_item(text)', 'language sql stable parallel safe', format('%s
            select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title,
                %s
            from recdb.item i
            where i.item_id = read_item.item_id %s', of_item, own, taken_of))];
    return true = any (changed);
end
$$;
comment on function recdb.combine_items() is
    'Internal: writes read_items() and read_item() again, over the attached tables and recdb''s own catalogue; the row '
    'of an attached table replaces the row of the same item in recdb''s own catalogue. Whether anything changed.';
