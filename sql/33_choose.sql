-- The choice of a steered list (32_steer) from its pool (32_pool): the most of one owner or attribute, pinned and
-- explored places. 36_greedy chooses.


-- recdb.text_of_value: a value of an attribute as a text.
--   parameters  value  no list
--   returns     the text; of a number one text, however it is written: 1.0 is 1. NULL for a JSON null
create or replace function recdb.text_of_value(value jsonb)
returns text
language sql immutable parallel safe
begin atomic
    select case when jsonb_typeof(text_of_value.value) = 'number'
        then trim_scale(text_of_value.value::numeric)::text else text_of_value.value #>> '{}'::text[] end;
end;
comment on function recdb.text_of_value(jsonb) is
    'Internal: a value of an attribute as a text; numbers that are equal have one text.';


-- recdb.values_of: the values of an attribute that are counted.
--   parameters  attribute  a value of the catalogue's attributes; NULL for none
--   returns     the elements of a list, once each; else the value
create or replace function recdb.values_of(attribute jsonb)
returns table (value text)
language sql immutable parallel safe
begin atomic
    select distinct recdb.text_of_value(e.value)
    from jsonb_array_elements(
        case jsonb_typeof(values_of.attribute) when 'array' then values_of.attribute
            else jsonb_build_array(values_of.attribute) end) e(value)
    where jsonb_typeof(e.value) <> 'null';
end;
comment on function recdb.values_of(jsonb) is
    'Internal: the values of an attribute: the elements of a list, or the value itself.';


-- recdb.group_of: an owner, or a value of the attribute, of which a list may have only some items.
--   parameters  value  NULL for none
--               kind   1 for owners, 2 for values
--   returns     a hash of 63 bits; the last bit is 1 for owners
create or replace function recdb.group_of(value text, kind bigint)
returns bigint
language sql immutable parallel safe
begin atomic
    select (hashtextextended(group_of.value, group_of.kind) & (-2)::bigint) | (group_of.kind & 1::bigint);
end;
comment on function recdb.group_of(text, bigint) is
    'Internal: an owner, or a value of an attribute, as a number: odd for owners.';


-- recdb.topic_of: the number that counts for the most of one value of an attribute.
--   parameters  value  the item's value of the attribute
--   returns     group_of() it; NULL for none and for a list of values
create or replace function recdb.topic_of(value jsonb)
returns bigint
language sql immutable parallel safe
begin atomic
    select case when jsonb_typeof(topic_of.value) not in ('array', 'null')
        then recdb.group_of(recdb.text_of_value(topic_of.value), 2::bigint) end;
end;
comment on function recdb.topic_of(jsonb) is
    'Internal: the number by which the most of one value of an attribute are counted; NULL for a list of values.';


-- recdb.groups_of: the owner and the values of the attribute for which an item counts.
--   parameters  given     the row of the scenario
--               owner_id  of the item
--               counted   its value of the attribute
--   returns     group_of() each of them; an empty array for none
create or replace function recdb.groups_of(given record, owner_id text, counted jsonb)
returns bigint[]
language plpgsql immutable
as $$
begin
    return array(
        select recdb.group_of(owner_id, 1) where given.max_per_owner is not null and owner_id is not null
        union all
        select recdb.group_of(v.value, 2) from recdb.values_of(counted) v where given.max_per_number is not null);
end
$$;
comment on function recdb.groups_of(record, text, jsonb) is
    'Internal: the owner and the values of the attribute for which an item counts.';


-- recdb.groups_of_lists: the values of the attribute for which the items of a pool count that have a list of them.
--   parameters  given  the row of the scenario
--               lists  of the pool; NULL if no item has a list
--   returns     the place of each item in the pool, once for each of its values, in order; numbers, group_of() the
--               value. NULLs for no lists
create or replace function recdb.groups_of_lists(
    given record, lists jsonb[], out places integer[], out numbers bigint[]
)
language plpgsql immutable
as $$
begin
    if lists is not null then
        select array_agg(l.place::integer order by l.place, g.number), array_agg(g.number order by l.place, g.number)
        into places, numbers
        from unnest(lists) with ordinality l(list, place)
        cross join lateral unnest(recdb.groups_of(given, null, l.list)) g(number);
    end if;
end
$$;
comment on function recdb.groups_of_lists(record, jsonb[]) is
    'Internal: the values of the attribute for which the items of a pool count that have a list of them.';


-- recdb.before_list: the items that count as chosen before a list begins.
--   parameters  model_id  the model version
--               given     the row of the scenario
--               excluded  item ids
--   returns     these ids, once each; groups_of() all of them, one after the other; their vectors, with diversity
--   reads       read_item() of each, item_vector by key
create or replace function recdb.before_list(
    model_id integer, given record, excluded text[],
    out ids text[], out groups bigint[], out vectors @vector@.halfvec[]
)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    ids := '{}';
    groups := '{}';
    vectors := '{}';
    if excluded = '{}' then
        return;
    end if;
    ids := array(select distinct e.id from unnest(excluded) e(id));
    groups := array(
        select g.number
        from unnest(before_list.ids) e(id)
        cross join lateral recdb.read_item(e.id) i
        cross join lateral unnest(
            recdb.groups_of(given, i.owner_id, i.attributes -> given.max_per_attribute)) g(number));
    select coalesce(array_agg(v.embedding), '{}') into before_list.vectors
    from unnest(case when given.diversity > 0 then recdb.find_keys(excluded) end) e(item_key)
    cross join lateral (
        select i.embedding from recdb.item_vector i
        where i.model_id = before_list.model_id and i.item_key = e.item_key
        offset 0
    ) v;
end
$$;
comment on function recdb.before_list(integer, record, text[]) is
    'Internal: the owners, attribute values and vectors of the items that count as chosen before a list begins.';


-- recdb.groups_at: the groups for which an item of a pool counts.
--   parameters  given  the row of the scenario
--               pool   the row of fill_pool()
--               place  in the pool
--   returns     group_of() each; some may be NULL
create or replace function recdb.groups_at(given record, pool record, place integer)
returns bigint[]
language plpgsql immutable
as $$
begin
    return array[pool.owners[place], pool.topics[place]] || case when pool.lists[place] is not null then
        recdb.groups_of(given, null, pool.lists[place]) end;
end
$$;
comment on function recdb.groups_at(record, record, integer) is
    'Internal: the owner and the values of the attribute for which an item of a pool counts.';


-- recdb.is_full: whether a list may have no more items of a group.
--   parameters  given   the row of the scenario
--               groups  some groups, of group_of(), or NULLs
--               counts  the groups of the items that the list has, one after the other
--   returns     whether one of groups has its number of items
create or replace function recdb.is_full(given record, groups bigint[], counts bigint[])
returns boolean
language plpgsql immutable
as $$
declare
    member bigint;
begin
    foreach member in array groups loop
        if member is not null and cardinality(array_positions(counts, member))
            >= (case when member & 1 = 1 then given.max_per_owner else given.max_per_number end)
        then
            return true;
        end if;
    end loop;
    return false;
end
$$;
comment on function recdb.is_full(record, bigint[], bigint[]) is
    'Internal: whether a list may have no more items of an owner or of a value of an attribute.';


-- recdb.full_groups: the groups of which a list may have no more items.
--   parameters  given   the row of the scenario
--               groups  the groups of what was chosen, one after the other
--   returns     those that have their number; NULL for none
create or replace function recdb.full_groups(given record, groups bigint[])
returns bigint[]
language plpgsql immutable
as $$
begin
    return case when groups <> '{}' then (
        select array_agg(c.number)
        from (
            select g.number
            from unnest(groups) g(number)
            group by g.number
            having count(*) >= case when g.number & 1 = 1 then given.max_per_owner else given.max_per_number end
        ) c) end;
end
$$;
comment on function recdb.full_groups(record, bigint[]) is
    'Internal: the owners and values of the attribute of which a list may have no more items.';


-- recdb.pin_ended: whether a rule pins nothing any more, because an earlier page has its item.
--   parameters  given     of read_scenario()
--               number    of the rule, in given
--               excluded  the ids that count as chosen
--               before    how many there are
--   returns     whether its place is among theirs, and one of them meets its condition
--   reads       read_item() of what is excluded
create or replace function recdb.pin_ended(given record, number integer, excluded text[], before integer)
returns boolean
language plpgsql stable
as $$
#variable_conflict use_column
begin
    return given.places[number] <= before and exists (
        select from unnest(excluded) e(id)
        cross join lateral recdb.read_item(e.id) i
        where recdb.matches(i.attributes, given.conditions[number], given.paths[number]));
end
$$;
comment on function recdb.pin_ended(record, integer, text[], integer) is
    'Internal: whether a rule pins nothing any more, because an earlier page has its item.';


-- recdb.place_pins: the items that rules pin to a place.
--   parameters  given, pool, earlier  as choose_list()
--   returns     the place in the pool of each pinned item and the place in the list, which ascend. The excluded items
--               count as the places before the list; a place may be beyond its end. A rule pins nothing if it has
--               ended, or if the pool has no such item of which the list may have one more. Of two rules with one
--               place, the second one gets the next place
--   reads       as pin_ended()
create or replace function recdb.place_pins(given record, pool record, earlier record)
returns table (place integer, target integer)
language plpgsql stable rows 5
as $$
#variable_conflict use_column
declare
    before constant integer := cardinality(earlier.ids);
    counts bigint[] := earlier.groups;
    taken integer[] := '{}';
    last_target integer := 0;
    candidate integer;
begin
    for number in 1 .. cardinality(given.places) loop
        continue when given.places[number] is null or recdb.pin_ended(given, number, earlier.ids, before);
        for candidate in
            select p.place::integer
            from unnest(pool.attributes) with ordinality p(attributes, place)
            where recdb.matches(p.attributes, given.conditions[number], given.paths[number])
              and not p.place = any (taken)
            order by p.place
        loop
            continue when recdb.is_full(given, recdb.groups_at(given, pool, candidate), counts);
            counts := counts || recdb.groups_at(given, pool, candidate);
            taken := taken || candidate;
            last_target := greatest(given.places[number] - before, last_target + 1);
            return query select candidate, last_target;
            exit;
        end loop;
    end loop;
end
$$;
comment on function recdb.place_pins(record, record, record) is
    'Internal: the items of a steered list that rules pin, and their places.';


-- recdb.descending: the scores of a list, so that sorting by them keeps its order.
--   parameters  ids     the items, in the order of the list
--               scores  one each
--   returns     the scores, above 0. One that does not go on below the score above it is that score, or a trifle less
--               if sorting by id would turn the two around
create or replace function recdb.descending(ids text[], scores double precision[])
returns double precision[]
language plpgsql immutable parallel safe
as $$
begin
    for place in 1 .. cardinality(ids) loop
        scores[place] := greatest(scores[place], 1e-200);
        if scores[place] >= scores[place - 1] then
            scores[place] := scores[place - 1]
                * case when ids[place] < ids[place - 1] then 0.999999999 else 1 end::double precision;
        end if;
    end loop;
    return scores;
end
$$;
comment on function recdb.descending(text[], double precision[]) is
    'Internal: the scores of a list, so that sorting by them keeps its order.';


-- recdb.choose_list: the steered list from its pool.
--   parameters  model_id  the model version
--               given     the row of the scenario, as steer_items()
--               pool      the row of fill_pool()
--               explored  the row of find_explorers(); its item_ids are an empty array for none
--               seed      of explore_seed(); NULL for no explorers
--               wanted    how many items
--               earlier   the row of before_list()
--               is_last   whether nothing is left below the pool: then items that are pinned beyond the end come last
--   returns     one row: arrays of one length, in the order of the list, NULL for an empty one; scores descend, so that
--               sorting by them keeps the order. groups and vectors go on with those of earlier; NULL if a rule pins.
--               ran_out: whether explorers were missing
--   reads       as place_pins() and choose_places()
-- A pinned item gets the score of the item above it, or 1; an explored one that of the item which it keeps from its
-- place. The items below it go on with their own scores, a trifle less where a score would come twice in the wrong
-- order.
create or replace function recdb.choose_list(
    model_id integer, given record, pool record, explored record, seed bigint, wanted bigint, earlier record,
    is_last boolean,
    out keys integer[], out ids text[], out scores double precision[], out reasons text[], out groups bigint[],
    out vectors @vector@.halfvec[], out ran_out boolean
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    pinned integer[] := '{}';
    targets integer[];
    picked record;
    turns boolean[];
    placed integer := 0;
    next_pick integer;
    pick integer;
    score double precision := 1;
    last_score double precision := 1;
begin
    if given.pins then
        select coalesce(array_agg(f.place), '{}'), array_agg(f.target) into pinned, targets
        from recdb.place_pins(given, pool, earlier) f;
    end if;
    if explored.item_ids <> '{}' then
        turns := recdb.explored_places(
            given.explore, seed, cardinality(earlier.ids), wanted, targets);
    end if;
    picked := recdb.choose_places(model_id, given, pool, explored, turns, earlier, pinned, wanted);
    ran_out := given.explore > 0 and (picked.ran_out or turns is null);
    if is_last and cardinality(picked.ids) = cardinality(pinned) then
        pool.attributes := recdb.attributes_left(given, pool, earlier.ids);
        select coalesce(array_agg(f.place), '{}'), array_agg(f.target) into pinned, targets
        from recdb.place_pins(given, pool, earlier) f;
        picked := recdb.choose_places(model_id, given, pool, explored, turns, earlier, pinned, 0);
    end if;
    if pinned = '{}' then
        keys := picked.keys;
        ids := picked.ids;
        scores := picked.scores;
        reasons := picked.reasons;
        groups := picked.counts;
        vectors := picked.above;
        for place in 1 .. coalesce(cardinality(ids), 0) loop
            if scores[place] >= last_score then
                scores[place] := case when ids[place] < ids[place - 1] then last_score * (1 - 1e-9) else last_score end;
            end if;
            last_score := scores[place];
        end loop;
        return;
    end if;
    next_pick := cardinality(pinned) + 1;
    for place in 1 .. wanted loop
        pick := next_pick;
        if targets[placed + 1] = place or is_last and picked.ids[pick] is null then
            placed := placed + 1;
            exit when placed > cardinality(pinned);
            pick := placed;
        else
            next_pick := next_pick + 1;
            exit when picked.ids[pick] is null;
            score := least(last_score, picked.scores[pick]);
        end if;
        if score = last_score and picked.ids[pick] < ids[place - 1] then
            score := score * (1 - 1e-9);
        end if;
        keys := array_append(keys, picked.keys[pick]);
        ids := array_append(ids, picked.ids[pick]);
        scores := array_append(scores, score);
        reasons := array_append(
            reasons, case when pick <= cardinality(pinned) then 'pinned' else picked.reasons[pick] end);
        last_score := score;
    end loop;
end
$$;
comment on function recdb.choose_list(integer, record, record, record, bigint, bigint, record, boolean) is
    'Internal: the steered list from its pool.';
