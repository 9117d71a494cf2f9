-- The bodies of the functions that read interactions, which are others where Citus has spread them. 75_attach calls
-- these functions with the queries of the attached tables.


-- recdb.write_reader: give a function that reads interactions its body.
--   parameters  target   the function
--               queries  the first reads recdb's own store, and each of the others an attached table
--   returns     whether anything changed
-- PostgreSQL inlines a function in SQL. Citus plans a query before that, and would read no row of a spread table:
-- there, the body is in plpgsql, one statement for each query. Citus' nodes number transactions apart: so bounds of
-- transactions are values, and rows that were written through another node are found by their time.
create or replace function recdb.write_reader(target regprocedure, queries text[])
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    name constant text := (select p.proname from pg_catalog.pg_proc p where p.oid = target);
    own text := queries[1];
    declared text := '';
    settings text := '';
begin
    if not recdb.is_distributed(to_regclass('recdb.interaction')) then
        return recdb.write_body(target,
            'language sql stable' || case name when 'users_since' then '' else ' parallel safe' end,
            array_to_string(queries, case name when 'users_since' then ' union ' else ' union all ' end));
    end if;
    if name = 'interactions_of' then
        settings := ' rows 50';
    elsif name = 'users_since' then
        declared := 'declare
    next constant xid8 := pg_snapshot_xmax(pg_current_snapshot());
    own constant xid8 := pg_current_xact_id_if_assigned();
';
        own := replace(replace(own, 'pg_snapshot_xmax(pg_current_snapshot())', 'next'),
            'pg_current_xact_id_if_assigned()', 'own') || ';
    -- From two minutes before the last refresh began; since is ten minutes before it.
    return query select distinct i.user_id from recdb.interaction i
        where i.created_at >= users_since.since + interval ''8 minutes''';
    end if;
    -- A parallel worker cannot ask another node.
    return recdb.write_body(target, 'language plpgsql stable' || settings
            || ' set plan_cache_mode = auto set citus.select_opens_transaction_block = off',
        E'\n#variable_conflict use_column\n' || declared || E'begin\n' || recdb.spread_guard() || '    return query '
            || array_to_string(array[own] || queries[2:], E';\n    return query ') || E';\nend\n');
end
$$;
comment on function recdb.write_reader(regprocedure, text[]) is
    'Internal: gives a function that reads interactions its body: in SQL, or in plpgsql where Citus has spread them.';


-- recdb.write_read_interactions: give read_interactions() its body.
--   returns     whether anything changed
--   writes      read_interactions(), the interactions that count for others: recdb's own store and all attached tables,
--               without forgotten users and without those of ignored_user
-- Its caller is recdb's owner, with whose rights it reads attached tables; analysts have the view interactions.
create or replace function recdb.write_read_interactions()
returns boolean
language plpgsql volatile
set search_path from current
as $$
begin
    if not recdb.is_distributed(to_regclass('recdb.interaction')) then
        return recdb.write_body('recdb.read_interactions()', 'language sql stable parallel safe', '
    select a.user_id, a.item_id, a.kind, a.created_at, a.value
    from (
        select i.user_id, i.item_id, i.kind, i.created_at, i.value from recdb.interaction i
        union all
        select s.user_id, s.item_id, s.kind, s.created_at, s.value from recdb.attached_interactions() s
    ) a
    where not exists (select from recdb.ignored_user g where g.user_id = a.user_id)');
    end if;
    return recdb.write_body('recdb.read_interactions()', 'language plpgsql stable rows 1000000', '
#variable_conflict use_column
declare
    ignored constant text[] := array(select g.user_id from recdb.ignored_user g);
begin
' || recdb.spread_guard() || '    return query
        select i.user_id, i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.user_id <> all (ignored);
    return query
        select s.user_id, s.item_id, s.kind, s.created_at, s.value
        from recdb.attached_interactions() s
        where s.user_id <> all (ignored);
end');
end
$$;
comment on function recdb.write_read_interactions() is
    'Internal: gives read_interactions() its body: in SQL, or in plpgsql where Citus has spread the interactions.';


-- recdb.write_sums: give sum_by_user() and sum_by_item() their bodies.
--   returns     whether anything changed
-- Each node sums its own rows, which are many times as many as the sums.
create or replace function recdb.write_sums()
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    spread constant boolean := recdb.is_distributed(to_regclass('recdb.interaction'));
    sums constant text[] := array[
        'select i.user_id, i.kind, count(*),
            max(i.created_at) filter (where i.created_at > ''-infinity'' and i.created_at <= %2$s),
            bool_or(i.created_at > %2$s), bool_or(i.value <> 1)
        from %1$s group by i.user_id, i.kind',
        'select i.item_id, min(i.created_at) filter (where i.created_at > ''-infinity'')
        from %1$s group by i.item_id'];
    names constant text[] := array['recdb.sum_by_user()', 'recdb.sum_by_item()'];
    changed boolean := false;
begin
    for place in 1 .. 2 loop
        changed := changed or case
            when not spread then recdb.write_body(names[place]::regprocedure, 'language sql stable parallel safe',
                format(sums[place], 'recdb.read_interactions() i', 'now()'))
            else recdb.write_body(names[place]::regprocedure, 'language plpgsql stable rows 100000', '
#variable_conflict use_column
declare
    ignored constant text[] := array(select g.user_id from recdb.ignored_user g);
    moment constant timestamptz := now();
begin
' || recdb.spread_guard() || '    return query
        ' || format(sums[place], 'recdb.interaction i where i.user_id <> all (ignored)', 'moment') || ';
    return query
        ' || format(sums[place], 'recdb.attached_interactions() i where i.user_id <> all (ignored)', 'moment') || ';
end') end;
    end loop;
    return changed;
end
$$;
comment on function recdb.write_sums() is
    'Internal: gives sum_by_user() and sum_by_item() their bodies: on Citus, each node sums its own rows.';


-- recdb.write_reader_of_users: give interactions_of_users() its body.
--   parameters  of_user  the queries of interactions_of(), as write_reader() takes them
--   returns     whether anything changed
-- On Citus, one statement reads the rows of all users in the own store; attached tables are on this server.
create or replace function recdb.write_reader_of_users(of_user text[])
returns boolean
language plpgsql volatile
set search_path from current
as $$
declare
    each_user constant text := 'select u.user_id, a.* from unnest(interactions_of_users.user_ids) u(user_id)
        cross join lateral %s a';
begin
    return recdb.write_reader('recdb.interactions_of_users(text[])', case
        when not recdb.is_distributed(to_regclass('recdb.interaction'))
            then array[format(each_user, 'recdb.interactions_of(u.user_id)')]
        else array['select i.user_id, i.item_id, i.kind, i.created_at, i.value
        from recdb.interaction i
        where i.user_id = any (interactions_of_users.user_ids)'] || array(
            select format(each_user, '(' || replace(q.query, 'interactions_of.user_id', 'u.user_id') || ')')
            from unnest(of_user[2:]) q(query))
        end);
end
$$;
comment on function recdb.write_reader_of_users(text[]) is
    'Internal: gives interactions_of_users() its body: on Citus, one statement reads the rows of all users.';
