-- The choice of a steered list (32_steer) from its pool: pinned places, the most of one owner or attribute, diversity.


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
--               more items each group may have. A group is told by a hash of 64 bits
--   reads       read_item() of what is excluded
create or replace function recdb.count_groups(given record, pool record, excluded text[])
returns table (places integer[], members integer[], room integer[])
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
    ), numbered as materialized (
        select m.place::integer as place, m.kind, dense_rank() over (order by m.number)::integer as number
        from member m
    )
    select
        (select array_agg(n.place order by n.place, n.number) from numbered n where n.place > 0),
        (select array_agg(n.number order by n.place, n.number) from numbered n where n.place > 0),
        (
            select array_agg(g.room order by g.number)
            from (
                select n.number, case n.kind when 1 then given.max_per_owner else given.max_per_number end
                    - count(*) filter (where n.place = 0)::integer as room
                from numbered n
                group by n.number, n.kind
            ) g
        );
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
    select array_agg(n.vector order by n.place), array_agg(n.nearest order by n.place)
    into likeness.vectors, likeness.nearest
    from (
        select k.place, k.vector, coalesce((
                select greatest(0, max(-(k.vector operator(@vector@.<#>) a.vector))) from unnest(above) a(vector)), 0
            ) as nearest
        from (
            select k.place, @vector@.l2_normalize(v.embedding::@vector@.vector) as vector
            from unnest(item_keys) with ordinality k(item_key, place)
            left join lateral (
                select i.embedding from recdb.item_vector i
                where i.model_id = likeness.model_id and i.item_key = k.item_key
                offset 0
            ) v on true
        ) k
    ) n;
end
$$;
comment on function recdb.likeness(integer, integer[], text[]) is
    'Internal: the unit vectors of items, and how much each is like one of the items that are excluded.';


-- recdb.choose_places: the greedy choice of a list from its pool.
--   parameters  ids, numbers  of the pool, numbers descending; no number for those that come only if they are explored
--               diversity    of the scenario
--               vectors, nearest  of likeness(); NULL without diversity
--               places, members, room  of count_groups()
--               pinned       places in the pool that are chosen already, none is an empty array
--               explorers    places in the pool of the items that may be explored, the first one first; NULL for none
--               draws        the numbers drawn for them
--               explored     for each turn whether an explorer is chosen, if one is left
--               wanted       how many to choose beside those
--   returns     places in the pool in the order of the choice, the number by which each was chosen, and whether it is
--               explored. The number of an explored item is that of the best other one; if there is none, next to 0
-- An item's number only sinks while others are chosen. So what is below the best so far needs no other look. All items
-- are compared with the first one at once, and with the others only when their turn may have come. Every eight turns they
-- are sorted again, by what is known of them.
create or replace function recdb.choose_places(
    ids text[], numbers double precision[], diversity double precision, vectors @vector@.vector[],
    nearest double precision[], places integer[], members integer[], room integer[], pinned integer[],
    explorers integer[], draws double precision[], explored boolean[], wanted bigint,
    out chosen integer[], out scores double precision[], out explores boolean[]
)
language plpgsql immutable
as $$
declare
    diverse constant boolean := diversity > 0;
    others constant integer := cardinality(pinned);
    firsts integer[] := array_fill(0, array[cardinality(ids)]);
    compared integer[] := array_fill(0, array[cardinality(ids)]);
    closed boolean[] := array_fill(false, array[cardinality(ids)]);
    bounds double precision[] := numbers;
    visits integer[];
    tops double precision[];
    starts integer;
    i integer;
    member integer;
    best integer;
    best_number double precision;
    explorer boolean;
    above @vector@.vector[] := '{}';
    vector @vector@.vector;
    near double precision;
    cosine double precision;
    last integer;
begin
    chosen := '{}';
    scores := '{}';
    explores := '{}';
    for number in reverse coalesce(cardinality(members), 0) .. 1 loop
        firsts[places[number]] := number;
    end loop;
    for turn in 1 .. others + wanted loop
        if turn = 1 or diverse and (turn = 2 or turn % 8 = 0) then
            if turn = 2 and vectors[best] is not null then
                nearest := array(
                    select coalesce(greatest(n.near, -(n.vector operator(@vector@.<#>) vectors[best])), n.near)
                    from unnest(nearest, vectors) with ordinality n(near, vector, place)
                    order by n.place);
                compared := array_fill(1, array[cardinality(ids)]);
            end if;
            if diverse and turn <= 2 then
                bounds := array(
                    select (1 - diversity) * p.number + diversity * greatest(0, 1 - coalesce(p.near, 0))
                    from unnest(numbers, nearest) with ordinality p(number, near, place)
                    order by p.place);
            end if;
            select coalesce(array_agg(p.place), '{}'), coalesce(array_agg(p.bound), '{}') into visits, tops
            from (
                select u.place, u.bound
                from unnest(bounds, ids, closed) with ordinality u(bound, id, closed, place)
                where u.bound is not null and not u.closed
                order by u.bound desc, u.id
            ) p;
            starts := 1;
        end if;
        best := pinned[turn];
        best_number := -1;
        for visit in starts .. case when best is null then cardinality(visits) else 0 end loop
            exit when tops[visit] < best_number;
            i := visits[visit];
            if closed[i] then
                starts := case when visit = starts then starts + 1 else starts end;
                continue;
            end if;
            continue when bounds[i] < best_number;
            member := firsts[i];
            while member > 0 and places[member] = i loop
                closed[i] := closed[i] or room[members[member]] <= 0;
                member := member + 1;
            end loop;
            continue when closed[i];
            if diverse and compared[i] < turn - 1 then
                vector := vectors[i];
                near := nearest[i];
                last := turn - 1;
                for other in compared[i] + 1 .. last loop
                    cosine := -(vector operator(@vector@.<#>) above[other]);
                    if cosine > near then
                        near := cosine;
                        bounds[i] := (1 - diversity) * numbers[i] + diversity * greatest(0, 1 - near);
                        if bounds[i] < best_number then
                            last := other;
                            exit;
                        end if;
                    end if;
                end loop;
                nearest[i] := near;
                compared[i] := last;
            end if;
            if bounds[i] > best_number or bounds[i] = best_number and ids[i] < ids[best] then
                best := i;
                best_number := bounds[i];
            end if;
        end loop;
        explorer := false;
        if explored[turn - others] then
            for number in 1 .. coalesce(cardinality(explorers), 0) loop
                i := explorers[number];
                continue when closed[i];
                member := firsts[i];
                while member > 0 and places[member] = i loop
                    closed[i] := closed[i] or room[members[member]] <= 0;
                    member := member + 1;
                end loop;
                if not closed[i] then
                    best_number := case when best is null then draws[number] * 1e-9 else best_number end;
                    best := i;
                    explorer := true;
                    exit;
                end if;
            end loop;
        end if;
        exit when best is null;
        closed[best] := true;
        chosen := chosen || best;
        if diverse then
            above[turn] := vectors[best];
        end if;
        scores := scores || best_number;
        explores := explores || explorer;
        member := firsts[best];
        while member > 0 and places[member] = best loop
            room[members[member]] := room[members[member]] - 1;
            member := member + 1;
        end loop;
    end loop;
    chosen := chosen[others + 1:];
    scores := scores[others + 1:];
    explores := explores[others + 1:];
end
$$;
comment on function recdb.choose_places(
    text[], double precision[], double precision, @vector@.vector[], double precision[], integer[], integer[],
    integer[], integer[], integer[], double precision[], boolean[], bigint) is
    'Internal: the greedy choice of a steered list from its pool.';


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
-- A pinned item gets the score of the item above it, or 1, and an explored one that of the item which it keeps from its
-- place. The items below it go on with their own scores, a trifle less where a score would come twice in the wrong order.
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
    next_pick integer := 1;
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
    select null::integer[] as places, null::integer[] as members, null::integer[] as room into groups;
    if given.max_per_owner is not null or given.max_per_number is not null then
        select g.* into groups from recdb.count_groups(given, pool, excluded) g;
    end if;
    select null::integer[] as places, null::integer[] as targets into pins;
    if given.places is not null then
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
        groups.places, groups.members, groups.room, coalesce(pins.places, '{}'), explorers.places, explorers.draws,
        array(
            select e.explores from unnest(explored_turns) with ordinality e(explores, turn)
            where not coalesce(e.turn = any (pins.targets), false)
            order by e.turn),
        wanted);
    for place in 1 .. wanted loop
        pick := coalesce(array_position(pins.targets, place::integer), 0);
        if pick > 0 then
            item_id := pool.item_ids[pins.places[pick]];
            score := last_score;
            reason := 'pinned';
        else
            exit when next_pick > cardinality(picked.chosen);
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
