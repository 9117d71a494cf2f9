-- The explored places of a steered list (33_choose): items with few impressions, drawn by Thompson sampling (Chapelle
-- and Li 2011). A refresh keeps a pool of such items, little_shown. Each list takes a part of the pool, from a random
-- slot on, and draws a number for each item from its posterior: Beta(1 + touched, 1 + impressions - touched). The items
-- with the largest numbers get the explored places. All randomness is a hash of the user, the scenario and the time in
-- units of explore_for: so a page stays as it is, and the next page goes on with the same draws.


-- recdb.explore_seed: the seed of a user's draws.
--   parameters  given    of read_scenario()
--               visitor  whose list it is; of a guest, the items of the visit
--   returns     a number that stays for explore_for; users change it at different moments
create or replace function recdb.explore_seed(given record, visitor text)
returns bigint
language plpgsql stable
as $$
declare
    own constant bigint := hashtextextended(coalesce(visitor, ''), hashtextextended(given.name::text, 0::bigint));
begin
    return hashint8extended(floor(
        date_part('epoch', now()) / date_part('epoch', given.explore_for::interval)
            + (own & 65535::bigint)::double precision / 65536::double precision)::bigint, own);
end
$$;
comment on function recdb.explore_seed(record, text) is
    'Internal: the seed of the draws of a user in a scenario, which stays for explore_for.';


-- recdb.explored_places: which places of a list are explored.
--   parameters  share   explore of the scenario
--               seed    of explore_seed()
--               before  how many items count as chosen before the first place
--               wanted  how many places
--               pinned  places that are left out; NULL for none
--   returns     for each of the other places whether it is explored. Of n places in a row share * n are, rounded up or
--               down; where they begin depends on the seed, so that each place is explored with the probability share
create or replace function recdb.explored_places(
    share double precision, seed bigint, before bigint, wanted bigint, pinned integer[]
)
returns boolean[]
language plpgsql immutable parallel safe
as $$
declare
    start constant double precision := ((seed >> 20) & 1048575)::double precision / 1048576 + 1e-9;
    explores boolean[] := '{}';
begin
    for place in before + 1 .. before + wanted loop
        if not coalesce(place - before = any (pinned), false) then
            explores := array_append(explores, floor(place * share + start) > floor((place - 1) * share + start));
        end if;
    end loop;
    return explores;
end
$$;
comment on function recdb.explored_places(double precision, bigint, bigint, bigint, integer[]) is
    'Internal: which places of a list are explored.';


-- recdb.little_shown_part: the part of the pool from which a list draws.
--   parameters  seed   of explore_seed()
--               part   0: the first hundred items after the seed's slot; 1: two thousand after these
--               among  only these items; NULL for all
--   returns     the items; of few candidates all in part 0
--   reads       little_shown, by an index
create or replace function recdb.little_shown_part(seed bigint, part integer, among integer[])
returns table (item_key integer, impressions integer, touched integer)
language sql stable rows 100
begin atomic
    select l.item_key, l.impressions, l.touched
    from unnest(little_shown_part.among) a(item_key)
    cross join lateral (
        select l.* from recdb.little_shown l where l.item_key = a.item_key offset 0
    ) l
    where little_shown_part.part = 0 and cardinality(little_shown_part.among) <= 1000
    union all
    select u.item_key, u.impressions, u.touched
    from (
        select f.item_key, f.impressions, f.touched
        from (
            select l.item_key, l.impressions, l.touched from recdb.little_shown l
            where l.slot >= (hashint8extended(little_shown_part.seed, 1::bigint) >> 32)::integer
              and (little_shown_part.among is null or l.item_key in (select unnest(little_shown_part.among)))
            order by l.slot, l.item_key
        ) f
        union all
        select f.item_key, f.impressions, f.touched
        from (
            select l.item_key, l.impressions, l.touched from recdb.little_shown l
            where l.slot < (hashint8extended(little_shown_part.seed, 1::bigint) >> 32)::integer
              and (little_shown_part.among is null or l.item_key in (select unnest(little_shown_part.among)))
            order by l.slot, l.item_key
        ) f
        limit case little_shown_part.part when 0 then 100 else 2000 end
        offset case little_shown_part.part when 0 then 0 else 100 end
    ) u
    where coalesce(cardinality(little_shown_part.among) > 1000, true);
end;
comment on function recdb.little_shown_part(bigint, integer, integer[]) is
    'Internal: the part of little_shown from which a list draws.';


-- recdb.find_explorers: the items that may get the explored places of a list.
--   parameters  given    of read_scenario()
--               seed     of explore_seed()
--               profile  as rank_items()
--               owner    as eligible()
--               filter   of the caller
--               among    the keys of the caller's candidates; NULL for all items
--               wanted   how many
--   returns     one row: arrays of one length, the item that is drawn first at the head; draws has numbers in 0..1 that
--               descend: those of the first part of the pool are above a half; owners and topics as those of
--               fill_pool(), and counted, the value of the attribute
--   reads       little_shown, and eligible() for the items it looks at, from the largest draw down
-- A gamma variable of shape a is a (1 - 1 / (9 a) + z / (3 sqrt(a)))^3 with a normal z (Wilson and Hilferty 1931). Two
-- of them make a beta variable: x / (x + y). Two uniform numbers, from a hash, make two normal ones (Box and Muller
-- 1958).
create or replace function recdb.find_explorers(
    given record, seed bigint, profile record, owner text, filter jsonb, among integer[], wanted bigint,
    out item_keys integer[], out item_ids text[], out owners bigint[], out topics bigint[], out counted jsonb[],
    out draws double precision[]
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    path constant jsonpath := recdb.filter_path(filter);
    found record;
begin
    item_keys := '{}';
    item_ids := '{}';
    owners := '{}';
    topics := '{}';
    counted := '{}';
    draws := '{}';
    for part in 0 .. 1 loop
        exit when cardinality(item_keys) >= wanted;
        select array_agg(f.item_key) as item_keys, array_agg(f.item_id) as item_ids,
            array_agg(case when given.max_per_owner is not null then recdb.group_of(f.owner_id, 1) end) as owners,
            array_agg(recdb.topic_of(f.counted)) as topics,
            array_agg(f.counted) as counted, array_agg(f.draw) as draws
        into found
        from (
            select d.item_key, o.item_id, o.owner_id, o.attributes -> given.max_per_attribute as counted,
                (d.draw + 1 - part) / 2 as draw
            from (
                select x.item_key, x.gained / (x.gained + x.lost) as draw
                from (
                    select n.item_key,
                        n.a * power(greatest(1 - 1 / (9 * n.a) + n.radius * cos(n.angle) / (3 * sqrt(n.a)), 1e-3), 3)
                            as gained,
                        n.b * power(greatest(1 - 1 / (9 * n.b) + n.radius * sin(n.angle) / (3 * sqrt(n.b)), 1e-3), 3)
                            as lost
                    from (
                        select h.item_key, (1 + h.touched)::double precision as a,
                            (1 + h.impressions - h.touched)::double precision as b,
                            sqrt(-2 * ln(((h.hash & 4294967295) + 0.5::double precision) / 4294967296)) as radius,
                            2 * pi() * ((h.hash >> 32) & 4294967295)::double precision / 4294967296 as angle
                        from (
                            select l.*, hashint4extended(l.item_key, seed) as hash
                            from recdb.little_shown_part(seed, part, among) l
                            where l.impressions < given.explore_below
                              and l.item_key not in (select unnest(profile.hidden_keys))
                              and l.item_key not in (select unnest(profile.item_keys))
                            offset 0
                        ) h
                        offset 0
                    ) n
                    offset 0
                ) x
                order by draw desc, x.item_key
            ) d
            cross join lateral recdb.eligible(d.item_key, owner, given.listed_only) o
            where recdb.matches(o.attributes, filter, path)
              and recdb.matches(o.attributes, given.filter, given.own_path)
              and not exists (
                  select from unnest(given.conditions, given.paths, given.factors) r(condition, path, factor)
                  where r.factor = 0 and recdb.matches(o.attributes, r.condition, r.path))
            limit wanted - cardinality(item_keys)
        ) f;
        item_keys := item_keys || found.item_keys;
        item_ids := item_ids || found.item_ids;
        owners := owners || found.owners;
        topics := topics || found.topics;
        counted := counted || found.counted;
        draws := draws || found.draws;
    end loop;
end
$$;
comment on function recdb.find_explorers(record, bigint, record, text, jsonb, integer[], bigint) is
    'Internal: the items that may get the explored places of a list, with the numbers drawn for them.';


-- recdb.draw_explorers: the items that may get the explored places of a list, of the caller's candidates.
--   parameters  among   the candidates; NULL for all items
--               few     their keys, if they are few; else NULL
--               wanted  how many; ten times as many are drawn to find them among many candidates
--               others  as find_explorers()
--   returns     as find_explorers(). What a smaller number gives is what a larger one begins with
--   reads       as find_explorers()
create or replace function recdb.draw_explorers(
    given record, seed bigint, profile record, owner text, filter jsonb, among text[], few integer[], wanted bigint
)
returns record
language plpgsql stable
as $$
#variable_conflict use_column
declare
    many constant boolean := among is not null and few is null;
    explored constant record := recdb.find_explorers(
        given, seed, profile, owner, filter, few, wanted * case when many then 10 else 1 end);
    kept record;
begin
    if not many then
        return explored;
    end if;
    select coalesce(array_agg(x.item_key order by x.number), '{}') as item_keys,
        coalesce(array_agg(x.item_id order by x.number), '{}') as item_ids,
        array_agg(x.owner order by x.number) as owners, array_agg(x.topic order by x.number) as topics,
        array_agg(x.counted order by x.number) as counted, array_agg(x.draw order by x.number) as draws
    into kept
    from unnest(
        explored.item_keys, explored.item_ids, explored.owners, explored.topics, explored.counted, explored.draws
    ) with ordinality x(item_key, item_id, owner, topic, counted, draw, number)
    where x.item_id in (select unnest(among));
    return kept;
end
$$;
comment on function recdb.draw_explorers(record, bigint, record, text, jsonb, text[], integer[], bigint) is
    'Internal: the items that may get the explored places of a list, of the caller''s candidates.';
