"""Reads the item half of a model version in another database: its item vectors, item neighbours and content.

Keys of items differ between databases. So everything is read by the keys there and returned by the keys here. An item
that has no key here gets one: users may touch it tomorrow, and lists may hold it today.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy import sparse

from recdb.arrays.copy import copy_out
from recdb.arrays.shared_keys import share_keys, translate_keys
from recdb.database import fetch_row
from recdb.learn.matrix import Float32, Float64
from recdb.progress import Report

ROWS_AT_ONCE = 2000
ARRAY_HEAD = 20
"""The bytes before the elements of an array of one dimension; an empty array has fewer."""

COLUMNS = {
    "model": (
        "model_id", "label", "active", "created_at", "params", "items", "half_life", "decay_origin", "pair_limit",
        "neighbor_limit",
    ),
    "item_key": ("item_key", "item_id"),
    "item_vector": ("model_id", "item_key", "embedding"),
    "item_neighbor": ("model_id", "item_key", "neighbor_keys", "weights", "total_weight"),
    "model_content": ("model_id", "scale"),
    "content_token": ("model_id", "token", "weight", "embedding"),
    "content_vector": ("model_id", "item_key", "embedding"),
    "new_item": ("model_id", "item_key", "users", "embedding", "digest"),
    "item_link": ("model_id", "source_key", "item_key", "touched", "weight"),
}  # fmt: skip
"""The tables that are read, and their columns."""

ITEMS = """
    select t.item_key, t.item_id from recdb.item_key t
    where exists (select from recdb.item_vector v where v.model_id = {0} and v.item_key = t.item_key)
       or exists (select from recdb.item_neighbor r where r.model_id = {0} and r.item_key = t.item_key)
       or exists (select from recdb.content_vector c where c.model_id = {0} and c.item_key = t.item_key)
       or exists (select from recdb.new_item n where n.model_id = {0} and n.item_key = t.item_key)
"""


@dataclass(frozen=True)
class ItemContent:
    """The result of learning from the content of a catalogue, by the keys here."""

    scale: float
    tokens: NDArray[np.int64]
    token_weights: Float32
    directions: Float32
    """(tokens, width)."""
    items: NDArray[np.int32]
    vectors: Float32
    """(items, width)."""
    untouched: NDArray[np.int32]
    """The items that the training placed by their content."""
    places: Float32
    """(untouched, width)."""
    digests: NDArray[np.int64]
    """(untouched,): the content by which each was placed."""
    sources: NDArray[np.int32]
    """(links,): the items that give weights to untouched ones, and the other way round."""
    targets: NDArray[np.int32]
    link_weights: Float32


@dataclass(frozen=True)
class ItemHalf:
    """Everything that a model version knows of items, by the keys here."""

    items: NDArray[np.int32]
    """The keys of its items, ascending."""
    vectors: Float32
    """(largest key + 1, dimension); 0 for items without a vector."""
    neighbors: sparse.csr_array
    """N: (largest key + 1, largest key + 1), each row in its stored order."""
    totals: Float64
    """(largest key + 1,): by how much the weights of a row are divided."""
    content: ItemContent | None


def read_item_half(
    other: psycopg.Connection,
    connection: psycopg.Connection,
    model_id: int,
    dimension: int,
    report: Report,
    *,
    content: bool,
) -> ItemHalf:
    """Read a version's item half from a snapshot of another database, with vectors of at most `dimension` numbers.

    Without `content`, the part that it learned from the catalogue is left out. `connection` is in autocommit: items
    without a key get one.
    """
    shared = share_keys(other, connection, ITEMS.format(int(model_id)), report)
    report("item vectors of the other database")
    size = int(shared.max(initial=0)) + 1
    vectors = read_vectors(other, model_id, shared, size, dimension)
    report("item neighbors of the other database")
    neighbors, totals = read_neighbors(other, model_id, shared, size)
    learned = read_item_content(other, model_id, shared) if content else None
    return ItemHalf(np.unique(shared[shared > 0]), vectors, neighbors, totals, learned)


def read_vectors(
    other: psycopg.Connection, model_id: int, shared: NDArray[np.int32], size: int, dimension: int
) -> Float32:
    """Read the item vectors. Their columns stand in the order of the singular values, so the first ones matter most."""
    (width,) = fetch_row(
        other,
        "select a.atttypmod from pg_attribute a "
        "where a.attrelid = 'recdb.item_vector'::regclass and a.attname = 'embedding'",
    )
    found = copy_out(
        other,
        f"select v.item_key, v.embedding from recdb.item_vector v where v.model_id = {int(model_id)}",
        [("items", np.int32)],
        vectors={"vectors": int(width)},
    )
    keys = translate_keys(found["items"], shared)
    vectors = np.zeros((size, min(int(width), dimension)), dtype=np.float32)
    vectors[keys] = found["vectors"][:, :dimension]
    vectors[0] = 0
    return vectors


def read_neighbors(
    other: psycopg.Connection, model_id: int, shared: NDArray[np.int32], size: int
) -> tuple[sparse.csr_array, Float64]:
    """Read the item neighbours, (items, items), and the totals of their rows, (items,)."""
    totals = np.zeros(size, dtype=np.float64)
    owners, counts = list[int](), list[int]()
    columns: list[NDArray[np.int32]] = []
    weights: list[Float32] = []
    query = (
        "select r.item_key, pg_catalog.array_send(r.neighbor_keys), pg_catalog.array_send(r.weights), r.total_weight "
        f"from recdb.item_neighbor r where r.model_id = {int(model_id)}"
    )
    for key, packed_keys, packed_weights, total in stream_rows(other, query):
        owner = int(translate_keys(np.array([key], dtype=np.int32), shared)[0])
        keys = translate_keys(unpack_numbers(packed_keys, ">i4").astype(np.int32), shared)
        known = keys > 0
        if not owner or not known.any():
            continue
        owners.append(owner)
        counts.append(int(known.sum()))
        columns.append(keys[known])
        weights.append(unpack_numbers(packed_weights, ">f4").astype(np.float32)[known])
        totals[owner] = total
    order = np.argsort(np.array(owners, dtype=np.int64))
    lengths = np.zeros(size, dtype=np.int64)
    lengths[np.array(owners, dtype=np.int64)] = counts
    data = np.concatenate([np.empty(0, dtype=np.float32), *(weights[row] for row in order)])
    indices = np.concatenate([np.empty(0, dtype=np.int32), *(columns[row] for row in order)])
    return sparse.csr_array((data, indices, np.r_[0, np.cumsum(lengths)]), shape=(size, size)), totals


def read_item_content(other: psycopg.Connection, model_id: int, shared: NDArray[np.int32]) -> ItemContent | None:
    """Read the part that a version learned from the content of its catalogue; None if there is none."""
    version = int(model_id)
    row = other.execute("select c.scale from recdb.model_content c where c.model_id = %s", [version]).fetchone()
    if row is None or not row[0]:
        return None
    packed = "pg_catalog.array_send({0}.embedding)"
    tokens = list(
        stream_rows(
            other,
            f"select t.token, t.weight, {packed.format('t')} from recdb.content_token t where t.model_id = {version}",
        )
    )
    known = list(
        stream_rows(
            other,
            f"select v.item_key, {packed.format('v')} from recdb.content_vector v where v.model_id = {version}",
        )
    )
    placed = list(
        stream_rows(
            other,
            f"select n.item_key, n.digest, {packed.format('n')} from recdb.new_item n "
            f"where n.model_id = {version} and n.embedding is not null and n.digest is not null",
        )
    )
    items = translate_keys(np.array([row[0] for row in known], dtype=np.int32), shared)
    untouched = translate_keys(np.array([row[0] for row in placed], dtype=np.int32), shared)
    # The weight of a link before users there touched its item: here others touch it.
    links = copy_out(
        other,
        "select l.source_key, l.item_key, (l.weight * (10 + coalesce(n.users, 0))::real / 10::real)::real "
        "from recdb.item_link l left join recdb.new_item n on n.model_id = l.model_id and n.item_key = l.item_key "
        f"where l.model_id = {version} and not l.touched",
        [("sources", np.int32), ("targets", np.int32), ("weights", np.float32)],
    )
    sources, targets = translate_keys(links["sources"], shared), translate_keys(links["targets"], shared)
    kept = (sources > 0) & (targets > 0)
    return ItemContent(
        float(row[0]),
        np.array([row[0] for row in tokens], dtype=np.int64),
        np.array([row[1] for row in tokens], dtype=np.float32),
        stack_packed([row[2] for row in tokens]),
        items[items > 0],
        stack_packed([row[1] for row in known])[items > 0],
        untouched[untouched > 0],
        stack_packed([row[2] for row in placed])[untouched > 0],
        np.array([row[1] for row in placed], dtype=np.int64)[untouched > 0],
        sources[kept],
        targets[kept],
        links["weights"][kept],
    )


def stream_rows(other: psycopg.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query in binary, some at a time; `other` is in a transaction."""
    with other.cursor(name="rows", binary=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(query)
        yield from cursor


def unpack_numbers(packed: bytes, kind: str) -> NDArray[Any]:
    """Return the elements of an array that array_send() wrote."""
    element = np.dtype([("length", ">i4"), ("value", kind)])
    if len(packed) < ARRAY_HEAD:
        return np.empty(0, dtype=kind)
    values: NDArray[Any] = np.frombuffer(packed, dtype=element, offset=ARRAY_HEAD)["value"]
    return values


def stack_packed(packed: list[bytes]) -> Float32:
    """Return packed arrays of one length as rows."""
    if not packed:
        return np.empty((0, 0), dtype=np.float32)
    return np.stack([unpack_numbers(each, ">f4").astype(np.float32) for each in packed])
