"""Content: an embedding for each item, and the embeddings that `recdb embed` makes.

Revision ID: 0007
Revises: 0006
"""

from recdb.revisions import execute, withdraw

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The views and routines that the revisions before this one created; this one changes the results of two of them.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "precedence", "queue_ignored",
    "read_interactions", "read_item", "read_items", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)

    # The replay makes both again, with the column embedding. They return it as real[]: a function that returns a type of
    # pgvector would go with the extension.
    execute("""
drop function if exists recdb.read_items(), recdb.read_item(text);

alter table recdb.item add column embedding @vector@.vector
    constraint item_embedding_width check (@vector@.vector_dims(embedding) <= 4000);
comment on column recdb.item.embedding is
    'The embedding of its text or its image, made by any model: at most 4,000 numbers. Two items are alike if their '
    'embeddings are. Those of one catalogue come from one model; of another width than most, they count as missing.';

create table recdb.item_embedding (
    item_id text primary key check (length(item_id) between 1 and 1000 and octet_length(item_id) <= 2600),
    embedding real[] not null,
    digest bytea not null
);
comment on table recdb.item_embedding is
    'The embeddings that `recdb embed` made, for the items of any catalogue. An embedding in the catalogue itself comes '
    'first.';
comment on column recdb.item_embedding.embedding is
    'The embedding. It does not need pgvector, so it stays if somebody drops the extension.';
comment on column recdb.item_embedding.digest is
    'The SHA-256 hash of the text that was embedded and of the way it was: the item is embedded again when it differs.';

create table recdb.embedding_basis (
    only_row boolean primary key default true check (only_row),
    method text not null,
    dimension integer not null check (dimension between 1 and 4000),
    items bigint not null,
    fitted_at timestamptz not null default now()
);
comment on table recdb.embedding_basis is
    'How `recdb embed` made the embeddings, one row: new items are embedded in the same way, so that they compare.';
comment on column recdb.embedding_basis.method is 'tfidf, with the hash of embedding_token; or the name of the model.';
comment on column recdb.embedding_basis.dimension is 'How many numbers an embedding has.';
comment on column recdb.embedding_basis.items is 'How many items the catalogue had when the basis was made.';

create table recdb.embedding_token (
    token bigint primary key,
    weight real not null,
    embedding real[] not null
);
comment on table recdb.embedding_token is
    'The words and attributes that the embeddings of the method tfidf are made of.';
comment on column recdb.embedding_token.token is 'A hash of the word or attribute.';
comment on column recdb.embedding_token.weight is 'The rarer it is in the catalogue, the larger: idf.';
comment on column recdb.embedding_token.embedding is 'The numbers that one occurrence adds to the embedding of an item.';
""")


def downgrade() -> None:
    # Before this revision, nothing reads an embedding. sql/75_attach.sql marks it in the bodies of these functions.
    execute("""
do $$
begin
    if to_regprocedure('recdb.review_sources(boolean)') is not null then
        perform recdb.review_sources(true);
    end if;
end
$$;
""")
    withdraw(keep=KEEP)
    execute("""
do $$
declare
    every text := (select p.prosrc from pg_proc p where p.oid = to_regprocedure('recdb.read_items()'));
    single text := (select p.prosrc from pg_proc p where p.oid = to_regprocedure('recdb.read_item(text)'));
    marked constant text := ',[[:space:]]*?/[*] embedding: [*]/.*?/[*] end [*]/';
begin
    drop function if exists recdb.read_items(), recdb.read_item(text);
    if every is null or single is null then
        return;  -- the older recdb makes them again
    end if;
    set local check_function_bodies = off;
    execute format('
        create function recdb.read_items()
        returns table (
            item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text
        )
        language sql stable parallel safe
        as %L', regexp_replace(every, marked, '', 'g'));
    execute format('
        create function recdb.read_item(item_id text)
        returns table (
            item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text
        )
        language sql stable parallel safe
        as %L', regexp_replace(single, marked, '', 'g'));
    comment on function recdb.read_items() is
        'Internal: the catalogue: the items of all attached tables, and those of recdb.item that no attached table has.';
    comment on function recdb.read_item(text) is
        'Internal: the row of the catalogue for one item, read through an index of recdb.item and of each attached '
        'table.';
end
$$;
update recdb.attachment a
set mapping = a.mapping - 'embedding',
    query = format('select q.item_id, q.owner_id, q.published_at, q.available, q.attributes, q.title from (%s) q', a.query)
where a.role = 'items' and a.mapping ? 'embedding';

drop table recdb.embedding_token, recdb.embedding_basis, recdb.item_embedding;
alter table recdb.item drop column if exists embedding;
""")
