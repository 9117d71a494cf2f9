-- The functions that analysts call to look into a model.


-- recdb.shared_items: how many of some items a user has interacted with.
--   parameters  user_key, item_keys  the user and the items
--   returns     the number
--   reads       user_item; the user's interactions, if a restore left the weights without rows
create or replace function recdb.shared_items(user_key integer, item_keys integer[])
returns bigint
language plpgsql stable
as $$
begin
    if recdb.weights_ready() then
        return (
            select count(*) from recdb.user_item w
            where w.user_key = shared_items.user_key and w.item_key = any (shared_items.item_keys));
    end if;
    return (
        select count(*) from recdb.user_key u, recdb.profile_of(u.user_id) p
        where u.user_key = shared_items.user_key and p.item_key = any (shared_items.item_keys));
end
$$;
comment on function recdb.shared_items(integer, integer[]) is
    'Internal: how many of some items a user has interacted with.';


-- recdb.neighbors: the users most similar to a user.
--   parameters  user_id  the user
--               k        how many, 1 to 1000; NULL is 20
--   returns     the nearest first; similarity: cosine of the user's live vector with the neighbour's stored one, -1..1;
--               shared_items: how many items both users have interacted with. No rows for a user without a vector
--   reads       the user's interactions live, user_vector by HNSW, user_item
--   errors      22023 for k outside 1..1000
create or replace function recdb.neighbors(user_id text, k bigint default 20)
returns table (neighbor_id text, similarity double precision, shared_items bigint)
language plpgsql stable security definer rows 20 cost 5000
set search_path from current
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    wanted constant bigint := recdb.check_k(k, 20);
    served record;
    profile record;
    folded record;  -- not a vector: while pgvector is missing, the function could not even start, and say so
    own_key constant integer := (select u.user_key from recdb.user_key u where u.user_id = neighbors.user_id);
begin
    perform recdb.check_sources();
    select * into served from recdb.serving(null);
    select p.* into profile from recdb.profile(neighbors.user_id) p;
    select recdb.fold_in(
        served.model_id, profile.item_keys[:served.profile_limit],
        recdb.profile_weights(
            profile.weights[:served.profile_limit], profile.ranks[:served.profile_limit],
            served.people_weight_exponent, served.people_recency)) as query
    into folded;
    if folded.query is null then
        return;
    end if;
    return query
    select i.user_id, v.similarity,
        recdb.shared_items(v.user_key, profile.item_keys)
    from recdb.nearest_users(served.model_id, folded.query, own_key, wanted) v
    cross join lateral (select u.user_id from recdb.user_key u where u.user_key = v.user_key offset 0) i
    order by v.similarity desc, i.user_id;
exception when others then
    perform recdb.refuse_failing(sqlstate, neighbors.user_id);
    raise;
end
$$;
comment on function recdb.neighbors(text, bigint) is
    'The k users most similar to a user, nearest first. similarity: cosine of their vectors, -1 to 1; shared_items: '
    'items that both users interacted with. No rows for a user without interactions that the active model knows. '
    'Error 22023 for k outside 1..1000.';


-- recdb.is_there: whether there is an item at all.
--   parameters  item_key  the item
--   returns     true if somebody touched it, or a catalogue has it
--   reads       item_popularity by key, read_item()
create or replace function recdb.is_there(item_key integer)
returns boolean
language sql stable
begin atomic
    select exists (select from recdb.item_popularity p where p.item_key = is_there.item_key)
        or exists (
            select from recdb.item_key t
            cross join lateral recdb.read_item(t.item_id)
            where t.item_key = is_there.item_key);
end;
comment on function recdb.is_there(integer) is
    'Internal: whether somebody touched an item, or a catalogue has it.';


-- recdb.similar_new: the new items that are like an item which a model version knows.
--   parameters  model_id, item_key  the version and the item
--               n                   how many
--   returns     those that the item leads to and that are like it by their content: cosine, the largest first
--   reads       content_vector, item_neighbor, item_link and new_item by key
create or replace function recdb.similar_new(model_id integer, item_key integer, n bigint)
returns table (item_key integer, similarity double precision)
language sql stable rows 20
begin atomic
    select s.item_key, s.similarity
    from (
        select w.item_key,
            -(v.embedding::@vector@.vector operator(@vector@.<#>) w.embedding::@vector@.vector) as similarity
        from recdb.content_vector v
        cross join (
            select u.item_key
            from recdb.item_neighbor r
            cross join lateral unnest(r.neighbor_keys) u(item_key)
            where r.model_id = similar_new.model_id and r.item_key = similar_new.item_key
            union
            select l.item_key
            from recdb.item_link l
            where l.model_id = similar_new.model_id and l.source_key = similar_new.item_key
        ) o
        join recdb.new_item w
          on w.model_id = similar_new.model_id and w.item_key = o.item_key and w.embedding is not null
        where v.model_id = similar_new.model_id and v.item_key = similar_new.item_key
        order by similarity desc
    ) s
    where s.similarity > 0 and recdb.is_there(s.item_key)
    limit similar_new.n;
end;
comment on function recdb.similar_new(integer, integer, bigint) is
    'Internal: the new items that are like an item which a model version knows, by their content.';


-- recdb.similar_items: the items most similar to an item, by the cosine of the active version's item vectors.
--   parameters  item_id  the item
--               k        how many, 1 to 1000; NULL is 20
--   returns     the nearest first; similarity: cosine, -1..1. For an item that the version has not seen, the items that
--               are like it by their content; if its content is unknown, those around the items of the users who
--               touched it. No rows for an item of which it knows nothing, nor for one that is in no catalogue and that
--               nobody has touched
--   reads       item_vector, by HNSW, and similar_new(); for an item that the version has not seen all its
--               content_vector, or place_audience()
--   errors      22023 for k outside 1..1000
create or replace function recdb.similar_items(item_id text, k bigint default 20)
returns table (neighbor_id text, similarity double precision)
language plpgsql stable security definer rows 20 cost 5000
set search_path from current
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    wanted constant bigint := recdb.check_k(k, 20);
    of_model constant integer := (select s.model_id from recdb.serving(null) s);
    of_item constant integer := (select t.item_key from recdb.item_key t where t.item_id = similar_items.item_id);
    place record;
begin
    select v.embedding into place from recdb.item_vector v where v.model_id = of_model and v.item_key = of_item;
    if found then
        return query
        select i.item_id, v.similarity
        from (
            select n.item_key, n.similarity
            from recdb.nearest_items(of_model, place.embedding::@vector@.vector, of_item, wanted) n
            union all
            select s.item_key, s.similarity from recdb.similar_new(of_model, of_item, wanted) s
        ) v
        cross join lateral (select t.item_id from recdb.item_key t where t.item_key = v.item_key offset 0) i
        order by v.similarity desc, i.item_id
        limit wanted;
        return;
    elsif not recdb.is_there(of_item) then
        return;
    end if;
    select n.embedding into place
    from recdb.new_item n
    where n.model_id = of_model and n.item_key = of_item and n.embedding is not null;
    if found then
        return query
        select i.item_id,
            -(v.embedding::@vector@.vector operator(@vector@.<#>) place.embedding::@vector@.vector) as similarity
        from recdb.content_vector v
        join recdb.item_key i on i.item_key = v.item_key
        where v.model_id = of_model
        order by similarity desc, i.item_id
        limit wanted;
        return;
    end if;
    select recdb.place_audience(of_model, of_item) as embedding into place;
    if place.embedding is null then
        return;
    end if;
    return query
    select i.item_id, v.similarity
    from recdb.nearest_items(of_model, place.embedding, of_item, wanted) v
    cross join lateral (select t.item_id from recdb.item_key t where t.item_key = v.item_key offset 0) i
    order by v.similarity desc, i.item_id;
exception when others then
    perform recdb.refuse_failing(sqlstate, null);
    raise;
end
$$;
comment on function recdb.similar_items(text, bigint) is
    'The k items most similar to an item, nearest first. similarity: cosine of their vectors, -1 to 1. New items are '
    'among them. An item that the active model has not seen has those that are like it by their content, or by who '
    'touched it. No rows for an item of which the model knows nothing. Error 22023 for k outside 1..1000.';
