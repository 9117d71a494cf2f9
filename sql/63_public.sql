-- public.recommend: recdb.recommend() for the unqualified call.
--   parameters, returns, reads, errors  as recdb.recommend()
-- PostgreSQL inlines all forms, so they cost nothing. Their comments begin with "recdb: ", which an application's own
-- function of that name does not have.
--
-- PostgREST exposes schema public, and finds a function by the names of its arguments (61_any_ids_lists). The first two
-- forms are for it: their types can be read from JSON. In all others a parameter has no name, so that PostgREST cannot
-- find them. In SQL too, what public.recommend() takes by name is therefore text, but for candidates beside a user id
-- that is a number or a uuid. recdb.recommend() takes any type.
-- exclude is no anycompatiblearray here: beside text[], an untyped literal would fit both.
do $$
declare
    form record;
    any_id constant text := 'recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1))';
    any_ids constant text := 'recdb.id_texts($%1$s::pg_catalog.text[], pg_catalog.pg_typeof($%1$s))';
begin
    for form in
        select *
        from (values
            ('user_id text, k bigint default 50, exclude text[] default ''{}''', 'text, bigint, text[]', '$1', '$3',
                'text[]', 'the best k items for a user; the same as recdb.recommend(). By name, ids are text.'),
            ('user_id text, k bigint, exclude_list text', 'text, bigint, text', '$1', 'recdb.parse_exclude($3)',
                'text[]', 'the best k items for a user; the same as recdb.recommend(). By name, ids are text.'),
            ('anynonarray, k bigint default 50, exclude text[] default ''{}''', 'anynonarray, bigint, text[]',
                any_id, '$3', 'text[]',
                'recommend() for a user id that is no text, such as a bigint or a uuid.'),
            ('anynonarray, k bigint, exclude_list text', 'anynonarray, bigint, text',
                any_id, 'recdb.parse_exclude($3)', 'text[]',
                'recommend() with exclude_list, for a user id that is no text.'),
            ('anycompatiblenonarray, k bigint, numeric[]', 'anycompatiblenonarray, bigint, numeric[]',
                any_id, format(any_ids, 3), 'numeric[]',
                'recommend() for a user id of any type, if the excluded ids are an array of integers or numbers.'),
            ('anycompatiblenonarray, k bigint, uuid[]', 'anycompatiblenonarray, bigint, uuid[]',
                any_id, format(any_ids, 3), 'uuid[]',
                'recommend() for a user id of any type, if the excluded ids are an array of uuids.'),
            ('anycompatiblenonarray, k bigint, jsonb', 'anycompatiblenonarray, bigint, jsonb', any_id,
                'recdb.parse_exclude($3::pg_catalog.text)', 'text[]',
                'recommend() for a user id of any type, if the excluded ids are a JSON array of type jsonb.')
        ) f(parameters, types, user_id, exclude, among, comment)
        union all
        select format(f.parameters, t.id), format(f.types, t.id), '$1::pg_catalog.text', f.exclude, t.among,
            format('recommend() for a user id of type %s, and candidates of type %s.', t.id, t.among)
        from (values
            ('%s, k bigint default 50, exclude text[] default ''{}''', '%s, bigint, text[]', '$3'),
            ('%s, k bigint, exclude_list text', '%s, bigint, text', 'recdb.parse_exclude($3)')
        ) f(parameters, types, exclude)
        cross join (values
            ('smallint', 'numeric[]'), ('integer', 'numeric[]'), ('bigint', 'numeric[]'), ('uuid', 'uuid[]')
        ) t(id, among)
    loop
        execute format(
            'create or replace function public.recommend('
            '%s, fallback text default ''none'', filter jsonb default null, model text default null, '
            'among %s default null, scenario text default null, segment jsonb default null) '
            'returns table (item_id text, score double precision, reason text, model_version text) '
            'language sql stable rows 50 as %L',
            form.parameters, form.among, format(
                'select r.item_id, r.score, r.reason, r.model_version '
                'from recdb.list_for_user(%s, $2, %s, $4, $5, $6, %s, $8, $9) r', form.user_id, form.exclude,
                case when form.among = 'text[]' then '$7' else format(any_ids, 7) end));
        execute format(
            'comment on function public.recommend(%s, text, jsonb, text, %s, text, jsonb) is %L',
            form.types, form.among, 'recdb: ' || form.comment);
    end loop;
end
$$;
