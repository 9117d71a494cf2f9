-- An application's own tables. `recdb attach` makes a view recdb.attached_N for each of them; N is its attachment_id in
-- recdb.attachment. The view leaves user_id and item_id in the table's own types, so that the table's indexes can be
-- used, and it follows a table or column that is renamed. The functions here add these views to recdb's own store.


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
            format('(case when %1$s ~ ''^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'' then %1$s end)::uuid',
                as_id.parameter)
        when as_id.type in ('bigint'::regtype, 'integer'::regtype, 'smallint'::regtype) then
            format('(case when %1$s ~ ''^(0|-?[1-9][0-9]*)$'' and pg_input_is_valid(%1$s, %2$L) then %1$s end)::%2$s',
                as_id.parameter, as_id.type)
    end;
end;
comment on function recdb.as_id(text, regtype) is
    'Internal: the SQL that turns a text into an id of a type; it is NULL for a text that is no such id.';


-- recdb.as_time: the SQL that turns a time of any type into a timestamptz.
--   parameters  expression  an SQL expression of that type
--               type        timestamptz, timestamp or date; without a time zone it is read as UTC
--   returns     an SQL expression. A date reaches further than a timestamp: one after the year 9999 is infinity
create or replace function recdb.as_time(expression text, type regtype)
returns text
language sql immutable parallel safe
begin atomic
    select case as_time.type
        when 'timestamptz'::regtype then as_time.expression
        when 'date'::regtype then
            format('(case when %1$s > date ''9999-12-31'' then ''infinity'' else %1$s end)::timestamp'
                ' at time zone ''UTC''', as_time.expression)
        else format('%s::timestamp at time zone ''UTC''', as_time.expression)
    end;
end;
comment on function recdb.as_time(text, regtype) is
    'Internal: the SQL that turns a time of type timestamptz, timestamp or date into a timestamptz.';


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


-- recdb.combine_interactions: define all_interactions, interactions_of() and users_since() again, over recdb's own
-- store and every view that is attached as interactions.
--   reads       attachment, and the column types of the views attached_N
--   writes      the definitions of the view all_interactions and of the functions interactions_of() and users_since()
-- A row without a time has the time at which its table was attached. A timestamp without time zone is read as UTC. The
-- rows of forgotten users are left out; if nobody was forgotten, this costs one look at an empty table. The view
-- interactions, which leaves out the users of ignored_user, reads all_interactions and stays as it is.
create or replace function recdb.combine_interactions()
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    source record;
    moment text;
    bound text;
    everything text := '';
    of_user text := '';
    since text := '';
begin
    for source in
        select v.view, t.attached_at, recdb.column_type(v.view, 'created_at') as time_type,
            recdb.as_id('interactions_of.user_id', recdb.column_type(v.view, 'user_id')) as id,
            -- A table that an older recdb attached has no such column.
            case when recdb.column_type(v.view, 'value') is null then 'null::double precision' else 's.value' end
                as value
        from recdb.attachment t
        cross join lateral (select format('recdb.attached_%s', t.attachment_id)::regclass as view) v
        where t.role = 'interactions'
        order by t.attachment_id
    loop
        bound := case source.time_type
            when 'timestamptz'::regtype then 'users_since.since'
            else format('(users_since.since at time zone ''UTC'')::%s', source.time_type) end;
        moment := format('coalesce(%s, %L::timestamptz)',
            recdb.as_time('s.created_at', source.time_type), source.attached_at);

        everything := everything || format('
            union all
            select s.user_id::text collate "default", s.item_id::text collate "default", s.kind, %2$s, %3$s
            from %1$s s
            where not exists (select from recdb.forgotten_user)
               or not exists (
                   select from recdb.forgotten_user f where f.user_digest = sha256((select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(s.user_id::text, ''UTF8''))))', source.view, moment, source.value);
        of_user := of_user || format('
            union all
            select s.item_id::text collate "default", s.kind, %3$s, %4$s
            from %1$s s
            where s.user_id = %2$s
              and not exists (
                  select from recdb.forgotten_user f where f.user_digest = sha256((select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(interactions_of.user_id, ''UTF8''))))', source.view, source.id, moment, source.value);
        since := since || format('
            union
            select s.user_id::text
            from %1$s s
            where s.created_at >= %2$s
              and (not exists (select from recdb.forgotten_user)
                or not exists (
                    select from recdb.forgotten_user f
                    where f.user_digest = sha256((select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(s.user_id::text, ''UTF8'')))))', source.view, bound);
    end loop;

    execute format('
        create or replace view recdb.all_interactions as
        select i.user_id, i.item_id, i.kind, i.created_at, i.value from recdb.interaction i %s', everything);
    execute format('
        create or replace function recdb.interactions_of(user_id text)
        returns table (item_id text, kind text, created_at timestamptz, value double precision)
        language sql stable parallel safe
        begin atomic
            select i.item_id, i.kind, i.created_at, i.value
            from recdb.interaction i
            where i.user_id = interactions_of.user_id %s;
        end', of_user);
    execute format('
        create or replace function recdb.users_since(seen xid8, since timestamptz)
        returns table (user_id text)
        language sql stable
        begin atomic
            select distinct i.user_id
            from recdb.interaction i
            where i.recorded_in >= users_since.seen
              and (i.recorded_in < pg_snapshot_xmax(pg_current_snapshot())
                  or i.recorded_in = pg_current_xact_id_if_assigned()) %s;
        end', since);
end
$$;
comment on function recdb.combine_interactions() is
    'Internal: defines all_interactions, interactions_of() and users_since() again, over recdb''s own store and the '
    'attached tables.';


-- recdb.combine_items: define items and item_of() again, over every view that is attached as items and recdb's own
-- catalogue.
--   reads       attachment, and the column types of the views attached_N
--   writes      the definitions of the view items and of the function item_of()
-- If several tables have an item, the table that was attached first counts, and recdb's own catalogue counts last.
create or replace function recdb.combine_items()
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    source record;
    everything text := '';
    of_item text := '';
    taken text := '';
    taken_of text := '';
begin
    for source in
        select v.view, v.type, recdb.as_id('item_of.item_id', v.type) as id
        from (
            select a.attachment_id, a.view, recdb.column_type(a.view, 'item_id') as type
            from (
                select t.attachment_id, format('recdb.attached_%s', t.attachment_id)::regclass as view
                from recdb.attachment t
                where t.role = 'items'
            ) a
        ) v
        order by v.attachment_id
    loop
        everything := everything || format('
            select i.item_id::text collate "default" as item_id,
                i.owner_id, i.published_at, i.available, i.attributes, i.title
            from %s i
            where true %s
            union all', source.view, taken);
        of_item := of_item || format('
            select i.item_id::text collate "default", i.owner_id, i.published_at, i.available, i.attributes, i.title
            from %s i
            where i.item_id = %s %s
            union all', source.view, source.id, taken_of);
        taken := taken || format('
            and not exists (select from %s s where s.item_id = %s)',
            source.view, recdb.as_id('i.item_id::text', source.type));
        taken_of := taken_of || format('
            and not exists (select from %s s where s.item_id = %s)', source.view, source.id);
    end loop;

    execute format('
        create or replace view recdb.items as %s
        select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title
        from recdb.item i %s', everything, regexp_replace(taken, '^[[:space:]]*and', ' where'));
    execute format('
        create or replace function recdb.item_of(item_id text)
        returns table (
            item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text
        )
        language sql stable parallel safe
        begin atomic %s
            select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title
            from recdb.item i
            where i.item_id = item_of.item_id %s;
        end', of_item, taken_of);
end
$$;
comment on function recdb.combine_items() is
    'Internal: defines items and item_of() again, over the attached tables and recdb''s own catalogue; the row of an '
    'attached table replaces the row of the same item in recdb''s own catalogue.';
