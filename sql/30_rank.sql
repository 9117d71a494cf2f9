-- The ranking. p is the profile's newest profile_limit items, r_j the rank of its item j, each x an exponent of its own:
--   people(i) = sum over the stored users v nearest to fold_in(p_j^x r_j^-recency) of similarity^q * d_v^-g * w_vi^x
--   items(i)  = sum over the profile's items j of p_j^x r_j^-recency * N_ji
--   final(i)  = blend * people(i) / total people + (1 - blend) * items(i) / total items
-- A total is the sum of all its terms' magnitudes. It is known before they are added up, since user_vector and
-- item_neighbor keep their rows' sums as total_weight: so final(i) is one plain sum over voices, users and items. What
-- a voice speaks for lies in its row as two arrays, users' as items': no index of the weighted interactions is read.


-- recdb.voices: whom a profile asks: the nearest users, and its own items.
--   served   the row of recdb.serving() for the version that is asked
--   profile_keys, _weights, _ranks  what the profile likes, newest first; rank 1 is the newest
--   own_key  the stored vector that is left out, NULL for a guest
--   returns  a row a voice, a user's (neighbor_key, similarity) or an item's (because_key): it adds weight * weights[i]
--            to the score of item_keys[i]
create or replace function recdb.voices(
    served record, profile_keys integer[], profile_weights double precision[], profile_ranks bigint[], own_key integer
)
returns table (
    because_key integer, neighbor_key integer, similarity double precision,
    weight double precision, item_keys integer[], weights real[]
)
language plpgsql stable rows 100 cost 3000
as $$
#variable_conflict use_column
declare
    keys constant integer[] := profile_keys[:served.profile_limit];
    liked constant double precision[] := profile_weights[:served.profile_limit];
    ranks constant bigint[] := profile_ranks[:served.profile_limit];
    query constant vector := recdb.fold_in(
        served.model_id, keys, recdb.profile_weights(liked, ranks, served.people_weight_exponent, served.people_recency));
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
    return query
    select i.item_key, null::integer, null::double precision,
        (1 - served.blend) * i.liking / nullif(sum(abs(i.liking) * i.total_weight) over (), 0), i.neighbor_keys, i.weights
    from (
        select p.item_key, p.liking, r.neighbor_keys, r.weights, r.total_weight
        from unnest(
            keys, recdb.profile_weights(liked, ranks, served.profile_weight_exponent, served.profile_recency)
        ) p(item_key, liking)
        cross join lateral (
            select n.neighbor_keys, n.weights, n.total_weight
            from recdb.item_neighbor n
            where n.model_id = served.model_id and n.item_key = p.item_key
            offset 0
        ) r
    ) i;
end
$$;
comment on function recdb.voices(record, integer[], double precision[], bigint[], integer) is
    'Whom a profile asks under a model version: the nearest users and its own items, with what each of them speaks for.';


-- recdb.offered: an item, if it may be recommended to a user: available, in the catalogue where it has to be, not their own.
--   owner    the user, NULL for a guest
--   returns  one row or none; attributes are NULL where no catalogue has the item
create or replace function recdb.offered(item_key integer, owner text, listed_only boolean)
returns table (item_id text, attributes jsonb)
language sql stable rows 1
begin atomic
    select t.item_id, i.attributes
    from recdb.item_key t
    left join lateral recdb.item_of(t.item_id) i on true
    where t.item_key = offered.item_key
      and coalesce(i.available, not offered.listed_only)
      and (offered.owner is null or i.owner_id is distinct from offered.owner)
    offset 0;
end;
comment on function recdb.offered(integer, text, boolean) is 'An item with its attributes, if it may be recommended to a user.';


-- recdb.rank_items: the ranking behind recommend(), for any profile.
--
--   profile_keys, _weights, _ranks  as voices()
--   hidden_ids, hidden_keys         what must not come back (keys where there are any)
--   owner, own_key                  whose profile it is: own items and the own stored vector are left out; NULL for a guest
--   others                          as recommend()
--   returns                         as recommend()
--   reads                           user_vector by HNSW, item_vector and item_neighbor by key, and the catalogue for what
--                                   is looked at from the top down
--
-- What is hidden, unavailable or the user's own is dropped; the largest left becomes 1; rounding to 1e-9 hides
-- the order in which a plan happened to add; exclude and filter come last, so that they do not rescale.
create or replace function recdb.rank_items(
    profile_keys integer[], profile_weights double precision[], profile_ranks bigint[], hidden_ids text[], hidden_keys integer[],
    owner text, own_key integer, k bigint, exclude text[], fallback text, filter jsonb, model text
)
returns table (item_id text, score double precision, reason text, model_version text)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    wanted constant bigint := coalesce(k, 50);
    excluded constant text[] := array(select e.id from unnest(exclude) e(id) where e.id is not null);
    served record;
    settings recdb.config;
    candidate_keys integer[];
    candidate_scores double precision[];
    entry record;
    top double precision;
    current_score double precision;
    most bigint;
    looked_at bigint;
    enough boolean;
    lowest double precision;
    found_ids text[] := '{}';
    found_scores double precision[] := '{}';
    personal_count bigint;
    -- Bound cursors are planned for their first rows: the indexes are walked, not sorted.
    popular cursor for
        select p.item_id, p.weight, filter is null or coalesce(e.attributes @> filter, false) as matches
        from recdb.item_popularity p
        cross join lateral recdb.offered(p.item_key, owner, settings.listed_only) e
        where p.item_key not in (select unnest(candidate_keys))
          and p.item_id not in (select unnest(hidden_ids))
        order by p.weight desc, p.item_id;
    untouched cursor for
        select i.item_id, i.published_at
        from recdb.items i
        where cardinality(found_ids) < wanted - personal_count  -- else the catalogue is not looked at
          and i.available
          and (owner is null or i.owner_id is distinct from owner)
          and (filter is null or i.attributes @> filter)
          and i.item_id not in (select unnest(hidden_ids))
          and not exists (
              select from recdb.item_key t join recdb.item_popularity p on p.item_key = t.item_key
              where t.item_id = i.item_id)
          and not exists (
              select from recdb.item_key t
              where t.item_id = i.item_id and t.item_key in (select unnest(candidate_keys)))
        order by i.published_at desc nulls last, i.item_id;
begin
    if wanted not between 1 and 1000 then
        raise exception 'k is %, and must be between 1 and 1000', wanted using errcode = 'invalid_parameter_value';
    end if;
    if coalesce(fallback, 'none') not in ('none', 'popular') then
        raise exception 'fallback is "%", and must be ''none'' or ''popular''', fallback
            using errcode = 'invalid_parameter_value';
    end if;
    select c.* into settings from recdb.config c;
    select v.* into served from recdb.serving(model) v;

    if cardinality(profile_keys) > 0 and served.model_id is not null then
        -- Few candidates are ever looked at, so at first no more are sorted than probably needed, then all.
        most := wanted + cardinality(excluded) + 100;
        looked_at := wanted + 1;
        loop
            select array_agg(b.item_key), array_agg(b.final)
            into candidate_keys, candidate_scores
            from (
                select t.item_key, sum(t.weight) as final
                from (
                    select unnest(v.item_keys) as item_key, v.weight * unnest(v.weights) as weight
                    from recdb.voices(served, profile_keys, profile_weights, profile_ranks, own_key) v
                ) t
                group by t.item_key
                having sum(t.weight) > 0 and t.item_key not in (select unnest(hidden_keys))
                order by final desc
                limit most
            ) b;
            -- From the top down; the lateral join keeps the order of unnest and looks up only what the limit asks for.
            -- One more than wanted; and where it ties with the last, more, since ids decide then.
            loop
                select coalesce(array_agg(f.item_id order by f.score desc, f.item_id), '{}'),
                    coalesce(array_agg(f.score order by f.score desc, f.item_id), '{}')
                into found_ids, found_scores
                from (
                    select e.item_id, round(e.score / e.top * 1e9) / 1e9 as score
                    from (
                        select o.item_id, o.attributes, c.score,
                            first_value(c.score) over (rows unbounded preceding) as top
                        from unnest(candidate_keys, candidate_scores) c(item_key, score)
                        cross join lateral recdb.offered(c.item_key, owner, settings.listed_only) o
                    ) e
                    where (filter is null or e.attributes @> filter) and e.item_id not in (select unnest(excluded))
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
    select unnest(found_ids[:wanted]), unnest(found_scores[:wanted]), 'collaborative_filtering', served.label;

    personal_count := least(cardinality(found_ids), wanted);
    if personal_count >= wanted or coalesce(fallback, 'none') = 'none' then
        return;
    end if;

    -- Popular filler, below the lowest personal score: what others touched, then the rest, newest first.
    select coalesce(round(min(c.score) / max(c.score) * 1e9) / 1e9 * (1 - 1e-6), 1) into lowest
    from unnest(candidate_keys, candidate_scores) c(item_key, score)
    cross join lateral recdb.offered(c.item_key, owner, settings.listed_only);
    found_ids := '{}';
    found_scores := '{}';
    for entry in popular loop
        top := coalesce(top, nullif(entry.weight, 0));
        current_score := lowest * greatest(coalesce(entry.weight / top, 0), 1e-9);
        exit when cardinality(found_ids) >= wanted - personal_count;
        if entry.matches and entry.item_id <> all (excluded) then
            found_ids := found_ids || entry.item_id;
            found_scores := found_scores || current_score;
        end if;
    end loop;
    for entry in untouched loop
        exit when cardinality(found_ids) >= wanted - personal_count;
        if entry.item_id <> all (excluded) then
            found_ids := found_ids || entry.item_id;
            -- Newer is more: 8,700 years around 1970 mapped onto 0..1, what has no date at 0.
            found_scores := found_scores || lowest * 1e-9 * coalesce(
                least(greatest((date_part('epoch', entry.published_at) + 2 ^ 37) / 2 ^ 38, 0), 1), 0);
        end if;
    end loop;
    return query
    select f.item_id, f.score, 'popular', served.label
    from unnest(found_ids, found_scores) f(item_id, score)
    order by f.score desc, f.item_id;
end
$$;
comment on function recdb.rank_items(
    integer[], double precision[], bigint[], text[], integer[], text, integer, bigint, text[], text, jsonb, text) is
    'The ranking behind recommend() and recommend_for_items(), for any profile.';
