"""Logs that age: how long interactions are kept, partitions of the store by time, and a smaller index of new rows.

Revision ID: 0014
Revises: 0013
"""

from recdb.revisions import execute, withdraw

revision = "0014"
down_revision = "0013"
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
alter table recdb.config add column retention interval
    constraint config_retention_range check (retention between interval '1 day' and interval '1000 years');
comment on column recdb.config.retention is
    'Interactions of recdb''s own store that are older are deleted by a refresh, after it has read them; NULL: they are '
    'kept for ever. Weights, vectors and popularity forget them with the next rebuild. Partitions of interaction are '
    'dropped as a whole; without partitions each refresh deletes a part. Attached tables are the application''s.';

create table recdb.partitioning (
    only_row boolean primary key default true check (only_row),
    every text check (every in ('month', 'week', 'day')),
    source text,
    target text check (target in ('month', 'week', 'day', 'none')),
    began_at timestamptz,
    check ((source is null) = (target is null) and (source is null) = (began_at is null))
);
comment on table recdb.partitioning is
    'How recdb.interaction is partitioned by time, one row; none: it is one table. `recdb partition` writes it.';
comment on column recdb.partitioning.every is 'The time that a partition holds; NULL: one table.';
comment on column recdb.partitioning.source is
    'The table that `recdb partition` is writing again, as one that was interrupted goes on; NULL: none.';
comment on column recdb.partitioning.target is 'The partitions that it makes of it; none: one table.';

create table recdb.partitioning_part (
    starts timestamptz primary key,
    ends timestamptz,
    own boolean not null,
    packed boolean not null,
    done boolean not null default false
);
comment on table recdb.partitioning_part is
    'The spans of time that `recdb partition` copies, one after the other, while it writes a table again.';
comment on column recdb.partitioning_part.ends is 'The end of the span, which is not part of it; NULL: it has none.';
comment on column recdb.partitioning_part.own is 'Whether the span has a partition of its own.';
comment on column recdb.partitioning_part.packed is
    'Whether its rows are in the order of their users, with a smaller index.';

create table recdb.interaction_change (
    change_id bigint generated always as identity primary key,
    interaction_id bigint
);
comment on table recdb.interaction_change is
    'The interactions that came, changed or went while `recdb partition` writes the store again; empty at all other '
    'times.';
comment on column recdb.interaction_change.interaction_id is 'NULL: the store was truncated.';

-- Rows are stored in the order in which their transactions wrote them, so a summary of each range of pages is enough.
drop index recdb.interaction_recorded;
create index interaction_recorded on recdb.interaction using brin ((recorded_in::text::bigint))
    with (pages_per_range = 32, autosummarize = on);
""")


def downgrade() -> None:
    execute("""
do $$
begin
    if exists (select from recdb.partitioning) then
        raise exception 'recdb.interaction is partitioned, which older revisions do not know'
            using hint = 'First run: recdb partition --undo';
    end if;
end
$$;
""")
    withdraw(keep=KEEP)
    execute("""
drop index recdb.interaction_recorded;
create index interaction_recorded on recdb.interaction (recorded_in);
drop table recdb.interaction_change;
drop table recdb.partitioning_part;
drop table recdb.partitioning;
alter table recdb.config drop column retention;
""")
