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

    # Callers who may ask for themselves alone.

    # Locks that only recdb's owner can hold.
    execute("""
create table recdb.refresh_lock (
    only_row boolean primary key default true check (only_row)
);
comment on table recdb.refresh_lock is
    'A table without rows. Who rewrites the weighted interactions locks it in exclusive mode: a lock that no other role '
    'than the owner can take, unlike an advisory lock.';
alter table recdb.secret
    add column job_lock bigint not null default hashtextextended(gen_random_uuid()::text, 0::bigint),
    add column activation_lock bigint not null default hashtextextended(gen_random_uuid()::text, 0::bigint);
comment on table recdb.secret is
    'The secrets of this installation, one row, for its owner alone.';
comment on column recdb.secret.salt is
    'It is random: without it nobody finds out who was forgotten by hashing ids.';
comment on column recdb.secret.job_lock is
    'The key of the advisory lock of the job''s session. It changes when another role holds that lock.';
comment on column recdb.secret.activation_lock is
    'The key of the advisory lock of a session that activates a version.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Locks.
    execute("""
alter table recdb.secret drop column activation_lock, drop column job_lock;
comment on table recdb.secret is
    'The random salt of this installation, one row, for its owner alone: without it nobody finds out who was forgotten '
    'by hashing ids.';
comment on column recdb.secret.salt is null;
drop table recdb.refresh_lock;
""")

    # Callers who may ask for themselves alone.

    # Values.

    # Sources.
