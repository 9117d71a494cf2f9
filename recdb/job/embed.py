"""Embedding the catalogue: a language model from a local folder, or TF-IDF and SVD, embeds the texts of its items.

The embeddings are in recdb.item_embedding, for the items of recdb's own catalogue in recdb.item too. recdb keeps the
way they were made, so that items that come later compare with those that are here: only new and changed items are
embedded, until the catalogue has doubled or the user asks for everything. An embedding that the catalogue itself brings
is never replaced.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from recdb.arrays.content import read_items_in_blocks
from recdb.arrays.copy import copy_in
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import InvalidInput, RecdbError
from recdb.job.language import (
    LanguageModel,
    describe_item,
    find_language_model,
    full_name,
    load_language_model,
    model_name,
)
from recdb.learn.matrix import Float32
from recdb.learn.text_vectors import TextBasis, fit_text_basis
from recdb.learn.tokens import TokenSets
from recdb.migrate import require_whole
from recdb.preconditions import check_owner
from recdb.progress import Report, silent

TFIDF = "tfidf"
STORED_TFIDF = "tfidf of parts"
"""The name in recdb.embedding_basis."""
FORMER_TFIDF = (TFIDF, "tfidf of item_tokens")
"""They stand for tokens that recdb no longer makes."""
DEFAULT_DIMENSION = 256
WIDEST = 4000
ROWS_AT_ONCE = 1000
GROWTH = 2
"""A basis is made again when the catalogue has this many times the items that it was made of."""


@dataclass(frozen=True)
class Embedded:
    """The result of embed()."""

    method: str
    """tfidf, or a language model: its package, and its folder or name."""
    dimension: int
    items: int
    """The items of the catalogue."""
    embedded: int
    """The items that this run embedded."""
    without: int
    """The items without a text that could be embedded."""
    again: bool
    """Whether all items were embedded, because the way changed."""
    seconds: float


@dataclass(frozen=True)
class Way:
    """The way in which texts are embedded."""

    method: str
    dimension: int
    fingerprint: bytes
    by: TextBasis | LanguageModel

    def digest(self, text: bytes) -> bytes:
        """Return the hash of a text, given its own hash, and of this way."""
        return sha256(self.fingerprint + text).digest()


@dataclass(frozen=True)
class Texts:
    """The catalogue in the order of the ids; all sequences have one entry for each item."""

    item_ids: list[str]
    tokens: TokenSets
    hashes: list[bytes]
    """Of title, owner and attributes."""


def embed(
    database: Database,
    *,
    dimension: int | None = None,
    model: str | None = None,
    download: bool = False,
    full: bool = False,
    report: Report = silent,
) -> Embedded:
    """Embed the items of the catalogue that are new or changed, or with `full` all of them.

    `model` is the folder of a language model, its name, or "tfidf" for none. Without it, the way of the last run is
    kept; at the first run it is a model that is installed, or else TF-IDF. Raises RecdbError if items have embeddings
    of their own, which those of recdb could not be compared with, and InvalidInput for a model that is not here.
    """
    began = time.monotonic()
    if dimension is not None and not 1 <= dimension <= WIDEST:
        raise InvalidInput(f"a dimension of {dimension} is outside 1..{WIDEST}")
    with connect(database, autocommit=True) as connection:
        require_primary(connection)
        require_whole(connection)
        check_owner(connection)
        require_no_others(connection)
        texts = read_texts(connection, report)
        with connection.transaction():
            # Two runs at once make one basis.
            connection.execute("lock table recdb.embedding_basis in exclusive mode")
            basis = None if full else kept_basis(connection, len(texts.item_ids), dimension, model)
            again = basis is None
            if basis is None:
                basis = make_basis(texts.tokens, dimension, model, download, report)
                keep_basis(connection, basis, len(texts.item_ids))
        embedded = embed_items(connection, texts, basis, report)
        (having,) = fetch_row(connection, "select count(*) from recdb.item_embedding")
    without = len(set(texts.item_ids)) - int(having)
    seconds = time.monotonic() - began
    return Embedded(basis.method, basis.dimension, len(texts.item_ids), embedded, without, again, seconds)


def read_texts(connection: psycopg.Connection, report: Report) -> Texts:
    """Read the catalogue once, a block at a time; of the texts it keeps the tokens and a hash."""
    hashes: dict[str, bytes] = {}
    ids, parts = list[str](), list[TokenSets]()
    for block in read_items_in_blocks(connection, texts=True, report=report):
        ids += block.item_ids
        parts.append(block.tokens)
        for item, text in zip(block.item_ids, block.texts, strict=True):
            hashes[item] = sha256(repr(text).encode(errors="surrogatepass")).digest()
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    return Texts([ids[n] for n in order], TokenSets.together(parts).of(order), [hashes[ids[n]] for n in order])


def require_no_others(connection: psycopg.Connection) -> None:
    """Raise RecdbError if items have embeddings that recdb did not make."""
    count, own = fetch_row(
        connection,
        """
        select count(*), count(*) filter (where exists (select from recdb.item t where t.item_id = i.item_id))
        from recdb.read_items() i
        left join recdb.item_embedding e on e.item_id = i.item_id
        where i.embedding is distinct from e.embedding and i.embedding is not null
        """,
    )
    if count:
        raise RecdbError(
            f"{count:,} {'item has' if count == 1 else 'items have'} an embedding that recdb did not make, and cannot "
            "compare with its own",
            "bring embeddings for all items (recdb embed --remove takes back those that recdb made), or none: "
            + ("update recdb.item set embedding = null;" if own else "attach the items without --embedding"),
        )


def remove_embeddings(database: Database) -> int:
    """Delete all embeddings that recdb made, and the way they were made; return of how many items."""
    with connect(database, autocommit=True) as connection:
        require_primary(connection)
        require_whole(connection)
        check_owner(connection)
        with connection.transaction():
            # Not while another run embeds.
            connection.execute("lock table recdb.embedding_basis in exclusive mode")
            connection.execute(
                "update recdb.item t set embedding = null from recdb.item_embedding e "
                "where e.item_id = t.item_id and t.embedding::real[] = e.embedding"
            )
            removed = connection.execute("delete from recdb.item_embedding").rowcount
            connection.execute("delete from recdb.embedding_token")
            connection.execute("delete from recdb.embedding_basis")
    return removed


# The way texts are embedded -----------------------------------------------------------------------------------


def kept_basis(connection: psycopg.Connection, items: int, dimension: int | None, model: str | None) -> Way | None:
    """Return the way of the last run; None if there is none, if it is not the one asked for, or the catalogue grew."""
    row = connection.execute("select method, dimension, items from recdb.embedding_basis").fetchone()
    if row is None:
        return None
    method, width, before = row
    if method in FORMER_TFIDF:
        return None
    if method != STORED_TFIDF:
        source = str(method).partition(":")[2]
        if model is not None and model_name(full_name(model)) != model_name(source):
            return None
        return by_model(load_language_model(model or source), dimension)
    if model not in (None, TFIDF) or dimension not in (None, width) or items >= GROWTH * before:
        return None
    return by_tokens(read_tokens(connection, width))


def make_basis(tokens: TokenSets, dimension: int | None, model: str | None, download: bool, report: Report) -> Way:
    """Make a new way: a language model, or else TF-IDF of this catalogue."""
    if model != TFIDF and not (model is None and dimension is not None):
        report("looking for a model")
        found = load_language_model(model, download=download) if model else find_language_model()
        if found:
            return by_model(found, dimension)
    report("weighing words")
    return by_tokens(fit_text_basis(tokens, dimension=dimension or DEFAULT_DIMENSION, progress=report))


def by_model(model: LanguageModel, dimension: int | None) -> Way:
    """Embed by a language model, in its own width."""
    if dimension not in (None, model.dimension):
        raise InvalidInput(
            f"{model.name} makes embeddings of {model.dimension:,} numbers, not of {dimension:,}",
            "leave --dimension out, or embed without a model: --model tfidf",
        )
    return Way(f"{model.package}:{model.source}", model.dimension, model.name.encode(), model)


def by_tokens(basis: TextBasis) -> Way:
    """Embed by TF-IDF and SVD."""
    content = b"".join(part.tobytes() for part in (basis.tokens, basis.weights, basis.vectors))
    return Way(TFIDF, basis.vectors.shape[1], sha256(content).digest(), basis)


def read_tokens(connection: psycopg.Connection, width: int) -> TextBasis:
    """Read the tokens of the last run."""
    rows = connection.execute(
        "select token, weight, pg_catalog.array_send(embedding) from recdb.embedding_token order by token", binary=True
    ).fetchall()
    element = np.dtype([("length", ">i4"), ("value", ">f4")])
    vectors = np.zeros((len(rows), width), dtype=np.float32)
    for place, (_, _, packed) in enumerate(rows):
        vectors[place] = np.frombuffer(packed, dtype=element, offset=20)["value"]
    return TextBasis(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.float32),
        vectors,
    )


def keep_basis(connection: psycopg.Connection, basis: Way, items: int) -> None:
    """Store a new way in place of the one before."""
    connection.execute("truncate recdb.embedding_token")
    connection.execute("delete from recdb.embedding_basis")
    connection.execute(
        "insert into recdb.embedding_basis (method, dimension, items) values (%s, %s, %s)",
        [STORED_TFIDF if basis.method == TFIDF else basis.method, basis.dimension, items],
    )
    if isinstance(basis.by, TextBasis):
        arrays: list[NDArray[Any]] = [basis.by.tokens, basis.by.weights, basis.by.vectors]
        copy_in(connection, "recdb.embedding_token", ["token", "weight", "embedding"], arrays)


# The items ----------------------------------------------------------------------------------------------------


def embed_items(connection: psycopg.Connection, texts: Texts, basis: Way, report: Report) -> int:
    """Embed the items whose text or way changed, in blocks, each of which is committed; return how many there were."""
    known: dict[str, bytes] = dict(connection.execute("select item_id, digest from recdb.item_embedding").fetchall())
    digests = [basis.digest(text) for text in texts.hashes]
    changed = np.array([n for n, item in enumerate(texts.item_ids) if known.get(item) != digests[n]], dtype=np.int64)
    count = 0
    for start in range(0, len(changed), ROWS_AT_ONCE):
        report(f"embedding, {start:,} of {len(changed):,} items")
        block = changed[start : start + ROWS_AT_ONCE]
        items = [texts.item_ids[number] for number in block]
        if isinstance(basis.by, TextBasis):
            vectors = basis.by.embed(texts.tokens.of(block))
        else:
            vectors = basis.by.embed(describe_items(connection, items))
        embedded = np.flatnonzero((vectors != 0).any(axis=1))
        with connection.transaction():
            store_embeddings(
                connection,
                [items[n] for n in embedded],
                [digests[block[n]] for n in embedded],
                vectors[embedded],
                items,
            )
        count += len(embedded)
    report("storing")
    with connection.transaction():
        gone = sorted(known.keys() - set(texts.item_ids))
        connection.execute("delete from recdb.item_embedding e where e.item_id = any (%s)", [gone])
        connection.execute(
            "update recdb.item t set embedding = e.embedding from recdb.item_embedding e "
            "where e.item_id = t.item_id and t.embedding is null"
        )
    connection.execute("analyze recdb.item_embedding, recdb.item")
    return count


def describe_items(connection: psycopg.Connection, items: list[str]) -> list[str]:
    """Read some items again, as texts for a language model; one that has just gone is empty."""
    found = {
        item: describe_item(title, json.loads(attributes or "null"), owner)
        for block in read_items_in_blocks(connection, only=items, tokens=False, texts=True)
        for item, (title, owner, attributes) in zip(block.item_ids, block.texts, strict=True)
    }
    return [found.get(item, "") for item in items]


def store_embeddings(
    connection: psycopg.Connection,
    items: Sequence[str],
    digests: Sequence[bytes],
    vectors: Float32,
    seen: Sequence[str],
) -> None:
    """Write the embeddings of a block of items; of those in `seen`, the others lose theirs."""
    connection.execute(
        "update recdb.item t set embedding = null from recdb.item_embedding e "
        "where e.item_id = t.item_id and t.item_id = any (%s) and t.embedding::real[] = e.embedding",
        [list(seen)],
    )
    connection.execute("delete from recdb.item_embedding where item_id = any (%s)", [list(seen)])
    connection.execute("create temporary table embedded (place integer, embedding real[]) on commit drop")
    places: NDArray[np.int32] = np.arange(1, len(items) + 1, dtype=np.int32)
    copy_in(connection, "embedded", ["place", "embedding"], [places, vectors])
    connection.execute(
        """
        insert into recdb.item_embedding (item_id, embedding, digest)
        select i.item_id, s.embedding, i.digest
        from unnest(%s::text[], %s::bytea[]) with ordinality i(item_id, digest, place)
        join pg_temp.embedded s on s.place = i.place
        """,
        [list(items), list(digests)],
    )
    connection.execute(
        "update recdb.item t set embedding = e.embedding from recdb.item_embedding e "
        "where e.item_id = t.item_id and t.item_id = any (%s) and t.embedding is null",
        [list(items)],
    )
