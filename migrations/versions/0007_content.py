"""Content: an embedding for each item, and the embeddings that `recdb embed` makes.

upgrade() is long: it is one SQL script, which never changes after its release.

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
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "link_added_items",
    "precedence", "queue_ignored", "read_interactions", "read_item", "read_items", "settle", "user_item", "users_since",
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

alter table recdb.attachment add column whole_query text;
comment on column recdb.attachment.whole_query is
    'The query with every mapped column, while some that only describe an item are gone or have another type: then '
    'query reads the table without them. NULL while query is whole.';

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

    # Items that a model version has not seen: what it learned about content, and the links of such items.
    execute("""
alter table recdb.config add column content_share real not null default 0.005
    constraint config_content_share check (content_share between 0 and 1);
comment on column recdb.config.content_share is
    'The most that items which nobody has touched at the training take of the first 20 places of all lists, ranked by '
    'their content. 0: they are not ranked at all. It takes effect with the next training.';

create table recdb.model_content (
    model_id integer primary key,
    last_item_key integer not null,
    scale real not null check (scale >= 0)
);
comment on table recdb.model_content is
    'The row of each model version about items that are newer than itself.';
comment on column recdb.model_content.last_item_key is 'The largest key of an item when the training began.';
comment on column recdb.model_content.scale is
    'A similarity of content times this is a weight of item_neighbor. 0: the catalogue says nothing.';

create table recdb.content_token (
    model_id integer not null,
    token bigint not null,
    weight real not null,
    embedding real[] not null,
    primary key (model_id, token)
);
comment on table recdb.content_token is
    'The direction in which items with a word, an attribute or an owner of the catalogue lie, as a model version learned '
    'it.';
comment on column recdb.content_token.token is
    'As item_tokens() gives it. A number d of an item''s embedding has the token -d.';
comment on column recdb.content_token.weight is 'The rarer it is in the catalogue, the larger; 0 for an embedding.';
comment on column recdb.content_token.embedding is 'It adds this to the vector of an item.';

create table recdb.content_vector (
    model_id integer not null,
    item_key integer not null,
    embedding real[] not null,
    primary key (model_id, item_key)
);
comment on table recdb.content_vector is
    'The unit vectors of the items that a version has seen, in the space into which content_token leads.';

create table recdb.new_item (
    model_id integer not null,
    item_key integer not null,
    users integer not null default 0,
    embedding real[],
    primary key (model_id, item_key)
);
comment on table recdb.new_item is 'The items that a model version has not seen, as far as it can rank them.';
comment on column recdb.new_item.users is 'How many users touched it since the training, as of the last refresh.';
comment on column recdb.new_item.embedding is
    'Its unit vector, from its content; NULL if the version knows nothing of its content.';

create table recdb.item_link (
    model_id integer not null,
    source_key integer not null,
    item_key integer not null,
    touched boolean not null,
    weight real not null,
    primary key (model_id, source_key, item_key, touched)
);
create index item_link_item on recdb.item_link (model_id, item_key);
comment on table recdb.item_link is
    'The weights that items give to items which are newer than the model version, as item_neighbor has them for others.';
comment on column recdb.item_link.source_key is 'The item that gives the weight.';
comment on column recdb.item_link.touched is 'True if the weight comes from who touched both, false if from content.';

-- recdb.link_added_items: rank new items of the catalogue from now on.
--   returns     a trigger of item
--   writes      as recdb.link_items()
-- A few items at a time: a large load waits for the next refresh. Nothing that goes wrong stops the application.
create function recdb.link_added_items()
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
comment on function recdb.link_added_items() is
    'Internal: a trigger of item, which lets recommend() rank new items by their content at once.';
create trigger link_added_items after insert on recdb.item
    referencing new table as added for each statement execute function recdb.link_added_items();
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

alter table recdb.attachment drop column whole_query;

drop trigger link_added_items on recdb.item;
drop function recdb.link_added_items();
drop table recdb.item_link, recdb.new_item, recdb.content_vector, recdb.content_token, recdb.model_content;
alter table recdb.config drop column content_share;
drop table recdb.embedding_token, recdb.embedding_basis, recdb.item_embedding;
alter table recdb.item drop column if exists embedding;
""")
