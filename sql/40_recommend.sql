-- The functions that applications call, for ids of type text. 61_any_ids_lists has the forms for ids of other types,
-- and the rules for all of them; 63_public has public.recommend().
--
-- Each list is made by a function with a name of its own, which takes arrays of text, has no defaults and runs as the
-- owner. The functions of the public names turn their arguments into text and call it. PostgreSQL inlines them, so they
-- cost nothing.


-- recdb.hide_items: hide items from a list.
--   parameters  profile  the row of recdb.profile(), or one with the same columns
--               ids      the items
--   returns     the profile, with these items among those that are not recommended
--   reads       item_key
create or replace function recdb.hide_items(profile record, ids text[])
returns record
language plpgsql stable
as $$
declare
    hiding record;
begin
    select profile.item_keys, profile.weights, profile.ranks, profile.hidden_ids || ids as hidden_ids,
        profile.hidden_keys || recdb.find_keys(ids) as hidden_keys, profile.segment
    into hiding;
    return hiding;
end
$$;
comment on function recdb.hide_items(record, text[]) is
    'Internal: a profile with more items that are not recommended.';


-- recdb.list_for_user: a user's list.
--   parameters  user_id   the user; NULL is nobody
--               k         how many items, 1 to 1000; NULL is 50
--               exclude   item ids to leave out; NULLs in it are ignored
--               fallback  'none', or 'popular' to fill the list up to k with popular items; NULL is 'none'
--               filter    only items whose attributes contain this object (@>) or, if it is a JSON string, for which
--                         this JSON path is true (@@); NULL for all items
--               model     a version's label; NULL for the active version
--               among     only these items; NULLs and unknown ids in it are ignored; NULL for all items
--               scenario  a row of recdb.scenario; NULL for the row 'default'
--               segment   attributes of users, such as {"country": "de"}: the popular items that fill the list up
--                         are first those that are popular among the users with these attributes, as popular() counts
--                         them; NULL and {} for all users
--   returns     at most k items, score descending, then item_id
--   reads       the user's own interactions live, those of this very transaction too; the rest as rank_items()
--   errors      22023 for k outside 1..1000, an unknown fallback or scenario, or a segment that is no object; 42704 for
--               an unknown model
-- It runs as recdb's owner: a caller needs no right on anybody's data. The SET clauses hold for all that it calls:
-- generic plans, made once a session; no parallel workers and no JIT, which take longer to start than a call lasts.
create or replace function recdb.list_for_user(
    user_id text, k bigint, exclude text[], fallback text, filter jsonb, model text, among text[], scenario text,
    segment jsonb
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
    -- The arguments come first: an error in a declaration is not taken for one of the sources.
    wanted constant bigint := recdb.check_k(list_for_user.k, 50);
    filled constant text := recdb.check_fallback(list_for_user.fallback)::text;
    path constant jsonpath := recdb.filter_path(list_for_user.filter);
    chosen constant jsonb := recdb.check_segment(list_for_user.segment);
    profile record;
    unreadable text[];
begin
    loop
        begin
            if unreadable is null then
                perform recdb.check_sources();
                select p.*, chosen as segment into profile from recdb.profile(list_for_user.user_id) p;
            end if;
            return query
            select r.item_id, r.score, r.reason, r.model_version
            from recdb.rank_items(
                profile, list_for_user.user_id,
                (select u.user_key from recdb.user_key u where u.user_id = list_for_user.user_id),
                list_for_user.k, list_for_user.exclude, list_for_user.fallback, list_for_user.filter,
                list_for_user.model, list_for_user.among, list_for_user.scenario) r;
            return;
        exception when others then
            perform recdb.refuse_failing(sqlstate, list_for_user.user_id);
            -- An item of an attached catalogue that cannot be read must not take the lists of all with it.
            unreadable := case when unreadable is null then recdb.failing_items(sqlstate) end;
            if unreadable is null then
                raise;
            end if;
            profile := recdb.hide_items(profile, unreadable);
        end;
    end loop;
end
$$;
comment on function recdb.list_for_user(text, bigint, text[], text, jsonb, text, text[], text, jsonb) is
    'Internal: the list that recommend() gives, for ids of type text.';


-- recdb.recommend: a user's list.
--   parameters  exclude  an array of ids of any type; others as list_for_user()
--   returns, reads, errors  as list_for_user()
create or replace function recdb.recommend(
    user_id text, k bigint default 50, exclude anycompatiblearray default '{}'::text[], fallback text default 'none',
    filter jsonb default null, model text default null, among text[] default null, scenario text default null,
    segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_user(
        $1, $2, recdb.id_texts($3::pg_catalog.text[], pg_catalog.pg_typeof($3)), $4, $5, $6, $7, $8, $9) r
$$;
comment on function recdb.recommend(text, bigint, anycompatiblearray, text, jsonb, text, text[], text, jsonb) is
    'recdb: the best k items for a user, from similar users and from the user''s own interactions, live up to the last '
    'one. k: 1 to 1000; exclude: item ids not to return; fallback: ''popular'' fills the list up to k with popular '
    'items; filter: only items whose attributes contain it (@>), or a JSON path in a JSON string; model: a version''s '
    'label, NULL for the active one; among: only these items; scenario: a row of recdb.scenario, NULL for default; '
    'segment: attributes of users, such as {"country": "de"}: the items that are popular among the users with them '
    'fill the list up, before those that are popular among all. '
    'Rows by score (0 to 1), descending, then item_id; reason: collaborative_filtering or popular. No rows for a user '
    'without interactions, or while no model is trained, unless fallback is ''popular''. Errors: 22023 for k outside '
    '1..1000, an unknown fallback or a segment that is no object, 42704 for an unknown model.';


-- recdb.parse_exclude: a list of ids in any spelling that an untyped parameter may have.
--   parameters  exclude_list  {a,b} (an array), <a,b>, <>, an empty string, or a JSON array of strings or numbers
--   returns     the ids; an empty array for NULL
--   errors      22P02 for any other text
-- The regular expression and is_input() tell a good array or JSON text from a bad one before the cast, which would
-- fail. The first is quick, and knows the arrays that most callers and drivers write; E'' reads alike under every
-- setting.
create or replace function recdb.parse_exclude(exclude_list text)
returns text[]
language plpgsql immutable
as $$
declare
    list constant text := btrim(exclude_list, E' \t\r\n');
begin
    if list is null or list in ('', '<>') then
        return '{}';
    elsif list ~ E'^{(?:(?:[^"{}\\\\,[:space:]]+|"(?:[^"\\\\]|\\\\.)*")'
        '(?:,(?:[^"{}\\\\,[:space:]]+|"(?:[^"\\\\]|\\\\.)*"))*)?}$'
    then
        return list::text[];
    elsif (list like '{%' or list ~ '^[[]-?[0-9]+:') and recdb.is_input(list, 'text[]') then
        return list::text[];
    elsif list like '<%>' then
        return regexp_split_to_array(btrim(substr(list, 2, length(list) - 2)), '[[:space:]]*,[[:space:]]*');
    elsif list like '[%' and recdb.is_input(list, 'jsonb') then
        if not jsonb_path_exists(
            list::jsonb, 'strict $[*] ? (@.type() != "string" && @.type() != "number" && @.type() != "null")')
        then
            return array(
                select case
                    when jsonb_typeof(e.value) = 'number' then trim_scale(e.value::numeric)::text
                    else e.value #>> '{}'::text[]
                end
                from jsonb_array_elements(list::jsonb) e(value));
        end if;
    end if;
    raise exception 'not a list of item ids: %', left(list, 100)
        using errcode = 'invalid_text_representation',
            hint = 'Accepted: {a,b} (an array), <a,b>, <>, an empty string, or a JSON array of strings or numbers.';
end
$$;
comment on function recdb.parse_exclude(text) is
    'The item ids in a text: {a,b}, <a,b>, <>, an empty string, or a JSON array of strings or numbers. '
    'Error 22P02 for any other text.';


-- recdb.recommend with exclude_list: the same list, if the excluded ids arrive as text. PostgreSQL picks this form for
-- untyped literals and for the parameters of most drivers.
--   parameters  exclude_list  as parse_exclude(); others as recommend()
--   returns     as recommend()
--   reads       as recommend()
--   errors      22P02 for an exclude_list in another spelling, and as recommend()
create or replace function recdb.recommend(
    user_id text, k bigint, exclude_list text, fallback text default 'none', filter jsonb default null,
    model text default null, among text[] default null, scenario text default null, segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
begin atomic
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_user(
        recommend.user_id, recommend.k, recdb.parse_exclude(recommend.exclude_list), recommend.fallback,
        recommend.filter, recommend.model, recommend.among, recommend.scenario, recommend.segment) r;
end;
comment on function recdb.recommend(text, bigint, text, text, jsonb, text, text[], text, jsonb) is
    'recdb: recommend() for a list of excluded ids that arrives as text: {a,b}, <a,b>, <>, an empty string or a JSON '
    'array; error 22P02 for any other text. All else as in recommend() with exclude.';


-- recdb.list_for_items: a list for a guest, from the items of this visit.
--   parameters  items    the items that the guest looked at, newest first; unknown ids are ignored
--               weights  one for each item; NULL, and a NULL in the array, is 1
--               others   as list_for_user()
--   returns     as list_for_user(), without the items given
--   reads       item_key; the rest as rank_items()
--   errors      22023 if weights and items differ in number or a weight is not finite, and as recommend()
create or replace function recdb.list_for_items(
    items text[], k bigint, exclude text[], weights real[], fallback text, filter jsonb, model text, among text[],
    scenario text, segment jsonb
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
    -- The arguments come first: an error in a declaration is not taken for one of the sources.
    wanted constant bigint := recdb.check_k(list_for_items.k, 50);
    filled constant text := recdb.check_fallback(list_for_items.fallback)::text;
    path constant jsonpath := recdb.filter_path(list_for_items.filter);
    chosen constant jsonb := recdb.check_segment(list_for_items.segment);
    profile record;
    unreadable text[];
begin
    perform recdb.check_sources();
    if cardinality(weights) <> cardinality(items) then
        raise exception '% items have % weights', cardinality(items), cardinality(weights)
            using errcode = 'invalid_parameter_value';
    end if;
    if exists (select from unnest(weights) w(weight) where w.weight in ('NaN', 'Infinity', '-Infinity')) then
        raise exception 'a weight is not a finite number' using errcode = 'invalid_parameter_value';
    end if;
    select
        array_agg(s.item_key) as item_keys,
        array_agg(s.weight)::double precision[] as weights,
        array_agg(s.rank) as ranks,
        array(select i.id from unnest(items) i(id) where i.id is not null) as hidden_ids,
        array(select t.item_key from recdb.item_key t where t.item_id = any (items)) as hidden_keys,
        chosen as segment
    into profile
    from (
        select v.*
        from (
            select t.item_key, sum(coalesce(g.weight, 1)) as weight, rank() over (order by min(g.position)) as rank
            from unnest(items, weights) with ordinality g(item_id, weight, position)
            join recdb.item_key t on t.item_id = g.item_id
            group by t.item_key
            having sum(coalesce(g.weight, 1)) <> 0
        ) v
        order by recdb.precedence(v.weight, v.rank) desc, v.rank
    ) s;

    loop
        begin
            return query
            select r.item_id, r.score, r.reason, r.model_version
            from recdb.rank_items(
                profile, null, null,
                list_for_items.k, list_for_items.exclude, list_for_items.fallback, list_for_items.filter,
                list_for_items.model, list_for_items.among, list_for_items.scenario) r;
            return;
        exception when others then
            perform recdb.refuse_failing(sqlstate, null);
            -- An item of an attached catalogue that cannot be read must not take the lists of all with it.
            unreadable := case when unreadable is null then recdb.failing_items(sqlstate) end;
            if unreadable is null then
                raise;
            end if;
            profile := recdb.hide_items(profile, unreadable);
        end;
    end loop;
end
$$;
comment on function recdb.list_for_items(
    text[], bigint, text[], real[], text, jsonb, text, text[], text, jsonb) is
    'Internal: the list that recommend_for_items() gives, for ids of type text.';


-- recdb.recommend_for_items: a list for a guest.
--   parameters  items, exclude  arrays of ids of any type; others as list_for_items()
--   returns, reads, errors  as list_for_items()
create or replace function recdb.recommend_for_items(
    items anyarray, k bigint default 50, exclude anycompatiblearray default '{}'::text[],
    weights real[] default null, fallback text default 'none', filter jsonb default null, model text default null,
    among text[] default null, scenario text default null, segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_items(
        recdb.id_texts($1::pg_catalog.text[], pg_catalog.pg_typeof($1)), $2,
        recdb.id_texts($3::pg_catalog.text[], pg_catalog.pg_typeof($3)), $4, $5, $6, $7, $8, $9, $10) r
$$;
comment on function recdb.recommend_for_items(
    anyarray, bigint, anycompatiblearray, real[], text, jsonb, text, text[], text, jsonb) is
    'recommend() for a guest without a history, from the items of this visit, which are not returned. items: newest '
    'first, unknown ids are ignored; weights: one for each item, NULL is 1; others as in recommend(). Errors: 22023 if '
    'weights and items differ in number or a weight is not finite, and those of recommend().';


-- recdb.lists_for_users: the lists of many users in one call, for mails and precomputing.
--   parameters  user_ids  the users; NULLs are ignored, and a user given twice counts once
--               others    as recommend()
--   returns     the users in the order given; for each item its rank, from 1
--   reads       as recommend()
--   errors      as recommend()
create or replace function recdb.lists_for_users(
    user_ids text[], k bigint, fallback text, filter jsonb, model text, among text[], scenario text, segment jsonb
)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable security definer rows 1000
set search_path from current
as $$
    select u.user_id, row_number() over (partition by u.position order by r.score desc, r.item_id),
        r.item_id, r.score, r.reason
    from (
        select n.user_id, min(n.position) as position
        from unnest(lists_for_users.user_ids) with ordinality n(user_id, position)
        where n.user_id is not null
        group by n.user_id
    ) u
    cross join lateral recdb.list_for_user(
        u.user_id, lists_for_users.k, '{}', lists_for_users.fallback, lists_for_users.filter, lists_for_users.model,
        lists_for_users.among, lists_for_users.scenario, lists_for_users.segment) r
    order by u.position, 2
$$;
comment on function recdb.lists_for_users(text[], bigint, text, jsonb, text, text[], text, jsonb) is
    'Internal: the lists that recommend_batch() gives, for ids of type text.';


-- recdb.recommend_batch: the lists of many users in one call.
--   parameters  user_ids, among  arrays of ids of any type; others as lists_for_users()
--   returns, reads, errors  as lists_for_users()
create or replace function recdb.recommend_batch(
    user_ids anycompatiblearray, k bigint default 50, fallback text default 'none', filter jsonb default null,
    model text default null, among anyarray default null::text[], scenario text default null,
    segment jsonb default null
)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable rows 1000
as $$
    select r.user_id, r.rank, r.item_id, r.score, r.reason
    from recdb.lists_for_users(
        recdb.id_texts($1::pg_catalog.text[], pg_catalog.pg_typeof($1)), $2, $3, $4, $5,
        recdb.id_texts($6::pg_catalog.text[], pg_catalog.pg_typeof($6)), $7, $8) r
$$;
comment on function recdb.recommend_batch(anycompatiblearray, bigint, text, jsonb, text, anyarray, text, jsonb) is
    'The lists of many users, in the order given, for mails and precomputing: one row per item, with its rank from 1. '
    'k: items per user; all others as in recommend(). Error 22023 for k outside 1..1000.';
