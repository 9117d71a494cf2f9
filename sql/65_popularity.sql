-- Popularity: popular() reads item_popularity, and the other functions of this file keep it up to date.


-- recdb.popular: the most popular items, for nobody in particular, or for people of a kind.
--   parameters  k        how many, 1 to 1000; NULL is 50
--               filter   only items that meet this, as in recommend(); NULL for all items
--               segment  attributes of users, such as {"country": "de"}: what is popular among the users whose
--                        attributes contain them; NULL and {} for all users
--   returns     the filler of recommend(fallback => 'popular') for a user without interactions: score 1 for the most
--               popular item, descending, then item_id; a filter does not rescale. With a segment, the filler for it
--   reads       as fill_up()
--   errors      22023 for k outside 1..1000, or for a segment that is no object
create or replace function recdb.popular(
    k bigint default 50, filter jsonb default null, segment jsonb default null
)
returns table (item_id text, score double precision)
language plpgsql stable security definer rows 50
set search_path from current
as $$
#variable_conflict use_column
declare
    wanted constant bigint := recdb.check_k(popular.k, 50);
    chosen constant jsonb := recdb.check_segment(popular.segment);
    unreadable text[];
begin
    perform recdb.check_sources();
    return query
    select f.item_id, f.score
    from recdb.fill_up(wanted, null, '{}', popular.filter, '{}', null, null, null, chosen) f;
exception when others then
    perform recdb.refuse_failing(sqlstate, null);
    unreadable := recdb.failing_items(sqlstate);
    if unreadable is null then
        raise;
    end if;
    return query
    select f.item_id, f.score
    from recdb.fill_up(wanted, null, '{}', popular.filter, unreadable, null, null, null, chosen) f;
end
$$;
comment on function recdb.popular(bigint, jsonb, jsonb) is
    'The k most popular available items, for nobody in particular; the most popular has score 1. Items of the '
    'catalogue without interactions come last, newest first. filter: as in recommend(). '
    'segment: the items that are popular among the users whose recdb.user_attributes contain it, such as '
    '{"country": "de"}: for somebody without a history, if you know that much; a segment of few users leans on all '
    'users. Error 22023 for k outside 1..1000, or a segment that is no object.';


-- recdb.segment_members: the users of a segment whose interactions count for it.
--   parameters  segment  attributes of users
--   returns     the keys of the first 2,000 users with interactions, by a hash of their ids
--   reads       user_attributes by index, user_key
-- Of a large segment most users are only counted off: their keys, each a look-up of its own, are not read. All are, if
-- most of the first 4,000 have no interactions.
create or replace function recdb.segment_members(segment jsonb)
returns integer[]
language plpgsql stable
as $$
declare
    drawn constant text[] := array(
        select a.user_id
        from recdb.user_attributes a
        where a.attributes @> segment
        order by hashtext(a.user_id), a.user_id
        limit 4000);
    keys integer[] := array(
        select u.user_key
        from unnest(drawn) with ordinality a(user_id, place)
        cross join lateral (
            select u.user_key from recdb.user_key u where u.user_id = a.user_id offset 0
        ) u
        order by a.place
        limit 2000);
begin
    if cardinality(drawn) = 4000 and cardinality(keys) < 2000 then
        keys := array(
            select u.user_key
            from recdb.user_attributes a
            cross join lateral (
                select u.user_key from recdb.user_key u where u.user_id = a.user_id offset 0
            ) u
            where a.attributes @> segment
            order by hashtext(a.user_id), a.user_id
            limit 2000);
    end if;
    return keys;
end
$$;
comment on function recdb.segment_members(jsonb) is
    'Internal: the keys of the users of a segment whose interactions count for it, at most 2,000.';


-- recdb.segment_rates: the items by their popularity among some users.
--   parameters  members  of segment_members()
--   returns     the items that these users touched, and the 1,000 most popular of all, by rate: descending, then
--               item_id. No rows for no users
--   reads       popularity_of() for the users, item_popularity
-- The rate is what a user of the segment gives an item on average, as if 10 users of average taste belonged to it:
--   rate(i) = (sum over the n users of the segment of popularity_weight(u, i) + 10 * total(i) / N) / (n + 10)
-- where total(i) is the popularity among all N users, those of the active model, or with a key if there is none: the
-- m-estimate (Cestnik, Estimating probabilities: a crucial task in machine learning, 1990). Of a larger segment, 2,000
-- users count, drawn by a hash of their ids.
create or replace function recdb.segment_rates(members integer[])
returns table (item_key integer, item_id text, rate double precision)
language plpgsql stable rows 1000 cost 10000
as $$
#variable_conflict use_column
declare
    everybody constant double precision := greatest(1, cardinality(members), coalesce(
        (select m.users from recdb.model m where m.active), (select count(*) from recdb.user_key)));
    counted record;
begin
    if members = '{}' then
        return;
    end if;
    select p.* into counted from recdb.popularity_of(members) p;
    return query
    select c.item_key, p.item_id, round(
            ((c.weight + 10 * greatest(0, p.total) / everybody) / (cardinality(members) + 10))::numeric, 12
        )::double precision
    from (
        select s.item_key, sum(s.weight) as weight
        from (
            select c.item_key, c.weight from unnest(counted.item_keys, counted.weights) c(item_key, weight)
            union all
            select t.item_key, 0
            from (select p.item_key from recdb.item_popularity p order by p.weight desc, p.item_id limit 1000) t
        ) s
        group by s.item_key
    ) c
    cross join lateral (
        select p.item_id, p.total from recdb.item_popularity p where p.item_key = c.item_key offset 0
    ) p
    where c.weight + p.total > 0
    order by 3 desc, 2;
end
$$;
comment on function recdb.segment_rates(integer[]) is
    'Internal: the items by their popularity among some users, drawn towards their popularity among all.';


-- recdb.segment_items: the items by their popularity in a segment.
--   parameters  segment  attributes of users
--   returns     the best 1,000 items of segment_rates() as a refresh counted them, if their counts are kept; else all
--               items, counted now. No rows if no user with interactions has these attributes
--   reads       segment_popularity; where it has no counts, as segment_members() and segment_rates()
create or replace function recdb.segment_items(segment jsonb)
returns table (item_key integer, item_id text, rate double precision)
language plpgsql stable rows 1000 cost 10000
as $$
#variable_conflict use_column
declare
    kept record;
begin
    select p.item_keys, p.item_ids, p.rates into kept
    from recdb.segment_popularity p
    where p.segment = segment_items.segment and p.item_keys is not null;
    if found then
        return query
        select k.item_key, k.item_id, k.rate
        from unnest(kept.item_keys, kept.item_ids, kept.rates) k(item_key, item_id, rate);
    else
        return query
        select r.item_key, r.item_id, r.rate from recdb.segment_rates(recdb.segment_members(segment)) r;
    end if;
end
$$;
comment on function recdb.segment_items(jsonb) is
    'Internal: the items by their popularity among the users with some attributes, from kept counts or counted now.';


-- recdb.popularity_weight: how much one user adds to the popularity of one item.
--   parameters  weight, heaviest  as the columns of user_item
--   returns     the weight, at least 0, and at most that of one interaction, the user's heaviest with the item: so an
--               item is popular with many users, and not because one user came back a thousand times
create or replace function recdb.popularity_weight(weight double precision, heaviest double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select greatest(0, least(popularity_weight.weight, popularity_weight.heaviest));
end;
comment on function recdb.popularity_weight(double precision, double precision) is
    'Internal: how much one user adds to the popularity of one item: the weight, at least 0 and at most that of the '
    'user''s heaviest interaction with it.';


-- recdb.add_popularity: add to the popularity of items.
--   parameters  item_keys  the items; one may occur several times
--               weights    the amounts to add to total, in the same order; a negative number takes away
--               users      the numbers to add to users, in the same order; a negative number takes away
--   writes      item_popularity: the rows of these items; it deletes an item that no user is left for
create or replace function recdb.add_popularity(item_keys integer[], weights double precision[], users bigint[])
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    insert into recdb.item_popularity as p (item_key, item_id, total, users)
    select c.item_key, t.item_id, c.total, c.users
    from (
        select a.item_key, sum(a.weight) as total, sum(a.users) as users
        from unnest(item_keys, weights, users) a(item_key, weight, users)
        group by a.item_key
    ) c
    join recdb.item_key t on t.item_key = c.item_key
    where c.total <> 0 or c.users <> 0
    order by c.item_key
    on conflict (item_key) do update
    set total = p.total + excluded.total, users = p.users + excluded.users;
    delete from recdb.item_popularity p where p.item_key = any (item_keys) and p.users <= 0;
end
$$;
comment on function recdb.add_popularity(integer[], double precision[], bigint[]) is
    'Internal: adds weights and users to the popularity of items; negative numbers take away.';


-- recdb.popularity_of: how much some users add to the popularity of their items.
--   parameters  user_keys  the users
--   returns     one row of arrays, one entry per item, for add_popularity()
--   reads       user_item_settled, user_item_recent and recent_user, by user_key
create or replace function recdb.popularity_of(user_keys integer[])
returns table (item_keys integer[], weights double precision[], users bigint[])
language sql stable
begin atomic
    select array_agg(s.item_key), array_agg(s.weight), array_agg(s.users)
    from (
        select w.item_key, sum(recdb.popularity_weight(w.weight, w.heaviest)) as weight, count(*) as users
        from unnest(popularity_of.user_keys) u(user_key)
        cross join lateral (
            select s.item_key, s.weight, s.heaviest from recdb.user_item_settled s
            where s.user_key = u.user_key and not exists (select from recdb.recent_user r where r.user_key = u.user_key)
            union all
            select n.item_key, n.weight, n.heaviest from recdb.user_item_recent n
            where n.user_key = u.user_key
            offset 0
        ) w
        where w.weight <> 0  -- What was only shown is not popular: it stays in the order of new items.
        group by w.item_key
    ) s;
end;
comment on function recdb.popularity_of(integer[]) is
    'Internal: how much users add to the popularity of their items, in arrays for add_popularity().';


-- recdb.sum_popularity: compute the popularity of all items again.
--   reads       user_item
--   writes      item_popularity; readers see the old rows until the transaction commits
create or replace function recdb.sum_popularity()
returns void
language plpgsql volatile
set search_path from current
as $$
begin
    delete from recdb.item_popularity;
    insert into recdb.item_popularity (item_key, item_id, total, users)
    select s.item_key, t.item_id, s.total, s.users
    from (
        select w.item_key, sum(recdb.popularity_weight(w.weight, w.heaviest)) as total, count(*) as users
        from recdb.user_item w
        where w.weight <> 0
        group by w.item_key
    ) s
    join recdb.item_key t on t.item_key = s.item_key
    order by s.item_key;
end
$$;
comment on function recdb.sum_popularity() is
    'Internal: computes the popularity of all items again, from the weighted interactions.';
