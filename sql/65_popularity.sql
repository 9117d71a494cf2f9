-- Popularity: popular() reads item_popularity, and the other functions of this file keep it up to date.


-- recdb.popular: the most popular items, for nobody in particular.
--   parameters  k  how many, 1 to 1000; NULL is 50
--   returns     the filler of recommend(fallback => 'popular') for a user without interactions: score 1 for the most
--               popular item, descending, then item_id
--   reads       as popular_filler()
--   errors      22023 for k outside 1..1000
create or replace function recdb.popular(k bigint default 50)
returns table (item_id text, score double precision)
language plpgsql stable security definer rows 50
set search_path from current
as $$
declare
    unreadable text[];
begin
    perform recdb.check_sources();
    return query
    select f.item_id, f.score
    from recdb.popular_filler(recdb.check_k(popular.k, 50), null, '{}', null, '{}', null, null) f;
exception when others then
    perform recdb.refuse_failing(sqlstate, null);
    unreadable := recdb.failing_items(sqlstate);
    if unreadable is null then
        raise;
    end if;
    return query
    select f.item_id, f.score
    from recdb.popular_filler(recdb.check_k(popular.k, 50), null, '{}', null, unreadable, null, null) f;
end
$$;
comment on function recdb.popular(bigint) is
    'The k most popular available items, for nobody in particular; the most popular has score 1. Items of the '
    'catalogue without interactions come last, newest first. Error 22023 for k outside 1..1000.';


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
