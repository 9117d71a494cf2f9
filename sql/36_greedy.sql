-- The greedy choice of a steered list (33_choose), item by item: maximal marginal relevance, within limits.
-- choose_places() is long: a function for each of its steps would copy its arrays at each call, which takes longer.


-- recdb.arrange: the order in which the items of a pool are looked at, and how far they are from what is chosen.
--   parameters  visits     places in the pool; fars, the smallest distance of each from what it was compared with
--               ids, numbers, vectors  of the pool
--               closed, diversity, above  as in choose_places()
--               compared   with how many of above all are compared already
--   returns     places and far are the same for the items that are not closed, compared with all above; bounds, the
--               marginal relevance: (1 - diversity) * number + diversity * far. The largest bound comes first, then by
--               id
create or replace function recdb.arrange(
    visits integer[], fars double precision[], ids text[], numbers double precision[], vectors @vector@.halfvec[],
    closed boolean[], diversity double precision, above @vector@.halfvec[], compared integer,
    out places integer[], out bounds double precision[], out far double precision[]
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    -- In variables of their own: an element of an array takes as long to find as a distance to compute.
    one @vector@.halfvec;
    two @vector@.halfvec;
    three @vector@.halfvec;
    four @vector@.halfvec;
    five @vector@.halfvec;
    six @vector@.halfvec;
    seven @vector@.halfvec;
    eight @vector@.halfvec;
begin
    places := visits;
    far := fars;
    for low in compared + 1 .. cardinality(above) by 8 loop
        one := above[low];
        two := above[low + 1];
        three := above[low + 2];
        four := above[low + 3];
        five := above[low + 4];
        six := above[low + 5];
        seven := above[low + 6];
        eight := above[low + 7];
        select coalesce(array_agg(s.place), '{}'), array_agg(s.bound), array_agg(s.far)
        into arrange.places, arrange.bounds, arrange.far
        from (
            select c.*, (1 - diversity) * numbers[c.place] + diversity * c.far as bound
            from (
                select u.place, least(
                    u.far,
                    u.vector operator(@vector@.<=>) one, u.vector operator(@vector@.<=>) two,
                    u.vector operator(@vector@.<=>) three, u.vector operator(@vector@.<=>) four,
                    u.vector operator(@vector@.<=>) five, u.vector operator(@vector@.<=>) six,
                    u.vector operator(@vector@.<=>) seven, u.vector operator(@vector@.<=>) eight
                ) as far
                from (
                    select v.place, v.far, vectors[v.place] as vector
                    from unnest(arrange.places, arrange.far) v(place, far)
                    where not closed[v.place]
                    offset 0
                ) u
                offset 0
            ) c
            order by bound desc, ids[c.place]
        ) s;
    end loop;
end
$$;
comment on function recdb.arrange(
    integer[], double precision[], text[], double precision[], @vector@.halfvec[], boolean[], double precision,
    @vector@.halfvec[], integer) is
    'Internal: the order in which the greedy choice looks at items.';


-- recdb.close_group: the items that may not be chosen once a group has its number.
--   parameters  closed  as choose_places()
--               number  the group, of group_of()
--               owners, topics  of the pool
--               list_places, list_groups  the places of items with a list of values, and the group of each value
--   returns     closed, with the items of the group
create or replace function recdb.close_group(
    closed boolean[], number bigint, owners bigint[], topics bigint[], list_places integer[], list_groups bigint[]
)
returns boolean[]
language plpgsql immutable
as $$
declare
    place integer;
begin
    foreach place in array coalesce(
        array_positions(case when number & 1 = 1 then owners else topics end, number), '{}')
    loop
        closed[place] := true;
    end loop;
    foreach place in array coalesce(array_positions(list_groups, number), '{}') loop
        closed[list_places[place]] := true;
    end loop;
    return closed;
end
$$;
comment on function recdb.close_group(boolean[], bigint, bigint[], bigint[], integer[], bigint[]) is
    'Internal: the items that may not be chosen once an owner or a value of an attribute has its number.';


-- recdb.next_explorer: the next item for an explored place.
--   parameters  model_id, given, explored  as choose_places()
--               start   the first that may come
--               taken   the ids that are chosen or excluded
--               counts  the groups for which these count, one after the other
--   returns     its number among the explored, NULL for none; its id, its groups_of() and its vector, with diversity
--   reads       item_vector by key
create or replace function recdb.next_explorer(
    model_id integer, given record, explored record, start integer, taken text[], counts bigint[],
    out number integer, out item_id text, out groups bigint[], out vector @vector@.halfvec
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    is_full boolean;
    member bigint;
begin
    for candidate in start .. cardinality(explored.item_ids) loop
        item_id := explored.item_ids[candidate];
        continue when item_id = any (taken);
        groups := array[explored.owners[candidate], explored.topics[candidate]];
        if jsonb_typeof(explored.counted[candidate]) = 'array' then
            groups := groups || recdb.groups_of(given, null, explored.counted[candidate]);
        end if;
        is_full := false;
        foreach member in array groups loop
            is_full := is_full or coalesce(cardinality(array_positions(counts, member))
                >= case when member & 1 = 1 then given.max_per_owner else given.max_per_number end, false);
        end loop;
        continue when is_full;
        number := candidate;
        if given.diversity > 0 then
            select i.embedding into next_explorer.vector
            from recdb.item_vector i
            where i.model_id = next_explorer.model_id and i.item_key = explored.item_keys[candidate];
        end if;
        return;
    end loop;
end
$$;
comment on function recdb.next_explorer(integer, record, record, integer, text[], bigint[]) is
    'Internal: the next item for an explored place.';


-- recdb.choose_places: the greedy choice of a list from its pool.
--   parameters  model_id  the model version
--               given     the row of the scenario
--               pool      the row of fill_pool()
--               explored  the row of find_explorers()
--               turns     for each turn whether an item is explored, if one is left; NULL for none
--               earlier   the row of before_list()
--               pinned    places in the pool that are chosen already, none is an empty array
--               wanted    how many to choose beside those
--   returns     the items in the order of the choice, the pinned ones first; the number by which each was chosen, and
--               its reason. The number of an explored item is that of the best other one; if there is none, next to 0.
--               counts and above: the groups and the vectors of earlier and of these items.
--               ran_out: whether an explored place had no explorer
-- An item's bound only sinks while others are chosen. So what is below the best so far needs no other look, and an item
-- is compared with those above it only when its turn may have come. Once a quarter of the pool was looked at like this,
-- all are compared at once, which is quicker, and sorted again. An owner or a value that has its number closes all its
-- items.
create or replace function recdb.choose_places(
    model_id integer, given record, pool record, explored record, turns boolean[], earlier record,
    pinned integer[], wanted bigint,
    out keys integer[], out ids text[], out scores double precision[], out reasons text[], out counts bigint[],
    out above @vector@.halfvec[], out ran_out boolean
)
language plpgsql stable
as $$
declare
    diversity constant double precision := given.diversity;
    item_ids constant text[] := pool.item_ids;
    numbers constant double precision[] := pool.numbers;
    vectors constant @vector@.halfvec[] := pool.vectors;
    lists constant record := recdb.groups_of_lists(given, pool.lists);
    size constant integer := cardinality(item_ids);
    ordered record;
    visits integer[] := array(select generate_series(1, size));
    tops double precision[] := pool.bounds;
    bounds double precision[] := tops;
    fars double precision[] := array_fill(1::double precision, array[size]);
    seens integer[] := case when diversity > 0 then array_fill(0, array[size]) end;
    starts integer := 1;
    closed boolean[] := array_fill(false, array[size]);
    total integer := cardinality(earlier.vectors);
    compared integer := 0;
    looks integer := case when total > 0 and diversity > 0 then size else 0 end;
    groups bigint[] := earlier.groups;
    explorer record;
    explored_to integer := 0;
    explores boolean;
    place integer;
    best integer;
    number double precision;
    far double precision;
    vector @vector@.halfvec;
    -- The last three of above, which most items are compared with.
    newest @vector@.halfvec := earlier.vectors[total];
    newer @vector@.halfvec := earlier.vectors[total - 1];
    new @vector@.halfvec := earlier.vectors[total - 2];
    member bigint;
begin
    counts := '{}';
    above := earlier.vectors;
    ran_out := false;
    for turn in 0 .. cardinality(pinned) + wanted loop
        -- The first turn only counts what is excluded.
        if turn > 0 then
            best := pinned[turn];
            number := -1;
            if best is null and looks > size / 4 then
                ordered := recdb.arrange(
                    visits, fars, item_ids, numbers, vectors, closed, diversity, above, compared);
                visits := ordered.places;
                tops := ordered.bounds;
                bounds := tops;
                fars := ordered.far;
                seens := array_fill(total, array[cardinality(visits)]);
                starts := 1;
                compared := total;
                looks := 0;
            end if;
            while bounds[starts] = -2 loop
                starts := starts + 1;
            end loop;
            for visit in starts .. case when best is null then cardinality(visits) else 0 end loop
                exit when tops[visit] < number;
                continue when bounds[visit] < number;
                place := visits[visit];
                if closed[place] then
                    bounds[visit] := -2;  -- so that its bound alone passes it over
                    continue;
                end if;
                if seens[visit] < total then
                    vector := vectors[place];
                    for low in seens[visit] + 1 .. total - 3 by 3 loop
                        fars[visit] := least(
                            fars[visit], vector operator(@vector@.<=>) above[low],
                            vector operator(@vector@.<=>) above[low + 1],
                            vector operator(@vector@.<=>) above[low + 2]);
                    end loop;
                    -- A distance that is taken twice changes nothing.
                    far := least(
                        fars[visit], vector operator(@vector@.<=>) newest,
                        vector operator(@vector@.<=>) newer, vector operator(@vector@.<=>) new);
                    fars[visit] := far;
                    seens[visit] := total;
                    looks := looks + 1;
                    bounds[visit] := (1 - diversity) * numbers[place] + diversity * far;
                end if;
                if bounds[visit] > number or bounds[visit] = number and item_ids[place] < item_ids[best] then
                    best := place;
                    number := bounds[visit];
                end if;
            end loop;
            explores := false;
            if turns[turn - cardinality(pinned)] then
                explorer := recdb.next_explorer(
                    model_id, given, explored, explored_to + 1, earlier.ids || ids, counts);
                explores := explorer.number is not null;
                ran_out := ran_out or not explores;
            end if;
            if explores then
                explored_to := explorer.number;
                keys := array_append(keys, explored.item_keys[explored_to]);
                ids := array_append(ids, explorer.item_id);
                scores := array_append(scores, case when best is null then explored.draws[explored_to] * 1e-9
                    else number end);
                reasons := array_append(reasons, 'explored');
                vector := explorer.vector;
                groups := explorer.groups;
                place := coalesce(array_position(item_ids, explorer.item_id), size + 1);
            else
                exit when best is null;
                keys := array_append(keys, pool.item_keys[best]);
                ids := array_append(ids, item_ids[best]);
                scores := array_append(scores, number);
                reasons := array_append(reasons, pool.reasons[best]);
                vector := vectors[best];
                groups := array[pool.owners[best], pool.topics[best]];
                if best = any (lists.places) then
                    place := array_position(lists.places, best);
                    groups := groups || lists.numbers[
                        place:place + cardinality(array_positions(lists.places, best)) - 1];
                end if;
                place := best;
            end if;
            closed[place] := true;
            above := array_append(above, vector);
            total := total + 1;
            if diversity > 0 then
                new := newer;
                newer := newest;
                newest := vector;
            end if;
        end if;
        foreach member in array groups loop
            continue when member is null;
            counts := array_append(counts, member);
            if cardinality(array_positions(counts, member))
                >= (case when member & 1 = 1 then given.max_per_owner else given.max_per_number end)
            then
                closed := recdb.close_group(
                    closed, member, pool.owners, pool.topics, lists.places, lists.numbers);
            end if;
        end loop;
    end loop;
end
$$;
comment on function recdb.choose_places(
    integer, record, record, record, boolean[], record, integer[], bigint) is
    'Internal: the greedy choice of a steered list from its pool.';
