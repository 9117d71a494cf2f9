-- The end of old interactions: config.retention.


-- recdb.kept_since: the time before which config.retention deletes the interactions of recdb's own store.
--   returns     -infinity if they are kept for ever
-- Call it in a subselect: PostgreSQL would call it for each row.
create or replace function recdb.kept_since()
returns timestamptz
language sql stable
begin atomic
    select coalesce((select now() - c.retention from recdb.config c), '-infinity'::timestamptz);
end;
comment on function recdb.kept_since() is
    'Internal: the time before which config.retention deletes interactions; -infinity if it keeps all.';


-- recdb.unread_since: the number of the transaction from which on interactions may be new to the next refresh.
--   returns     NULL if no refresh has succeeded on this server
--   reads       refresh_log
create or replace function recdb.unread_since()
returns bigint
language plpgsql stable
set search_path from current
as $$
declare
    last record;
begin
    select l.seen, l.cluster into last
    from recdb.refresh_log l
    where l.seen is not null and l.error is null
    order by l.run_id desc
    limit 1;
    if last.cluster is distinct from recdb.cluster() or last.seen > pg_snapshot_xmax(pg_current_snapshot()) then
        return null;
    end if;
    return last.seen::text::bigint;
end
$$;
comment on function recdb.unread_since() is
    'Internal: the transaction from which on interactions may be new to the next refresh; NULL if all may be.';


-- recdb.unread_condition: the SQL condition that a refresh has still to read an interaction.
--   parameters  since  of unread_since()
--   returns     a condition on the row i, which the index of recorded_in serves
-- A larger number than that of the next transaction: a row restored from another server, which a rebuild has read.
-- Where Citus spreads the rows, nodes number transactions apart, and such a row waits too.
create or replace function recdb.unread_condition(since bigint)
returns text
language plpgsql stable
set search_path from current
as $$
begin
    return format('i.recorded_in::text::bigint between %s and 9223372036854775807%s', unread_condition.since,
        case when not recdb.is_distributed(to_regclass('recdb.interaction'))
            then ' and i.recorded_in < pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())' else '' end);
end
$$;
comment on function recdb.unread_condition(bigint) is
    'Internal: the SQL condition that a refresh has still to read an interaction.';


-- recdb.aged_partitions: the partitions of interaction that config.retention lets go.
--   parameters  since  of unread_since()
--   returns     their names, the oldest first, without those that have a row that no refresh has read
create or replace function recdb.aged_partitions(since bigint)
returns setof text
language plpgsql stable
set search_path from current
as $$
declare
    part text;
    unread boolean;
begin
    for part in
        select p.name from recdb.interaction_partitions() p where p.ends <= recdb.kept_since() order by p.starts
    loop
        execute format('select exists (select from recdb.%I i where %s)', part,
            recdb.unread_condition(aged_partitions.since)) into unread;
        if not unread then
            return next part;
        end if;
    end loop;
end
$$;
comment on function recdb.aged_partitions(bigint) is
    'Internal: the partitions of interaction that config.retention lets go, and whose rows a refresh has read.';


-- recdb.drop_aged_interactions: delete a part of the interactions that are older than config.retention.
--   parameters  most  the largest number of rows that it deletes one by one
--   returns     how many rows it deleted, or partitions it dropped; 0 if nothing is left to do, while the table is in
--               use all the time, and while `recdb partition` writes the store again
--   reads       config, partitioning, refresh_log: what no refresh has read yet stays until one has
--   writes      interaction
create or replace function recdb.drop_aged_interactions(most integer default 50000)
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    since constant timestamptz := recdb.kept_since();
    unread constant bigint := recdb.unread_since();
    kind constant "char" := (select c.relkind from pg_catalog.pg_class c where c.oid = 'recdb.interaction'::regclass);
    -- The place of a row in its table is the quickest way to it; but each shard of a spread table has such a place.
    place constant text := case when recdb.is_distributed(to_regclass('recdb.interaction')) then 'interaction_id'
        else 'ctid' end;
    deleted bigint;
begin
    if since = '-infinity' or unread is null
        or exists (select from recdb.partitioning p where p.source is not null)
    then
        return 0;
    end if;
    execute format(
        'delete from recdb.%1$I d where d.%3$I in (
            select i.%3$I from recdb.%1$I i where i.created_at < $1 and not (%2$s) order by i.created_at limit $2)',
        case kind when 'r' then 'interaction' else 'interaction_rest' end, recdb.unread_condition(unread), place)
    using since, most;
    get diagnostics deleted = row_count;
    -- A row may come in until the table is locked: so look twice.
    if exists (select from recdb.aged_partitions(unread))
        and recdb.lock_briefly('recdb.interaction', 'access exclusive')
    then
        deleted := deleted + recdb.drop_partitions(
            'recdb.interaction', array(select a.name from recdb.aged_partitions(unread) a(name)));
    end if;
    return deleted;
end
$$;
comment on function recdb.drop_aged_interactions(integer) is
    'Internal: deletes a part of the interactions that are older than config.retention; how many rows and partitions.';


-- recdb.keep_interactions: the last part of a refresh, which has read all interactions: partitions and retention.
--   writes      as add_interaction_partitions() and drop_aged_interactions()
-- It comes last because its locks last until the transaction ends, and after end_run(), which says what was read.
create or replace function recdb.keep_interactions()
returns void
language plpgsql volatile
set search_path from current
as $$
begin
    perform recdb.add_interaction_partitions();
    perform recdb.drop_aged_interactions();
end
$$;
comment on function recdb.keep_interactions() is
    'Internal: the last part of a refresh: partitions of interaction, and config.retention.';
