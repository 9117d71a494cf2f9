-- The functions that write interactions, merge and erase users.


-- recdb.track: record one interaction in recdb's own store.
--   parameters  user_id, item_id  1 to 1000 characters each
--               kind              1 to 100 characters; interaction_kind has its weight, or config the default
--               created_at        when it happened; NULL is now. From 1970 until a day ahead: a clock may be wrong by a
--                                 day, and what is ahead counts as now. A time beyond is a mistake, such as
--                                 milliseconds taken for seconds
--               metadata          anything else; recdb stores it and does not read it
--               value             how much of it: the weight of the kind is multiplied by it; NULL is 1, a negative
--                                 number is a dislike. From -1e6 to 1e6, and 0 or at least 1e-9 in size
--   returns     the interaction_id
--   writes      interaction
--   errors      22023 for a missing or empty user, item or kind, for one that is too long, for a created_at that
--               cannot be meant, or for a value out of range
create or replace function recdb.track(
    user_id text, item_id text, kind text, created_at timestamptz default now(), metadata jsonb default null,
    value double precision default null
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
    if created_at < timestamptz '1970-01-01 00:00:00+00' or created_at > now() + interval '1 day' then
        raise exception 'created_at is %, and must be from 1970 until a day from now', created_at
            using errcode = 'invalid_parameter_value',
                hint = 'Are milliseconds taken for seconds? Leave it out for now.';
    end if;
    if not (value between -1e6 and 1e6 and (value = 0 or abs(value) >= 1e-9)) then
        raise exception 'value is %, and must be from -1,000,000 to 1,000,000, and 0 or at least 1e-9 in size', value
            using errcode = 'invalid_parameter_value', hint = 'Leave it out for 1.';
    end if;
    insert into recdb.interaction (user_id, item_id, kind, created_at, metadata, value)
    values (
        track.user_id, track.item_id, track.kind, coalesce(track.created_at, now()), track.metadata, track.value)
    returning interaction_id into id;
    return id;
end
$$;
comment on function recdb.track(text, text, text, timestamptz, jsonb, double precision) is
    'Records an interaction in recdb''s own store and returns its interaction_id; the user''s next recommend() counts '
    'it. kind: its weight is in interaction_kind, else config.default_weight; created_at: NULL is now; metadata: '
    'stored, not read; value: a number that the weight of the kind is multiplied by, as a quantity or stars above the '
    'middle, NULL is 1. Error 22023 for a missing or empty user, item or kind, for one that is too long, for a '
    'created_at before 1970 or more than a day ahead, and for a value beyond 1,000,000.';


-- recdb.merge_users: a guest became a member: what the guest did counts as the member's from now on.
--   parameters  from_id  the guest's id
--               to_id    the member's id
--   returns     how many interactions of recdb's own store it moved; 0 if there is nothing left to move
--   writes      interaction; user_attributes: the member's own come before the guest's; changed_user: the next refresh
--               gives the member the weights, the vectors and the share of popularity of both, and takes the guest's
--               away; impression and impression_new
--   errors      22023 for a missing, empty or too long id, and for twice the same
-- It waits for no refresh. Attached tables are the application's: it changes the ids there itself.
create or replace function recdb.merge_users(from_id text, to_id text)
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
declare
    moved bigint;
begin
    if coalesce(length(from_id), 0) not between 1 and 1000 or coalesce(length(to_id), 0) not between 1 and 1000 then
        raise exception 'merge_users() needs two user ids of 1 to 1000 characters'
            using errcode = 'invalid_parameter_value';
    elsif from_id = to_id then
        raise exception 'merge_users() needs two different user ids' using errcode = 'invalid_parameter_value';
    end if;
    perform recdb.await_move();
    begin
        moved := recdb.move_interactions(merge_users.from_id, merge_users.to_id);
    exception when check_violation then
        raise exception
            'the member''s id is too long for an interaction of the guest (with item and kind at most 2600 bytes)'
            using errcode = 'invalid_parameter_value';
    end;
    insert into recdb.user_attributes as a (user_id, attributes)
    select merge_users.to_id, g.attributes from recdb.user_attributes g where g.user_id = merge_users.from_id
    on conflict (user_id) do update set attributes = excluded.attributes || a.attributes;
    delete from recdb.user_attributes a where a.user_id = merge_users.from_id;
    perform recdb.merge_impressions(merge_users.from_id, merge_users.to_id);
    if moved > 0 then
        insert into recdb.changed_user (user_id) values (merge_users.from_id), (merge_users.to_id);
    end if;
    return moved;
end
$$;
comment on function recdb.merge_users(text, text) is
    'A guest became a member: moves the interactions of from_id in recdb''s own store to to_id, for good, and returns '
    'their number. The member''s recommend() counts them at once; vectors, weights and popularity of both follow with '
    'the next refresh. Calling it again moves the rows that came since. In attached tables, change the ids yourself. '
    'Error 22023 for a missing or empty id, or for twice the same.';


-- recdb.move_interactions: give the interactions of a guest to the member, in recdb's own store.
--   parameters  from_id, to_id  as merge_users()
--   returns     how many
--   writes      interaction
-- fit_functions() writes another body where Citus has spread the interactions. The body is chosen when this function is
-- called, so the caller holds the table before: a plan for the other kind of table must not run.
create or replace function recdb.move_interactions(from_id text, to_id text)
returns bigint
language plpgsql volatile
as $$
declare
    moved bigint;
begin
    update recdb.interaction i set user_id = move_interactions.to_id where i.user_id = move_interactions.from_id;
    get diagnostics moved = row_count;
    return moved;
end
$$;
comment on function recdb.move_interactions(text, text) is
    'Internal: gives the interactions of a guest to the member, in recdb''s own store; merge_users() calls it.';


-- recdb.merge_impressions: give the impressions of a guest to the member.
--   parameters  from_id, to_id  as merge_users()
--   writes      impression, impression_new
-- A member without a key gets the rows by way of impression_new, with the next refresh.
create or replace function recdb.merge_impressions(from_id text, to_id text)
returns void
language plpgsql volatile
as $$
declare
    guest constant integer := (select u.user_key from recdb.user_key u where u.user_id = from_id);
    member constant integer := (select u.user_key from recdb.user_key u where u.user_id = to_id);
begin
    update recdb.impression_new n set user_id = merge_impressions.to_id where n.user_id = merge_impressions.from_id;
    if member is not null then
        update recdb.impression m set user_key = member where m.user_key = guest;
    elsif guest is not null then
        with moved as (
            delete from recdb.impression m where m.user_key = guest returning m.*
        )
        insert into recdb.impression_new (
            user_id, item_id, scenario, place, shown_at, model_version, experiment, variant, propensity, attachment_id)
        select merge_impressions.to_id, t.item_id, m.scenario, m.place, m.shown_at, m.model_version, m.experiment,
            m.variant, m.propensity, m.attachment_id
        from moved m
        join recdb.item_key t on t.item_key = m.item_key;
    end if;
end
$$;
comment on function recdb.merge_impressions(text, text) is
    'Internal: gives the impressions of a guest to the member that the guest became.';


-- recdb.forget_user: erase a user.
--   parameters  user_id  the user
--   returns     how many interactions, impressions, weighted interactions, vectors and rows of attributes were erased
--   reads       attachment, user_item
--   writes      interaction, impression_new, impression, ignored_user, user_attributes, changed_user, user_key,
--               user_item_recent, recent_user, user_vector, item_popularity, segment_popularity; if interactions or
--               impressions are attached also forgotten_user, a tombstone that keeps the user's rows in attached tables
--               out
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
    perform recdb.take_refresh_lock(true);
    delete from recdb.interaction i where i.user_id = forget_user.user_id;
    get diagnostics erased = row_count;
    delete from recdb.impression_new n where n.user_id = forget_user.user_id;
    get diagnostics part = row_count;
    erased := erased + part;
    if exists (select from recdb.attachment a where a.role in ('interactions', 'impressions')) then
        insert into recdb.forgotten_user (user_digest)
        select sha256(k.salt || sha256(convert_to(forget_user.user_id, 'UTF8'))) from recdb.secret k
        on conflict do nothing;
    end if;
    delete from recdb.ignored_user g where g.user_id = forget_user.user_id;
    delete from recdb.user_attributes a where a.user_id = forget_user.user_id;
    get diagnostics part = row_count;
    erased := erased + part;
    delete from recdb.changed_user c where c.user_id = forget_user.user_id;
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
        perform recdb.uncount_members(array[key]);
        delete from recdb.impression m where m.user_key = key;
        get diagnostics part = row_count;
        erased := erased + part;
        delete from recdb.user_item_recent w where w.user_key = key;
        insert into recdb.recent_user (user_key) values (key)
        on conflict (user_key) do update set refreshed_at = now();
        delete from recdb.user_vector v where v.user_key = key;
        get diagnostics part = row_count;
        erased := erased + part;
        if recdb.weights_ready() then
            perform recdb.link_touched(gathered.item_keys);
        end if;
    end if;
    return erased;
end
$$;
comment on function recdb.forget_user(text) is
    'Erases a user from recdb''s own store and from everything that was learned; returns the number of rows erased. '
    'You delete the user''s rows in attached tables yourself: until then a tombstone keeps the id out.';
