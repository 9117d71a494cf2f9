-- The model version that serves, and the weights that it gives to a profile.


-- recdb.serving: the parameters that the ranking needs to know of a model version.
--   parameters  model  a version's label; NULL for the active version
--   returns     one row, or none if no version is active. decay_correction: the stored user_vector.weights keep the
--               decay origin of the version's training; a weight of today times decay_correction compares with them.
--               ranks_new_items: it ranks items that it has not seen; has_links: some came after the training, or
--               have other content since
--   reads       model, config
--   errors      42704 if no kept version has that label
create or replace function recdb.serving(model text)
returns table (
    model_id integer, label text, blend double precision,
    people_weight_exponent double precision, people_recency double precision,
    neighbors integer, similarity_exponent double precision, activity_exponent double precision,
    neighbor_weight_exponent double precision,
    profile_weight_exponent double precision, profile_recency double precision, profile_limit integer,
    decay_correction double precision, ranks_new_items boolean, has_links boolean
)
language plpgsql stable rows 1
as $$
begin
    return query
    select m.model_id, m.label, p.blend, p.people_weight_exponent, p.people_recency, p.neighbors, p.similarity_exponent,
        p.activity_exponent, p.neighbor_weight_exponent, p.profile_weight_exponent, p.profile_recency,
        least(p.profile_limit, c.profile_limit),
        case when m.half_life is null then 1 else
            -- Bounded, because a weight times this has to fit into a real.
            least('1e15'::double precision, greatest('1e-15'::double precision, recdb.signed_power(
                recdb.decay(c.decay_origin, m.decay_origin, m.half_life), p.neighbor_weight_exponent))) end,
        exists (select from recdb.new_item n where n.model_id = m.model_id),
        -- By index, even where all rows are another version's.
        (select min(l.source_key) from recdb.item_link l where l.model_id = m.model_id) is not null
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
comment on function recdb.serving(text) is
    'Internal: the serving parameters of a model version; NULL is the active one. '
    'No row if no version is active; error 42704 if no kept version has that label.';


-- recdb.activate: let another kept version serve, with the half-life that it was trained with.
--   parameters  label  the version's label, as in recdb.models
--   reads       model
--   writes      model.active. If config.half_life differs from the version's: also config.half_life and, with
--               rebuild(), the weighted interactions. Readers do not wait, and see all changes at once
--   errors      42704 if no kept version has that label
create or replace function recdb.activate(label text)
returns void
language plpgsql volatile
set search_path from current
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
        raise notice 'config.half_life is now %, as when % was trained: weighting the interactions again',
            coalesce(version.half_life::text, 'null'), activate.label;
        perform recdb.rebuild();
    end if;
end
$$;
comment on function recdb.activate(text) is
    'Lets a kept model version serve: recommend() uses it from the next statement on. Restores config.half_life as it '
    'was when the version was trained; if that changes it, all interactions are weighted again, which takes as long '
    'as recdb.rebuild(). label: as in recdb.models. Error 42704 if no kept version has that label.';


-- recdb.signed_power: the transform of every weight that a model reads.
--   parameters  x, exponent
--   returns     sign(x) |x|^exponent
-- Its magnitude is kept within 1e-150..1e150, unless it is 0: with a short half-life and an old decay_origin, powers
-- and ratios of weights would be errors, too large or too small for a number.
create or replace function recdb.signed_power(x double precision, exponent double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select sign(signed_power.x) * greatest('1e-150'::double precision, least('1e150'::double precision, power(
        greatest(
            case when signed_power.exponent > 1 then '1e-150'::double precision else '1e-300'::double precision end,
            least('1e150'::double precision, abs(signed_power.x))),
        signed_power.exponent)));
end;
comment on function recdb.signed_power(double precision, double precision) is
    'Internal: sign(x) * |x|^exponent, kept within 1e-150..1e150.';


-- recdb.stored_power: signed_power() for a weight that is stored in user_vector.
--   parameters  x, exponent
--   returns     sign(x) |x|^exponent; its magnitude is kept within 1e-18..1e18, unless it is 0. So times the
--               decay_correction of serving(), and summed up, it fits into a real
create or replace function recdb.stored_power(x double precision, exponent double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select sign(stored_power.x) * greatest('1e-18'::double precision, least('1e18'::double precision,
        abs(recdb.signed_power(stored_power.x, stored_power.exponent))));
end;
comment on function recdb.stored_power(double precision, double precision) is
    'Internal: sign(x) * |x|^exponent, within the bounds of the weights in user_vector.';


-- recdb.profile_weights: the weights of a profile's items in the ranking.
--   parameters  weights   the summed weights, as in profile()
--               ranks     their recency ranks: 1 for the newest item; items with the same timestamp share a rank
--               exponent  damps large weights
--               recency   how much less an older item counts; 0: all ranks count alike
--   returns     sign(w) |w|^exponent * rank^-recency in the same order, scaled so that the largest magnitude is 1
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
    'Internal: sign(w) |w|^exponent * rank^-recency of a profile''s weights, scaled to a largest magnitude of 1.';
