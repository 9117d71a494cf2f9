"""Reads the catalogue into arrays: each item with its embedding, attributes, title and owner."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from recdb.learn.tokens import attribute_tokens, text_words
from recdb.progress import Report, silent

Float32 = NDArray[np.float32]

ROWS_AT_ONCE = 1000

# The binary form of a real[] of one dimension: five numbers, then each element after its length.
ARRAY_HEAD = 20
ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])


@dataclass(frozen=True)
class Content:
    """The items of the catalogue in the order of their ids; all sequences have one entry for each item."""

    item_ids: list[str]
    item_keys: NDArray[np.int32]
    """(items,): recdb.item_key; 0 for an item that no interaction has named before the last refresh."""
    owners: list[str | None]
    titles: list[str | None]
    attributes: list[Any]
    """The attributes as Python values of JSON."""
    embeddings: Float32
    """(items, width): as they are in the catalogue, of any length; 0 for an item without."""
    embedded: NDArray[np.bool_]
    """(items,): which items have an embedding of this width."""
    widths: Mapping[int, int]
    """How many items have an embedding of each width; only those of the commonest width are in `embeddings`."""

    def tokens(self) -> list[list[str]]:
        """Return each item's attributes and owner as tokens, such as `genres=comedy` and `owner=u7`."""
        return [attribute_tokens(*each) for each in zip(self.attributes, self.owners, strict=True)]

    def words(self) -> list[list[str]]:
        """Return the words of each item's title and of the long texts in its attributes."""
        return [text_words(*each) for each in zip(self.titles, self.attributes, strict=True)]


def read_content(connection: psycopg.Connection, *, embeddings: bool = True, report: Report = silent) -> Content:
    """Read the whole catalogue: recdb.item and the attached tables.

    It reads in blocks, in one transaction, and keeps 4 bytes for each number of an embedding. Where embeddings have
    several widths, those of the commonest count, of the larger one on a tie. Without `embeddings` it reads none.
    """
    report("reading the catalogue")
    query = sql.SQL(
        "select i.item_id, coalesce(k.item_key, 0), i.owner_id, i.title, i.attributes, {} "
        "from recdb.read_items() i left join recdb.item_key k on k.item_id = i.item_id"
    ).format(sql.SQL("pg_catalog.array_send(i.embedding)" if embeddings else "null::bytea"))
    rows: list[tuple[str, int, str | None, str | None, Any]] = []
    vectors: dict[int, Float32] = {}
    with connection.transaction(), connection.cursor("recdb_content", binary=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        for *row, packed in cursor.execute(query):
            if packed is not None:
                vectors[len(rows)] = np.frombuffer(packed, dtype=ELEMENT, offset=ARRAY_HEAD)["value"].astype(np.float32)
            rows.append((row[0], row[1], row[2], row[3], row[4]))
    widths = Counter(len(vector) for vector in vectors.values())
    width = max(widths, key=lambda each: (widths[each], each), default=0)
    order = sorted(range(len(rows)), key=lambda place: rows[place][0])
    matrix, embedded = np.zeros((len(rows), width), dtype=np.float32), np.zeros(len(rows), dtype=np.bool_)
    for place, number in enumerate(order):
        vector = vectors.pop(number, None)
        if vector is not None and len(vector) == width:
            matrix[place], embedded[place] = vector, True
    rows = [rows[number] for number in order]
    return Content(
        [row[0] for row in rows],
        np.asarray([row[1] for row in rows], dtype=np.int32),
        [row[2] for row in rows],
        [row[3] for row in rows],
        [row[4] for row in rows],
        matrix,
        embedded,
        dict(widths),
    )
