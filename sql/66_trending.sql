-- What is trending: the items that more users touch now than usual, from the interactions themselves. No refresh is
-- needed, and items of a minute ago are in the list.
--
-- Time is cut into slices as long as the window. The newest slice is the window, and the seven before it say what is
-- usual. In a slice a user counts once for an item, with the heaviest kind, as in popular():
--   w      = popularity_weight() of a user and an item in a slice, not decayed
--   c      = sum of w^2 / sum of w, over all slices: in units of it, the variance of a sum of weights is its mean, as
--            that of a count (Bohm and Zech, Statistics of weighted Poisson events and its applications, 2014)
--   seen   = sum of w / c over the window
--   usual  = sum of w / c over the slices before * users of the window / users of the slices before
--   rise   = (seen + 2) / (usual + 2)
--   n      = (sum of w)^2 / sum of w^2 over the window + 2
--   score ~ rise * (1 - 1 / (9 n) - 1.6449 / (3 sqrt n))^3
-- The number of users of a slice counts each user once, and so no bot, whatever it does, makes other items look as if
-- they fell. rise is the posterior mean of a Poisson rate in units of the usual one, under a gamma prior of mean 1 that
-- weighs as much as 2 users; the score is the lower end of its 90 % interval, so that two users who met by chance come
-- below twenty: the gamma-Poisson shrinker and its EB05 (DuMouchel, Bayesian data mining in large frequency tables,
-- 1999), with the quantile of a gamma distribution by Wilson and Hilferty (1931). n counts effective users (Kish,
-- Survey sampling, 1965): one user is one, even with the heaviest kind.


-- recdb.first_eligible: the first items of a ranking that are eligible.
--   parameters  item_ids, scores  the ranking, from the best down
--               k                 how many
--               filter            as recommend()
--               excluded          item ids to leave out
--   returns     the first k items that are eligible for everybody and that the filter keeps. The score is divided by
--               that of the first item that is eligible, whatever the filter, so that a filter does not rescale
--   reads       read_item() (an index of each source), for the items that it looks at
create or replace function recdb.first_eligible(
    item_ids text[], scores double precision[], k bigint, filter jsonb, excluded text[]
)
returns table (item_id text, score double precision)
language plpgsql stable rows 50 cost 5000
as $$
#variable_conflict use_column
declare
    listed_only constant boolean := (select c.listed_only from recdb.config c);
    path constant jsonpath := recdb.filter_path(filter);
begin
    return query
    select e.item_id, round(e.score / nullif(e.top, 0) * 1e9) / 1e9
    from (
        select c.item_id, c.score, o.attributes, first_value(c.score) over (rows unbounded preceding) as top
        from unnest(item_ids, scores) c(item_id, score)
        cross join lateral (
            select i.attributes
            from (select 1) one(row)
            left join lateral recdb.read_item(c.item_id) i on true
            where coalesce(i.available, not listed_only) and coalesce(i.published_at <= now(), true)
            offset 0
        ) o
        where c.item_id not in (select unnest(excluded))
    ) e
    where filter is null or recdb.matches(e.attributes, filter, path)
    limit k;
end
$$;
comment on function recdb.first_eligible(text[], double precision[], bigint, jsonb, text[]) is
    'Internal: the first k items of a ranking that are eligible for everybody and that a filter keeps, with the score '
    'of the best eligible item as 1.';


-- recdb.rising_items: the items that rose, before anything is left out.
--   parameters  span  the length of the window, which ends now
--   returns     one row per item whose rise is above 1, the best first: bound is the score, not yet scaled; users: how
--               many touched it in the window
--   reads       interactions_between(), ignored_user, interaction_kind, config
create or replace function recdb.rising_items(span interval)
returns table (item_id text, bound double precision, rise double precision, users bigint)
language plpgsql stable rows 1000 cost 100000
set search_path from current
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
declare
    until constant timestamptz := now();
    since constant timestamptz := until - span * 8;
    seconds constant double precision := date_part('epoch', span);
begin
    return query
    with touched as materialized (
        select s.slice, s.user_id, s.item_id, recdb.popularity_weight(sum(s.weight), max(s.heaviest)) as weight
        from (
            select i.user_id, i.item_id, floor(date_part('epoch', until - i.created_at) / seconds) as slice,
                coalesce(k.weight, c.default_weight) * coalesce(i.value, 1) as weight,
                greatest(0, coalesce(k.weight, c.default_weight)) as heaviest
            from (select f.default_weight from recdb.config f offset 0) c
            cross join recdb.interactions_between(since, until) i
            left join recdb.interaction_kind k on k.kind = i.kind
            where not exists (select from recdb.ignored_user g where g.user_id = i.user_id)
        ) s
        where s.slice < 8
        group by s.slice, s.user_id, s.item_id
        having recdb.settle(sum(s.weight), sum(abs(s.weight))) > 0 and max(s.heaviest) > 0
    ), total as (
        select sum(t.weight * t.weight) / sum(t.weight) as unit,
            count(distinct t.user_id) filter (where t.slice = 0) as users
        from touched t
    ), before as (
        select count(*) as users from (select distinct t.slice, t.user_id from touched t where t.slice > 0) u
    ), counted as (
        select t.item_id, count(*) filter (where t.slice = 0) as users,
            coalesce(sum(t.weight) filter (where t.slice = 0), 0) / o.unit + 2 as seen,
            power(sum(t.weight) filter (where t.slice = 0), 2) / sum(t.weight * t.weight) filter (where t.slice = 0) + 2
                as n,
            coalesce(sum(t.weight) filter (where t.slice > 0) * o.users / nullif(b.users, 0), 0) / o.unit + 2 as usual
        from touched t
        cross join total o
        cross join before b
        group by t.item_id, o.unit, o.users, b.users
    )
    select c.item_id, round(
            (c.seen / c.usual * power(1 - 1 / (9 * c.n) - 1.6449 / (3 * sqrt(c.n)), 3))::numeric, 12)::double precision,
        c.seen / c.usual, c.users
    from counted c
    where c.users > 0 and c.seen / c.usual > 1 + 1e-9
    order by 2 desc, 1;
end
$$;
comment on function recdb.rising_items(interval) is
    'Internal: the items that more users touched in the last span of time than usual, before anything is left out.';


-- recdb.trending: the items that rise most.
--   parameters  k            how many, 1 to 1000; NULL is 50
--               time_window  how long ago "now" begins; NULL is a day. Above 0, and at most 400 days
--               filter       only items that meet this, as in recommend(); NULL for all items
--   returns     the items that rose, by the formula at the head of this file: score descending, then item_id. The best
--               has score 1, if no filter leaves it out; rise: how many times the usual number of users; users: how
--               many touched it in the window
--   reads       interactions_between() for eight windows, by an index of the time in each source; first_eligible()
--   errors      22023 for k outside 1..1000, or a window that is too short or too long
create or replace function recdb.trending(
    k bigint default 50, time_window interval default '1 day', filter jsonb default null
)
returns table (item_id text, score double precision, rise double precision, users bigint)
language plpgsql stable security definer rows 50 cost 100000
set search_path from current
as $$
#variable_conflict use_column
declare
    wanted constant bigint := recdb.check_k(k, 50);
    span constant interval := coalesce(time_window, interval '1 day');
    risen record;
    unreadable text[];
begin
    if span <= interval '0' or span > interval '400 days' then
        raise exception 'time_window is %, and must be above 0 and at most 400 days', span
            using errcode = 'invalid_parameter_value';
    end if;
    perform recdb.check_sources();
    select array_agg(r.item_id) as item_ids, array_agg(r.bound) as bounds, array_agg(r.rise) as rises,
        array_agg(r.users) as users
    into risen
    from recdb.rising_items(span) r;
    return query
    select f.item_id, f.score, r.rise, r.users
    from recdb.first_eligible(risen.item_ids, risen.bounds, wanted, filter, '{}') f
    join unnest(risen.item_ids, risen.rises, risen.users) r(item_id, rise, users) on r.item_id = f.item_id
    order by f.score desc, f.item_id;
exception when others then
    perform recdb.refuse_failing(sqlstate, null);
    -- An item of an attached catalogue that cannot be read must not take the list with it.
    unreadable := recdb.failing_items(sqlstate);
    if unreadable is null then
        raise;
    end if;
    return query
    select f.item_id, f.score, r.rise, r.users
    from recdb.first_eligible(risen.item_ids, risen.bounds, wanted, filter, unreadable) f
    join unnest(risen.item_ids, risen.rises, risen.users) r(item_id, rise, users) on r.item_id = f.item_id
    order by f.score desc, f.item_id;
end
$$;
comment on function recdb.trending(bigint, interval, jsonb) is
    'The items that more users touch now than usual, live from the interactions. time_window: how far back now '
    'reaches, a day unless given; the seven windows before it say how many users are usual. A user counts once for an'
    ' item. score: 1 for the best; rise: how many times the usual number of users touched it, drawn towards 1 where '
    'there are few; users: how many touched it in the window. filter: as in recommend(). '
    'Items that did not rise are left out. Errors: 22023 for k outside 1..1000, or a time_window that is not above 0 '
    'and at most 400 days.';
