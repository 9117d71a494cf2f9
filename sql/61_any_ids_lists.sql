-- Ids of any type, for the functions that give lists: each function that takes ids as text has forms for other types.
--
-- Such a form only turns the ids into text and calls the text form, and PostgreSQL inlines it. These are the rules:
--   - PostgreSQL prefers a text parameter for an untyped literal, and for a value of type text, varchar or name. So all
--     calls that the text forms serve go on to the text forms.
--   - The first parameter has no name. PostgREST chooses a function by the names of its arguments, and finds the text
--     form alone, which converts JSON numbers and strings. In SQL, an id by name has to be text: user_id => 42::text.
--   - Arrays of ids have the types numeric[] (to which PostgreSQL converts all arrays of integers) and uuid[], not
--     anyarray: with it a call with an untyped literal, or with varchar[], would fit two forms equally well.
--   - A polymorphic function is no `begin atomic`, so its names are looked up in each call, with the caller's rights:
--     every name in it has its schema, and every argument exactly the type of the parameter.


-- recdb.convert_id: an id of a type whose text is not the id.
--   parameters  value  the id, cast to text
--               type   its type before the cast
--   returns     a number without zeros behind the point, since drivers send 42 as 42.0 too; the string or number in a
--               JSON value; the value itself for any other type
--   errors      22023 for a row of a table: recommend(u) in place of recommend(u.id)
create or replace function recdb.convert_id(value text, type regtype)
returns text
language plpgsql stable parallel safe
set search_path from current
as $$
begin
    if type in ('numeric'::regtype, 'double precision'::regtype, 'real'::regtype) then
        return trim_scale(value::numeric)::text;
    elsif type in ('jsonb'::regtype, 'json'::regtype) then
        return value::jsonb #>> '{}';
    elsif exists (select from pg_type t where t.oid = convert_id.type and t.typtype = 'c') then
        raise exception 'a row of % is no id', type
            using errcode = 'invalid_parameter_value', hint = 'Pass the column that has the id.';
    end if;
    return value;
end
$$;
comment on function recdb.convert_id(text, regtype) is
    'Internal: an id of a type whose text is not the id; error 22023 for a row of a table.';


-- recdb.id_text: an id as text.
--   parameters  value, type  as convert_id()
--   returns     the id, as convert_id() gives it
--   errors      those of convert_id()
create or replace function recdb.id_text(value text, type regtype)
returns text
language sql stable parallel safe
begin atomic
    select case
        when id_text.type in (
            'numeric'::regtype, 'double precision'::regtype, 'real'::regtype, 'jsonb'::regtype, 'json'::regtype)
            or id_text.value like '(%' then recdb.convert_id(id_text.value, id_text.type)
        else id_text.value
    end;
end;
comment on function recdb.id_text(text, regtype) is
    'Internal: an id of any type as text: 42 for the number 42.0, and the string in a JSON value.';


-- recdb.id_texts: numbers as ids.
--   parameters  numbers
--   returns     the ids, in the same order; NULL for NULL
create or replace function recdb.id_texts(numbers numeric[])
returns text[]
language sql stable parallel safe
begin atomic
    select case when id_texts.numbers is not null then array(
        select trim_scale(n.number)::text
        from unnest(id_texts.numbers) with ordinality n(number, position)
        order by n.position)
    end;
end;
comment on function recdb.id_texts(numeric[]) is
    'Internal: numbers as ids: 42 for the number 42.0.';


-- recdb.recommend for a user id of any type.
--   parameters  the user's id, of any type; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function recdb.recommend(
    anynonarray, k bigint default 50, exclude text[] default '{}', fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, $3, $4, $5, $6) r
$$;
comment on function recdb.recommend(anynonarray, bigint, text[], text, jsonb, text) is
    'recdb: recommend() for a user id that is no text, such as a bigint or a uuid.';


-- recdb.recommend for a user id of any type, and excluded ids in a text.
--   parameters  the user's id, of any type; others as recommend() with exclude_list
--   returns, reads, errors  as recommend()
create or replace function recdb.recommend(
    anynonarray, k bigint, exclude_list text, fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, recdb.parse_exclude($3), $4, $5, $6) r
$$;
comment on function recdb.recommend(anynonarray, bigint, text, text, jsonb, text) is
    'recdb: recommend() with exclude_list, for a user id that is no text.';


-- recdb.recommend for excluded ids in an array of numbers.
--   parameters  the user's id, of any type; k; the ids to leave out; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function recdb.recommend(
    anycompatiblenonarray, k bigint, numeric[], fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, recdb.id_texts($3), $4, $5, $6) r
$$;
comment on function recdb.recommend(anycompatiblenonarray, bigint, numeric[], text, jsonb, text) is
    'recdb: recommend() for a user id of any type, if the excluded ids are an array of integers or numbers.';


-- recdb.recommend for excluded ids in an array of uuids.
--   parameters  the user's id, of any type; k; the ids to leave out; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function recdb.recommend(
    anycompatiblenonarray, k bigint, uuid[], fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, $3::pg_catalog.text[], $4, $5, $6) r
$$;
comment on function recdb.recommend(anycompatiblenonarray, bigint, uuid[], text, jsonb, text) is
    'recdb: recommend() for a user id of any type, if the excluded ids are an array of uuids.';


-- public.recommend for a user id of any type.
--   parameters  the user's id, of any type; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function public.recommend(
    anynonarray, k bigint default 50, exclude text[] default '{}', fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, $3, $4, $5, $6) r
$$;
comment on function public.recommend(anynonarray, bigint, text[], text, jsonb, text) is
    'recdb: recommend() for a user id that is no text, such as a bigint or a uuid.';


-- public.recommend for a user id of any type, and excluded ids in a text.
--   parameters  the user's id, of any type; others as recommend() with exclude_list
--   returns, reads, errors  as recommend()
create or replace function public.recommend(
    anynonarray, k bigint, exclude_list text, fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, recdb.parse_exclude($3), $4, $5, $6) r
$$;
comment on function public.recommend(anynonarray, bigint, text, text, jsonb, text) is
    'recdb: recommend() with exclude_list, for a user id that is no text.';


-- public.recommend for excluded ids in an array of numbers.
--   parameters  the user's id, of any type; k; the ids to leave out; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function public.recommend(
    anycompatiblenonarray, k bigint, numeric[], fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, recdb.id_texts($3), $4, $5, $6) r
$$;
comment on function public.recommend(anycompatiblenonarray, bigint, numeric[], text, jsonb, text) is
    'recdb: recommend() for a user id of any type, if the excluded ids are an array of integers or numbers.';


-- public.recommend for excluded ids in an array of uuids.
--   parameters  the user's id, of any type; k; the ids to leave out; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function public.recommend(
    anycompatiblenonarray, k bigint, uuid[], fallback text default 'none',
    filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, $3::pg_catalog.text[], $4, $5, $6) r
$$;
comment on function public.recommend(anycompatiblenonarray, bigint, uuid[], text, jsonb, text) is
    'recdb: recommend() for a user id of any type, if the excluded ids are an array of uuids.';


-- recdb.recommend_for_items for items in a text.
--   parameters  the items, as parse_exclude() reads them; others as recommend_for_items()
--   returns, reads, errors  as recommend_for_items()
create or replace function recdb.recommend_for_items(
    text, k bigint default 50, exclude text[] default '{}', weights real[] default null,
    fallback text default 'none', filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend_for_items(recdb.parse_exclude($1), $2, $3, $4, $5, $6, $7) r
$$;
comment on function recdb.recommend_for_items(text, bigint, text[], real[], text, jsonb, text) is
    'recommend_for_items() for items that arrive as text: {a,b}, <a,b>, <>, an empty string or a JSON array.';


-- recdb.recommend_for_items for items in an array of numbers.
--   parameters  the items; others as recommend_for_items()
--   returns, reads, errors  as recommend_for_items()
create or replace function recdb.recommend_for_items(
    numeric[], k bigint default 50, exclude numeric[] default '{}', weights real[] default null,
    fallback text default 'none', filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend_for_items(recdb.id_texts($1), $2, recdb.id_texts($3), $4, $5, $6, $7) r
$$;
comment on function recdb.recommend_for_items(numeric[], bigint, numeric[], real[], text, jsonb, text) is
    'recommend_for_items() for arrays of integers or numbers.';


-- recdb.recommend_for_items for items in an array of uuids.
--   parameters  the items; others as recommend_for_items()
--   returns, reads, errors  as recommend_for_items()
create or replace function recdb.recommend_for_items(
    uuid[], k bigint default 50, exclude uuid[] default '{}', weights real[] default null,
    fallback text default 'none', filter jsonb default null, model text default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.recommend_for_items($1::pg_catalog.text[], $2, $3::pg_catalog.text[], $4, $5, $6, $7) r
$$;
comment on function recdb.recommend_for_items(uuid[], bigint, uuid[], real[], text, jsonb, text) is
    'recommend_for_items() for arrays of uuids.';


-- recdb.recommend_batch for user ids in a text.
--   parameters  the users; k, as recommend_batch()
--   returns, reads, errors  as recommend_batch()
create or replace function recdb.recommend_batch(text, k bigint default 50)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable rows 1000
as $$
    select r.user_id, r.rank, r.item_id, r.score, r.reason
    from recdb.recommend_batch(recdb.parse_exclude($1), $2) r
$$;
comment on function recdb.recommend_batch(text, bigint) is
    'recommend_batch() for user ids that arrive as text: {a,b}, <a,b>, <>, an empty string or a JSON array.';


-- recdb.recommend_batch for an array of numbers.
--   parameters  the users; k, as recommend_batch()
--   returns, reads, errors  as recommend_batch()
create or replace function recdb.recommend_batch(numeric[], k bigint default 50)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable rows 1000
as $$
    select r.user_id, r.rank, r.item_id, r.score, r.reason
    from recdb.recommend_batch(recdb.id_texts($1), $2) r
$$;
comment on function recdb.recommend_batch(numeric[], bigint) is
    'recommend_batch() for an array of integers or numbers.';


-- recdb.recommend_batch for an array of uuids.
--   parameters  the users; k, as recommend_batch()
--   returns, reads, errors  as recommend_batch()
create or replace function recdb.recommend_batch(uuid[], k bigint default 50)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable rows 1000
as $$
    select r.user_id, r.rank, r.item_id, r.score, r.reason
    from recdb.recommend_batch($1::pg_catalog.text[], $2) r
$$;
comment on function recdb.recommend_batch(uuid[], bigint) is
    'recommend_batch() for an array of uuids.';
