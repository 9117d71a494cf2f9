"""The result of a training: model versions, vectors and item neighbours, one partition per version.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0003
Revises: 0002
"""

from recdb.revisions import execute, withdraw

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = ("decay", "interactions", "interactions_of", "item_of", "items", "settle", "user_item", "users_since")


def upgrade() -> None:
    execute("""
create table recdb.model (
    model_id integer generated always as identity primary key,
    label text not null unique,
    state text not null default 'training' check (state in ('training', 'ready', 'retired')),
    active boolean not null default false,
    created_at timestamptz not null default now(),
    activated_at timestamptz,
    params jsonb not null,
    metrics jsonb not null default '{}',
    users bigint,
    items bigint,
    interactions bigint,
    half_life interval,
    decay_origin timestamptz not null,
    check (not active or state = 'ready')
);
comment on table recdb.model is
    'The trained model versions, one row each. recommend() serves the active one.';
comment on column recdb.model.label is 'The name of the version: recommend(model => ...) and recdb.activate() take it.';
comment on column recdb.model.state is
    'training: being written; ready: recommend() can serve it; retired: its vectors are dropped.';
comment on column recdb.model.active is 'True for the version that recommend() serves; true at most once.';
comment on column recdb.model.activated_at is 'When it last became the active version.';
comment on column recdb.model.params is 'The hyper-parameters of learning and serving, named as in recdb.learn.Params.';
comment on column recdb.model.metrics is 'The metrics of the training on its validation part.';
comment on column recdb.model.users is 'How many users it was trained on.';
comment on column recdb.model.items is 'How many items it was trained on.';
comment on column recdb.model.interactions is 'How many weighted interactions it was trained on.';
comment on column recdb.model.half_life is 'config.half_life when this version was trained.';
comment on column recdb.model.decay_origin is
    'config.decay_origin when this version was trained: user_vector.weights are relative to it.';
create unique index model_active on recdb.model (active) where active;

do $$
declare
    dimension integer := coalesce(nullif(current_setting('recdb.dimension', true), ''), '128')::integer;
begin
    execute format('create table recdb.user_vector (
        model_id integer not null,
        user_key integer not null,
        embedding @vector@.halfvec(%1$s) not null,
        item_keys integer[] not null,
        weights real[] not null,
        total_weight real not null,
        primary key (model_id, user_key),
        check (cardinality(item_keys) = cardinality(weights))
    ) partition by list (model_id)', dimension);
    execute format('create table recdb.item_vector (
        model_id integer not null,
        item_key integer not null,
        embedding @vector@.halfvec(%1$s) not null,
        primary key (model_id, item_key)
    ) partition by list (model_id)', dimension);
end
$$;
comment on table recdb.user_vector is
    'The unit vectors of the users, folded in from their items. recommend() finds a user''s neighbours among them. One '
    'partition per model version, with an HNSW index.';
comment on column recdb.user_vector.embedding is 'The vector; its width was chosen at the install.';
comment on column recdb.user_vector.item_keys is
    'The items that the user contributes to a list as a neighbour. They are stored beside the vector, so that '
    'recommend() reads no other row for a neighbour.';
comment on column recdb.user_vector.weights is
    'The weight of each of item_keys: sign(w) |w|^neighbor_weight_exponent, relative to the version''s decay_origin.';
comment on column recdb.user_vector.total_weight is 'The sum of |weights|.';
comment on table recdb.item_vector is
    'The vectors of the items; the vector of a user is the normalized weighted sum of these. One partition per model '
    'version.';
comment on column recdb.item_vector.embedding is 'The vector; its width was chosen at the install.';

create table recdb.item_neighbor (
    model_id integer not null,
    item_key integer not null,
    neighbor_keys integer[] not null,
    weights real[] not null,
    total_weight real not null,
    primary key (model_id, item_key),
    check (cardinality(neighbor_keys) = cardinality(weights))
) partition by list (model_id);
comment on table recdb.item_neighbor is
    'The strongest neighbours of each item: for a user who interacted with the item, recommend() adds their weights. '
    'One partition per model version.';
comment on column recdb.item_neighbor.neighbor_keys is 'The neighbours, as keys of items.';
comment on column recdb.item_neighbor.weights is 'The weight of each of neighbor_keys.';
comment on column recdb.item_neighbor.total_weight is 'The sum of |weights|.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop table recdb.item_neighbor;
drop table recdb.item_vector;
drop table recdb.user_vector;
drop table recdb.model;
""")
