-- The functions of role recdb_self: each caller asks for themselves alone.
--
-- recdb.current_user_id() says who the caller is. 05_missing makes it, and an installation replaces it: a replay
-- must not undo that. What asks for that user runs as the owner. The forms for ids of any type do not: a type of the
-- caller's own may bring a cast, which must not run with the owner's rights.


-- recdb.asking_user: the user that current_user_id() names.
--   returns     its answer
--   reads       current_user_id()
--   errors      55000 if that function is gone, or needs something that is; else its own errors
create or replace function recdb.asking_user()
returns text
language plpgsql stable
as $$
begin
    if to_regprocedure('recdb.current_user_id()') is not null then
        return recdb.current_user_id();
    end if;
    raise exception 'recdb.current_user_id(), which says who the caller is, is missing'
        using errcode = 'object_not_in_prerequisite_state',
            hint = 'Run: recdb init; then let it name the caller again: create or replace function '
                'recdb.current_user_id() ...';
exception when undefined_function or undefined_table or undefined_column or invalid_schema_name then
    raise exception 'recdb.current_user_id(), which says who the caller is, fails: %', sqlerrm
        using errcode = 'object_not_in_prerequisite_state',
            hint = 'Write it again, so that it names the caller: create or replace function '
                'recdb.current_user_id() ...';
end
$$;
comment on function recdb.asking_user() is
    'Internal: the user that current_user_id() names; error 55000 if that function is gone.';


-- recdb.caller_problem: why recommend_me() cannot tell who the caller is.
--   returns     no row if it can; else the problem, the way on, and whether it fails: a function that raises for a
--               session without a user may be meant so
--   reads       current_user_id(), the system catalogues
-- It runs as the owner, as current_user_id() does for callers: the doctor of a superuser must not lend it more rights.
create or replace function recdb.caller_problem()
returns table (problem text, hint text, fails boolean)
language plpgsql stable security definer
set search_path from current
as $$
begin
    perform recdb.asking_user();
    return query
    select 'recdb init has made recdb.current_user_id() again: it names nobody, so recommend_me() gives nobody a list',
        'Let it name the caller again: create or replace function recdb.current_user_id() ...', false
    from pg_catalog.pg_proc p
    where p.oid = to_regprocedure('recdb.current_user_id()')
      and position('made again by recdb init' in p.prosrc) > 0;
exception
    when object_not_in_prerequisite_state then
        get stacked diagnostics hint = pg_exception_hint;
        problem := sqlerrm;
        fails := true;
        return next;
    when others then
        problem := 'recdb.current_user_id() fails for this session: ' || sqlerrm;
        hint := 'For a session without a user it should return NULL, which is nobody';
        fails := false;
        return next;
end
$$;
comment on function recdb.caller_problem() is
    'Internal: why recommend_me() cannot tell who the caller is, and the way on; no row if it can.';


-- recdb.list_for_me: the caller's own list.
--   parameters  as list_for_user(), without user_id
--   returns     as list_for_user(); if current_user_id() is NULL, nothing, or popular items with the fallback
--   reads       current_user_id(); the rest as list_for_user()
--   errors      as list_for_user() and asking_user()
create or replace function recdb.list_for_me(
    k bigint, exclude text[], fallback text, filter jsonb, model text, among text[], scenario text, segment jsonb
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable security definer rows 50 cost 10000
set search_path from current
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_user(
        recdb.asking_user(), list_for_me.k, list_for_me.exclude, list_for_me.fallback, list_for_me.filter,
        list_for_me.model, list_for_me.among, list_for_me.scenario, list_for_me.segment) r
$$;
comment on function recdb.list_for_me(bigint, text[], text, jsonb, text, text[], text, jsonb) is
    'Internal: the list that recommend_me() gives, for ids of type text.';


-- recdb.recommend_me: the caller's own list.
--   parameters  exclude, among  arrays of ids of any type; others as list_for_me()
--   returns, reads, errors  as list_for_me()
-- exclude takes an untyped literal and among does not (61_any_ids_lists): nothing else in the call has the type of the
-- candidates. The form for excluded ids in a text takes both.
create or replace function recdb.recommend_me(
    k bigint default 50, exclude anycompatiblearray default '{}'::text[], fallback text default 'none',
    filter jsonb default null, model text default null, among anyarray default null::text[],
    scenario text default null, segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_me(
        $1, recdb.id_texts($2::pg_catalog.text[], pg_catalog.pg_typeof($2)), $3, $4, $5,
        recdb.id_texts($6::pg_catalog.text[], pg_catalog.pg_typeof($6)), $7, $8) r
$$;
comment on function recdb.recommend_me(bigint, anycompatiblearray, text, jsonb, text, anyarray, text, jsonb) is
    'recommend() for the caller, who is the user that current_user_id() names. If it names nobody: no rows, or popular '
    'items with fallback => ''popular''. All else as in recommend().';


-- recdb.recommend_me for excluded ids in a text.
--   parameters  k; the ids to leave out; others as recommend_me()
--   returns, reads, errors  as recommend_me(); 22P02 for an exclude_list in another spelling
create or replace function recdb.recommend_me(
    k bigint, exclude_list text, fallback text default 'none', filter jsonb default null,
    model text default null, among anycompatiblearray default null::text[], scenario text default null,
    segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_me(
        $1, recdb.parse_exclude($2), $3, $4, $5,
        recdb.id_texts($6::pg_catalog.text[], pg_catalog.pg_typeof($6)), $7, $8) r
$$;
comment on function recdb.recommend_me(bigint, text, text, jsonb, text, anycompatiblearray, text, jsonb) is
    'recommend_me() for excluded ids that arrive as text: {a,b}, <a,b>, <>, an empty string or a JSON array.';


-- recdb.recommend_me for excluded ids in a jsonb.
--   parameters  k; exclude_list  a JSON array; others as recommend_me()
--   returns, reads, errors  as recommend_me() with exclude_list
create or replace function recdb.recommend_me(
    k bigint, exclude_list jsonb, fallback text default 'none', filter jsonb default null,
    model text default null, among anycompatiblearray default null::text[], scenario text default null,
    segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_me(
        $1, recdb.parse_exclude($2::pg_catalog.text), $3, $4, $5,
        recdb.id_texts($6::pg_catalog.text[], pg_catalog.pg_typeof($6)), $7, $8) r
$$;
comment on function recdb.recommend_me(bigint, jsonb, text, jsonb, text, anycompatiblearray, text, jsonb) is
    'recommend_me() for excluded ids in a JSON array of type jsonb.';


-- recdb.explain_me: why recommend_me() gives the caller an item.
--   parameters  item_id; model, scenario, as explain()
--   returns     as explain(): the caller's own items one by one, and all neighbours in one row, so that it shows
--               nothing of another user. No rows if current_user_id() is NULL
--   reads       current_user_id(); the rest as explain()
--   errors      as explain() and asking_user()
create or replace function recdb.explain_me(
    item_id text, model text default null, scenario text default null
)
returns table (source text, because_id text, contribution double precision)
language sql stable security definer rows 10 cost 10000
set search_path from current
as $$
    select r.source, r.because_id, r.contribution
    from recdb.explain(recdb.asking_user(), explain_me.item_id, explain_me.model, explain_me.scenario) r
$$;
comment on function recdb.explain_me(text, text, text) is
    'explain() for the caller, who is the user that current_user_id() names: why recommend_me() gives an item. All '
    'neighbours together are one row.';


-- recdb.explain_me for an item id of any type.
--   parameters  item_id  of any type; model, as explain()
--   returns, reads, errors  as explain_me()
create or replace function recdb.explain_me(
    item_id anynonarray, model text default null, scenario text default null
)
returns table (source text, because_id text, contribution double precision)
language sql stable rows 10
as $$
    select r.source, r.because_id, r.contribution
    from recdb.explain_me(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, $3) r
$$;
comment on function recdb.explain_me(anynonarray, text, text) is
    'explain_me() for an item id that is no text, such as a bigint or a uuid.';
