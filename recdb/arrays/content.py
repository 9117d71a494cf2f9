"""Reads the catalogue in blocks: the tokens of each item, as item_tokens() gives them, and its embedding."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from recdb.learn.tokens import TokenSets
from recdb.progress import Report, silent

Float32 = NDArray[np.float32]

ROWS_AT_ONCE = 1000

FIRST_NEW = (
    "(k.item_key is not null or count(*) filter (where k.item_key is null) over (rows unbounded preceding) <= {})"
)

MADE = (
    "exists (select from recdb.item_embedding e where e.item_id = i.item_id and e.embedding = i.embedding and i.whole)"
)
DIGEST = "recdb.content_digest(i.owner_id, i.title, i.attributes, i.embedding)"

# The binary form of an array of one dimension: five numbers, then each element after its length.
ARRAY_HEAD = 20
REAL = np.dtype([("length", ">i4"), ("value", ">f4")])
BIGINT = np.dtype([("length", ">i4"), ("value", ">i8")])


@dataclass(frozen=True)
class Block:
    """Some items of the catalogue; all sequences have one entry for each."""

    item_ids: list[str]
    item_keys: NDArray[np.int32]
    """recdb.item_key; 0 for an item that has none yet."""
    available: NDArray[np.bool_]
    """Whether the item may be recommended, now or from when it is published."""
    published: NDArray[np.float64]
    """When, in seconds; -inf where no time is known."""
    digests: NDArray[np.int64]
    """recdb.content_digest() of the items; 0 if no embeddings are asked for."""
    tokens: TokenSets
    owners: NDArray[np.int64]
    """The token of the item's owner; 0 for none."""
    whole: NDArray[np.bool_]
    """Whether the tokens, and the embedding if asked for, were read."""
    vectors: list[Float32 | None]
    """The embeddings as they are in the catalogue, of any width; None for an item without, and if not asked for."""
    made: NDArray[np.bool_]
    """Whether `recdb embed` made the embedding; False if not asked for."""
    texts: list[tuple[str | None, str | None, str | None]]
    """Title, owner and attributes as JSON; empty if not asked for."""


@dataclass(frozen=True)
class Content:
    """The items of the catalogue in the order of their ids; all sequences have one entry for each."""

    item_ids: list[str]
    item_keys: NDArray[np.int32]
    tokens: TokenSets


def read_content(connection: psycopg.Connection) -> Content:
    """Read the tokens of the whole catalogue."""
    ids, parts = list[str](), list[TokenSets]()
    keys = [np.empty(0, dtype=np.int32)]
    for block in read_items_in_blocks(connection):
        ids += block.item_ids
        keys.append(block.item_keys)
        parts.append(block.tokens)
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    return Content([ids[n] for n in order], np.concatenate(keys)[order], TokenSets.together(parts).of(order))


def read_items_in_blocks(
    connection: psycopg.Connection,
    *,
    only: list[str] | None = None,
    tokens: bool = True,
    embeddings: bool = False,
    texts: bool = False,
    most_new: int | None = None,
    report: Report = silent,
) -> Iterator[Block]:
    """Read the catalogue, recdb.item and the attached tables, once, a block of items at a time, in one transaction.

    With `only`, read these items. With `most_new`, of the items without a key only so many are read with their tokens
    and embeddings, whichever come first.
    """
    report("reading the catalogue")
    query = sql.SQL(
        """
        select i.item_id, i.item_key, i.available,
            coalesce(extract(epoch from i.published_at), '-infinity')::double precision,
            {digest},
            case when i.whole then array_send(array(
                select f.token from recdb.item_tokens(i.owner_id, i.title, i.attributes) f)) end,
            case when i.whole then coalesce(hashtextextended('owner=' || i.owner_id, 0), 0) else 0 end,
            {embedding}, {made}, {title}, {owner}, {attributes}
        from (
            select i.*, coalesce(k.item_key, 0) as item_key, {whole} as whole
            from recdb.read_items() i
            left join recdb.item_key k on k.item_id = i.item_id
            where i.item_id is not null {only}
        ) i
        """
    ).format(
        digest=sql.SQL(DIGEST if embeddings else "0::bigint"),
        embedding=sql.SQL("case when i.whole then array_send(i.embedding) end" if embeddings else "null::bytea"),
        made=sql.SQL(MADE if embeddings else "false"),
        title=sql.SQL("i.title" if texts else "null::text"),
        owner=sql.SQL("i.owner_id" if texts else "null::text"),
        attributes=sql.SQL("i.attributes::text" if texts else "null::text"),
        whole=sql.SQL(str(tokens).lower()) if most_new is None else sql.SQL(FIRST_NEW).format(most_new),
        only=sql.SQL("" if only is None else "and i.item_id = any ({})").format(only),
    )
    with connection.transaction(), connection.cursor("recdb_catalogue", binary=True) as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield Block(
                [row[0] for row in rows],
                np.array([row[1] for row in rows], dtype=np.int32),
                np.array([row[2] for row in rows], dtype=np.bool_),
                np.array([row[3] for row in rows], dtype=np.float64),
                np.array([row[4] for row in rows], dtype=np.int64),
                TokenSets.of_lists([unpack_array(row[5], BIGINT, np.dtype(np.int64)) for row in rows]),
                np.array([row[6] for row in rows], dtype=np.int64),
                np.array([row[5] is not None for row in rows], dtype=np.bool_),
                [None if row[7] is None else unpack_array(row[7], REAL, np.dtype(np.float32)) for row in rows],
                np.array([row[8] for row in rows], dtype=np.bool_),
                [(row[9], row[10], row[11]) for row in rows] if texts else [],
            )


def unpack_array(packed: bytes | None, element: np.dtype, kind: np.dtype) -> NDArray:  # type: ignore[type-arg]
    """Return an array of PostgreSQL in its binary form, without NULLs; NULL and an empty one have no elements."""
    if packed is None or len(packed) <= ARRAY_HEAD:
        return np.empty(0, dtype=kind)
    return np.frombuffer(packed, dtype=element, offset=ARRAY_HEAD)["value"].astype(kind)
