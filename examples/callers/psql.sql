-- Run: psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -v user="$USER_ID" -f psql.sql
\set QUIET on
\pset format unaligned
\pset tuples_only on

select string_agg(item_id, ',' order by score desc, item_id) as posts from recommend(:'user', 5) \gset
select split_part(:'posts', ',', 1) as first \gset

\set expected 'with expected as (select unnest(string_to_array(:''posts'', '','')) as item_id) select '
\set same 'array_agg(item_id order by item_id) = (select array_agg(item_id order by item_id) from expected) from '

-- Every spelling that excludes nothing.
:expected :same recommend(:'user', 5, '{}') as r;
:expected :same recommend(:'user', 5, '<>') as r;
:expected :same recommend(:'user', 5, '') as r;
:expected :same recommend(:'user', 5, '[]') as r;
:expected :same recommend(:'user', 5, null) as r;
:expected :same recommend(:'user', 5, array[]::text[]) as r;
:expected :same recommend(:'user', 5, exclude => '{}') as r;

-- Every spelling that excludes one item.
select count(*) = 5 and bool_and(item_id <> :'first') from recommend(:'user', 5, array[:'first']) as r;
select count(*) = 5 and bool_and(item_id <> :'first') from recommend(:'user', 5, '{' || :'first' || '}') as r;
select count(*) = 5 and bool_and(item_id <> :'first') from recommend(:'user', 5, '<' || :'first' || '>') as r;
select count(*) = 5 and bool_and(item_id <> :'first') from recommend(:'user', 5, '["' || :'first' || '"]') as r;
select count(*) = 5 and bool_and(item_id <> :'first') from recommend(:'user', 5, exclude => array[:'first']) as r;
