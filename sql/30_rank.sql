-- The ranking. p_j is the summed weight of item j in the profile, of which the first profile_limit items by
-- precedence() count; r_j is the recency rank of item j; each x is an exponent of its own:
--   people(i) = sum over the stored users v nearest to fold_in(p_j^x r_j^-recency) of similarity^q * d_v^-g * w_vi^x
--   items(i)  = sum over the profile's items j of p_j^x r_j^-recency * N_ji
--   final(i)  = blend * people(i) / total people + (1 - blend) * items(i) / total items
-- A total is the sum of the magnitudes of all its terms. user_vector and item_neighbor store the sum of each row as
-- total_weight, so both totals are known before any term is added, and final(i) is one plain sum over score sources:
-- users and items alike. The items and weights of a score source lie in its row as two arrays: the ranking reads no
-- index of the weighted interactions.
-- An item that the version has not seen gets its weights from item_link, and those of item_neighbor stay as they are.
-- No total contains them, so new items change no score of others. What users have in common says nothing about such an
-- item: its weights count with max(1 - blend, 0.2), and a training sizes them for that.


-- recdb.score_sources: the score sources of a list: the nearest users, and the profile's own items.
--   parameters  served   the row of recdb.serving() for the version
--               profile  the row of recdb.profile(), or one with its columns item_keys, weights and ranks
--               own_key  the user key whose stored vector is left out; NULL for a guest
--   returns     one row per score source, a user (neighbor_key, similarity) or an item (because_key): it adds
--               weight * weights[i] to the score of item_keys[i]
--   reads       item_vector, item_neighbor and item_link by key, user_vector by HNSW
create or replace function recdb.score_sources(served record, profile record, own_key integer)
returns table (
    because_key integer, neighbor_key integer, similarity double precision,
    weight double precision, item_keys integer[], weights real[]
)
language plpgsql stable rows 100 cost 3000
as $$
#variable_conflict use_column
declare
    keys constant integer[] := profile.item_keys[:served.profile_limit];
    summed constant double precision[] := profile.weights[:served.profile_limit];
    ranks constant bigint[] := profile.ranks[:served.profile_limit];
    query constant @vector@.vector := recdb.fold_in(
        served.model_id, keys,
        recdb.profile_weights(summed, ranks, served.people_weight_exponent, served.people_recency));
begin
    if query is not null and served.blend > 0 then
        return query
        select null::integer, u.user_key, u.similarity,
            served.blend * u.strength / nullif(sum(u.strength * u.total_weight) over (), 0), u.item_keys, u.weights
        from (
            select n.*, power(n.similarity, served.similarity_exponent)
                * power(nullif(n.total_weight, 0), -served.activity_exponent) as strength
            from recdb.nearest_users(served.model_id, query, own_key, served.neighbors) n
            where n.similarity > 0.001  -- less is the noise of half precision
        ) u;
    end if;
    if served.has_links then
        return query
        select i.item_key, null::integer, null::double precision, s.share * i.share, s.item_keys, s.weights
        from (
            select p.item_key, r.neighbor_keys, r.weights, l.keys as link_keys, l.weights as link_weights,
                p.weight / nullif(sum(abs(p.weight) * coalesce(r.total_weight, l.total_weight)) over (), 0) as share
            from unnest(
                keys, recdb.profile_weights(summed, ranks, served.profile_weight_exponent, served.profile_recency)
            ) p(item_key, weight)
            left join lateral (
                select n.neighbor_keys, n.weights, n.total_weight
                from recdb.item_neighbor n
                where n.model_id = served.model_id and n.item_key = p.item_key
                offset 0
            ) r on true
            cross join lateral (
                select array_agg(n.item_key) as keys, array_agg(n.weight) as weights, sum(abs(n.weight)) as total_weight
                from recdb.item_link n
                where n.model_id = served.model_id and n.source_key = p.item_key
            ) l
            where r.neighbor_keys is not null or l.keys is not null
        ) i
        cross join lateral (values
            (1 - served.blend, i.neighbor_keys, i.weights),
            (greatest(1 - served.blend, 0.2), i.link_keys, i.link_weights)
        ) s(share, item_keys, weights)
        where s.item_keys is not null;
        return;
    end if;
    return query
    select i.item_key, null::integer, null::double precision,
        (1 - served.blend) * i.weight / nullif(sum(abs(i.weight) * i.total_weight) over (), 0),
        i.neighbor_keys, i.weights
    from (
        select p.item_key, p.weight, r.neighbor_keys, r.weights, r.total_weight
        from unnest(
            keys, recdb.profile_weights(summed, ranks, served.profile_weight_exponent, served.profile_recency)
        ) p(item_key, weight)
        cross join lateral (
            select n.neighbor_keys, n.weights, n.total_weight
            from recdb.item_neighbor n
            where n.model_id = served.model_id and n.item_key = p.item_key
            offset 0
        ) r
    ) i;
end
$$;
comment on function recdb.score_sources(record, record, integer) is
    'Internal: the score sources of a list under a model version: the nearest users and the profile''s own '
    'items, each with the items and weights that it contributes.';


-- recdb.was_touched: whether somebody touched an item that has no popularity.
--   parameters  item_key, first_at  of item_key
--   returns     true if it has had an interaction, or a kept model version learned from some; false for one that only
--               was in a catalogue, or was shown
--   reads       model_content, new_item; model and knows()
create or replace function recdb.was_touched(item_key integer, first_at timestamptz)
returns boolean
language sql stable
begin atomic
    select not exists (
            select from recdb.model_content c
            join recdb.new_item n on n.model_id = c.model_id and n.item_key = was_touched.item_key)
        and (was_touched.first_at is not null or exists (
            select from recdb.model m where m.state = 'ready' and recdb.knows(m.model_id, was_touched.item_key)));
end;
comment on function recdb.was_touched(integer, timestamptz) is
    'Internal: whether somebody touched an item that has no popularity: then it is more than a row of the catalogue.';


-- recdb.eligible: an item, if it may be recommended to a user.
--   parameters  item_key     the item
--               owner        the user, whose own items are not eligible; NULL for a guest
--               listed_only  config.listed_only: whether an item that no catalogue has is not eligible
--   returns     one row, or none if the item is not eligible; attributes are NULL if no catalogue has the item;
--               appeared_at is when it was published, else its first interaction
--   reads       item_key, read_item() (an index of each source); where no catalogue has the item, item_popularity, and
--               was_touched()
-- An item that nobody has touched is in the catalogue alone: deleted there, it is gone.
create or replace function recdb.eligible(item_key integer, owner text, listed_only boolean)
returns table (item_id text, attributes jsonb, owner_id text, appeared_at timestamptz)
language sql stable rows 1
begin atomic
    select t.item_id, i.attributes, i.owner_id, coalesce(i.published_at, t.first_at)
    from recdb.item_key t
    left join lateral recdb.read_item(t.item_id) i on true
    where t.item_key = eligible.item_key
      and case when i.item_id is not null then i.available else not eligible.listed_only and (
          exists (select from recdb.item_popularity p where p.item_key = eligible.item_key)
          or recdb.was_touched(eligible.item_key, t.first_at)) end
      and coalesce(i.published_at <= now(), true)
      and (eligible.owner is null or i.owner_id is distinct from eligible.owner)
    offset 0;
end;
comment on function recdb.eligible(integer, text, boolean) is
    'Internal: an item with its attributes, if it is available, published, in the catalogue where it has to be, and '
    'not '
    'the user''s own; else no row.';


-- recdb.check_k: the number of rows that a caller asks for.
--   parameters  k          the caller's argument
--               otherwise  the number for NULL
--   returns     k, or otherwise
--   errors      22023 if k is outside 1..1000
create or replace function recdb.check_k(k bigint, otherwise bigint)
returns bigint
language plpgsql immutable parallel safe
as $$
declare
    wanted constant bigint := coalesce(k, otherwise);
begin
    if wanted not between 1 and 1000 then
        raise exception 'k is %, and must be between 1 and 1000', wanted using errcode = 'invalid_parameter_value';
    end if;
    return wanted;
end
$$;
comment on function recdb.check_k(bigint, bigint) is
    'Internal: k, or otherwise if k is NULL; error 22023 outside 1..1000.';


-- recdb.check_fallback: check the caller's fallback: how to fill a list that is too short.
--   parameters  fallback  the caller's argument
--   errors      22023 if fallback is neither NULL nor 'none' nor 'popular'
create or replace function recdb.check_fallback(fallback text)
returns void
language plpgsql immutable parallel safe
as $$
begin
    if fallback not in ('none', 'popular') then
        raise exception 'fallback is "%", and must be ''none'' or ''popular''', fallback
            using errcode = 'invalid_parameter_value';
    end if;
end
$$;
comment on function recdb.check_fallback(text) is
    'Internal: error 22023 if fallback is neither NULL nor ''none'' nor ''popular''.';


-- recdb.content_items: the items of a list that are there for their content.
--   parameters  model_id   the model version
--               item_keys  the items of a list
--   returns     those that the version has not seen, and that fewer than two users touched since: their reason is
--               'content', that of all others 'collaborative_filtering'
--   reads       new_item by key
create or replace function recdb.content_items(model_id integer, item_keys integer[])
returns integer[]
language plpgsql stable
as $$
begin
    -- Not in SQL: such a function would be planned in every call.
    return array(
        select n.item_key
        from recdb.new_item n
        where n.model_id = content_items.model_id and n.item_key = any (content_items.item_keys) and n.users < 2);
end
$$;
comment on function recdb.content_items(integer, integer[]) is
    'Internal: the items of a list whose reason is content, because the model version has not seen them.';
-- They took one item, and ids, before.
drop function if exists recdb.reason_for(integer, text);
drop function if exists recdb.content_items(integer, text[]);


-- recdb.read_scenario: what steers a list.
--   parameters  scenario  a name; NULL for default
--               user_id   whose list it is; NULL for nobody
--   returns     the row of the scenario, NULLs if there is no row default; listed_only of config; the rules that are
--               valid now, by place and number, in four arrays: conditions, paths (filter_path() of each), factors and
--               places; NULLs for no rules; pins and buries, whether one has a place or the factor 0; own_path,
--               filter_path() of the filter; model_version, the label that ranks, NULL for the active version; later,
--               how long after the moment of the list it is made. While an experiment runs on the scenario, those of
--               the user's variant; experiments tells whether one runs anywhere
--   reads       config, scenario, rule, experiment; experiment_at() while an experiment runs anywhere
--   errors      22023 if no scenario has that name; 55000 if its filter cannot be read
-- A rule whose condition cannot be read does not act. A diversity or rotation_rate below 1e-9 is 0: it changes nothing,
-- and a product with it may be too small for a number.
create or replace function recdb.read_scenario(scenario text, user_id text)
returns record
language plpgsql stable
as $$
declare
    given record;
    assigned record;
begin
    select s.*, c.listed_only, r.*, array_remove(r.places, null) <> '{}' as pins,
        coalesce(0 = any (r.factors), false) as buries, null::jsonpath as own_path, null::text as model_version,
        interval '0' as later,
        exists (select from recdb.experiment e where e.started_at is not null and e.stopped_at is null) as experiments
    into given
    from recdb.config c
    left join recdb.scenario s on s.name = coalesce(read_scenario.scenario, 'default')
    cross join lateral (
        select array_agg(r.condition order by r.place, r.rule_id) as conditions,
            array_agg(recdb.filter_path(r.condition) order by r.place, r.rule_id) as paths,
            array_agg(r.factor order by r.place, r.rule_id) as factors,
            array_agg(r.place order by r.place, r.rule_id) as places
        from recdb.rule r
        where r.scenario = s.name
          and recdb.filter_problem(r.condition) is null
          and coalesce(r.valid_from <= now(), true)
          and coalesce(r.valid_to > now(), true)
    ) r;
    if given.name is null and scenario is not null then
        raise exception 'no scenario is named "%"', scenario
            using errcode = 'invalid_parameter_value', hint = 'The scenarios: select name from recdb.scenario.';
    end if;
    if given.filter is not null and recdb.filter_problem(given.filter) is not null then
        raise exception '%', format(
            'the filter of scenario "%s" cannot be read: %s', given.name, recdb.filter_problem(given.filter))
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('Correct it: update recdb.scenario set filter = ... where name = %L.', given.name);
    end if;
    given.own_path := recdb.filter_path(given.filter);
    given.diversity := case when given.diversity < 1e-9::double precision then 0 else given.diversity end;
    given.rotation_rate := case when given.rotation_rate < 1e-9::double precision then 0 else given.rotation_rate end;
    if given.experiments and user_id is not null then
        select v.model_version, s.name into assigned
        from recdb.experiment_at(read_scenario.user_id, coalesce(read_scenario.scenario, 'default'), now()) v
        left join recdb.scenario s on s.name = v.variant_scenario;
        if assigned.name is not null then
            given := recdb.read_scenario(assigned.name, null);
        end if;
        given.model_version := assigned.model_version;
    end if;
    return given;
end
$$;
comment on function recdb.read_scenario(text, text) is
    'Internal: the row of a scenario with the rules that act, or that of the user''s variant while an experiment runs '
    'there; error 22023 if no scenario has that name.';


-- recdb.rank_items: the ranking behind recommend(), for any profile.
--   parameters  profile  the row of recdb.profile() with a column segment of check_segment(), or one with the same
--                        columns; keys may be NULL
--               owner    the user, whose own items are left out; NULL for a guest
--               own_key  the user key whose stored vector is left out; NULL for a guest
--               others   as recommend()
--   returns     as recommend()
--   reads       serving(), score_sources(), and eligible() for the items it looks at, from the best down; with among
--               as rank_among()
--   errors      as recommend()
-- The steps: drop hidden, unavailable and the user's own items; scale the largest score left to 1; round to 1e-9, which
-- hides the order in which a plan happened to add; only then apply exclude and filter, so that they do not rescale.
-- Few candidates are ever looked at. So it sorts as many as are probably needed, and all of them if more are. It goes
-- through them from the best down: the lateral join keeps the order of unnest, and looks up no more items than the
-- limit asks for. It fetches wanted + 1 rows, and more on a tie at rank wanted, because ties are ordered by item_id.
create or replace function recdb.rank_items(
    profile record, owner text, own_key integer, k bigint, exclude text[], fallback text, filter jsonb, model text,
    among text[], scenario text
)
returns table (item_id text, score double precision, reason text, model_version text)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    wanted constant bigint := recdb.check_k(k, 50);
    excluded constant text[] := array(select e.id from unnest(exclude) e(id) where e.id is not null);
    path constant jsonpath := recdb.filter_path(filter);
    given constant record := recdb.read_scenario(scenario, owner);
    filled constant text := coalesce(given.fallback, fallback);
    served record;
    candidate_keys integer[];
    candidate_scores double precision[];
    most bigint := wanted + cardinality(excluded) + 100;
    looked_at bigint := wanted + 1;
    enough boolean;
    found_ids text[] := '{}';
    found_keys integer[] := '{}';
    found_scores double precision[] := '{}';
begin
    select v.* into served from recdb.serving(coalesce(model, given.model_version)) v;
    if given.acts or given.conditions is not null or among is not null then
        return query select r.item_id, r.score, r.reason, served.label from recdb.rank_given(
            served, given, profile, owner, own_key, wanted, excluded, filled, filter, among) r;
        return;
    end if;
    if cardinality(profile.item_keys) > 0 and served.model_id is not null then
        loop
            select array_agg(b.item_key), array_agg(b.final) into candidate_keys, candidate_scores
            from (
                select t.item_key, sum(t.weight) as final
                from (
                    select unnest(s.item_keys) as item_key, s.weight * unnest(s.weights) as weight
                    from recdb.score_sources(served, profile, own_key) s
                ) t
                group by t.item_key
                having sum(t.weight) > 0 and t.item_key not in (select unnest(profile.hidden_keys))
                order by final desc
                limit most
            ) b;
            loop
                select coalesce(array_agg(f.item_id order by f.score desc, f.item_id), '{}'),
                    coalesce(array_agg(f.item_key order by f.score desc, f.item_id), '{}'),
                    coalesce(array_agg(f.score order by f.score desc, f.item_id), '{}')
                into found_ids, found_keys, found_scores
                from (
                    select e.item_id, e.item_key, round(e.score / e.top * 1e9) / 1e9 as score
                    from (
                        select o.item_id, c.item_key, o.attributes, c.score,
                            first_value(c.score) over (rows unbounded preceding) as top
                        from unnest(candidate_keys, candidate_scores) c(item_key, score)
                        cross join lateral recdb.eligible(c.item_key, owner, given.listed_only) o
                    ) e
                    where recdb.matches(e.attributes, filter, path) and e.item_id not in (select unnest(excluded))
                    limit looked_at
                ) f;
                enough := coalesce(found_scores[cardinality(found_scores)] < found_scores[wanted], false);
                exit when enough or cardinality(found_ids) < looked_at;
                looked_at := looked_at * 4;
            end loop;
            exit when enough or coalesce(cardinality(candidate_keys), 0) < most or most is null;
            most := null;
        end loop;
    end if;
    return query
    select f.item_id, f.score, case when served.ranks_new_items
            and f.item_key = any ((select recdb.content_items(served.model_id, found_keys[:wanted]))::integer[])
        then 'content' else 'collaborative_filtering' end, served.label
    from unnest(found_ids[:wanted], found_keys[:wanted], found_scores[:wanted]) f(item_id, item_key, score);
    if filled = 'popular' and cardinality(found_ids) < wanted then
        return query select f.item_id, f.score, 'popular', served.label from recdb.fill_up(
            wanted - cardinality(found_ids), owner, excluded, filter, profile.hidden_ids, candidate_keys,
            candidate_scores, null, profile.segment) f;
    end if;
end
$$;
comment on function recdb.rank_items(
    record, text, integer, bigint, text[], text, jsonb, text, text[], text) is
    'Internal: the ranking behind recommend() and recommend_for_items(), for any profile.';
