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
