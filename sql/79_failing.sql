-- Rows of attached tables that cannot be read: a cast in a view or in --value, a division, a function or a policy of
-- the application fails for one row. PostgreSQL's error names no table, so the functions here look for the row.


-- recdb.may_be_of_source: whether an expression of an attached table may have raised an error.
--   parameters  state  its SQLSTATE
--   returns     false for locks, lost connections, timeouts and resources, whose reason is elsewhere, and for errors
--               about arguments: a caller who errs must not make recdb read a whole table
create or replace function recdb.may_be_of_source(state text)
returns boolean
language sql immutable parallel safe
begin atomic
    select left(may_be_of_source.state, 2) not in ('08', '25', '40', '53', '55', '57', '58', 'XX')
        and may_be_of_source.state not in ('22023', '42704');
end;
comment on function recdb.may_be_of_source(text) is
    'Internal: whether an error with this SQLSTATE may come from an expression of an attached table.';


-- recdb.read_parts: what recdb reads of each row of an attached table.
--   parameters  source  a row of attachment
--   returns     the key of the mapping, and an SQL expression on a row s of the source's query
create or replace function recdb.read_parts(source recdb.attachment)
returns table (key text, expression text)
language sql stable
begin atomic
    select p.key, p.expression
    from (
        values
            (1, 'interactions', 'user', 's.user_id::text'),
            (2, 'interactions', 'item', 's.item_id::text'),
            (3, 'interactions', 'kind', 's.kind'),
            (4, 'interactions', 'at', recdb.as_time('s.created_at',
                coalesce(recdb.mapped_type((read_parts.source).relation, (read_parts.source).mapping ->> 'at'),
                    'timestamptz'::regtype),
                coalesce((read_parts.source).mapping ->> 'timezone', 'UTC'))),
            (5, 'interactions', 'value', 's.value'),
            (6, 'items', 'item', 's.item_id::text'),
            (7, 'items', 'owner', 's.owner_id'),
            (8, 'items', 'published', 's.published_at'),
            (9, 'items', 'available', 's.available'),
            (10, 'items', 'title', 's.title'),
            (11, 'items', 'attributes', 's.attributes'),
            (12, 'items', 'embedding', 's.embedding'),
            (13, 'impressions', 'user', 's.user_id::text'),
            (14, 'impressions', 'item', 's.item_id::text'),
            (15, 'impressions', 'at', recdb.as_time('s.shown_at',
                coalesce(recdb.mapped_type((read_parts.source).relation, (read_parts.source).mapping ->> 'at'),
                    'timestamptz'::regtype),
                coalesce((read_parts.source).mapping ->> 'timezone', 'UTC'))),
            (16, 'impressions', 'scenario', 's.scenario'),
            (17, 'impressions', 'place', 's.place'),
            (18, 'impressions', 'variant', 's.variant'),
            (19, 'impressions', 'propensity', 's.propensity'),
            (20, 'impressions', 'model-version', 's.model_version')
    ) p(place, role, key, expression)
    where p.role = (read_parts.source).role
      and (p.key <> 'embedding' or (read_parts.source).mapping ? 'embedding')  -- other queries have no such column
    order by p.place;
end;
comment on function recdb.read_parts(recdb.attachment) is
    'Internal: the parts of each row of an attached table, as recdb reads them.';


-- recdb.find_failure: read an attached table until a row fails.
--   parameters  source     a row of attachment
--               condition  SQL on a row s of its query: the rows to read
--               seconds    how long to read
--   returns     one row: how many rows were read, and whether these are all; where one fails, the SQLSTATE and the
--               message, the part of read_parts() that fails ('' for a condition, a join or a policy, which come before
--               all parts), and the ids of the row, unless they fail as well
-- It reads by the table's own order each time, so that the row that fails has the same number. A view with another
-- order may fail in another part; then the part is ''.
create or replace function recdb.find_failure(source recdb.attachment, condition text, seconds double precision)
returns table (rows bigint, complete boolean, state text, message text, part text, example text)
language plpgsql stable
set search_path from current
set max_parallel_workers_per_gather = 0
set synchronize_seqscans = off
as $$
#variable_conflict use_variable
declare
    until constant timestamptz := clock_timestamp() + make_interval(secs => seconds);
    beneath constant text := format('from (%s) s where %s', source.query, condition);
    everything constant text := (select string_agg(p.expression, ', ') from recdb.read_parts(source) p);
    moved bigint;
    reader refcursor;
    each record;
begin
    rows := 0;
    begin
        open reader for execute format('select %s %s', everything, beneath);
        loop
            move forward 1000 in reader;
            get diagnostics moved = row_count;
            rows := rows + moved;
            complete := moved < 1000;
            exit when complete or clock_timestamp() > until;
        end loop;
        close reader;
        return next;
        return;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text;
        if not recdb.may_be_of_source(state) then
            raise;
        end if;
    end;
    begin
        open reader for execute format('select %s %s', everything, beneath);
        move forward rows in reader;
        loop
            fetch reader into each;
            exit when not found;
            rows := rows + 1;
        end loop;
    exception when others then
        null;  -- the same error
    end;
    complete := false;
    part := '';
    for each in
        select 0 as place, '' as key, '1' as expression
        union all
        select 1, p.key, p.expression from recdb.read_parts(source) p
    loop
        begin
            execute format('select %s %s offset %s limit 1', each.expression, beneath, rows);
        exception when others then
            part := each.key;
            exit;
        end;
    end loop;
    part := coalesce(nullif(part, ''), recdb.failing_column(source), '');
    example := recdb.name_row(source, beneath, rows);
    return next;
end
$$;
comment on function recdb.find_failure(recdb.attachment, text, double precision) is
    'Internal: reads an attached table until a row fails; the part that fails, and the ids of the row.';


-- recdb.failing_column: the first mapped column of an attached table that cannot be read.
--   parameters  source  a row of attachment
--   returns     the key of the mapping; NULL if what fails is no column
-- A condition reads the ids too, so find_failure() cannot tell a column of ids from a condition.
create or replace function recdb.failing_column(source recdb.attachment)
returns text
language plpgsql stable
set search_path from current
as $$
declare
    each record;
begin
    for each in
        select m.key, btrim(m.value, '"') as name
        from jsonb_each_text(source.mapping) m
        where recdb.mapped_type(source.relation, m.value) is not null
        order by m.key = 'user' desc, m.key = 'item' desc, m.key
    loop
        begin
            execute format('select count(1) from %s s', source.relation);
        exception when others then
            return null;
        end;
        begin
            execute format('select count(s.%I) from %s s', each.name, source.relation);
        exception when others then
            return each.key;
        end;
    end loop;
    return null;
end
$$;
comment on function recdb.failing_column(recdb.attachment) is
    'Internal: the first mapped column of an attached table that cannot be read; NULL if another part fails.';


-- recdb.name_row: the ids of a row of an attached table.
--   parameters  source   a row of attachment
--               beneath  the from clause of its query, and the condition
--               place    how many rows come before it
--   returns     a text for messages; NULL if no id of the row can be read
create or replace function recdb.name_row(source recdb.attachment, beneath text, place bigint)
returns text
language plpgsql stable
set search_path from current
as $$
declare
    named text;
    found_id text;
    key text;
begin
    foreach key in array case source.role when 'items' then array['item'] else array['user', 'item'] end loop
        begin
            execute format('select left(s.%I::text, 100) %s offset %s limit 1', key || '_id', beneath, place)
                into found_id;
            named := concat_ws(' and ', named, key || ' ' || quote_literal(found_id));
        exception when others then
            null;  -- this id is what fails
        end;
    end loop;
    return named;
end
$$;
comment on function recdb.name_row(recdb.attachment, text, bigint) is
    'Internal: the ids of a row of an attached table, for messages.';


-- recdb.describe_failure: what find_failure() found, in words.
--   parameters  source                         a row of attachment
--               state, message, part, example  the columns of find_failure()
--   returns     problem and hint
create or replace function recdb.describe_failure(
    source recdb.attachment, state text, message text, part text, example text, out problem text, out hint text
)
language plpgsql stable
set search_path from current
as $$
declare
    mapped constant text := source.mapping ->> part;
    is_view constant boolean := exists (
        select from pg_catalog.pg_class c where c.oid = to_regclass(source.relation) and c.relkind in ('v', 'm', 'f'));
    -- Where it is unknown which part fails: the expressions that may.
    expressions constant text := (
        select string_agg(format('--%s %L', m.key, m.value), ' or ' order by m.key)
        from jsonb_each_text(source.mapping) m
        where m.key = case when part = '' then m.key else part end and m.key in ('available', 'value', 'where')
          and recdb.mapped_type(source.relation, m.value) is null);
    subject text := coalesce(
        expressions, 'column ' || mapped,
        case when is_view then 'an expression, a condition or a policy' else 'a policy' end);
    advice text;
begin
    problem := format('recdb cannot read every row of %s as %s: %s fails%s: %s',
        source.relation, source.role, subject, coalesce(' for ' || example, ''), message);
    advice := case
        when state = '22012' then 'Divide by nullif(x, 0), which is NULL for 0'
        when state in ('22003', '22008') then
            'Correct the row, or read it only within the limits: case when x between 0 and 1000000 then x::integer end'
        when state like '22%' then
            'Correct the row, or use a cast that takes every row, such as: '
            'case when x ~ ''^-?[0-9]+$'' then x::bigint end'
        when state = '42501' then
            format('Grant the right to %s, who owns schema recdb', (
                select quote_ident(pg_get_userbyid(n.nspowner))
                from pg_catalog.pg_namespace n where n.nspname = 'recdb'))
        else 'Correct the row, or the function or policy that refuses it'
    end;
    hint := format('%s%s. Or go on without the table: recdb detach %s', advice, case
        when state = '42501' then ''
        when is_view then format(', in the view %s', source.relation)
        when expressions is not null then '; for another expression, attach the table again: recdb attach'
        else '' end, source.relation);
end
$$;
comment on function recdb.describe_failure(recdb.attachment, text, text, text, text) is
    'Internal: the failure that find_failure() found, in words, and the way to go on.';


-- recdb.may_fail: whether a row of an attached table may fail at all.
--   parameters  source  a row of attachment
--   returns     false for the plain columns of a table without policies, if the one of --value holds numbers
--   reads       the system catalogues
create or replace function recdb.may_fail(source recdb.attachment)
returns boolean
language sql stable
begin atomic
    select
        not exists (
            select from pg_catalog.pg_class c
            where c.oid = to_regclass((may_fail.source).relation) and c.relkind in ('r', 'p', 'm')
              and not c.relrowsecurity)
        or exists (
            select from jsonb_each_text((may_fail.source).mapping) m
            where m.key in ('available', 'value', 'where')
              and (recdb.mapped_type((may_fail.source).relation, m.value) is null
                or m.key = 'value'
                  and not recdb.is_number(recdb.mapped_type((may_fail.source).relation, m.value))))
        or (may_fail.source).whole_query is not null;
end;
comment on function recdb.may_fail(recdb.attachment) is
    'Internal: whether a row of an attached table may fail at all: it has expressions, is a view or has policies, or '
    'its columns have changed.';


-- recdb.failing_sources: read every row of the attached tables, and name the tables in which one fails.
--   parameters  seconds     how long to read, all tables together
--               number      the attachment_id of one table; NULL for all
--               everything  true: also the tables that may_fail() rules out
--   returns     one row per table that is read: how many rows were read, whether these are all, and the problem and the
--               hint where a row fails
--   reads       attachment; the attached tables, all rows
--   errors      42501 as check_sources()
create or replace function recdb.failing_sources(
    seconds double precision default 5, number integer default null, everything boolean default false
)
returns table (
    attachment_id integer, relation text, role text, rows bigint, complete boolean, problem text, hint text
)
language plpgsql stable
set search_path from current
set enable_indexscan = off
set enable_indexonlyscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
    until constant timestamptz := clock_timestamp() + make_interval(secs => seconds);
    source recdb.attachment;
begin
    perform recdb.check_sources();
    for source in
        select a.* from recdb.attachment a
        where a.attachment_id = coalesce(number, a.attachment_id)
          and a.state = 'read' and a.query is not null and (everything or recdb.may_fail(a))
          and recdb.source_problem(a) is null
        order by a.attachment_id
    loop
        return query
        select source.attachment_id, source.relation, source.role, f.rows, f.complete, d.problem, d.hint
        from recdb.find_failure(source, 'true', greatest(0, extract(epoch from until - clock_timestamp())::float8)) f
        left join lateral recdb.describe_failure(source, f.state, f.message, f.part, f.example) d
            on f.state is not null;
    end loop;
end
$$;
comment on function recdb.failing_sources(double precision, integer, boolean) is
    'Reads every row of the attached tables, for so many seconds, and says which tables have a row that fails, with '
    'the column, an example and the way to go on.';


-- recdb.name_failure: say which attached table an error came from.
--   parameters  state    the SQLSTATE of the error
--               user_id  the user whose rows were read; NULL for all rows
--   returns     problem and hint; NULL if no attached table fails. A table of impressions raises no error
--   reads       the attached tables: all rows, or those of one user
create or replace function recdb.name_failure(
    state text, user_id text default null, out problem text, out hint text
)
language plpgsql stable security definer
set search_path from current
as $$
declare
    source recdb.attachment;
    failure record;
    of_user text;
begin
    if not recdb.may_be_of_source(state) then
        return;
    end if;
    if name_failure.user_id is null then
        select f.problem, f.hint into problem, hint
        from recdb.failing_sources(20, null, true) f
        where f.problem is not null and f.role <> 'impressions'
        limit 1;
        return;
    end if;
    perform recdb.check_sources();
    for source in
        select a.* from recdb.attachment a
        where a.role = 'interactions' and a.state = 'read' and a.query is not null
        order by a.attachment_id
    loop
        of_user := recdb.is_id('s.user_id', format('%L::text', name_failure.user_id),
            recdb.mapped_type(source.relation, source.mapping ->> 'user'));
        select f.* into failure from recdb.find_failure(source, of_user, 1) f;
        if failure.state is not null then
            select d.problem, d.hint into problem, hint
            from recdb.describe_failure(
                source, failure.state, failure.message, failure.part, failure.example) d;
            return;
        end if;
    end loop;
end
$$;
comment on function recdb.name_failure(text, text) is
    'Which attached table an error came from, and the way to go on; NULL if none of them fails.';
