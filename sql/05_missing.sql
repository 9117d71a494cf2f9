-- What reads the sources, and what went with something that an application dropped `cascade`.
--
-- The first of the files that `recdb init` replays: the others call what is here. Of what holds data or has its text
-- from `recdb attach`, it makes only what is missing, and leaves the rest as it is.


-- The functions that 75_attach.sql writes again with the attached tables; here without any.
do $$
begin
    if to_regprocedure('recdb.attached_interactions()') is null then
        create function recdb.attached_interactions()
        returns table (user_id text, item_id text, kind text, created_at timestamptz, value double precision)
        language sql stable parallel safe
        as 'select null::text, null::text, null::text, null::timestamptz, null::double precision where false';
    end if;
    if to_regprocedure('recdb.interactions_of(text)') is null then
        create function recdb.interactions_of(user_id text)
        returns table (item_id text, kind text, created_at timestamptz, value double precision)
        language sql stable parallel safe
        as 'select null::text, null::text, null::timestamptz, null::double precision where false';
    end if;
    if to_regprocedure('recdb.interactions_of_users(text[])') is null then
        create function recdb.interactions_of_users(user_ids text[])
        returns table (user_id text, item_id text, kind text, created_at timestamptz, value double precision)
        language sql stable parallel safe
        as 'select null::text, null::text, null::text, null::timestamptz, null::double precision where false';
    end if;
    if to_regprocedure('recdb.users_since(xid8, timestamptz)') is null then
        create function recdb.users_since(seen xid8, since timestamptz)
        returns table (user_id text)
        language sql stable
        as 'select null::text where false';
    end if;
    if to_regprocedure('recdb.interactions_between(timestamptz, timestamptz)') is null then
        create function recdb.interactions_between(since timestamptz, until timestamptz)
        returns table (user_id text, item_id text, kind text, created_at timestamptz, value double precision)
        language sql stable parallel safe
        as 'select null::text, null::text, null::text, null::timestamptz, null::double precision where false';
    end if;
    if to_regprocedure('recdb.read_interactions()') is null then
        create function recdb.read_interactions()
        returns table (user_id text, item_id text, kind text, created_at timestamptz, value double precision)
        language sql stable parallel safe
        as 'select null::text, null::text, null::text, null::timestamptz, null::double precision where false';
    end if;
    if to_regprocedure('recdb.sum_by_user()') is null then
        create function recdb.sum_by_user()
        returns table (
            user_id text, kind text, events bigint, newest timestamptz, ahead boolean, valued boolean
        )
        language sql stable parallel safe
        as 'select null::text, null::text, null::bigint, null::timestamptz, null::boolean, null::boolean where false';
    end if;
    if to_regprocedure('recdb.sum_by_item()') is null then
        create function recdb.sum_by_item()
        returns table (item_id text, first_at timestamptz)
        language sql stable parallel safe
        as 'select null::text, null::timestamptz where false';
    end if;
    if to_regprocedure('recdb.read_items()') is null then
        create function recdb.read_items()
        returns table (
            item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text,
            embedding real[]
        )
        language sql stable parallel safe
        as 'select null::text, null::text, null::timestamptz, null::boolean, null::jsonb, null::text, null::real[]
            where false';
    end if;
    if to_regprocedure('recdb.read_item(text)') is null then
        create function recdb.read_item(item_id text)
        returns table (
            item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text,
            embedding real[]
        )
        language sql stable parallel safe
        as 'select null::text, null::text, null::timestamptz, null::boolean, null::jsonb, null::text, null::real[]
            where false';
    end if;
end
$$;
comment on function recdb.attached_interactions() is
    'Internal: the interactions of all attached tables, without forgotten users.';
comment on function recdb.interactions_of(text) is
    'The interactions of one user, read through an index of recdb''s own store and of each attached table.';
comment on function recdb.interactions_of_users(text[]) is
    'Internal: the interactions of some users, as interactions_of() has those of one.';
comment on function recdb.users_since(xid8, timestamptz) is
    'Internal: the users with new interactions. seen: written by this transaction or a later one, in recdb''s own '
    'store; since: created at this time or later, in attached tables.';
comment on function recdb.interactions_between(timestamptz, timestamptz) is
    'Internal: the interactions of a span of time, both ends included, without forgotten users, read through an index '
    'of recdb''s own store and of each attached table. A row without a time is in no span.';
comment on function recdb.read_interactions() is
    'Internal: every interaction that counts for others, as the view interactions has them, for recdb''s owner.';
comment on function recdb.sum_by_user() is
    'Internal: how many interactions of each kind each user has, of those that count for others; newest: the time of '
    'the newest one that is not of the future; ahead: whether one is; valued: whether one has a value other than 1. A '
    'user and a kind may have several rows.';
comment on function recdb.sum_by_item() is
    'Internal: the time of the first interaction with each item, of those that count for others. An item may have '
    'several rows.';
comment on function recdb.read_items() is
    'Internal: the catalogue: the items of all attached tables, and those of recdb.item that no attached table has.';
comment on function recdb.read_item(text) is
    'Internal: the row of the catalogue for one item, read through an index of recdb.item and of each attached table.';


-- The materialized view holds data, so it is only made if it is missing. The replay fills it at its end; until then
-- weights_ready() is false. The weight of an interaction follows the rule of the view weighted_interactions.
do $$
begin
    if to_regclass('recdb.user_item_settled') is not null then
        return;
    end if;
    create materialized view recdb.user_item_settled with (vacuum_truncate = off) as
    with weighted as (
        select
            u.user_key,
            t.item_key,
            coalesce(k.weight, c.default_weight) * coalesce(i.value, 1)
                * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
            i.created_at,
            greatest(0, coalesce(k.weight, c.default_weight))
                * recdb.decay(i.created_at, c.decay_origin, c.half_life) as heaviest
        from recdb.read_interactions() i
        cross join recdb.config c
        join recdb.user_key u on u.user_id = i.user_id
        join recdb.item_key t on t.item_id = i.item_id
        left join recdb.interaction_kind k on k.kind = i.kind
    ), summed as (
        select
            w.user_key,
            w.item_key,
            recdb.settle(sum(w.weight), sum(abs(w.weight))) as weight,
            max(least(w.created_at, now())) as last_at,
            max(w.heaviest) as heaviest
        from weighted w
        group by w.user_key, w.item_key
    ), ranked as (
        select
            s.*,
            rank() over (partition by s.user_key, s.weight = 0 order by s.last_at desc)::integer as rank
        from summed s
    )
    select
        s.user_key,
        row_number() over (
            partition by s.user_key
            order by recdb.precedence(s.weight, s.rank) desc, s.last_at desc, s.item_key)::integer as position,
        s.item_key,
        s.rank,
        s.weight,
        s.last_at,
        s.heaviest
    from ranked s
    with no data;
    comment on materialized view recdb.user_item_settled is
        'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
        'recent_user are out of date: read the view user_item.';
    comment on column recdb.user_item_settled.position is
        '1 is the item with the largest precedence() in the user''s profile; items of weight 0 come last.';
    comment on column recdb.user_item_settled.rank is
        'The rank by time among the user''s items that have a weight: 1 is the newest; items with the same timestamp '
        'share a rank.';
    comment on column recdb.user_item_settled.weight is
        'The decayed weights of all interactions of this user with this item, summed.';
    comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
    comment on column recdb.user_item_settled.heaviest is
        'The decayed weight of the kind of one of these interactions, the largest; at least 0. It is the most that the '
        'user adds to the popularity of the item.';
    create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);
end
$$;

do $$
begin
    if to_regclass('recdb.user_item_settled_key') is null then
        create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);
    end if;
    if to_regclass('recdb.user_attributes_attributes') is null then
        create index user_attributes_attributes on recdb.user_attributes using gin (attributes jsonb_path_ops);
    end if;
    if to_regclass('recdb.item_published') is null then
        create index item_published on recdb.item (published_at desc nulls last, item_id);
    end if;
    if to_regclass('recdb.item_attributes') is null then
        create index item_attributes on recdb.item using gin (attributes jsonb_path_ops) with (fastupdate = off);
    end if;
    if to_regclass('recdb.item_popularity_rank') is null then
        create index item_popularity_rank on recdb.item_popularity (weight desc, item_id);
    end if;
    if to_regclass('recdb.user_item') is not null then
        return;
    end if;
    create view recdb.user_item as
    select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at, s.heaviest
    from recdb.user_item_settled s
    where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
    union all
    select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at, n.heaviest
    from recdb.user_item_recent n;
    comment on view recdb.user_item is
        'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by '
        'ids.';
end
$$;


-- Impressions have no key. Where they are published for logical replication, as by a publication for all tables,
-- PostgreSQL refuses to change or delete a row that nothing identifies: so the whole row does. It is more to log only
-- where wal_level is logical. add_partition() does the same for new partitions.
do $$
declare
    shown regclass;
begin
    for shown in
        select c.oid
        from pg_catalog.pg_class c
        left join pg_catalog.pg_inherits h on h.inhrelid = c.oid
        where c.relkind = 'r' and c.relreplident = 'd'
          and (c.oid = to_regclass('recdb.impression_new') or h.inhparent = to_regclass('recdb.impression'))
    loop
        execute format('alter table %s replica identity full', shown);
    end loop;
end
$$;


-- recdb.current_user_id: the user that recommend_me() and explain_me() answer.
--   returns     the session setting recdb.user_id; NULL for nobody
-- An installation replaces the body, so that it says who the caller is. No dependency keeps the application from
-- changing what a new body reads: it is a string. Where one is gone, it may have been a replaced one, and the default
-- could let anybody ask for anybody: the new one names nobody. `recdb init` has found that out before any change.
do $$
begin
    if to_regprocedure('recdb.current_user_id()') is not null then
        return;
    end if;
    if current_setting('recdb.lost_caller', true) = 'on' then
        create function recdb.current_user_id()
        returns text
        language sql stable
        as $body$
        select null::text /* made again by recdb init: nobody, until you replace it */
    $body$;
    else
        create function recdb.current_user_id()
        returns text
        language sql stable
        as $body$
        select nullif(pg_catalog.current_setting('recdb.user_id', true), '')
    $body$;
    end if;
    comment on function recdb.current_user_id() is
        'The user that recommend_me() and explain_me() answer; NULL is nobody. Replace it with create or replace '
        'function to fit your application: it reads the session setting recdb.user_id, which every session can set, '
        'and so it is safe only behind a server that sets it. recdb init never replaces it. It runs as recdb''s owner.';
    revoke all on function recdb.current_user_id() from public;
end
$$;
