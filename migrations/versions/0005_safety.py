"""What keeps one user, one row or one bad night from harming the others.

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
    "all_interactions",
    "decay",
    "interactions",
    "interactions_of",
    "item_of",
    "items",
    "keep_config",
    "queue_ignored",
    "settle",
    "user_item",
    "users_since",
)

# Functions of sql/ whose result columns or arguments changed since 0004; the replay creates them again.
CHANGED = """
drop function if exists recdb.voices(record, integer[], double precision[], bigint[], integer);
drop function if exists recdb.offered(integer, text, boolean);
drop function if exists recdb.rank_items(
    integer[], double precision[], bigint[], text[], integer[], text, integer, bigint, text[], text, jsonb, text);
drop function if exists recdb.serving(text);
"""


def upgrade() -> None:
    execute(CHANGED)

    # Learning: what one user may weigh at most.
    execute("""
alter table recdb.model
    add column pair_limit double precision,
    add column neighbor_limit double precision;
comment on column recdb.model.pair_limit is
    'The most that one user''s weight for one item counts in this version, as a score source of other users; NULL: no '
    'limit.';
comment on column recdb.model.neighbor_limit is
    'The largest user_vector.total_weight of this version: a user with more is scaled down to it; NULL: no limit.';
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
    'weights, vectors and popularity, and the next training out of what it learns. Delete the row, and the user counts '
    'again in the same way. The user''s own recommend() goes on.';
comment on column recdb.ignored_user.reason is 'Why, in your words; recdb does not read it.';

create table recdb.changed_user (
    change_id bigint generated always as identity primary key,
    user_id text not null
);
comment on table recdb.changed_user is
    'A queue of users that the next refresh weighs again though they have no new interaction: they are ignored, no '
    'longer ignored, or merged.';

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

    # Sources and privileges.


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Sources and privileges.

    # Maintenance runs.

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
alter table recdb.model
    drop column neighbor_limit,
    drop column pair_limit;
""")
