-- Items that a model version has not seen: where their content places them, and the links that lead to them. A link is
-- a weight as item_neighbor has it, from an item that a user may have to an item that is newer than the version.


-- recdb.place_item: where the content of an item places it among the items that a model version has seen.
--   parameters  model_id   the version
--               tokens     of item_tokens()
--               embedding  of the catalogue; NULL for none
--   returns     a unit vector in the space of content_vector; NULL if the version knows nothing of the content
--   reads       content_token by key
-- An embedding of another width than the version learned from counts for nothing. The version has the tokens -1, -2 and
-- so on up to minus that width.
create or replace function recdb.place_item(model_id integer, tokens bigint[], embedding real[])
returns @vector@.vector
language sql stable
begin atomic
    select case when @vector@.vector_norm(s.total) > 1e-9::double precision then @vector@.l2_normalize(s.total) end
    from (
        select @vector@.sum(c.embedding::@vector@.vector operator(@vector@.*)
            array_fill(p.factor::real, array[cardinality(c.embedding)])::@vector@.vector) as total
        from (
            select t.token, 1 / nullif(sqrt(sum(c.weight::double precision * c.weight::double precision) over ()), 0)
                as factor
            from unnest(place_item.tokens) t(token)
            join recdb.content_token c on c.model_id = place_item.model_id and c.token = t.token
            union all
            select -e.place, e.value::double precision / nullif(sqrt(sum(
                e.value::double precision * e.value::double precision) over ()), 0)
            from unnest(place_item.embedding) with ordinality e(value, place)
            where exists (
                select from recdb.content_token w
                where w.model_id = place_item.model_id and w.token = -cardinality(place_item.embedding))
              and not exists (
                select from recdb.content_token w
                where w.model_id = place_item.model_id and w.token = -cardinality(place_item.embedding) - 1)
        ) p
        join recdb.content_token c on c.model_id = place_item.model_id and c.token = p.token
        where abs(p.factor) > 1e-9::double precision
    ) s;
end;
comment on function recdb.place_item(integer, bigint[], real[]) is
    'Internal: the unit vector of an item from its content, under a model version; NULL if the version knows nothing '
    'of it.';


-- recdb.link_items: rank items of the catalogue that are newer than a model version by their content, from now on.
--   parameters  item_ids  the items
--   returns     how many items were placed, of all kept versions
--   reads       read_item() of each, content_token, content_vector
--   writes      item_key, for items without a key; new_item, item_link
-- The links of an item come from the 300 most similar items that the version has seen, by all vectors of the version:
-- fifty thousand take some 50 ms. Its own links lead to the 50 most similar ones, for users who have the item.
create or replace function recdb.link_items(item_ids text[])
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    placed bigint;
begin
    insert into recdb.item_key (item_id)
    select i.item_id
    from (select distinct u.id from unnest(item_ids) u(id)) u
    cross join lateral recdb.read_item(u.id) i
    where not exists (select from recdb.item_key t where t.item_id = i.item_id) and octet_length(i.item_id) <= 2600
    order by i.item_id
    on conflict (item_id) do nothing;

    with added as (
        insert into recdb.new_item (model_id, item_key, embedding)
        select n.model_id, n.item_key, n.place::real[]
        from (
            select c.model_id, t.item_key, recdb.place_item(
                c.model_id, array(select f.token from recdb.item_tokens(i.owner_id, i.title, i.attributes) f),
                i.embedding) as place
            from (select distinct u.id from unnest(item_ids) u(id)) u
            join recdb.item_key t on t.item_id = u.id
            cross join lateral recdb.read_item(u.id) i
            cross join recdb.model_content c
            join recdb.model m on m.model_id = c.model_id and m.state = 'ready'
            where t.item_key > c.last_item_key and c.scale > 0
              and not exists (
                  select from recdb.new_item n where n.model_id = c.model_id and n.item_key = t.item_key)
        ) n
        on conflict (model_id, item_key) do nothing
        returning model_id, item_key, embedding
    ), near as materialized (
        select a.model_id, a.item_key, v.item_key as source_key, v.weight, v.place
        from added a
        join recdb.model_content c on c.model_id = a.model_id
        cross join lateral (
            select s.item_key, s.similarity * c.scale as weight, row_number() over (order by s.similarity desc) as place
            from (
                select v.item_key, -(v.embedding::@vector@.vector operator(@vector@.<#>)
                    a.embedding::@vector@.vector) as similarity
                from recdb.content_vector v
                where v.model_id = a.model_id
                order by similarity desc
                limit 300
            ) s
            where s.similarity > 0
        ) v
    ), linked as (
        insert into recdb.item_link (model_id, source_key, item_key, touched, weight)
        select n.model_id, n.source_key, n.item_key, false, n.weight from near n
        union all
        select n.model_id, n.item_key, n.source_key, false, n.weight from near n where n.place <= 50
        on conflict (model_id, source_key, item_key, touched) do nothing
    )
    select count(a.embedding) into placed from added a;
    return placed;
end
$$;
comment on function recdb.link_items(text[]) is
    'Internal: lets recommend() rank items that are newer than a model version by their content; how many were placed.';


-- recdb.link_new_items: link_items() for the newest items of the catalogue that no kept version knows.
--   returns     how many items were placed
--   reads       read_items(), item_key, model_content
--   writes      as link_items()
-- A refresh calls it. It takes as many items as their links cost a second or two; the next refresh goes on.
create or replace function recdb.link_new_items()
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    vectors bigint;
begin
    if not exists (
        select from recdb.model_content c join recdb.model m on m.model_id = c.model_id
        where m.state = 'ready' and c.scale > 0)
    then
        return 0;
    end if;
    select count(*) into vectors
    from recdb.content_vector v
    where v.model_id = (select max(c.model_id) from recdb.model_content c where c.scale > 0);
    return recdb.link_items(array(
        select i.item_id
        from recdb.read_items() i
        left join recdb.item_key t on t.item_id = i.item_id
        where i.available and (t.item_key is null or exists (
            select from recdb.model_content c
            join recdb.model m on m.model_id = c.model_id and m.state = 'ready'
            where c.scale > 0 and t.item_key > c.last_item_key and not exists (
                select from recdb.new_item n
                where n.model_id = c.model_id and n.item_key = t.item_key)))
        order by i.published_at desc nulls last, i.item_id
        limit greatest(20, least(1000, 2000000 / greatest(1, vectors)))));
end
$$;
comment on function recdb.link_new_items() is
    'Internal: lets recommend() rank the newest items of the catalogue that no kept model version knows.';


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


-- recdb.touched_items: the new items that some users have touched.
--   parameters  user_keys  the users
--   returns     one row per kept version and item that at least two users touched since the last rebuild: their number,
--               the share of them that is looked at, and parameters of the version
--   reads       user_item_recent, model, model_content, new_item
create or replace function recdb.touched_items(user_keys integer[])
returns table (
    model_id integer, item_key integer, users bigint, share double precision,
    pair_limit double precision, weight_exponent double precision, target_exponent double precision
)
language sql stable
begin atomic
    select t.model_id, n.item_key, count(*), least(1, 100::double precision / count(*)),
        t.pair_limit, t.weight_exponent, t.target_exponent
    from (
        select m.model_id, c.last_item_key, coalesce(m.pair_limit, 'Infinity'::double precision) as pair_limit,
            p.item_weight_exponent as weight_exponent, p.target_exponent
        from recdb.model m
        join recdb.model_content c on c.model_id = m.model_id
        cross join lateral jsonb_to_record(m.params) p(
            item_weight_exponent double precision, target_exponent double precision)
        where m.state = 'ready'
    ) t
    join recdb.user_item_recent n on n.weight > 0 and (
        n.item_key > t.last_item_key or exists (
            select from recdb.new_item w where w.model_id = t.model_id and w.item_key = n.item_key))
    where n.item_key in (
        select r.item_key from recdb.user_item_recent r where r.user_key = any (touched_items.user_keys))
    group by t.model_id, n.item_key, t.pair_limit, t.weight_exponent, t.target_exponent
    -- After a rebuild, user_item_recent has only the users since.
    having count(*) > 1 and count(*) >= coalesce((
        select w.users from recdb.new_item w where w.model_id = t.model_id and w.item_key = n.item_key), 0);
end;
comment on function recdb.touched_items(integer[]) is
    'Internal: the items that are newer than a model version and that at least two users touched, among them some '
    'users.';


-- recdb.link_touched: rank new items also by who touched them.
--   parameters  user_keys  the users whose interactions have just been weighed again
--   returns     how many items were linked, of all kept versions
--   reads       user_item_recent, model, model_content, item_popularity, item_neighbor
--   writes      new_item, item_link
-- The weight that item j gives to a new item i estimates the N_ji of a training. Among the users of both, it compares i
-- with the neighbours k that j has, and j has total_j with n_j users:
--   N_ji = total_j n_ij / n_j * sum over u of w_ui n_i^-y / sum over u and k of w_uk n_k^-y
-- where n is a number of users, and w and y are as in the training. So a user adds at most total_j / n_j to any weight,
-- and a single one adds nothing: two users have to touch an item. What its content says counts less with each of them.
-- 100 users of an item, with 50 items each, are enough.
create or replace function recdb.link_touched(user_keys integer[])
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
begin
    for fresh in
        select t.* from recdb.touched_items(user_keys) t order by t.model_id, t.item_key
    loop
        update recdb.item_link l
        set weight = l.weight * (10 + w.users)::double precision / (10 + fresh.users)
        from recdb.new_item w
        where l.model_id = fresh.model_id and l.item_key = fresh.item_key and not l.touched
          and w.model_id = fresh.model_id and w.item_key = fresh.item_key;
        insert into recdb.new_item (model_id, item_key, users)
        values (fresh.model_id, fresh.item_key, fresh.users)
        on conflict (model_id, item_key) do update set users = excluded.users;
        delete from recdb.item_link l
        where l.model_id = fresh.model_id and l.item_key = fresh.item_key and l.touched;
        select array_agg(n.user_key) as users, array_agg(n.item_key) as items,
            array_agg(recdb.signed_power(least(n.weight, fresh.pair_limit), fresh.weight_exponent)
                * power(greatest(p.users, 1), -fresh.target_exponent)) as weights,
            array_agg(greatest(p.users, 1)) as counts
        into held
        from (
            select t.user_key from recdb.user_item_recent t
            where t.item_key = fresh.item_key and t.weight > 0
            order by hashint4(t.user_key)
            limit 100
        ) t
        join recdb.user_item_recent n on n.user_key = t.user_key and n.weight > 0
          and (n.position <= 50 or n.item_key = fresh.item_key)
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
        select fresh.model_id, s.item_key, fresh.item_key, true,
            s.total * s.of_new / greatest(b.weight, s.of_all / 20, s.of_new)
        from unnest(sources.items, sources.totals, sources.of_new, sources.of_all) s(item_key, total, of_new, of_all)
        left join recdb.weigh_beside(
            fresh.model_id, sources.items, held.users, held.items, held.weights) b on b.item_key = s.item_key;
        linked := linked + 1;
    end loop;
    return linked;
end
$$;
comment on function recdb.link_touched(integer[]) is
    'Internal: ranks items that are newer than a model version by who touched them; how many were linked.';
