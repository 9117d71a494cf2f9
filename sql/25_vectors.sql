-- Vectors: place any set of items among the stored vectors of a model version, and find the nearest of them.


-- recdb.scaled: a term of a fold-in, an item's vector times a weight.
--   parameters  embedding  an item's stored vector
--               weight     the item's weight in the profile, in -1..1
--   returns     the product in single precision; NULL for a weight of 0
-- Item vectors are stored with a longest norm of 1000, because sums run in single precision, where smaller numbers
-- would underflow.
create or replace function recdb.scaled(embedding @vector@.halfvec, weight double precision)
returns @vector@.vector
language sql immutable parallel safe
begin atomic
    select case when abs(scaled.weight) > 1e-30 then
        scaled.embedding::@vector@.vector
            operator(@vector@.*)
            array_fill(scaled.weight::real, array[@vector@.vector_dims(scaled.embedding)])::@vector@.vector end;
end;
comment on function recdb.scaled(@vector@.halfvec, double precision) is
    'Internal: an item''s vector times a weight; NULL for a weight of 0.';


-- recdb.unit: the result of a fold-in, the sum of its terms at length 1.
--   parameters  total  a sum of scaled() vectors
--   returns     the unit vector; NULL if the sum is shorter than 0.1, which is 1e-4 of the longest item vector: such a
--               sum is rounding noise and points nowhere
create or replace function recdb.unit(total @vector@.vector)
returns @vector@.vector
language sql immutable parallel safe
begin atomic
    select case when @vector@.vector_norm(unit.total) >= 0.1 then @vector@.l2_normalize(unit.total) end;
end;
comment on function recdb.unit(@vector@.vector) is
    'Internal: the unit vector of a sum of scaled item vectors; NULL if the sum is noise.';


-- recdb.fold_in: the vector of any set of items, a user's or a guest's.
--   parameters  model_id   the model version
--               item_keys  the items; items that the version does not know are ignored
--               weights    their weights, in -1..1
--   returns     a unit vector; NULL if the version knows none of the items, or if their sum is noise
--   reads       item_vector by primary key
create or replace function recdb.fold_in(model_id integer, item_keys integer[], weights double precision[])
returns @vector@.vector
language plpgsql stable parallel safe
set search_path from current
as $$
#variable_conflict use_column
begin
    return recdb.unit((
        select @vector@.sum(recdb.scaled(v.embedding, p.weight))
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
    'Internal: the unit vector of weighted items under a model version, the normalized weighted sum of their vectors.';


-- recdb.set_hnsw: set pgvector's two settings of an HNSW search for the rest of the transaction.
--   parameters  ef_search       how many candidates the index looks at
--               iterative_scan  'strict_order': the index goes on by itself if filtered rows used some candidates up
--   returns     the values before the call, in the same order, to be set again after the search
-- nearest_users() and nearest_items() set and restore them around one query. A SET clause of the function cannot do
-- that: it needs a superuser, because the settings are unknown until pgvector's library is loaded, and its values are
-- constants, which cannot follow n.
create or replace function recdb.set_hnsw(ef_search text, iterative_scan text)
returns text[]
language plpgsql volatile
as $$
declare
    before constant text[] := array[
        coalesce(nullif(current_setting('hnsw.ef_search', true), ''), '40'),
        coalesce(nullif(current_setting('hnsw.iterative_scan', true), ''), 'off')];
begin
    perform set_config('hnsw.ef_search', ef_search, true), set_config('hnsw.iterative_scan', iterative_scan, true);
    return before;
end
$$;
comment on function recdb.set_hnsw(text, text) is
    'Internal: sets hnsw.ef_search and hnsw.iterative_scan for this transaction, and returns their previous values.';


-- recdb.nearest_users: the stored users whose vectors are nearest to a vector.
--   parameters  model_id  the model version
--               query     the vector
--               own       the user key to leave out; NULL for none
--               n         how many
--   returns     the nearest first, similarity: cosine, -1..1; with the items and weights stored beside each vector
--   reads       user_vector, by the HNSW index of the version's partition
-- The index looks at a quarter more candidates than n.
create or replace function recdb.nearest_users(model_id integer, query @vector@.vector, own integer, n bigint)
returns table (
    user_key integer, similarity double precision, item_keys integer[], weights real[], total_weight real
)
language plpgsql stable rows 50 cost 2000
set search_path from current
as $$
#variable_conflict use_column
declare
    target constant @vector@.halfvec := query;
    before constant text[] := recdb.set_hnsw(least(1000, greatest(40, n * 5 / 4 + 1))::text, 'strict_order');
begin
    return query
    select v.user_key, 1 - (v.embedding operator(@vector@.<=>) target), v.item_keys, v.weights, v.total_weight
    from recdb.user_vector v
    where v.model_id = nearest_users.model_id and v.user_key is distinct from own
    order by v.embedding operator(@vector@.<=>) target
    limit n;
    perform recdb.set_hnsw(before[1], before[2]);
end
$$;
comment on function recdb.nearest_users(integer, @vector@.vector, integer, bigint) is
    'Internal: the n stored users nearest to a vector in a model version, by cosine.';


-- recdb.nearest_items: the items whose vectors are nearest to a vector.
--   parameters  as nearest_users(); own is the item key to leave out
--   returns     the nearest first, similarity: cosine, -1..1
--   reads       item_vector, by the HNSW index of the version's partition
create or replace function recdb.nearest_items(model_id integer, query @vector@.vector, own integer, n bigint)
returns table (item_key integer, similarity double precision)
language plpgsql stable rows 50 cost 2000
set search_path from current
as $$
#variable_conflict use_column
declare
    target constant @vector@.halfvec := query;
    before constant text[] := recdb.set_hnsw(least(1000, greatest(100, n * 5 / 4 + 1))::text, 'strict_order');
begin
    return query
    select v.item_key, 1 - (v.embedding operator(@vector@.<=>) target)
    from recdb.item_vector v
    where v.model_id = nearest_items.model_id and v.item_key is distinct from own
    order by v.embedding operator(@vector@.<=>) target
    limit n;
    perform recdb.set_hnsw(before[1], before[2]);
end
$$;
comment on function recdb.nearest_items(integer, @vector@.vector, integer, bigint) is
    'Internal: the n items nearest to a vector in a model version, by cosine.';
