-- The functions that write interactions and erase users.


-- recdb.track: record one interaction in recdb's own store.
--   parameters  user_id, item_id  1 to 1000 characters each
--               kind              1 to 100 characters; interaction_kind has its weight, or config the default
--               created_at        when it happened; NULL is now
--               metadata          anything else; recdb stores it and does not read it
--   returns     the interaction_id
--   writes      interaction
--   errors      22023 for a missing or empty user, item or kind, or for one that is too long
create or replace function recdb.track(
    user_id text, item_id text, kind text, created_at timestamptz default now(), metadata jsonb default null
)
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    id bigint;
begin
    if coalesce(length(user_id), 0) not between 1 and 1000 or coalesce(length(item_id), 0) not between 1 and 1000
        or coalesce(length(kind), 0) not between 1 and 100
        or octet_length(user_id) + octet_length(item_id) + octet_length(kind) > 2600 then
        raise exception 'an interaction needs a user_id and an item_id of 1 to 1000 characters and a kind of 1 to 100 '
            '(together at most 2600 bytes)'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into recdb.interaction (user_id, item_id, kind, created_at, metadata)
    values (track.user_id, track.item_id, track.kind, coalesce(track.created_at, now()), track.metadata)
    returning interaction_id into id;
    return id;
end
$$;
comment on function recdb.track(text, text, text, timestamptz, jsonb) is
    'Records an interaction in recdb''s own store and returns its interaction_id; the user''s next recommend() counts '
    'it. kind: its weight is in interaction_kind, else config.default_weight; created_at: NULL is now; metadata: '
    'stored, not read. Error 22023 for a missing or empty user, item or kind, or for one that is too long.';


-- recdb.forget_user: erase a user.
--   parameters  user_id  the user
--   returns     how many interactions, weighted interactions and vectors were erased
--   reads       attachment, user_item
--   writes      interaction, user_key, user_item_recent, recent_user, user_vector, item_popularity; if interactions are
--               attached also forgotten_user, a tombstone that keeps the user's rows in attached tables out
-- It waits for a running refresh. The materialized view user_item_settled keeps rows under the erased integer key,
-- which no longer leads to a user, until the next full refresh.
create or replace function recdb.forget_user(user_id text)
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    key integer;
    erased bigint := 0;
    part bigint;
    gathered record;
begin
    perform pg_advisory_xact_lock(recdb.refresh_lock());
    delete from recdb.interaction i where i.user_id = forget_user.user_id;
    get diagnostics erased = row_count;
    if exists (select from recdb.attachment a where a.role = 'interactions') then
        insert into recdb.forgotten_user (user_digest)
        select sha256(k.salt || sha256(convert_to(forget_user.user_id, 'UTF8'))) from recdb.secret k
        on conflict do nothing;
    end if;
    delete from recdb.user_key u where u.user_id = forget_user.user_id returning u.user_key into key;
    if key is not null then
        -- After a restore without the settled weights, the rebuild that follows it computes popularity again.
        if recdb.weights_ready() then
            select p.* into gathered from recdb.popularity_of(array[key]) p;
            perform recdb.add_popularity(
                gathered.item_keys,
                array(select -g.weight from unnest(gathered.weights) g(weight)),
                array(select -g.users from unnest(gathered.users) g(users)));
            select count(*) into part from recdb.user_item w where w.user_key = key;
            erased := erased + part;
        end if;
        delete from recdb.user_item_recent w where w.user_key = key;
        insert into recdb.recent_user (user_key) values (key)
        on conflict (user_key) do update set refreshed_at = now();
        delete from recdb.user_vector v where v.user_key = key;
        get diagnostics part = row_count;
        erased := erased + part;
    end if;
    return erased;
end
$$;
comment on function recdb.forget_user(text) is
    'Erases a user from recdb''s own store and from everything that was learned; returns the number of rows erased. '
    'You delete the user''s rows in attached tables yourself: until then a tombstone keeps the id out.';
