-- What a function does when a row of an attached table failed: it raises a clear error, or goes on without the item.


-- recdb.refuse_failing: raise a clear error in the place of one that an attached table may have raised.
--   parameters  state    the SQLSTATE of the error
--               user_id  the user whose rows were read; NULL if nobody's
--   errors      55000 with what name_failure() says, or as refuse_broken() and refuse_moved()
create or replace function recdb.refuse_failing(state text, user_id text)
returns void
language plpgsql stable
as $$
declare
    failure record;
begin
    if left(state, 2) in ('42', '3F') then
        perform recdb.refuse_broken();
    end if;
    if state = 'XX000' or state = '0A000' or state = '42P18' then
        perform recdb.refuse_moved(pg_current_snapshot());
    end if;
    if refuse_failing.user_id is not null then
        select f.problem, f.hint into failure from recdb.name_failure(state, refuse_failing.user_id) f;
        if failure.problem is not null then
            raise exception '%', failure.problem
                using errcode = 'object_not_in_prerequisite_state', hint = failure.hint;
        end if;
    end if;
end
$$;
comment on function recdb.refuse_failing(text, text) is
    'Internal: error 55000, which names the table, in the place of an error that an attached table raised.';


-- recdb.refuse_unreadable: the same after a look at all rows of the attached tables.
--   parameters  state  the SQLSTATE of the error
--   errors      55000 with what name_failure() says, or as refuse_broken()
create or replace function recdb.refuse_unreadable(state text)
returns void
language plpgsql stable
as $$
declare
    failure record;
begin
    perform recdb.refuse_failing(state, null);
    if exists (select from recdb.hidden_sources()) then
        return;  -- refuse_hidden_rows() has said so
    end if;
    select f.problem, f.hint into failure from recdb.name_failure(state) f;
    if failure.problem is not null then
        raise exception '%', failure.problem using errcode = 'object_not_in_prerequisite_state', hint = failure.hint;
    end if;
end
$$;
comment on function recdb.refuse_unreadable(text) is
    'Internal: error 55000, which names the attached table whose row cannot be read, if there is one.';


-- recdb.failing_items: the items of attached catalogues whose rows cannot be read, so that lists go on without them.
--   parameters  state  the SQLSTATE of the error that a list met
--   returns     their ids; NULL if the error has another reason
--   reads       the attached catalogues, for two seconds at most: this costs nothing until a row fails
--   errors      55000 with what describe_failure() says, if there are too many such items
create or replace function recdb.failing_items(state text)
returns text[]
language plpgsql stable security definer
set search_path from current
as $$
declare
    until constant timestamptz := clock_timestamp() + interval '2 seconds';
    source recdb.attachment;
    failing text[];
    failure record;
begin
    if not recdb.may_be_of_source(state) then
        return null;
    end if;
    for source in
        select a.* from recdb.attachment a
        where a.role = 'items' and a.state = 'read' and a.query is not null and recdb.may_fail(a)
        order by a.attachment_id
    loop
        failing := failing || recdb.failing_ids(source, until);
        if clock_timestamp() > until then
            select d.problem, d.hint into failure
            from recdb.find_failure(source, 'true', 2) f
            cross join lateral recdb.describe_failure(source, f.state, f.message, f.part, f.example) d
            where f.state is not null;
            if found then
                raise exception '%', failure.problem
                    using errcode = 'object_not_in_prerequisite_state', hint = failure.hint;
            end if;
        end if;
    end loop;
    return nullif(failing, '{}');
end
$$;
comment on function recdb.failing_items(text) is
    'Internal: the items of attached catalogues whose rows cannot be read; NULL if an error has another reason.';


-- recdb.failing_ids: the items of one attached catalogue whose rows cannot be read.
--   parameters  source  a row of attachment
--               until   when to stop
--   returns     their ids, or some of them if there was no time for more
-- It halves the list of ids that fails until one is left.
create or replace function recdb.failing_ids(source recdb.attachment, until timestamptz)
returns text[]
language plpgsql stable
set search_path from current
as $$
declare
    kind constant regtype := recdb.mapped_type(source.relation, source.mapping ->> 'item');
    reads constant text := format('select count(row(%s)) from (%s) s where %s', (
            select string_agg(p.expression, ', ') from recdb.read_parts(source) p),
        source.query, case
            when kind in ('text'::regtype, 'varchar'::regtype) then 's.item_id::text = any ($1)'
            else format('s.item_id = any ($1::%s[])', kind) end);
    ids text[];
    failing text[] := '{}';
    starts integer[] := '{1}';
    ends integer[];
    first integer;
    last integer;
begin
    execute format('select array_agg(s.item_id::text) from (%s) s', source.query) into ids;
    ends := array[coalesce(cardinality(ids), 0)];
    while cardinality(starts) > 0 and clock_timestamp() <= until loop
        first := starts[cardinality(starts)];
        last := ends[cardinality(ends)];
        starts := trim_array(starts, 1);
        ends := trim_array(ends, 1);
        begin
            execute reads using ids[first:last];
        exception when others then
            if first = last then
                failing := failing || ids[first];
            else
                starts := starts || array[first, (first + last) / 2 + 1];
                ends := ends || array[(first + last) / 2, last];
            end if;
        end;
    end loop;
    return failing;
end
$$;
comment on function recdb.failing_ids(recdb.attachment, timestamptz) is
    'Internal: the items of one attached catalogue whose rows cannot be read.';
