"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from recdb.migrate import execute, withdraw

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute("""
    """)


def downgrade() -> None:
    withdraw()
    execute("""
    """)
