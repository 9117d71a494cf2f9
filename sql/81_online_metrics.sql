-- The figures of what was shown: how often users followed impressions, with intervals. The unit is the user: the
-- impressions of one user are no independent trials.


-- recdb.impression_outcomes: how often each user was shown items, and how often an interaction followed.
--   parameters  since, until  the impressions from since on and before until
--               attribution   how long after an impression an interaction of the same user with the same item counts
--               experiment    only impressions of this experiment; NULL for all
--   returns     a row with kind NULL for each user, day (UTC), scenario, variant and version, and a row for each kind
--               that followed: impressions is the same in all of them, touched the number that an interaction of the
--               kind followed. An interaction counts for the last impression before it, and so for none of these if
--               that one is of a later time or of another place
--   reads       impression, read_interactions(). Users of ignored_user and kinds of weight 0 do not count
-- A partition of impression has no statistics until the server analyses it. PostgreSQL would then expect a single
-- impression, and compare each of many with each interaction: so it may not loop.
create or replace function recdb.impression_outcomes(
    since timestamptz, until timestamptz, attribution interval, experiment text
)
returns table (
    user_key integer, day date, scenario text, experiment text, variant text, model_version text, kind text,
    impressions bigint, touched bigint
)
language sql stable
set search_path from current
set enable_nestloop = off
as $$
    with shown as materialized (
        select row_number() over () as number, m.user_key, m.item_key, m.shown_at, d.day, m.scenario, m.experiment,
            m.variant, m.model_version,
            dense_rank() over (
                order by m.user_key, d.day, m.scenario, m.experiment, m.variant, m.model_version) as cell,
            m.shown_at < impression_outcomes.until and coalesce(
                m.experiment = impression_outcomes.experiment, impression_outcomes.experiment is null) as counts
        from recdb.impression m
        cross join lateral (select (m.shown_at at time zone 'UTC')::date as day) d
        where m.shown_at >= impression_outcomes.since
          and m.shown_at < impression_outcomes.until + impression_outcomes.attribution
          and (impression_outcomes.experiment is null or m.user_key in (
              select x.user_key from recdb.impression x
              where x.experiment = impression_outcomes.experiment and x.shown_at >= impression_outcomes.since
                and x.shown_at < impression_outcomes.until))
          and not exists (
              select from recdb.ignored_user g join recdb.user_key u on u.user_id = g.user_id
              where u.user_key = m.user_key)
    ), interaction as (
        select u.user_key, t.item_key, i.kind, i.created_at
        from recdb.read_interactions() i
        join recdb.user_key u on u.user_id = i.user_id
        join recdb.item_key t on t.item_id = i.item_id
        left join recdb.interaction_kind k on k.kind = i.kind
        where i.created_at >= impression_outcomes.since
          and coalesce(k.weight, (select c.default_weight from recdb.config c)) <> 0
    ), followed as (
        select distinct on (i.user_key, i.item_key, i.kind, i.created_at) s.number, s.cell, s.counts, i.kind
        from interaction i
        join shown s on s.user_key = i.user_key and s.item_key = i.item_key
            and s.shown_at <= i.created_at and i.created_at < s.shown_at + impression_outcomes.attribution
        order by i.user_key, i.item_key, i.kind, i.created_at, s.shown_at desc, s.number
    ), cells as materialized (
        select s.cell, s.user_key, s.day, s.scenario, s.experiment, s.variant, s.model_version, count(*) as impressions
        from shown s
        where s.counts
        group by s.cell, s.user_key, s.day, s.scenario, s.experiment, s.variant, s.model_version
    )
    select c.user_key, c.day, c.scenario, c.experiment, c.variant, c.model_version, null::text, c.impressions, 0::bigint
    from cells c
    union all
    select c.user_key, c.day, c.scenario, c.experiment, c.variant, c.model_version, f.kind, c.impressions, f.touched
    from (
        select f.cell, f.kind, count(distinct f.number) as touched
        from followed f
        where f.counts
        group by f.cell, f.kind
    ) f
    join cells c on c.cell = f.cell
$$;
comment on function recdb.impression_outcomes(timestamptz, timestamptz, interval, text) is
    'Internal: how often each user was shown items, and how often an interaction of each kind followed.';


-- recdb.share_interval: the 95 % interval of a share.
--   parameters  share  from 0 to 1
--               size   of how many independent trials
--   returns     Wilson's interval, within 0 and 1, also for a share of 0 or 1; NULL without a trial
create or replace function recdb.share_interval(
    share double precision, size double precision, out low double precision, out high double precision
)
language sql immutable parallel safe
begin atomic
    select greatest(0, s.center - s.half), least(1, s.center + s.half)
    from (
        select (share_interval.share + z.squared / (2 * z.size)) / (1 + z.squared / z.size) as center,
            sqrt(z.squared * (share_interval.share * (1 - share_interval.share) / z.size
                + z.squared / (4 * z.size * z.size))) / (1 + z.squared / z.size) as half
        from (select 1.959963984540054 ^ 2::double precision as squared, nullif(share_interval.size, 0) as size) z
    ) s;
end;
comment on function recdb.share_interval(double precision, double precision) is
    'Internal: Wilson''s 95 % interval of a share.';


-- recdb.ratio_size: how many independent trials a rate of users' impressions is worth.
--   parameters  users         how many
--               x, xx         the sums of the users' impressions, and of their squares
--               y, yy, xy     the sums of the users' followed impressions, of their squares, and of the products
--   returns     the number of trials at which a share would have the variance of y / x by the delta method (Deng,
--               Knoblich and Lu 2018); the number of users if that variance is 0
create or replace function recdb.ratio_size(
    users bigint, x double precision, xx double precision, y double precision, yy double precision,
    xy double precision
)
returns double precision
language sql immutable parallel safe
begin atomic
    select case
        when r.variance > 0 then
            least(ratio_size.x, r.rate * (1 - r.rate) / r.variance)
        else ratio_size.users::double precision
    end
    from (
        select s.rate,
            (ratio_size.yy - 2 * s.rate * ratio_size.xy + s.rate * s.rate * ratio_size.xx)
                / (ratio_size.x * ratio_size.x)
                * ratio_size.users::double precision / nullif(ratio_size.users - 1, 0)::double precision as variance
        from (select ratio_size.y / nullif(ratio_size.x, 0) as rate) s
    ) r;
end;
comment on function recdb.ratio_size(
    bigint, double precision, double precision, double precision, double precision, double precision) is
    'Internal: how many independent trials a rate of users'' impressions is worth.';


-- recdb.measure_impressions: the figures of the impressions of some time, as the view online_metrics has them.
--   parameters  since, until  the impressions from since on and before until; NULL for all
--               attribution   how long after an impression an interaction with the item counts; NULL is a day
--   returns     a row for each day (UTC), scenario, variant, version and kind
--   reads       as impression_outcomes()
create or replace function recdb.measure_impressions(
    since timestamptz default null, until timestamptz default null, attribution interval default null
)
returns table (
    day date, scenario text, experiment text, variant text, model_version text, kind text, users bigint,
    impressions bigint, touched bigint, rate double precision, rate_low double precision, rate_high double precision,
    converted bigint, conversion double precision, conversion_low double precision, conversion_high double precision
)
language sql stable security definer
set search_path from current
as $$
    with outcome as materialized (
        select o.*, dense_rank() over (
            order by o.day, o.scenario, o.experiment, o.variant, o.model_version) as cell
        from recdb.impression_outcomes(
            coalesce(measure_impressions.since, '-infinity'), coalesce(measure_impressions.until, 'infinity'),
            coalesce(measure_impressions.attribution, interval '1 day'), null) o
    ), cells as (
        select o.cell, o.day, o.scenario, o.experiment, o.variant, o.model_version, count(*) as users,
            sum(o.impressions)::double precision as x, sum(o.impressions * o.impressions)::double precision as xx
        from outcome o
        where o.kind is null
        group by o.cell, o.day, o.scenario, o.experiment, o.variant, o.model_version
    ), kinds as (
        select k.kind from recdb.interaction_kind k where k.weight <> 0
        union
        select o.kind from outcome o where o.kind is not null
    ), followed as (
        select o.cell, o.kind, count(*) as converted, sum(o.touched)::double precision as y,
            sum(o.touched * o.touched)::double precision as yy,
            sum(o.touched * o.impressions)::double precision as xy
        from outcome o
        where o.kind is not null
        group by o.cell, o.kind
    ), figures as (
        select c.day, c.scenario, c.experiment, c.variant, c.model_version, k.kind, c.users, c.x, c.xx,
            coalesce(f.y, 0) as y, coalesce(f.yy, 0) as yy, coalesce(f.xy, 0) as xy,
            coalesce(f.converted, 0) as converted
        from cells c
        cross join kinds k
        left join followed f on f.cell = c.cell and f.kind = k.kind
    )
    select f.day, f.scenario, f.experiment, f.variant, f.model_version, f.kind, f.users, f.x::bigint, f.y::bigint,
        f.y / f.x, r.low, r.high,
        f.converted, f.converted::double precision / f.users, s.low, s.high
    from figures f
    cross join lateral recdb.share_interval(f.y / f.x, recdb.ratio_size(f.users, f.x, f.xx, f.y, f.yy, f.xy)) r
    cross join lateral recdb.share_interval(f.converted::double precision / f.users, f.users) s
    order by f.day, f.scenario, f.experiment, f.variant, f.model_version, f.kind
$$;
comment on function recdb.measure_impressions(timestamptz, timestamptz, interval) is
    'The figures of the view online_metrics for the impressions from since on and before until. attribution: how long '
    'after an impression an interaction of its user with its item counts, a day unless given.';


create or replace view recdb.online_metrics as
select m.day, m.scenario, m.experiment, m.variant, m.model_version, m.kind, m.users, m.impressions, m.touched, m.rate,
    m.rate_low, m.rate_high, m.converted, m.conversion, m.conversion_low, m.conversion_high
from recdb.measure_impressions() m;
comment on view recdb.online_metrics is
    'How often users followed the items that they were shown: a row for each day (UTC), scenario, variant, model '
    'version and kind of interaction, as of the last refresh. An interaction counts for the last impression of its '
    'item in the day before it. measure_impressions() gives the same for a part of the time.';
comment on column recdb.online_metrics.users is 'How many users were shown at least one item.';
comment on column recdb.online_metrics.impressions is 'How many items they were shown.';
comment on column recdb.online_metrics.touched is 'How many of these impressions an interaction of the kind followed.';
comment on column recdb.online_metrics.rate is 'touched / impressions: for clicks, the click rate.';
comment on column recdb.online_metrics.rate_low is
    'The lower end of its 95 % interval, with the user as the unit (delta method).';
comment on column recdb.online_metrics.rate_high is 'The upper end.';
comment on column recdb.online_metrics.converted is 'How many users followed at least one item.';
comment on column recdb.online_metrics.conversion is 'converted / users.';
comment on column recdb.online_metrics.conversion_low is 'The lower end of its 95 % interval.';
comment on column recdb.online_metrics.conversion_high is 'The upper end.';


-- recdb.experiment_sums: the sums over users from which the figures of an experiment follow.
--   parameters  experiment   its name
--               attribution  as measure_impressions()
--   returns     a row for each variant and kind, with kind NULL for users and impressions alone; and a row with variant
--               NULL for the users who were shown more than one variant, who count nowhere else
--   reads       experiment, experiment_variant; the rest as impression_outcomes()
create or replace function recdb.experiment_sums(experiment text, attribution interval default null)
returns table (
    variant text, kind text, users bigint, impressions bigint, touched bigint, xx double precision,
    yy double precision, xy double precision
)
language sql stable security definer
set search_path from current
as $$
    with outcome as materialized (
        select o.user_key, o.variant, o.kind, sum(o.touched) as touched,
            sum(o.impressions) filter (where o.kind is null) as impressions
        from recdb.experiment e
        cross join lateral recdb.impression_outcomes(
            e.started_at, coalesce(e.stopped_at, 'infinity'::timestamptz),
            coalesce(experiment_sums.attribution, interval '1 day'), e.name) o
        where e.name = experiment_sums.experiment
          and exists (select from recdb.experiment_variant v where v.experiment = e.name and v.name = o.variant)
        group by o.user_key, o.variant, o.kind
    ), viewer as materialized (
        select o.user_key, min(o.variant) as variant, count(*) as variants, sum(o.impressions) as impressions
        from outcome o
        where o.kind is null
        group by o.user_key
    )
    select null::text, null::text, count(*), null::bigint, null::bigint,
        null::double precision, null::double precision, null::double precision
    from viewer w
    where w.variants > 1
    union all
    select w.variant, o.kind, count(*), sum(w.impressions)::bigint, sum(o.touched)::bigint,
        sum(w.impressions * w.impressions)::double precision, sum(o.touched * o.touched)::double precision,
        sum(w.impressions * o.touched)::double precision
    from outcome o
    join viewer w on w.user_key = o.user_key and w.variants = 1
    group by w.variant, o.kind
$$;
comment on function recdb.experiment_sums(text, interval) is
    'Sums over the users of an experiment, by variant and kind: users, impressions, followed impressions, and the sums '
    'of squares and products that intervals follow from. kind NULL: all users of the variant. variant NULL: the '
    'users who were shown more than one variant, who count nowhere else.';
