-- The logged impressions beside the lists of another model version: what the off-policy estimates are made of.


-- recdb.list_then: the list that a model version would have given a user at an earlier moment.
--   parameters  user_id  the user
--               moment   the user's interactions before it count
--               k        how many items
--               model    the version's label
--               scenario  the page's; it steers if it has a row in recdb.scenario
--   returns     the items from the best down; the weights of today's kinds count, today's catalogue, and the scenario's
--               row and rules of today, with the ages of the moment
--   reads       as list_for_user()
--   errors      as list_for_user()
-- At the time of the impression, what the user has followed since was not hidden yet. Nothing rotates: the page itself
-- and later ones would push down what they showed. No place is explored, since draws are no list of the version. No
-- experiment decides: the list is that of the version in the scenario.
create or replace function recdb.list_then(user_id text, moment timestamptz, k bigint, model text, scenario text)
returns table (item_id text)
language plpgsql stable rows 50 cost 10000
set search_path from current
as $$
#variable_conflict use_column
declare
    place constant text := (select s.name from recdb.scenario s where s.name = list_then.scenario);
    own_key constant integer := (select u.user_key from recdb.user_key u where u.user_id = list_then.user_id);
    given record := recdb.read_scenario(place, null);
    served record;
    profile record;
begin
    select p.*, null::jsonb as segment into profile from recdb.profile_at(list_then.user_id, list_then.moment) p;
    if not (coalesce(given.acts, false) or given.conditions is not null or given.experiments) then
        return query
        select r.item_id
        from recdb.rank_items(
            profile, list_then.user_id, own_key, list_then.k, '{}', coalesce(given.fallback, 'none'), null,
            list_then.model, null, place) r;
        return;
    end if;
    given.later := now() - list_then.moment;
    given.rotation_rate := 0;
    given.explore := 0;
    given.diversity := coalesce(given.diversity, 0);
    given.pool := coalesce(given.pool, 100);
    select v.* into served from recdb.serving(list_then.model) v;
    return query
    select r.item_id
    from recdb.steer_items(
        served, given, profile, list_then.user_id, own_key, list_then.k, '{}', coalesce(given.fallback, 'none'), null,
        null) r;
end
$$;
comment on function recdb.list_then(text, timestamptz, bigint, text, text) is
    'Internal: the list that a model version would have given a user at an earlier moment.';


-- recdb.logged_outcomes: logged impressions, and whether a model version would have shown them. An interaction counts
-- for the last impression before it, as in online_metrics.
--   parameters  model        the label of a kept version
--               scenario     only impressions of this scenario; NULL for all
--               since        only impressions from then on; NULL: from the training of the version on, since it has
--                            learned from what happened before
--               kind         the kind of interaction that counts; NULL: every kind of positive weight
--               attribution  how long after an impression an interaction with the item counts; NULL is a day
--               pages        at most so many pages, drawn by a hash: the same ones each time
--   returns     a row for each impression with a propensity: its user, whether it was followed, its propensity, and
--               whether the version has the item at the same place of its list of that moment
--   reads       impression, list_then() for each page; without the users of ignored_user
--   errors      42704 if no kept version has that label
create or replace function recdb.logged_outcomes(
    model text, scenario text default null, since timestamptz default null, kind text default null,
    attribution interval default null, pages bigint default 2000
)
returns table (user_key integer, followed boolean, propensity double precision, matches boolean)
language plpgsql stable security definer rows 20000 cost 1000000
set search_path from current
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
begin
    perform recdb.check_sources();
    if not exists (select from recdb.serving(logged_outcomes.model)) then
        return;
    end if;
    return query
    with page as materialized (
        select m.user_key, m.scenario, m.shown_at, max(m.place)::bigint as places
        from recdb.impression m
        where m.shown_at >= coalesce(logged_outcomes.since, (
                select v.created_at from recdb.model v where v.label = logged_outcomes.model and v.state = 'ready'))
          and (logged_outcomes.scenario is null or m.scenario = logged_outcomes.scenario)
          and m.propensity is not null and m.place <= 1000
          and not exists (
              select from recdb.ignored_user g join recdb.user_key u on u.user_id = g.user_id
              where u.user_key = m.user_key)
        group by m.user_key, m.scenario, m.shown_at
        order by hashtextextended(m.user_key::text || '/' || date_part('epoch', m.shown_at)::text, 0)
        limit logged_outcomes.pages
    ), listed as materialized (
        select p.user_key, p.scenario, p.shown_at, u.user_id,
            array(select r.item_id from recdb.list_then(
                u.user_id, p.shown_at, p.places, logged_outcomes.model, p.scenario) r)
                as items
        from page p
        join recdb.user_key u on u.user_key = p.user_key
    )
    select l.user_key,
        exists (
            select from recdb.interactions_of(l.user_id) i
            left join recdb.interaction_kind k on k.kind = i.kind
            where i.item_id = t.item_id and i.created_at >= l.shown_at
              and i.created_at < l.shown_at + coalesce(logged_outcomes.attribution, interval '1 day')
              and not exists (
                  select from recdb.impression n
                  where n.user_key = m.user_key and n.item_key = m.item_key
                    and n.shown_at > m.shown_at and n.shown_at <= i.created_at)
              and case when logged_outcomes.kind is null
                  then coalesce(k.weight, (select c.default_weight from recdb.config c)) > 0
                  else i.kind = logged_outcomes.kind end),
        m.propensity::double precision,
        coalesce(l.items[m.place] = t.item_id, false)
    from listed l
    join recdb.impression m on m.user_key = l.user_key and m.shown_at = l.shown_at and m.scenario = l.scenario
        and m.propensity is not null and m.place <= 1000
    join recdb.item_key t on t.item_key = m.item_key;
end
$$;
comment on function recdb.logged_outcomes(text, text, timestamptz, text, interval, bigint) is
    'Logged impressions with a propensity, whether their users followed them, and whether a model version that did not '
    'serve would have shown them at the same places: `recdb experiment estimate` weighs them. It looks at impressions '
    'since the training of the version, unless since says otherwise. Error 42704 for an unknown version.';
