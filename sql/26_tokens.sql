-- The content of an item as numbers: the words, the attributes and the owner that items may have in common.


-- recdb.item_tokens: the words, attributes and owner of an item, as numbers.
--   parameters  owner_id, title, attributes  as in the catalogue; each may be NULL
--   returns     a number for each of them, once
-- Training, serving and `recdb embed` all call this function, so they always agree. Of attributes:
--   A list counts element by element, an object by its values, and a value is divided at | ; , and the like, unless it
--   is one number such as 1,234. A part counts without the space around it, in lower case; 1 and 1.0 are the same.
--   A value in which three words follow each other, or three letters of a script without spaces, is a text: its words
--   count too, like those of the title. If it has more than 60 characters, its words alone count.
--   Han, kana, Thai, Lao, Burmese and Khmer letters count in pairs of neighbours.
-- The first 1,000 values, 2,000 parts and 20,000 characters of text count; of attributes of more than 50,000 bytes, no
-- lists within lists. A subquery with `offset 0` is computed once, however often it is named. In a database of the
-- locale C, PostgreSQL knows the letters of ASCII only: the ranges name those of other scripts.
create or replace function recdb.item_tokens(owner_id text, title text, attributes jsonb)
returns table (token bigint)
language sql immutable parallel safe
begin atomic
    with value as (
        select v.key, v.text, v.divided,
            case when strpos(v.divided, ' ') > 0 or octet_length(v.divided) > length(v.divided) then
                v.divided ~ ('[^[:space:],]+[[:space:]]+[^[:space:],]+[[:space:]]+[^[:space:],]|'
                    '[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
                    '\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]{3}')
                else false end as is_text
        from (
            select n.key, n.text, case
                when strpos(n.text, ',') > 0 and n.text ~ '^[+-]?[0-9]{1,3}(,[0-9]{3})+([.][0-9]+)?$'
                    then replace(n.text, ',', '')
                when strpos(n.text, ',') > 0 and n.text ~ '^[+-]?[0-9]+,[0-9]+$' then replace(n.text, ',', '.')
                when strpos(n.text, ' ') > 0 or octet_length(n.text) > length(n.text)
                    then regexp_replace(n.text, '[|;\n\u3001\uff0c\uff1b\uff5c]| [/>] ', ',', 'g')
                else translate(n.text, E'|;\n', ',,,') end as divided
            from (
                select a.key, case jsonb_typeof(v.value)
                    when 'number' then trim_scale(v.value::numeric)::text
                    else lower(left(v.value #>> '{}'::text[], 20000)) end as text
                from jsonb_each(
                    case when jsonb_typeof(item_tokens.attributes) = 'object' then item_tokens.attributes end) a
                cross join lateral jsonb_path_query(
                    a.value, case when octet_length(item_tokens.attributes::text) > 50000 then 'lax $[0 to 999]'
                        else 'lax $.**' end::jsonpath) v(value)
                where jsonb_typeof(v.value) in ('string', 'number', 'boolean')
                limit 1000
            ) n
            offset 0
        ) v
    ), word as (
        select w.word, case when octet_length(w.word) > length(w.word) then
            w.word ~ ('^[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
                '\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]{3}') else false end as in_pairs
        from (
            select lower(left(concat_ws(
                ' ', item_tokens.title, (select string_agg(v.text, ' ') from value v where v.is_text)), 20000)) as text
            offset 0
        ) s
        cross join lateral regexp_split_to_table(
            case when octet_length(s.text) = length(s.text) then s.text else regexp_replace(
                s.text,
                '([\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf'
                '\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+)', ' \1 ', 'g') end,
            '[^[:alnum:]\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u1fff\u2c00-\u2dff\u3005-\u3007\u3041-\ud7ff\uf900-\ufdff'
            '\ufe70-\ufefe\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc\U00010000-\U0001efff'
            '\U00020000-\U0003ffff]+') w(word)
        where w.word <> ''
    )
    select distinct hashtextextended(t.text, 0::bigint)
    from (
        select 'owner=' || item_tokens.owner_id as text where item_tokens.owner_id is not null
        union all
        select p.key || '=' || case
            when strpos(p.part, '.') > 0 and p.part ~ '^[+-]?[0-9]+[.][0-9]*$' then trim_scale(p.part::numeric)::text
            else p.part end
        from (
            select v.key, case when strpos(s.part, ' ') > 0 or octet_length(s.part) > length(s.part)
                then btrim(regexp_replace(s.part, '[[:space:]\u00a0\u3000]+', ' ', 'g'))
                else btrim(s.part, E'\t\r') end as part
            from value v
            cross join lateral string_to_table(v.divided, ',') s(part)
            where not v.is_text or length(v.text) <= 60
            limit 2000
        ) p
        where length(p.part) between 1 and 60
        union all
        select 'word=' || w.word from word w where not w.in_pairs
        union all
        select 'word=' || substr(w.word, n.place, 2)
        from word w
        cross join lateral generate_series(1, length(w.word) - 1) n(place)
        where w.in_pairs
    ) t;
end;
comment on function recdb.item_tokens(text, text, jsonb) is
    'Internal: the words, attributes and owner of an item, as numbers that training and serving compare.';
