-- What keeps `recdb partition` from writing interaction again.


-- recdb.made_again: the views and functions on interaction that swap_interactions() makes again for the new table.
--   returns     class and object, as in pg_depend; its name and owner; remade: whether recdb's owner may do so
--   reads       the system catalogues
create or replace function recdb.made_again()
returns table (classid oid, objid oid, name text, owner oid, remade boolean)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
    store constant oid := to_regclass('recdb.interaction')::oid;
begin
    return query
    select 'pg_rewrite'::regclass::oid, r.oid, format('view %s', v.oid::regclass), v.relowner,
        v.relpersistence <> 't' and pg_has_role(v.relowner, 'usage')
            and has_schema_privilege(v.relnamespace, 'create')
    from pg_catalog.pg_rewrite r
    join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind = 'v'
    where r.rulename = '_RETURN' and exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = store)
    union all
    select 'pg_proc'::regclass::oid, p.oid, format('function %s', p.oid::regprocedure), p.proowner,
        pg_has_role(p.proowner, 'usage') and has_schema_privilege(p.pronamespace, 'create')
    from pg_catalog.pg_proc p
    where p.prosqlbody is not null and exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = store);
end
$$;
comment on function recdb.made_again() is
    'Internal: the views and functions on interaction that `recdb partition` makes again, and whether it may.';


-- recdb.dependent_obstacles: what depends on interaction, and would keep the old table from going.
--   returns     the names of things on the table, its sequence, its keys, and the types of its rows, which nothing
--               makes again; and of views and functions whose owner recdb's owner may not act as
--   reads       the system catalogues
create or replace function recdb.dependent_obstacles()
returns setof text
language plpgsql stable
set search_path from current
as $$
declare
    store constant oid := to_regclass('recdb.interaction')::oid;
    sequence constant oid := to_regclass(pg_get_serial_sequence('recdb.interaction', 'interaction_id'))::oid;
    types constant oid[] := array(
        select unnest(array[t.oid, t.typarray]) from pg_catalog.pg_type t where t.typrelid = store);
begin
    return query
    select format('%s of role %s', m.name, m.owner::regrole) from recdb.made_again() m where not m.remade
    union
    select coalesce(
        (select format('materialized view %s', v.oid::regclass)
        from pg_catalog.pg_rewrite r
        join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind = 'm'
        where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid),
        pg_describe_object(d.classid, d.objid, d.objsubid))
    from pg_catalog.pg_depend d
    where d.deptype = 'n'
      and (d.refclassid = 'pg_class'::regclass and d.refobjid in (store, sequence)
          or d.refclassid = 'pg_type'::regclass and d.refobjid = any (types)
          or d.refclassid = 'pg_constraint'::regclass and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass)
              and d.refobjid in (select n.oid from pg_catalog.pg_constraint n where n.conrelid = store))
      -- What is the table's own goes with it, or has been named.
      and not (d.classid = 'pg_constraint'::regclass and exists (
          select from pg_catalog.pg_constraint n where n.oid = d.objid and (n.conrelid = store or n.contype = 'f')))
      and not (d.classid = 'pg_trigger'::regclass and exists (
          select from pg_catalog.pg_trigger t where t.oid = d.objid and t.tgrelid = store))
      and not (d.classid = 'pg_policy'::regclass and exists (
          select from pg_catalog.pg_policy p where p.oid = d.objid and p.polrelid = store))
      and not (d.classid = 'pg_attrdef'::regclass and exists (
          select from pg_catalog.pg_attrdef f where f.oid = d.objid and f.adrelid = store))
      and not (d.classid = 'pg_rewrite'::regclass and exists (
          select from pg_catalog.pg_rewrite r where r.oid = d.objid and r.ev_class = store))
      and d.classid <> 'pg_publication_rel'::regclass
      -- What is made again lets go of the table and of its types, unless its result or an argument is of such a type.
      and not (d.refclassid <> 'pg_constraint'::regclass and d.refobjid is distinct from sequence and exists (
          select from recdb.made_again() m
          left join pg_catalog.pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid
          where m.classid = d.classid and m.objid = d.objid and (p.oid is null
              or not coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype && types)))
    order by 1;
end
$$;
comment on function recdb.dependent_obstacles() is
    'Internal: the names of the things that depend on interaction, and stop `recdb partition`.';


-- recdb.partitioning_obstacles: everything that keeps `recdb partition` from writing interaction again.
--   returns     the names of the things that depend on the table and would not go with it, such as foreign keys
--   reads       the system catalogues
create or replace function recdb.partitioning_obstacles()
returns setof text
language plpgsql stable
set search_path from current
as $$
declare
    store constant regclass := to_regclass('recdb.interaction');
begin
    if recdb.is_distributed(store) then
        return next 'the distribution over a Citus cluster';
    end if;
    return query
    select format('foreign key %I of %s', n.conname, n.conrelid::regclass)
    from pg_catalog.pg_constraint n
    where n.contype = 'f' and n.conparentid = 0::oid and store in (n.conrelid::regclass, n.confrelid::regclass)
    union all
    select format('trigger %I', t.tgname) from pg_catalog.pg_trigger t
    where t.tgrelid = store and not t.tgisinternal and t.tgname not in ('note_change', 'note_truncation')
    union all
    select format('policy %I', p.polname) from pg_catalog.pg_policy p where p.polrelid = store
    union all
    select 'row-level security' from pg_catalog.pg_class c where c.oid = store and c.relrowsecurity
    union all
    select format('publication %I', p.pubname)
    from pg_catalog.pg_publication_rel r
    join pg_catalog.pg_publication p on p.oid = r.prpubid
    where r.prrelid = store
    union all
    select format('statistics %I', s.stxname) from pg_catalog.pg_statistic_ext s where s.stxrelid = store
    union all
    select format('rule %I', r.rulename) from pg_catalog.pg_rewrite r where r.ev_class = store
    union all
    select format('index %s', x.indexrelid::regclass)
    from pg_catalog.pg_index x
    join pg_catalog.pg_class c on c.oid = x.indexrelid
    where x.indrelid = store
      and c.relname not in ('interaction_pkey', 'interaction_user', 'interaction_recorded', 'interaction_created')
    union all
    select format('constraint %I', n.conname) from pg_catalog.pg_constraint n
    where n.conrelid = store and n.contype in ('u', 'x')
    union all
    select o.name from recdb.dependent_obstacles() o(name);
end
$$;
comment on function recdb.partitioning_obstacles() is
    'Internal: the names of everything that keeps `recdb partition` from writing interaction again.';
