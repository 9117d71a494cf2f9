"""What users did, and with what: the interaction store, its kinds and the optional catalogue.

Everything else in recdb reads the views `interactions` and `items` and the functions `interactions_of` and
`item_of`. They belong to the revisions, not to `sql/`, because materialized views depend on them and because
`recdb attach` redefines them to add an application's own tables.

Revision ID: 0001
Revises:
"""

from recdb.migrate import execute, withdraw

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute("""
create table recdb.config (
    only_row boolean primary key default true check (only_row),
    half_life interval check (half_life > interval '0'),
    decay_origin timestamptz not null default now(),
    default_weight double precision not null default 0.1,
    default_hides boolean not null default true,
    profile_limit integer not null default 500 check (profile_limit between 1 and 10000),
    training_limit integer not null default 5000 check (training_limit between 1 and 30000),
    training_interactions bigint not null default 40000000 check (training_interactions >= 1),
    listed_only boolean not null default false,
    kept_models integer not null default 2 check (kept_models >= 1),
    check (profile_limit <= training_limit)
);
comment on table recdb.config is 'Settings of recdb, one row. Changing half_life, default_weight or profile_limit takes effect with the next `recdb refresh --full`.';
comment on column recdb.config.half_life is 'An interaction counts half as much after this time; NULL: time does not matter.';
comment on column recdb.config.decay_origin is 'The moment at which an interaction weighs just its kind''s weight. A rebuild moves it to the newest interaction, where that is more than a half-life away.';
comment on column recdb.config.default_weight is 'Weight of a kind that interaction_kind does not list.';
comment on column recdb.config.default_hides is 'Whether a kind that interaction_kind does not list hides its item.';
comment on column recdb.config.profile_limit is 'The most of a user''s items, newest first, that any version scores with, the user''s own and each neighbour''s; versions may take fewer. What hides is never cut.';
comment on column recdb.config.training_limit is 'How many of a user''s items, newest first, a training learns from.';
comment on column recdb.config.training_interactions is 'How many weighted interactions (users times items that met) a training learns from, at most: of more, those of a sample of the users. It bounds the job''s memory, of which one takes some 150 bytes. Every user gets a vector all the same.';
comment on column recdb.config.listed_only is 'True: only items of the catalogue are recommended.';
comment on column recdb.config.kept_models is 'How many model versions keep their vectors, the active one included.';
insert into recdb.config default values;

create table recdb.interaction_kind (
    kind text primary key,
    weight double precision not null check (weight between -1e6 and 1e6),
    hides boolean not null default true
);
comment on table recdb.interaction_kind is 'What an interaction of each kind weighs, and whether it hides its item from recommend().';
comment on column recdb.interaction_kind.weight is 'Repeats are summed; negative is a dislike.';
comment on column recdb.interaction_kind.hides is 'True: an item with such an interaction is not recommended to that user again.';
insert into recdb.interaction_kind (kind, weight)
values ('view', 0.1), ('click', 0.3), ('like', 0.7), ('share', 1.0);

create table recdb.interaction (
    interaction_id bigint generated always as identity primary key,
    user_id text not null check (length(user_id) between 1 and 1000),
    item_id text not null check (length(item_id) between 1 and 1000),
    kind text not null check (length(kind) between 1 and 100),
    created_at timestamptz not null default now(),
    metadata jsonb,
    recorded_in xid8 not null default pg_current_xact_id(),
    check (octet_length(user_id) + octet_length(item_id) + octet_length(kind) <= 2600)  -- what an index entry holds
) with (autovacuum_vacuum_insert_scale_factor = 0.02);  -- interaction_user is read alone only where VACUUM has been
comment on table recdb.interaction is 'recdb''s own store of interactions, append-only: one row an event.';
comment on column recdb.interaction.recorded_in is 'The transaction that wrote the row: how recdb.refresh() finds what is new, back-dated and late-committed rows included.';
-- Covering: a profile is read from one page or two instead of one for each interaction.
create index interaction_user on recdb.interaction (user_id, created_at) include (item_id, kind);
create index interaction_recorded on recdb.interaction (recorded_in);

create table recdb.item (
    item_id text primary key check (length(item_id) between 1 and 1000 and octet_length(item_id) <= 2600),
    owner_id text,
    published_at timestamptz,
    available boolean not null default true,
    attributes jsonb not null default '{}',
    title text
);
comment on table recdb.item is 'recdb''s own catalogue, optional: what filters, own items and availability are read from.';
comment on column recdb.item.owner_id is 'The user whose item this is; never recommended to that user.';
comment on column recdb.item.available is 'False: never recommended, at once.';
comment on column recdb.item.attributes is 'What recommend(filter => ...) is matched against, with @>.';
create index item_published on recdb.item (published_at desc nulls last, item_id);

create table recdb.attachment (
    attachment_id integer generated always as identity primary key,
    role text not null check (role in ('interactions', 'items')),
    relation text not null,
    mapping jsonb not null,
    attached_at timestamptz not null default now()
);
comment on table recdb.attachment is 'The application''s own tables that `recdb attach` added to the views interactions and items; the view attached_N is how recdb reads the one with attachment_id N.';
comment on column recdb.attachment.relation is 'The table''s name when it was attached; the view follows one that is renamed.';
comment on column recdb.attachment.mapping is 'The columns and expressions that attach was given.';

create table recdb.forgotten_user (
    user_digest bytea primary key,
    forgotten_at timestamptz not null default now()
);
comment on table recdb.forgotten_user is 'Tombstones: SHA-256 of the ids that recdb.forget_user() erased, which keep rows of attached tables out.';

create view recdb.interactions as
select i.user_id, i.item_id, i.kind, i.created_at
from recdb.interaction i;
comment on view recdb.interactions is 'Every interaction that counts: recdb''s own store and every attached table.';

create function recdb.interactions_of(user_id text)
returns table (item_id text, kind text, created_at timestamptz)
language sql stable parallel safe
begin atomic
    select i.item_id, i.kind, i.created_at
    from recdb.interaction i
    where i.user_id = interactions_of.user_id;
end;
comment on function recdb.interactions_of(text) is 'The interactions of one user, read through the index of each source.';

create function recdb.users_since(seen xid8, since timestamptz)
returns table (user_id text)
language sql stable
begin atomic
    select distinct i.user_id
    from recdb.interaction i
    where i.recorded_in >= users_since.seen
      -- Beyond: rows restored from a server whose transactions were numbered further. A rebuild has them.
      and (i.recorded_in < pg_snapshot_xmax(pg_current_snapshot())
          or i.recorded_in = pg_current_xact_id_if_assigned());
end;
comment on function recdb.users_since(xid8, timestamptz) is 'The users with interactions written by transaction seen or a later one (own store), or created since then (attached tables).';

create view recdb.items as
select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title
from recdb.item i;
comment on view recdb.items is 'The catalogue: every attached table, and of recdb''s own the items that none of them has.';

create function recdb.item_of(item_id text)
returns table (item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text)
language sql stable parallel safe
begin atomic
    select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title
    from recdb.item i
    where i.item_id = item_of.item_id;
end;
comment on function recdb.item_of(text) is 'The catalogue''s entry of one item, read through the index of each source.';
""")


def downgrade() -> None:
    withdraw()
    execute("""
drop function recdb.item_of(text);
drop view recdb.items;
drop function recdb.users_since(xid8, timestamptz);
drop function recdb.interactions_of(text);
drop view recdb.interactions;
do $$
declare
    attached text;
begin
    for attached in
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'v' and c.relname ~ '^attached_[0-9]+$'
    loop
        execute format('drop view %s', attached);
    end loop;
end
$$;
drop table recdb.forgotten_user;
drop table recdb.attachment;
drop table recdb.item;
drop table recdb.interaction;
drop table recdb.interaction_kind;
drop table recdb.config;
""")
