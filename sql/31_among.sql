-- Lists from the caller's own candidates: recommend(among => ...). The scores are those of a list from all items, so
-- an item has the same score in both.


-- recdb.scored_items: the items that a profile gives a score.
--   parameters  served, profile, own_key  as score_sources()
--   returns     one row: the items, the best first, and their scores, not yet scaled; empty arrays for none
--   reads       score_sources()
create or replace function recdb.scored_items(
    served record, profile record, own_key integer, out item_keys integer[], out scores double precision[]
)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    if cardinality(profile.item_keys) > 0 and served.model_id is not null then
        select array_agg(b.item_key), array_agg(b.final) into scored_items.item_keys, scored_items.scores
        from (
            select t.item_key, sum(t.weight) as final
            from (
                select unnest(s.item_keys) as item_key, s.weight * unnest(s.weights) as weight
                from recdb.score_sources(served, profile, own_key) s
            ) t
            group by t.item_key
            having sum(t.weight) > 0 and t.item_key not in (select unnest(profile.hidden_keys))
            order by final desc
        ) b;
    end if;
    item_keys := coalesce(item_keys, '{}');
    scores := coalesce(scores, '{}');
end
$$;
comment on function recdb.scored_items(record, record, integer) is
    'Internal: all items that a profile gives a score, the best first, and their scores, not yet scaled.';


-- recdb.find_keys: the keys of items.
--   parameters  ids  item ids; NULLs, unknown ids and repetitions are ignored
--   returns     the keys, in no order
--   reads       item_key
create or replace function recdb.find_keys(ids text[])
returns integer[]
language sql stable
begin atomic
    select coalesce(array_agg(t.item_key), '{}')
    from (select distinct n.id from unnest(find_keys.ids) n(id)) a
    cross join lateral (select t.item_key from recdb.item_key t where t.item_id = a.id offset 0) t;
end;
comment on function recdb.find_keys(text[]) is
    'Internal: the keys of items; unknown ids are ignored.';


-- recdb.best_among: the best of the caller's candidates, of those that a profile gives a score.
--   parameters  everything  the row of scored_items()
--               among       the candidates; NULL for all items
--               few         their keys, if they are few; else NULL
--               most        how many of many candidates; NULL for all
--   returns     as scored_items()
--   reads       of many candidates item_key, from the best item down until there are enough
create or replace function recdb.best_among(everything record, among text[], few integer[], most bigint)
returns record
language plpgsql stable
as $$
#variable_conflict use_column
declare
    best record;
begin
    if among is null then
        return everything;
    elsif few is not null then
        select coalesce(array_agg(c.item_key order by c.score desc), '{}') as item_keys,
            coalesce(array_agg(c.score order by c.score desc), '{}') as scores
        into best
        from unnest(everything.item_keys, everything.scores) c(item_key, score)
        where c.item_key in (select unnest(few));
        return best;
    end if;
    select coalesce(array_agg(b.item_key order by b.number), '{}') as item_keys,
        coalesce(array_agg(b.score order by b.number), '{}') as scores
    into best
    from (
        select c.item_key, c.score, c.number
        -- Not in FROM: so it ends with the limit.
        from (select unnest(everything.item_keys) as item_key, unnest(everything.scores) as score,
            generate_subscripts(everything.item_keys, 1) as number) c
        where (select t.item_id from recdb.item_key t where t.item_key = c.item_key) in (select unnest(among))
        limit most
    ) b;
    return best;
end
$$;
comment on function recdb.best_among(record, text[], integer[], bigint) is
    'Internal: the best of the caller''s candidates, of those that a profile gives a score.';


-- recdb.rank_among: the best of the caller's candidates.
--   parameters  served       the row of recdb.serving() for the version
--               profile      as rank_items()
--               owner        the user, whose own items are left out; NULL for a guest
--               own_key      as rank_items()
--               wanted       how many items
--               excluded     item ids to leave out, none of them NULL
--               fallback, filter, among  as recommend()
--               listed_only  config.listed_only
--   returns     as rank_items(), without the version
--   reads       as rank_items(), and item_key for the candidates
-- Of few candidates it reads the keys. Of many it does not: it goes through all items from the best down, and reads the
-- id of each, until it has found enough of them.
create or replace function recdb.rank_among(
    served record, profile record, owner text, own_key integer, wanted bigint, excluded text[], fallback text,
    filter jsonb, among text[], listed_only boolean
)
returns table (item_id text, score double precision, reason text)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    path constant jsonpath := recdb.filter_path(filter);
    few constant boolean := cardinality(among) <= 1000;
    everything constant record := recdb.scored_items(served, profile, own_key);
    top constant double precision := recdb.best_score(everything.item_keys, everything.scores, owner, listed_only);
    candidate_keys integer[] := everything.item_keys;
    candidate_scores double precision[] := everything.scores;
    found_ids text[] := '{}';
    found_keys integer[] := '{}';
    found_scores double precision[] := '{}';
    looked_at bigint := wanted + 1;
begin
    if few then
        select coalesce(array_agg(c.item_key order by c.score desc), '{}'),
            coalesce(array_agg(c.score order by c.score desc), '{}')
        into candidate_keys, candidate_scores
        from unnest(everything.item_keys, everything.scores) c(item_key, score)
        where c.item_key in (select unnest(recdb.find_keys(among)));
    end if;
    -- On a tie at rank wanted fetch more: ties are ordered by item_id.
    loop
        select coalesce(array_agg(f.item_id order by f.score desc, f.item_id), '{}'),
            coalesce(array_agg(f.item_key order by f.score desc, f.item_id), '{}'),
            coalesce(array_agg(f.score order by f.score desc, f.item_id), '{}')
        into found_ids, found_keys, found_scores
        from (
            select o.item_id, c.item_key, round(c.score / top * 1e9) / 1e9 as score
            from unnest(candidate_keys, candidate_scores) c(item_key, score)
            cross join lateral (
                select t.item_id from recdb.item_key t
                where t.item_key = c.item_key and (few or t.item_id in (select unnest(among)))
                offset 0
            ) n
            cross join lateral recdb.eligible(c.item_key, owner, listed_only) o
            where recdb.matches(o.attributes, filter, path) and o.item_id not in (select unnest(excluded))
            limit looked_at
        ) f;
        exit when cardinality(found_ids) < looked_at
            or found_scores[cardinality(found_scores)] < found_scores[wanted];
        looked_at := looked_at * 4;
    end loop;

    return query
    select f.item_id, f.score, case when served.ranks_new_items
            and f.item_key = any ((select recdb.content_items(served.model_id, found_keys[:wanted]))::integer[])
        then 'content' else 'collaborative_filtering' end
    from unnest(found_ids[:wanted], found_keys[:wanted], found_scores[:wanted]) f(item_id, item_key, score);
    if fallback = 'popular' and cardinality(found_ids) < wanted then
        return query
        select f.item_id, f.score, 'popular'
        from recdb.fill_up(
            wanted - cardinality(found_ids), owner, excluded, filter, profile.hidden_ids, everything.item_keys,
            everything.scores, among, profile.segment) f;
    end if;
end
$$;
comment on function recdb.rank_among(
    record, record, text, integer, bigint, text[], text, jsonb, text[], boolean) is
    'Internal: the best of the caller''s candidates, for recommend(among => ...).';


-- recdb.rank_given: a list from the caller's candidates, or one that a scenario steers.
--   parameters  given   of read_scenario()
--               others  as rank_among(); among may be NULL
--   returns     as rank_among()
--   reads       as steer_items(), or rank_among()
create or replace function recdb.rank_given(
    served record, given record, profile record, owner text, own_key integer, wanted bigint, excluded text[],
    fallback text, filter jsonb, among text[]
)
returns table (item_id text, score double precision, reason text)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
begin
    if given.acts or given.conditions is not null then
        return query
        select r.item_id, r.score, r.reason
        from recdb.steer_items(
            served, given, profile, owner, own_key, wanted, excluded, fallback, filter, among) r;
    else
        return query
        select r.item_id, r.score, r.reason
        from recdb.rank_among(
            served, profile, owner, own_key, wanted, excluded, fallback, filter, among, given.listed_only) r;
    end if;
end
$$;
comment on function recdb.rank_given(
    record, record, record, text, integer, bigint, text[], text, jsonb, text[]) is
    'Internal: a list from the caller''s candidates, or one that a scenario steers.';


-- recdb.best_score: the score of the best item that a user may get, which becomes 1 in the list.
--   parameters  item_keys, scores  of scored_items()
--               owner, listed_only  as eligible()
--   returns     the score, NULL for none
--   reads       eligible(), from the best item down
create or replace function recdb.best_score(
    item_keys integer[], scores double precision[], owner text, listed_only boolean
)
returns double precision
language sql stable
begin atomic
    select c.score
    -- Not in FROM: so it ends with the first one that is eligible.
    from (select unnest(best_score.item_keys) as item_key, unnest(best_score.scores) as score) c
    cross join lateral recdb.eligible(c.item_key, best_score.owner, best_score.listed_only) e
    limit 1;
end;
comment on function recdb.best_score(integer[], double precision[], text, boolean) is
    'Internal: the score of the best item that a user may get.';


-- recdb.lowest_score: the score below which popular items fill a list up.
--   parameters  as best_score()
--   returns     a trifle less than the lowest score in 0..1 of an item that the user may get; 1 for none
--   reads       eligible(), from the worst item up
create or replace function recdb.lowest_score(
    item_keys integer[], scores double precision[], owner text, listed_only boolean
)
returns double precision
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return coalesce((
        select round(c.score / recdb.best_score(item_keys, scores, owner, listed_only) * 1e9) / 1e9 * (1 - 1e-6)
        from (
            select n.item_key, n.score
            from unnest(item_keys, scores) with ordinality n(item_key, score, position)
            order by n.position desc
        ) c
        cross join lateral recdb.eligible(c.item_key, owner, listed_only)
        limit 1), 1);
end
$$;
comment on function recdb.lowest_score(integer[], double precision[], text, boolean) is
    'Internal: the score below which popular items fill a list up.';


-- recdb.among_filler: popular_filler() for the caller's candidates.
--   parameters  among   the candidates
--               others  as popular_filler(); candidate_keys and candidate_scores are those of all items, the best first
--   returns     at most missing rows: the candidates that users interacted with, by popularity and with the scores of
--               popular_filler(); then the others, newest first, those without a date by item_id
--   reads       item_popularity by key, the catalogue by id; eligible()
create or replace function recdb.among_filler(
    missing bigint, owner text, excluded text[], filter jsonb, hidden_ids text[],
    candidate_keys integer[], candidate_scores double precision[], among text[]
)
returns table (item_id text, score double precision)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    listed_only constant boolean := (select c.listed_only from recdb.config c);
    path constant jsonpath := recdb.filter_path(filter);
    few constant boolean := cardinality(among) <= 1000;
    among_keys constant integer[] := case when few then recdb.find_keys(among) end;
    lowest double precision;
    top double precision;
    found_ids text[];
    found_scores double precision[];
begin
    lowest := recdb.lowest_score(candidate_keys, candidate_scores, owner, listed_only);
    select nullif(p.weight, 0) into top
    from recdb.item_popularity p
    cross join lateral recdb.eligible(p.item_key, owner, listed_only)
    where p.item_key not in (select unnest(candidate_keys)) and p.item_id not in (select unnest(hidden_ids))
    order by p.weight desc, p.item_id
    limit 1;

    select coalesce(array_agg(f.item_id), '{}'), coalesce(array_agg(f.score), '{}') into found_ids, found_scores
    from (
        select p.item_id, lowest * greatest(coalesce(p.weight / top, 0), 1e-9) as score
        from (
            select p.item_key, p.item_id, p.weight
            from (
                select p.item_key, p.item_id, p.weight
                from unnest(among_keys) a(item_key)
                cross join lateral (
                    select p.* from recdb.item_popularity p where p.item_key = a.item_key offset 0
                ) p
                where few
                order by p.weight desc, p.item_id
            ) p
            union all
            select p.item_key, p.item_id, p.weight
            from (
                select p.item_key, p.item_id, p.weight
                from recdb.item_popularity p
                where not few and p.item_id in (select unnest(among) offset 0)
                order by p.weight desc, p.item_id
            ) p
        ) p
        cross join lateral recdb.eligible(p.item_key, owner, listed_only) e
        where p.item_key not in (select unnest(candidate_keys))
          and p.item_id not in (select unnest(hidden_ids))
          and p.item_id not in (select unnest(excluded))
          and recdb.matches(e.attributes, filter, path)
        limit missing
    ) f;
    if cardinality(found_ids) < missing then
        select found_ids || coalesce(array_agg(f.item_id), '{}'), found_scores || coalesce(array_agg(f.score), '{}')
        into found_ids, found_scores
        from recdb.among_untouched(
            missing - cardinality(found_ids), lowest, owner, excluded, filter, hidden_ids, candidate_keys, among,
            listed_only) f;
    end if;
    return query
    select f.item_id, f.score
    from unnest(found_ids, found_scores) f(item_id, score)
    order by f.score desc, f.item_id;
end
$$;
comment on function recdb.among_filler(
    bigint, text, text[], jsonb, text[], integer[], double precision[], text[]) is
    'Internal: the popular ones of the caller''s candidates that fill a list up for fallback => ''popular''.';


-- recdb.among_untouched: the caller's candidates that no interaction counts for.
--   parameters  missing  how many items
--               lowest   the lowest score of the personal ranking
--               others   as among_filler()
--   returns     at most missing rows, newest first, those without a date last and by item_id; with the scores of
--               popular_filler()
--   reads       the catalogue and item_key by id, item_popularity by key; was_touched() where no catalogue has the item
create or replace function recdb.among_untouched(
    missing bigint, lowest double precision, owner text, excluded text[], filter jsonb, hidden_ids text[],
    candidate_keys integer[], among text[], listed_only boolean
)
returns table (item_id text, score double precision)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    path constant jsonpath := recdb.filter_path(filter);
begin
    return query
    select a.id, lowest * 1e-9 * coalesce(
        least(greatest((date_part('epoch', i.published_at) + 2 ^ 37) / 2 ^ 38, 0), 1), 0)
    from (select distinct u.id from unnest(among) u(id)) a
    left join lateral (select t.item_key, t.first_at from recdb.item_key t where t.item_id = a.id offset 0) t on true
    left join lateral recdb.read_item(a.id) i on true
    where (i.item_id is not null or recdb.was_touched(t.item_key, t.first_at))
      and coalesce(i.available, not listed_only)
      and coalesce(i.published_at <= now(), true)
      and (owner is null or i.owner_id is distinct from owner)
      and recdb.matches(i.attributes, filter, path)
      and a.id not in (select unnest(hidden_ids))
      and a.id not in (select unnest(excluded))
      and not exists (select from recdb.item_popularity p where p.item_key = t.item_key)
      and (t.item_key is null or t.item_key not in (select unnest(candidate_keys)))
    order by i.published_at desc nulls last, a.id
    limit missing;
end
$$;
comment on function recdb.among_untouched(
    bigint, double precision, text, text[], jsonb, text[], integer[], text[], boolean) is
    'Internal: the caller''s candidates that no interaction counts for.';
