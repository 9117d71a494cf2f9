"""More lists: an index for what is trending, and attributes of users for what is popular in a segment.

Revision ID: 0010
Revises: 0009
"""

from recdb.revisions import execute, withdraw

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The views and routines that the revisions before this one created; the replay makes popular() again, with its new
# arguments.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "keep_variants",
    "link_added_items", "precedence", "queue_ignored", "read_interactions", "read_item", "read_items", "settle",
    "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
create index interaction_created on recdb.interaction (created_at);

comment on column recdb.config.content_share is
    'The most that items which nobody has touched at the training may cost the others, as a share of the ndcg@20 of all '
    'lists, while they are ranked by their content. 0: they are not ranked at all. It takes effect with the next '
    'training.';

create table recdb.user_attributes (
    user_id text primary key check (length(user_id) between 1 and 1000 and octet_length(user_id) <= 2600),
    attributes jsonb not null default '{}' check (jsonb_typeof(attributes) = 'object')
);
-- Without a pending list, which each call would read.
create index user_attributes_attributes on recdb.user_attributes using gin (attributes jsonb_path_ops)
    with (fastupdate = off);
comment on table recdb.user_attributes is
    'The attributes of users that the application knows, such as country and language, optional: popular(segment => '
    '...) lists the items that are popular among the users with some of them. All rows take effect at once.';
comment on column recdb.user_attributes.attributes is
    'An object, such as {"country": "de", "language": "de"}. popular(segment => ...) counts the users whose attributes '
    'contain the segment.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
comment on column recdb.config.content_share is
    'The most that items which nobody has touched at the training take of the first 20 places of all lists, ranked by '
    'their content. 0: they are not ranked at all. It takes effect with the next training.';

drop table recdb.user_attributes;
drop index recdb.interaction_created;
""")
