-- Calls that wait while `recdb distribute` moves the tables of users: afterwards they have all rows, or say why not.


-- recdb.await_move: wait until no `recdb distribute` is moving recdb's tables, nor will before this transaction ends.
--   reads       no row. It names the tables in a string: what is planned later finds them where they are then
create or replace function recdb.await_move()
returns void
language plpgsql stable
as $$
begin
    execute 'select from recdb.interaction i, recdb.user_vector v where false';
end
$$;
comment on function recdb.await_move() is
    'Internal: waits until no `recdb distribute` is moving recdb''s tables.';


-- recdb.read_afresh: let this transaction ask for rows on this server as it asks other nodes.
-- A statement that began before `recdb distribute` has ended does not see the rows that it moved here. A connection to
-- this server does.
create or replace function recdb.read_afresh()
returns void
language plpgsql volatile
as $$
begin
    perform set_config('citus.enable_local_execution', 'off', true);
end
$$;
comment on function recdb.read_afresh() is
    'Internal: lets a statement that began before `recdb distribute` has ended see the rows that it moved.';


-- recdb.spread_by: the transaction that spread the vectors of users.
--   returns     its number, for which the catalogue has the last 32 bits: the newest number that has these, but for
--               numbers that are still to come; NULL where they are not spread
--   reads       Citus' catalogue, as of now: that is why it is volatile
create or replace function recdb.spread_by()
returns xid8
language plpgsql volatile
set search_path from current
as $$
declare
    newest constant bigint := coalesce(pg_current_xact_id_if_assigned(), pg_snapshot_xmax(pg_current_snapshot()))
        ::text::bigint;
    spread_in bigint;
begin
    if recdb.is_distributed(to_regclass('recdb.user_vector')) then
        execute 'select d.xmin::text::bigint from pg_catalog.pg_dist_partition d where d.logicalrelid = $1'
        into spread_in using to_regclass('recdb.user_vector');
    end if;
    spread_in := (newest >> 32 << 32) + spread_in;
    return (case when spread_in > newest then spread_in - (1::bigint << 32) else spread_in end)::text::xid8;
end
$$;
comment on function recdb.spread_by() is
    'Internal: the number of the transaction in which `recdb distribute` spread the vectors of users; NULL without.';


-- recdb.spread_guard: the first statement of each function that reads a spread table.
--   returns     the SQL: it calls read_afresh(), if a statement began before the tables were spread
--   reads       spread_by()
create or replace function recdb.spread_guard()
returns text
language plpgsql volatile
set search_path from current
as $$
begin
    return format(E'    if not pg_visible_in_snapshot(%L::xid8, pg_current_snapshot()) then\n'
        '        perform recdb.read_afresh();\n    end if;\n', recdb.spread_by());
end
$$;
comment on function recdb.spread_guard() is
    'Internal: the SQL by which functions see the rows that `recdb distribute` moved while their statement waited.';


-- recdb.refuse_moved: say that a statement failed because `recdb distribute` moved its tables meanwhile.
--   parameters  began  the snapshot of the statement
--   reads       spread_by()
--   errors      40001, if the statement began before the tables were spread
create or replace function recdb.refuse_moved(began pg_snapshot)
returns void
language plpgsql volatile
as $$
begin
    if not pg_visible_in_snapshot(recdb.spread_by(), refuse_moved.began) then
        raise exception 'recdb distribute has moved tables that this statement waited for'
            using errcode = 'serialization_failure', hint = 'Run it again.';
    end if;
end
$$;
comment on function recdb.refuse_moved(pg_snapshot) is
    'Internal: error 40001 for a statement that began before `recdb distribute` had ended.';
