-- The last step of `recdb partition`: the new table takes the place of the old one.


-- recdb.statements_on_interaction: the SQL that gives another table the things that others made on interaction.
--   returns     statements: the views and functions that read it by its identity, and the grants on it and its sequence
--   reads       the system catalogues
create or replace function recdb.statements_on_interaction()
returns setof text
language plpgsql stable
set search_path from current
as $$
declare
    store constant regclass := to_regclass('recdb.interaction');
begin
    return query
    select format('create or replace view %s%s as %s', v.oid::regclass,
        coalesce(' with (' || array_to_string(v.reloptions, ', ') || ')', ''), pg_get_viewdef(v.oid))
    from pg_catalog.pg_class v
    where v.relkind = 'v' and exists (
        select from pg_catalog.pg_rewrite r
        join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
        where r.ev_class = v.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = store::oid)
    union all
    select pg_get_functiondef(p.oid)
    from pg_catalog.pg_proc p
    where p.prosqlbody is not null and exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = store::oid)
    union all
    select format('grant %s on %s to %s%s', a.privilege_type, store,
        case when a.grantee = 0::oid then 'public' else a.grantee::regrole::text end,
        case when a.is_grantable then ' with grant option' end)
    from pg_catalog.pg_class c
    cross join lateral aclexplode(c.relacl) a
    where c.oid = store and a.grantee <> c.relowner
    union all
    select format('grant %s on sequence recdb.interaction_interaction_id_seq to %s%s', a.privilege_type,
        case when a.grantee = 0::oid then 'public' else a.grantee::regrole::text end,
        case when a.is_grantable then ' with grant option' end)
    from pg_catalog.pg_class c
    cross join lateral aclexplode(c.relacl) a
    where c.oid = pg_get_serial_sequence('recdb.interaction', 'interaction_id')::regclass and a.grantee <> c.relowner
    union all
    select format('grant %s (%I) on %s to %s%s', a.privilege_type, t.attname, store,
        case when a.grantee = 0::oid then 'public' else a.grantee::regrole::text end,
        case when a.is_grantable then ' with grant option' end)
    from pg_catalog.pg_attribute t
    cross join lateral aclexplode(t.attacl) a
    where t.attrelid = store and t.attnum > 0 and not t.attisdropped;
end
$$;
comment on function recdb.statements_on_interaction() is
    'Internal: the SQL that gives the table of `recdb partition` the views, functions and grants of interaction.';


-- recdb.swap_interactions: let interaction_next take the place of the table that it was copied from.
--   returns     false if a change is left to copy, or the table is in use all the time
--   writes      the tables; partitioning and partitioning_part, which say that the work is done
-- Its caller holds an exclusive lock, so that no change comes in. It waits for readers, 3 times for 50 ms.
create or replace function recdb.swap_interactions()
returns boolean
language plpgsql volatile
set search_path from current
set lock_timeout = '200ms'
as $$
declare
    state recdb.partitioning;
    statements text[];
    statement text;
    last_id bigint;
    was_called boolean;
begin
    select p.* into strict state from recdb.partitioning p;
    if exists (select from recdb.interaction_change)
        or not recdb.lock_briefly('recdb.interaction', 'access exclusive', 3)
    then
        return false;
    end if;
    if state.source = 'interaction_rest' then
        perform recdb.swap_rest();
    elsif state.source <> 'interaction' then
        perform recdb.swap_partition(state.source);
    else
        statements := array(select s.statement from recdb.statements_on_interaction() s(statement));
        execute format('select s.last_value, s.is_called from %s s',
            pg_get_serial_sequence('recdb.interaction', 'interaction_id')) into last_id, was_called;
        execute format('alter sequence %s rename to interaction_before_interaction_id_seq',
            pg_get_serial_sequence('recdb.interaction', 'interaction_id'));
        execute 'alter sequence recdb.interaction_next_interaction_id_seq rename to interaction_interaction_id_seq';
        execute 'alter table recdb.interaction rename to interaction_before';
        execute 'alter table recdb.interaction_next rename to interaction';
        foreach statement in array statements loop
            execute statement;
        end loop;
        execute 'drop table recdb.interaction_before';
        perform setval('recdb.interaction_interaction_id_seq', last_id, was_called);
        if state.target = 'none' then
            execute 'alter table recdb.interaction rename constraint interaction_next_pkey to interaction_pkey';
            execute 'alter index recdb.interaction_next_user rename to interaction_user';
            execute 'alter index recdb.interaction_next_recorded rename to interaction_recorded';
            execute 'alter index recdb.interaction_next_created rename to interaction_created';
        end if;
    end if;
    delete from recdb.partitioning_part;
    if state.target = 'none' then
        delete from recdb.partitioning;
    else
        update recdb.partitioning p set every = state.target, source = null, target = null, began_at = null;
    end if;
    return true;
end
$$;
comment on function recdb.swap_interactions() is
    'Internal: the last step of `recdb partition`: the new table takes the place of the old one; false: not yet.';


-- recdb.swap_partition: let interaction_next take the place of a partition.
--   parameters  name  of the partition
--   writes      the tables. The check of the new one spares PostgreSQL to look at its rows
create or replace function recdb.swap_partition(name text)
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    part record;
begin
    select p.starts, p.ends into strict part
    from recdb.interaction_partitions() p
    where p.name = swap_partition.name;
    execute format('alter table recdb.interaction detach partition recdb.%I', name);
    execute format('drop table recdb.%I', name);
    execute format('alter table recdb.interaction_next rename to %I', name);
    execute format('alter index recdb.interaction_next_user rename to %I', name || '_user');
    execute format('alter index recdb.interaction_next_id rename to %I', name || '_id');
    execute format('alter index recdb.interaction_next_recorded rename to %I', name || '_recorded');
    execute format('alter table recdb.interaction attach partition recdb.%I for values from (%L) to (%L)',
        name, part.starts, part.ends);
    execute format('alter table recdb.%I drop constraint interaction_span', name);
end
$$;
comment on function recdb.swap_partition(text) is
    'Internal: lets the table of `recdb partition` take the place of a partition.';


-- recdb.swap_rest: let the partitions of interaction_next take the place of the partition for the rest.
--   reads       partitioning_part
--   writes      the tables
create or replace function recdb.swap_rest()
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    part record;
    suffix text;
begin
    execute 'alter table recdb.interaction detach partition recdb.interaction_rest';
    execute 'drop table recdb.interaction_rest';
    for part in
        select recdb.interaction_partition(p.starts) as name, p.starts, p.ends
        from recdb.partitioning_part p
        where p.own
        order by p.starts
    loop
        execute format('alter table recdb.interaction_next detach partition recdb.%I', part.name);
        execute format('alter table recdb.interaction attach partition recdb.%I for values from (%L) to (%L)',
            part.name, part.starts, part.ends);
        execute format('alter table recdb.%I drop constraint interaction_span', part.name);
    end loop;
    execute 'alter table recdb.interaction_next detach partition recdb.interaction_next_rest';
    execute 'drop table recdb.interaction_next';
    execute 'alter table recdb.interaction_next_rest rename to interaction_rest';
    foreach suffix in array array['user', 'id', 'created', 'recorded'] loop
        execute format('alter index recdb.%I rename to %I', 'interaction_next_rest_' || suffix,
            'interaction_rest_' || suffix);
    end loop;
    execute 'alter table recdb.interaction attach partition recdb.interaction_rest default';
end
$$;
comment on function recdb.swap_rest() is
    'Internal: lets the partitions that `recdb partition` made of the rest take its place.';


-- recdb.give_up_partitioning: take back the work that `recdb partition` has begun.
--   returns     false if the table is in use all the time
--   writes      drops interaction_next and the triggers; partitioning, partitioning_part, interaction_change
create or replace function recdb.give_up_partitioning()
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    origin constant text := (select p.source from recdb.partitioning p);
begin
    if origin is null then
        return true;
    elsif not recdb.lock_briefly('recdb.interaction', 'access exclusive') then
        return false;
    end if;
    execute format('drop trigger if exists note_change on recdb.%I', origin);
    execute format('drop trigger if exists note_truncation on recdb.%I', origin);
    execute 'drop table if exists recdb.interaction_next';
    truncate recdb.interaction_change, recdb.partitioning_part;
    delete from recdb.partitioning p where p.every is null;
    update recdb.partitioning p set source = null, target = null, began_at = null;
    return true;
end
$$;
comment on function recdb.give_up_partitioning() is
    'Internal: takes back the work of `recdb partition`; false if the table is in use all the time.';


-- recdb.old_snapshots: the sessions whose transactions cannot see the rows that were committed since some time.
--   parameters  since  a time
--   returns     their process numbers
-- Such a transaction would find the new table empty. Without the rights of pg_read_all_stats only sessions of the same
-- role are known.
create or replace function recdb.old_snapshots(since timestamptz)
returns setof integer
language sql stable
begin atomic
    select a.pid
    from pg_catalog.pg_stat_activity a
    where a.datname = current_database() and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
      and a.backend_xmin is not null and a.xact_start <= old_snapshots.since;
end;
comment on function recdb.old_snapshots(timestamptz) is
    'Internal: the sessions whose transactions cannot see the rows that were committed since some time.';
