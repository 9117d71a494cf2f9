"""Binary COPY between arrays and tables: arrays of every size and shape come back unchanged."""

from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from recdb.arrays.copy import CHUNK_ROWS, copy_in, copy_out

NUMBERS: list[tuple[str, type[np.number[Any]]]] = [
    ("integer", np.int32), ("bigint", np.int64), ("real", np.float32), ("double precision", np.float64),
]  # fmt: skip


def make_table(db: psycopg.Connection, *columns: str) -> None:
    db.execute(f"create table t ({', '.join(columns)})")


@pytest.mark.parametrize("rows", [0, 1, 7, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 3])
def test_numbers_make_the_round_trip(db: psycopg.Connection, rows: int) -> None:
    generator = np.random.default_rng(rows)
    keys = np.arange(rows, dtype=np.int32)
    weights = generator.standard_normal(rows).astype(np.float32)
    make_table(db, "key integer", "weight real")

    copy_in(db, "t", ["key", "weight"], [keys, weights])
    back = copy_out(db, "select key, weight from t order by key", [("key", np.int32), ("weight", np.float32)])

    assert db.execute("select count(*), count(distinct key) from t").fetchone() == (rows, rows)
    assert np.array_equal(back["key"], keys) and back["key"].dtype == np.int32
    assert np.array_equal(back["weight"], weights) and back["weight"].dtype == np.float32


@pytest.mark.parametrize(("sql_type", "kind"), NUMBERS)
def test_each_type_keeps_its_extremes(db: psycopg.Connection, sql_type: str, kind: type[np.number[Any]]) -> None:
    info: Any = np.iinfo(kind) if np.issubdtype(kind, np.integer) else np.finfo(kind)
    special = [] if np.issubdtype(kind, np.integer) else [np.inf, -np.inf, np.nan, -0.0, info.tiny]
    values = np.array([info.min, -1, 0, 1, info.max, *special], dtype=kind)
    make_table(db, "position integer", f"value {sql_type}")

    copy_in(db, "t", ["position", "value"], [np.arange(len(values), dtype=np.int32), values])
    back = copy_out(db, "select value from t order by position", [("value", kind)])["value"]

    assert back.tobytes() == values.tobytes()
    assert [row[0] for row in db.execute("select value from t where value = value order by position limit 5")] == [
        pytest.approx(value.item()) for value in values[:5]
    ]


@pytest.mark.parametrize("ending", [-1, 65535, 0xFFFFFFFF - 2**32, 0x7FFF])
def test_a_last_value_that_looks_like_the_end_of_the_data_is_kept(db: psycopg.Connection, ending: int) -> None:
    values = np.array([1, ending], dtype=np.int32)
    make_table(db, "value integer")

    copy_in(db, "t", ["value"], [values])

    assert sorted(copy_out(db, "select value from t", [("value", np.int32)])["value"]) == sorted(values)


@pytest.mark.parametrize("width", [1, 3, 64, 256, 1024])
def test_half_vectors_of_any_width(db: psycopg.Connection, width: int) -> None:
    vectors = np.random.default_rng(width).standard_normal((50, width)).astype(np.float16)
    make_table(db, "key integer", f"embedding halfvec({width})")

    copy_in(db, "t", ["key", "embedding"], [np.arange(50, dtype=np.int32), vectors])

    rows = db.execute("select embedding::vector::real[] from t order by key").fetchall()
    assert np.array_equal(np.array([row[0] for row in rows], dtype=np.float16), vectors)
    back = copy_out(db, "select key, embedding from t order by key", [("key", np.int32)], vectors={"embedding": width})
    assert np.array_equal(back["embedding"], vectors) and back["embedding"].dtype == np.float16
    assert np.array_equal(back["key"], np.arange(50))


def test_half_vectors_of_another_width_are_refused(db: psycopg.Connection) -> None:
    make_table(db, "embedding halfvec(3)")
    copy_in(db, "t", ["embedding"], [np.ones((5, 3), dtype=np.float16)])

    with pytest.raises(ValueError, match="embedding is not always 8 bytes long"):
        copy_out(db, "select embedding from t", [], vectors={"embedding": 2})


@pytest.mark.parametrize(("sql_type", "kind"), NUMBERS)
@pytest.mark.parametrize("width", [1, 5, 300])
def test_arrays(db: psycopg.Connection, sql_type: str, kind: type[np.number[Any]], width: int) -> None:
    values = np.random.default_rng(width).integers(-1000, 1000, size=(20, width)).astype(kind)
    make_table(db, "key integer", f"things {sql_type}[]")

    copy_in(db, "t", ["key", "things"], [np.arange(20, dtype=np.int32), values])

    rows = db.execute("select things from t order by key").fetchall()
    assert np.array_equal(np.array([row[0] for row in rows], dtype=kind), values)
    assert db.execute("select distinct array_ndims(things), array_lower(things, 1), array_length(things, 1) from t"
                      ).fetchall() == [(1, 1, width)]  # fmt: skip


def test_arrays_without_elements_are_empty(db: psycopg.Connection) -> None:
    make_table(db, "key integer", "things integer[]")

    copy_in(db, "t", ["key", "things"], [np.arange(3, dtype=np.int32), np.empty((3, 0), dtype=np.int32)])

    assert db.execute("select distinct cardinality(things), things = '{}' from t").fetchall() == [(0, True)]


def test_wide_rows_cross_the_boundary_between_two_chunks(db: psycopg.Connection) -> None:
    rows = CHUNK_ROWS + 10
    keys = np.arange(rows, dtype=np.int32)
    vectors = np.zeros((rows, 4), dtype=np.float16)
    vectors[:, 0] = keys % 2048
    neighbors = np.stack([keys, keys + 1], axis=1)
    make_table(db, "key integer", "embedding halfvec(4)", "neighbors integer[]")

    copy_in(db, "t", ["key", "embedding", "neighbors"], [keys, vectors, neighbors])

    wrong = db.execute(
        "select count(*) filter (where neighbors <> array[key, key + 1] "
        "or (embedding::vector::real[])[1] <> key % 2048), count(*) from t"
    ).fetchone()
    assert wrong == (0, rows)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(20, dtype=np.int32)[::2],
        np.arange(10, dtype=">i4"),
        np.asfortranarray(np.arange(20, dtype=np.int32).reshape(10, 2)),
    ],
    ids=["every second", "big-endian", "column by column"],
)
def test_arrays_laid_out_in_any_way(db: psycopg.Connection, values: NDArray[Any]) -> None:
    make_table(db, "key integer", "value integer" if values.ndim == 1 else "value integer[]")

    copy_in(db, "t", ["key", "value"], [np.arange(len(values), dtype=np.int32), values])

    assert [row[0] for row in db.execute("select value from t order by key")] == values.tolist()


def test_an_error_of_the_server_leaves_the_connection_usable(db: psycopg.Connection) -> None:
    make_table(db, "key integer primary key")

    with pytest.raises(psycopg.errors.UniqueViolation):
        copy_in(db, "t", ["key"], [np.zeros(2, dtype=np.int32)])

    assert db.execute("select count(*) from t").fetchone() == (0,)


@pytest.mark.parametrize(
    "query",
    [
        "select null::integer",
        "select 1::bigint",
        "select 1 union all select null::integer",
        "select n::bigint from generate_series(1, 100000) n",
    ],
)
def test_columns_of_another_type_or_with_nulls_are_no_numbers(db: psycopg.Connection, query: str) -> None:
    with pytest.raises(ValueError, match="another type, or a NULL"):
        copy_out(db, query, [("n", np.int32)])

    assert db.execute("select 1").fetchone() == (1,)
