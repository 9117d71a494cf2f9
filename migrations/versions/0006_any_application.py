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
    "all_interactions", "current_user_id", "decay", "interactions", "interactions_of", "item_of", "items", "keep_config",
    "precedence", "queue_ignored", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)

    # Sources: recdb reads an application's tables without depending on them.

    # Values: a number on an interaction.

    # Callers who may ask for themselves alone.
    execute("""
-- recdb.current_user_id: the user that recommend_me() and explain_me() answer.
--   returns     the session setting recdb.user_id; NULL for nobody
-- An installation replaces the body, so that it says who the caller is. No dependency keeps the application from
-- changing what a new body reads: it is a string.
create function recdb.current_user_id()
returns text
language sql stable
as $$
    select nullif(pg_catalog.current_setting('recdb.user_id', true), '')
$$;
comment on function recdb.current_user_id() is
    'The user that recommend_me() and explain_me() answer; NULL is nobody. Replace it with create or replace '
    'function to fit your application: it reads the session setting recdb.user_id, which every session can set, and '
    'so it is safe only behind a server that sets it. recdb init never replaces it. It runs as recdb''s owner.';
revoke all on function recdb.current_user_id() from public;
""")


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Callers who may ask for themselves alone.
    execute("drop function recdb.current_user_id();")

    # Values.

    # Sources.
