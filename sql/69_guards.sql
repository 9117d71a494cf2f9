-- Checks that a refresh and a rebuild make before they change anything that lists are made of.


-- recdb.weights_ready: whether the settled weights can be read.
--   returns     false after a restore that left the materialized view user_item_settled without its rows: it restored
--               the schema before the data, or could not read an attached table. A rebuild fills the view
--   reads       user_item_settled, refresh_log, the system catalogues
-- Two statements: PostgreSQL refuses a query on an unpopulated view even if no row of it would be read.
create or replace function recdb.weights_ready()
returns boolean
language plpgsql stable
as $$
begin
    if (select c.relispopulated from pg_catalog.pg_class c where c.oid = to_regclass('recdb.user_item_settled'))
        is not true
    then
        return false;
    end if;
    -- By the index: PostgreSQL might read all pages to find that none has a row.
    return exists (
        select from (select s.user_key from recdb.user_item_settled s order by s.user_key, s.position limit 1) f
    ) or coalesce((
        select l.rows = 0 from recdb.refresh_log l
        where l.kind = 'rebuild' and l.error is null
        order by l.run_id desc
        limit 1), true);
end
$$;
comment on function recdb.weights_ready() is
    'Internal: false after a restore that left the materialized view user_item_settled without its rows.';


-- recdb.count_users: how many users have interactions.
--   returns     the users with a key, without those to whom items were only shown
--   reads       user_key, impression; user_item if there are impressions and its rows can be read
create or replace function recdb.count_users()
returns bigint
language plpgsql stable security definer
set search_path from current
as $$
begin
    if exists (select from recdb.impression) and recdb.weights_ready() then
        return (
            select count(*) from recdb.user_key u
            where exists (select from recdb.user_item w where w.user_key = u.user_key));
    end if;
    return (select count(*) from recdb.user_key);
end
$$;
comment on function recdb.count_users() is
    'Internal: how many users have interactions; the view health calls it.';


-- recdb.refuse_hidden_rows: stop a refresh that cannot read all interactions and items.
--   errors      42501 if row-level security may hide rows of a source from recdb's owner; the hint has the statements
--               that let the owner read them
create or replace function recdb.refuse_hidden_rows()
returns void
language plpgsql stable
as $$
declare
    hidden record;
begin
    select string_agg(h.relation, ', ' order by h.relation) as tables,
        string_agg(h.statement, ' ' order by h.relation) as statements
    into hidden
    from recdb.hidden_sources() h;
    if hidden.tables is not null then
        raise exception 'row-level security may hide rows of % from recdb: nothing was changed', hidden.tables
            using errcode = 'insufficient_privilege', hint = hidden.statements
                || ' To learn only from the rows that recdb may see: select recdb.rebuild(force => true);';
    end if;
end
$$;
comment on function recdb.refuse_hidden_rows() is
    'Internal: error 42501 if row-level security may hide rows of a source from recdb''s owner.';


-- recdb.learned_size: the size of the weighted interactions.
--   parameters  none: pairs and users are results
--   returns     pairs: users' items; users: those with at least one. Rows of forgotten and of ignored users do not
--               count, nor items that a user last touched before kept_since(): they are meant to go. users is NULL
--               while the settled weights cannot be read
--   reads       user_item, ignored_user; while the settled weights cannot be read item_popularity, whose numbers of
--               users add up to the pairs that have a weight
create or replace function recdb.learned_size(out pairs bigint, out users bigint)
language plpgsql stable
as $$
begin
    if recdb.weights_ready() then
        -- Also pairs of weight 0: whoever sets the weight of a kind to 0 loses no data.
        select count(*), count(*) filter (where w.position = 1) into pairs, users
        from recdb.user_item w
        where w.last_at >= (select recdb.kept_since()) and exists (
            select from recdb.user_key u
            where u.user_key = w.user_key
              and not exists (select from recdb.ignored_user g where g.user_id = u.user_id));
    else
        select coalesce(sum(p.users), 0) into pairs from recdb.item_popularity p;
    end if;
end
$$;
comment on function recdb.learned_size() is
    'Internal: the number of weighted interactions and of users who have any.';


-- recdb.refuse_loss: stop a refresh or a rebuild that would lose most of what was learned from.
--   parameters  pairs, users              before: the weighted interactions, and the users who have any
--               pairs_left, users_left  after it
--   errors      55000 if fewer than half of at least 500 weighted interactions, or of at least 100 users, are left
-- A failed import, a lost partition or a view that returns nothing looks like a mass deletion. Somebody has to say that
-- the deletion is meant.
create or replace function recdb.refuse_loss(
    pairs bigint, pairs_left bigint, users bigint default null, users_left bigint default null
)
returns void
language plpgsql immutable
as $$
begin
    if pairs >= 500 and 2 * pairs_left < pairs or users >= 100 and 2 * users_left < users then
        raise exception 'only % of % weighted interactions% would be left: nothing was changed', pairs_left, pairs,
            case when users is not null then format(' and %s of %s users', users_left, users) else '' end
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Are rows missing, or hidden from recdb? If they were deleted on purpose: '
                    'recdb refresh --full --force, or in SQL: select recdb.rebuild(force => true);';
    end if;
end
$$;
comment on function recdb.refuse_loss(bigint, bigint, bigint, bigint) is
    'Internal: error 55000 if a refresh or a rebuild leaves fewer than half of many weighted interactions or users.';
