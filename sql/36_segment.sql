-- The places below a personal list, and the items that are popular among people of a kind: recommend(segment => ...).


-- recdb.fill_up: the popular items below a personal list, for fallback => 'popular'.
--   parameters  among    the caller's candidates; NULL for all items
--               segment  of check_segment(); NULL for all users
--               others   as popular_filler()
--   returns     as popular_filler(), among_filler() or segment_filler()
--   reads       as those
create or replace function recdb.fill_up(
    missing bigint, owner text, excluded text[], filter jsonb, hidden_ids text[],
    candidate_keys integer[], candidate_scores double precision[], among text[], segment jsonb
)
returns table (item_id text, score double precision)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
begin
    if segment is not null then
        return query
        select f.item_id, f.score
        from recdb.segment_filler(
            missing, owner, excluded, filter, hidden_ids, candidate_keys, candidate_scores, among, segment) f;
    elsif among is not null then
        return query
        select f.item_id, f.score
        from recdb.among_filler(
            missing, owner, excluded, filter, hidden_ids, candidate_keys, candidate_scores, among) f;
    else
        return query
        select f.item_id, f.score
        from recdb.popular_filler(
            missing, owner, excluded, filter, hidden_ids, candidate_keys, candidate_scores) f;
    end if;
end
$$;
comment on function recdb.fill_up(
    bigint, text, text[], jsonb, text[], integer[], double precision[], text[], jsonb) is
    'Internal: the popular items below a personal list, for fallback => ''popular''.';


-- recdb.check_segment: the caller's segment, the attributes of the users whose popular items fill a list up.
--   parameters  segment  the caller's argument
--   returns     the segment; NULL for NULL and for an object without attributes, which is everybody
--   errors      22023 if it is no object
create or replace function recdb.check_segment(segment jsonb)
returns jsonb
language plpgsql immutable parallel safe
as $$
begin
    if segment is null or segment = '{}' then
        return null;
    elsif jsonb_typeof(segment) <> 'object' then
        raise exception 'segment is %, and must be an object with attributes of users', jsonb_typeof(segment)
            using errcode = 'invalid_parameter_value', hint = 'Such as {"country": "de", "language": "de"}.';
    end if;
    return segment;
end
$$;
comment on function recdb.check_segment(jsonb) is
    'Internal: the segment, NULL if it has no attributes; error 22023 if it is no object.';


-- recdb.segment_filler: the items that are popular in a segment, and below them those that are popular among all.
--   parameters  among    the caller's candidates; NULL for all items
--               segment  of check_segment(), not NULL
--               others   as popular_filler()
--   returns     at most missing rows: first the items of segment_items() by their rate; then those of fill_up() without
--               a segment. All scores are below the lowest of the personal ranking.
--               If no user with interactions has the attributes, or none of the items may be recommended, these
--               alone
--   reads       segment_items(), eligible(); the rest only if the items of the segment are not enough
-- The scale counts items that are excluded, are no candidates, or do not meet the filter: so an item has one score on
-- every page. fill_up() gets the items of the segment as hidden ones, and its scores are scaled below theirs.
create or replace function recdb.segment_filler(
    missing bigint, owner text, excluded text[], filter jsonb, hidden_ids text[],
    candidate_keys integer[], candidate_scores double precision[], among text[], segment jsonb
)
returns table (item_id text, score double precision)
language plpgsql stable rows 50 cost 10000
as $$
#variable_conflict use_column
declare
    listed_only constant boolean := (select c.listed_only from recdb.config c);
    path constant jsonpath := recdb.filter_path(filter);
    ranked record;
    found record;
    lowest double precision := recdb.lowest_score(candidate_keys, candidate_scores, owner, listed_only);
    top double precision;
begin
    select array_agg(s.item_key) as item_keys, array_agg(s.item_id) as item_ids, array_agg(s.rate) as rates into ranked
    from recdb.segment_items(segment) s
    where s.item_key not in (select unnest(candidate_keys)) and s.item_id not in (select unnest(hidden_ids));
    select r.rate into top
    from unnest(ranked.item_keys, ranked.rates) r(item_key, rate)
    cross join lateral recdb.eligible(r.item_key, owner, listed_only)
    limit 1;
    if top is null then
        return query
        select f.item_id, f.score
        from recdb.fill_up(
            missing, owner, excluded, filter, hidden_ids, candidate_keys, candidate_scores, among, null) f;
        return;
    end if;

    select array_agg(f.item_id) as ids,
        array_agg(lowest * greatest(coalesce(f.rate / nullif(top, 0), 0), 1e-12)) as scores
    into found
    from (
        select e.item_id, r.rate
        from unnest(ranked.item_keys, ranked.rates, ranked.item_ids) r(item_key, rate, item_id)
        cross join lateral recdb.eligible(r.item_key, owner, listed_only) e
        where r.item_id not in (select unnest(excluded))
          and (among is null or r.item_id in (select unnest(among)))
          and recdb.matches(e.attributes, filter, path)
        limit missing
    ) f;
    return query
    select f.item_id, f.score
    from unnest(found.ids, found.scores) f(item_id, score)
    order by f.score desc, f.item_id;

    missing := missing - coalesce(cardinality(found.ids), 0);
    lowest := lowest * (1 - 1e-6) * greatest(
        coalesce((select min(r.rate) from unnest(ranked.rates) r(rate)) / nullif(top, 0), 0), 1e-12);
    if missing > 0 then
        return query
        select f.item_id, f.score * lowest
        from recdb.fill_up(
            missing, owner, excluded, filter, hidden_ids || ranked.item_ids, candidate_keys, null, among, null) f;
    end if;
end
$$;
comment on function recdb.segment_filler(
    bigint, text, text[], jsonb, text[], integer[], double precision[], text[], jsonb) is
    'Internal: the items that are popular in a segment, and below them those that are popular among all, to fill a '
    'list up.';
