"""Exploring: places of a list for items with few impressions; and when an item was first touched.

Revision ID: 0011
Revises: 0010
"""

from recdb.revisions import execute, withdraw

revision = "0011"
down_revision = "0010"
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
alter table recdb.item_key add column first_at timestamptz;
comment on column recdb.item_key.first_at is
    'The first interaction with the item that counts for others, as of the last full refresh; for an item that came '
    'later, as of the refresh that saw it first. NULL: nobody touched it, or nothing has a time.';

-- For the candidates of a caller: among => array(select item_id from recdb.item where attributes @> ...).
create index item_attributes on recdb.item using gin (attributes jsonb_path_ops) with (fastupdate = off);

alter table recdb.scenario
    add column explore_for interval not null default '1 hour'
        constraint scenario_explore_for check (explore_for between interval '1 second' and interval '1000 years'),
    add column explore_below integer not null default 100
        constraint scenario_explore_below check (explore_below between 1 and 1000000);
comment on column recdb.scenario.freshness is
    'An item''s score halves with each such time since it was published, by published_at of the catalogue, else since '
    'its first interaction. NULL: age does not count, and neither does it for an item without either.';
comment on column recdb.scenario.explore is
    'The share of the places that goes to items with few impressions, drawn by Thompson sampling, 0 to 1. 0: none.';
comment on column recdb.scenario.fallback is
    'popular fills lists up, and none leaves them short, whatever the caller asks for. NULL: as the caller says.';
comment on column recdb.scenario.explore_for is
    'How long a user gets the same draws, so that a page stays as it is.';
comment on column recdb.scenario.explore_below is
    'An item is explored until it has this many impressions within config.impression_retention.';

alter table recdb.scenario alter column pool set default 100;
update recdb.scenario set pool = 100 where name = 'default' and pool = 200 and not acts;

create table recdb.little_shown (
    item_key integer primary key,
    slot integer not null,
    impressions integer not null check (impressions >= 0),
    touched integer not null check (touched between 0 and impressions)
);
create index little_shown_slot on recdb.little_shown (slot, item_key) include (impressions, touched);
comment on table recdb.little_shown is
    'The items that scenarios may explore: at most 10,000 with few impressions, the newest ones. A refresh keeps it.';
comment on column recdb.little_shown.slot is 'A hash of the key: each user draws from the slots after another one.';
comment on column recdb.little_shown.impressions is 'As item_shown has it; 0 for an item that nobody was shown.';
comment on column recdb.little_shown.touched is 'As item_shown has it.';

create table recdb.little_shown_state (
    only_row boolean primary key default true check (only_row),
    filled_at timestamptz not null,
    took interval not null
);
comment on table recdb.little_shown_state is
    'When a refresh last filled little_shown, and how long that took: while a scenario explores, a refresh fills it '
    'again when a hundred times as long has passed.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop table recdb.little_shown_state, recdb.little_shown;
drop index recdb.item_attributes;
comment on column recdb.scenario.freshness is
    'An item''s score halves with each such time since it was published, by published_at of the catalogue. NULL: age '
    'does not count, and neither does it for an item without a date.';
comment on column recdb.scenario.explore is
    'The share of the places that goes to items with few impressions, 0 to 1. 0: none.';
comment on column recdb.scenario.fallback is
    'popular fills lists up even if the caller does not ask for it. NULL: as the caller says.';
update recdb.scenario set pool = 200 where name = 'default' and pool = 100 and not acts;
alter table recdb.scenario alter column pool set default 200;
alter table recdb.scenario drop column explore_below, drop column explore_for;
alter table recdb.item_key drop column first_at;
""")
