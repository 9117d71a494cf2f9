-- recdb.track: record one interaction, in recdb's own store.
--   returns  its interaction_id
--   errors   22023 for a missing or empty user, item or kind, or one too long
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
        raise exception 'an interaction needs a user_id and an item_id of 1 to 1000 characters and a kind of 1 to 100 (together at most 2600 bytes)'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into recdb.interaction (user_id, item_id, kind, created_at, metadata)
    values (track.user_id, track.item_id, track.kind, coalesce(track.created_at, now()), track.metadata)
    returning interaction_id into id;
    return id;
end
$$;
comment on function recdb.track(text, text, text, timestamptz, jsonb) is
    'Records an interaction in recdb''s own store and returns its id; recommend() sees it at once.';


-- recdb.forget_user: erase a user.
--   returns  how many rows went: interactions, weighted interactions and vectors
--   The settled materialized view keeps integer keys that lead nowhere until the next full refresh.
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
        values (sha256(convert_to(forget_user.user_id, 'UTF8')))
        on conflict do nothing;
    end if;
    delete from recdb.user_key u where u.user_id = forget_user.user_id returning u.user_key into key;
    if key is not null then
        select p.* into gathered from recdb.popularity_of(array[key]) p;
        perform recdb.add_popularity(
            gathered.item_keys,
            array(select -g.weight from unnest(gathered.weights) g(weight)),
            array(select -g.users from unnest(gathered.users) g(users)));
        select count(*) into part from recdb.user_item w where w.user_key = key;
        erased := erased + part;
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
    'Erases a user from recdb''s own store and from all that was learned; returns the number of rows. Attached tables are the application''s to clean: a tombstone keeps the id out until then.';
