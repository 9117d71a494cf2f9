-- The trust in other roles: views of others are not read, and hashes of forgotten users have a salt.


-- recdb.foreign_views: the views and foreign tables under a view that belong to roles who may not act for the owner.
-- A function that such a role writes into its view would run with the rights of recdb's owner.
--   parameters  relation  the view, or a table
--   returns     the views and foreign tables. A view of recdb's owner, of a role that may become this owner, or of a
--               superuser is not among them
--   reads       the system catalogues
create or replace function recdb.foreign_views(relation regclass)
returns setof regclass
language sql stable
begin atomic
    with recursive beneath as (
        select foreign_views.relation::oid as oid
        union
        select d.refobjid
        from beneath b
        join pg_catalog.pg_rewrite r on r.ev_class = b.oid
        join pg_catalog.pg_depend d
            on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    )
    select c.oid::regclass
    from beneath b
    join pg_catalog.pg_class c on c.oid = b.oid and c.relkind in ('v', 'f')
    join pg_catalog.pg_namespace n on n.nspname = 'recdb'
    where not pg_has_role(c.relowner, n.nspowner, 'member');
end;
comment on function recdb.foreign_views(regclass) is
    'Internal: the views and foreign tables under a view that belong to roles who may not act for recdb''s owner.';


-- An older recdb defined interactions_of() over attached tables, and compares hashes without the salt; a revision that
-- adds a column to it defines it over recdb's own store.
do $$
begin
    if exists (select from recdb.attachment a where a.role = 'interactions')
        and pg_get_functiondef('recdb.interactions_of(text)'::regprocedure) not like '%recdb.secret%'
    then
        perform recdb.combine_interactions();
    end if;
end
$$;
