-- The greedy choice of a steered list (33_choose), item by item: maximal marginal relevance, within limits.


-- recdb.compare_all: compare all items with those that were chosen last.
--   parameters  nearest, vectors  of likeness()
--               recent            eight vectors of length 1 at most; a NULL does not count
--   returns     nearest, after these are chosen
create or replace function recdb.compare_all(
    nearest double precision[], vectors @vector@.vector[], recent @vector@.vector[]
)
returns double precision[]
language plpgsql immutable
as $$
begin
    return array(
        select greatest(n.near,
            -(n.vector operator(@vector@.<#>) recent[1]), -(n.vector operator(@vector@.<#>) recent[2]),
            -(n.vector operator(@vector@.<#>) recent[3]), -(n.vector operator(@vector@.<#>) recent[4]),
            -(n.vector operator(@vector@.<#>) recent[5]), -(n.vector operator(@vector@.<#>) recent[6]),
            -(n.vector operator(@vector@.<#>) recent[7]), -(n.vector operator(@vector@.<#>) recent[8]))
        from unnest(nearest, vectors) with ordinality n(near, vector, place)
        order by n.place);
end
$$;
comment on function recdb.compare_all(double precision[], @vector@.vector[], @vector@.vector[]) is
    'Internal: how much items are like one of those that are chosen, after some more are.';


-- recdb.sort_open: the order in which the items are looked at.
--   parameters  bounds, ids, closed  of the pool
--   returns     the places in the pool of the items that have a bound and are not closed, the largest bound first, then
--               by id; and these bounds
create or replace function recdb.sort_open(
    bounds double precision[], ids text[], closed boolean[], out visits integer[], out tops double precision[]
)
language plpgsql stable
as $$
begin
    select coalesce(array_agg(p.place), '{}'), coalesce(array_agg(p.bound), '{}')
    into sort_open.visits, sort_open.tops
    from (
        select u.place, u.bound
        from unnest(bounds, ids, closed) with ordinality u(bound, id, closed, place)
        where u.bound is not null and not u.closed
        order by u.bound desc, u.id
    ) p;
end
$$;
comment on function recdb.sort_open(double precision[], text[], boolean[]) is
    'Internal: the order in which the greedy choice looks at items.';


-- recdb.marginal: the numbers that the greedy choice compares, before a look at what is chosen.
--   parameters  numbers    of the pool
--               diversity  of the scenario
--               nearest    of likeness()
--   returns     (1 - diversity) * number + diversity * (1 - nearest)
create or replace function recdb.marginal(
    numbers double precision[], diversity double precision, nearest double precision[]
)
returns double precision[]
language plpgsql immutable
as $$
begin
    return array(
        select (1 - diversity) * p.number + diversity * greatest(0, 1 - p.near)
        from unnest(numbers, nearest) with ordinality p(number, near, place)
        order by p.place);
end
$$;
comment on function recdb.marginal(double precision[], double precision, double precision[]) is
    'Internal: the marginal relevance of all items of a pool.';


-- recdb.first_open: the first item that may still be chosen.
--   parameters  explorers  places in the pool
--               closed     of all items of the pool
--   returns     its number among the explorers; NULL for none
create or replace function recdb.first_open(explorers integer[], closed boolean[])
returns integer
language plpgsql immutable
as $$
begin
    for number in 1 .. coalesce(cardinality(explorers), 0) loop
        if not closed[explorers[number]] then
            return number;
        end if;
    end loop;
    return null;
end
$$;
comment on function recdb.first_open(integer[], boolean[]) is
    'Internal: the first of the items that may be explored which may still be chosen.';


-- recdb.close_full: the items of a pool that may not be chosen from the beginning.
--   parameters  size   how many items the pool has
--               room, grouped, ends  of count_groups()
--   returns     for each item whether one of its groups has no room
create or replace function recdb.close_full(size integer, room integer[], grouped integer[], ends integer[])
returns boolean[]
language plpgsql immutable
as $$
declare
    closed boolean[] := array_fill(false, array[size]);
begin
    for number in 1 .. coalesce(cardinality(room), 0) loop
        if room[number] <= 0 then
            for member in coalesce(ends[number - 1], 0) + 1 .. ends[number] loop
                closed[grouped[member]] := true;
            end loop;
        end if;
    end loop;
    return closed;
end
$$;
comment on function recdb.close_full(integer, integer[], integer[], integer[]) is
    'Internal: the items of a pool that may not be chosen from the beginning.';


-- recdb.choose_places: the greedy choice of a list from its pool.
--   parameters  ids, numbers  of the pool, numbers descending; no number for those that come only if they are explored
--               diversity    of the scenario
--               vectors, nearest  of likeness(); NULL without diversity
--               closed       of close_full()
--               places, members, room, grouped, ends  of count_groups(); NULLs for no limits
--               pinned       places in the pool that are chosen already, none is an empty array
--               explorers    places in the pool of the items that may be explored, the first one first; NULL for none
--               draws        the numbers drawn for them
--               explored     for each turn whether an explorer is chosen, if one is left
--               wanted       how many to choose beside those
--   returns     places in the pool in the order of the choice, the pinned ones first; the number by which each was
--               chosen, and whether it is explored. The number of an explored item is that of the best other one; if
--               there is none, next to 0
-- An item's number only sinks while others are chosen. So what is below the best so far needs no other look, and an
-- item is compared with those above it only when its turn may have come. All are compared with the first nine at once,
-- which is quicker. Every eight turns they are sorted again. A group that has its number closes all its items.
create or replace function recdb.choose_places(
    ids text[], numbers double precision[], diversity double precision, vectors @vector@.vector[],
    nearest double precision[], closed boolean[], places integer[], members integer[], room integer[],
    grouped integer[], ends integer[], pinned integer[], explorers integer[], draws double precision[],
    explored boolean[], wanted bigint,
    out chosen integer[], out scores double precision[], out explores boolean[]
)
language plpgsql stable
as $$
declare
    diverse constant boolean := diversity > 0;
    compared integer[] := array_fill(0, array[cardinality(ids)]);
    bounds double precision[] := case when diverse then recdb.marginal(numbers, diversity, nearest) else numbers end;
    above @vector@.vector[] := '{}';
    visits integer[];
    tops double precision[];
    starts integer := 1;
    i integer;
    number integer;
    best integer;
    best_number double precision;
    near double precision;
begin
    for turn in 1 .. cardinality(pinned) + wanted loop
        if diverse and turn in (2, 10) then
            nearest := recdb.compare_all(nearest, vectors, above[turn - 8:]);
            compared := array_fill(turn - 1, array[cardinality(ids)]);
            bounds := recdb.marginal(numbers, diversity, nearest);
        end if;
        if turn = 1 or diverse and turn % 8 = 2 then
            select s.visits, s.tops, 1 into visits, tops, starts from recdb.sort_open(bounds, ids, closed) s;
        end if;
        best := pinned[turn];
        best_number := -1;
        for visit in starts .. case when best is null then cardinality(visits) else 0 end loop
            exit when tops[visit] < best_number;
            i := visits[visit];
            starts := starts + (closed[i] and visit = starts)::integer;
            continue when closed[i] or bounds[i] < best_number;
            if diverse and compared[i] < turn - 1 then
                near := nearest[i];
                for other in compared[i] + 1 .. turn - 1 loop
                    near := greatest(near, -(vectors[i] operator(@vector@.<#>) above[other]));
                end loop;
                nearest[i] := near;
                compared[i] := turn - 1;
                bounds[i] := (1 - diversity) * numbers[i] + diversity * greatest(0, 1 - near);
            end if;
            if bounds[i] > best_number or bounds[i] = best_number and ids[i] < ids[best] then
                best := i;
                best_number := bounds[i];
            end if;
        end loop;
        explores := explores || false;
        number := case when explored[turn - cardinality(pinned)] then recdb.first_open(explorers, closed) end;
        if number is not null then
            best_number := case when best is null then draws[number] * 1e-9 else best_number end;
            best := explorers[number];
            explores[turn] := true;
        end if;
        exit when best is null;
        closed[best] := true;
        chosen := chosen || best;
        scores := scores || best_number;
        above := array_append(above, case when diverse then vectors[best] end);
        number := array_position(places, best);
        while number > 0 and places[number] = best loop
            room[members[number]] := room[members[number]] - 1;
            if room[members[number]] = 0 then
                for member in coalesce(ends[members[number] - 1], 0) + 1 .. ends[members[number]] loop
                    closed[grouped[member]] := true;
                end loop;
            end if;
            number := number + 1;
        end loop;
    end loop;
end
$$;
comment on function recdb.choose_places(
    text[], double precision[], double precision, @vector@.vector[], double precision[], boolean[], integer[],
    integer[], integer[], integer[], integer[], integer[], integer[], double precision[], boolean[], bigint) is
    'Internal: the greedy choice of a steered list from its pool.';
