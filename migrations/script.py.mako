"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from recdb.revisions import execute, withdraw

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created: copy the last revision's, and add your own.
KEEP = ("decay", "interactions", "interactions_of", "item_of", "items", "settle", "user_item", "users_since")


def upgrade() -> None:
    execute("""
    """)


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
    """)
