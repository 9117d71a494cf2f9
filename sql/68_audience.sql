-- The audience of an item: the users in whose lists it is. Their vectors lead to them: an item is in the lists of users
-- who have its neighbours, so recdb folds these neighbours in as if they were a profile, finds the users around that
-- point by the HNSW index, and ranks these users by the score that each one's own list gives the item.


-- recdb.place_audience: the point around which the users of an item are.
--   parameters  model_id  the model version
--               item_key  the item
--   returns     the fold-in of its neighbours, or for an item that the version has not seen that of the items that lead
--               to it; of an item without any, its own vector. NULL if the version knows nothing of it
--   reads       item_neighbor, item_link and item_vector by key
create or replace function recdb.place_audience(model_id integer, item_key integer)
returns @vector@.vector
language plpgsql stable
as $$
#variable_conflict use_column
declare
    around record;
begin
    select array_agg(n.item_key) as item_keys, array_agg(n.weight / nullif(n.largest, 0)) as weights into around
    from (
        select s.item_key, s.weight, max(s.weight) over () as largest
        from (
            select u.item_key, u.weight::double precision as weight
            from recdb.item_neighbor r
            cross join lateral unnest(r.neighbor_keys, r.weights) u(item_key, weight)
            where r.model_id = place_audience.model_id and r.item_key = place_audience.item_key
            union all
            select l.source_key, l.weight::double precision
            from recdb.item_link l
            where l.model_id = place_audience.model_id and l.item_key = place_audience.item_key
        ) s
        where s.weight > 0 and s.item_key <> place_audience.item_key
    ) n;
    return coalesce(
        recdb.fold_in(place_audience.model_id, around.item_keys, around.weights),
        recdb.fold_in(place_audience.model_id, array[place_audience.item_key], '{1}'));
end
$$;
comment on function recdb.place_audience(integer, integer) is
    'Internal: the point around which the users of an item are, from its neighbours; NULL if the version knows nothing '
    'of the item.';


-- recdb.nearest_strangers: the stored users nearest to a vector, without those who contribute an item.
--   parameters  model_id  the model version
--               query     the vector
--               item_key  the item
--               n         how many
--   returns     user keys, the nearest first
--   reads       user_vector, by the HNSW index of the version's partition, and ignored_user
create or replace function recdb.nearest_strangers(
    model_id integer, query @vector@.vector, item_key integer, n bigint
)
returns table (user_id text, user_key integer)
language plpgsql stable rows 100 cost 2000
set search_path from current
as $$
#variable_conflict use_column
declare
    target constant @vector@.halfvec := query;
    before constant text[] := recdb.set_hnsw(least(1000, greatest(40, n * 5 / 4 + 1))::text, 'strict_order');
begin
    return query
    select i.user_id, u.user_key
    from (
        select v.user_key
        from recdb.user_vector v
        where v.model_id = nearest_strangers.model_id and nearest_strangers.item_key <> all (v.item_keys)
        order by v.embedding operator(@vector@.<=>) target
        limit n
    ) u
    cross join lateral (select k.user_id from recdb.user_key k where k.user_key = u.user_key offset 0) i
    where not exists (select from recdb.ignored_user g where g.user_id = i.user_id);
    perform recdb.set_hnsw(before[1], before[2]);
end
$$;
comment on function recdb.nearest_strangers(integer, @vector@.vector, integer, bigint) is
    'Internal: the n stored users nearest to a vector, without those who contribute an item to others'' lists.';


-- recdb.score_for: the score that recommend() gives an item in a user's list.
--   parameters  served             the row of recdb.serving() for the version
--               user_id, user_key  the user
--               item_key           the item
--               listed_only        config.listed_only
--   returns     the score, as recommend() gives it; NULL if the user touched the item or owns it, or it has no score
--   reads       as recommend()
create or replace function recdb.score_for(
    served record, user_id text, user_key integer, item_key integer, listed_only boolean
)
returns double precision
language plpgsql stable cost 5000
as $$
#variable_conflict use_column
declare
    profile record;
    found_score double precision;
begin
    select p.* into profile from recdb.profile(score_for.user_id) p;
    if score_for.item_key = any (profile.item_keys) or score_for.item_key = any (profile.hidden_keys)
        or not exists (select from recdb.eligible(score_for.item_key, score_for.user_id, score_for.listed_only))
    then
        return null;
    end if;
    with scored as materialized (
        select t.item_key, sum(t.weight) as final
        from (
            select unnest(s.item_keys) as item_key, s.weight * unnest(s.weights) as weight
            from recdb.score_sources(served, profile, score_for.user_key) s
        ) t
        group by t.item_key
        having sum(t.weight) > 0 and t.item_key not in (select unnest(profile.hidden_keys))
    )
    select round(w.final / b.final * 1e9) / 1e9 into found_score
    from scored w
    cross join lateral (
        select o.final
        from (select c.item_key, c.final from scored c where c.final >= w.final order by c.final desc) o
        cross join lateral recdb.eligible(o.item_key, score_for.user_id, score_for.listed_only)
        limit 1
    ) b
    where w.item_key = score_for.item_key;
    return found_score;
end
$$;
comment on function recdb.score_for(record, text, integer, integer, boolean) is
    'Internal: the score that recommend() gives an item in a user''s list; NULL if the user touched or owns the item, '
    'or it has no score.';


-- recdb.audience: the users that an item should be sent to.
--   parameters  item_id  the item
--               k        how many, 1 to 1000; NULL is 50
--   returns     users who did not touch the item: score is the one that the item has in the user's own list, 1 at its
--               top; score descending, then user_id. Only users around whom the item is: of the 2 k nearest, at least
--               200, those whose list has it. No rows for an item that the active version does not know, or that is not
--               available
--   reads       place_audience(), user_vector by HNSW, and for each user what recommend() reads
--   errors      22023 for k outside 1..1000
-- Each user costs about as much as one recommend(). The vectors alone find four in five of the users that have the item
-- among their first 20; the scores put the others in their place.
create or replace function recdb.audience(item_id text, k bigint default 50)
returns table (user_id text, score double precision)
language plpgsql stable security definer rows 50 cost 100000
set search_path from current
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
    wanted constant bigint := recdb.check_k(audience.k, 50);
    listed_only constant boolean := (select c.listed_only from recdb.config c);
    served record;
    place record;
    wanted_key integer;
begin
    perform recdb.check_sources();
    perform recdb.await_move();
    select v.* into served from recdb.serving(null) v;
    select t.item_key into wanted_key
    from recdb.item_key t
    cross join lateral recdb.eligible(t.item_key, null, listed_only)
    where t.item_id = audience.item_id;
    if served.model_id is null or wanted_key is null then
        return;
    end if;
    select recdb.place_audience(served.model_id, wanted_key) as query into place;
    if place.query is null then
        return;
    end if;
    return query
    select a.user_id, a.score
    from (
        select n.user_id, recdb.score_for(served, n.user_id, n.user_key, wanted_key, listed_only) as score
        from recdb.nearest_strangers(
            served.model_id, place.query, wanted_key, greatest(200, 2 * wanted)) n
    ) a
    where a.score > 0
    order by a.score desc, a.user_id
    limit wanted;
exception when others then
    perform recdb.refuse_failing(sqlstate, null);
    raise;
end
$$;
comment on function recdb.audience(text, bigint) is
    'The k users that an item should be sent to: those in whose lists it stands highest, without users who touched it. '
    'score: the one that recommend() gives the item in the user''s own list, 1 at its top. An item that the active '
    'model has not seen has an audience by its content. No rows for an item of which the model knows nothing, or that '
    'is not available. Each user costs about as much as one recommend(). Error 22023 for k outside 1..1000.';
