-- The pool of a steered list (32_steer): the best items for a user, with the scores that the scenario makes. 33_choose
-- chooses the list from it.


-- recdb.fill_pool: the pool of a steered list, with the scores that the scenario makes.
--   parameters  shown       the row of last_shown()
--               everything  the row of scored_items()
--               candidates  as everything, of the candidates alone if the caller gave some
--               top         best_score() of all items
--               size        how many of the best items
--               passed      how many of them an earlier pool had, none of which may come any more; after, the place of
--                           the last one among the candidates
--               further     how many items below them are looked at: those that a rule lifts or pins come too
--               missing     how many popular items come too
--               full        full_groups() of what was chosen before: their items are left out
--               others      as steer_items()
--   returns     one row: arrays of one length, the best item first, empty for none. bounds are the marginal relevance
--               of items that are like no other. owners and topics are group_of() what counts for the most of one owner
--               or value; lists has the values of an item with a list of them, and is NULL if none has. attributes are
--               there if a rule pins items, and vectors with diversity. personal: how many items are no popular filler,
--               those that were passed and left out too; last_place: the place among the candidates of the last of the
--               best items; from 1,000,000 on, it is a popular one, and from 2,000,000 on, or NULL, there are fewer
--   reads       as eligible() and steer_filler(); impression and item_vector as far as the scenario needs them
-- The arrays of the best items are not unnested in FROM: so the statement ends with its limit.
create or replace function recdb.fill_pool(
    served record, given record, profile record, owner text, shown record, excluded text[], filter jsonb,
    among text[], everything record, candidates record, top double precision, size bigint, passed bigint,
    after integer, further bigint, missing bigint, full_groups bigint[],
    out item_keys integer[], out item_ids text[], out numbers double precision[], out bounds double precision[],
    out reasons text[], out owners bigint[], out topics bigint[], out lists jsonb[], out attributes jsonb[],
    out vectors @vector@.halfvec[], out personal bigint, out last_place integer
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    path constant jsonpath := recdb.filter_path(filter);
    lowest constant double precision := recdb.lowest_lifted(
        given.factors, everything.scores, candidates.scores, top, size);
begin
    with offered as materialized ((
            select c.place, c.item_key, o.item_id, o.owner_id, o.appeared_at, o.attributes,
                round(c.score / top * 1e9) / 1e9 as score, false as is_popular
            from (select unnest(candidates.item_keys[after + 1:]) as item_key,
                unnest(candidates.scores[after + 1:]) as score,
                generate_series(after + 1, cardinality(candidates.item_keys)) as place) c
            cross join lateral recdb.eligible(c.item_key, owner, given.listed_only) o
            where c.score / top >= coalesce(given.minimum_score, 0) and recdb.matches(o.attributes, filter, path)
              and recdb.matches(o.attributes, given.filter, given.own_path)
              and not (given.buries and recdb.is_buried(o.attributes, given.conditions, given.paths, given.factors))
            limit size - passed + further
        )
        union all
        select case when n.is_popular then 1000000 else 2000000 end + row_number() over ()::integer, n.*
        from recdb.fill_further(
            given, profile, owner, excluded, filter, among, everything, candidates, top, missing, lowest is not null) n
        where missing > 0 or lowest is not null
    ), ruled as (
        select o.place, exp(greatest(-230::double precision,  -- 1e-100; other factors follow
                coalesce(sum(ln(r.factor)) filter (where r.factor between 1e-300 and 1), 0))) as lowers,
            exp(least(230::double precision, coalesce(sum(ln(r.factor)) filter (where r.factor > 1), 0))) as lifts,
            bool_or(coalesce(r.factor > 1, true)) as reaches
        from unnest(given.conditions, given.paths, given.factors) r(condition, path, factor)
        join offered o on recdb.matches(o.attributes, r.condition, r.path)
        group by o.place
    )
    select array_agg(s.item_key), coalesce(array_agg(s.item_id), '{}'), array_agg(s.value),
        array_agg((1 - given.diversity) * s.value + given.diversity), array_agg(s.reason), array_agg(s.owner),
        array_agg(s.topic), case when bool_or(s.list is not null) then array_agg(s.list) end,
        array_agg(s.attributes), array_agg(s.vector), passed + (select count(*) from offered o where o.place < 1000000),
        (select o.place from offered o offset size - passed - 1 limit 1)
    into item_keys, item_ids, numbers, bounds, reasons, owners, topics, lists, attributes, vectors, personal, last_place
    from (
        select v.item_key, v.item_id, v.attributes, recdb.lift(v.value, v.lifts) as value, e.vector,
            case when v.lifts > 1 and recdb.lift(v.value, v.lifts) >= v.value / v.lowers * (1 - 1e-9)
                then 'boosted' else v.reason end as reason,
            recdb.group_of(v.owner_id, 1) as owner, recdb.topic_of(v.counted) as topic,
            case when jsonb_typeof(v.counted) = 'array' then v.counted end as list
        from (
            select o.item_key, o.item_id, o.attributes -> given.max_per_attribute as counted,
                case when given.max_per_owner is not null then o.owner_id end as owner_id,
                case when o.is_popular then 'popular' else 'collaborative_filtering' end as reason,
                case when given.pins then o.attributes end as attributes,
                greatest(o.score, case when f.lifts > 1 then lowest end)
                    * coalesce(recdb.fade(o.appeared_at + given.later, given.freshness), 1)
                    * coalesce(1 - given.rotation_rate * recdb.fade(a.shown_at, given.rotation_time), 1)
                    * coalesce(f.lowers, 1) as value,
                coalesce(f.lifts, 1) as lifts, coalesce(f.lowers, 1) as lowers
            from offered o
            left join ruled f on f.place = o.place
            left join unnest(shown.item_keys, shown.times) a(item_key, shown_at)
                on a.item_key = o.item_key and not coalesce(o.item_key = any (profile.item_keys), false)
            where o.item_id not in (select unnest(excluded)) and (o.place < 2000000 or f.lifts > 1)
              and (o.is_popular or f.reaches or o.place <= coalesce(
                  (select n.place from offered n offset size - passed - 1 limit 1), o.place))
            offset 0  -- so that lift() is inlined
        ) v
        left join lateral (select i.embedding as vector from recdb.item_vector i
            where given.diversity > 0 and i.model_id = served.model_id and i.item_key = v.item_key offset 0) e on true
        where full_groups is null or coalesce(recdb.group_of(v.owner_id, 1) <> all (full_groups), true)
            and coalesce(recdb.topic_of(v.counted) <> all (full_groups), true)
        order by value desc, v.item_id) s;
end
$$;
comment on function recdb.fill_pool(
    record, record, record, text, record, text[], jsonb, text[], record, record, double precision, bigint, bigint,
    integer, bigint, bigint, bigint[]) is
    'Internal: the pool of a steered list, with the scores that the scenario makes.';


-- recdb.pool_size: from how many of the best items the item at a place is chosen.
--   parameters  pool   of the scenario
--               place  in the list, counted from its first page on
--   returns     the pool; twice as many from three fifths of it on, and so on. It depends on the place alone, so that
--               a page is the same part of every list that has it
create or replace function recdb.pool_size(pool bigint, place bigint)
returns bigint
language plpgsql immutable parallel safe
as $$
begin
    while place * 5 > pool * 3 loop
        pool := pool * 2;
    end loop;
    return pool;
end
$$;
comment on function recdb.pool_size(bigint, bigint) is
    'Internal: from how many of the best items the item at a place of a steered list is chosen.';


-- recdb.read_pool: the pool of a part of a steered list, as large as it can be.
--   parameters  few     the keys of the caller's candidates, if they are few; else NULL
--               others  as fill_pool() and steer_items()
--   returns     the row of fill_pool(). A rule that lifts reaches below the pool, half as far again, and one that pins
--               further. Popular items fill it up, if the fallback is popular
--   reads       as fill_pool() and add_pins()
create or replace function recdb.read_pool(
    served record, given record, profile record, owner text, shown record, excluded text[], fallback text,
    filter jsonb, among text[], few integer[], everything record, top double precision, size bigint, passed bigint,
    after integer, full_groups bigint[]
)
returns record
language plpgsql stable
as $$
#variable_conflict use_column
declare
    further constant bigint := case when given.pins then 2000 when 1 < any (given.factors) then size / 2 else 0 end;
    most bigint := case when among is not null then 4 * size end;
    candidates record := recdb.best_among(everything, among, few, most);
    missing bigint := case when fallback = 'popular'
        then greatest(0, size - cardinality(candidates.item_keys)) else 0 end;
    pool record;
begin
    loop
        pool := recdb.fill_pool(
            served, given, profile, owner, shown, excluded, filter, among, everything, candidates, top,
            size, passed, after, further, missing, full_groups);
        if cardinality(candidates.item_keys) = most and pool.personal < size + further then
            most := null;
            candidates := recdb.best_among(everything, among, few, most);
            continue;
        end if;
        exit when fallback is distinct from 'popular' or size - pool.personal <= missing;
        missing := size - pool.personal;
    end loop;
    if given.pins then
        pool := recdb.add_pins(
            served, given, profile, owner, excluded, filter, among, everything, candidates, top, pool);
    end if;
    return pool;
end
$$;
comment on function recdb.read_pool(
    record, record, record, text, record, text[], text, jsonb, text[], integer[], record, double precision, bigint,
    bigint, integer, bigint[]) is
    'Internal: the pool of a part of a steered list, as large as it can be.';
