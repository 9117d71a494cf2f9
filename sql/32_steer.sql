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


-- recdb.name_content: the rows of a list, with the reason content for the items that the model has not seen.
--   parameters  keys, ids, scores, reasons  arrays of one length
--   returns     a row for each, in this order
--   reads       content_items()
create or replace function recdb.name_content(
    served record, keys integer[], ids text[], scores double precision[], reasons text[]
)
returns table (item_id text, score double precision, reason text)
language plpgsql stable rows 50
as $$
#variable_conflict use_column
declare
    unseen constant integer[] := case when served.ranks_new_items
        then recdb.content_items(served.model_id, keys) end;
begin
    return query
    select n.id, n.score, case when n.reason = 'collaborative_filtering' and n.item_key = any (unseen)
        then 'content' else n.reason end
    from unnest(keys, ids, scores, reasons) n(item_key, id, score, reason);
end
$$;
comment on function recdb.name_content(record, integer[], text[], double precision[], text[]) is
    'Internal: the rows of a list, with the reason content for the items that the model has not seen.';


-- recdb.steer_parts: the parts of a steered list, one after the other.
--   parameters  shown       the row of last_shown()
--               seed        of explore_seed(); NULL if nothing is explored
--               few         as read_pool()
--               everything  the row of scored_items()
--               top         best_score() of all items
--               others      as steer_items()
--   returns     as choose_list()
--   reads       as read_pool(), choose_list() and draw_explorers()
-- What was chosen counts as excluded, as that of earlier pages does. The next part has a pool twice as large. It begins
-- at its place, or once the limits of the scenario have nothing left of the pool: then the items of that pool are
-- passed, and the larger one is read from the item below them on. The items to explore are drawn again only if the
-- first ones do not suffice, since more begin with the same.
create or replace function recdb.steer_parts(
    served record, given record, profile record, owner text, shown record, seed bigint, wanted bigint,
    excluded text[], fallback text, filter jsonb, among text[], few integer[], everything record,
    top double precision,
    out keys integer[], out ids text[], out scores double precision[], out reasons text[]
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    before constant bigint := (select count(distinct e.id) from unnest(excluded) e(id));
    size bigint := recdb.pool_size(coalesce(given.pool, 100)::bigint, before + 1);
    passed bigint := 0;
    after integer := 0;
    done bigint;
    asked bigint;
    is_last boolean;
    ran_out boolean := true;
    drawn_for bigint;
    pool record;
    explored record;
    earlier record := recdb.before_list(served.model_id, given, excluded);
    list record;
begin
    ids := '{}';
    select '{}'::text[] as item_ids into explored;
    loop
        pool := recdb.read_pool(
            served, given, profile, owner, shown, excluded || ids, fallback, filter, among, few, everything, top,
            size, passed, after, recdb.full_groups(given, earlier.groups));
        done := cardinality(ids);
        asked := least(wanted, size * 3 / 5 - before) - done;
        is_last := coalesce(pool.last_place >= 2000000, true);
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
        passed := case when cardinality(ids) - done < asked and pool.personal >= size and not given.pins
            then size else 0 end;
        after := case when passed > 0 then pool.last_place else 0 end;
        if given.pins then
            earlier := recdb.before_list(served.model_id, given, excluded || ids);
        else
            earlier.ids := earlier.ids || list.ids;
            earlier.groups := list.groups;
            earlier.vectors := list.vectors;
        end if;
        size := size * 2;
    end loop;
    if done > 0 or scores[cardinality(scores)] < 1e-200 then
        scores := recdb.descending(ids, scores);
    end if;
end
$$;
comment on function recdb.steer_parts(
    record, record, record, text, record, bigint, bigint, text[], text, jsonb, text[], integer[], record,
    double precision) is
    'Internal: the parts of a steered list, one after the other.';


-- recdb.steer_items: a list that a scenario steers.
--   parameters  given    of read_scenario()
--               others   as rank_among(); among may be NULL
--   returns     as rank_items(), without the version; the reason of an item that the rules together have lifted is
--               boosted, of one that a rule has pinned, pinned, and of one with few impressions in an explored place,
--               explored
--   reads       as steer_parts(); rule, item_vector and little_shown as far as the scenario needs them
-- The list is chosen part by part, as its pages are. Somebody without a personal list gets none from some explored
-- places alone.
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
    list record;
begin
    if everything.item_keys = '{}' and fallback is distinct from 'popular' and given.explore < 1 then
        return;
    end if;
    list := recdb.steer_parts(
        served, given, profile, owner, recdb.last_shown(given, owner),
        case when given.explore > 0 then
            recdb.explore_seed(given, coalesce(owner, profile.hidden_ids::text)) end,
        wanted, excluded, fallback, filter, among,
        case when cardinality(among) <= 1000 then recdb.find_keys(among) end,
        everything, recdb.best_score(everything.item_keys, everything.scores, owner, given.listed_only));
    return query select n.* from recdb.name_content(served, list.keys, list.ids, list.scores, list.reasons) n;
end
$$;
comment on function recdb.steer_items(
    record, record, record, text, integer, bigint, text[], text, jsonb, text[]) is
    'Internal: the list that recommend() gives where a scenario acts.';
