"""Limits that keep one user, one row or one failed run from harming the others.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0005
Revises: 0004
"""

from recdb.revisions import execute, withdraw

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = (
    "all_interactions", "decay", "interactions", "interactions_of", "item_of", "items", "keep_config", "precedence",
    "queue_ignored", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)

    # Learning: what one user may weigh at most, and which items of a profile have a place in it.
    execute("""
alter table recdb.model
    add column pair_limit double precision,
    add column neighbor_limit double precision;
-- 0001 has the same text, but a database from before its correction still has a false one.
comment on table recdb.config is
    'The settings of recdb, one row. recommend() reads half_life, default_weight and profile_limit at once for the '
    'caller''s own profile; for everything learned from users (neighbours, vectors, popularity) they take full effect '
    'with the next `recdb refresh --full`. default_hides and listed_only take effect at once for everybody; '
    'training_limit, training_interactions and kept_models with the next training.';
comment on column recdb.model.pair_limit is
    'The most that one user''s weight for one item counts in this version, as a score source of other users; NULL: no '
    'limit.';
comment on column recdb.model.neighbor_limit is
    'The largest user_vector.total_weight of this version: a user with more is scaled down to it; NULL: no limit.';

alter table recdb.config add column popularity_limit double precision;
comment on column recdb.config.popularity_limit is
    'The most that one user adds to the popularity of one item: the weight of the heaviest kind. A rebuild sets it.';

-- recdb.precedence: the order of the items in a user's profile.
--   parameters  weight  the summed weight of the item
--               rank    1 for the newest item; items with the same timestamp share a rank
--   returns     |weight| * rank^-0.6
create function recdb.precedence(weight double precision, rank bigint)
returns double precision
language sql immutable parallel safe
begin atomic
    select abs(precedence.weight) * power(precedence.rank::double precision, -0.6::double precision);
end;
comment on function recdb.precedence(double precision, bigint) is
    'Internal: |weight| * rank^-0.6, with rank 1 for the newest item. Where a profile is limited to a number of items, '
    'those with the largest precedence stay.';

drop view recdb.user_item;
drop materialized view recdb.user_item_settled;

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

alter table recdb.user_item_recent add column rank integer not null default 1;
alter table recdb.user_item_recent alter column rank drop default;

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';
""")

    # Identity: who is left out, who became whom.
    execute("""
create table recdb.ignored_user (
    user_id text primary key,
    reason text,
    ignored_at timestamptz not null default now()
);
comment on table recdb.ignored_user is
    'Users who count in nobody else''s list, such as crawlers: insert a row, and the next refresh leaves the user out of '
    'weights, vectors and popularity, and so does the next training. Delete the row, and the user counts '
    'again in the same way. The user''s own recommend() goes on.';
comment on column recdb.ignored_user.reason is 'Why, in your words; recdb does not read it.';

create table recdb.changed_user (
    change_id bigint generated always as identity primary key,
    user_id text not null
);
comment on table recdb.changed_user is
    'A queue of users that the next refresh weighs again though they have no new interaction: they are ignored, no '
    'longer ignored, or merged.';

-- recdb.queue_ignored: tell the next refresh which users' weights change.
--   returns     a trigger of ignored_user
--   writes      changed_user
create function recdb.queue_ignored()
returns trigger
language plpgsql security definer
set search_path = recdb, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        insert into recdb.changed_user (user_id) select i.user_id from recdb.ignored_user i;
        return null;
    end if;
    if tg_op <> 'INSERT' then
        insert into recdb.changed_user (user_id) values (old.user_id);
    end if;
    if tg_op <> 'DELETE' then
        insert into recdb.changed_user (user_id) values (new.user_id);
    end if;
    return null;
end
$$;
comment on function recdb.queue_ignored() is
    'Internal: a trigger of ignored_user, which tells the next refresh whose weights change.';
create trigger queue_ignored after insert or delete or update of user_id on recdb.ignored_user
    for each row execute function recdb.queue_ignored();
create trigger queue_all_ignored before truncate on recdb.ignored_user
    for each statement execute function recdb.queue_ignored();

-- What interactions was until now; recdb attach redefines it.
do $$
begin
    execute 'create view recdb.all_interactions as ' || pg_get_viewdef('recdb.interactions'::regclass);
end
$$;
comment on view recdb.all_interactions is
    'Every interaction of recdb''s own store and of all attached tables, without forgotten users; ignored users are in '
    'it.';
create or replace view recdb.interactions as
select a.user_id, a.item_id, a.kind, a.created_at
from recdb.all_interactions a
where not exists (select from recdb.ignored_user g where g.user_id = a.user_id);
comment on view recdb.interactions is
    'Every interaction that counts for others: recdb''s own store and all attached tables, without forgotten users and '
    'without those of ignored_user.';
""")
    # Settings that can never be right.
    execute("""
update recdb.config set default_weight = 0.1
where default_weight not between -1e6 and 1e6 or default_weight <> 0 and abs(default_weight) < 1e-9;
update recdb.config set half_life = null where half_life not between '1 second' and '1000 years';
update recdb.config set decay_origin = now() where not isfinite(decay_origin);
update recdb.interaction_kind set weight = 0 where abs(weight) < 1e-9;
insert into recdb.config select where not exists (select from recdb.config);
alter table recdb.config
    add constraint config_default_weight_range
        check (default_weight between -1e6 and 1e6 and (default_weight = 0 or abs(default_weight) >= 1e-9)),
    add constraint config_half_life_range check (half_life between interval '1 second' and interval '1000 years'),
    add constraint config_decay_origin_finite check (isfinite(decay_origin));
alter table recdb.interaction_kind
    add constraint interaction_kind_weight_range check (weight = 0 or abs(weight) >= 1e-9);

comment on column recdb.item.published_at is
    'Before this time recommend() does not give the item to anybody; NULL: at once. Items without interactions are '
    'listed newest first, after all other popular items; NULL is last.';

-- recdb.keep_config: give a deleted row of config back with the defaults.
--   returns     a trigger of config
--   writes      config
create function recdb.keep_config()
returns trigger
language plpgsql
set search_path = recdb, pg_temp
as $$
begin
    insert into recdb.config default values on conflict do nothing;
    return null;
end
$$;
comment on function recdb.keep_config() is
    'Internal: a trigger of config, which gives a deleted row back with the defaults: every function needs it.';
-- Deferred: a transaction may delete the row and insert another.
create constraint trigger keep_config after delete on recdb.config
    deferrable initially deferred for each row execute function recdb.keep_config();
create trigger keep_truncated_config after truncate on recdb.config
    for each statement execute function recdb.keep_config();
""")

    # Maintenance runs: what each did and how it ended.
    execute("""
alter table recdb.refresh_log
    drop constraint refresh_log_kind_check,
    add constraint refresh_log_kind_check check (kind in ('refresh', 'rebuild', 'train', 'tune', 'activate')),
    add column state text not null default 'succeeded'
        check (state in ('running', 'succeeded', 'failed', 'rejected', 'cancelled', 'lost')),
    add column pid integer,
    add column half_life_before jsonb;
update recdb.refresh_log set state = case when kind = 'train' and model is not null then 'rejected' else 'failed' end
where error is not null;
create index refresh_log_kind on recdb.refresh_log (kind, run_id);
create index refresh_log_running on recdb.refresh_log (run_id) where state = 'running';
comment on column recdb.refresh_log.kind is
    'refresh: the users that changed; rebuild: all weighted interactions again; train: a new model version; tune: a '
    'search for hyper-parameters; activate: another version serves.';
comment on column recdb.refresh_log.state is
    'running; succeeded; failed; rejected (the new version ranks clearly worse and does not serve); cancelled (Ctrl-C '
    'or statement_timeout); lost (the process or its connection was killed: the next run writes this).';
comment on column recdb.refresh_log.pid is 'The server process of the run.';
comment on column recdb.refresh_log.half_life_before is
    'While tune tries another half-life: the one before, as {"half_life": ...}. A run that ends in between has it set '
    'again, at once or by the next job.';
comment on column recdb.refresh_log.error is
    'The error message, or the reason of a rejection; NULL if the run succeeded or still runs.';
-- VACUUM cuts an empty end off a table under a lock that a standby replays, and readers there wait behind it.
alter table recdb.user_item_recent set (vacuum_truncate = off);
alter table recdb.recent_user set (vacuum_truncate = off);
alter table recdb.item_popularity set (vacuum_truncate = off);
alter table recdb.model set (vacuum_truncate = off);
alter table recdb.refresh_log set (vacuum_truncate = off);
alter table recdb.config set (vacuum_truncate = off);
alter materialized view recdb.user_item_settled set (vacuum_truncate = off);
""")

    # Sources and privileges.

    # Revision 0001 has made the salt since; a database from before has hashes without it.
    execute("""
do $$
begin
    if to_regclass('recdb.secret') is not null then
        return;
    end if;
    create table recdb.secret (
        only_row boolean primary key default true check (only_row),
        salt bytea not null
    );
    comment on table recdb.secret is
        'The random salt of this installation, one row, for its owner alone: without it nobody finds out who was '
        'forgotten by hashing ids.';
    insert into recdb.secret (salt)
    values (sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), clock_timestamp()), 'UTF8')));
    update recdb.forgotten_user f set user_digest = sha256(s.salt || f.user_digest) from recdb.secret s;
end
$$;
""")


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Sources and privileges.

    # Maintenance runs.
    execute("""
alter materialized view recdb.user_item_settled reset (vacuum_truncate);
alter table recdb.config reset (vacuum_truncate);
alter table recdb.refresh_log reset (vacuum_truncate);
alter table recdb.model reset (vacuum_truncate);
alter table recdb.item_popularity reset (vacuum_truncate);
alter table recdb.recent_user reset (vacuum_truncate);
alter table recdb.user_item_recent reset (vacuum_truncate);
drop index recdb.refresh_log_running;
drop index recdb.refresh_log_kind;
delete from recdb.refresh_log where kind in ('tune', 'activate') or state = 'running';
alter table recdb.refresh_log
    drop column half_life_before,
    drop column pid,
    drop column state,
    drop constraint refresh_log_kind_check,
    add constraint refresh_log_kind_check check (kind in ('refresh', 'rebuild', 'train'));
comment on column recdb.refresh_log.kind is
    'refresh: the users that changed; rebuild: all weighted interactions again; train: a new model version.';
comment on column recdb.refresh_log.error is 'The error message; NULL if the run succeeded.';
""")

    # Identity.
    execute("""
drop trigger keep_config on recdb.config;
drop trigger keep_truncated_config on recdb.config;
drop function recdb.keep_config();
comment on column recdb.item.published_at is
    'Items without interactions are listed newest first, after all other popular items; NULL is last.';
alter table recdb.interaction_kind drop constraint interaction_kind_weight_range;
alter table recdb.config
    drop constraint config_decay_origin_finite,
    drop constraint config_half_life_range,
    drop constraint config_default_weight_range;
do $$
begin
    execute 'create or replace view recdb.interactions as ' || pg_get_viewdef('recdb.all_interactions'::regclass);
end
$$;
comment on view recdb.interactions is
    'Every interaction that recdb reads: its own store and all attached tables, without forgotten users.';
drop view recdb.all_interactions;
drop table recdb.changed_user;
drop table recdb.ignored_user;
drop function recdb.queue_ignored();
""")

    # Learning.
    execute("""
drop view recdb.user_item;
drop materialized view recdb.user_item_settled;
alter table recdb.user_item_recent drop column rank;

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
        sum(w.weight) as total,
        sum(abs(w.weight)) as magnitude,
        max(least(w.created_at, now())) as last_at
    from weighted w
    group by w.user_key, w.item_key
)
select
    s.user_key,
    row_number() over (partition by s.user_key order by s.last_at desc, s.item_key)::integer as position,
    s.item_key,
    recdb.settle(s.total, s.magnitude) as weight,
    s.last_at
from summed s;
comment on materialized view recdb.user_item_settled is
    'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
    'recent_user are out of date: read the view user_item.';
comment on column recdb.user_item_settled.position is '1 is the user''s newest item.';
comment on column recdb.user_item_settled.weight is
    'The decayed weights of all interactions of this user with this item, summed.';
comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';

drop function recdb.precedence(double precision, bigint);
alter table recdb.config drop column popularity_limit;
alter table recdb.model
    drop column neighbor_limit,
    drop column pair_limit;
""")
