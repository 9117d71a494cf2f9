-- recdb.neighbors: the people most like a user.
--   returns  similarity: cosine of the live vector with theirs, -1..1; shared_items: items both touched
--   errors   22023 for k outside 1..1000
create or replace function recdb.neighbors(user_id text, k bigint default 20)
returns table (neighbor_id text, similarity double precision, shared_items bigint)
language plpgsql stable security definer rows 20 cost 5000
set search_path from current
as $$
#variable_conflict use_column
declare
    wanted constant bigint := coalesce(k, 20);
    served record;
    profile record;
    query vector;
    own_key constant integer := (select u.user_key from recdb.user_key u where u.user_id = neighbors.user_id);
begin
    if wanted not between 1 and 1000 then
        raise exception 'k is %, and must be between 1 and 1000', wanted using errcode = 'invalid_parameter_value';
    end if;
    select * into served from recdb.serving(null);
    select p.* into profile from recdb.profile(neighbors.user_id) p;
    query := recdb.fold_in(
        served.model_id, profile.item_keys[:served.profile_limit],
        recdb.profile_weights(
            profile.weights[:served.profile_limit], profile.ranks[:served.profile_limit],
            served.people_weight_exponent, served.people_recency));
    if query is null then
        return;
    end if;
    return query
    select i.user_id, v.similarity,
        (select count(*) from recdb.user_item w where w.user_key = v.user_key and w.item_key = any (profile.item_keys))
    from recdb.nearest_users(served.model_id, query, own_key, wanted) v
    cross join lateral (select u.user_id from recdb.user_key u where u.user_key = v.user_key offset 0) i
    order by v.similarity desc, i.user_id;
end
$$;
comment on function recdb.neighbors(text, bigint) is
    'The k users most similar to a user by the cosine of their vectors, nearest first, with the number of items both touched.';


-- recdb.similar_items: the items most like an item, by the cosine of the active model's item vectors.
create or replace function recdb.similar_items(item_id text, k bigint default 20)
returns table (neighbor_id text, similarity double precision)
language plpgsql stable security definer rows 20 cost 5000
set search_path from current
as $$
#variable_conflict use_column
declare
    wanted constant bigint := coalesce(k, 20);
    of_model constant integer := (select s.model_id from recdb.serving(null) s);
    of_item constant integer := (select t.item_key from recdb.item_key t where t.item_id = similar_items.item_id);
    query halfvec;
begin
    if wanted not between 1 and 1000 then
        raise exception 'k is %, and must be between 1 and 1000', wanted using errcode = 'invalid_parameter_value';
    end if;
    select v.embedding into query from recdb.item_vector v where v.model_id = of_model and v.item_key = of_item;
    if query is null then
        return;
    end if;
    return query
    select i.item_id, v.similarity
    from recdb.nearest_items(of_model, query::vector, of_item, wanted) v
    cross join lateral (select t.item_id from recdb.item_key t where t.item_key = v.item_key offset 0) i
    order by v.similarity desc, i.item_id;
end
$$;
comment on function recdb.similar_items(text, bigint) is
    'The k items most similar to an item by the cosine of their vectors, nearest first.';


-- recdb.popular: what most people like now: the fallback of recommend(), for nobody in particular.
create or replace function recdb.popular(k bigint default 50)
returns table (item_id text, score double precision)
language sql stable security definer rows 50
set search_path from current
as $$
    select r.item_id, r.score
    from recdb.rank_items('{}', '{}', '{}', '{}', '{}', null, null, popular.k, '{}', 'popular', null, null) r
$$;
comment on function recdb.popular(bigint) is 'The k most popular available items, the most popular with score 1.';
