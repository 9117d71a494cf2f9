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
drop function if exists recdb.rebuild();
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

    # Sources and privileges.


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Sources and privileges.

    # Maintenance runs.

    # Identity.

    # Learning.
    execute("""
alter table recdb.model
    drop column neighbor_limit,
    drop column pair_limit;
""")
