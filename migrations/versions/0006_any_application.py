"""What an application of any kind needs: sources that may change, values, callers who ask for themselves.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0006
Revises: 0005
"""

from recdb.revisions import execute, withdraw

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = (
    "all_interactions", "decay", "interactions", "interactions_of", "item_of", "items", "keep_config", "precedence",
    "queue_ignored", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)

    # Sources: recdb reads an application's tables without depending on them.

    # Values: a number on an interaction.
    execute("""
alter table recdb.interaction add column value double precision
    constraint interaction_value_range check (value between -1e6 and 1e6 and (value = 0 or abs(value) >= 1e-9));
comment on column recdb.interaction.value is
    'How much of it: a quantity, hours of play, stars above or below the middle. The weight of the interaction is the '
    'weight of its kind times this number, NULL is 1; a negative number is a dislike, and 0 has no weight.';
drop index recdb.interaction_user;
-- A covering index: recommend() reads a profile from one or two pages instead of one page per interaction.
create index interaction_user on recdb.interaction (user_id, created_at) include (item_id, kind, value);

drop view recdb.user_item;
drop materialized view recdb.user_item_settled;
drop view recdb.interactions;
do $$
declare
    attached text := rtrim(pg_get_viewdef('recdb.all_interactions'::regclass), ';');
begin
    drop view recdb.all_interactions;
    if exists (select from recdb.attachment a where a.role = 'interactions') then
        -- No row has a value yet. The replay that follows calls combine_interactions(), which reads values too.
        execute 'create view recdb.all_interactions as
            select o.user_id, o.item_id, o.kind, o.created_at, null::double precision as value
            from (' || attached || ') o';
    else
        create view recdb.all_interactions as
        select i.user_id, i.item_id, i.kind, i.created_at, i.value from recdb.interaction i;
    end if;
end
$$;

drop function recdb.interactions_of(text);
-- recdb.interactions_of: the interactions of one user.
--   parameters  user_id  the user
--   returns     one row per interaction, as the view interactions has them
--   reads       interaction and every attached table, each through an index
create function recdb.interactions_of(user_id text)
returns table (item_id text, kind text, created_at timestamptz, value double precision)
language sql stable parallel safe
begin atomic
    select i.item_id, i.kind, i.created_at, i.value
    from recdb.interaction i
    where i.user_id = interactions_of.user_id;
end;

create view recdb.interactions as
select a.user_id, a.item_id, a.kind, a.created_at, a.value
from recdb.all_interactions a
where not exists (select from recdb.ignored_user g where g.user_id = a.user_id);
comment on view recdb.all_interactions is
    'Every interaction of recdb''s own store and of all attached tables, without forgotten users; ignored users are in '
    'it.';
comment on view recdb.interactions is
    'Every interaction that counts for others: recdb''s own store and all attached tables, without forgotten users and '
    'without those of ignored_user.';
comment on function recdb.interactions_of(text) is
    'The interactions of one user, read through an index of recdb''s own store and of each attached table.';

-- The weight of an interaction follows the rule of the view weighted_interactions in sql/. The rule is repeated here,
-- because a materialized view of a revision may not depend on a view that a replay replaces and a downgrade drops.
create materialized view recdb.user_item_settled as
with weighted as (
    select
        u.user_key,
        t.item_key,
        coalesce(k.weight, c.default_weight) * coalesce(i.value, 1)
            * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
        i.created_at
    from recdb.interactions i
    cross join recdb.config c
    join recdb.user_key u on u.user_id = i.user_id
    join recdb.item_key t on t.item_id = i.item_id
    left join recdb.interaction_kind k on k.kind = i.kind
), summed as (
    select
        w.user_key,
        w.item_key,
        recdb.settle(sum(w.weight), sum(abs(w.weight))) as weight,
        max(least(w.created_at, now())) as last_at
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
    s.last_at
from ranked s;
comment on materialized view recdb.user_item_settled is
    'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
    'recent_user are out of date: read the view user_item.';
comment on column recdb.user_item_settled.position is
    '1 is the item with the largest precedence() in the user''s profile; items of weight 0 come last.';
comment on column recdb.user_item_settled.rank is
    'The rank by time among the user''s items that have a weight: 1 is the newest; items with the same timestamp share '
    'a rank.';
comment on column recdb.user_item_settled.weight is
    'The decayed weights of all interactions of this user with this item, summed.';
comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);
alter materialized view recdb.user_item_settled set (vacuum_truncate = off);

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';

create table recdb.load_log (
    load_id bigint generated always as identity primary key,
    file text not null,
    digest bytea not null,
    rows bigint not null,
    loaded_at timestamptz not null default now()
);
comment on table recdb.load_log is
    'The files of interactions that `recdb load` has stored, one row each: it refuses a file that it has loaded before, '
    'unless told to load it again.';
comment on column recdb.load_log.file is 'The name of the file when it was loaded.';
comment on column recdb.load_log.digest is 'The SHA-256 hash of the content of the file, unpacked.';
comment on column recdb.load_log.rows is 'How many interactions were stored.';
create index load_log_digest on recdb.load_log (digest);
""")

    # Callers who may ask for themselves alone.


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Callers who may ask for themselves alone.

    # Values.
    execute("""
drop table recdb.load_log;
drop view recdb.user_item;
drop materialized view recdb.user_item_settled;
drop view recdb.interactions;
do $$
declare
    -- Attached tables stay attached, read without their values.
    everything text := regexp_replace(
        rtrim(pg_get_viewdef('recdb.all_interactions'::regclass), ';'), '\\mi\\.value\\M', 'null::double precision', 'g');
    of_user text := regexp_replace(
        pg_get_function_sqlbody('recdb.interactions_of(text)'::regprocedure), '^BEGIN ATOMIC(.*);\\s*END$', '\\1');
begin
    of_user := regexp_replace(of_user, '\\mi\\.value\\M', 'null::double precision', 'g');
    drop view recdb.all_interactions;
    drop function recdb.interactions_of(text);
    if exists (select from recdb.attachment a where a.role = 'interactions') then
        execute 'create view recdb.all_interactions (user_id, item_id, kind, created_at) as
            select o.user_id, o.item_id, o.kind, o.created_at from (' || everything || ') o';
        execute 'create function recdb.interactions_of(user_id text)
            returns table (item_id text, kind text, created_at timestamptz)
            language sql stable parallel safe
            begin atomic
                select o.item_id, o.kind, o.created_at
                from (' || of_user || ') o (item_id, kind, created_at, value);
            end';
    else
        create view recdb.all_interactions as
        select i.user_id, i.item_id, i.kind, i.created_at from recdb.interaction i;
        create function recdb.interactions_of(user_id text)
        returns table (item_id text, kind text, created_at timestamptz)
        language sql stable parallel safe
        begin atomic
            select i.item_id, i.kind, i.created_at
            from recdb.interaction i
            where i.user_id = interactions_of.user_id;
        end;
    end if;
end
$$;
create view recdb.interactions as
select a.user_id, a.item_id, a.kind, a.created_at
from recdb.all_interactions a
where not exists (select from recdb.ignored_user g where g.user_id = a.user_id);
comment on view recdb.all_interactions is
    'Every interaction of recdb''s own store and of all attached tables, without forgotten users; ignored users are in '
    'it.';
comment on view recdb.interactions is
    'Every interaction that counts for others: recdb''s own store and all attached tables, without forgotten users and '
    'without those of ignored_user.';
comment on function recdb.interactions_of(text) is
    'The interactions of one user, read through an index of recdb''s own store and of each attached table.';
create materialized view recdb.user_item_settled as
with weighted as (
    select
        u.user_key,
        t.item_key,
        coalesce(k.weight, c.default_weight) * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
        i.created_at
    from recdb.interactions i
    cross join recdb.config c
    join recdb.user_key u on u.user_id = i.user_id
    join recdb.item_key t on t.item_id = i.item_id
    left join recdb.interaction_kind k on k.kind = i.kind
), summed as (
    select
        w.user_key,
        w.item_key,
        recdb.settle(sum(w.weight), sum(abs(w.weight))) as weight,
        max(least(w.created_at, now())) as last_at
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
    s.last_at
from ranked s;
comment on materialized view recdb.user_item_settled is
    'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
    'recent_user are out of date: read the view user_item.';
comment on column recdb.user_item_settled.position is
    '1 is the item with the largest precedence() in the user''s profile; items of weight 0 come last.';
comment on column recdb.user_item_settled.rank is
    'The rank by time among the user''s items that have a weight: 1 is the newest; items with the same timestamp share '
    'a rank.';
comment on column recdb.user_item_settled.weight is
    'The decayed weights of all interactions of this user with this item, summed.';
comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);
alter materialized view recdb.user_item_settled set (vacuum_truncate = off);

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';

drop index recdb.interaction_user;
alter table recdb.interaction drop column value;
create index interaction_user on recdb.interaction (user_id, created_at) include (item_id, kind);
""")

    # Sources.
