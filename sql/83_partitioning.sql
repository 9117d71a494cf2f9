-- The work of `recdb partition`: it writes interaction again, or one of its partitions, while everybody reads and
-- writes.
--
-- The rows are copied into the table interaction_next, one span of time after the other, each in one transaction.
-- Meanwhile a trigger notes in interaction_change which rows came, changed or went; at the end these are copied once
-- more, and interaction_next takes the place of the old table in one short transaction. The tables partitioning and
-- partitioning_part say how far it is, so that the command goes on after any interruption.


-- recdb.interaction_columns: the columns of interaction that are written.
--   returns     their names for SQL, with commas
--   reads       the system catalogues
create or replace function recdb.interaction_columns()
returns text
language sql stable
begin atomic
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
    from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('recdb.interaction') and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
end;
comment on function recdb.interaction_columns() is
    'Internal: the columns of interaction that are written, for SQL.';


-- recdb.note_change: note which interaction changed, while `recdb partition` writes the store again.
--   returns     a trigger of interaction
--   writes      interaction_change
create or replace function recdb.note_change()
returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
    if tg_op = 'TRUNCATE' then
        insert into recdb.interaction_change (interaction_id) values (null);
        return null;
    end if;
    if tg_op <> 'DELETE' then
        insert into recdb.interaction_change (interaction_id) values (new.interaction_id);
    end if;
    if tg_op = 'DELETE' or tg_op = 'UPDATE' and old.interaction_id <> new.interaction_id then
        insert into recdb.interaction_change (interaction_id) values (old.interaction_id);
    end if;
    return null;
end
$$;
comment on function recdb.note_change() is
    'Internal: a trigger of interaction while `recdb partition` works: it notes which rows came, changed or went.';


-- recdb.rest_spans: the months, weeks or days that have ended, and whose rows are in the partition for the rest.
--   returns     when each begins and ends, and how many rows it has; nothing for fewer than 1,000 rows in all
--   reads       partitioning, interaction_rest
create or replace function recdb.rest_spans()
returns table (starts timestamptz, ends timestamptz, held bigint)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
    period constant text := (select p.every from recdb.partitioning p);
    this constant timestamptz := recdb.period_start(coalesce(period, 'day'), now());
begin
    if period is null or to_regclass('recdb.interaction_rest') is null then
        return;
    end if;
    return query
    with span as (
        select recdb.period_start(period, i.created_at) as starts, count(*) as held
        from recdb.interaction_rest i
        where i.created_at >= recdb.period_end(period, this, -400) and i.created_at < this
        group by 1
    )
    select s.starts, recdb.period_end(period, s.starts), s.held
    from span s
    where (select sum(a.held) from span a) >= 1000
    order by s.starts;
end
$$;
comment on function recdb.rest_spans() is
    'Internal: the months, weeks or days that have ended, and that the partition for the rest holds.';


-- recdb.plan_parts: the spans of time that `recdb partition` copies.
--   parameters  every  month, week or day: one partition for each that has rows, and for those that come soon; none:
--                      the partitions that there are, for one table of them; rest: those of rest_spans()
--   returns     spans without gaps, from -infinity on; own: it has a partition. A month, week or day ends packed if the
--               one after it has ended too
--   reads       interaction: all of it, for the first time of each partition
create or replace function recdb.plan_parts(every text)
returns table (starts timestamptz, ends timestamptz, own boolean, packed boolean)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
    period constant text := case plan_parts.every when 'rest' then (select p.every from recdb.partitioning p)
        else plan_parts.every end;
    this constant timestamptz := recdb.period_start(coalesce(nullif(period, 'none'), 'day'), now());
    spans timestamptz[];
begin
    if plan_parts.every = 'rest' then
        spans := array(select r.starts from recdb.rest_spans() r order by r.starts);
    elsif plan_parts.every = 'none' then
        spans := array(select p.starts from recdb.interaction_partitions() p order by p.starts);
    else
        spans := array(
            select distinct recdb.period_start(plan_parts.every, i.created_at) as span
            from recdb.interaction i
            where i.created_at >= recdb.period_end(plan_parts.every, this, -400)
              and i.created_at < recdb.period_end(plan_parts.every, this)
            union
            select recdb.period_end(plan_parts.every, this, n.number)
            from generate_series(0, case plan_parts.every when 'month' then 2 when 'week' then 5 else 14 end) n(number)
            order by 1);
    end if;
    return query
    with owned as (
        select s.starts,
            case when plan_parts.every = 'none' then lead(s.starts) over (order by s.starts)
                else recdb.period_end(period, s.starts) end as ends
        from unnest(spans) s(starts)
    ), bounds as (
        select o.starts, o.ends, lead(o.starts) over (order by o.starts) as next_starts from owned o
    )
    select o.starts, o.ends, plan_parts.every <> 'none', plan_parts.every <> 'none'
        and o.ends <= recdb.period_end(period, this, -1)
    from owned o
    union all
    select '-infinity'::timestamptz, (select min(o.starts) from owned o), false, false
    union all
    select b.ends, b.next_starts, false, false
    from bounds b
    where b.ends is not null and b.ends is distinct from b.next_starts;
end
$$;
comment on function recdb.plan_parts(text) is
    'Internal: the spans of time that `recdb partition` copies.';


-- recdb.begin_partitioning: make the table that will take the place of another, and note all changes from now on.
--   parameters  source  interaction, interaction_rest, or the name of another of its partitions, which is packed
--               target  month, week, day, or none for one table
--   returns     false if the table is in use all the time
--   writes      interaction_next, triggers of the source, partitioning, partitioning_part
create or replace function recdb.begin_partitioning(source text, target text)
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    part record;
begin
    if begin_partitioning.source = 'interaction' then
        insert into recdb.partitioning_part (starts, ends, own, packed)
        select p.starts, p.ends, p.own, p.packed from recdb.plan_parts(begin_partitioning.target) p;
    elsif begin_partitioning.source = 'interaction_rest' then
        insert into recdb.partitioning_part (starts, ends, own, packed)
        select p.starts, p.ends, p.own, p.packed from recdb.plan_parts('rest') p;
    else
        insert into recdb.partitioning_part (starts, ends, own, packed)
        select p.starts, p.ends, false, true from recdb.interaction_partitions() p
        where p.name = begin_partitioning.source
        returning * into strict part;
    end if;
    if not recdb.lock_briefly('recdb.' || quote_ident(begin_partitioning.source), 'share row exclusive') then
        return false;
    end if;
    if begin_partitioning.source = 'interaction_rest' then
        execute 'create table recdb.interaction_next (like recdb.interaction including defaults including constraints '
            'including storage including compression) partition by range (created_at)';
        execute 'create table recdb.interaction_next_rest partition of recdb.interaction_next default';
        perform recdb.revoke_grants('recdb.interaction_next_rest'::regclass);
        perform recdb.copy_settings('recdb.interaction_rest'::regclass, 'recdb.interaction_next_rest'::regclass);
        perform recdb.index_interactions('interaction_next_rest', false);
    elsif begin_partitioning.source <> 'interaction' then
        execute 'create table recdb.interaction_next (like recdb.interaction including defaults including constraints '
            'including storage including compression)';
        execute format('alter table recdb.interaction_next add constraint interaction_span '
            'check (created_at >= %L and created_at < %L)', part.starts, part.ends);
    else
        execute 'create table recdb.interaction_next (like recdb.interaction including defaults including constraints '
            'including comments including identity including generated including storage including compression)'
            || case when begin_partitioning.target = 'none' then '' else ' partition by range (created_at)' end;
        execute format('comment on table recdb.interaction_next is %L',
            obj_description('recdb.interaction'::regclass, 'pg_class'));
    end if;
    perform recdb.revoke_grants('recdb.interaction_next'::regclass);
    if begin_partitioning.source <> 'interaction_rest' then
        perform recdb.copy_settings(format('recdb.%I', begin_partitioning.source)::regclass,
            'recdb.interaction_next'::regclass);
    end if;
    if begin_partitioning.target = 'none' then
        -- The settings of a table that is partitioned are those of its columns only.
        perform recdb.copy_settings('recdb.interaction_rest'::regclass, 'recdb.interaction_next'::regclass);
    end if;
    if begin_partitioning.source = 'interaction' then
        perform recdb.revoke_grants(pg_get_serial_sequence('recdb.interaction_next', 'interaction_id')::regclass);
    end if;
    if begin_partitioning.source = 'interaction' and begin_partitioning.target <> 'none' then
        execute 'create table recdb.interaction_rest partition of recdb.interaction_next default';
        perform recdb.revoke_grants('recdb.interaction_rest'::regclass);
        perform recdb.copy_settings('recdb.interaction'::regclass, 'recdb.interaction_rest'::regclass);
        perform recdb.index_interactions('interaction_rest', false);
    end if;
    execute format('create trigger note_change after insert or update or delete on recdb.%I '
        'for each row execute function recdb.note_change()', begin_partitioning.source);
    execute format('create trigger note_truncation after truncate on recdb.%I '
        'for each statement execute function recdb.note_change()', begin_partitioning.source);
    -- Also for rows that a subscription of logical replication writes.
    execute format('alter table recdb.%I enable always trigger note_change', begin_partitioning.source);
    execute format('alter table recdb.%I enable always trigger note_truncation', begin_partitioning.source);
    insert into recdb.partitioning as p (source, target, began_at)
    values (begin_partitioning.source, begin_partitioning.target, clock_timestamp())
    on conflict (only_row) do update set source = excluded.source, target = excluded.target,
        began_at = excluded.began_at;
    return true;
end
$$;
comment on function recdb.begin_partitioning(text, text) is
    'Internal: the first step of `recdb partition`; false if the table is in use all the time.';


-- recdb.copy_part: copy the rows of one span of time.
--   returns     how many rows; NULL if all spans are copied
--   reads       the source
--   writes      interaction_next, or a partition of it; partitioning_part
-- Rows of spans that have ended are written in the order of their users: then the index of the users needs one short
-- entry for a user, and a list reads all rows of the user from one page or two.
create or replace function recdb.copy_part()
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    state recdb.partitioning;
    part recdb.partitioning_part;
    destination text := 'interaction_next';
    copied bigint;
begin
    select p.* into strict state from recdb.partitioning p;
    select p.* into part from recdb.partitioning_part p where not p.done order by p.own desc, p.starts desc limit 1;
    if not found then
        return null;
    end if;
    if part.own then
        destination := recdb.interaction_partition(part.starts);
        execute format('create table recdb.%I partition of recdb.interaction_next for values from (%L) to (%L)',
            destination, part.starts, part.ends);
        perform recdb.revoke_grants(format('recdb.%I', destination)::regclass);
        perform recdb.copy_settings(format('recdb.%I', state.source)::regclass,
            format('recdb.%I', destination)::regclass);
    end if;
    perform set_config('work_mem', current_setting('maintenance_work_mem'), true);
    execute format(
        'insert into recdb.%I (%s) overriding system value
        select %2$s from recdb.%I i where i.created_at >= $1 and (i.created_at < $2 or $2 is null) order by %s',
        destination, recdb.interaction_columns(), state.source,
        case when part.packed then 'i.user_id, i.created_at' when part.own then 'i.created_at, i.interaction_id'
            else 'i.interaction_id' end)
    using part.starts, part.ends;
    get diagnostics copied = row_count;
    if part.own and state.source = 'interaction_rest' then
        -- It spares PostgreSQL to look at the rows when the partition moves to interaction.
        execute format('alter table recdb.%I add constraint interaction_span '
            'check (created_at >= %L and created_at < %L)', destination, part.starts, part.ends);
    end if;
    if part.own or state.source not in ('interaction', 'interaction_rest') then
        perform recdb.index_interactions(destination, part.packed);
    end if;
    update recdb.partitioning_part p set done = true where p.starts = part.starts;
    return copied;
end
$$;
comment on function recdb.copy_part() is
    'Internal: the step of `recdb partition` that copies the rows of one span of time; how many, NULL if none is left.';


-- recdb.index_one_table: make the indexes of the table that partitions are joined into, as a fresh install has them.
create or replace function recdb.index_one_table()
returns void
language plpgsql volatile
set search_path from current
as $$
begin
    if to_regclass('recdb.interaction_next_pkey') is not null then
        return;
    end if;
    execute 'alter table recdb.interaction_next add constraint interaction_next_pkey primary key (interaction_id)';
    perform recdb.index_interactions('interaction_next', null);
end
$$;
comment on function recdb.index_one_table() is
    'Internal: makes the indexes of the table that `recdb partition --undo` joins partitions into.';


-- recdb.carry_changes: copy the rows again that changed while all were copied.
--   parameters  most  the largest number of noted changes that it takes
--   returns     how many it took; -1 if the table was truncated: then everything has to be copied again
--   reads       the source
--   writes      interaction_next, interaction_change
-- A row that changes in between is noted again, so the next call takes it.
create or replace function recdb.carry_changes(most integer)
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    origin constant text := (select p.source from recdb.partitioning p);
    ids bigint[];
    truncated boolean;
begin
    with due as (
        delete from recdb.interaction_change c
        where c.change_id in (select d.change_id from recdb.interaction_change d order by d.change_id limit most)
        returning c.interaction_id
    )
    select array_agg(d.interaction_id), bool_or(d.interaction_id is null) into ids, truncated from due d;
    if ids is null then
        return 0;
    elsif truncated then
        return -1;
    end if;
    execute 'delete from recdb.interaction_next n where n.interaction_id = any ($1)' using ids;
    execute format('insert into recdb.interaction_next (%s) overriding system value
        select %1$s from recdb.%I i where i.interaction_id = any ($1)', recdb.interaction_columns(), origin)
    using ids;
    return cardinality(ids);
end
$$;
comment on function recdb.carry_changes(integer) is
    'Internal: the step of `recdb partition` that copies changed rows again; how many, -1 if the table was truncated.';
