"""New items: the content that each was placed by, when each arrived, and a trigger for content that changes.

Revision ID: 0013
Revises: 0012
"""

from recdb.revisions import execute, withdraw

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# The views and routines that the revisions before this one created, and its own.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "keep_variants",
    "link_added_items", "link_changed_items", "precedence", "queue_ignored", "read_interactions", "read_item",
    "read_items", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
alter table recdb.new_item add column digest bigint;
comment on column recdb.new_item.digest is
    'A hash of the content by which it was placed: it is placed again when that differs. NULL: it was not looked at.';

-- A list reads the links from each of its user's items: with this index it reads no row of the table.
create index item_link_source on recdb.item_link (model_id, source_key) include (item_key, weight);
alter table recdb.item_link set (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05, vacuum_truncate = off);

create table recdb.arrived_item (
    item_id text primary key check (octet_length(item_id) <= 2600),
    arrived_at timestamptz not null default now()
);
comment on table recdb.arrived_item is
    'When recdb first met each item of the catalogue that some kept model version has not seen. A refresh places those '
    'first that arrived last.';

-- recdb.link_added_items: rank new items of the catalogue from now on.
--   returns     a trigger of item
--   writes      as recdb.link_few()
-- Nothing that goes wrong stops the application, and it waits for nobody.
create or replace function recdb.link_added_items()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
begin
    if to_regprocedure('recdb.link_few(text[])') is not null
        and exists (select from recdb.model_content m where m.scale > 0)
    then
        perform recdb.link_few(array(select a.item_id from added a limit 6));
    end if;
    return null;
exception when others then
    return null;
end
$$;

-- recdb.link_changed_items: rank items of the catalogue by their present content.
--   returns     a trigger of item
--   writes      as recdb.link_few()
-- An item that is available again counts too. Nothing that goes wrong stops the application, and it waits for nobody.
create function recdb.link_changed_items()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
begin
    if to_regprocedure('recdb.link_few(text[])') is not null
        and exists (select from recdb.model_content m where m.scale > 0)
    then
        perform recdb.link_few(array(
            select n.item_id
            from changed n
            left join before o on o.item_id = n.item_id
            where (n.owner_id, n.title, n.attributes, n.available, n.embedding::real[])
                is distinct from (o.owner_id, o.title, o.attributes, o.available, o.embedding::real[])
            limit 6));
    end if;
    return null;
exception when others then
    return null;
end
$$;
comment on function recdb.link_changed_items() is
    'Internal: a trigger of item, which lets recommend() rank new items by their present content.';
create trigger link_changed_items after update on recdb.item
    referencing old table as before new table as changed
    for each statement execute function recdb.link_changed_items();
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop trigger link_changed_items on recdb.item;
drop function recdb.link_changed_items();
-- recdb.link_added_items: rank new items of the catalogue from now on.
--   returns     a trigger of item
create or replace function recdb.link_added_items()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regprocedure('recdb.link_items(text[])') is not null
        and exists (select from recdb.model_content m where m.scale > 0)
        and (select count(*) from (select from added limit 21) a) <= 20
    then
        perform recdb.link_items(array(select a.item_id from added a));
    end if;
    return null;
exception when others then
    return null;
end
$$;
drop table recdb.arrived_item;
drop index recdb.item_link_source;
alter table recdb.item_link reset (
    autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, vacuum_truncate);
alter table recdb.new_item drop column digest;
""")
