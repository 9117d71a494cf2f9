"""Interactions of other databases, which a training learns from and nothing else reads.

Revision ID: 0015
Revises: 0014
"""

from recdb.revisions import execute, withdraw

revision = "0015"
down_revision = "0014"
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
create table recdb.gathered_database (
    database_id integer generated always as identity primary key,
    identity text not null unique,
    name text not null,
    gathered_at timestamptz not null default now(),
    users bigint not null,
    interactions bigint not null
);
comment on table recdb.gathered_database is
    'The other databases from which `recdb gather` brought interactions, one row each.';
comment on column recdb.gathered_database.identity is
    'The server, the database and the schema: however its URL is written, a database is gathered once.';
comment on column recdb.gathered_database.name is 'The database and its host, for messages.';
comment on column recdb.gathered_database.users is 'How many of its users were gathered.';
comment on column recdb.gathered_database.interactions is 'How many weighted interactions these users have.';

create table recdb.gathered_interaction (
    database_id integer not null,
    user_number integer not null,
    position integer not null,
    item_key integer not null,
    weight double precision not null,
    last_at timestamptz not null,
    primary key (database_id, user_number, position)
);
comment on table recdb.gathered_interaction is
    'The weighted interactions that `recdb gather` brought from other databases. Trainings learn about items from them. '
    'Nothing else reads them: these users get no lists here, are nobody''s neighbours, and make nothing popular.';
comment on column recdb.gathered_interaction.user_number is
    'The user''s integer key in the other database: the id stays there.';
comment on column recdb.gathered_interaction.position is 'The item''s position in the user''s profile, from 1.';
comment on column recdb.gathered_interaction.item_key is 'The item''s key here.';
comment on column recdb.gathered_interaction.weight is
    'The weight as of last_at: without the decay of the time since then.';
comment on column recdb.gathered_interaction.last_at is 'When the newest of these interactions happened.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop table recdb.gathered_interaction;
drop table recdb.gathered_database;
""")
