-- Why an item is in a list.


-- recdb.contributions: the contribution of each score source to the score of one item.
--   parameters  user_id, item_id
--               model  a version's label; NULL for the active version
--   returns     one row per score source: because_key (an item of the user's own), or neighbor_key with its similarity.
--               The contributions add up to the score that recommend() gives the item (rounded to 1e-9 there). No rows
--               if recommend() does not give the item a score
--   reads       the same as recommend()
--   errors      42704 for an unknown model
-- If the user has already seen the item, the explanation ignores that interaction.
create or replace function recdb.contributions(user_id text, item_id text, model text)
returns table (because_key integer, neighbor_key integer, similarity double precision, contribution double precision)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    profile record;
    served record;
    own_key constant integer := (select u.user_key from recdb.user_key u where u.user_id = contributions.user_id);
    wanted constant integer := (select t.item_key from recdb.item_key t where t.item_id = contributions.item_id);
    seen_rank bigint;
    everything record;
    top double precision;
begin
    perform recdb.check_sources();
    select p.* into profile from recdb.profile(contributions.user_id) p;
    if not exists (select from recdb.config c, recdb.eligible(wanted, contributions.user_id, c.listed_only)) then
        return;
    end if;
    if wanted = any (profile.hidden_keys) then
        seen_rank := profile.ranks[array_position(profile.item_keys, wanted)];
        select
            array_agg(i.item_key order by i.precedence desc, i.rank, i.item_key) as item_keys,
            array_agg(i.weight order by i.precedence desc, i.rank, i.item_key) as weights,
            array_agg(i.rank order by i.precedence desc, i.rank, i.item_key) as ranks,
            array_remove(profile.hidden_ids, contributions.item_id) as hidden_ids,
            array_remove(profile.hidden_keys, wanted) as hidden_keys
        into profile
        from (
            select p.item_key, p.weight, r.rank, recdb.precedence(p.weight, r.rank) as precedence
            from unnest(profile.item_keys, profile.weights, profile.ranks) p(item_key, weight, rank)
            cross join lateral (select p.rank - coalesce(p.rank > seen_rank, false)::integer as rank) r
            where p.item_key <> wanted
        ) i;
    end if;
    select v.* into served from recdb.serving(contributions.model) v;
    if served.model_id is null then
        return;
    end if;
    everything := recdb.scored_items(served, profile, own_key);
    top := recdb.best_score(
        everything.item_keys, everything.scores, contributions.user_id, (select c.listed_only from recdb.config c));

    return query
    with part as (
        select s.because_key, s.neighbor_key, s.similarity, s.weight * w.weight as amount
        from recdb.score_sources(served, profile, own_key) s
        cross join lateral unnest(s.item_keys, s.weights) w(item_key, weight)
        where w.item_key = wanted
    )
    select p.because_key, p.neighbor_key, p.similarity, p.amount / top
    from part p
    where p.amount <> 0 and (select sum(n.amount) from part n) > 0;
exception when others then
    perform recdb.refuse_failing(sqlstate, contributions.user_id);
    raise;
end
$$;
comment on function recdb.contributions(text, text, text) is
    'Internal: the contribution of each score source (an item of the user''s own, or a neighbour) to an item''s score.';


-- recdb.explain_places: the places of a list that an item may get whatever its score.
--   parameters  given             of read_scenario()
--               profile           of profile()
--               user_id, item_id
--   returns     pinned, with the place to which a rule pins the best of the items with this one's attributes; explored,
--               with the number drawn for the item. A list of the caller's own candidates may draw for items that are
--               in no part of the pool
--   reads       the item, little_shown
create or replace function recdb.explain_places(given record, profile record, user_id text, item_id text)
returns table (source text, value double precision)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    seed bigint;
    keys constant integer[] := array(select t.item_key from recdb.item_key t where t.item_id = explain_places.item_id);
begin
    return query
    select 'pinned', min(r.place)::double precision
    from unnest(given.conditions, given.paths, given.places) r(condition, path, place)
    cross join lateral recdb.read_item(explain_places.item_id) i
    where r.place is not null and recdb.matches(i.attributes, r.condition, r.path)
    having min(r.place) is not null;
    if given.explore > 0 then
        seed := recdb.explore_seed(given, explain_places.user_id);
        return query
        select 'explored', d.draw - case when exists (
            select from recdb.little_shown_part(seed, 1, null) l where l.item_key = any (keys)) then 0.5 else 0 end
        from recdb.find_explorers(given, seed, profile, explain_places.user_id, null, keys, 1) x
        cross join lateral unnest(x.draws) d(draw);
    end if;
end
$$;
comment on function recdb.explain_places(record, record, text, text) is
    'Internal: the places of a list that an item may get whatever its score: pinned and explored ones.';


-- recdb.filler_score: the score of an item that popular items fill a list up with.
--   parameters  as explain_places()
--   returns     the score before the scenario acts; NULL if the item is no such item
--   reads       as scored_items() and fill_up()
create or replace function recdb.filler_score(given record, profile record, user_id text, item_id text)
returns double precision
language plpgsql stable
as $$
declare
    served record;
    everything record;
begin
    select v.* into served from recdb.serving(given.model_version) v;
    everything := recdb.scored_items(served, profile, (
        select u.user_key from recdb.user_key u where u.user_id = filler_score.user_id));
    return (
        select f.score
        from recdb.fill_up(
            1, filler_score.user_id, '{}', given.filter, profile.hidden_ids, everything.item_keys, everything.scores,
            array[filler_score.item_id], null) f);
end
$$;
comment on function recdb.filler_score(record, record, text, text) is
    'Internal: the score of an item that popular items fill a list up with, before a scenario acts.';


-- recdb.explain_steering: by how much a scenario changes the score of an item.
--   parameters  user_id, item_id
--               score     of the model, in 0..1; NULL if the item has none
--               scenario  as recommend()
--   returns     one row for each of freshness, rotation and rules that acts: the difference that it makes, in the order
--               of 32_steer. If one acts on an item without a score of the model, popular is the score that it changes.
--               The rows of explain_places(). Diversity and the numbers per owner and attribute depend on the list, and
--               have no row
--   reads       scenario, rule, the item, impression, little_shown
create or replace function recdb.explain_steering(
    user_id text, item_id text, score double precision, scenario text
)
returns table (source text, contribution double precision)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    given constant record := recdb.read_scenario(scenario, user_id);
    factors record;
    profile record;
    is_popular constant boolean := score is null;
begin
    if not (given.acts or given.conditions is not null) then
        return;
    end if;
    select p.* into profile from recdb.profile(explain_steering.user_id) p;
    return query select p.source, p.value from recdb.explain_places(given, profile, user_id, item_id) p;
    if is_popular and given.fallback is distinct from 'none' then
        score := recdb.filler_score(given, profile, user_id, item_id);
    end if;
    if score is null then
        return;
    end if;
    select
        coalesce(recdb.fade(coalesce(i.published_at, (
            select t.first_at from recdb.item_key t where t.item_id = n.id)), given.freshness), 1) as fresh,
        coalesce(1 - given.rotation_rate * recdb.fade((
            select a.shown_at
            from recdb.ages_shown(
                case when given.rotation_rate > 0 then explain_steering.user_id end,
                recdb.shown_since(given.rotation_time)) a
            join recdb.item_key t on t.item_key = a.item_key
            where t.item_id = explain_steering.item_id
              -- What was touched does not sink. Of a hidden item the interaction is ignored.
              and not (coalesce(t.item_key = any (profile.item_keys), false)
                  and not t.item_key = any (profile.hidden_keys))
            ), given.rotation_time), 1) as rotated,
        f.lowers, f.lifts
    into factors
    from (select explain_steering.item_id as id) n
    left join lateral recdb.read_item(n.id) i on true
    cross join lateral (
        select exp(greatest(-230::double precision,
                    coalesce(sum(ln(r.factor)) filter (where r.factor between 1e-300 and 1), 0)))
                * coalesce(min(case r.factor when 0 then 0 else 1 end), 1) as lowers,
            exp(least(230::double precision, coalesce(sum(ln(r.factor)) filter (where r.factor > 1), 0))) as lifts
        from unnest(given.conditions, given.paths, given.factors) r(condition, path, factor)
        where r.factor is not null and recdb.matches(i.attributes, r.condition, r.path)
    ) f;
    return query
    with changes as (
        select c.source, c.contribution
        from (values
            ('freshness', score * factors.fresh - score),
            ('rotation', score * factors.fresh * (factors.rotated - 1)),
            ('rule', recdb.lift(score * factors.fresh * factors.rotated * factors.lowers, factors.lifts)
                - score * factors.fresh * factors.rotated)
        ) c(source, contribution)
        -- A score of 1 that a rule lifts stays 1.
        where c.contribution <> 0 or c.source = 'rule' and factors.lifts > 1
    )
    select c.source, c.contribution from changes c
    union all
    select 'popular', score where is_popular and exists (select from changes);
end
$$;
comment on function recdb.explain_steering(text, text, double precision, text) is
    'Internal: by how much a scenario changes the score of an item.';


-- recdb.explain: why recommend() gives a user an item.
--   parameters  user_id, item_id
--               model     a version's label; NULL for the version that serves the user
--               scenario  as recommend()
--   returns     source 'item': because_id is an item of the user's own; source 'neighbors': all neighbours in one row,
--               because_id is NULL. Of an item that recommend() gives with the reason content: source 'content', the
--               item is like because_id, or 'author', it is by the owner of because_id. Of a scenario: sources
--               'freshness', 'rotation' and 'rule', the differences that they make. The contributions add up to
--               the item's score before the choice of the list, the largest first. Two sources do not count for the
--               sum: 'explored', the number drawn for an item that may get an explored place, and 'pinned', the place
--               to which a rule pins the best item with such attributes. No rows if recommend() does not give the item,
--               or gives it as popular filler; if a scenario acts on such filler, source 'popular' has its score
--   reads       the same as recommend()
--   errors      42704 for an unknown model
-- If the user has already seen the item, the explanation ignores that interaction.
create or replace function recdb.explain(
    user_id text, item_id text, model text default null, scenario text default null
)
returns table (source text, because_id text, contribution double precision)
language plpgsql stable security definer rows 10 cost 10000
set search_path from current
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
    given constant record := recdb.read_scenario(explain.scenario, explain.user_id);
    version constant text := coalesce(explain.model, given.model_version);
begin
    return query
    with of_model as (
        select case when c.because_key is null then 'neighbors' when not n.unseen then 'item'
                when n.owner_id is not null and n.owner_id = (select i.owner_id from recdb.read_item(t.item_id) i)
                then 'author' else 'content' end,
            t.item_id, sum(c.contribution)
        from recdb.contributions(explain.user_id, explain.item_id, version) c
        cross join (
            select u.unseen, (select i.owner_id from recdb.read_item(explain.item_id) i where u.unseen) as owner_id
            from (
                select exists (
                    select from recdb.serving(version) s
                    join recdb.new_item w on w.model_id = s.model_id and w.users < 2
                    join recdb.item_key k on k.item_key = w.item_key
                    where k.item_id = explain.item_id) as unseen
            ) u
        ) n
        left join recdb.item_key t on t.item_key = c.because_key
        group by c.because_key, t.item_id, n.unseen, n.owner_id
    )
    select m.* from of_model m
    union all
    select s.source, null, s.contribution
    from recdb.explain_steering(
        explain.user_id, explain.item_id,
        (select sum(m.contribution) from of_model m(source, because_id, contribution)), explain.scenario) s
    order by 3 desc, 2;
exception when others then
    perform recdb.refuse_failing(sqlstate, explain.user_id);
    raise;
end
$$;
comment on function recdb.explain(text, text, text, text) is
    'Why recommend() gives a user an item: the contributions of each of the user''s own items (source item, '
    'because_id) and of all neighbours together (source neighbors) to its score; they add up to it. An item that the '
    'model has not seen is there because it is like an item of the user''s (source content) or by the same owner '
    '(source author). No rows if the '
    'item is not recommended, or only as popular filler. A scenario adds the sources freshness, rotation and rule, '
    'with the differences that they make; source popular has the score of popular filler that they change. Two sources '
    'do not count for the sum: explored, the number drawn for an item that may get an explored place, and pinned, the '
    'place to which a rule pins the best item with such attributes. If the user has already seen the item, the '
    'explanation '
    'ignores that interaction. model: a version''s label, NULL for the active one; error 42704 for an unknown one.';


-- recdb.explain_neighbors: the row 'neighbors' of explain(), neighbour by neighbour.
--   parameters  as explain()
--   returns     one row per neighbour with its similarity, the largest contribution first
--   reads       the same as recommend()
--   errors      42704 for an unknown model
create or replace function recdb.explain_neighbors(user_id text, item_id text, model text default null)
returns table (neighbor_id text, similarity double precision, contribution double precision)
language sql stable security definer rows 10 cost 10000
set search_path from current
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set jit = off
as $$
    select u.user_id, c.similarity, c.contribution
    from recdb.contributions(explain_neighbors.user_id, explain_neighbors.item_id, explain_neighbors.model) c
    join recdb.user_key u on u.user_key = c.neighbor_key
    order by 3 desc, 1
$$;
comment on function recdb.explain_neighbors(text, text, text) is
    'The contribution of each neighbour to the score of an item: the row neighbors of explain(), one row for each, '
    'the largest contribution first. model: as in explain(); error 42704 for an unknown one.';
