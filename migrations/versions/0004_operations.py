"""The log of maintenance runs.

Revision ID: 0004
Revises: 0003
"""

from recdb.revisions import execute, withdraw

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = ("decay", "interactions", "interactions_of", "item_of", "items", "settle", "user_item", "users_since")


def upgrade() -> None:
    execute("""
create table recdb.refresh_log (
    run_id bigint generated always as identity primary key,
    kind text not null check (kind in ('refresh', 'rebuild', 'train')),
    started_at timestamptz not null,
    finished_at timestamptz,
    users bigint,
    rows bigint,
    model text,
    seen xid8,
    cluster bigint,
    error text
);
comment on table recdb.refresh_log is 'The maintenance runs, one row each, with the error if the run failed.';
comment on column recdb.refresh_log.kind is
    'refresh: the users that changed; rebuild: all weighted interactions again; train: a new model version.';
comment on column recdb.refresh_log.users is 'How many users the run processed.';
comment on column recdb.refresh_log.rows is 'How many weighted interactions it wrote, or learned from.';
comment on column recdb.refresh_log.model is 'The label of the model version that it trained.';
comment on column recdb.refresh_log.seen is
    'All transactions before this one had ended when the run began: the next refresh starts here.';
comment on column recdb.refresh_log.cluster is
    'The system identifier of the server that numbers these transactions: after a restore into another server, seen '
    'means nothing.';
comment on column recdb.refresh_log.error is 'The error message; NULL if the run succeeded.';
create index refresh_log_started on recdb.refresh_log (started_at);
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("drop table recdb.refresh_log;")
