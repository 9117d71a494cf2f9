-- recdb.serving: what rank_items() needs to know of a model version.
--   model    a version's label; NULL is the active one
--   returns  one row, or none where no version is active; drift: what today's weights are multiplied by to stand
--            beside user_vector.weights, which keep the origin of the version's training
--   errors   42704 where no kept version has that label
create or replace function recdb.serving(model text)
returns table (
    model_id integer, label text, blend double precision,
    people_weight_exponent double precision, people_recency double precision,
    neighbors integer, similarity_exponent double precision, activity_exponent double precision,
    neighbor_weight_exponent double precision,
    profile_weight_exponent double precision, profile_recency double precision, profile_limit integer, drift double precision
)
language plpgsql stable rows 1
as $$
begin
    return query
    select m.model_id, m.label, p.blend, p.people_weight_exponent, p.people_recency, p.neighbors, p.similarity_exponent,
        p.activity_exponent, p.neighbor_weight_exponent, p.profile_weight_exponent, p.profile_recency,
        least(p.profile_limit, c.profile_limit),
        case when m.half_life is null then 1 else
            recdb.decay(c.decay_origin, m.decay_origin, m.half_life) ^ p.neighbor_weight_exponent end
    from recdb.config c, recdb.model m,
        jsonb_to_record(m.params) p(
            blend double precision,
            people_weight_exponent double precision, people_recency double precision,
            neighbors integer, similarity_exponent double precision, activity_exponent double precision,
            neighbor_weight_exponent double precision,
            profile_weight_exponent double precision, profile_recency double precision, profile_limit integer)
    where m.state = 'ready'
      and case when serving.model is null then m.active else m.label = serving.model end;
    if not found and serving.model is not null then
        raise exception 'no model version is labelled "%"', serving.model
            using errcode = 'undefined_object', hint = 'Kept versions: select label from recdb.models.';
    end if;
end
$$;
comment on function recdb.serving(text) is 'The serving parameters of a model version, the active one for NULL.';


-- recdb.signed_power: sign(x) |x|^exponent, the transform of every weight the model reads.
create or replace function recdb.signed_power(x double precision, exponent double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select sign(signed_power.x) * power(abs(signed_power.x), signed_power.exponent);
end;
comment on function recdb.signed_power(double precision, double precision) is 'sign(x) * |x|^exponent.';


-- recdb.profile_weights: a profile's weights as a model asks with them.
--   weights  summed weights; ranks: 1 for the newest item, items of one moment share a rank
--   returns  sign(w) |w|^exponent * rank^-recency in the same order, the largest magnitude scaled to 1
create or replace function recdb.profile_weights(
    weights double precision[], ranks bigint[], exponent double precision, recency double precision
)
returns double precision[]
language plpgsql immutable parallel safe
as $$
begin
    return array(
        select v.weight / nullif(max(abs(v.weight)) over (), 0)
        from (
            select recdb.signed_power(p.weight, exponent) * power(p.rank, -recency) as weight
            from unnest(weights, ranks) p(weight, rank)
        ) v
    );
end
$$;
comment on function recdb.profile_weights(double precision[], bigint[], double precision, double precision) is
    'A profile''s weights to an exponent, newer items counting more, the largest scaled to 1.';


-- recdb.scaled, recdb.unit: the two ends of a fold-in, a term and what the sum of all is made of.
-- Item vectors are scaled to a longest norm of 1000, weights are in -1..1, and sums run in single precision, where
-- smaller scales would underflow. A sum that is shorter than 0.1, 1e-4 of the longest, is noise and no vector.
create or replace function recdb.scaled(embedding halfvec, weight double precision)
returns vector
language sql immutable parallel safe
begin atomic
    select case when abs(scaled.weight) > 1e-30 then
        scaled.embedding::vector * array_fill(scaled.weight::real, array[vector_dims(scaled.embedding)])::vector end;
end;
comment on function recdb.scaled(halfvec, double precision) is 'An item''s vector times a weight; NULL for a weight of 0.';

create or replace function recdb.unit(total vector)
returns vector
language sql immutable parallel safe
begin atomic
    select case when vector_norm(unit.total) >= 0.1 then l2_normalize(unit.total) end;
end;
comment on function recdb.unit(vector) is 'The unit vector of a sum of scaled item vectors; NULL where the sum is noise.';


-- recdb.fold_in: the vector of any set of items, a user's or a guest's.
--   weights  in -1..1
--   returns  a unit vector; NULL where the model knows none of the items, or where what they add up to is noise
--   reads    item_vector by primary key
create or replace function recdb.fold_in(model_id integer, item_keys integer[], weights double precision[])
returns vector
language plpgsql stable parallel safe
set search_path from current
as $$
#variable_conflict use_column
begin
    return recdb.unit((
        select sum(recdb.scaled(v.embedding, p.weight))
        from unnest(item_keys, weights) p(item_key, weight)
        cross join lateral (
            select i.embedding from recdb.item_vector i
            where i.model_id = fold_in.model_id and i.item_key = p.item_key
            offset 0
        ) v
    ));
end
$$;
comment on function recdb.fold_in(integer, integer[], double precision[]) is
    'The unit vector of a set of weighted items under a model version: the normalized weighted sum of their vectors.';


-- recdb.nearest_users, recdb.nearest_items: the stored vectors nearest to a query, by HNSW.
--   own      the key that is left out, NULL for none
--   returns  similarity: cosine, -1..1, nearest first; of a user also what is stored beside the vector
--   reads    user_vector or item_vector by the index of the model's partition
-- The index looks at hnsw.ef_search candidates, a quarter more than are wanted, and, where dead or left-out rows use some
-- up, goes on by itself. Both settings are put back: a function-level SET would need a superuser, and a constant could
-- not follow n.
create or replace function recdb.nearest_users(model_id integer, query vector, own integer, n bigint)
returns table (
    user_key integer, similarity double precision, item_keys integer[], weights real[], total_weight real
)
language plpgsql stable rows 50 cost 2000
set search_path from current
as $$
#variable_conflict use_column
declare
    target constant halfvec := query;
    ef_search constant text := coalesce(nullif(current_setting('hnsw.ef_search', true), ''), '40');
    iterative_scan constant text := coalesce(nullif(current_setting('hnsw.iterative_scan', true), ''), 'off');
begin
    perform set_config('hnsw.ef_search', least(1000, greatest(40, n * 5 / 4 + 1))::text, true),
        set_config('hnsw.iterative_scan', 'strict_order', true);
    return query
    select v.user_key, 1 - (v.embedding <=> target), v.item_keys, v.weights, v.total_weight
    from recdb.user_vector v
    where v.model_id = nearest_users.model_id and v.user_key is distinct from own
    order by v.embedding <=> target
    limit n;
    perform set_config('hnsw.ef_search', ef_search, true), set_config('hnsw.iterative_scan', iterative_scan, true);
end
$$;
comment on function recdb.nearest_users(integer, vector, integer, bigint) is
    'The n stored users nearest to a vector in a model version, by cosine.';

create or replace function recdb.nearest_items(model_id integer, query vector, own integer, n bigint)
returns table (item_key integer, similarity double precision)
language plpgsql stable rows 50 cost 2000
set search_path from current
as $$
#variable_conflict use_column
declare
    target constant halfvec := query;
    ef_search constant text := coalesce(nullif(current_setting('hnsw.ef_search', true), ''), '40');
    iterative_scan constant text := coalesce(nullif(current_setting('hnsw.iterative_scan', true), ''), 'off');
begin
    perform set_config('hnsw.ef_search', least(1000, greatest(100, n * 5 / 4 + 1))::text, true),
        set_config('hnsw.iterative_scan', 'strict_order', true);
    return query
    select v.item_key, 1 - (v.embedding <=> target)
    from recdb.item_vector v
    where v.model_id = nearest_items.model_id and v.item_key is distinct from own
    order by v.embedding <=> target
    limit n;
    perform set_config('hnsw.ef_search', ef_search, true), set_config('hnsw.iterative_scan', iterative_scan, true);
end
$$;
comment on function recdb.nearest_items(integer, vector, integer, bigint) is
    'The n items nearest to a vector in a model version, by cosine.';


-- recdb.activate: let another kept version serve, with the half-life it was trained with.
--   errors   42704 where no kept version has that label
--   writes   which version is active, in one flip; where config.half_life is another one, also that and the weighted
--            interactions, which takes as long as recdb.rebuild() does: readers go on, and see all of it at once
create or replace function recdb.activate(label text)
returns void
language plpgsql volatile
as $$
declare
    version recdb.model;
begin
    select m.* into version from recdb.model m where m.label = activate.label and m.state = 'ready';
    if not found then
        raise exception 'no model version is labelled "%"', activate.label
            using errcode = 'undefined_object', hint = 'Kept versions: select label from recdb.models.';
    end if;
    update recdb.model m set active = false where m.active and m.label <> activate.label;
    update recdb.model m set active = true, activated_at = now() where m.label = activate.label and not m.active;
    update recdb.config c set half_life = version.half_life where c.half_life is distinct from version.half_life;
    if found then
        raise notice 'config.half_life is now %, as when % was trained: weighting the interactions anew',
            coalesce(version.half_life::text, 'null'), activate.label;
        perform recdb.rebuild();
    end if;
end
$$;
comment on function recdb.activate(text) is
    'Makes a kept model version the one that recommend() serves, and restores the half-life it was trained with.';
