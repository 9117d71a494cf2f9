-- recdb.recommend: what a feed calls.
--   reads    the caller's own interactions live, so a click of this very transaction counts; the rest as rank_items()
--   errors   22023 for k outside 1..1000 or an unknown fallback, 42704 for an unknown model
--   security runs as recdb's owner, so that a reader needs no right on anybody's data
create or replace function recdb.recommend(
    user_id text, k bigint default 50, exclude text[] default '{}', fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language plpgsql stable security definer rows 50 cost 10000
set search_path from current
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
    profile record;
begin
    select p.* into profile from recdb.profile(recommend.user_id) p;

    return query
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.rank_items(
        profile.item_keys, profile.weights, profile.ranks, profile.hidden_ids, profile.hidden_keys, recommend.user_id,
        (select u.user_key from recdb.user_key u where u.user_id = recommend.user_id),
        recommend.k, recommend.exclude, recommend.fallback, recommend.filter, recommend.model) r;
end
$$;
comment on function recdb.recommend(text, bigint, text[], text, jsonb, text) is
    'recdb: the best k items for a user, from people like them and from what they did, live to the last interaction. '
    'exclude: ids not to return; fallback: ''popular'' fills up to k; filter: only items whose attributes @> filter; '
    'model: a version''s label, NULL the active one. Scores are in 0..1, descending.';


-- recdb.parse_exclude: a list of ids in whatever spelling an untyped parameter brings.
--   errors   22P02
create or replace function recdb.parse_exclude(exclude_list text)
returns text[]
language plpgsql immutable parallel safe
as $$
declare
    list constant text := btrim(exclude_list, E' \t\r\n');
begin
    if list is null or list in ('', '<>') then
        return '{}';
    elsif (list like '{%' or list ~ '^\[-?\d+:') and pg_input_is_valid(list, 'text[]') then
        return list::text[];
    elsif list like '<%>' then
        return regexp_split_to_array(btrim(substr(list, 2, length(list) - 2)), '\s*,\s*');
    elsif list like '[%' and pg_input_is_valid(list, 'jsonb') then
        if not jsonb_path_exists(list::jsonb, 'strict $[*] ? (@.type() != "string" && @.type() != "number" && @.type() != "null")') then
            return array(select jsonb_array_elements_text(list::jsonb));
        end if;
    end if;
    raise exception 'not a list of item ids: %', left(list, 100)
        using errcode = 'invalid_text_representation',
            hint = 'Accepted: {a,b} (an array), <a,b>, <>, an empty string, or a JSON array of strings or numbers.';
end
$$;
comment on function recdb.parse_exclude(text) is
    'The item ids of {a,b}, <a,b>, <>, an empty string, or a JSON array of strings or numbers.';


create or replace function recdb.recommend(
    user_id text, k bigint, exclude_list text, fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
begin atomic
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recommend.user_id, recommend.k, recdb.parse_exclude(recommend.exclude_list), recommend.fallback,
        recommend.filter, recommend.model) r;
end;
comment on function recdb.recommend(text, bigint, text, text, jsonb, text) is
    'recdb: recommend() for a list of excluded ids that arrives as text: {a,b}, <a,b>, <>, '''' or a JSON array.';


-- The unqualified call: both forms again in public. They are inlined, so they cost nothing.
create or replace function public.recommend(
    user_id text, k bigint default 50, exclude text[] default '{}', fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
begin atomic
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recommend.user_id, recommend.k, recommend.exclude, recommend.fallback, recommend.filter, recommend.model) r;
end;
comment on function public.recommend(text, bigint, text[], text, jsonb, text) is
    'recdb: the best k items for a user; the same as recdb.recommend().';

create or replace function public.recommend(
    user_id text, k bigint, exclude_list text, fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
begin atomic
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recommend.user_id, recommend.k, recdb.parse_exclude(recommend.exclude_list), recommend.fallback,
        recommend.filter, recommend.model) r;
end;
comment on function public.recommend(text, bigint, text, text, jsonb, text) is
    'recdb: the best k items for a user; the same as recdb.recommend().';


-- recdb.recommend_for_items: for a guest, from what this visit looked at.
--   items    what the guest looked at, newest first; unknown ids are ignored
--   weights  one for each item, 1 unless given; NULL is 1
--   errors   22023 where weights and items differ in number or a weight is not finite, and as recommend()
create or replace function recdb.recommend_for_items(
    items text[], k bigint default 50, exclude text[] default '{}', weights real[] default null,
    fallback text default 'none', filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language plpgsql stable security definer rows 50 cost 10000
set search_path from current
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set jit = off
as $$
#variable_conflict use_column
declare
    item_keys integer[];
    item_weights double precision[];
    ranks bigint[];
begin
    if cardinality(weights) <> cardinality(items) then
        raise exception '% items have % weights', cardinality(items), cardinality(weights)
            using errcode = 'invalid_parameter_value';
    end if;
    if exists (select from unnest(weights) w(weight) where w.weight in ('NaN', 'Infinity', '-Infinity')) then
        raise exception 'a weight is not a finite number' using errcode = 'invalid_parameter_value';
    end if;
    select array_agg(s.item_key), array_agg(s.weight), array_agg(s.rank)
    into item_keys, item_weights, ranks
    from (
        select t.item_key, sum(coalesce(g.weight, 1)) as weight, rank() over (order by min(g.position)) as rank
        from unnest(items, weights) with ordinality g(item_id, weight, position)
        join recdb.item_key t on t.item_id = g.item_id
        group by t.item_key
        order by min(g.position)
    ) s;

    return query
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.rank_items(
        item_keys, item_weights, ranks,
        array(select i.id from unnest(items) i(id) where i.id is not null),
        array(select t.item_key from recdb.item_key t where t.item_id = any (items)),
        null, null,
        recommend_for_items.k, recommend_for_items.exclude, recommend_for_items.fallback,
        recommend_for_items.filter, recommend_for_items.model) r;
end
$$;
comment on function recdb.recommend_for_items(text[], bigint, text[], real[], text, jsonb, text) is
    'recommend() for somebody without a history: from the items of this visit, weight 1 each unless given; they are not returned.';


-- recdb.recommend_batch: many users' lists at once, for mails and precomputing.
create or replace function recdb.recommend_batch(user_ids text[], k bigint default 50)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable security definer rows 1000
set search_path from current
as $$
    select u.user_id, row_number() over (partition by u.position order by r.score desc, r.item_id),
        r.item_id, r.score, r.reason
    from (
        select n.user_id, min(n.position) as position
        from unnest(recommend_batch.user_ids) with ordinality n(user_id, position)
        where n.user_id is not null
        group by n.user_id
    ) u
    cross join lateral recdb.recommend(u.user_id, recommend_batch.k) r
    order by u.position, 2
$$;
comment on function recdb.recommend_batch(text[], bigint) is
    'The lists of many users, in the order given, a row an item with its rank from 1.';
