"""Counts of the items that are popular in segments, which a refresh keeps.

Revision ID: 0016
Revises: 0015
"""

from recdb.revisions import execute, withdraw

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# The views and routines that the revisions before this one created.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "keep_variants",
    "link_added_items", "link_changed_items", "precedence", "queue_ignored", "read_interactions", "read_item",
    "read_items", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
comment on table recdb.user_attributes is
    'The attributes of users that the application knows, such as country and language, optional: popular(segment => '
    '...) lists the items that are popular among the users with some of them. A segment that segment_popularity has '
    'is as of its last count; in all others a row takes effect at once.';

create table recdb.segment_popularity (
    segment jsonb primary key check (jsonb_typeof(segment) = 'object'),
    users bigint not null check (users >= 0),
    member_keys integer[],
    item_keys integer[],
    item_ids text[],
    rates double precision[],
    counted_at timestamptz,
    took interval
);
comment on table recdb.segment_popularity is
    'The items that are popular among the users with one or two attributes: for the 100 largest such segments, each of '
    '50 users or more. A full refresh chooses them and counts them all, and refreshes count them again in turn. A call with another '
    'segment, or with one that waits to be counted, counts by itself.';
comment on column recdb.segment_popularity.segment is 'One or two attributes, such as {"country": "de"}.';
comment on column recdb.segment_popularity.users is 'How many users had them at the last full refresh.';
comment on column recdb.segment_popularity.member_keys is
    'The users whose interactions were counted, at most 2,000. NULL, as in the columns that follow: to be counted.';
comment on column recdb.segment_popularity.item_keys is 'The 1,000 items with the largest rates, the largest first.';
comment on column recdb.segment_popularity.item_ids is 'Their ids.';
comment on column recdb.segment_popularity.rates is 'Their rates: the popularity that a user of the segment adds.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop table recdb.segment_popularity;
comment on table recdb.user_attributes is
    'The attributes of users that the application knows, such as country and language, optional: popular(segment => '
    '...) lists the items that are popular among the users with some of them. All rows take effect at once.';
""")
