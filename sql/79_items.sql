-- The reading of embeddings, which say how alike items are; and the catalogue as analysts read it.


-- recdb.clean_embedding: an embedding, if it can be compared with others.
--   parameters  embedding  numbers of any source
--   returns     the same numbers; NULL unless they are 1 to 4,000 finite numbers, as pgvector can index them, and not
--               all of them 0: a vector without a direction is like nothing
-- PostgreSQL would inline a function in SQL, and compute its argument once for each condition.
create or replace function recdb.clean_embedding(embedding real[])
returns real[]
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
    return case
        when array_ndims(embedding) = 1
            and cardinality(embedding) between 1 and 4000
            and array_position(embedding, null::real) is null
            and not ('NaN'::real = any (embedding))
            and not ('Infinity'::real = any (embedding))
            and not ('-Infinity'::real = any (embedding))
            and not (0::real = all (embedding))
        then embedding
    end;
end
$$;
comment on function recdb.clean_embedding(real[]) is
    'Internal: an embedding; NULL for one that cannot be compared: wider than 4,000, not finite, or all 0.';


-- recdb.round_embedding: an embedding from numbers of double precision.
--   parameters  numbers  the numbers
--   returns     as clean_embedding(); NULL too if a number is too large for real. One too small for it is 0
create or replace function recdb.round_embedding(numbers double precision[])
returns real[]
language sql immutable parallel safe
begin atomic
    select case when bool_and(abs(n.number) <= 3.4e38) then recdb.clean_embedding(
        array_agg(case
            when abs(n.number) < 1.2e-38 then 0::real
            when abs(n.number) <= 3.4e38 then n.number::real
        end order by n.place)) end
    from unnest(round_embedding.numbers) with ordinality n(number, place)
    where array_ndims(round_embedding.numbers) = 1 and cardinality(round_embedding.numbers) <= 4000;
end;
comment on function recdb.round_embedding(double precision[]) is
    'Internal: an embedding from numbers of double precision; NULL for one that cannot be compared.';


-- recdb.parse_embedding: an embedding from a text such as [0.1, -2e-3], which is also the text of a JSON array, of a
-- vector and, with other brackets, of an SQL array.
--   parameters  numbers  the text
--   returns     as round_embedding(); NULL, never an error, for a text that is no list of numbers
create or replace function recdb.parse_embedding(numbers text)
returns real[]
language sql immutable parallel safe
begin atomic
    -- No number that the pattern lets through is out of the range of double precision.
    select case
        when ',' || t.list
            ~ '^(,\s*[-+]?([0-9]{1,20}([.][0-9]{0,40})?|[.][0-9]{1,40})([eE][-+]?[0-9]{1,2})?\s*)+$'::text
        then recdb.round_embedding(('{' || t.list || '}')::double precision[])
    end
    from (select btrim(parse_embedding.numbers, E'[]{} \t\r\n') as list) t
    where length(parse_embedding.numbers) <= 400000;
end;
comment on function recdb.parse_embedding(text) is
    'Internal: an embedding from a text such as [0.1, -2e-3]; NULL for a text that is no list of numbers.';


-- recdb.is_vector: whether a type is vector or halfvec of pgvector.
--   parameters  type  the type
--   returns     true or false
--   reads       the system catalogues: a type of an application may be called vector too
create or replace function recdb.is_vector(type oid)
returns boolean
language sql stable
begin atomic
    select exists (
        select from pg_catalog.pg_type t
        join pg_catalog.pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
        join pg_catalog.pg_extension e on e.oid = d.refobjid and e.extname = 'vector'
        where t.oid = is_vector.type and t.typname in ('vector', 'halfvec'));
end;
comment on function recdb.is_vector(oid) is
    'Internal: whether a type is vector or halfvec of pgvector.';


-- recdb.as_embedding: the SQL that reads an embedding from a column of some type.
--   parameters  expression  an SQL expression of that type
--               type        vector or halfvec of pgvector, an array of numbers, or a text or JSON as '[0.1, 0.2]'
--   returns     an SQL expression of type real[]; NULL for a type that recdb does not read as embeddings
create or replace function recdb.as_embedding(expression text, type regtype)
returns text
language sql stable
begin atomic
    select case
        when as_embedding.type = 'real[]'::regtype then
            format('recdb.clean_embedding(%s)', as_embedding.expression)
        when as_embedding.type = 'double precision[]'::regtype then
            format('recdb.round_embedding(%s)', as_embedding.expression)
        when as_embedding.type in (
                'numeric[]'::regtype, 'integer[]'::regtype, 'bigint[]'::regtype, 'smallint[]'::regtype,
                'text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype) then
            format('recdb.parse_embedding(%s::text)', as_embedding.expression)
        when recdb.is_vector(as_embedding.type) then
            format('recdb.clean_embedding(%s::real[])', as_embedding.expression)
    end;
end;
comment on function recdb.as_embedding(text, regtype) is
    'Internal: the SQL that reads an embedding from a column of some type; NULL for a type that holds none.';


-- recdb.show_embedding: the embedding of an item, for the view that analysts read.
--   parameters  id  the item
--   returns     as read_item(), with the rights of recdb's owner
--   errors      as refuse_broken(), but where there is Citus
-- Citus ends a session in which a function with an exception block runs while it sends rows to another node. So there,
-- an embedding that cannot be read has PostgreSQL's own error; the view has read the rest of the catalogue before.
create or replace function recdb.show_embedding(id text)
returns real[]
language plpgsql stable security definer cost 1000
set search_path from current
as $$
begin
    if to_regclass('pg_catalog.pg_dist_partition') is null then
        return recdb.try_embedding(id);
    end if;
    perform recdb.check_sources();
    return (select s.embedding from recdb.read_item(id) s limit 1);
end
$$;
comment on function recdb.show_embedding(text) is
    'Internal: the embedding of an item, for the view items.';


-- recdb.try_embedding: show_embedding() where there is no Citus.
--   parameters, returns  as show_embedding()
--   errors      as refuse_broken()
create or replace function recdb.try_embedding(id text)
returns real[]
language plpgsql stable cost 1000
as $$
begin
    perform recdb.check_sources();
    return (select s.embedding from recdb.read_item(id) s limit 1);
exception when others then
    perform recdb.refuse_lost_items(sqlstate);
    perform recdb.refuse_unreadable(sqlstate);
    raise;
end
$$;
comment on function recdb.try_embedding(text) is
    'Internal: the embedding of an item, where there is no Citus.';


-- recdb.refuse_lost_items: refuse_broken() for a reader of the catalogue: a lost table of interactions is named only
-- if there is nothing else to name.
--   parameters  state  the SQLSTATE of the error that the reader met
--   errors      as refuse_broken(), if something is missing that the catalogue needs
create or replace function recdb.refuse_lost_items(state text)
returns void
language plpgsql stable
as $$
declare
    lost record;
begin
    if left(state, 2) not in ('42', '3F') then
        return;
    end if;
    perform recdb.check_sources();
    select b.problem, b.hint into lost
    from recdb.broken() with ordinality b(problem, hint, place)
    order by b.problem ~ ', which is attached as (interactions|impressions): ', b.place
    limit 1;
    if found then
        raise exception '%', lost.problem using errcode = 'object_not_in_prerequisite_state', hint = lost.hint;
    end if;
end
$$;
comment on function recdb.refuse_lost_items(text) is
    'Internal: error 55000 with the missing part, the attached tables of interactions last.';


-- recdb.show_items: the catalogue, for the view that analysts read.
--   returns     as read_items(), without the embeddings, with the rights of recdb's owner
--   errors      as refuse_broken()
create or replace function recdb.show_items()
returns table (
    item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text
)
language plpgsql stable security definer
set search_path from current
as $$
begin
    perform recdb.check_sources();
    return query
    select s.item_id, s.owner_id, s.published_at, s.available, s.attributes, s.title from recdb.read_items() s;
exception when others then
    perform recdb.refuse_lost_items(sqlstate);
    perform recdb.refuse_unreadable(sqlstate);
    raise;
end
$$;
comment on function recdb.show_items() is 'Internal: the catalogue, for the view that analysts read.';


-- recdb.show_item: the row of the catalogue for one item, for item_of().
--   parameters  id  the item
--   returns     as read_item(), with the rights of recdb's owner
--   errors      as refuse_broken()
create or replace function recdb.show_item(id text)
returns table (
    item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text,
    embedding real[]
)
language plpgsql stable security definer rows 1
set search_path from current
as $$
begin
    perform recdb.check_sources();
    return query
    select s.item_id, s.owner_id, s.published_at, s.available, s.attributes, s.title, s.embedding
    from recdb.read_item(id) s;
exception when others then
    perform recdb.refuse_lost_items(sqlstate);
    perform recdb.refuse_unreadable(sqlstate);
    raise;
end
$$;
comment on function recdb.show_item(text) is 'Internal: the row of the catalogue for one item, for item_of().';


-- recdb.item_of: the row of the catalogue for one item.
--   parameters  item_id  the item
--   returns     one row, as the view items has it, or none
--   reads       show_item()
create or replace function recdb.item_of(item_id text)
returns table (
    item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text,
    embedding real[]
)
language sql stable rows 1
begin atomic
    select s.item_id, s.owner_id, s.published_at, s.available, s.attributes, s.title, s.embedding
    from recdb.show_item(item_of.item_id) s;
end;
comment on function recdb.item_of(text) is
    'The row of the catalogue for one item, read through an index of recdb.item and of each attached table.';


-- recdb.item_of for an id of any type; 61_any_ids_lists has the rules for such forms.
--   parameters  item_id  of any type
--   returns, reads  as item_of()
create or replace function recdb.item_of(item_id anynonarray)
returns table (
    item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text,
    embedding real[]
)
language sql stable rows 1
as $$
    select r.item_id, r.owner_id, r.published_at, r.available, r.attributes, r.title, r.embedding
    from recdb.item_of(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1))) r
$$;
comment on function recdb.item_of(anynonarray) is
    'item_of() for an item id that is no text, such as a bigint or a uuid.';
