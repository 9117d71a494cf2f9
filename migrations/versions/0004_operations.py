"""What operators need: the log of maintenance runs, and the roles that applications are granted.

Revision ID: 0004
Revises: 0003
"""

from recdb.migrate import create_roles, execute, withdraw

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


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
comment on table recdb.refresh_log is 'A row per maintenance run: what, when, how long, how much, and the error if it failed.';
comment on column recdb.refresh_log.users is 'Users whose rows were replaced.';
comment on column recdb.refresh_log.rows is 'Weighted interactions written.';
comment on column recdb.refresh_log.seen is 'Transactions before this one were complete: the next refresh starts here.';
comment on column recdb.refresh_log.cluster is 'The system identifier of the server that numbers these transactions: after a restore into another one, seen means nothing.';
create index refresh_log_started on recdb.refresh_log (started_at);
""")
    create_roles()


def downgrade() -> None:
    withdraw()
    execute("drop table recdb.refresh_log;")
