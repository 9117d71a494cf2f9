-- recdb in SQL: a tour.
--
-- These files hold the functions and views of schema recdb, and no data. `recdb init` replays all of them after the
-- migrations, in the order of their names. A replay only replaces functions and views, and never drops one.
--
-- Follow one call, recommend('user-42'):
--   40_recommend  recommend() runs as recdb's owner. It reads the user's profile and passes it to rank_items().
--   10_profile    profile() returns the profile in arrays, in the order of precedence(). profile_of() reads the
--                 interactions live with interactions_of(), weighs each by its kind, its value and, with decay(), its
--                 age, and sums the weights of each item. settle() clears a sum of rounding errors.
--   20_model      rank_items() asks serving() for the active model version and its parameters.
--   30_rank       score_sources() finds the score sources of the list: the nearest users, and the user's own items.
--   25_vectors    For the nearest users, fold_in() turns the profile into a vector, and nearest_users() searches an
--                 HNSW index for the stored vectors around it.
--   30_rank       rank_items() sums the scores by item and goes through the items from the best down. eligible() looks
--                 each of them up with item_of(), and drops unavailable items and the user's own.
--   36_segment    With fallback => 'popular', fill_up() fills the list up to k: from popular_filler() of 35_filler, or
--                 first with the items that are popular in the segment that the caller gave.
--
-- Follow one refresh, CALL recdb.refresh():
--   70_refresh    refresh() calls refresh_changed(), which reads in refresh_log where the last run ended. users_since()
--                 names the users with newer interactions; the rest of the run is about these users alone.
--                 refresh_items() reads profiles_of() for them and writes user_item_recent.
--   65_popularity popularity_of() computes how much these users add to the popularity of their items, before and after,
--                 and add_popularity() adds the difference to item_popularity.
--   70_vectors    refresh_vectors() updates the stored vectors of these users in every kept model version.
-- The first refresh, and each `recdb refresh --full`, calls rebuild() instead, which computes everything again from all
-- interactions: assign_keys() gives users and items their integer keys, the materialized view user_item_settled is
-- refreshed, and sum_popularity() sums the popularity of all items. After that, `recdb refresh --full` trains a model
-- version in Python. 71_runs writes into refresh_log when a run starts and how it ends.
--
-- A list that a scenario steers: 31_among ranks the caller's own candidates, 31_rules finds the items that rules name,
-- 32_steer makes the list part by part, 32_pool makes the pool of a part and changes its scores, 33_choose and
-- 36_greedy choose from the pool, and 34_explore draws the items of explored places. Items that a version does not
-- know: 26_tokens takes the words and values of an item, 27_content places it among the known items by them,
-- 28_new_items links it to these, and 29_touched links it by the users who touched it.
--
-- The other files: 05_missing makes what went with something that an application dropped, 15_input tells good texts
-- from bad ones, 16_stored_filters keeps bad filters out of the tables, 50_explore has neighbors() and similar_items()
-- for analysts, 55_explain explains a list, 60_write has track(), merge_users() and forget_user(), 61_any_ids_lists and
-- 62_any_ids take ids of other types than text,
-- 63_public has recommend() in schema public, 64_me answers for the caller alone, 66_impressions records what was
-- shown, 66_trending and 68_audience have lists of rising items and of users, 67_oddities finds odd data,
-- 68_experiments says who gets which variant of a list, 69_guards, 71_runs, 72_rebuild and 73_items belong to the
-- refresh, 74_citus has the parts that differ where Citus has spread recdb over several servers, 74_readers the
-- functions that read interactions there, and 74_moving the calls that wait while it spreads them,
-- 75_attach reads an application's own tables beside recdb's store, 76_trust and 77_sources check these
-- tables, 78_broken says what is missing until `recdb init` has repaired it, 79_attached_impressions copies
-- impressions from an application's own table, 79_failing and 79_failing_items find the rows of attached tables that
-- cannot be read, 79_items reads embeddings and shows the catalogue, 80_views has the views for analysts,
-- 81_online_metrics and 82_logged the figures of what was shown, 83_replicas says whether a standby is fresh enough,
-- and whose it is, and 90_grants grants all of this to five roles.
-- 65_segments keeps counts of the items that are popular in segments.
-- 65_partitions has the partitions of recdb's own interactions, 65_retention deletes old ones; 83_partitioning and
-- 84_partitioned are the steps of `recdb partition`, and 83_obstacles says what it may not do.
--
-- No schema that others may write is on the search path, here and in every function that runs as the owner: an operator
-- that somebody made in public could fit better than PostgreSQL's own. So pgvector is named by schema: @vector@ stands
-- for its schema, which the replay writes in, and operator(@vector@.<=>) is the cosine distance.
--
-- recdb reads sources without depending on them. These functions read interactions and items; their bodies are strings,
-- which 75_attach writes again with the queries of the attached tables:
--   interactions_of(), read_item()   one user, one item, by index: what recommend() calls
--   interactions_of_users()          some users, by index: what a refresh calls
--   users_since()                    who has new interactions: what a refresh calls
--   interactions_between()           a span of time, by index: what trending() calls
--   attached_interactions(), read_items()   everything. read_interactions() adds recdb's own store, without the users
--       of ignored_user: the one place that leaves them out of everything learned. interactions_of() has their rows:
--       their own lists go on. sum_by_user() and sum_by_item() read the same, summed.
-- PostgreSQL inlines all of them, with the caller's rights on the tables. Where Citus has spread the interactions,
-- 74_readers writes them in plpgsql. So they are for recdb's owner; analysts have
-- the views interactions and items, which call show_interactions() and show_items().
--
-- The tables live in migrations/. So do a few functions, because a replay must not touch them:
--   decay(), settle()
--       The materialized view user_item_settled calls them. A downgrade drops everything in sql/, and PostgreSQL does
--       not drop a function that a materialized view needs.
--   precedence()
--       The materialized view calls it to give each item its place in a user's profile.
--   current_user_id()
--       An installation replaces it, to say who the caller of recommend_me() is. A replay would undo that.
--   queue_ignored(), keep_config()
--       The triggers of ignored_user and config call them.


-- recdb.weigh_items: the items that one user interacted with, with their weights, read live.
--   parameters  user_id  the user
--               moment   interactions before it count; NULL: all
--   returns     one row per item; item_key is NULL until a refresh has given the item its key
--   reads       interactions_of() (an index of each source), config, interaction_kind, item_key
-- An interaction's weight follows the rule of the view weighted_interactions. This function repeats the rule, because
-- that view cannot be read through the index of one user in every source.
create or replace function recdb.weigh_items(user_id text, moment timestamptz)
returns table (
    item_id text, item_key integer, weight double precision, last_at timestamptz, hides boolean,
    heaviest double precision
)
language sql stable parallel safe
begin atomic
    select g.item_id, t.item_key, recdb.settle(g.total, g.magnitude), g.last_at, g.hides, g.heaviest
    from (
        select
            w.item_id,
            sum(w.weight) as total,
            sum(abs(w.weight)) as magnitude,
            max(least(w.created_at, now())) as last_at,
            bool_or(w.hides) as hides,
            max(w.heaviest) as heaviest
        from (
            -- PostgreSQL inlines these functions only if their arguments are plain columns, hence the subqueries.
            select
                i.item_id,
                coalesce(k.weight, c.default_weight) * coalesce(i.value, 1)
                    * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
                i.created_at,
                coalesce(k.hides, c.default_hides) as hides,
                greatest(0, coalesce(k.weight, c.default_weight))
                    * recdb.decay(i.created_at, c.decay_origin, c.half_life) as heaviest
            from (select f.* from recdb.config f offset 0) c
            cross join lateral recdb.interactions_of(weigh_items.user_id) i
            left join recdb.interaction_kind k on k.kind = i.kind
            where weigh_items.moment is null or i.created_at < weigh_items.moment
        ) w
        group by w.item_id
    ) g
    left join lateral (
        select t.item_key from recdb.item_key t where t.item_id = g.item_id offset 0
    ) t on true;
end;
comment on function recdb.weigh_items(text, timestamptz) is
    'Internal: the result of profile_of() from the interactions before a moment.';


-- recdb.profile_of: the items that one user interacted with, with their weights, read live.
--   parameters  user_id  the user
--   returns, reads  as weigh_items(), of all interactions
create or replace function recdb.profile_of(user_id text)
returns table (
    item_id text, item_key integer, weight double precision, last_at timestamptz, hides boolean,
    heaviest double precision
)
language sql stable parallel safe
begin atomic
    select w.item_id, w.item_key, w.weight, w.last_at, w.hides, w.heaviest
    from recdb.weigh_items(profile_of.user_id, null) w;
end;
comment on function recdb.profile_of(text) is
    'The items that a user interacted with, read live. weight: the decayed weights of all interactions, summed; '
    'last_at: the newest interaction; hides: recommend() does not give the item to this user again; '
    'item_key: NULL until a refresh has seen the item; heaviest: the largest decayed weight of the kind of one of '
    'them.';


-- recdb.profiles_of: the items that some users interacted with, with their weights, read live.
--   parameters  user_ids  the users
--   returns     of each user the rows of profile_of(), without hides
--   reads       as weigh_items(), whose rule it repeats for many users at once: where Citus has spread the
--               interactions, one question to each node is a small part of the cost of one for each user
create or replace function recdb.profiles_of(user_ids text[])
returns table (
    user_id text, item_id text, item_key integer, weight double precision, last_at timestamptz,
    heaviest double precision
)
language sql stable parallel safe
begin atomic
    select g.user_id, g.item_id, t.item_key, recdb.settle(g.total, g.magnitude), g.last_at, g.heaviest
    from (
        select
            w.user_id,
            w.item_id,
            sum(w.weight) as total,
            sum(abs(w.weight)) as magnitude,
            max(least(w.created_at, now())) as last_at,
            max(w.heaviest) as heaviest
        from (
            select
                i.user_id,
                i.item_id,
                coalesce(k.weight, c.default_weight) * coalesce(i.value, 1)
                    * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
                i.created_at,
                greatest(0, coalesce(k.weight, c.default_weight))
                    * recdb.decay(i.created_at, c.decay_origin, c.half_life) as heaviest
            from (select f.* from recdb.config f offset 0) c
            cross join lateral recdb.interactions_of_users(profiles_of.user_ids) i
            left join recdb.interaction_kind k on k.kind = i.kind
        ) w
        group by w.user_id, w.item_id
    ) g
    left join recdb.item_key t on t.item_id = g.item_id;
end;
comment on function recdb.profiles_of(text[]) is
    'Internal: the items that some users interacted with, with their weights, as profile_of() has those of one.';


-- recdb.profile_at: the result of weigh_items() in arrays, the item with the largest precedence() first.
--   parameters  user_id, moment  as weigh_items()
--   returns     one row: item_keys, weights and ranks of the items that have a key and a weight (rank 1 is the newest
--               item; items with the same timestamp share a rank), and the items to leave out, as ids and as keys
--   reads       weigh_items()
-- An item of weight 0 takes no place and no rank. So an application may record what it has shown with a kind of
-- weight 0 that hides its item, and nothing else changes in the user's list.
create or replace function recdb.profile_at(user_id text, moment timestamptz)
returns table (
    item_keys integer[], weights double precision[], ranks bigint[], hidden_ids text[], hidden_keys integer[]
)
language sql stable parallel safe
begin atomic
    with ranked as materialized (
        select p.*, rank() over (partition by p.weight = 0 order by p.last_at desc) as rank
        from recdb.weigh_items(profile_at.user_id, profile_at.moment) p
    ), profile as (
        select p.*, p.weight <> 0 and p.item_key is not null as counts
        from ranked p
        order by recdb.precedence(p.weight, p.rank) desc, p.last_at desc, p.item_key
    )
    select
        array_agg(p.item_key) filter (where p.counts),
        array_agg(p.weight) filter (where p.counts),
        array_agg(p.rank) filter (where p.counts),
        coalesce(array_agg(p.item_id) filter (where p.hides), '{}'),
        coalesce(array_agg(p.item_key) filter (where p.hides and p.item_key is not null), '{}')
    from profile p;
end;
comment on function recdb.profile_at(text, timestamptz) is
    'Internal: the result of profile() from the interactions before a moment.';


-- recdb.profile: the profile of a user, of all interactions.
--   parameters  user_id  the user
--   returns, reads  as profile_at()
create or replace function recdb.profile(user_id text)
returns table (
    item_keys integer[], weights double precision[], ranks bigint[], hidden_ids text[], hidden_keys integer[]
)
language sql stable parallel safe
begin atomic
    select p.item_keys, p.weights, p.ranks, p.hidden_ids, p.hidden_keys from recdb.profile_at(profile.user_id, null) p;
end;
comment on function recdb.profile(text) is
    'Internal: a user''s profile in arrays, the item with the largest precedence() first, and the items that are not '
    'recommended again.';
