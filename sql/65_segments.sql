-- The counts of the items that are popular in segments. segment_items() of 65_popularity gives them to lists: for the
-- largest segments those that a refresh counted; else it counts at the call.


-- recdb.choose_segments: choose the segments whose counts are kept.
--   reads       user_attributes
--   writes      segment_popularity: a row for each of the 100 largest segments of one attribute, or of two, that 50
--               users or more have; it keeps the counts of those that it had
-- Texts, numbers and booleans count, up to 200 bytes with their name. Pairs are made from the hundred most frequent
-- values of the eight names that most users share a value of: so a user has few of them.
create or replace function recdb.choose_segments()
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    with value as materialized (
        select a.user_id, e.key as name, e.value
        from recdb.user_attributes a
        cross join lateral jsonb_each(a.attributes) e
        where jsonb_typeof(e.value) in ('string', 'number', 'boolean')
          and octet_length(e.key) + octet_length(e.value::text) <= 200
    ), single as materialized (
        select row_number() over (order by s.users desc, s.name, s.value) as number, s.name, s.value, s.users
        from (
            select v.name, v.value, count(*) as users from value v group by v.name, v.value having count(*) >= 50
        ) s
        order by number
        limit 100
    ), held as materialized (
        select v.user_id, s.number, s.name, s.value
        from value v
        join single s on s.name = v.name and s.value = v.value
        where s.name in (select n.name from single n group by n.name order by max(n.users) desc, n.name limit 8)
    ), chosen as materialized (
        select u.segment, u.users
        from (
            select jsonb_build_object(s.name, s.value) as segment, s.users from single s
            union all
            select jsonb_build_object(h.name, h.value, g.name, g.value), count(*)
            from held h
            join held g on g.user_id = h.user_id and g.number > h.number
            group by h.name, h.value, g.name, g.value
            having count(*) >= 50
        ) u
        order by u.users desc, u.segment
        limit 100
    ), gone as (
        delete from recdb.segment_popularity p
        where not exists (select from chosen c where c.segment = p.segment)
    )
    insert into recdb.segment_popularity as p (segment, users)
    select c.segment, c.users from chosen c
    on conflict (segment) do update set users = excluded.users where p.users <> excluded.users;
end
$$;
comment on function recdb.choose_segments() is
    'Internal: chooses the segments whose counts a refresh keeps: the largest ones.';


-- recdb.count_segment: count a segment, and keep the counts.
--   parameters  segment  of segment_popularity
--   reads       as segment_members() and segment_rates()
--   writes      the row of segment_popularity
create or replace function recdb.count_segment(segment jsonb)
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    began constant timestamptz := clock_timestamp();
    members constant integer[] := recdb.segment_members(segment);
    counted record;
begin
    select coalesce(array_agg(r.item_key), '{}') as item_keys, coalesce(array_agg(r.item_id), '{}') as item_ids,
        coalesce(array_agg(r.rate), '{}') as rates
    into counted
    from (select s.* from recdb.segment_rates(members) s limit 1000) r;
    update recdb.segment_popularity p
    set member_keys = members, item_keys = counted.item_keys, item_ids = counted.item_ids, rates = counted.rates,
        counted_at = began, took = clock_timestamp() - began
    where p.segment = count_segment.segment;
end
$$;
comment on function recdb.count_segment(jsonb) is
    'Internal: counts the items that are popular in a segment, and keeps the counts.';


-- recdb.uncount_members: take users out of the kept counts.
--   parameters  user_keys  the users, who are forgotten, ignored, or gone into another user
--   writes      segment_popularity: the segments with these users lose their counts, so that calls count them until the
--               next refresh does
create or replace function recdb.uncount_members(user_keys integer[])
returns void
language plpgsql volatile
as $$
begin
    update recdb.segment_popularity p
    set member_keys = null, item_keys = null, item_ids = null, rates = null, counted_at = null, took = null
    where p.member_keys && user_keys;
end
$$;
comment on function recdb.uncount_members(integer[]) is
    'Internal: drops the counts of the segments for which some users were counted.';


-- recdb.keep_segments: count segments whose turn it is.
--   parameters  recount  true: choose the segments and count them all; false: those that lost their counts, the largest
--                        first and for a second; if none did, the one whose counts are oldest, unless less than a
--                        hundred times as long has passed since the last count as it took
--   reads, writes  as choose_segments() and count_segment()
create or replace function recdb.keep_segments(recount boolean)
returns void
language plpgsql volatile
as $$
declare
    began constant timestamptz := clock_timestamp();
    due jsonb;
begin
    if recount then
        perform recdb.choose_segments();
        perform recdb.count_segment(p.segment) from recdb.segment_popularity p;
        return;
    end if;
    for due in select p.segment from recdb.segment_popularity p where p.item_keys is null order by p.users desc loop
        perform recdb.count_segment(due);
        exit when clock_timestamp() > began + interval '1 second';
    end loop;
    if due is null and not exists (
        select from recdb.segment_popularity p where began < p.counted_at + 100 * p.took)
    then
        select p.segment into due from recdb.segment_popularity p order by p.counted_at limit 1;
        if found then
            perform recdb.count_segment(due);
        end if;
    end if;
end
$$;
comment on function recdb.keep_segments(boolean) is
    'Internal: counts the segments whose turn it is.';
