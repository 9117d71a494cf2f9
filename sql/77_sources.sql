-- Checks of the attached tables: their indexes, their policies, the tables that their items are numbered in, and the
-- tombstones that may go.


-- recdb.hidden_tables: the tables under a view whose row-level security may hide rows from recdb's owner.
--   parameters  relation  the view, or a table
--   returns     the tables. A table is not among them if a policy using (true) shows the owner every row and no
--               restrictive policy hides any
--   reads       the system catalogues
create or replace function recdb.hidden_tables(relation regclass)
returns setof regclass
language sql stable
begin atomic
    with policies as (
        select p.polrelid, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) = 'true' as open
        from pg_catalog.pg_policy p
        cross join pg_catalog.pg_namespace n
        where n.nspname = 'recdb' and p.polcmd in ('r', '*')
          and exists (
              select from unnest(p.polroles) g(role) where g.role = 0 or pg_has_role(n.nspowner, g.role, 'usage'))
    )
    select c.oid::regclass
    from recdb.beneath(hidden_tables.relation) b(oid)
    join pg_catalog.pg_class c on c.oid = b.oid
    join pg_catalog.pg_namespace n on n.nspname = 'recdb'
    join pg_catalog.pg_roles r on r.oid = n.nspowner
    where c.relrowsecurity and not r.rolsuper and not r.rolbypassrls
      and (c.relforcerowsecurity or not pg_has_role(r.oid, c.relowner, 'usage'))
      and (not exists (select from policies p where p.polrelid = c.oid and p.polpermissive and p.open)
          or exists (select from policies p where p.polrelid = c.oid and not p.polpermissive and not p.open));
end;
comment on function recdb.hidden_tables(regclass) is
    'Internal: the tables under a view whose row-level security may hide rows from the owner of schema recdb.';


-- recdb.hidden_sources: the tables that recdb reads and whose row-level security may hide rows from recdb's owner.
--   returns     one row per table, with the statement that lets the owner read all rows of it. Under a restrictive
--               policy that statement does not suffice: then the owner needs the attribute bypassrls
--   reads       attachment, the system catalogues
create or replace function recdb.hidden_sources()
returns table (relation text, statement text)
language sql stable security definer
set search_path from current
begin atomic
    select distinct t.relation,
        case
            when exists (
                select from pg_catalog.pg_policy p
                where p.polrelid = h.oid and not p.polpermissive and p.polcmd in ('r', '*'))
            then format('alter role %I bypassrls;', t.owner)
            else format('create policy recdb_reads on %s for select to %I using (true);', t.relation, t.owner)
        end
    from (
        select to_regclass(r.name) as oid
        from recdb.attachment a cross join lateral unnest(a.reads) r(name)
        where a.state = 'read'
        union
        select c.oid::regclass
        from pg_catalog.pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relname in ('interaction', 'item')
    ) v
    cross join lateral recdb.hidden_tables(v.oid) h(oid)
    cross join lateral (
        select format('%I.%I', n.nspname, c.relname) as relation, o.nspowner::regrole::name as owner
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_namespace o on o.nspname = 'recdb'
        where c.oid = h.oid
    ) t;
end;
comment on function recdb.hidden_sources() is
    'The tables that recdb reads and whose row-level security may hide rows from the owner of schema recdb, each with '
    'the statement that lets the owner read all rows. While there is one, refresh() and rebuild() refuse to run.';


-- recdb.missing_indexes: the indexes that attached tables lack; without them, recdb reads a whole table for a few rows.
--   returns     one row per index: the table, the reason, and the statement that creates the index
--   reads       attachment, the system catalogues
create or replace function recdb.missing_indexes()
returns table (attachment_id integer, relation text, reason text, statement text)
language sql stable
begin atomic
    select a.attachment_id, a.relation, w.reason,
        format('create index %son %s (%s);',
            case when c.relkind = 'p' then '' else 'concurrently ' end, a.relation, w.columns)
    from recdb.attachment a
    join pg_catalog.pg_class c on c.oid = to_regclass(a.relation) and c.relkind in ('r', 'm', 'p')
    cross join lateral (
        values
            (case when a.role <> 'impressions' then a.mapping ->> 'user' end,
                concat_ws(', ', quote_ident(a.mapping ->> 'user'), quote_ident(a.mapping ->> 'at')),
                'each recommendation reads the whole table for one user''s rows'),
            (a.mapping ->> 'at', quote_ident(a.mapping ->> 'at'),
                'each refresh reads the whole table for the new rows'),
            (case a.role when 'items' then a.mapping ->> 'item' end, quote_ident(a.mapping ->> 'item'),
                'each recommendation reads the whole table for one item''s row')
    ) w(key, columns, reason)
    where w.key is not null
      and not exists (
          select from pg_catalog.pg_index i
          join pg_catalog.pg_attribute t on t.attrelid = i.indrelid and t.attnum = i.indkey[0]
          where i.indrelid = c.oid and i.indisvalid and i.indpred is null and t.attname = w.key);
end;
comment on function recdb.missing_indexes() is
    'The indexes that attached tables lack: the table, why recdb needs the index, and the statement that creates it.';


-- recdb.mistaken_items: the attached tables whose item column refers, by a foreign key, to another table than the
-- catalogue, while both number their rows. Without a distinction, recdb would take person 7 for post 7.
--   returns     one row per table and catalogue: the column and the table that it refers to, the catalogue, and a
--               statement that makes a view with distinct ids; attach this view instead of the table
--   reads       attachment, the system catalogues
create or replace function recdb.mistaken_items()
returns table (
    attachment_id integer, catalogue_id integer, relation text, item_column text, refers_to text, catalogue text,
    statement text
)
language sql stable
begin atomic
    select a.attachment_id, i.attachment_id, a.relation, a.mapping ->> 'item', format('%I.%I', n.nspname, t.relname),
        i.relation,
        format('create view %I.%I as select %s, %L || %I as %I from %s;',
            s.nspname, c.relname || '_told_apart', kept.columns, t.relname || ' ', a.mapping ->> 'item',
            a.mapping ->> 'item', a.relation)
    from recdb.attachment a
    join pg_catalog.pg_class c on c.oid = to_regclass(a.relation)
    join pg_catalog.pg_namespace s on s.oid = c.relnamespace
    join pg_catalog.pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and cardinality(f.conkey) = 1
    join pg_catalog.pg_attribute k on k.attrelid = c.oid and k.attnum = f.conkey[1] and k.attname = a.mapping ->> 'item'
    join pg_catalog.pg_class t on t.oid = f.confrelid
    join pg_catalog.pg_namespace n on n.oid = t.relnamespace
    join recdb.attachment i on i.role = 'items' and to_regclass(i.relation) <> t.oid
    cross join lateral (
        select string_agg(quote_ident(m.name), ', ' order by m.place) as columns
        from (
            select v.name, min(v.place) as place
            from (
                values (1, a.mapping ->> 'user'), (2, a.mapping ->> 'kind'), (3, a.mapping ->> 'at'),
                    (4, a.mapping ->> 'scenario'), (5, a.mapping ->> 'place'), (6, a.mapping ->> 'variant'),
                    (7, a.mapping ->> 'propensity'), (8, a.mapping ->> 'model-version')
            ) v(place, name)
            where exists (
                select from pg_catalog.pg_attribute u
                where u.attrelid = c.oid and u.attname = v.name and u.attnum > 0)
            group by v.name
        ) m
    ) kept
    where a.role in ('interactions', 'impressions')
      and recdb.column_type(c.oid, a.mapping ->> 'item')
          in ('bigint'::regtype, 'integer'::regtype, 'smallint'::regtype)
      and recdb.column_type(to_regclass(i.relation), i.mapping ->> 'item')
          in ('bigint'::regtype, 'integer'::regtype, 'smallint'::regtype)
      and not exists (select from recdb.attachment o where o.role = 'items' and to_regclass(o.relation) = t.oid);
end;
comment on function recdb.mistaken_items() is
    'The attached tables whose item column refers to another table than the catalogue, so that equal numbers mean '
    'different items; statement makes a view with distinct ids, to be attached instead.';


-- recdb.lift_tombstones: remove the tombstones of forgotten users who have no row left in any attached table.
--   reads       the attached tables of interactions and of impressions, all rows
--   writes      forgotten_user
create or replace function recdb.lift_tombstones()
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    queries text[];
begin
    -- A table that is missing may come back, with the rows of a forgotten user.
    if not exists (select from recdb.forgotten_user)
        or exists (select from recdb.attachment a where a.role <> 'items' and a.state <> 'read')
    then
        return;
    end if;
    select array_agg(format('select s.user_id::text from (%s) s where s.user_id is not null', a.query)) into queries
    from recdb.attachment a
    where a.role <> 'items';
    execute format('
        delete from recdb.forgotten_user f
        where f.user_digest not in (
            select sha256(
                (select k.salt from recdb.secret k where k.only_row) || sha256(convert_to(s.user_id, ''UTF8'')))
            from (%s) s(user_id))',
        coalesce(array_to_string(queries, ' union '), 'select null where false'));
exception when others then
    -- A row that cannot be read may be of a forgotten user. If it is an interaction, the rebuild fails later.
    if not recdb.may_be_of_source(sqlstate) then
        raise;
    end if;
end
$$;
comment on function recdb.lift_tombstones() is
    'Internal: removes the tombstones of users whose rows the application has deleted from its own tables.';


-- recdb.fewer_columns: how to read an attached catalogue without the columns that only describe an item, which are gone
-- or have another type.
--   parameters  source  a row of attachment with its whole query
--   returns     query: it has NULL for a title, attributes or an embedding whose column is gone, and casts the others;
--               NULL if a part of the mapping that hides items needs such a column. lost: these parts in words; NULL if
--               all columns are there
--   reads       the system catalogues
-- The query of `recdb attach` reads its columns from one table. A subquery with the same name, which has every column
-- that the query may name, takes its place.
create or replace function recdb.fewer_columns(source recdb.attachment, out query text, out lost text)
language sql stable
begin atomic
    with relation as (
        select c.oid, quote_ident(c.relname) as alias, n.nspowner as owner,
            E'\n   FROM ' || (fewer_columns.source).relation as beneath
        from pg_catalog.pg_class c
        join pg_catalog.pg_namespace n on n.nspname = 'recdb'
        where c.oid = to_regclass((fewer_columns.source).relation) and (fewer_columns.source).role = 'items'
    ), named as (
        select v.part, btrim(btrim(c.name), '"') as name
        from (
            values
                ('title', (fewer_columns.source).mapping ->> 'title'),
                ('attributes', (fewer_columns.source).mapping ->> 'attributes'),
                ('embedding', (fewer_columns.source).mapping ->> 'embedding')
        ) v(part, names)
        cross join lateral string_to_table(v.names, ',') c(name)
    ), parts as (
        select n.name, max(n.part) as part,
            recdb.column_type(r.oid, n.name) is null as gone,
            string_agg(n.part, ' and ') as parts
        from relation r
        cross join named n
        group by n.name, r.oid
    ), columns as (
        select p.name, case p.part
                when 'title' then format('null::text as %I', p.name)
                when 'attributes' then format('null::jsonb as %I', p.name)
                else format('null::real[] as %I', p.name)
            end as expression
        from parts p
        where p.gone
        union all
        select a.attname, case p.part
                when 'title' then format('r.%1$I::text as %1$I', a.attname)
                when 'attributes' then format('pg_catalog.to_jsonb(r.%1$I) as %1$I', a.attname)
                else format('r.%I', a.attname)
            end
        from relation r
        join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
        left join parts p on p.name = a.attname
        where position(a.attname::text in (fewer_columns.source).query) > 0
          and has_column_privilege(r.owner, r.oid, a.attnum, 'select')
    )
    select
        case when not exists (
            select from parts p
            where p.name in (
                    btrim((fewer_columns.source).mapping ->> 'item', '"'),
                    btrim((fewer_columns.source).mapping ->> 'owner', '"'),
                    btrim((fewer_columns.source).mapping ->> 'published', '"'))
               or position(lower(p.name) in lower((fewer_columns.source).mapping ->> 'available')) > 0)
        then (
            select replace((fewer_columns.source).query, r.beneath || E'\n', format(
                E'\n   FROM (select %s from %s r) %s\n',
                (select string_agg(c.expression, ', ') from columns c), (fewer_columns.source).relation, r.alias))
            from relation r
        ) end,
        (select string_agg(format('%s (column %s)', p.parts, quote_ident(p.name)), ', ' order by p.name)
        from parts p
        where p.gone);
end;
comment on function recdb.fewer_columns(recdb.attachment) is
    'Internal: the query of an attached catalogue without the columns that only describe an item and are gone; and '
    'which parts it lacks.';


-- recdb.may_hide: whether the rows of an attached catalogue say which items may be recommended.
--   parameters  source  a row of attachment
--   returns     true while its table is there, also under another name, even if recdb cannot read it
--   reads       the system catalogues
create or replace function recdb.may_hide(source recdb.attachment)
returns boolean
language sql stable
begin atomic
    select (may_hide.source).role = 'items' and (
        (may_hide.source).state = 'read'
        or to_regclass((may_hide.source).relation) is not null
        or exists (select from pg_catalog.pg_class c where c.oid = any ((may_hide.source).seen)));
end;
comment on function recdb.may_hide(recdb.attachment) is
    'Internal: whether an attached catalogue says which items may be recommended: its table is there, read or not.';


-- recdb.unread_items: the attached catalogues that recdb cannot read, or not wholly, and the effect on lists.
--   returns     one row each: the table, the effect, whether lists are not as they should be, and the way on
--   reads       attachment, config
create or replace function recdb.unread_items()
returns table (relation text, effect text, wrong boolean, hint text)
language sql stable
begin atomic
    select a.relation, e.effect, e.wrong, format('recdb attach with its new names; or for good: recdb detach %s%s',
        a.relation, case when e.wrong and not c.listed_only then
            '; until then, to recommend no item of it: update recdb.config set listed_only = true;' else '' end)
    from recdb.attachment a
    cross join recdb.config c
    cross join lateral (
        select case
                when a.state = 'read' then 'the catalogue is read without ' || (
                    select f.lost
                    from recdb.fewer_columns(a) f)
                when c.listed_only then 'it says which items may be recommended, so none of its items is'
                when a.mapping ?| array['available', 'owner', 'published'] then
                    'items that this table hid are recommended now'
                else 'its rows do not count'
            end as effect,
            a.state = 'missing' and (c.listed_only or a.mapping ?| array['available', 'owner', 'published']) as wrong
    ) e
    where a.role = 'items' and e.effect is not null
      and (a.state = 'missing' or a.whole_query is not null)
    order by e.wrong desc, a.attachment_id;
end;
comment on function recdb.unread_items() is
    'Internal: the attached catalogues that recdb cannot read, or not wholly, and the effect on lists.';
