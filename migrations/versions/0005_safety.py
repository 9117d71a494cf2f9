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
KEEP = ("decay", "interactions", "interactions_of", "item_of", "items", "settle", "user_item", "users_since")

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

    # Learning.
    execute("""
alter table recdb.model
    drop column neighbor_limit,
    drop column pair_limit;
""")
