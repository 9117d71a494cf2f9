-- Partitions by time, of interaction where `recdb partition` made them and of impression.


-- recdb.lock_briefly: lock a table, and make nobody wait for long behind the lock.
--   parameters  target    the table, as in LOCK TABLE: its partitions are locked too, unless `only`
--               mode      as in LOCK TABLE
--               attempts  how many times it waits for 50 ms, and then lets the others go first
--   returns     whether the transaction has the lock now
create or replace function recdb.lock_briefly(target text, mode text, attempts integer default 40)
returns boolean
language plpgsql volatile
set search_path from current
set lock_timeout = '50ms'
as $$
begin
    for attempt in 1 .. attempts loop
        begin
            execute format('lock table %s in %s mode', target, mode);
            return true;
        exception when lock_not_available then
            perform pg_sleep(0.05);
        end;
    end loop;
    return false;
end
$$;
comment on function recdb.lock_briefly(text, text, integer) is
    'Internal: locks a table, without making others wait for more than 50 ms at a time; whether it could.';


-- recdb.revoke_grants: leave a table or a sequence to its owner alone.
--   parameters  target  a new one: the owner's default privileges may have granted it to PUBLIC, or to any role
--   writes      its grants
create or replace function recdb.revoke_grants(target regclass)
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    other record;
begin
    for other in
        select distinct case c.relkind when 'S' then 'sequence' else 'table' end as kind,
            case when a.grantee = 0::oid then 'public' else a.grantee::regrole::text end as name
        from pg_catalog.pg_class c
        cross join lateral aclexplode(c.relacl) a
        where c.oid = target::oid and a.grantee <> c.relowner
    loop
        execute format('revoke all on %s %s from %s cascade', other.kind, target, other.name);
    end loop;
end
$$;
comment on function recdb.revoke_grants(regclass) is
    'Internal: takes all grants on a new table or sequence back, such as those of default privileges.';


-- recdb.setting_list: the SQL of storage options.
--   parameters  settings  as the catalogue has them: name=value
--               prefix    before each name
--   returns     a list with commas; NULL if there is no option
create or replace function recdb.setting_list(settings text[], prefix text default '')
returns text
language sql immutable parallel safe
begin atomic
    select string_agg(
        format('%s%I = %L', setting_list.prefix, split_part(s.setting, '=', 1),
            substr(s.setting, strpos(s.setting, '=') + 1)), ', ')
    from unnest(setting_list.settings) s(setting);
end;
comment on function recdb.setting_list(text[], text) is
    'Internal: the SQL of storage options, from the form that the catalogue has.';


-- recdb.copy_settings: give a table that takes the place of another one the settings that an administrator made there.
--   parameters  source  the table that has them
--               target  the new one, still without rows
--   writes      its storage options and tablespace, and the statistics targets and options of its columns. A
--               tablespace that recdb's owner may not use stays behind
create or replace function recdb.copy_settings(source regclass, target regclass)
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    statement text;
begin
    for statement in
        select format('alter table %s set (%s)', copy_settings.target,
            concat_ws(', ', recdb.setting_list(c.reloptions), recdb.setting_list(t.reloptions, 'toast.')))
        from pg_catalog.pg_class c
        left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
        where c.oid = copy_settings.source::oid and coalesce(c.reloptions, t.reloptions) is not null
          and (select n.relkind from pg_catalog.pg_class n where n.oid = copy_settings.target::oid) = 'r'
        union all
        select format('alter table %s set tablespace %I', copy_settings.target, s.spcname)
        from pg_catalog.pg_class c
        join pg_catalog.pg_tablespace s on s.oid = c.reltablespace
        where c.oid = copy_settings.source::oid and has_tablespace_privilege(s.oid, 'create')
        union all
        select format('alter table %s alter column %I set statistics %s', copy_settings.target, a.attname,
            a.attstattarget)
        from pg_catalog.pg_attribute a
        where a.attrelid = copy_settings.source::oid and a.attnum > 0 and not a.attisdropped
          and a.attstattarget::integer >= 0
        union all
        select format('alter table %s alter column %I set (%s)', copy_settings.target, a.attname,
            recdb.setting_list(a.attoptions))
        from pg_catalog.pg_attribute a
        where a.attrelid = copy_settings.source::oid and a.attnum > 0 and not a.attisdropped
          and a.attoptions is not null
    loop
        execute statement;
    end loop;
end
$$;
comment on function recdb.copy_settings(regclass, regclass) is
    'Internal: gives a new table the storage options, the tablespace and the statistics targets of another one.';


-- recdb.add_partition: make a partition by time of a table without a default partition.
--   parameters  parent        the name of the table
--               name          of the partition
--               starts, ends  the time that it holds
--   writes      the partition, without a key: its rows are their own identity, so that they can be deleted where they
--               are published for logical replication. It attaches a finished table, so that nobody waits
create or replace function recdb.add_partition(parent text, name text, starts timestamptz, ends timestamptz)
returns void
language plpgsql volatile
set search_path from current
as $$
begin
    execute format('create table recdb.%I (like recdb.%I including defaults including constraints)', name, parent);
    perform recdb.revoke_grants(format('recdb.%I', name)::regclass);
    execute format('alter table recdb.%I replica identity full', name);
    execute format('alter table recdb.%I attach partition recdb.%I for values from (%L) to (%L)',
        parent, name, starts, ends);
end
$$;
comment on function recdb.add_partition(text, text, timestamptz, timestamptz) is
    'Internal: makes a partition by time of a table that has no default partition.';


-- recdb.drop_partitions: drop partitions of a table.
--   parameters  parent  the table's name
--               names   of the partitions
--   returns     how many it dropped: none if the table was in use all the time, and the next refresh tries again
create or replace function recdb.drop_partitions(parent text, names text[])
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    name text;
begin
    if cardinality(names) = 0 or not recdb.lock_briefly(parent, 'access exclusive') then
        return 0;
    end if;
    foreach name in array names loop
        execute format('drop table recdb.%I', name);
    end loop;
    return cardinality(names);
end
$$;
comment on function recdb.drop_partitions(text, text[]) is
    'Internal: drops partitions of a table, unless the table is in use all the time; how many.';


-- recdb.period_start: when the month, week or day of a moment began, in UTC.
--   parameters  every   month, week or day
--               moment  a time
--   returns     the time
create or replace function recdb.period_start(every text, moment timestamptz)
returns timestamptz
language sql stable parallel safe
begin atomic
    select date_trunc(period_start.every, period_start.moment, 'UTC');
end;
comment on function recdb.period_start(text, timestamptz) is
    'Internal: when the month, week or day of a moment began, in UTC.';


-- recdb.period_end: when a month, week or day ends, in UTC.
--   parameters  every   month, week or day
--               starts  when it begins
--               number  how many of them
--   returns     the time
create or replace function recdb.period_end(every text, starts timestamptz, number integer default 1)
returns timestamptz
language sql stable parallel safe
begin atomic
    select (period_end.starts at time zone 'UTC'
        + period_end.number * ('1 ' || period_end.every)::interval) at time zone 'UTC';
end;
comment on function recdb.period_end(text, timestamptz, integer) is
    'Internal: when a month, week or day, or a number of them, ends, in UTC.';


-- recdb.interaction_partition: the name of the partition of interaction that begins at some time.
--   parameters  starts  when it begins
--   returns     such as interaction_20261101
create or replace function recdb.interaction_partition(starts timestamptz)
returns text
language sql stable parallel safe
begin atomic
    select 'interaction_' || to_char(interaction_partition.starts at time zone 'UTC', 'YYYYMMDD');
end;
comment on function recdb.interaction_partition(timestamptz) is
    'Internal: the name of the partition of interaction that begins at some time.';


-- recdb.interaction_partitions: the partitions of interaction, without the one for the rest.
--   returns     the name of each; when it begins and ends; packed: its rows are in the order of their users, and the
--               index of the users has no columns beside the user
--   reads       partitioning, the system catalogues
create or replace function recdb.interaction_partitions()
returns table (name text, starts timestamptz, ends timestamptz, packed boolean)
language sql stable
begin atomic
    select c.relname::text, s.starts, recdb.period_end(p.every, s.starts),
        exists (
            select from pg_catalog.pg_index x
            join pg_catalog.pg_class n on n.oid = x.indexrelid
            where x.indrelid = c.oid and n.relname = (c.relname::text || '_user') and x.indnatts = 1)
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join recdb.partitioning p
    cross join lateral (
        select to_date(substr(c.relname::text, 13), 'YYYYMMDD')::timestamp at time zone 'UTC' as starts) s
    where i.inhparent = to_regclass('recdb.interaction') and c.relname::text ~ '^interaction_[0-9]{8}$'
      and p.every is not null;
end;
comment on function recdb.interaction_partitions() is
    'Internal: the partitions of interaction, with the time that each of them holds.';


-- recdb.index_interactions: make the indexes of a table that holds interactions, as far as they are missing.
--   parameters  name    the table
--               packed  true: its rows are in the order of their users, so that the entries of a user share one list,
--                       and the rows of a user one page or two. False: rows come in as they happen; the index of the
--                       users holds all columns that a list reads, and the times are nearly in order. NULL: it is the
--                       whole store, with a primary key, where rows of any time may come in
create or replace function recdb.index_interactions(name text, packed boolean)
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    made record;
begin
    for made in
        select format('%I', index_interactions.name || '_' || d.suffix) as index, d.uniqueness, d.definition
        from (values
            ('user', index_interactions.packed, '', '(user_id) with (fillfactor = 100)'),
            ('user', index_interactions.packed is not true, '',
                '(user_id, created_at) include (item_id, kind, value)'),
            ('id', index_interactions.packed, 'unique ', '(interaction_id) with (fillfactor = 100)'),
            ('id', not index_interactions.packed, 'unique ', '(interaction_id)'),
            ('created', not index_interactions.packed, '',
                'using brin (created_at) with (pages_per_range = 32, autosummarize = on)'),
            ('created', index_interactions.packed is null, '', '(created_at)'),
            ('recorded', true, '', 'using brin ((recorded_in::text::bigint)) '
                'with (pages_per_range = 32, autosummarize = on)')
        ) d(suffix, here, uniqueness, definition)
        where d.here
    loop
        if to_regclass('recdb.' || made.index) is null then
            execute format('create %sindex %s on recdb.%I %s', made.uniqueness, made.index, name, made.definition);
        end if;
    end loop;
    if packed is null then
        return;
    end if;
    -- For a subscriber of logical replication: interaction has no primary key.
    execute format('alter table recdb.%I replica identity using index %I', name, name || '_id');
    -- Index-only scans need pages that VACUUM has visited.
    if not exists (
        select from pg_catalog.pg_class c, unnest(c.reloptions) o(setting)
        where c.oid = to_regclass(format('recdb.%I', index_interactions.name))
          and starts_with(o.setting, 'autovacuum_vacuum_insert_scale_factor='))
    then
        execute format('alter table recdb.%I set (autovacuum_vacuum_insert_scale_factor = 0.02)', name);
    end if;
end
$$;
comment on function recdb.index_interactions(text, boolean) is
    'Internal: makes the indexes of a table that holds interactions, as far as they are missing.';

-- Those that an application dropped. Partitions have theirs from the functions that make them.
do $$
begin
    if (select c.relkind from pg_catalog.pg_class c where c.oid = to_regclass('recdb.interaction')) = 'r' then
        perform recdb.index_interactions('interaction', null);
    end if;
end
$$;


-- recdb.add_interaction_partitions: make the partitions of interaction that are needed soon.
--   returns     how many it made
--   reads       partitioning
--   writes      partitions: for this month, week or day, and for 2 months, 5 weeks or 14 days after it; rows of these
--               times that were in the partition for the rest move
create or replace function recdb.add_interaction_partitions()
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    period constant text := (select p.every from recdb.partitioning p);
    ahead constant integer := case period when 'month' then 2 when 'week' then 5 else 14 end;
    part record;
    made bigint := 0;
    columns text;
begin
    if period is null then
        return 0;
    end if;
    for part in
        select s.starts, recdb.period_end(period, s.starts) as ends, recdb.interaction_partition(s.starts) as name
        from generate_series(0, ahead) n(number)
        cross join lateral (
            select recdb.period_end(period, recdb.period_start(period, now()), n.number) as starts) s
        where to_regclass(format('recdb.%I', recdb.interaction_partition(s.starts))) is null
        order by s.starts
    loop
        -- A new partition limits the one for the rest, which every reader reads. Writers wait at the table: the one for
        -- the rest would refuse a row that had been routed to it before.
        if made = 0 and not (recdb.lock_briefly('only recdb.interaction', 'share row exclusive')
            and recdb.lock_briefly('recdb.interaction_rest', 'access exclusive'))
        then
            return 0;
        end if;
        execute format('create table recdb.%I (like recdb.interaction including defaults including constraints '
            'including storage including compression)', part.name);
        perform recdb.revoke_grants(format('recdb.%I', part.name)::regclass);
        perform recdb.copy_settings('recdb.interaction_rest'::regclass, format('recdb.%I', part.name)::regclass);
        select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into columns
        from pg_catalog.pg_attribute a
        where a.attrelid = 'recdb.interaction'::regclass and a.attnum > 0 and not a.attisdropped
          and a.attgenerated = '';
        execute format(
            'with moved as (
                delete from recdb.interaction_rest r where r.created_at >= %L and r.created_at < %L returning %s
            )
            insert into recdb.%I (%s) overriding system value select %3$s from moved',
            part.starts, part.ends, columns, part.name, columns);
        perform recdb.index_interactions(part.name, false);
        execute format('alter table recdb.interaction attach partition recdb.%I for values from (%L) to (%L)',
            part.name, part.starts, part.ends);
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function recdb.add_interaction_partitions() is
    'Internal: makes the partitions of interaction that are needed soon; how many.';
