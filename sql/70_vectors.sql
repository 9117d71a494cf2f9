-- The part of a refresh that places the changed users again, in every kept model version.


-- recdb.refresh_vectors: bring the stored vectors of some users up to date, in every kept model version.
--   parameters  user_keys  the users
--   reads       user_item_recent, model, item_vector
--   writes      user_vector: item_keys, weights and total_weight always; the vector only if its cosine with the new
--               fold-in is below 0.9; it deletes the row of a user without a vector
-- A small move of a vector hardly changes its neighbours, and a new entry of an HNSW index costs more than the rest.
-- One statement takes a thousand users, so that its sorts stay in memory, and reads tables of this server alone: so
-- where Citus has spread the vectors, each of them goes to one node, once. The parameters of a version are values:
-- PostgreSQL would call serving() for each row of a join with it.
create or replace function recdb.refresh_vectors(user_keys integer[])
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    version record;
    block integer[];
    placed integer[];
    gone integer[];
begin
    for version in
        select s.*, power(v.pair_limit, s.neighbor_weight_exponent) as pair_limit, v.neighbor_limit
        from recdb.model v
        cross join lateral recdb.serving(v.label) s
        where v.state = 'ready'
    loop
        for done in 0 .. cardinality(user_keys) - 1 by 1000 loop
            block := user_keys[done + 1 : done + 1000];
            with weighted as (
                select n.user_key, n.item_key, n.fold_weight,
                    sign(n.neighbor_weight)
                        * least(abs(n.neighbor_weight) * version.decay_correction, version.pair_limit)
                        as neighbor_weight
                from (
                    select n.user_key, n.item_key,
                        recdb.signed_power(n.weight, version.people_weight_exponent) as fold_weight,
                        recdb.stored_power(n.weight, version.neighbor_weight_exponent) as neighbor_weight
                    from recdb.user_item_recent n
                    where n.user_key = any (block) and n.weight <> 0 and n.position <= version.profile_limit
                ) n
            ), item as (
                select w.user_key, w.item_key,
                    w.neighbor_weight
                        * least(1, version.neighbor_limit / nullif(sum(abs(w.neighbor_weight)) over of_user, 0))
                        as neighbor_weight,
                    w.fold_weight / max(abs(w.fold_weight)) over of_user as fold_weight
                from weighted w
                window of_user as (partition by w.user_key)
            ), folded as (
                select i.user_key, array_agg(i.item_key) as item_keys,
                    array_agg(case when abs(i.neighbor_weight) > 1e-30 then i.neighbor_weight else 0 end::real)
                        as weights,
                    sum(abs(i.neighbor_weight)) as total_weight,
                    recdb.unit(
                        @vector@.sum(recdb.scaled(v.embedding, i.fold_weight)) filter (where v.embedding is not null)
                    )::@vector@.halfvec as embedding
                from item i
                left join recdb.item_vector v on v.model_id = version.model_id and v.item_key = i.item_key
                group by i.user_key
            ), written as (
                insert into recdb.user_vector as v (model_id, user_key, embedding, item_keys, weights, total_weight)
                select version.model_id, f.user_key, f.embedding, f.item_keys, f.weights, f.total_weight
                from folded f
                where f.embedding is not null
                on conflict (model_id, user_key) do update
                set item_keys = excluded.item_keys, weights = excluded.weights, total_weight = excluded.total_weight,
                    embedding = case when 1 - (v.embedding operator(@vector@.<=>) excluded.embedding) < 0.9
                        then excluded.embedding else v.embedding end
                returning v.user_key
            )
            select array_agg(w.user_key) into placed from written w;
            gone := array(select unnest(block) except select unnest(placed));
            if gone <> '{}' then
                delete from recdb.user_vector v where v.model_id = version.model_id and v.user_key = any (gone);
            end if;
        end loop;
    end loop;
end
$$;
comment on function recdb.refresh_vectors(integer[]) is
    'Internal: brings the stored vectors of some users up to date in every kept model version.';
