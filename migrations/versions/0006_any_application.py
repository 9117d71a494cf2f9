"""What an application of any kind needs: sources that may change, values, callers who ask for themselves.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0006
Revises: 0005
"""

from recdb.revisions import withdraw

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


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Callers who may ask for themselves alone.

    # Values.

    # Sources.
