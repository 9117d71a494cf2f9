-- recdb.replication_lag: how old the data of a standby may be.
--   returns     zero on a primary, and on a standby that has replayed all that it received; else the age of the last
--               transaction that it replayed. NULL if a standby cannot say
--   reads       the position and the receiver of the log
-- Without a receiver a standby cannot know whether it has received everything. So its lag then grows, even if the
-- primary is idle.
create or replace function recdb.replication_lag()
returns interval
language sql volatile parallel restricted
begin atomic
    select case
        when not pg_is_in_recovery() then interval '0'
        when pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() and exists (select from pg_stat_wal_receiver)
            then interval '0'
        else greatest(interval '0', clock_timestamp() - pg_last_xact_replay_timestamp())
    end;
end;
comment on function recdb.replication_lag() is
    'How old the data of a standby may be: zero on a primary and on a standby that has replayed all that it received, '
    'else the age of the last transaction that it replayed. NULL if it cannot say.';


-- recdb.replayed: whether a read on this server sees everything up to a position of the primary's log.
--   parameters  lsn      the position: pg_current_wal_insert_lsn() on the primary, after a commit; NULL: any
--               max_lag  the largest lag of a standby; NULL: any
--   returns     true if this server has all of that and is no further behind
--   reads       replication_lag()
-- A statement sees the rows of the moment at which it began. So call this function in a statement before the one that
-- reads, on the same connection: a position that is replayed only meanwhile would count as seen.
create or replace function recdb.replayed(lsn pg_lsn, max_lag interval = null)
returns boolean
language sql volatile parallel restricted
begin atomic
    select (
            replayed.lsn is null
            or coalesce(
                replayed.lsn <= case
                    when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn()
                end,
                false))
        and (replayed.max_lag is null or coalesce(recdb.replication_lag() <= replayed.max_lag, false));
end;
comment on function recdb.replayed(pg_lsn, interval) is
    'Whether a statement after this one sees everything up to a position of the primary''s log, as '
    'pg_current_wal_insert_lsn() gave it there after a commit, and is no further behind than max_lag. A NULL asks for '
    'nothing.';


-- recdb.database_identity: a text that this database shares with its standbys and with no other database.
--   returns     a hash of the server's system identifier, the number of the database, and recdb.secret.salt; without
--               the first if recdb's owner may not call pg_control_system()
--   reads       secret
-- A client asks both servers for it, to find that it would read from another database than it writes to: lists would
-- come from there, and nothing would say so. A restored dump has the salt, but another number or another server.
create or replace function recdb.database_identity()
returns text
language plpgsql stable security definer
set search_path from current
as $$
declare
    server text := '';
begin
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then
        server := (select s.system_identifier::text from pg_catalog.pg_control_system() s);
    end if;
    return (
        select encode(sha256(k.salt || convert_to(concat_ws('/', server, d.oid::text), 'UTF8')), 'hex')
        from recdb.secret k
        cross join pg_catalog.pg_database d
        where d.datname = current_database());
end
$$;
comment on function recdb.database_identity() is
    'A text that this database shares with its standbys and with no other database. A client that reads from a standby '
    'compares it with that of the primary.';
