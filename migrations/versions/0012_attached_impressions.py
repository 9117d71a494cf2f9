"""Impressions that an application keeps in a table of its own: recdb copies them at each refresh.

Revision ID: 0012
Revises: 0011
"""

from recdb.revisions import execute, withdraw

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# The views and routines that the revisions before this one created.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "keep_variants",
    "link_added_items", "precedence", "queue_ignored", "read_interactions", "read_item", "read_items", "settle",
    "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
alter table recdb.attachment
    drop constraint attachment_role_check,
    add constraint attachment_role_check check (role in ('interactions', 'items', 'impressions')),
    add column copied_at timestamptz,
    add column left_out text;
comment on column recdb.attachment.role is 'The kind of rows: interactions, items or impressions.';
comment on column recdb.attachment.copied_at is
    'The impressions of this table from before this time are copied: the next refresh goes on ten minutes before it. '
    'NULL: none are, so the next refresh copies those of all of config.impression_retention.';
comment on column recdb.attachment.left_out is
    'The rows of a table of impressions that the last refresh did not copy, and the reason; NULL if there were none.';

alter table recdb.impression add column attachment_id integer;
comment on column recdb.impression.attachment_id is
    'The row of recdb.attachment whose table a refresh copied it from; NULL if recdb.impressions() recorded it.';
create index impression_attached on recdb.impression (attachment_id, shown_at) where attachment_id is not null;
alter table recdb.impression_new add column attachment_id integer;
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop index recdb.impression_attached;
alter table recdb.impression_new drop column attachment_id;
alter table recdb.impression drop column attachment_id;
delete from recdb.attachment where role = 'impressions';
alter table recdb.attachment
    drop column left_out,
    drop column copied_at,
    drop constraint attachment_role_check,
    add constraint attachment_role_check check (role in ('interactions', 'items'));
comment on column recdb.attachment.role is 'The kind of rows: interactions or items.';
""")
