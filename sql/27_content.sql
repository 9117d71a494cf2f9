-- The content of items: the tokens that it consists of, and where it places an item that a model version has not seen.


-- recdb.item_tokens: the words, attributes and owner of an item, as numbers.
--   parameters  owner_id, title, attributes  as in the catalogue; each may be NULL
--   returns     a number for each of them, once
-- A list in the attributes counts element by element, an object by its values. A value of more than 60 characters is a
-- text, of which the words count. Training, serving and `recdb embed` all call this function, so they always agree. In
-- a database of the locale C, PostgreSQL knows the letters of ASCII only: the ranges name those of other scripts.
create or replace function recdb.item_tokens(owner_id text, title text, attributes jsonb)
returns table (token bigint)
language sql immutable parallel safe
begin atomic
    with value as (
        select a.key, lower(v.value #>> '{}'::text[]) as text
        from jsonb_each(
            case when jsonb_typeof(item_tokens.attributes) = 'object' then item_tokens.attributes end) a
        cross join lateral jsonb_path_query(a.value, 'strict $.**'::jsonpath) v(value)
        where jsonb_typeof(v.value) in ('string', 'number', 'boolean')
    )
    select distinct hashtextextended(t.text, 0::bigint)
    from (
        select 'owner=' || item_tokens.owner_id as text
        union all
        select v.key || '=' || v.text from value v where length(v.text) between 1 and 60
        union all
        select 'word=' || w.word
        from (
            select item_tokens.title as text
            union all
            select v.text from value v where length(v.text) > 60
        ) s
        cross join lateral regexp_split_to_table(
            lower(left(s.text, 20000)),
            '[^[:alnum:]\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u1fff\u2c00-\u2dff\u3005-\u3007\u3041-\ud7ff\uf900-\ufdff'
            '\ufe70-\ufefe\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc\U00010000-\U0001efff'
            '\U00020000-\U0003ffff]+') w(word)
        where w.word <> ''
    ) t
    where t.text is not null;
end;
comment on function recdb.item_tokens(text, text, jsonb) is
    'Internal: the words, attributes and owner of an item, as numbers that training and serving compare.';


-- recdb.place_item: where the content of an item places it among the items that a model version has seen.
--   parameters  model_id   the version
--               tokens     of item_tokens()
--               embedding  of the catalogue; NULL for none
--   returns     a unit vector in the space of content_vector; NULL if the version knows nothing of the content
--   reads       content_token by key
create or replace function recdb.place_item(model_id integer, tokens bigint[], embedding real[])
returns @vector@.vector
language sql stable
begin atomic
    select case when @vector@.vector_norm(s.total) > 1e-9::double precision then @vector@.l2_normalize(s.total) end
    from (
        select @vector@.sum(c.embedding::@vector@.vector operator(@vector@.*)
            array_fill(p.factor::real, array[cardinality(c.embedding)])::@vector@.vector) as total
        from (
            select t.token, 1 / nullif(sqrt(sum(c.weight::double precision * c.weight::double precision) over ()), 0)
                as factor
            from unnest(place_item.tokens) t(token)
            join recdb.content_token c on c.model_id = place_item.model_id and c.token = t.token
            union all
            select -e.place, e.value::double precision / nullif(sqrt(sum(
                e.value::double precision * e.value::double precision) over ()), 0)
            from unnest(place_item.embedding) with ordinality e(value, place)
        ) p
        join recdb.content_token c on c.model_id = place_item.model_id and c.token = p.token
        where abs(p.factor) > 1e-9::double precision
    ) s;
end;
comment on function recdb.place_item(integer, bigint[], real[]) is
    'Internal: the unit vector of an item from its content, under a model version; NULL if the version knows nothing '
    'of it.';
