-- New items that users have touched since the training: a refresh ranks them also by who touched them.


-- recdb.weigh_beside: how much users have of the neighbours of some items, beside these items.
--   parameters  model_id               the version
--               sources                the items
--               users, items, weights  what the users have, three arrays of one length
--   returns     for each of the items the sum of the weights of its neighbours, over the users who have the item
--   reads       item_neighbor by key
-- PostgreSQL does not know how long the arrays are, and would join them row by row.
create or replace function recdb.weigh_beside(
    model_id integer, sources integer[], users integer[], items integer[], weights double precision[]
)
returns table (item_key integer, weight double precision)
language plpgsql stable rows 300
set search_path from current
set enable_nestloop = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    neighbors record;
begin
    select array_agg(n.source_key) as sources, array_agg(n.item_key) as items into neighbors
    from (
        select r.item_key as source_key, unnest(r.neighbor_keys) as item_key
        from recdb.item_neighbor r
        where r.model_id = weigh_beside.model_id and r.item_key = any (weigh_beside.sources)
    ) n;
    return query
    select k.source_key, sum(o.weight)
    from unnest(neighbors.sources, neighbors.items) k(source_key, item_key)
    join unnest(users, items) h(user_key, item_key) on h.item_key = k.source_key
    join unnest(users, items, weights) o(user_key, item_key, weight)
      on o.user_key = h.user_key and o.item_key = k.item_key and o.item_key <> h.item_key
    group by k.source_key;
end
$$;
comment on function recdb.weigh_beside(integer, integer[], integer[], integer[], double precision[]) is
    'Internal: how much users have of the neighbours of some items, beside these items.';


-- recdb.kept_links: the weights of a new item that a training would keep.
--   parameters  model_id     the version
--               source_keys  the items that give the weights
--               weights      as many
--   returns     source_key, weight: where the item has fewer stronger neighbours than an item keeps in this version
--   reads       model; item_neighbor and new_item by key
-- Without it, many small weights would lead a new item to everybody. The links to items that nobody had touched come
-- beside the neighbours that an item keeps.
create or replace function recdb.kept_links(
    model_id integer, source_keys integer[], weights double precision[]
)
returns table (source_key integer, weight double precision)
language sql stable rows 100
begin atomic
    select l.source_key, l.weight
    from unnest(kept_links.source_keys, kept_links.weights) l(source_key, weight)
    where (
        select count(*)
        from recdb.item_neighbor r
        cross join lateral unnest(r.neighbor_keys, r.weights) n(item_key, weight)
        where r.model_id = kept_links.model_id and r.item_key = l.source_key and n.item_key <> l.source_key
          and abs(n.weight) > l.weight
          and n.item_key not in (select w.item_key from recdb.new_item w where w.model_id = kept_links.model_id)
    ) < (select (m.params ->> 'item_neighbors')::integer from recdb.model m where m.model_id = kept_links.model_id);
end;
comment on function recdb.kept_links(integer, integer[], double precision[]) is
    'Internal: the weights of a new item that a training would keep beside the neighbours of each item.';


-- recdb.new_keys: the items among some that a kept model version does not know.
--   parameters  item_keys  the items; NULL for none
--   returns     item keys, each once
--   reads       item_vector and others by key, as knows()
create or replace function recdb.new_keys(item_keys integer[])
returns integer[]
language sql stable
begin atomic
    select array(
        select k.item_key
        from (select distinct u.item_key from unnest(new_keys.item_keys) u(item_key)) k
        where exists (
            select from recdb.model_content c
            join recdb.model m on m.model_id = c.model_id and m.state = 'ready'
            where not exists (
                select from recdb.item_vector v where v.model_id = c.model_id and v.item_key = k.item_key)
              and not recdb.knows(c.model_id, k.item_key)));
end;
comment on function recdb.new_keys(integer[]) is
    'Internal: the items among some that a kept model version does not know.';


-- recdb.touched_keys: the new items whose users are no longer those by which they are linked.
--   returns     item keys
--   reads       new_item, user_item as a whole: a rebuild calls it
create or replace function recdb.touched_keys()
returns integer[]
language plpgsql stable
set search_path from current
as $$
begin
    if not exists (select from recdb.new_item n where n.users > 0) then
        return '{}';
    end if;
    return array(
        select distinct n.item_key
        from recdb.new_item n
        left join (
            select w.item_key, count(*) as users from recdb.user_item w where w.weight > 0 group by w.item_key
        ) h on h.item_key = n.item_key
        where n.users > 0 and coalesce(h.users, 0) <> n.users);
end
$$;
comment on function recdb.touched_keys() is
    'Internal: the new items whose users are no longer those by which they are linked.';


-- recdb.holders: who has some items now.
--   parameters  item_keys  the items
--               everybody  true: among all users; false: among those that changed since the last rebuild, and where
--                          these are fewer than an item had in the active version, among all
--   returns     one row per item that somebody has: the number of users, and 100 of them
--   reads       user_item_recent; user_item_settled as a whole, if it has to
create or replace function recdb.holders(item_keys integer[], everybody boolean)
returns table (item_key integer, users bigint, user_keys integer[])
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
    settled integer[] := item_keys;
begin
    if not everybody then
        settled := array(
            select n.item_key
            from recdb.new_item n
            join recdb.model m on m.model_id = n.model_id and m.active
            left join (
                select r.item_key, count(*) as users
                from recdb.user_item_recent r
                where r.weight > 0 and r.item_key = any (holders.item_keys)
                group by r.item_key
            ) c on c.item_key = n.item_key
            where n.item_key = any (holders.item_keys) and n.users > coalesce(c.users, 0));
    end if;
    return query
    select h.item_key, h.users, array_agg(h.user_key order by h.place)
    from (
        select o.item_key, o.user_key, count(*) over (partition by o.item_key) as users,
            row_number() over (partition by o.item_key order by hashint4(o.user_key), o.user_key) as place
        from (
            select r.item_key, r.user_key from recdb.user_item_recent r
            where r.weight > 0 and r.item_key = any (holders.item_keys)
            union all
            select s.item_key, s.user_key from recdb.user_item_settled s
            where settled <> '{}' and s.weight > 0 and s.item_key = any (settled)
              and not exists (select from recdb.recent_user g where g.user_key = s.user_key)
        ) o
    ) h
    where h.place <= 100
    group by h.item_key, h.users;
end
$$;
comment on function recdb.holders(integer[], boolean) is
    'Internal: how many users have some items now, and 100 users of each.';


-- recdb.touched_items: the new items among some items, with their users.
--   parameters  item_keys  the items
--               everybody  as holders()
--   returns     one row per kept version that does not know the item: how many users it has now, 100 of them, the share
--               of the users that these are, how many it had, and parameters of the version
--   reads       holders(), model, model_content, new_item
create or replace function recdb.touched_items(item_keys integer[], everybody boolean)
returns table (
    model_id integer, item_key integer, users bigint, had bigint, user_keys integer[], share double precision,
    pair_limit double precision, weight_exponent double precision, target_exponent double precision
)
language sql stable
begin atomic
    select t.model_id, k.item_key, coalesce(h.users, 0::bigint), coalesce(w.users, 0)::bigint, h.user_keys,
        least(1::double precision, 100::double precision / coalesce(h.users, 1::bigint)::double precision),
        t.pair_limit, t.weight_exponent, t.target_exponent
    from (
        select m.model_id, m.active, coalesce(m.pair_limit, 'Infinity'::double precision) as pair_limit,
            p.item_weight_exponent as weight_exponent, p.target_exponent
        from recdb.model m
        join recdb.model_content c on c.model_id = m.model_id
        cross join lateral jsonb_to_record(m.params) p(
            item_weight_exponent double precision, target_exponent double precision)
        where m.state = 'ready'
    ) t
    cross join unnest(touched_items.item_keys) k(item_key)
    left join recdb.holders(touched_items.item_keys, touched_items.everybody) h on h.item_key = k.item_key
    left join recdb.new_item w on w.model_id = t.model_id and w.item_key = k.item_key
    where not recdb.knows(t.model_id, k.item_key)
      -- Of items that another version alone does not know, holders() may not find users from before the last rebuild.
      and (touched_items.everybody or t.active or coalesce(h.users, 0::bigint) >= coalesce(w.users, 0))
      and (h.users > 1 or w.users > 0);
end;
comment on function recdb.touched_items(integer[], boolean) is
    'Internal: the items among some items that a kept model version does not know, with their users now.';


-- recdb.link_touched: rank new items also by who touched them.
--   parameters  item_keys  the items whose users have just changed; those that all versions know are left out
--               everybody  as holders()
--   returns     how many items were linked, of all kept versions
--   reads       touched_items(), user_item by user, item_popularity, item_neighbor
--   writes      new_item, item_link
-- The weight that item j gives to a new item i estimates the N_ji of a training. Among the users of both, it compares i
-- with the neighbours k that j has, and j has total_j with n_j users:
--   N_ji = total_j n_ij / n_j * sum over u of w_ui n_i^-y / sum over u and k of w_uk n_k^-y
-- where n is a number of users, and w and y are as in the training. So a user adds at most total_j / n_j to any weight,
-- and a single one adds nothing: two users have to touch an item. What its content says counts less with each of them,
-- and more again if they take it back. 100 users of an item, with 50 items each, are enough. kept_links() leaves out
-- small weights.
create or replace function recdb.link_touched(item_keys integer[], everybody boolean default false)
returns bigint
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    fresh record;
    held record;
    sources record;
    linked bigint := 0;
    changed constant integer[] := recdb.new_keys(item_keys);
begin
    if changed = '{}' then
        return 0;
    end if;
    for fresh in
        select t.* from recdb.touched_items(changed, everybody) t order by t.model_id, t.item_key
    loop
        if fresh.users <> fresh.had then
            update recdb.item_link l
            set weight = l.weight::double precision * (10 + fresh.had)::double precision
                / (10 + fresh.users)::double precision
            where l.model_id = fresh.model_id and l.item_key = fresh.item_key and not l.touched;
        end if;
        insert into recdb.new_item (model_id, item_key, users)
        values (fresh.model_id, fresh.item_key, fresh.users)
        on conflict (model_id, item_key) do update set users = excluded.users;
        delete from recdb.item_link l
        where l.model_id = fresh.model_id and l.item_key = fresh.item_key and l.touched;
        continue when fresh.users < 2;
        select array_agg(n.user_key) as users, array_agg(n.item_key) as items,
            array_agg(recdb.signed_power(least(n.weight, fresh.pair_limit), fresh.weight_exponent)
                * power(greatest(p.users, 1), -fresh.target_exponent)) as weights,
            array_agg(greatest(p.users, 1)) as counts
        into held
        from unnest(fresh.user_keys) t(user_key)
        cross join lateral (
            select i.user_key, i.item_key, i.weight from recdb.user_item i
            where i.user_key = t.user_key and i.weight > 0 and (i.position <= 50 or i.item_key = fresh.item_key)
            offset 0
        ) n
        join recdb.item_popularity p on p.item_key = n.item_key;

        select array_agg(s.item_key) as items, array_agg(s.total) as totals, array_agg(s.of_new) as of_new,
            array_agg(s.of_all) as of_all
        into sources
        from (
            select h.item_key, r.total_weight / h.users * count(*) / fresh.share as total, sum(h.of_new) as of_new,
                sum(h.of_user) as of_all
            from (
                select v.*, sum(v.weight) over of_user as of_user,
                    sum(v.weight) filter (where v.item_key = fresh.item_key) over of_user as of_new
                from unnest(held.users, held.items, held.weights, held.counts) v(user_key, item_key, weight, users)
                window of_user as (partition by v.user_key)
            ) h
            join recdb.item_neighbor r on r.model_id = fresh.model_id and r.item_key = h.item_key
            where h.item_key <> fresh.item_key
            group by h.item_key, h.users, r.total_weight
            order by r.total_weight / h.users * sum(h.of_new / h.of_user) desc
            limit 300
        ) s;

        insert into recdb.item_link (model_id, source_key, item_key, touched, weight)
        select fresh.model_id, l.source_key, fresh.item_key, true, l.weight
        from recdb.kept_links(fresh.model_id, sources.items, array(
            select s.total * s.of_new / greatest(b.weight, s.of_all / 20, s.of_new)
            from unnest(sources.items, sources.totals, sources.of_new, sources.of_all)
                with ordinality s(item_key, total, of_new, of_all, place)
            left join recdb.weigh_beside(
                fresh.model_id, sources.items, held.users, held.items, held.weights) b on b.item_key = s.item_key
            order by s.place)) l;
        linked := linked + 1;
    end loop;
    return linked;
end
$$;
comment on function recdb.link_touched(integer[], boolean) is
    'Internal: ranks items that a model version does not know by who touched them; how many were linked.';


-- recdb.take_back: let new items count no more for users who, after a rebuild, no longer have them.
--   reads       touched_keys(), user_item by user, all user_vector of the kept versions
--   writes      as link_touched(); user_vector: of users who no longer have such an item, the items and weights
-- Where Citus has spread the vectors, it would send all of user_item to the nodes, if these asked for a user's items.
create or replace function recdb.take_back()
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    changed constant integer[] := recdb.touched_keys();
begin
    if changed = '{}' then
        return;
    end if;
    perform recdb.link_touched(changed, true);
    with held as materialized (
        select o.model_id, o.user_key, o.item_keys, o.weights
        from recdb.user_vector o
        where o.item_keys && changed
    ), kept as materialized (
        select h.model_id, h.user_key, array_agg(u.item_key order by u.place) as item_keys,
            array_agg(u.weight order by u.place) as weights, sum(abs(u.weight)) as total_weight, count(*) as items
        from held h
        cross join lateral unnest(h.item_keys, h.weights) with ordinality u(item_key, weight, place)
        where u.item_key <> all (changed) or exists (
            select from recdb.user_item w where w.user_key = h.user_key and w.item_key = u.item_key)
        group by h.model_id, h.user_key
    )
    update recdb.user_vector v
    set item_keys = k.item_keys, weights = k.weights, total_weight = k.total_weight
    from kept k
    where v.model_id = k.model_id and v.user_key = k.user_key and cardinality(v.item_keys) > k.items;
end
$$;
comment on function recdb.take_back() is
    'Internal: after a rebuild, new items count no more for users who no longer have them.';
