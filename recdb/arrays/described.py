"""Reads the content of the catalogue for the training: tokens and embeddings, by item key."""

import numpy as np
import psycopg
from scipy import sparse

from recdb.arrays.content import read_content
from recdb.arrays.copy import copy_out
from recdb.database import fetch_row
from recdb.learn.content import Described
from recdb.learn.matrix import Float32

MOST_TOKENS = 100_000
"""The commonest tokens count: the map has a row for each of them."""


def read_described(connection: psycopg.Connection) -> Described | None:
    """Read the tokens and embeddings of all items of the catalogue that have a key; None if there are none."""
    (last,) = fetch_row(connection, "select coalesce(max(t.item_key), 0) from recdb.item_key t")
    items = copy_out(
        connection,
        "select t.item_key, (i.available and coalesce(i.published_at <= now(), true))::integer "
        "from recdb.read_items() i join recdb.item_key t on t.item_id = i.item_id",
        [("keys", np.int32), ("available", np.int32)],
    )
    if not len(items["keys"]):
        return None
    read = copy_out(
        connection,
        "select t.item_key, f.token from recdb.read_items() i join recdb.item_key t on t.item_id = i.item_id "
        "cross join lateral recdb.item_tokens(i.owner_id, i.title, i.attributes) f",
        [("keys", np.int32), ("tokens", np.int64)],
    )
    keys, tokens = read["keys"], read["tokens"]
    inside = keys <= last
    names, numbers, counts = np.unique(tokens[inside], return_inverse=True, return_counts=True)
    common = counts > 1
    if np.count_nonzero(common) > MOST_TOKENS:
        common &= counts >= np.sort(counts)[-MOST_TOKENS]
    kept = common[numbers]
    places = np.cumsum(common) - 1
    entries = (np.ones(np.count_nonzero(kept), dtype=np.float32), (keys[inside][kept], places[numbers[kept]]))
    available = np.zeros(last + 1, dtype=np.bool_)
    chosen = items["keys"] <= last
    available[items["keys"][chosen]] = items["available"][chosen] > 0
    matrix = sparse.csr_array(entries, shape=(last + 1, int(np.count_nonzero(common))))
    return Described(matrix, names[common], read_embeddings(connection, last), available)


def read_embeddings(connection: psycopg.Connection, last: int) -> Float32:
    """Read the embeddings at length 1, (last + 1, width); 0 for an item without. The width is 0 if there are none."""
    (some,) = fetch_row(connection, "select exists (select from recdb.read_items() i where i.embedding is not null)")
    if not some:
        return np.zeros((last + 1, 0), dtype=np.float32)
    content = read_content(connection)
    embeddings = np.zeros((last + 1, content.embeddings.shape[1]), dtype=np.float32)
    chosen = content.embedded & (content.item_keys > 0) & (content.item_keys <= last)
    vectors = content.embeddings[chosen]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings[content.item_keys[chosen]] = np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=(lengths > 0) & np.isfinite(lengths)
    )
    return embeddings
