-- The parts that are different on Citus, where `recdb distribute` has spread the interactions and the vectors of users
-- over several servers. Without Citus, each function here answers from the catalogue of this server.


-- recdb.is_distributed: whether Citus has spread a table over its nodes.
--   parameters  relation  the table
--   returns     false also where there is no Citus, or no such table
--   reads       Citus' catalogue, by name: without Citus it is not there
create or replace function recdb.is_distributed(relation regclass)
returns boolean
language plpgsql stable
set search_path from current
as $$
declare
    found boolean := false;
begin
    if to_regclass('pg_catalog.pg_dist_partition') is not null then
        execute 'select exists (select from pg_catalog.pg_dist_partition d where d.logicalrelid = $1 '
            'and d.partmethod = ''h'')' into found using relation;
    end if;
    return found;
end
$$;
comment on function recdb.is_distributed(regclass) is
    'Internal: whether Citus has spread a table over its nodes.';


-- recdb.count_stored: about how many interactions recdb's own store has.
--   returns     PostgreSQL's estimate; on Citus, the sum of those of all shards
--   reads       the system catalogues
create or replace function recdb.count_stored()
returns bigint
language plpgsql stable security definer
set search_path from current
as $$
declare
    stored bigint;
begin
    if recdb.is_distributed(to_regclass('recdb.interaction')) then
        execute 'select sum(r.result::bigint) from pg_catalog.run_command_on_shards($1, $2) r where r.success'
        into stored using to_regclass('recdb.interaction'),
            'select greatest(c.reltuples, 0)::bigint from pg_catalog.pg_class c where c.oid = ''%s''::regclass';
        return stored;
    end if;
    return (
        select sum(greatest(c.reltuples, 0))::bigint
        from pg_catalog.pg_class c
        where c.relkind = 'r' and (c.oid = to_regclass('recdb.interaction') or exists (
            select from pg_catalog.pg_inherits h
            where h.inhrelid = c.oid and h.inhparent = to_regclass('recdb.interaction'))));
end
$$;
comment on function recdb.count_stored() is
    'Internal: about how many interactions recdb''s own store has; the view health calls it.';


-- recdb.count_vectors: how many users have a vector in a model version.
--   parameters  model_id  the version
--   returns     the number; 0 for a version without vectors
--   reads       user_vector
create or replace function recdb.count_vectors(model_id integer)
returns bigint
language plpgsql stable security definer
set search_path from current
as $$
begin
    return (select count(*) from recdb.user_vector v where v.model_id = count_vectors.model_id);
end
$$;
comment on function recdb.count_vectors(integer) is
    'Internal: how many users have a vector in a model version; the view health calls it.';


-- recdb.count_bytes: the size of all tables of recdb, with their indexes.
--   returns     bytes; on Citus, of all nodes
--   reads       the system catalogues
create or replace function recdb.count_bytes()
returns bigint
language plpgsql stable security definer
set search_path from current
as $$
declare
    total bigint;
    spread bigint := 0;
begin
    select sum(pg_total_relation_size(c.oid)) into total
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'recdb' and c.relkind in ('r', 'm');
    if to_regclass('pg_catalog.pg_dist_partition') is not null then
        execute 'select sum(pg_catalog.citus_total_relation_size(d.logicalrelid)) from pg_catalog.pg_dist_partition d '
            'join pg_catalog.pg_class c on c.oid = d.logicalrelid '
            'where c.relnamespace = ''recdb''::regnamespace and c.relkind = ''r'' and d.partmethod = ''h''' into spread;
    end if;
    return total + coalesce(spread, 0);
end
$$;
comment on function recdb.count_bytes() is
    'Internal: the size of all tables of recdb with their indexes; the view health calls it.';


-- recdb.await_commits: wait for transactions that have ended on this server, and are still to end on other nodes.
--   returns     true; false if one has not ended after 10 seconds, and if a node does not answer. Then a row that this
--               transaction does not see may be of a transaction that it takes for ended
--   reads       pg_prepared_xacts on every node, if the interactions are spread
-- Citus commits in two phases: a transaction that wrote on several nodes ends here first.
create or replace function recdb.await_commits()
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    question constant text := 'select coalesce(array_agg(p.gid), ''{}'')::text from pg_catalog.pg_prepared_xacts p '
        'where p.database = pg_catalog.current_database() and p.gid like ''citus_%''';
    started constant timestamptz := clock_timestamp();
    awaited text[];
    open_now text[];
    all_answer boolean;
begin
    if not recdb.is_distributed(to_regclass('recdb.interaction')) then
        return true;
    end if;
    loop
        execute 'select array_agg(g.gid), bool_and(r.success) from pg_catalog.run_command_on_all_nodes($1) r '
            'left join lateral unnest(case when r.success then r.result::text[] end) g(gid) on true'
        into open_now, all_answer using question;
        if not all_answer then
            return false;
        end if;
        awaited := case when awaited is null then coalesce(open_now, '{}')
            else array(select a.gid from unnest(awaited) a(gid) where a.gid = any (coalesce(open_now, '{}'))) end;
        if awaited = '{}' then
            return true;
        elsif clock_timestamp() > started + interval '10 seconds' then
            return false;
        end if;
        perform pg_sleep(0.02);
    end loop;
end
$$;
comment on function recdb.await_commits() is
    'Internal: on Citus, waits for transactions that have ended here and are still to end on other nodes; false if one '
    'does not end.';


-- recdb.keep_definitions_here: let Citus copy no definition of a function to other nodes until this transaction ends.
-- recdb's functions run on the coordinator. Citus refuses some, and others after a statement that reached every node.
create or replace function recdb.keep_definitions_here()
returns void
language plpgsql volatile
as $$
begin
    if current_setting('citus.enable_ddl_propagation', true) = 'on' then
        perform set_config('citus.enable_ddl_propagation', 'off', true);
    end if;
end
$$;
comment on function recdb.keep_definitions_here() is
    'Internal: lets Citus copy no definition to other nodes until this transaction ends.';


-- recdb.fit_functions: let the functions that read spread tables plan as Citus needs it.
--   writes      the settings of nearest_users() and nearest_strangers(), and what they do first; move_interactions();
--               and the functions that combine_interactions() writes
-- A search of the nearest users asks every node, and Citus has no plan for that with open parameters. Without Citus,
-- one plan for all calls is quicker, and recommend() asks for one. A read needs no transaction on the nodes, unless one
-- is open there; a call of recommend() would begin and end one on each of them.
create or replace function recdb.fit_functions()
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    spread constant boolean := recdb.is_distributed(to_regclass('recdb.user_vector'));
    target regprocedure;
begin
    perform recdb.keep_definitions_here();
    for target in
        select p.oid from pg_catalog.pg_proc p
        where p.pronamespace = 'recdb'::regnamespace and p.proname in ('nearest_users', 'nearest_strangers')
    loop
        execute format('alter function %s reset all', target);
        if spread then
            execute format('alter function %s set search_path = pg_catalog, pg_temp '
                'set plan_cache_mode = auto set citus.select_opens_transaction_block = off', target);
            if position('read_afresh' in pg_get_functiondef(target)) = 0 then
                execute replace(pg_get_functiondef(target), E'\nbegin\n', E'\nbegin\n' || recdb.spread_guard());
            end if;
        else
            execute format('alter function %s set search_path = pg_catalog, pg_temp', target);
        end if;
    end loop;
    if recdb.is_distributed(to_regclass('recdb.interaction')) then
        -- Citus changes no user_id in place: another node may hold the rows of the other user.
        perform recdb.write_body('recdb.move_interactions(text, text)', 'language plpgsql volatile', '
declare
    gone recdb.interaction;
    moved bigint := 0;
begin
' || recdb.spread_guard() || '    for gone in
        delete from recdb.interaction i where i.user_id = move_interactions.from_id returning i.*
    loop
        gone.user_id := move_interactions.to_id;
        insert into recdb.interaction overriding system value values (gone.*);
        moved := moved + 1;
    end loop;
    return moved;
end
');
    end if;
    perform recdb.combine_interactions();
end
$$;
comment on function recdb.fit_functions() is
    'Internal: lets the functions that read the interactions and the vectors of users plan as Citus needs it, where '
    '`recdb distribute` has spread these tables.';


-- recdb.spread_source: the table of an attached one that Citus has spread over its nodes, or copied to each of them.
--   parameters  source  a row of attachment
--   returns     the name of a table that the attached one is, or that it reads; NULL if there is none
--   reads       the system catalogues and Citus' catalogue
-- recdb reads attached tables in functions that PostgreSQL inlines after Citus has planned: they would find no row.
create or replace function recdb.spread_source(source recdb.attachment)
returns text
language plpgsql stable
set search_path from current
as $$
declare
    spread text;
begin
    if to_regclass('pg_catalog.pg_dist_partition') is not null then
        execute 'select min(d.logicalrelid::text) from unnest($1) r(name) '
            'cross join lateral recdb.beneath(to_regclass(r.name)) b(oid) '
            'join pg_catalog.pg_dist_partition d on d.logicalrelid = b.oid' into spread using source.reads;
    end if;
    return spread;
end
$$;
comment on function recdb.spread_source(recdb.attachment) is
    'Internal: the table under an attached one that Citus has spread over its nodes; NULL if there is none.';
