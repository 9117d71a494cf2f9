-- Ids of any type, for the functions that give lists.
--
-- A function that takes ids has a form for text and forms for other types, with the same names of arguments. Such a
-- form only turns the ids into text and calls the function for text, and PostgreSQL inlines it. These are the rules:
--   - PostgreSQL prefers a text parameter for an untyped literal, and for a value of type text, varchar or name. So an
--     untyped id goes to the form for text.
--   - An array of ids is anycompatiblearray: PostgreSQL takes text[] for an untyped literal there, and any array as it
--     is. anyarray takes no untyped literal, so it needs a form for text beside it. A text[] beside either of them
--     would make calls ambiguous.
--   - A form with anynonarray or anyarray for one id and anycompatiblearray for the others takes two types in one call.
--   - PostgREST chooses a function by the names of its arguments. It needs types that it can read from JSON, and
--     refuses a call that fits two forms. So public.recommend() has other forms (63_public), and schema recdb is not to
--     be exposed.
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
        return case
            when jsonb_typeof(value::jsonb) = 'number' then trim_scale(value::jsonb::numeric)::text
            else value::jsonb #>> '{}'::text[]
        end;
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


-- recdb.convert_ids: ids of a type whose text is not the id.
--   parameters  list  the ids, cast to text
--               type  the type of the array before the cast
--   returns     the ids, as convert_id() gives them, in the same order; NULL for NULL
--   errors      those of convert_id()
create or replace function recdb.convert_ids(list text[], type regtype)
returns text[]
language plpgsql stable parallel safe
set search_path from current
as $$
declare
    element constant regtype := (select t.typelem from pg_type t where t.oid = convert_ids.type);
begin
    return case when list is not null then array(
        select recdb.convert_id(n.id, element) from unnest(list) with ordinality n(id, position) order by n.position)
    end;
end
$$;
comment on function recdb.convert_ids(text[], regtype) is
    'Internal: ids of a type whose text is not the id; error 22023 for rows of a table.';


-- recdb.id_texts: ids as text.
--   parameters  list, type  as convert_ids()
--   returns     the ids, as convert_ids() gives them
--   errors      those of convert_ids()
create or replace function recdb.id_texts(list text[], type regtype)
returns text[]
language sql stable parallel safe
begin atomic
    select case
        when id_texts.type in (
            'numeric[]'::regtype, 'double precision[]'::regtype, 'real[]'::regtype, 'jsonb[]'::regtype,
            'json[]'::regtype)
            or id_texts.list[1] like '(%' then recdb.convert_ids(id_texts.list, id_texts.type)
        else id_texts.list
    end;
end;
comment on function recdb.id_texts(text[], regtype) is
    'Internal: ids of any type as text: 42 for the number 42.0, and the strings in JSON values.';


-- recdb.recommend for a user id of any type.
--   parameters  user_id, exclude  of any type; others as recommend()
--   returns, reads, errors  as recommend()
create or replace function recdb.recommend(
    user_id anynonarray, k bigint default 50, exclude anycompatiblearray default '{}'::text[],
    fallback text default 'none', filter jsonb default null, model text default null, among text[] default null,
    scenario text default null, segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_user(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2,
        recdb.id_texts($3::pg_catalog.text[], pg_catalog.pg_typeof($3)), $4, $5, $6, $7, $8, $9) r
$$;
comment on function recdb.recommend(anynonarray, bigint, anycompatiblearray, text, jsonb, text, text[], text, jsonb) is
    'recdb: recommend() for a user id that is no text, such as a bigint or a uuid.';


-- recdb.recommend for a user id of any type, and excluded ids in a text.
--   parameters  user_id  of any type; others as recommend() with exclude_list
--   returns, reads, errors  as recommend()
create or replace function recdb.recommend(
    user_id anynonarray, k bigint, exclude_list text, fallback text default 'none', filter jsonb default null,
    model text default null, among text[] default null, scenario text default null, segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_user(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2, recdb.parse_exclude($3), $4, $5, $6,
        $7, $8, $9) r
$$;
comment on function recdb.recommend(anynonarray, bigint, text, text, jsonb, text, text[], text, jsonb) is
    'recdb: recommend() with exclude_list, for a user id that is no text.';


-- recdb.recommend for a user id of any type, and excluded ids in a jsonb.
--   parameters  user_id  of any type; exclude_list  a JSON array; others as recommend() with exclude_list
--   returns, reads, errors  as recommend() with exclude_list
create or replace function recdb.recommend(
    user_id anycompatiblenonarray, k bigint, exclude_list jsonb, fallback text default 'none',
    filter jsonb default null, model text default null, among text[] default null, scenario text default null,
    segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_user(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2,
        recdb.parse_exclude($3::pg_catalog.text), $4, $5, $6, $7, $8, $9) r
$$;
comment on function recdb.recommend(anycompatiblenonarray, bigint, jsonb, text, jsonb, text, text[], text, jsonb) is
    'recdb: recommend() with exclude_list, for a JSON array of type jsonb and a user id of any type.';


-- recdb.recommend_for_items for items in a text.
--   parameters  items  as parse_exclude() reads them; others as recommend_for_items()
--   returns, reads, errors  as recommend_for_items(); 22P02 for a text in another spelling
create or replace function recdb.recommend_for_items(
    items text, k bigint default 50, exclude anycompatiblearray default '{}'::text[], weights real[] default null,
    fallback text default 'none', filter jsonb default null, model text default null, among text[] default null,
    scenario text default null, segment jsonb default null
)
returns table (item_id text, score double precision, reason text, model_version text)
language sql stable rows 50
as $$
    select r.item_id, r.score, r.reason, r.model_version
    from recdb.list_for_items(
        recdb.parse_exclude($1), $2, recdb.id_texts($3::pg_catalog.text[], pg_catalog.pg_typeof($3)),
        $4, $5, $6, $7, $8, $9, $10) r
$$;
comment on function recdb.recommend_for_items(
    text, bigint, anycompatiblearray, real[], text, jsonb, text, text[], text, jsonb) is
    'recommend_for_items() for items that arrive as text: {a,b}, <a,b>, <>, an empty string or a JSON array.';


-- recdb.recommend_batch for users in a text.
--   parameters  user_list  the users, as parse_exclude() reads them; among  an array of ids of any type; others as
--               recommend_batch()
--   returns, reads, errors  as recommend_batch(); 22P02 for a text in another spelling
create or replace function recdb.recommend_batch(
    user_list text, k bigint default 50, fallback text default 'none', filter jsonb default null,
    model text default null, among anycompatiblearray default null::text[], scenario text default null,
    segment jsonb default null
)
returns table (user_id text, rank bigint, item_id text, score double precision, reason text)
language sql stable rows 1000
as $$
    select r.user_id, r.rank, r.item_id, r.score, r.reason
    from recdb.lists_for_users(
        recdb.parse_exclude($1), $2, $3, $4, $5,
        recdb.id_texts($6::pg_catalog.text[], pg_catalog.pg_typeof($6)), $7, $8) r
$$;
comment on function recdb.recommend_batch(text, bigint, text, jsonb, text, anycompatiblearray, text, jsonb) is
    'recommend_batch() for user ids that arrive as text: {a,b}, <a,b>, <>, an empty string or a JSON array.';


-- recdb.recommend for a user id and candidates that are both numbers, or both uuids.
--   parameters  user_id  a smallint, integer, bigint or uuid; among  numbers, or uuids; others as recommend(), or as
--               recommend() with exclude_list
--   returns, reads, errors  as those
-- In the forms above, candidates are text. A function has two families of polymorphic types, and here three arguments
-- may each have a type of their own. So the user id has a type by name, and the candidates the type that takes all of
-- its kind. 63_public has the same forms.
do $$
declare
    form record;
begin
    for form in
        select t.id, t.among, f.exclude, f.type, f.ids
        from (values
            ('k bigint default 50, exclude anycompatiblearray default ''{}''::text[]', 'anycompatiblearray',
                'recdb.id_texts($3::pg_catalog.text[], pg_catalog.pg_typeof($3))'),
            ('k bigint, exclude_list text', 'text', 'recdb.parse_exclude($3)')
        ) f(exclude, type, ids)
        cross join (values
            ('smallint', 'numeric'), ('integer', 'numeric'), ('bigint', 'numeric'), ('uuid', 'uuid')
        ) t(id, among)
    loop
        execute format(
            'create or replace function recdb.recommend('
            'user_id %s, %s, fallback text default ''none'', filter jsonb default null, model text default null, '
            'among %s[] default null, scenario text default null, segment jsonb default null) '
            'returns table (item_id text, score double precision, reason text, model_version text) '
            'language sql stable rows 50 %s', form.id, form.exclude, form.among, format(
                case form.type when 'text' then 'begin atomic %s; end' else 'as %L' end, format(
                'select r.item_id, r.score, r.reason, r.model_version '
                'from recdb.list_for_user($1::pg_catalog.text, $2, %s, $4, $5, $6, '
                'recdb.id_texts($7::pg_catalog.text[], pg_catalog.pg_typeof($7)), $8, $9) r', form.ids)));
        execute format(
            'comment on function recdb.recommend(%s, bigint, %s, text, jsonb, text, %s[], text, jsonb) is %L',
            form.id, form.type, form.among, format(
                'recdb: recommend() for a user id of type %s, and candidates of type %s[].', form.id, form.among));
    end loop;
end
$$;


-- recdb.recommend_for_items for candidates that are numbers or uuids.
--   parameters  items  an array of numbers, or of uuids, or a text as parse_exclude() reads them; among  numbers, or
--               uuids; others as recommend_for_items()
--   returns, reads, errors  as recommend_for_items()
-- The forms above have two arguments of any type already, so here the items have a type by name, as the user id of
-- recommend(). Of items without a type PostgreSQL makes text; if the candidates do not fit the form for text, it takes
-- one of the two other types of the same category, which hardly any caller sends.
do $$
declare
    form record;
    any_ids constant text := 'recdb.id_texts($%1$s::pg_catalog.text[], pg_catalog.pg_typeof($%1$s))';
begin
    for form in
        select *
        from (values
            ('smallint[]', 'numeric[]', '$1::pg_catalog.text[]'), ('integer[]', 'numeric[]', '$1::pg_catalog.text[]'),
            ('bigint[]', 'numeric[]', '$1::pg_catalog.text[]'), ('uuid[]', 'uuid[]', '$1::pg_catalog.text[]'),
            ('bpchar', 'numeric[]', 'recdb.parse_exclude($1::pg_catalog.text)'),
            ('information_schema.character_data', 'uuid[]', 'recdb.parse_exclude($1::pg_catalog.text)')
        ) t(type, among, items)
    loop
        execute format(
            'create or replace function recdb.recommend_for_items('
            'items %s, k bigint default 50, exclude anycompatiblearray default ''{}''::text[], '
            'weights real[] default null, fallback text default ''none'', filter jsonb default null, '
            'model text default null, among %s default null, scenario text default null, segment jsonb default null) '
            'returns table (item_id text, score double precision, reason text, model_version text) '
            'language sql stable rows 50 as %L', form.type, form.among, format(
                'select r.item_id, r.score, r.reason, r.model_version '
                'from recdb.list_for_items(%s, $2, %s, $4, $5, $6, $7, %s, $9, $10) r',
                form.items, format(any_ids, 3), format(any_ids, 8)));
        execute format(
            'comment on function recdb.recommend_for_items('
            '%s, bigint, anycompatiblearray, real[], text, jsonb, text, %s, text, jsonb) is %L',
            form.type, form.among, format(
                'recommend_for_items() for items of type %s, and candidates of type %s.', form.type, form.among));
    end loop;
end
$$;
