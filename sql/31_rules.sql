-- The items that the rules of a scenario leave out, and those that they bring into the pool of a list (32_pool)
-- although the model gives them no score: the items of a campaign, which nobody has touched. Only a rule that pins, or
-- that lifts far enough, looks for items. A rule that lifts brings those without a score alone.


-- recdb.is_buried: whether a rule with the factor 0 leaves an item out.
--   parameters  attributes  of the item
--               conditions, paths, factors  of read_scenario()
--   returns     true or false
create or replace function recdb.is_buried(
    attributes jsonb, conditions jsonb[], paths jsonpath[], factors double precision[]
)
returns boolean
language sql immutable
begin atomic
    select exists (
        select
        from unnest(is_buried.conditions, is_buried.paths, is_buried.factors) r(condition, path, factor)
        where r.factor = 0::double precision and recdb.matches(is_buried.attributes, r.condition, r.path));
end;
comment on function recdb.is_buried(jsonb, jsonb[], jsonpath[], double precision[]) is
    'Internal: whether a rule with the factor 0 leaves an item out.';


-- recdb.unscored: the score of an item that has none of its own, where a rule lifts or pins it.
--   parameters  scores  of scored_items()
--               top     best_score() of all items
--   returns     a hundredth of the lowest score; .01 if there is none
create or replace function recdb.unscored(scores double precision[], top double precision)
returns double precision
language plpgsql stable
as $$
begin
    return 0.01::double precision * least(1, coalesce(scores[cardinality(scores)] / top, 1));
end
$$;
comment on function recdb.unscored(double precision[], double precision) is
    'Internal: the score of an item that has none of its own, where a rule lifts or pins it.';


-- recdb.lowest_lifted: the score of an item that has none of its own, if rules lift it into the pool.
--   parameters  factors           of read_scenario()
--               scores            of all items
--               candidate_scores  of the candidates
--               others            as fill_pool()
--   returns     unscored(); NULL if no rule lifts, or if all of them together lift it less far than the last item of
--               the pool: then no such item is looked for
create or replace function recdb.lowest_lifted(
    factors double precision[], scores double precision[], candidate_scores double precision[],
    top double precision, size bigint
)
returns double precision
language plpgsql stable
as $$
declare
    lowest double precision;
    factor double precision := 1;
begin
    if 1 < any (factors) then
        lowest := recdb.unscored(scores, top);
        for number in 1 .. cardinality(factors) loop
            factor := least(factor * greatest(factors[number], 1), 1e100::double precision);
        end loop;
        if recdb.lift(lowest, factor) < candidate_scores[size] / top then
            lowest := null;
        end if;
    end if;
    return lowest;
end
$$;
comment on function recdb.lowest_lifted(
    double precision[], double precision[], double precision[], double precision, bigint) is
    'Internal: the score of an item that has none of its own, if rules lift it into the pool.';


-- recdb.named_ids: the items of recdb's own catalogue that a condition names.
--   parameters  condition, path  of a rule
--   returns     their ids, the hundred newest. Of an object the first thousand items are considered that the index of
--               the attributes has; of a path, and of an object without attributes, the thousand newest items
--   reads       item, by an index
create or replace function recdb.named_ids(condition jsonb, path jsonpath)
returns text[]
language plpgsql stable
as $$
#variable_conflict use_column
declare
    entry record;
    ids text[] := '{}';
    times timestamptz[] := '{}';
begin
    if path is null and condition <> '{}' then
        -- A loop is planned for all rows: by the index of the attributes. It ends early if there are many.
        for entry in
            select i.item_id, i.published_at from recdb.item i where i.attributes @> condition
        loop
            ids := ids || entry.item_id;
            times := array_append(times, entry.published_at);
            exit when cardinality(ids) = 1000;
        end loop;
        return array(
            select f.item_id
            from unnest(ids, times) f(item_id, published_at)
            order by f.published_at desc nulls last, f.item_id
            limit 100);
    end if;
    return array(
        select w.item_id
        from (
            select i.item_id, i.attributes from recdb.item i
            order by i.published_at desc nulls last, i.item_id
            limit 1000
        ) w
        where recdb.matches(w.attributes, condition, path)
        limit 100);
end
$$;
comment on function recdb.named_ids(jsonb, jsonpath) is
    'Internal: the newest items of recdb''s own catalogue that a condition names.';


-- recdb.find_named: the items that rules name, whatever their score.
--   parameters  numbers  of the rules, in given
--               scored   whether items with a score of the model come too
--               others   as fill_pool()
--   returns     the items of named_ids() that the list may have, with their scores of the model; those without one with
--               that of fill_up(), at least unscored()
--   reads       as named_ids() and among_filler(); eligible()
create or replace function recdb.find_named(
    given record, profile record, owner text, filter jsonb, among text[], everything record,
    candidates record, top double precision, numbers bigint[], scored boolean
)
returns table (
    item_key integer, item_id text, owner_id text, appeared_at timestamptz, attributes jsonb, score double precision
)
language plpgsql stable rows 100 cost 5000
as $$
#variable_conflict use_column
declare
    path constant jsonpath := recdb.filter_path(filter);
    ids constant text[] := array(
        select distinct i.id
        from unnest(numbers) n(number)
        cross join lateral unnest(recdb.named_ids(given.conditions[n.number], given.paths[n.number])) i(id)
        where among is null or i.id in (select unnest(among)));
    keys integer[];
    lowest double precision;
begin
    if ids = '{}' then
        return;
    end if;
    if scored then
        keys := recdb.find_keys(ids);
    end if;
    return query
    select c.item_key, o.item_id, o.owner_id, o.appeared_at, o.attributes, round(c.score / top * 1e9) / 1e9
    from unnest(candidates.item_keys, candidates.scores) c(item_key, score)
    cross join lateral recdb.eligible(c.item_key, owner, given.listed_only) o
    where c.item_key in (select unnest(keys))
      and recdb.matches(o.attributes, filter, path)
      and recdb.matches(o.attributes, given.filter, given.own_path)
      and c.score / top >= coalesce(given.minimum_score, 0)
      and not recdb.is_buried(o.attributes, given.conditions, given.paths, given.factors);
    lowest := recdb.unscored(everything.scores, top);
    return query
    select t.item_key, f.item_id, i.owner_id, coalesce(i.published_at, t.first_at), i.attributes,
        greatest(f.score, lowest)
    from recdb.among_filler(
        cardinality(ids), owner, '{}', filter, profile.hidden_ids, everything.item_keys, everything.scores, ids) f
    left join lateral (
        select t.item_key, t.first_at from recdb.item_key t where t.item_id = f.item_id offset 0
    ) t on true
    left join lateral recdb.read_item(f.item_id) i on true
    where recdb.matches(i.attributes, given.filter, given.own_path)
      and not recdb.is_buried(i.attributes, given.conditions, given.paths, given.factors);
end
$$;
comment on function recdb.find_named(
    record, record, text, jsonb, text[], record, record, double precision, bigint[], boolean) is
    'Internal: the items that rules name, whatever their score.';


-- recdb.fill_further: the items of a pool that have no score of their own.
--   parameters  missing  how many popular items
--               lifts    whether those come too that a rule lifts
--               others   as fill_pool()
--   returns     the popular items, and below them the others
--   reads       as steer_filler() and find_named()
create or replace function recdb.fill_further(
    given record, profile record, owner text, excluded text[], filter jsonb, among text[], everything record,
    candidates record, top double precision, missing bigint, lifts boolean
)
returns table (
    item_key integer, item_id text, owner_id text, appeared_at timestamptz, attributes jsonb, score double precision,
    is_popular boolean
)
language plpgsql stable rows 200 cost 5000
as $$
#variable_conflict use_column
begin
    return query
    with filler as materialized (
        select f.*
        from recdb.steer_filler(
            given, owner, excluded, filter, profile.hidden_ids, everything, among, missing, profile.segment) f
        where missing > 0
    )
    select f.*, true from filler f
    union all
    select n.*, false
    from recdb.find_named(
        given, profile, owner, filter, among, everything, candidates, top,
        array(select r.number from unnest(given.factors) with ordinality r(factor, number) where r.factor > 1),
        false) n
    where lifts and n.item_id not in (select f.item_id from filler f);
end
$$;
comment on function recdb.fill_further(
    record, record, text, text[], jsonb, text[], record, record, double precision, bigint, boolean) is
    'Internal: the items of a pool that have no score of their own.';


-- recdb.add_pins: a pool with the items that rules pin although it has none of theirs.
--   parameters  as fill_pool(), and the pool
--   returns     the pool; at its end, for each rule that pins and has no item in it, the best item that the rule names
--   reads       as find_named() and pin_ended()
create or replace function recdb.add_pins(
    served record, given record, profile record, owner text, excluded text[], filter jsonb, among text[],
    everything record, candidates record, top double precision, pool record
)
returns record
language plpgsql stable
as $$
#variable_conflict use_column
declare
    before constant bigint := (select count(distinct e.id) from unnest(excluded) e(id));
    named record;
    counted jsonb;
begin
    for number in 1 .. cardinality(given.places) loop
        continue when given.places[number] is null
            or exists (
                select from unnest(pool.attributes) a(attributes)
                where recdb.matches(a.attributes, given.conditions[number], given.paths[number]))
            or recdb.pin_ended(given, number, excluded, before::integer);
        for named in
            select n.*
            from recdb.find_named(
                given, profile, owner, filter, among, everything, candidates, top, array[number]::bigint[], true) n
            where n.item_id not in (select unnest(excluded))
              and recdb.matches(n.attributes, given.conditions[number], given.paths[number])
            order by n.score desc, n.item_id
            limit 1
        loop
            counted := named.attributes -> given.max_per_attribute::text;
            pool.item_keys := array_append(pool.item_keys, named.item_key);
            pool.item_ids := array_append(pool.item_ids, named.item_id);
            pool.numbers := array_append(pool.numbers, 0);
            pool.bounds := array_append(pool.bounds, 0);
            pool.reasons := array_append(pool.reasons, 'pinned');
            pool.owners := array_append(
                pool.owners, case when given.max_per_owner is not null then recdb.group_of(named.owner_id, 1) end);
            pool.topics := array_append(pool.topics, recdb.topic_of(counted));
            if pool.lists is not null or jsonb_typeof(counted) = 'array' then
                pool.lists := array_append(
                    coalesce(pool.lists, array_fill(null::jsonb, array[cardinality(pool.item_ids) - 1])),
                    case when jsonb_typeof(counted) = 'array' then counted end);
            end if;
            pool.attributes := array_append(pool.attributes, named.attributes);
            pool.vectors := array_append(pool.vectors, (
                select i.embedding from recdb.item_vector i
                where given.diversity > 0 and i.model_id = served.model_id and i.item_key = named.item_key));
        end loop;
    end loop;
    return pool;
end
$$;
comment on function recdb.add_pins(
    record, record, record, text, text[], jsonb, text[], record, record, double precision, record) is
    'Internal: a pool with the items that rules pin although it has none of theirs.';


-- recdb.attributes_left: the attributes by which rules pin on a page that begins beyond the end of the list.
--   parameters  given, pool  as choose_list()
--               excluded     the ids that count as chosen
--   returns     those of the pool; NULL for an item that add_pins() brought for a rule whose condition an excluded item
--               meets: the page before had that one last, and each further page would have another one
--   reads       read_item() of what is excluded
create or replace function recdb.attributes_left(given record, pool record, excluded text[])
returns jsonb[]
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return array(
        select case when p.reason <> 'pinned' or not exists (
            select from unnest(given.conditions, given.paths, given.places) r(condition, path, target)
            cross join unnest(excluded) e(id)
            cross join lateral recdb.read_item(e.id) i
            where r.target is not null and recdb.matches(p.attributes, r.condition, r.path)
              and recdb.matches(i.attributes, r.condition, r.path)) then p.attributes end
        from unnest(pool.attributes, pool.reasons) with ordinality p(attributes, reason, place)
        order by p.place);
end
$$;
comment on function recdb.attributes_left(record, record, text[]) is
    'Internal: the attributes by which rules pin on a page that begins beyond the end of a steered list.';
