"""Content in a training: keys for items that nobody has touched, and the tables of a version about content."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy import sparse

from recdb.arrays.copy import copy_in
from recdb.arrays.described import read_described
from recdb.arrays.settings import Settings
from recdb.database import fetch_row
from recdb.learn import Interactions, ItemNeighbors, Params
from recdb.learn.content import LearnedContent, learn_content
from recdb.learn.content_features import Described
from recdb.learn.content_links import MOST_LIVE, carries_links, strongest_of_rows, with_links
from recdb.progress import Report

CONTENT_TABLES = ("model_content", "content_token", "content_vector", "new_item", "item_link")


def add_content(
    connection: psycopg.Connection,
    model_id: int,
    known: Interactions,
    learned: Iterator[ItemNeighbors],
    params: Params,
    settings: Settings,
    last_key: int,
    ndcg: float | None,
    report: Report,
) -> Iterator[ItemNeighbors]:
    """Learn from content and write the result; return its item neighbours with the links of untouched items.

    `ndcg` is that of the guard's validation part.
    """
    described = read_described(connection) if settings.content_share > 0 else None
    content = None
    if described is not None:
        # The scale of the links needs all item neighbours.
        blocks = list(learned)
        learned = iter(blocks)
        content = learn_content(known, described, blocks, params, settings.content_share, report, ndcg=ndcg)
    write_content(connection, model_id, content, described, last_key)
    if content is None:
        return learned
    if carries_links(params.blend):
        return with_links(blocks, content.links, content.untouched)
    write_links(connection, model_id, strongest_of_rows(content.links, MOST_LIVE))
    return learned


def write_content(
    connection: psycopg.Connection,
    model_id: int,
    content: LearnedContent | None,
    described: Described | None,
    last_key: int,
) -> None:
    """Write the result of learning from the content of the catalogue, `described`."""
    scale = content.scale if content else 0.0
    connection.execute(
        "insert into recdb.model_content (model_id, last_item_key, scale) values (%s, %s, %s)",
        [model_id, last_key, scale],
    )
    if content is None or described is None:
        return

    def write(table: str, *columns: tuple[str, NDArray[Any]]) -> None:
        model = np.full(len(columns[0][1]), model_id, dtype=np.int32)
        copy_in(
            connection,
            f"recdb.{table}",
            ["model_id", *(name for name, _ in columns)],
            [model, *(values for _, values in columns)],
        )

    write(
        "content_token",
        ("token", content.token_ids.astype(np.int64)),
        ("weight", content.token_weights),
        ("embedding", content.directions),
    )
    write("content_vector", ("item_key", content.items.astype(np.int32)), ("embedding", content.vectors))
    write(
        "new_item",
        ("item_key", content.untouched.astype(np.int32)),
        ("embedding", content.places),
        ("digest", described.digests[content.untouched]),
    )


def write_links(connection: psycopg.Connection, model_id: int, links: sparse.csr_array) -> None:
    """Write links that no row of item_neighbor carries."""
    entries = links.tocoo()
    numbers = (entries.row, entries.col, np.full(entries.nnz, model_id))
    sources, items, models = (each.astype(np.int32) for each in numbers)
    columns = ["model_id", "source_key", "item_key", "touched", "weight"]
    arrays: list[NDArray[Any]] = [
        models,
        sources,
        items,
        np.zeros(entries.nnz, dtype=np.bool_),
        entries.data.astype(np.float32),
    ]
    copy_in(connection, "recdb.item_link", columns, arrays)


def forget_content(connection: psycopg.Connection) -> None:
    """Delete the content of retired and interrupted versions."""
    (gone,) = fetch_row(
        connection,
        "select coalesce(array_agg(c.model_id), '{}') from recdb.model_content c "
        "where not exists (select from recdb.model m where m.model_id = c.model_id and m.state <> 'retired')",
    )
    if gone:
        for table in reversed(CONTENT_TABLES):
            connection.execute(f"delete from recdb.{table} c where c.model_id = any (%s)", [gone])
