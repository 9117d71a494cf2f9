-- The content of items: the tokens that it consists of, and where it places an item that a model version has not seen.


-- recdb.place_item: where the content of an item places it among the items that a model version has seen.
--   parameters  model_id   the version
--               tokens     of item_tokens()
--               embedding  of the catalogue; NULL for none
--   returns     a unit vector in the space of content_vector; NULL if the version knows nothing of the content
--   reads       content_token by key
-- An embedding of another width than the version learned from counts for nothing. The version has the tokens -1, -2 and
-- so on up to minus that width.
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
            where exists (
                select from recdb.content_token w
                where w.model_id = place_item.model_id and w.token = -cardinality(place_item.embedding))
              and not exists (
                select from recdb.content_token w
                where w.model_id = place_item.model_id and w.token = -cardinality(place_item.embedding) - 1)
        ) p
        join recdb.content_token c on c.model_id = place_item.model_id and c.token = p.token
        where abs(p.factor) > 1e-9::double precision
    ) s;
end;
comment on function recdb.place_item(integer, bigint[], real[]) is
    'Internal: the unit vector of an item from its content, under a model version; NULL if the version knows nothing '
    'of it.';
