-- Impressions that an application keeps in a table of its own: each refresh copies the new rows into impression, where
-- all that reads impressions finds them. recommend() never reads the table itself.


-- recdb.impression_doubt: why a row of an attached table is no impression.
--   parameters  the columns of impressions_query()
--   returns     words that follow "rows"; NULL for an impression
create or replace function recdb.impression_doubt(
    user_id text, item_id text, scenario text, place bigint, shown_at timestamptz, propensity double precision
)
returns text
language sql stable parallel safe
begin atomic
    select case
        when impression_doubt.shown_at is null then 'without a time'
        when impression_doubt.shown_at > now() + interval '1 day' then 'with a time more than a day ahead'
        when coalesce(impression_doubt.user_id, '') = '' then 'without a user'
        when coalesce(impression_doubt.item_id, '') = '' then 'without an item'
        when length(impression_doubt.user_id) > 1000 or octet_length(impression_doubt.user_id) > 2600
            or length(impression_doubt.item_id) > 1000 or octet_length(impression_doubt.item_id) > 2600
        then 'with an id of more than 1000 characters'
        when length(impression_doubt.scenario) not between 1 and 100 then
            'with a scenario that has not 1 to 100 characters'
        when impression_doubt.place not between 1 and 32767 then 'with a place that is not from 1 to 32767'
        when not impression_doubt.propensity between 1e-30::double precision and 1::double precision then
            'with a propensity that is not above 0 and at most 1'
    end;
end;
comment on function recdb.impression_doubt(text, text, text, bigint, timestamptz, double precision) is
    'Internal: why a row of an attached table is no impression; NULL for an impression.';


-- recdb.time_type: the type of the times of an attached table.
--   parameters  source  a row of attachment
--   returns     timestamptz, timestamp or date
create or replace function recdb.time_type(source recdb.attachment)
returns regtype
language sql stable
begin atomic
    select coalesce(
        recdb.mapped_type((time_type.source).relation, (time_type.source).mapping ->> 'at'), 'timestamptz'::regtype);
end;
comment on function recdb.time_type(recdb.attachment) is 'Internal: the type of the times of an attached table.';


-- recdb.impressions_query: the query of an attached table of impressions, with ids as text and times as timestamptz.
--   parameters  source  a row of attachment
--   returns     SQL; its column moment is the time in the table's own type, which the table's index serves
create or replace function recdb.impressions_query(source recdb.attachment)
returns text
language sql stable
begin atomic
    select format('select s.user_id::text collate "default" as user_id, s.item_id::text collate "default" as item_id, '
        'coalesce(s.scenario, ''default''::text) as scenario, coalesce(s.place, 1::bigint) as place, '
        '%s as shown_at, s.shown_at as moment, s.model_version, s.variant, s.propensity from (%s) s',
        recdb.as_time('s.shown_at', recdb.time_type(impressions_query.source),
            coalesce((impressions_query.source).mapping ->> 'timezone', 'UTC')),
        (impressions_query.source).query);
end;
comment on function recdb.impressions_query(recdb.attachment) is
    'Internal: the query of an attached table of impressions, with ids as text and times as timestamptz.';


-- recdb.impressions_problem: why recdb cannot read an attached table of impressions.
--   parameters  source  a row of attachment
--   returns     the reason; NULL if recdb can read the table
--   reads       the table: no row of it
--   errors      any that PostgreSQL raises for the query
-- The query of `recdb attach` takes an array of items apart, and a single item as it is: another one must be attached
-- again. Each of them leaves the type of its ids open.
create or replace function recdb.impressions_problem(source recdb.attachment)
returns text
language plpgsql stable
set search_path from current
as $$
declare
    each record;
begin
    execute format('select q.* from (%s) q limit 0', recdb.impressions_query(source));
    for each in
        select m.key, m.value as name, recdb.mapped_type(source.relation, m.value) as type
        from jsonb_each_text(source.mapping) m
        where m.key in ('user', 'item', 'place', 'propensity')
    loop
        if each.key in ('place', 'propensity') then
            if not recdb.is_number(recdb.element_type(each.type)) then
                return format('column %s is of type %s, which is not a number', each.name, each.type);
            end if;
        elsif recdb.as_id('', recdb.element_type(each.type)) is null then
            return format('column %s is of type %s, which recdb does not read as ids', each.name, each.type);
        elsif (recdb.element_type(each.type) <> each.type)
            <> (each.key = 'item' and strpos(source.query, 'unnest(r.items)') > 0)
        then
            return format('column %s is of type %s now: attach it again', each.name, each.type);
        end if;
    end loop;
    return null;
end
$$;
comment on function recdb.impressions_problem(recdb.attachment) is
    'Internal: why recdb cannot read an attached table of impressions; NULL if it can.';


-- recdb.copy_span: copy the impressions of a span of time that are not here yet.
--   parameters  source        a row of attachment
--               since, until  the span, without its end
--   returns     how many rows it did not copy, by the reason
--   reads       the attached table, by its index of times; impression and impression_new; experiment, model
--   writes      impression_new: the same refresh moves the rows to impression
-- Equal rows are counted: two in the table and one here is one to copy. A row that is here and no longer in the table,
-- such as one of a guest who became a member, stands for a new row of the same item and time. The version is the one
-- that served at that time, as far as the versions tell.
create or replace function recdb.copy_span(source recdb.attachment, since timestamptz, until timestamptz)
returns table (doubt text, rows bigint)
language plpgsql volatile
set search_path from current
as $$
declare
    type constant regtype := recdb.time_type(source);
    zone constant text := coalesce(source.mapping ->> 'timezone', 'UTC');
begin
    return query execute format($copy$
        with read as materialized (
            select q.*, recdb.impression_doubt(q.user_id, q.item_id, q.scenario, q.place, q.shown_at, q.propensity)
                as doubt
            from (%1$s) q
            where q.moment >= %2$s and q.moment <= %3$s and q.shown_at >= $1 and q.shown_at < $2
              and (not exists (select from recdb.forgotten_user) or not exists (
                  select from recdb.forgotten_user f where f.user_digest = sha256(
                      (select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(q.user_id, 'UTF8')))))
        ), there as materialized (
            select a.*, row_number() over (partition by a.user_id, a.item_id, a.scenario, a.place, a.shown_at) as copy
            from (
                select u.user_id, t.item_id, m.scenario, m.place::bigint as place, m.shown_at
                from recdb.impression m
                join recdb.user_key u on u.user_key = m.user_key
                join recdb.item_key t on t.item_key = m.item_key
                where m.attachment_id = $3 and m.shown_at >= $1 and m.shown_at < $2
                union all
                select n.user_id, n.item_id, n.scenario, n.place::bigint, n.shown_at
                from recdb.impression_new n
                where n.attachment_id = $3 and n.shown_at >= $1 and n.shown_at < $2
            ) a
        ), wanted as materialized (
            select r.*, row_number() over (partition by r.user_id, r.item_id, r.scenario, r.place, r.shown_at) as copy
            from read r
            where r.doubt is null
        ), absent as (
            select w.*, row_number() over (partition by w.item_id, w.shown_at order by w.user_id, w.place) as number
            from wanted w
            left join there h using (user_id, item_id, scenario, place, shown_at, copy)
            where h.user_id is null
        ), moved as (
            select h.item_id, h.shown_at, count(*) as rows
            from there h
            left join wanted w using (user_id, item_id, scenario, place, shown_at, copy)
            where w.user_id is null
            group by h.item_id, h.shown_at
        ), copied as (
            insert into recdb.impression_new (user_id, item_id, scenario, place, shown_at, model_version, experiment,
                variant, propensity, attachment_id)
            select n.user_id, n.item_id, n.scenario, n.place::smallint, n.shown_at,
                coalesce(n.model_version, e.model_version, (
                    select m.label from recdb.model m
                    where m.activated_at <= n.shown_at
                    order by m.activated_at desc
                    limit 1)),
                e.experiment, coalesce(n.variant, e.variant), n.propensity::real, $3
            from absent n
            left join moved v using (item_id, shown_at)
            left join lateral recdb.experiment_at(n.user_id, n.scenario, n.shown_at) e on true
            where n.number > coalesce(v.rows, 0::bigint)
        )
        select r.doubt, count(*) from read r where r.doubt is not null group by r.doubt
        $copy$, recdb.impressions_query(source), recdb.as_local('$1', type, zone),
        recdb.as_local('($2 + interval ''1 day'')', type, zone))
    using since, until, source.attachment_id;
end
$$;
comment on function recdb.copy_span(recdb.attachment, timestamptz, timestamptz) is
    'Internal: copies the impressions of a span of time that are not here yet; how many rows are none, by the reason.';


-- recdb.untimed_impressions: the rows of an attached table of impressions that are in no span of copy_span().
--   parameters  source  a row of attachment
--   returns     how many rows have no time, or one more than a day ahead
--   reads       the attached table, by its index of times
create or replace function recdb.untimed_impressions(source recdb.attachment)
returns table (doubt text, rows bigint)
language plpgsql stable
set search_path from current
as $$
begin
    return query execute format('
        select d.doubt, count(*)
        from (%s) q
        cross join lateral recdb.impression_doubt(null, null, null, null, q.shown_at, null) d(doubt)
        where q.moment is null or q.moment > %s and q.shown_at > now() + interval ''1 day''
        group by d.doubt', recdb.impressions_query(source),
        recdb.as_local('(now() + interval ''1 day'')', recdb.time_type(source),
            coalesce(source.mapping ->> 'timezone', 'UTC')));
end
$$;
comment on function recdb.untimed_impressions(recdb.attachment) is
    'Internal: the rows of an attached table of impressions without a time, or with one more than a day ahead.';


-- recdb.copy_source: copy the new rows of one attached table of impressions.
--   parameters  source  a row of attachment
--               since   rows before it are not read
--               whole   true: count the rows of untimed_impressions() too
--   returns     left_out: the rows that were not copied, in words, NULL if there were none; upto: the time from which
--               the next refresh goes on
--   reads, writes  as copy_span()
-- Where a row cannot be read, it halves the span until the span is a millisecond, and copies all others. After 400
-- failures, or ten seconds of them, the next refresh goes on, so that a table whose every row fails costs little.
create or replace function recdb.copy_source(
    source recdb.attachment, since timestamptz, whole boolean, out left_out text, out upto timestamptz
)
language plpgsql volatile
set search_path from current
as $$
declare
    starts timestamptz[] := array[since];
    ends timestamptz[] := array[now() + interval '1 day'];
    first timestamptz;
    last timestamptz;
    middle timestamptz;
    counted record;
    doubts jsonb := '{}';
    failures integer := 0;
    failing_since timestamptz;
    unread integer := 0;
    message text;
begin
    if whole then
        begin
            doubts := coalesce(
                (select jsonb_object_agg(u.doubt, u.rows) from recdb.untimed_impressions(source) u), doubts);
        exception when others then
            if not recdb.may_be_of_source(sqlstate) then
                raise;
            end if;  -- copy_span() meets the same row, or it has no time that can be read
        end;
    end if;
    while cardinality(starts) > 0 and failures < 400 loop
        first := starts[cardinality(starts)];
        last := ends[cardinality(ends)];
        starts := trim_array(starts, 1);
        ends := trim_array(ends, 1);
        begin
            for counted in select c.doubt, c.rows from recdb.copy_span(source, first, last) c loop
                doubts := jsonb_set(doubts, array[counted.doubt], to_jsonb(
                    coalesce((doubts ->> counted.doubt)::bigint, 0::bigint) + counted.rows));
            end loop;
            exit when clock_timestamp() > failing_since + interval '10 seconds';
        exception when others then
            if not recdb.may_be_of_source(sqlstate) then
                raise;
            end if;
            message := coalesce(message, sqlerrm);
            failing_since := coalesce(failing_since, clock_timestamp());
            failures := failures + case when left(sqlstate, 2) in ('42', '3F') then 400 else 1 end;
            if last - first <= interval '1 millisecond' then
                unread := unread + 1;
            else
                middle := first + (last - first) / 2;
                starts := starts || array[middle, first];
                ends := ends || array[last, middle];
            end if;
        end;
    end loop;
    upto := coalesce((select min(s.starts) from unnest(starts) s(starts)), now());
    left_out := nullif(concat_ws('; ',
        (select string_agg(format('%s row%s %s', d.value, case d.value when '1' then '' else 's' end, d.key), '; '
            order by d.key collate "C") from jsonb_each_text(doubts) d),
        case when unread > 0 then
            format('the rows of %s moments, because they cannot be read: %s', unread, message) end,
        case when cardinality(starts) > 0 then
            format('the rows from %s on, until the next refresh, because some cannot be read: %s', upto, message)
        end), '');
end
$$;
comment on function recdb.copy_source(recdb.attachment, timestamptz, boolean) is
    'Internal: copies the new rows of one attached table of impressions; which were left out, in words.';


-- recdb.copy_impressions: copy the new rows of every attached table of impressions.
--   parameters  everything  true: compare all rows of config.impression_retention; false: those since the last copy,
--                           and of the ten minutes before it, which may have been committed late
--   returns     whether it copied a table for the first time
--   reads       attachment, config; the attached tables
--   writes      attachment.copied_at and left_out; as copy_span(). A warning names the rows that were left out
-- A clock that was put back gives no copied_at that is ahead of it.
create or replace function recdb.copy_impressions(everything boolean)
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    source recdb.attachment;
    oldest constant timestamptz := now() - (select c.impression_retention from recdb.config c);
    since timestamptz;
    whole boolean;
    outcome record;
    is_first boolean := false;
begin
    for source in
        select a.* from recdb.attachment a
        where a.role = 'impressions' and a.state = 'read' and a.query is not null
        order by a.attachment_id
    loop
        is_first := is_first or source.copied_at is null;
        -- A date is the first moment of its day.
        since := least(source.copied_at, now()) - interval '10 minutes'
            - case recdb.time_type(source) when 'date'::regtype then interval '1 day' else interval '0' end;
        whole := everything or source.copied_at is null;
        since := case when whole then oldest else greatest(oldest, since) end;
        select c.left_out, c.upto into outcome from recdb.copy_source(source, since, whole) c;
        if outcome.left_out is not null then
            raise warning '% as impressions: left out %', source.relation, outcome.left_out;
        end if;
        update recdb.attachment a
        set copied_at = outcome.upto, left_out = outcome.left_out
        where a.attachment_id = source.attachment_id;
    end loop;
    return is_first;
end
$$;
comment on function recdb.copy_impressions(boolean) is
    'Internal: copies the new rows of every attached table of impressions; whether it copied one for the first time.';


-- recdb.doubtful_impressions: the rows of attached tables that are no impressions.
--   returns     one row per table and reason: how many rows. A table that cannot be read has none: failing_sources()
--               names it
--   reads       the attached tables: rows of config.impression_retention, later ones, and those without a time
create or replace function recdb.doubtful_impressions()
returns table (relation text, doubt text, rows bigint)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
    source recdb.attachment;
begin
    perform recdb.check_sources();
    for source in
        select a.* from recdb.attachment a
        where a.role = 'impressions' and a.state = 'read' and a.query is not null
        order by a.attachment_id
    loop
        begin
            return query execute format('
                select $1, d.doubt, count(*)
                from (%s) q
                cross join lateral recdb.impression_doubt(
                    q.user_id, q.item_id, q.scenario, q.place, q.shown_at, q.propensity) d(doubt)
                where d.doubt is not null
                  and (q.shown_at is null
                      or q.shown_at >= now() - (select c.impression_retention from recdb.config c))
                group by d.doubt
                order by d.doubt', recdb.impressions_query(source))
            using source.relation;
        exception when others then
            if not recdb.may_be_of_source(sqlstate) then
                raise;
            end if;
        end;
    end loop;
end
$$;
comment on function recdb.doubtful_impressions() is
    'The rows of attached tables of impressions that are none, with the reason and their number. Reads all rows.';


-- recdb.drop_copies: remove the impressions that were copied from some attached tables.
--   parameters  attachments  their attachment_id
--   returns     how many there were
--   writes      impression, impression_new; impression_state: the next refresh counts item_shown again
create or replace function recdb.drop_copies(attachments integer[])
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    gone bigint;
    waiting bigint;
begin
    delete from recdb.impression m where m.attachment_id = any (attachments);
    get diagnostics gone = row_count;
    delete from recdb.impression_new n where n.attachment_id = any (attachments);
    get diagnostics waiting = row_count;
    update recdb.impression_state s set counted_at = '-infinity' where gone > 0;
    return gone + waiting;
end
$$;
comment on function recdb.drop_copies(integer[]) is
    'Internal: removes the impressions that were copied from some attached tables; how many there were.';
