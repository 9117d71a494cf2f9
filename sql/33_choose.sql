-- The choice of a steered list (32_steer) from its pool: the most of one owner or attribute, pinned and explored
-- places. 36_greedy chooses.


-- recdb.values_of: the values of an attribute that are counted.
--   parameters  attribute  a value of the catalogue's attributes; NULL for none
--   returns     the elements of a list, once each; else the value
create or replace function recdb.values_of(attribute jsonb)
returns table (value text)
language sql immutable parallel safe
begin atomic
    select distinct e.value
    from jsonb_array_elements_text(
        case jsonb_typeof(values_of.attribute) when 'array' then values_of.attribute
            else jsonb_build_array(values_of.attribute) end) e(value)
    where e.value is not null;
end;
comment on function recdb.values_of(jsonb) is
    'Internal: the values of an attribute: the elements of a list, or the value itself.';


-- recdb.count_groups: the owners and the values of the attribute of which a list may have only some items.
--   parameters  given     the row of the scenario
--               pool      of steer_items()
--               excluded  the ids that count as chosen
--   returns     one row: places, the place in the pool of each member, in order; members, its group; room, how many
--               more items each group may have; grouped, the places group by group, and ends, where those of each group
--               end. A group is told by a hash of 64 bits, and left out if the pool has no more than its number
--   reads       read_item() of what is excluded
create or replace function recdb.count_groups(given record, pool record, excluded text[])
returns table (places integer[], members integer[], room integer[], grouped integer[], ends integer[])
language plpgsql stable rows 1
as $$
#variable_conflict use_column
begin
    return query
    with member as (
        select p.place, 1 as kind, hashtextextended(p.owner_id, 1) as number
        from unnest(pool.owner_ids) with ordinality p(owner_id, place)
        where given.max_per_owner is not null and p.owner_id is not null
        union all
        select p.place, 2, hashtextextended(p.counted #>> '{}', 2)
        from unnest(pool.counted) with ordinality p(counted, place)
        where given.max_per_number is not null and jsonb_typeof(p.counted) not in ('array', 'null')
        union all
        select p.place, 2, hashtextextended(v.value, 2)
        from unnest(pool.counted) with ordinality p(counted, place)
        cross join lateral recdb.values_of(p.counted) v
        where given.max_per_number is not null and jsonb_typeof(p.counted) = 'array'
        union all
        select 0, v.kind, hashtextextended(v.value, v.kind)
        from (select distinct e.id from unnest(excluded) e(id)) e
        cross join lateral recdb.read_item(e.id) i
        cross join lateral (
            select 1 as kind, i.owner_id as value where given.max_per_owner is not null and i.owner_id is not null
            union all
            select 2, n.value from recdb.values_of(i.attributes -> given.max_per_attribute) n
            where given.max_per_number is not null
        ) v
    ), crowded as (
        select m.place::integer as place, m.number, g.room
        from (select m.*, count(*) over (partition by m.number) as size from member m) m
        cross join lateral (
            select case m.kind when 1 then given.max_per_owner else given.max_per_number end as room) g
        where m.size > g.room or excluded <> '{}'
    ), numbered as materialized (
        select c.place, c.room, dense_rank() over (order by c.number)::integer as number from crowded c
    )
    select
        (select array_agg(n.place order by n.place, n.number) from numbered n where n.place > 0),
        (select array_agg(n.number order by n.place, n.number) from numbered n where n.place > 0),
        g.room,
        (select array_agg(n.place order by n.number, n.place) from numbered n where n.place > 0),
        g.ends
    from (
        select array_agg(r.room order by r.number) as room, array_agg(r.last order by r.number) as ends
        from (
            select n.number, sum(count(*) filter (where n.place > 0)) over (order by n.number)::integer as last,
                n.room - count(*) filter (where n.place = 0)::integer as room
            from numbered n
            group by n.number, n.room
        ) r
    ) g;
end
$$;
comment on function recdb.count_groups(record, record, text[]) is
    'Internal: the owners and attribute values of which a steered list may have only some items, and their members.';


-- recdb.find_pins: the items that rules pin to a place.
--   parameters  given, pool, excluded  as count_groups()
--   returns     the place in the pool of each pinned item and the place in the list, in the order of the rules. A rule
--               pins nothing if the pool has no such item, or if an excluded item meets its condition
--   reads       read_item() of what is excluded
create or replace function recdb.find_pins(given record, pool record, excluded text[])
returns table (place integer, target integer)
language plpgsql stable rows 5
as $$
#variable_conflict use_column
declare
    pin record;
    taken integer[] := '{}';
    found_place integer;
begin
    for pin in
        select r.place, r.condition, r.path
        from unnest(given.conditions, given.paths, given.places) with ordinality r(condition, path, place, number)
        where r.place is not null
        order by r.number
    loop
        continue when exists (
            select from unnest(excluded) e(id)
            cross join lateral recdb.read_item(e.id) i
            where recdb.matches(i.attributes, pin.condition, pin.path));
        select p.place into found_place
        from unnest(pool.attributes) with ordinality p(attributes, place)
        where recdb.matches(p.attributes, pin.condition, pin.path) and not p.place = any (taken)
        order by p.place
        limit 1;
        if found then
            taken := taken || found_place;
            return query select found_place, pin.place;
        end if;
    end loop;
end
$$;
comment on function recdb.find_pins(record, record, text[]) is
    'Internal: the items of a steered list that rules pin, and their places.';


-- recdb.likeness: how much items are like those that are excluded.
--   parameters  model_id   the model version
--               item_keys  the items
--               excluded   the ids that count as chosen
--   returns     for each item in order its unit vector, NULL if the version has none, and the largest cosine with an
--               excluded item, at least 0
--   reads       item_vector by key
create or replace function recdb.likeness(
    model_id integer, item_keys integer[], excluded text[],
    out vectors @vector@.vector[], out nearest double precision[]
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    above @vector@.vector[];
begin
    select array_agg(@vector@.l2_normalize(v.embedding::@vector@.vector)) into above
    from unnest(recdb.find_keys(excluded)) e(item_key)
    cross join lateral (
        select i.embedding from recdb.item_vector i
        where i.model_id = likeness.model_id and i.item_key = e.item_key
        offset 0
    ) v;
    select array_agg(n.vector), array_agg(n.nearest)
    into likeness.vectors, likeness.nearest
    from (
        select k.vector, case when above is null then 0 else coalesce((
                select greatest(0, max(-(k.vector operator(@vector@.<#>) a.vector))) from unnest(above) a(vector)), 0)
            end as nearest
        from (
            select k.place, @vector@.l2_normalize(v.embedding::@vector@.vector) as vector
            from unnest(item_keys) with ordinality k(item_key, place)
            left join lateral (
                select i.embedding from recdb.item_vector i
                where i.model_id = likeness.model_id and i.item_key = k.item_key
                offset 0
            ) v on true
        ) k
        order by k.place
    ) n;
end
$$;
comment on function recdb.likeness(integer, integer[], text[]) is
    'Internal: the unit vectors of items, and how much each is like one of the items that are excluded.';


-- recdb.add_explorers: a pool with the items that may be explored at its end.
--   parameters  pool      of steer_items()
--               explored  the row of explorers()
--   returns     the pool; what it did not have comes without a number, and without attributes: no rule pins it
create or replace function recdb.add_explorers(pool record, explored record)
returns record
language plpgsql stable
as $$
declare
    added record;
    whole record;
begin
    select array_agg(e.item_key order by e.number) as item_keys, array_agg(e.item_id order by e.number) as item_ids,
        array_agg(null::double precision) as numbers, array_agg(null::text) as reasons,
        array_agg(e.owner_id order by e.number) as owner_ids, array_agg(e.counted order by e.number) as counted,
        array_agg(null::jsonb) as attributes
    into added
    from unnest(explored.item_keys, explored.item_ids, explored.owner_ids, explored.counted) with ordinality
        e(item_key, item_id, owner_id, counted, number)
    where e.item_id not in (select unnest(pool.item_ids));
    select pool.item_keys || added.item_keys as item_keys, pool.item_ids || added.item_ids as item_ids,
        pool.numbers || added.numbers as numbers, pool.reasons || added.reasons as reasons,
        pool.owner_ids || added.owner_ids as owner_ids, pool.counted || added.counted as counted,
        pool.attributes || added.attributes as attributes
    into whole;
    return whole;
end
$$;
comment on function recdb.add_explorers(record, record) is
    'Internal: the pool of a steered list with the items that may be explored at its end.';


-- recdb.choose_items: the steered list from its pool.
--   parameters  model_id  the model version
--               given     the row of the scenario, as steer_items()
--               pool      arrays of one length, the best items first
--               explored  the row of explorers(); its item_ids are an empty array for none
--               seed      of explore_seed(); NULL for no explorers
--               wanted    how many items
--               excluded  the ids that count as chosen
--   returns     the rows of the list; scores descend, so that sorting by them keeps the order
--   reads       as count_groups(), find_pins() and likeness()
-- A pinned item gets the score of the item above it, or 1; an explored one that of the item which it keeps from its
-- place. The items below it go on with their own scores, a trifle less where a score would come twice in the wrong
-- order.
create or replace function recdb.choose_items(
    model_id integer, given record, pool record, explored record, seed bigint, wanted bigint, excluded text[]
)
returns table (item_id text, score double precision, reason text)
language plpgsql stable rows 50
as $$
#variable_conflict use_column
declare
    groups record;
    pins record;
    like_excluded record;
    picked record;
    explorers record;
    explored_turns boolean[];
    next_pick integer;
    pick integer;
    last_score double precision := 1;
    last_id text := '';
begin
    select null::integer[] as places, '{}'::double precision[] as draws into explorers;
    if explored.item_ids <> '{}' then
        pool := recdb.add_explorers(pool, explored);
        select array_agg(array_position(pool.item_ids, e.item_id) order by e.number) as places,
            array_agg(e.draw order by e.number) as draws
        into explorers
        from unnest(explored.item_ids, explored.draws) with ordinality e(item_id, draw, number)
        where e.item_id not in (select unnest(excluded));
        explored_turns := recdb.explored_places(
            given.explore, seed, (select count(distinct e.id) from unnest(excluded) e(id)), wanted);
    end if;
    select null::integer[] as places, null::integer[] as members, null::integer[] as room, null::integer[] as grouped,
        null::integer[] as ends
    into groups;
    if given.max_per_owner is not null or given.max_per_number is not null then
        select g.* into groups from recdb.count_groups(given, pool, excluded) g;
    end if;
    select null::integer[] as places, null::integer[] as targets into pins;
    if array_remove(given.places, null) <> '{}' then
        select array_agg(f.place) as places, array_agg(f.target) as targets into pins
        from recdb.find_pins(given, pool, excluded) f
        where f.target <= wanted;
    end if;
    select null::@vector@.vector[] as vectors, null::double precision[] as nearest into like_excluded;
    if given.diversity > 0 then
        like_excluded := recdb.likeness(model_id, pool.item_keys, excluded);
    end if;
    picked := recdb.choose_places(
        pool.item_ids, pool.numbers, given.diversity, like_excluded.vectors, like_excluded.nearest,
        recdb.close_full(cardinality(pool.item_ids), groups.room, groups.grouped, groups.ends),
        groups.places, groups.members, groups.room, groups.grouped, groups.ends, coalesce(pins.places, '{}'),
        explorers.places, explorers.draws,
        array(
            select e.explores from unnest(explored_turns) with ordinality e(explores, turn)
            where not coalesce(e.turn = any (pins.targets), false)
            order by e.turn),
        wanted);
    next_pick := coalesce(cardinality(pins.places), 0) + 1;
    for place in 1 .. wanted loop
        pick := coalesce(array_position(pins.targets, place::integer), 0);
        if pick > 0 then
            item_id := pool.item_ids[pins.places[pick]];
            score := last_score;
            reason := 'pinned';
        else
            exit when next_pick > coalesce(cardinality(picked.chosen), 0);
            item_id := pool.item_ids[picked.chosen[next_pick]];
            score := least(last_score, picked.scores[next_pick]);
            reason := case when picked.explores[next_pick] then 'explored'
                else pool.reasons[picked.chosen[next_pick]] end;
            next_pick := next_pick + 1;
        end if;
        if score = last_score and item_id < last_id then
            score := score * (1 - 1e-9);
        end if;
        last_score := score;
        last_id := item_id;
        return next;
    end loop;
end
$$;
comment on function recdb.choose_items(integer, record, record, record, bigint, bigint, text[]) is
    'Internal: the steered list from its pool.';
