-- recdb.popular_filler: popular items below a personal list, for fallback => 'popular'.
--   parameters  missing           how many items
--               owner             the user, whose own items are left out; NULL for a guest
--               excluded          item ids to leave out, none of them NULL
--               filter            as recommend()
--               hidden_ids        item ids to leave out, because the user interacted with them
--               candidate_keys    the items of the personal ranking, the best first, which are left out; NULL for none
--               candidate_scores  their scores, in the same order, not yet scaled
--   returns     at most missing rows: first items that users interacted with, by popularity; then items of the
--               catalogue without interactions, newest first. All scores are below the lowest of the personal ranking
--   reads       item_popularity and the catalogue (items), from the top of an index down; eligible()
-- Excluded items and items that the filter leaves out still count for the scale, so that an item keeps its score on
-- every page.
create or replace function recdb.popular_filler(
    missing bigint, owner text, excluded text[], filter jsonb, hidden_ids text[],
    candidate_keys integer[], candidate_scores double precision[]
)
returns table (item_id text, score double precision)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    listed_only constant boolean := (select c.listed_only from recdb.config c);
    path constant jsonpath := recdb.filter_path(filter);
    entry record;
    lowest double precision;
    top double precision;
    current_score double precision;
    found_ids text[] := '{}';
    found_scores double precision[] := '{}';
    -- A bound cursor is planned for its first rows: it walks down an index instead of sorting a table.
    popular cursor for
        select p.item_id, p.weight,
            coalesce(recdb.matches(e.attributes, filter, path), false)
                and p.item_id not in (select unnest(excluded)) as matches
        from recdb.item_popularity p
        cross join lateral recdb.eligible(p.item_key, owner, listed_only) e
        where p.item_key not in (select unnest(candidate_keys))
          and p.item_id not in (select unnest(hidden_ids))
        order by p.weight desc, p.item_id;
    without_interactions cursor for
        select i.item_id, i.published_at
        from recdb.read_items() i
        where cardinality(found_ids) < missing  -- else the catalogue is not read at all
          and i.available
          and coalesce(i.published_at <= now(), true)
          and (owner is null or i.owner_id is distinct from owner)
          and recdb.matches(i.attributes, filter, path)
          and i.item_id not in (select unnest(hidden_ids))
          and i.item_id not in (select unnest(excluded))
          and not exists (
              select from recdb.item_key t join recdb.item_popularity p on p.item_key = t.item_key
              where t.item_id = i.item_id)
          and not exists (
              select from recdb.item_key t
              where t.item_id = i.item_id and t.item_key in (select unnest(candidate_keys)))
        order by i.published_at desc nulls last, i.item_id;
begin
    lowest := recdb.lowest_score(candidate_keys, candidate_scores, owner, listed_only);

    for entry in popular loop
        top := coalesce(top, nullif(entry.weight, 0));
        current_score := lowest * greatest(coalesce(entry.weight / top, 0), 1e-9);
        exit when cardinality(found_ids) >= missing;
        if entry.matches then
            found_ids := found_ids || entry.item_id;
            found_scores := found_scores || current_score;
        end if;
    end loop;
    begin
        for entry in without_interactions loop
            exit when cardinality(found_ids) >= missing;
            found_ids := found_ids || entry.item_id;
            -- Newer items score higher: 8,700 years around 1970 are mapped onto 0..1; an item without a date is at 0.
            found_scores := found_scores || lowest * 1e-9 * coalesce(
                least(greatest((date_part('epoch', entry.published_at) + 2 ^ 37) / 2 ^ 38, 0), 1), 0);
        end loop;
    exception when others then
        -- A row of an attached catalogue cannot be read: the list ends before the items without interactions.
        if recdb.failing_items(sqlstate) is null then
            raise;
        end if;
    end;

    return query
    select f.item_id, f.score
    from unnest(found_ids, found_scores) f(item_id, score)
    order by f.score desc, f.item_id;
end
$$;
comment on function recdb.popular_filler(
    bigint, text, text[], jsonb, text[], integer[], double precision[]) is
    'Internal: the popular items that fill a list up for fallback => ''popular'', with scores below the personal ones.';


-- recdb.steer_filler: the popular items for a list that is steered.
--   parameters  missing     how many
--               everything  the row of scored_items()
--               segment     as fill_up()
--               others      as fill_pool() and rank_among()
--   returns     the items of fill_up() that meet both filters and no rule with the factor 0, with their scores. Those
--               that are excluded are among them, so that each page is chosen from the same items
--   reads       as fill_up()
-- fill_up() takes one filter. If others leave items out, it is asked for four times as many until enough are left.
create or replace function recdb.steer_filler(
    given record, owner text, excluded text[], filter jsonb, hidden_ids text[], everything record, among text[],
    missing bigint, segment jsonb
)
returns table (
    item_key integer, item_id text, owner_id text, appeared_at timestamptz, attributes jsonb, score double precision
)
language plpgsql stable rows 200 cost 5000
as $$
#variable_conflict use_column
declare
    asked bigint := missing;
    found record;
    kept text[];
begin
    loop
        select coalesce(array_agg(f.item_id), '{}') as ids, array_agg(f.score) as scores into found
        from recdb.fill_up(
            asked, owner, '{}', coalesce(filter, given.filter), hidden_ids, everything.item_keys, everything.scores,
            among, segment) f;
        kept := found.ids;
        exit when not given.buries and (filter is null or given.filter is null);
        kept := array(
            select f.item_id
            from unnest(found.ids) with ordinality f(item_id, number)
            left join lateral recdb.read_item(f.item_id) i on true
            where recdb.matches(i.attributes, given.filter, given.own_path)
              and not recdb.is_buried(i.attributes, given.conditions, given.paths, given.factors)
            order by f.number
            limit missing);
        exit when cardinality(kept) >= missing or cardinality(found.ids) < asked;
        asked := asked * 4;
    end loop;
    return query
    select t.item_key, f.item_id, i.owner_id, coalesce(i.published_at, t.first_at), i.attributes, f.score
    from unnest(found.ids, found.scores) f(item_id, score)
    left join lateral (
        select t.item_key, t.first_at from recdb.item_key t where t.item_id = f.item_id offset 0
    ) t on true
    left join lateral recdb.read_item(f.item_id) i on true
    where f.item_id in (select unnest(kept));
end
$$;
comment on function recdb.steer_filler(record, text, text[], jsonb, text[], record, text[], bigint, jsonb) is
    'Internal: the popular items for a list that is steered.';
