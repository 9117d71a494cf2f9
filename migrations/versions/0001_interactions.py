"""The interactions: recdb's own store, the kinds, the settings and the optional catalogue.

The rest of recdb reads interactions and items through the views `interactions` and `items` and the functions
`interactions_of`, `users_since` and `item_of`. These belong to the revisions and not to `sql/`: a materialized view
depends on `interactions`, and `recdb attach` redefines them all to add an application's own tables.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0001
Revises:
"""

from recdb.revisions import execute, withdraw

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = ("interactions", "interactions_of", "item_of", "items", "users_since")


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
comment on table recdb.config is
    'The settings of recdb, one row. recommend() reads half_life, default_weight and profile_limit at once for the '
    'caller''s own profile; for everything learned from users (neighbours, vectors, popularity) they take full effect '
    'with the next `recdb refresh --full`. default_hides and listed_only take effect at once for everybody; '
    'training_limit, training_interactions and kept_models with the next training.';
comment on column recdb.config.half_life is
    'An interaction counts half as much after this time; NULL: its age does not matter.';
comment on column recdb.config.decay_origin is
    'The time at which an interaction has exactly the weight of its kind; an older one has less. A rebuild moves it to '
    'the newest interaction if it is more than a half-life away from it.';
comment on column recdb.config.default_weight is 'The weight of a kind that interaction_kind does not list.';
comment on column recdb.config.default_hides is
    'Whether an interaction of a kind that interaction_kind does not list hides its item.';
comment on column recdb.config.profile_limit is
    'The largest number of a user''s items, in the order of precedence(), that a list is scored with: the user''s own and '
    'each neighbour''s. A model version may use fewer. The limit does not affect which items are hidden.';
comment on column recdb.config.training_limit is
    'The largest number of a user''s items, in the order of precedence(), that a training learns from.';
comment on column recdb.config.training_interactions is
    'The largest number of weighted interactions (pairs of user and item) that a training learns from; if there are '
    'more, it learns from a sample of the users. It bounds the memory of the job, about 150 bytes each. Every user still '
    'gets a vector.';
comment on column recdb.config.listed_only is 'True: recommend() gives only items of the catalogue.';
comment on column recdb.config.kept_models is 'How many model versions keep their vectors, including the active one.';
insert into recdb.config default values;

create table recdb.interaction_kind (
    kind text primary key,
    weight double precision not null check (weight between -1e6 and 1e6),
    hides boolean not null default true
);
comment on table recdb.interaction_kind is
    'The kinds of interactions: the weight of one, and whether it hides its item. Edit it to fit your application. A '
    'changed weight counts at once in the caller''s own profile, and for everything learned from users with the next '
    '`recdb refresh --full`; a changed hides counts at once.';
comment on column recdb.interaction_kind.weight is
    'The weight of one interaction of this kind; repeated ones add up, and a negative weight is a dislike.';
comment on column recdb.interaction_kind.hides is
    'True: recommend() does not give a user an item again after such an interaction.';
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
    check (octet_length(user_id) + octet_length(item_id) + octet_length(kind) <= 2600)  -- an index entry holds no more
) with (autovacuum_vacuum_insert_scale_factor = 0.02);  -- index-only scans need pages that VACUUM has visited
comment on table recdb.interaction is
    'recdb''s own store of interactions, append-only: one row per interaction. recdb.track() writes it; plain INSERT '
    'and COPY work as well.';
comment on column recdb.interaction.metadata is 'Anything the application wants to keep; recdb does not read it.';
comment on column recdb.interaction.recorded_in is
    'The transaction that wrote the row: recdb.refresh() finds new rows by it, back-dated and late-committed ones too.';
-- A covering index: recommend() reads a profile from one or two pages instead of one page per interaction.
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
comment on table recdb.item is
    'recdb''s own catalogue, optional: recommend() reads filters, owners and availability from it. All columns take '
    'effect at once.';
comment on column recdb.item.owner_id is 'The user who owns the item; recommend() does not give it to this user.';
comment on column recdb.item.published_at is
    'Items without interactions are listed newest first, after all other popular items; NULL is last.';
comment on column recdb.item.available is 'False: recommend() does not give the item to anybody.';
comment on column recdb.item.attributes is 'recommend(filter => ...) gives only items whose attributes contain it.';
comment on column recdb.item.title is 'The title that `recdb recommend` shows beside the id.';
create index item_published on recdb.item (published_at desc nulls last, item_id);

create table recdb.attachment (
    attachment_id integer generated always as identity primary key,
    role text not null check (role in ('interactions', 'items')),
    relation text not null,
    mapping jsonb not null,
    attached_at timestamptz not null default now()
);
comment on table recdb.attachment is
    'The application''s own tables that `recdb attach` added to the views interactions and items. recdb reads the '
    'table with attachment_id N through the view recdb.attached_N.';
comment on column recdb.attachment.role is 'The kind of rows: interactions or items.';
comment on column recdb.attachment.relation is
    'The table''s name when it was attached; the view follows a table that is renamed.';
comment on column recdb.attachment.mapping is 'The columns and expressions that were given to `recdb attach`.';

create table recdb.forgotten_user (
    user_digest bytea primary key,
    forgotten_at timestamptz not null default now()
);
comment on table recdb.forgotten_user is
    'Tombstones of the users that recdb.forget_user() erased: recdb ignores their rows in attached tables.';
comment on column recdb.forgotten_user.user_digest is
    'The SHA-256 hash of recdb.secret.salt and the SHA-256 hash of the user''s id. Only the owner may read it.';

create table recdb.secret (
    only_row boolean primary key default true check (only_row),
    salt bytea not null
);
comment on table recdb.secret is
    'The random salt of this installation, one row, for its owner alone: without it nobody finds out who was forgotten '
    'by hashing ids.';
insert into recdb.secret (salt)
values (sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), clock_timestamp()), 'UTF8')));

create view recdb.interactions as
select i.user_id, i.item_id, i.kind, i.created_at
from recdb.interaction i;
comment on view recdb.interactions is
    'Every interaction that recdb reads: its own store and all attached tables, without forgotten users.';

-- recdb.interactions_of: the interactions of one user.
--   parameters  user_id  the user
--   returns     one row per interaction, as the view interactions has them
--   reads       interaction and every attached table, each through an index
create function recdb.interactions_of(user_id text)
returns table (item_id text, kind text, created_at timestamptz)
language sql stable parallel safe
begin atomic
    select i.item_id, i.kind, i.created_at
    from recdb.interaction i
    where i.user_id = interactions_of.user_id;
end;
comment on function recdb.interactions_of(text) is
    'The interactions of one user, read through an index of recdb''s own store and of each attached table.';

-- recdb.users_since: the users with new interactions.
--   parameters  seen   in recdb's own store: rows that this transaction or a later one wrote
--               since  in attached tables: rows that were created at this time or later
--   returns     each user once
--   reads       interaction by recorded_in, and every attached table
create function recdb.users_since(seen xid8, since timestamptz)
returns table (user_id text)
language sql stable
begin atomic
    select distinct i.user_id
    from recdb.interaction i
    where i.recorded_in >= users_since.seen
      -- A larger number: a row restored from a server that has numbered more transactions. A rebuild reads it.
      and (i.recorded_in < pg_snapshot_xmax(pg_current_snapshot())
          or i.recorded_in = pg_current_xact_id_if_assigned());
end;
comment on function recdb.users_since(xid8, timestamptz) is
    'Internal: the users with new interactions. seen: written by this transaction or a later one, in recdb''s own '
    'store; since: created at this time or later, in attached tables.';

create view recdb.items as
select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title
from recdb.item i;
comment on view recdb.items is
    'The catalogue: the items of all attached tables, and those of recdb.item that no attached table has.';

-- recdb.item_of: the row of the catalogue for one item.
--   parameters  item_id  the item
--   returns     one row, as the view items has it, or none
--   reads       item and every attached table of items, each through an index
create function recdb.item_of(item_id text)
returns table (item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text)
language sql stable parallel safe
begin atomic
    select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title
    from recdb.item i
    where i.item_id = item_of.item_id;
end;
comment on function recdb.item_of(text) is
    'The row of the catalogue for one item, read through an index of recdb.item and of each attached table.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
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
drop table recdb.secret;
drop table recdb.forgotten_user;
drop table recdb.attachment;
drop table recdb.item;
drop table recdb.interaction;
drop table recdb.interaction_kind;
drop table recdb.config;
""")
