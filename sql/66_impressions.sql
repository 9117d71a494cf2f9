-- Impressions: which items were shown to whom. Applications record them with impressions(), and a refresh keeps their
-- table: partitions of a week each, and the counts of item_shown.


-- recdb.record_impressions: record the items of a page that was shown.
--   parameters  user_id        the user, 1 to 1000 characters
--               item_ids       the items in their order on the page, at most 1000; NULLs are left out
--               scenario       the place in the product, 1 to 100 characters; NULL is 'default'
--               places         the place of each item, from 1; NULL: their order
--               shown_at       when the page was shown, within config.impression_retention and at most a day ahead
--               model_version  the label of the version that ranked the page; NULL: the one that serves the user now
--               variant        the variant that the user got; NULL: the one of the scenario's experiment at that time;
--                              if one ran, it has to be one of its variants
--               propensities   for each item, the probability with which the page showed it at its place: above 0, at
--                              most 1; NULL, and a NULL in it, is unknown
--   returns     the number of rows
--   writes      impression; impression_new, if the user, the item or the week is new
--   errors      22023 for an argument that cannot be meant
-- It makes no key and no partition, so nobody waits for it. It waits only for the commit of a refresh that makes the
-- partition of its week.
create or replace function recdb.record_impressions(
    user_id text, item_ids text[], scenario text, places integer[], shown_at timestamptz, model_version text,
    variant text, propensities real[]
)
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    place_shown constant text := coalesce(record_impressions.scenario, 'default');
    moment constant timestamptz := coalesce(record_impressions.shown_at, now());
    has_week boolean;
    running record;
    viewer integer;
    stored bigint;
    waiting bigint;
begin
    perform recdb.check_impressions(
        record_impressions.user_id, item_ids, place_shown, places, moment, propensities);
    -- pg_relation_size() waits for the lock of a refresh that has just made the partition. Without it, for a moment,
    -- to_regclass() finds the partition, and an insert does not.
    has_week := pg_relation_size(to_regclass(format('recdb.%I', recdb.impression_week(moment)))) is not null;
    select e.experiment, e.variant, e.model_version into running
    from recdb.experiment_at(record_impressions.user_id, place_shown, moment) e;
    if record_impressions.variant <> running.variant and not exists (
        select from recdb.experiment_variant v
        where v.experiment = running.experiment and v.name = record_impressions.variant)
    then
        raise exception 'experiment % has no variant "%"', running.experiment, record_impressions.variant
            using errcode = 'invalid_parameter_value', hint = 'It ran on the scenario at that time. Its variants: '
                || (select string_agg(v.name, ', ' order by v.name collate "C") from recdb.experiment_variant v
                    where v.experiment = running.experiment) || '.';
    end if;
    select u.user_key into viewer from recdb.user_key u where u.user_id = record_impressions.user_id;

    with page as (
        select p.item_id, coalesce(p.place, p.number)::smallint as place, p.propensity, t.item_key,
            place_shown as scenario, running.experiment as experiment,
            coalesce(record_impressions.variant, running.variant) as variant,
            coalesce(record_impressions.model_version, running.model_version,
                (select m.label from recdb.model m where m.active)) as model_version
        from unnest(item_ids, places, propensities) with ordinality p(item_id, place, propensity, number)
        left join recdb.item_key t on t.item_id = p.item_id
        where p.item_id is not null
    ), kept as (
        insert into recdb.impression (
            user_key, item_key, scenario, place, shown_at, model_version, experiment, variant, propensity)
        select viewer, p.item_key, p.scenario, p.place, moment, p.model_version, p.experiment, p.variant,
            p.propensity
        from page p
        where has_week and viewer is not null and p.item_key is not null
        returning 1
    ), later as (
        insert into recdb.impression_new (
            user_id, item_id, scenario, place, shown_at, model_version, experiment, variant, propensity)
        select record_impressions.user_id, p.item_id, p.scenario, p.place, moment, p.model_version, p.experiment,
            p.variant, p.propensity
        from page p
        where not has_week or viewer is null or p.item_key is null
        returning 1
    )
    select (select count(*) from kept), (select count(*) from later) into stored, waiting;
    return stored + waiting;
end
$$;
comment on function recdb.record_impressions(
    text, text[], text, integer[], timestamptz, text, text, real[]) is
    'Internal: the work of impressions(), for ids of type text.';


-- recdb.check_impressions: check the arguments of record_impressions().
--   parameters  as record_impressions(), with the defaults filled in
--   errors      22023 for an argument that cannot be meant
create or replace function recdb.check_impressions(
    user_id text, item_ids text[], scenario text, places integer[], shown_at timestamptz, propensities real[]
)
returns void
language plpgsql stable
as $$
declare
    retention constant interval := (select c.impression_retention from recdb.config c);
    wrong text;
begin
    wrong := case
        when coalesce(length(user_id), 0) not between 1 and 1000 or octet_length(user_id) > 2600 then
            'an impression needs a user_id of 1 to 1000 characters (at most 2600 bytes)'
        when cardinality(item_ids) > 1000 or array_ndims(item_ids) > 1 then
            'a page has at most 1000 items, in an array of one dimension'
        when exists (
            select from unnest(item_ids) i(id)
            where length(i.id) not between 1 and 1000 or octet_length(i.id) > 2600)
        then
            'an item_id has 1 to 1000 characters (at most 2600 bytes)'
        when length(scenario) not between 1 and 100 then
            'a scenario has 1 to 100 characters'
        when cardinality(places) <> cardinality(item_ids) then
            format('%s items have %s places', cardinality(item_ids), cardinality(places))
        when exists (select from unnest(places) p(place) where p.place not between 1 and 32767) then
            'a place is from 1 to 32767'
        when cardinality(propensities) <> cardinality(item_ids) then
            format('%s items have %s propensities', cardinality(item_ids), cardinality(propensities))
        when exists (
            select from unnest(propensities) p(share)
            where not (p.share > 0::double precision and p.share <= 1::double precision))
        then
            'a propensity is a probability: above 0 and at most 1'
        when not (shown_at between now() - retention and now() + interval '1 day') then
            format('shown_at is %s, and must be within config.impression_retention, %s, and at most a day ahead',
                shown_at, retention)
    end;
    if wrong is not null then
        raise exception '%', wrong using errcode = 'invalid_parameter_value';
    end if;
end
$$;
comment on function recdb.check_impressions(text, text[], text, integer[], timestamptz, real[]) is
    'Internal: error 22023 for arguments of impressions() that cannot be meant.';


-- recdb.impressions: record the items of a page that was shown.
--   parameters  item_ids  an array of ids of any type; others as record_impressions()
--   returns, reads, writes, errors  as record_impressions()
create or replace function recdb.impressions(
    user_id text, item_ids anycompatiblearray, scenario text default null, places integer[] default null,
    shown_at timestamptz default now(), model_version text default null, variant text default null,
    propensities real[] default null
)
returns bigint
language sql volatile
as $$
    select recdb.record_impressions(
        $1, recdb.id_texts($2::pg_catalog.text[], pg_catalog.pg_typeof($2)), $3, $4, $5, $6, $7, $8)
$$;
comment on function recdb.impressions(
    text, anycompatiblearray, text, integer[], timestamptz, text, text, real[]) is
    'Records that a page of items was shown to a user, and returns the number of rows: call it once a page. item_ids: '
    'in their order on the page, at most 1000; scenario: the place in the product, NULL is ''default''; places: from '
    '1, NULL is their order; shown_at: NULL is now; model_version, variant: NULL is the one that serves the user now; '
    'propensities: the probability with which the page showed each item at its place, NULL if unknown. It changes no '
    'list by itself. Error 22023 for an argument that cannot be meant.';


-- recdb.impressions for a user id of any type.
--   parameters  user_id, item_ids  of any type; others as record_impressions()
--   returns, reads, writes, errors  as record_impressions()
create or replace function recdb.impressions(
    user_id anynonarray, item_ids anycompatiblearray, scenario text default null, places integer[] default null,
    shown_at timestamptz default now(), model_version text default null, variant text default null,
    propensities real[] default null
)
returns bigint
language sql volatile
as $$
    select recdb.record_impressions(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        recdb.id_texts($2::pg_catalog.text[], pg_catalog.pg_typeof($2)), $3, $4, $5, $6, $7, $8)
$$;
comment on function recdb.impressions(
    anynonarray, anycompatiblearray, text, integer[], timestamptz, text, text, real[]) is
    'impressions() for a user id that is no text, such as a bigint or a uuid.';


-- recdb.impression_week: the name of the partition of impression for a moment.
--   parameters  moment  the time of an impression
--   returns     such as impression_20261123, the week from that Monday on, in UTC
create or replace function recdb.impression_week(moment timestamptz)
returns text
language sql stable parallel safe
begin atomic
    select 'impression_' || to_char(date_trunc('week', impression_week.moment at time zone 'UTC'), 'YYYYMMDD');
end;
comment on function recdb.impression_week(timestamptz) is
    'Internal: the name of the partition of impression for a moment: a week from Monday on, in UTC.';


-- recdb.add_impression_weeks: make the partitions of impression that are needed soon.
--   returns     how many it made
--   reads       impression_new
--   writes      partitions: for the weeks of impression_new, and for this week and the four that follow
-- It makes none before the first impression. It attaches finished tables, so that no reader and no writer waits.
create or replace function recdb.add_impression_weeks()
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    week record;
    made bigint := 0;
begin
    for week in
        select w.starts, w.starts + interval '168 hours' as ends, recdb.impression_week(w.starts) as name
        from (
            select distinct date_trunc('week', n.shown_at, 'UTC') as starts from recdb.impression_new n
            union
            select date_trunc('week', now() + s.weeks * interval '168 hours', 'UTC')
            from generate_series(0, 4) s(weeks)
            where exists (select from recdb.impression_new) or exists (select from recdb.impression_partitions())
        ) w
        where to_regclass(format('recdb.%I', recdb.impression_week(w.starts))) is null
        order by w.starts
    loop
        perform recdb.add_partition('impression', week.name, week.starts, week.ends);
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function recdb.add_impression_weeks() is
    'Internal: makes the partitions of impression that are needed soon; how many.';


-- recdb.impression_partitions: the partitions of impression.
--   returns     the name of each, and when its week begins and ends
--   reads       the system catalogues
create or replace function recdb.impression_partitions()
returns table (name text, starts timestamptz, ends timestamptz)
language sql stable
begin atomic
    select c.relname::text, w.starts, w.starts + interval '168 hours'
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (
        select to_date(substr(c.relname::text, 12), 'YYYYMMDD')::timestamp at time zone 'UTC' as starts) w
    where i.inhparent = 'recdb.impression'::regclass and c.relname::text ~ '^impression_[0-9]{8}$';
end;
comment on function recdb.impression_partitions() is
    'Internal: the partitions of impression, with the week that each of them holds.';


-- recdb.drop_impression_weeks: drop the partitions that are older than config.impression_retention.
--   returns     how many it dropped
--   reads       config
--   writes      drops partitions of impression
-- If the table is in use all the time, it leaves the rest to the next refresh.
create or replace function recdb.drop_impression_weeks()
returns bigint
language plpgsql volatile
set search_path from current
as $$
begin
    return recdb.drop_partitions('recdb.impression', array(
        select p.name from recdb.impression_partitions() p
        where p.ends < now() - (select c.impression_retention from recdb.config c)));
end
$$;
comment on function recdb.drop_impression_weeks() is
    'Internal: drops the partitions of impression that are older than config.impression_retention; how many.';


-- recdb.count_impressions: count again how often each item was shown.
--   reads       impression, ignored_user, user_item
--   writes      item_shown: only rows that differ; impression_state
create or replace function recdb.count_impressions()
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    began constant timestamptz := clock_timestamp();
begin
    with counted as materialized (
        select m.item_key, count(*) as impressions,
            count(*) filter (where exists (
                select from recdb.user_item w
                where w.user_key = m.user_key and w.item_key = m.item_key and w.weight > 0
                  and w.last_at >= m.shown_at)) as touched
        from recdb.impression m
        where m.shown_at >= now() - (select c.impression_retention from recdb.config c)
          and not exists (
              select from recdb.ignored_user g join recdb.user_key u on u.user_id = g.user_id
              where u.user_key = m.user_key)
        group by m.item_key
    ), gone as (
        delete from recdb.item_shown s
        where not exists (select from counted c where c.item_key = s.item_key)
    )
    insert into recdb.item_shown as s (item_key, impressions, touched)
    select c.item_key, c.impressions, c.touched from counted c
    on conflict (item_key) do update set impressions = excluded.impressions, touched = excluded.touched
    where (s.impressions, s.touched) is distinct from (excluded.impressions, excluded.touched);
    insert into recdb.impression_state as s (counted_at, took)
    values (began, clock_timestamp() - began)
    on conflict (only_row) do update set counted_at = excluded.counted_at, took = excluded.took;
end
$$;
comment on function recdb.count_impressions() is
    'Internal: counts again how often each item was shown, and how often its user followed it.';


-- recdb.keep_impressions: the part of a refresh that is about impressions.
--   parameters  recount  true: count item_shown again; false: only if a hundred times as long has passed since the last
--                        count as it took, so that counting takes at most a hundredth of the time
--   reads       impression_new; as copy_impressions()
--   writes      as copy_impressions(); user_key and item_key for new ones; partitions; impression, from impression_new;
--               item_shown
create or replace function recdb.keep_impressions(recount boolean)
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    moved bigint := 0;
    is_new constant boolean := recdb.copy_impressions(coalesce(recount, false));
begin
    if not exists (select from recdb.impression_new) and not exists (select from recdb.impression_partitions()) then
        return;
    end if;
    perform recdb.add_impression_weeks();
    insert into recdb.user_key (user_id)
    select distinct n.user_id from recdb.impression_new n
    where not exists (select from recdb.user_key u where u.user_id = n.user_id)
    order by n.user_id;
    insert into recdb.item_key (item_id)
    select distinct n.item_id from recdb.impression_new n
    where not exists (select from recdb.item_key t where t.item_id = n.item_id)
    order by n.item_id;
    -- Rows that came since then, with a new user, item or week, stay for the next refresh.
    with week as materialized (
        select p.starts, p.ends from recdb.impression_partitions() p
    ), ready as (
        select n.ctid as place_in_table, u.user_key, t.item_key
        from recdb.impression_new n
        join recdb.user_key u on u.user_id = n.user_id
        join recdb.item_key t on t.item_id = n.item_id
        where exists (select from week p where n.shown_at >= p.starts and n.shown_at < p.ends)
    ), gone as (
        delete from recdb.impression_new n
        using ready r
        where n.ctid = r.place_in_table
        returning r.user_key, r.item_key, n.scenario, n.place, n.shown_at, n.model_version, n.experiment, n.variant,
            n.propensity, n.attachment_id
    )
    insert into recdb.impression (
        user_key, item_key, scenario, place, shown_at, model_version, experiment, variant, propensity, attachment_id)
    select g.* from gone g;
    get diagnostics moved = row_count;
    if moved > 0 then
        analyze recdb.impression_new;
    end if;
    if recdb.drop_impression_weeks() > 0 or is_new or coalesce(recount, false) or not exists (
        select from recdb.impression_state s where now() < s.counted_at + 100 * s.took)
    then
        perform recdb.count_impressions();
    end if;
end
$$;
comment on function recdb.keep_impressions(boolean) is
    'Internal: the part of a refresh that is about impressions: partitions, the rows of impression_new, and counts.';
