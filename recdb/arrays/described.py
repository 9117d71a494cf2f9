"""Reads the content of the catalogue for the training, by item key, in one pass, and gives new items a key."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import psycopg
from numpy.typing import NDArray

from recdb.arrays.content import Block, read_items_in_blocks
from recdb.database import fetch_row
from recdb.learn.content_features import Described, SingleTokens
from recdb.learn.matrix import Float32
from recdb.learn.tokens import TokenSets

MOST_UNTOUCHED = 50_000
"""Of the items without a key, which nobody has touched, the newest get one."""

LONGEST_ID = 2600
"""Bytes: recdb.item_key holds no longer id."""


@dataclass
class Collected:
    """The content of items that have a key."""

    keys: list[NDArray[np.int32]] = field(default_factory=list)
    available: list[NDArray[np.bool_]] = field(default_factory=list)
    digests: list[NDArray[np.int64]] = field(default_factory=list)
    tokens: list[TokenSets] = field(default_factory=list)
    owners: list[NDArray[np.int64]] = field(default_factory=list)
    vectors: dict[tuple[int, bool], list[tuple[NDArray[np.int32], Float32]]] = field(default_factory=dict)
    """By width, and whether `recdb embed` made them: keys, and the embeddings of these items."""

    def add(self, block: Block, rows: NDArray[np.integer], keys: NDArray[np.int32]) -> None:
        """Add some rows of a block, whose items have these keys."""
        self.keys.append(keys)
        self.available.append(block.available[rows])
        self.digests.append(block.digests[rows])
        self.tokens.append(block.tokens.of(rows))
        self.owners.append(block.owners[rows])
        by_kind: dict[tuple[int, bool], list[int]] = {}
        for place, row in enumerate(rows):
            vector = block.vectors[row]
            if vector is not None:
                by_kind.setdefault((len(vector), bool(block.made[row])), []).append(place)
        for kind, places in by_kind.items():
            found = np.array([block.vectors[row] for row in rows[places]], dtype=np.float32)
            self.vectors.setdefault(kind, []).append((keys[places], found))

    def described(self, last: int) -> Described | None:
        """Put everything together, for the keys up to `last`; None if there is nothing."""
        keys = np.concatenate([np.empty(0, dtype=np.int32), *self.keys])
        if not len(keys):
            return None
        available = np.zeros(last + 1, dtype=np.bool_)
        available[keys] = np.concatenate(self.available)
        digests = np.zeros(last + 1, dtype=np.int64)
        digests[keys] = np.concatenate(self.digests)
        row_of = np.full(last + 1, -1, dtype=np.int64)
        row_of[keys] = np.arange(len(keys))
        sets = TokenSets.together(self.tokens)
        nothing = TokenSets(np.empty(0, dtype=np.int64), np.zeros(2, dtype=np.int64))
        by_key = TokenSets.together([sets, nothing]).of(np.where(row_of >= 0, row_of, len(keys)))
        tokens = by_key.common()
        numbers, items = by_key.single()
        single = SingleTokens(numbers, items, np.isin(numbers, np.concatenate(self.owners)))
        return Described(by_key.matrix(tokens), tokens, self.embeddings(last), available, single, digests)

    def embeddings(self, last: int) -> Float32:
        """Return the embeddings at length 1, (last + 1, width), of the commonest width, of the larger one on a tie.

        Those that `recdb embed` made and others of the same width do not compare: the commoner ones count.
        """
        counts = {kind: sum(len(keys) for keys, _ in parts) for kind, parts in self.vectors.items()}
        kind = max(counts, key=lambda each: (counts[each], each[0], not each[1]), default=(0, False))
        found = np.zeros((last + 1, kind[0]), dtype=np.float32)
        for keys, vectors in self.vectors.get(kind, ()):
            # As place_item() in SQL: squares of very large and very small numbers need double precision.
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            usable = (lengths > 0) & np.isfinite(lengths)
            found[keys] = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=usable)
        return found


def read_described(connection: psycopg.Connection, most_untouched: int = MOST_UNTOUCHED) -> Described | None:
    """Read the content of all items that have a key, and of the newest ones without, which get one; None if there are
    no items.

    The connection is in autocommit.
    """
    collected = Collected()
    waiting: list[tuple[float, str]] = []
    whole: list[tuple[Block, NDArray[np.integer]]] = []
    for block in read_items_in_blocks(connection, embeddings=True, most_new=most_untouched):
        keyed = np.flatnonzero(block.item_keys > 0)
        collected.add(block, keyed, block.item_keys[keyed])
        fresh = np.flatnonzero((block.item_keys == 0) & block.available)
        note_arrivals(connection, [block.item_ids[row] for row in np.flatnonzero(block.item_keys == 0)])
        waiting += [(-block.published[row], block.item_ids[row]) for row in fresh]
        if block.whole[fresh].any():
            whole.append((block, fresh[block.whole[fresh]]))
        if len(waiting) > 2 * most_untouched:
            waiting = sorted(waiting)[:most_untouched]
    newest = [item for _, item in sorted(waiting)[:most_untouched] if len(item.encode()) <= LONGEST_ID]
    keys = give_keys(connection, newest)
    for block, some in whole:
        rows = np.array([row for row in some if block.item_ids[row] in keys], dtype=np.int64)
        collected.add(block, rows, np.array([keys.pop(block.item_ids[row]) for row in rows], dtype=np.int32))
    for block in read_items_in_blocks(connection, only=list(keys), embeddings=True) if keys else ():
        collected.add(block, np.arange(len(block.item_keys)), block.item_keys)
    (last,) = fetch_row(connection, "select coalesce(max(t.item_key), 0) from recdb.item_key t")
    return collected.described(int(last))


def note_arrivals(connection: psycopg.Connection, items: Sequence[str]) -> None:
    """Note that these items were here at the training: those that come later are placed before them."""
    connection.execute(
        "insert into recdb.arrived_item (item_id, arrived_at) "
        "select n.item_id, coalesce((select max(m.created_at) from recdb.model m), now()) "
        "from unnest(%s::text[]) n(item_id) where octet_length(n.item_id) <= %s on conflict (item_id) do nothing",
        [list(items), LONGEST_ID],
    )


def give_keys(connection: psycopg.Connection, items: Sequence[str]) -> dict[str, int]:
    """Give items a key, in the order of their ids; return the keys."""
    if not items:
        return {}
    connection.execute(
        "insert into recdb.item_key (item_id) select n.item_id from unnest(%s::text[]) n(item_id) order by n.item_id "
        "on conflict (item_id) do nothing",
        [list(items)],
    )
    return dict(
        connection.execute(
            "select t.item_id, t.item_key from recdb.item_key t where t.item_id = any (%s)", [list(items)]
        ).fetchall()
    )
