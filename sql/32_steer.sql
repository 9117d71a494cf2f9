-- Lists that a scenario steers. rank_items() calls steer_items() if the scenario's row or one of its rules acts; else
-- nothing here runs. The score s of the model, in 0..1, becomes in this order
--   s * 2 ^ (-age / freshness) * (1 - rotation_rate * 2 ^ (-age of the last impression / rotation_time))
--   s * the factors of the rules up to 1;  then f s / (1 + (f - 1) s) with the product f of the factors above 1
-- so it stays in 0..1, and lifted items keep their order. Then the list is chosen from the best down. An item whose
-- owner or attribute has its number already is passed over. With a diversity d, the next item is the one with the
-- largest (1 - d) s + d (1 - the largest cosine with an item that is chosen already): maximal marginal relevance. What
-- is excluded counts as chosen: so the pages fit together. The score in the list is what the choice compared.


-- recdb.lift: the score of an item after the rules that lift it.
--   parameters  score   in 0..1
--               factor  1 or more
--   returns     the score with its odds times the factor
create or replace function recdb.lift(score double precision, factor double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select lift.factor * lift.score / (1 + (lift.factor - 1) * lift.score);
end;
comment on function recdb.lift(double precision, double precision) is
    'Internal: a score with its odds times a factor of 1 or more; it stays in 0..1.';


-- recdb.ages_shown: when a user was shown items.
--   parameters  user_id  the user; NULL for nobody
--               since    older impressions do not count
--   returns     one row per item: its last impression
--   reads       impression and impression_new, by index
create or replace function recdb.ages_shown(user_id text, since timestamptz)
returns table (item_key integer, shown_at timestamptz)
language sql stable rows 100
begin atomic
    select s.item_key, max(s.shown_at)
    from (
        select i.item_key, i.shown_at
        from recdb.user_key u
        join recdb.impression i on i.user_key = u.user_key
        where u.user_id = ages_shown.user_id and i.shown_at > ages_shown.since
        union all
        select t.item_key, n.shown_at
        from recdb.impression_new n
        join recdb.item_key t on t.item_id = n.item_id
        where n.user_id = ages_shown.user_id and n.shown_at > ages_shown.since
    ) s
    group by s.item_key;
end;
comment on function recdb.ages_shown(text, timestamptz) is
    'Internal: when a user was shown each item last.';


-- recdb.shown_since: how far back impressions count.
--   parameters  rotation_time  of the scenario
--   returns     twenty times that ago, after which a millionth of the effect is left; a thousand years ago at most
create or replace function recdb.shown_since(rotation_time interval)
returns timestamptz
language sql stable parallel safe
begin atomic
    select now() - least(20::double precision * shown_since.rotation_time, '1000 years'::interval);
end;
comment on function recdb.shown_since(interval) is
    'Internal: how far back the impressions count that make items sink.';


-- recdb.last_shown: when a user was shown items, as far as a scenario has to know it.
--   parameters  given    of read_scenario()
--               user_id  as ages_shown()
--   returns     one row: arrays of one length; NULLs if nothing rotates
--   reads       as ages_shown()
create or replace function recdb.last_shown(
    given record, user_id text, out item_keys integer[], out times timestamptz[]
)
language plpgsql stable
as $$
#variable_conflict use_column
begin
    if given.rotation_rate > 0 then
        select array_agg(a.item_key), array_agg(a.shown_at) into last_shown.item_keys, last_shown.times
        from recdb.ages_shown(last_shown.user_id, recdb.shown_since(given.rotation_time)) a;
    end if;
end
$$;
comment on function recdb.last_shown(record, text) is
    'Internal: when a user was shown each item last, if the scenario rotates.';


-- recdb.fade: what is left of a whole after some time, half of it after each half.
--   parameters  at    when it was whole; the future counts as now
--               half  the time in which half of it goes
--   returns     2 ^ (-age / half), above 0; NULL if either is NULL
create or replace function recdb.fade(at timestamptz, half interval)
returns double precision
language sql stable parallel safe
begin atomic
    select case when fade.at is not null and fade.half is not null then
        power(2::double precision, -least(500::double precision, greatest(0::double precision,
            (date_part('epoch', now()) - date_part('epoch', fade.at)) / date_part('epoch', fade.half)))) end;
end;
comment on function recdb.fade(timestamptz, interval) is
    'Internal: 2 ^ (-age / half), above 0; NULL if either is NULL.';


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
--               those that were passed and left out too; reached: how many there are with it; last_place: the place
--               of the last of the best items among the candidates
--   reads       as eligible() and steer_filler(); impression and item_vector as far as the scenario needs them
-- The arrays of the best items are not unnested in FROM: so the statement ends with its limit.
create or replace function recdb.fill_pool(
    served record, given record, profile record, owner text, shown record, excluded text[], filter jsonb,
    among text[], everything record, candidates record, top double precision, size bigint, passed bigint,
    after integer, further bigint, missing bigint, full_groups bigint[],
    out item_keys integer[], out item_ids text[], out numbers double precision[], out bounds double precision[],
    out reasons text[], out owners bigint[], out topics bigint[], out lists jsonb[], out attributes jsonb[],
    out vectors @vector@.halfvec[], out personal bigint, out reached bigint, out last_place integer
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
              and (not given.buries or not exists (
                  select from unnest(given.conditions, given.paths, given.factors) r(condition, path, factor)
                  where r.factor = 0 and recdb.matches(o.attributes, r.condition, r.path)))
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
        passed + (select count(*) from offered o where o.place < 2000000),
        (select o.place from offered o offset size - passed - 1 limit 1)
    into item_keys, item_ids, numbers, bounds, reasons, owners, topics, lists, attributes, vectors, personal,
        reached, last_place
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
            where o.item_id not in (select unnest(excluded))
              and (o.place < 2000000 or f.lifts > 1)
              and (o.is_popular or f.reaches
                or o.place <= coalesce((select n.place from offered n offset size - passed - 1 limit 1), o.place))
            offset 0  -- so that lift() is inlined
        ) v
        left join lateral (
            select i.embedding as vector from recdb.item_vector i
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


-- recdb.name_content: the rows of a list, with the reason content for the items that the model has not seen.
--   parameters  keys, ids, scores, reasons  arrays of one length
--   returns     a row for each, in this order
--   reads       new_item
create or replace function recdb.name_content(
    served record, keys integer[], ids text[], scores double precision[], reasons text[]
)
returns table (item_id text, score double precision, reason text)
language plpgsql stable rows 50
as $$
#variable_conflict use_column
declare
    unseen integer[];
begin
    if served.ranks_new_items then
        unseen := array(
            select w.item_key from recdb.new_item w
            where w.model_id = served.model_id and w.item_key = any (keys) and w.users < 2);
    end if;
    return query
    select n.id, n.score, case when n.reason = 'collaborative_filtering' and n.item_key = any (unseen)
        then 'content' else n.reason end
    from unnest(keys, ids, scores, reasons) n(item_key, id, score, reason);
end
$$;
comment on function recdb.name_content(record, integer[], text[], double precision[], text[]) is
    'Internal: the rows of a list, with the reason content for the items that the model has not seen.';


-- recdb.steer_items: a list that a scenario steers.
--   parameters  given    of read_scenario()
--               others   as rank_among(); among may be NULL
--   returns     as rank_items(), without the version; the reason of an item that the rules together have lifted is
--               boosted, of one that a rule has pinned, pinned, and of one with few impressions in an explored place,
--               explored
--   reads       as fill_pool(); rule, item_vector and little_shown as far as the scenario needs them
-- The list is chosen part by part, as its pages are: what was chosen counts as excluded. The next part has a pool twice
-- as large. It begins at its place, or once the limits of the scenario have nothing left of the pool: then the items
-- of that pool are passed, and the larger one is read from the item below them on. The items to explore are drawn
-- again only if the first ones do not suffice, since more begin with the same. Somebody without
-- a personal list gets none from some explored places alone. A rule that lifts reaches below the pool, half as far
-- again, and one that pins further.
create or replace function recdb.steer_items(
    served record, given record, profile record, owner text, own_key integer, wanted bigint, excluded text[],
    fallback text, filter jsonb, among text[]
)
returns table (item_id text, score double precision, reason text)
language plpgsql stable rows 50 cost 10000
as $$
#variable_conflict use_column
declare
    everything constant record := recdb.scored_items(served, profile, own_key);
    top double precision := recdb.best_score(everything.item_keys, everything.scores, owner, given.listed_only);
    candidates record;
    few constant integer[] := case when cardinality(among) <= 1000 then recdb.find_keys(among) end;
    shown constant record := recdb.last_shown(given, owner);
    before constant bigint := (select count(distinct e.id) from unnest(excluded) e(id));
    seed constant bigint := case when given.explore > 0 then
        recdb.explore_seed(given, coalesce(owner, profile.hidden_ids::text)) end;
    size bigint := recdb.pool_size(coalesce(given.pool, 100)::bigint, before + 1);
    further bigint;
    missing bigint;
    most bigint := case when among is not null then 4 * size end;
    passed bigint := 0;
    after integer := 0;
    done bigint;
    asked bigint;
    is_last boolean;
    ran_out boolean := true;
    drawn_for bigint;
    pool record;
    explored record;
    earlier record;
    list record;
    keys integer[];
    ids text[] := '{}';
    scores double precision[];
    reasons text[];
begin
    if everything.item_keys = '{}' and fallback is distinct from 'popular' and given.explore < 1 then
        return;
    end if;
    candidates := recdb.best_among(everything, among, few, most);
    earlier := recdb.before_list(served.model_id, given, excluded);
    select '{}'::text[] as item_ids into explored;
    loop
        further := case when given.pins then 2000 when 1 < any (given.factors) then size / 2 else 0 end;
        missing := case when fallback = 'popular' then greatest(0, size - cardinality(candidates.item_keys)) else 0 end;
        loop
            pool := recdb.fill_pool(
                served, given, profile, owner, shown, excluded || ids, filter, among, everything, candidates, top,
                size, passed, after, further, missing, recdb.full_groups(given, earlier.groups));
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
                served, given, profile, owner, excluded || ids, filter, among, everything, candidates, top, pool);
        end if;
        done := cardinality(ids);
        asked := least(wanted, size * 3 / 5 - before) - done;
        is_last := pool.reached < size;
        loop
            if given.explore > 0 and ran_out then
                explored := recdb.draw_explorers(
                    given, seed, profile, owner, filter, among, few, ceil(given.explore * size)::bigint);
                drawn_for := size;
            end if;
            list := recdb.choose_list(served.model_id, given, pool, explored, seed, asked, earlier, is_last);
            ran_out := list.ran_out;
            exit when not ran_out or drawn_for = size;
        end loop;
        keys := keys || list.keys;
        ids := ids || list.ids;
        scores := scores || list.scores;
        reasons := reasons || list.reasons;
        exit when cardinality(ids) >= wanted or is_last and cardinality(ids) < size * 3 / 5 - before;
        passed := 0;
        after := 0;
        if given.pins then
            earlier := recdb.before_list(served.model_id, given, excluded || ids);
        else
            earlier.ids := earlier.ids || list.ids;
            earlier.groups := list.groups;
            earlier.vectors := list.vectors;
            if cardinality(ids) - done < asked and pool.personal >= size then
                passed := size;
                after := pool.last_place;
            end if;
        end if;
        size := size * 2;
    end loop;
    if done > 0 or scores[cardinality(scores)] < 1e-200 then
        scores := recdb.descending(ids, scores);
    end if;
    return query select n.* from recdb.name_content(served, keys, ids, scores, reasons) n;
end
$$;
comment on function recdb.steer_items(
    record, record, record, text, integer, bigint, text[], text, jsonb, text[]) is
    'Internal: the list that recommend() gives where a scenario acts.';
