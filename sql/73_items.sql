-- What a refresh keeps of each item for the lists that scenarios steer: its key, its first interaction, and whether it
-- was shown so rarely that it may be explored.


-- recdb.assign_keys: give users and items that have no key a dense integer key, in the order of their ids.
--   reads       interactions, all of them
--   writes      user_key, item_key, the first interaction of each item too
-- An attached table may hold ids that are too long for an index entry: they get no key. An interaction without a time
-- is not the first one, and one of the future counts as now.
create or replace function recdb.assign_keys()
returns void
language plpgsql volatile
set search_path from current
as $$
begin
    insert into recdb.user_key (user_id)
    select distinct s.user_id from recdb.sum_by_user() s
    where not exists (select from recdb.user_key u where u.user_id = s.user_id)
      and octet_length(s.user_id) <= 2600
    order by s.user_id;
    with touched as materialized (
        select s.item_id, min(s.first_at) as first_at
        from recdb.sum_by_item() s
        where octet_length(s.item_id) <= 2600
        group by s.item_id
    ), added as (
        insert into recdb.item_key (item_id, first_at)
        select t.item_id, case when t.first_at is not null then least(t.first_at, now()) end
        from touched t
        where not exists (select from recdb.item_key k where k.item_id = t.item_id)
        order by t.item_id
    )
    update recdb.item_key k
    set first_at = n.first_at
    from (
        -- What config.retention deleted was the first one all the same.
        select b.item_key, case
            when b.first_at < (select recdb.kept_since()) then least(b.first_at, t.first_at)
            when t.first_at is not null then least(t.first_at, now()) end as first_at
        from recdb.item_key b
        left join touched t on t.item_id = b.item_id
    ) n
    where n.item_key = k.item_key and n.first_at is distinct from k.first_at;
end
$$;
comment on function recdb.assign_keys() is
    'Internal: gives dense integer keys to users and items that have none, and writes the first interaction of items.';


-- recdb.date_items: write the first interaction of items that nobody had touched before.
--   parameters  user_keys  users whose interactions have just been weighed again
--   reads       user_item_recent, item_popularity, interactions_of_users()
--   writes      item_key.first_at, where it is NULL and the item has no popularity yet
-- A rebuild has it from all interactions; so what is imported later with an older time counts from then on.
create or replace function recdb.date_items(user_keys integer[])
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    first_ids constant text[] := array(
        select distinct u.user_id
        from recdb.user_item_recent w
        join recdb.item_key t on t.item_key = w.item_key and t.first_at is null
        join recdb.user_key u on u.user_key = w.user_key
        where w.user_key = any (user_keys)
          and not exists (select from recdb.item_popularity p where p.item_key = w.item_key));
begin
    if first_ids = '{}' then
        return;
    end if;
    update recdb.item_key k
    set first_at = least(n.first_at, now())
    from (
        select t.item_key, min(i.created_at) as first_at
        from recdb.interactions_of_users(first_ids) i
        join recdb.item_key t on t.item_id = i.item_id and t.first_at is null
        where i.created_at > '-infinity'
          and not exists (select from recdb.item_popularity p where p.item_key = t.item_key)
        group by t.item_key
    ) n
    where n.item_key = k.item_key;
end
$$;
comment on function recdb.date_items(integer[]) is
    'Internal: writes the first interaction of the items that only these users have touched.';


-- recdb.keep_little_shown: choose the items that scenarios may explore.
--   parameters  refill  true: while a scenario explores; false: only if, besides, a hundred times as long has passed
--                       since the last time as it took
--   reads       scenario, read_items(), item_key, item_shown
--   writes      little_shown: only rows that differ; item_key for items without a key; little_shown_state
-- An item that no catalogue has may be one of them, unless config.listed_only. If an attached catalogue cannot be read,
-- the items with a key are taken: a list looks each of them up, and leaves out what is not available.
create or replace function recdb.keep_little_shown(refill boolean)
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    began constant timestamptz := clock_timestamp();
    below constant bigint := (select max(s.explore_below) from recdb.scenario s where s.explore > 0);
    listed_only constant boolean := (select c.listed_only from recdb.config c);
    chosen text[];
begin
    -- Where nothing explores, nobody reads the pool, and filling it would read the whole catalogue.
    if not exists (select from recdb.scenario s where s.explore > 0)
        or not coalesce(refill, false)
            and exists (select from recdb.little_shown_state s where now() < s.filled_at + 100 * s.took)
    then
        return;
    end if;
    begin
        chosen := array(
            select coalesce(i.item_id, t.item_id)
            from recdb.read_items() i
            full join recdb.item_key t on t.item_id = i.item_id
            left join recdb.item_shown s on s.item_key = t.item_key
            where coalesce(i.available, not listed_only)
              and coalesce(i.published_at <= now(), true)
              and coalesce(s.impressions, 0) < below
              and octet_length(coalesce(i.item_id, t.item_id)) <= 2600
            order by coalesce(i.published_at, t.first_at) desc nulls last, 1
            limit 10000);
    exception when others then
        if recdb.failing_items(sqlstate) is null then
            raise;
        end if;
        chosen := array(
            select t.item_id
            from recdb.item_key t
            left join recdb.item_shown s on s.item_key = t.item_key
            where coalesce(s.impressions, 0) < below
            order by t.first_at desc nulls last, t.item_id
            limit 10000);
    end;
    insert into recdb.item_key (item_id)
    select c.item_id from unnest(chosen) c(item_id)
    where not exists (select from recdb.item_key t where t.item_id = c.item_id)
    order by c.item_id
    on conflict (item_id) do nothing;

    with wanted as materialized (
        select t.item_key, coalesce(s.impressions, 0)::integer as impressions,
            coalesce(s.touched, 0)::integer as touched
        from unnest(chosen) c(item_id)
        join recdb.item_key t on t.item_id = c.item_id
        left join recdb.item_shown s on s.item_key = t.item_key
    ), gone as (
        delete from recdb.little_shown l
        where not exists (select from wanted w where w.item_key = l.item_key)
    )
    insert into recdb.little_shown as l (item_key, slot, impressions, touched)
    select w.item_key, hashint4(w.item_key), w.impressions, w.touched from wanted w
    on conflict (item_key) do update set impressions = excluded.impressions, touched = excluded.touched
    where (l.impressions, l.touched) is distinct from (excluded.impressions, excluded.touched);
    insert into recdb.little_shown_state as s (filled_at, took)
    values (began, clock_timestamp() - began)
    on conflict (only_row) do update set filled_at = excluded.filled_at, took = excluded.took;
end
$$;
comment on function recdb.keep_little_shown(boolean) is
    'Internal: chooses the items that scenarios may explore: the newest of those with few impressions.';
