-- What a text is worth as a value of another type, asked before the cast that would fail.


-- recdb.is_input: tell whether a text is a value of a type, as pg_input_is_valid() does from PostgreSQL 16 on.
--   parameters  input  the text
--               type   the type's name
--   returns     true if the cast succeeds; NULL for NULL
-- A block that catches errors takes about a microsecond. No parallel worker may run one before PostgreSQL 17.
create or replace function recdb.is_input(input text, type text)
returns boolean
language plpgsql stable strict
set search_path from current
as $$
declare
    as_array text[];
    as_boolean boolean;
    as_json jsonb;
    as_time timestamptz;
begin
    if type = 'timestamptz' then
        as_time := input::timestamptz;
    elsif type = 'jsonb' then
        as_json := input::jsonb;
    elsif type = 'boolean' then
        as_boolean := input::boolean;
    elsif type = 'text[]' then
        as_array := input::text[];
    else
        execute format('select $1::%s', type::regtype) using input;
    end if;
    return true;
exception
    when data_exception or program_limit_exceeded then
        return false;
end
$$;
comment on function recdb.is_input(text, text) is
    'Internal: whether a text is a value of a type: true if its cast would succeed, false if it would fail.';


-- recdb.path_without_texts: the text of a JSON path, with empty strings and quoted names.
--   parameters  path  a JSON path
--   returns     such as $."" < $"" for $.price < $max
create or replace function recdb.path_without_texts(path jsonpath)
returns text
language sql immutable parallel safe
begin atomic
    select regexp_replace(path_without_texts.path::text, E'"(?:[^"\\\\]|\\\\.)*"', '""', 'g');
end;
comment on function recdb.path_without_texts(jsonpath) is
    'Internal: the text of a JSON path, with empty strings and quoted names.';


-- recdb.filter_path: the JSON path that a filter is.
--   parameters  filter  the caller's argument
--   returns     the path, as a condition, if the filter is a JSON string; NULL if it is none
--   errors      22023 if the string is not a JSON path, or if the path has a variable
-- A path that ends with a filter expression, ? (...), is no condition: it becomes one, which is true if it finds
-- anything. A path is tried once, but a variable may be in a part that an item without attributes does not reach: so it
-- is looked for in the text of the path.
create or replace function recdb.filter_path(filter jsonb)
returns jsonpath
language plpgsql immutable
as $$
declare
    path jsonpath;
    found boolean;
begin
    if filter is null or jsonb_typeof(filter) <> 'string' then
        return null;
    end if;
    path := (filter #>> '{}'::text[])::jsonpath;
    if path::text ~ '^(strict )?[$].*[?][(].*[)]$' then
        path := regexp_replace(path::text, '^(strict )?(.*)$', '\1exists(\2)')::jsonpath;
    end if;
    if strpos(path::text, '$"') > 0 and strpos(recdb.path_without_texts(path), '$"') > 0 then
        raise exception 'it has a variable, and nothing gives it a value';
    end if;
    found := '{}'::jsonb @@ path;
    return path;
exception when others then
    raise exception 'filter is not a JSON path: %', sqlerrm
        using errcode = 'invalid_parameter_value',
            hint = 'A path is a condition, such as $.price < 20 && $.lang == "de". An object is compared as it is.';
end
$$;
comment on function recdb.filter_path(jsonb) is
    'Internal: the JSON path that a filter is, as a condition; NULL if the filter is no JSON string. Error 22023 if '
    'the string is not a JSON path.';


-- recdb.matches: tell whether an item's attributes meet a filter.
--   parameters  attributes  of the item
--               filter      the caller's filter; NULL is met by all
--               path        filter_path() of the filter
--   returns     true, false, or NULL if the attributes are missing or a path finds no answer
create or replace function recdb.matches(attributes jsonb, filter jsonb, path jsonpath)
returns boolean
language sql immutable
begin atomic
    select case when matches.filter is null then true
        when matches.path is null then matches.attributes @> matches.filter
        else matches.attributes @@ matches.path end;
end;
comment on function recdb.matches(jsonb, jsonb, jsonpath) is
    'Internal: whether an item''s attributes meet a filter: an object that they contain, or a JSON path that is true.';
