-- recdb in SQL: a tour.
--
--   10_profile     what a user did, read live from the interactions
--   20_model       which trained version serves, and the fold-in: a vector for any set of items
--   30_rank        the ranking itself: people like you, because of what you did, blend, fallback
--   40_recommend   recommend() and its relatives: what applications call
--   50_explore     neighbors(), similar_items(), popular(): what analysts call
--   55_explain     why an item is in a list
--   60_write       track() and forget_user()
--   70_refresh     the SQL half of the maintenance job
--   75_attach      an application's own tables, read beside recdb's own store
--   80_views       the analysts' views
--   90_grants      who may do what
--
-- The tables behind them come from migrations/. Everything here holds no data, is replayed after each
-- migration, and is only ever replaced, never dropped.


-- recdb.profile_of: one user's weighted items, live.
--   returns  a row an item the user ever touched; item_key is NULL for an item no refresh has seen yet
--   reads    interactions_of (each source's own index), interaction_kind, item_key
--   cost     an index lookup an interaction
create or replace function recdb.profile_of(user_id text)
returns table (item_id text, item_key integer, weight double precision, last_at timestamptz, hides boolean)
language sql stable parallel safe
begin atomic
    select g.item_id, t.item_key, recdb.settle(g.total, g.magnitude), g.last_at, g.hides
    from (
        select
            w.item_id,
            sum(w.weight) as total,
            sum(abs(w.weight)) as magnitude,
            max(least(w.created_at, now())) as last_at,
            bool_or(w.hides) as hides
        from (
            -- The functions are inlined only where their arguments are plain columns.
            select
                i.item_id,
                coalesce(k.weight, c.default_weight) * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
                i.created_at,
                coalesce(k.hides, c.default_hides) as hides
            from (select f.* from recdb.config f offset 0) c
            cross join lateral recdb.interactions_of(profile_of.user_id) i
            left join recdb.interaction_kind k on k.kind = i.kind
        ) w
        group by w.item_id
    ) g
    left join lateral (
        select t.item_key from recdb.item_key t where t.item_id = g.item_id offset 0
    ) t on true;
end;
comment on function recdb.profile_of(text) is
    'The items one user touched, with summed and decayed weights, read live; hides says which are not recommended again.';


-- recdb.profile: the same in arrays, the newest item first: what is scored with, and what must not come back.
--   returns  one row; item_keys, weights and ranks of the items that have keys, ranks shared by what is of one moment
create or replace function recdb.profile(user_id text)
returns table (
    item_keys integer[], weights double precision[], ranks bigint[], hidden_ids text[], hidden_keys integer[]
)
language sql stable parallel safe
begin atomic
    with profile as materialized (
        select p.*, rank() over (order by p.last_at desc) as rank
        from recdb.profile_of(profile.user_id) p
        order by p.last_at desc, p.item_key
    )
    select
        array_agg(p.item_key) filter (where p.item_key is not null),
        array_agg(p.weight) filter (where p.item_key is not null),
        array_agg(p.rank) filter (where p.item_key is not null),
        coalesce(array_agg(p.item_id) filter (where p.hides), '{}'),
        coalesce(array_agg(p.item_key) filter (where p.hides and p.item_key is not null), '{}')
    from profile p;
end;
comment on function recdb.profile(text) is
    'One user''s profile in arrays, the newest item first, and the items that are not recommended again.';
