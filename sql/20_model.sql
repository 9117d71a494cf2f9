-- recdb.serving: what rank_items() needs to know of a model version.
--   model    a version's label; NULL is the active one
--   returns  one row, or none where no version is active
--   errors   42704 where no kept version has that label
create or replace function recdb.serving(model text)
returns table (
    model_id integer, label text, weight_exponent double precision, neighbors integer,
    similarity_exponent double precision, blend double precision
)
language plpgsql stable rows 1
as $$
begin
    return query
    select m.model_id, m.label, p.weight_exponent, p.neighbors, p.similarity_exponent, p.blend
    from recdb.model m,
        jsonb_to_record(m.params) p(
            weight_exponent double precision, neighbors integer,
            similarity_exponent double precision, blend double precision)
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


-- recdb.fold_in: the vector of any set of items, a user's or a guest's.
--   weights  in -1..1: sums run in single precision, where smaller scales would underflow
--   returns  a unit vector; NULL where the model knows none of the items, or where what they add up to is noise
--            (item vectors are scaled to a longest norm of 1000; 0.1 is 1e-4 of that)
--   reads    item_vector by primary key
create or replace function recdb.fold_in(model_id integer, item_keys integer[], weights double precision[])
returns vector
language plpgsql stable parallel safe
set search_path from current
as $$
#variable_conflict use_column
declare
    total constant vector := (
        select sum(v.embedding::vector
            * array_fill(p.weight::real, array[vector_dims(v.embedding)])::vector)
        from unnest(item_keys, weights) p(item_key, weight)
        cross join lateral (
            select i.embedding from recdb.item_vector i
            where i.model_id = fold_in.model_id and i.item_key = p.item_key
            offset 0
        ) v
        where abs(p.weight) > 1e-30
    );
begin
    return case when vector_norm(total) >= 0.1 then l2_normalize(total) end;
end
$$;
comment on function recdb.fold_in(integer, integer[], double precision[]) is
    'The unit vector of a set of weighted items under a model version: the normalized weighted sum of their vectors.';


-- recdb.activate: let another kept version serve, in one flip.
--   errors   42704 where no kept version has that label
create or replace function recdb.activate(label text)
returns void
language plpgsql volatile
as $$
begin
    if not exists (select from recdb.model m where m.label = activate.label and m.state = 'ready') then
        raise exception 'no model version is labelled "%"', activate.label
            using errcode = 'undefined_object', hint = 'Kept versions: select label from recdb.models.';
    end if;
    update recdb.model m set active = false where m.active and m.label <> activate.label;
    update recdb.model m set active = true, activated_at = now() where m.label = activate.label and not m.active;
end
$$;
comment on function recdb.activate(text) is 'Makes a kept model version the one that recommend() serves.';
