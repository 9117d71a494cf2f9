-- The trust in other roles: views of others are not read, and hashes of forgotten users have a salt.


-- recdb.beneath: what a view reads, at any depth.
--   parameters  relation  the view, or a table
--   returns     the relation itself and every table and view under it; no row for NULL
--   reads       the system catalogues
create or replace function recdb.beneath(relation regclass)
returns setof oid
language sql stable
begin atomic
    with recursive beneath as (
        select beneath.relation::oid as oid where beneath.relation is not null
        union
        select d.refobjid
        from beneath b
        join pg_catalog.pg_rewrite r on r.ev_class = b.oid
        join pg_catalog.pg_depend d
            on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    )
    select b.oid from beneath b;
end;
comment on function recdb.beneath(regclass) is
    'Internal: a table or view, with every table and view that it reads, at any depth.';


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
    select c.oid::regclass
    from recdb.beneath(foreign_views.relation) b(oid)
    join pg_catalog.pg_class c on c.oid = b.oid and c.relkind in ('v', 'f')
    join pg_catalog.pg_namespace n on n.nspname = 'recdb'
    where not pg_has_role(c.relowner, n.nspowner, 'member');
end;
comment on function recdb.foreign_views(regclass) is
    'Internal: the views and foreign tables under a view that belong to roles who may not act for recdb''s owner.';
