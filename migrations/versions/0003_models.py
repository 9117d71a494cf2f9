"""What a training learns: model versions, pgvector embeddings and item-to-item neighbours, one partition a version.

Revision ID: 0003
Revises: 0002
"""

from recdb.migrate import execute, withdraw

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


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
comment on table recdb.model is 'A row a trained version: hyper-parameters, metrics, counts. The active one serves recommend().';
comment on column recdb.model.state is 'training: being written; ready: can be served; retired: its vectors are gone.';
comment on column recdb.model.params is 'Hyper-parameters of learning and serving, as recdb.learn.Params names them.';
comment on column recdb.model.decay_origin is 'config.decay_origin when this version was trained: what user_vector.weights are relative to.';
create unique index model_active on recdb.model (active) where active;

do $$
declare
    dimension integer := coalesce(nullif(current_setting('recdb.dimension', true), ''), '128')::integer;
begin
    execute format('create table recdb.user_vector (
        model_id integer not null,
        user_key integer not null,
        embedding halfvec(%1$s) not null,
        item_keys integer[] not null,
        weights real[] not null,
        total_weight real not null,
        primary key (model_id, user_key),
        check (cardinality(item_keys) = cardinality(weights))
    ) partition by list (model_id)', dimension);
    execute format('create table recdb.item_vector (
        model_id integer not null,
        item_key integer not null,
        embedding halfvec(%1$s) not null,
        primary key (model_id, item_key)
    ) partition by list (model_id)', dimension);
end
$$;
comment on table recdb.user_vector is 'The users'' unit vectors, folded in from their items; what people like you are found among. One partition, with its HNSW index, a model version.';
comment on column recdb.user_vector.item_keys is 'The items that the user speaks for as a neighbour: what it is scored with. They lie beside the vector so that whoever finds it reads nothing else.';
comment on column recdb.user_vector.weights is 'What the user gives to each of item_keys: sign(w) |w|^neighbor_weight_exponent, against the decay_origin of the version.';
comment on column recdb.user_vector.total_weight is 'The sum of |weights|.';
comment on table recdb.item_vector is 'The items'' vectors: a user''s vector is the normalized weighted sum of these. One partition a model version.';

create table recdb.item_neighbor (
    model_id integer not null,
    item_key integer not null,
    neighbor_keys integer[] not null,
    weights real[] not null,
    total_weight real not null,
    primary key (model_id, item_key),
    check (cardinality(neighbor_keys) = cardinality(weights))
) partition by list (model_id);
comment on table recdb.item_neighbor is 'What each item recommends: its strongest items and their weights. One partition a model version.';
comment on column recdb.item_neighbor.total_weight is 'The sum of |weights|.';
""")


def downgrade() -> None:
    withdraw()
    execute("""
drop table recdb.item_neighbor;
drop table recdb.item_vector;
drop table recdb.user_vector;
drop table recdb.model;
""")
