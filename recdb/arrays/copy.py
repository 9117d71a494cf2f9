"""Binary COPY between tables and numpy arrays.

Rows of fixed width are numpy structured arrays with the bytes of PostgreSQL's binary COPY format, so Python creates no
object for a row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
CHUNK_ROWS = 1 << 16

# The OIDs of the element types, which the header of a SQL array holds.
ELEMENT_OIDS = {"i4": 23, "f4": 700, "f8": 701, "i8": 20}


def copy_out(
    connection: psycopg.Connection,
    query: str,
    columns: Sequence[tuple[str, type[np.number[Any]]]],
    *,
    vectors: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, NDArray[Any]]:
    """Run `query` and return its columns as arrays; they must be numbers of exactly the given types, and not NULL.

    `vectors` names the halfvec columns, which come last, with their widths; they become arrays (rows, width) of
    float16. Raises ValueError where a column has another type or a NULL.
    """
    blocks = list(copy_out_blocks(connection, query, columns, vectors=vectors))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def copy_out_blocks(
    connection: psycopg.Connection,
    query: str,
    columns: Sequence[tuple[str, type[np.number[Any]]]],
    *,
    vectors: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the result of copy_out() in blocks of some ten thousand rows; at least one, which may be empty."""
    fields: list[tuple[Any, ...]] = [("fields", ">i2")]
    for name, kind in columns:
        fields += [(f"{name} length", ">i4"), (name, np.dtype(kind).newbyteorder(">"))]
    for name, width in vectors.items():
        fields += [(f"{name} length", ">i4"), (f"{name} head", ">i2", (2,)), (name, ">f2", (width,))]
    layout = np.dtype(fields)
    names = [*(name for name, _ in columns), *vectors]
    pending = bytearray()
    header_left = len(HEADER)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy ({query}) to stdout (format binary)") as copy,
    ):
        for data in copy:
            pending += data
            if header_left:
                if len(pending) < header_left:
                    continue
                del pending[:header_left]
                header_left = 0
            if len(pending) >= CHUNK_ROWS * layout.itemsize:
                yield _take(pending, layout, names)
    if pending.endswith(TRAILER) and len(pending) % layout.itemsize == len(TRAILER):
        del pending[-len(TRAILER) :]
    yield _take(pending, layout, names)
    if pending:
        raise ValueError(f"{len(pending)} bytes are no row of {', '.join(names)}: another type, or a NULL")


def _take(pending: bytearray, layout: np.dtype[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Take the whole rows out of `pending`, and return their columns."""
    rows = len(pending) // layout.itemsize
    table = np.frombuffer(bytes(pending[: rows * layout.itemsize]), dtype=layout)
    for name in names:
        size = layout[name].itemsize + (4 if f"{name} head" in (layout.names or ()) else 0)
        if (table[f"{name} length"] != size).any():
            raise ValueError(f"{name} is not always {size} bytes long: another type, or a NULL")
    del pending[: rows * layout.itemsize]
    return {name: table[name].astype(layout[name].base.newbyteorder("=")) for name in names}


def copy_in(connection: psycopg.Connection, table: str, columns: Sequence[str], arrays: Sequence[NDArray[Any]]) -> None:
    """Write arrays of one length into a table's columns.

    Each row gets a number from a 1-d array, an SQL array from a 2-d array of int32 or float32, and a halfvec from a 2-d
    array of float16.
    """
    copy_blocks_in(connection, table, columns, [arrays])


def copy_blocks_in(
    connection: psycopg.Connection, table: str, columns: Sequence[str], blocks: Iterable[Sequence[NDArray[Any]]]
) -> None:
    """Write blocks of arrays by one COPY. Each block is as copy_in() takes it; widths of 2-d arrays may differ."""
    statement = f"copy {table} ({', '.join(columns)}) from stdin (format binary)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(HEADER)
        for arrays in blocks:
            for rows in _pack(columns, arrays):
                copy.write(rows)
        copy.write(TRAILER)


def _pack(columns: Sequence[str], arrays: Sequence[NDArray[Any]]) -> Iterator[bytes]:
    """Yield the arrays' rows in COPY's binary format, CHUNK_ROWS at a time."""
    layout, prefixes = _layout(columns, arrays)
    for start in range(0, len(arrays[0]), CHUNK_ROWS):
        stop = min(len(arrays[0]), start + CHUNK_ROWS)
        block = np.zeros(stop - start, dtype=layout)
        for name, value in prefixes.items():
            block[name] = value
        for name, values in zip(columns, arrays, strict=True):
            if values.ndim == 2 and values.dtype != np.float16:
                block[name]["length"] = values.dtype.itemsize
                block[name]["value"] = values[start:stop]
            else:
                block[name] = values[start:stop]
        yield block.tobytes()


def _layout(columns: Sequence[str], arrays: Sequence[NDArray[Any]]) -> tuple[np.dtype[Any], dict[str, Any]]:
    """Return a row's layout, and the values that are the same in every row: lengths and array headers."""
    fields: list[Any] = [("fields", ">i2")]
    prefixes: dict[str, Any] = {"fields": len(columns)}
    for name, values in zip(columns, arrays, strict=True):
        fields.append((f"{name} length", ">i4"))
        element = values.dtype.newbyteorder(">")
        if values.ndim == 1:
            fields.append((name, element))
            prefixes[f"{name} length"] = element.itemsize
            continue
        width = values.shape[1]
        if values.dtype == np.float16:
            fields += [(f"{name} dimension", ">i2"), (f"{name} unused", ">i2"), (name, element, (width,))]
            prefixes |= {f"{name} length": 4 + 2 * width, f"{name} dimension": width}
        else:
            cell: np.dtype[Any] = np.dtype([("length", ">i4"), ("value", element)])
            fields += [(f"{name} head", ">i4", (5,)), (name, cell, (width,))]
            oid = ELEMENT_OIDS[f"{values.dtype.kind}{values.dtype.itemsize}"]
            # One dimension, no NULLs, the element type, the length, the lower bound 1.
            prefixes |= {
                f"{name} length": 20 + cell.itemsize * width,
                f"{name} head": (1, 0, oid, width, 1),
            }
    return np.dtype(fields), prefixes
