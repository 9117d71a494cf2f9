"""Files as they are: the columns, delimiters, encodings and times of public data sets, and files loaded twice."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from recdb.data.layout import Layout
from recdb.data.load import load
from recdb.database import Database
from recdb.errors import InvalidInput
from recdb.evaluate.reading import read_test

RATED = [("1", "10", "rating", 2.5), ("1", "20", "rating", -1.5), ("2", "10", "rating", 0.5)]
BY_NAME: dict[str, Any] = {"kind_is": "rating", "time": "unix"}
AT = datetime(2024, 1, 31, 12, tzinfo=UTC)
EPOCH = 1706702400

FILES: dict[str, tuple[str, Layout]] = {
    "u.data": (
        f"1\t10\t5\t{EPOCH}\n1\t20\t1\t{EPOCH}\n2\t10\t3\t{EPOCH}\n",
        Layout("1", "2", at="4", value="c3 - 2.5", delimiter="tab", header=False, **BY_NAME),
    ),
    "ratings.dat": (
        f"1::10::5::{EPOCH}\n1::20::1::{EPOCH}\n2::10::3::{EPOCH}\n",
        Layout("1", "2", at="4", value="c3 - 2.5", delimiter="::", header=False, **BY_NAME),
    ),
    "ratings.csv": (
        f"userId,movieId,rating,timestamp\n1,10,5.0,{EPOCH}\n1,20,1.0,{EPOCH}\n2,10,3.0,{EPOCH}\n",
        Layout("userId", "movieId", at="timestamp", value="rating - 2.5", **BY_NAME),
    ),
    "milliseconds, another order, other columns": (
        f"at,visitor,event,film,Stars,note\n{EPOCH}000,1,rating,10,5,x\n{EPOCH}000,1,rating,20,1,\n"
        f"{EPOCH}000,2,rating,10,3,\n",
        Layout("visitor", "film", "event", at="at", value="stars - 2.5", time="unix-ms"),
    ),
    "semicolons and quotes": (
        f'"User-ID";"ISBN";"Book-Rating";"at"\n"1";"10";"5";"{EPOCH}"\n"1";"20";"1";"{EPOCH}"\n"2";"10";"3";"{EPOCH}"\n',
        Layout("User-ID", "isbn", at="at", value='"Book-Rating" - 2.5', delimiter=";", **BY_NAME),
    ),
    "JSON lines": (
        "".join(
            json.dumps({"reviewerID": user, "asin": item, "overall": stars, "text": "a \"b\"", "unixReviewTime": EPOCH})
            + "\n"
            for user, item, stars in (("1", "10", 5.0), ("1", "20", 1), ("2", "10", 3.0))
        ),
        Layout("reviewerID", "asin", at="unixReviewTime", value="overall - 2.5", **BY_NAME),
    ),
    "dates": (
        "user_id,item_id,when,value\n1,10,2024-01-31 12:00,2.5\n1,20,2024-01-31 12:00,-1.5\n2,10,2024-01-31 12:00,.5\n",
        Layout(kind_is="rating", at="when"),
    ),
}  # fmt: skip


def write(folder: Path, content: str | bytes, name: str = "data") -> str:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def refusal(database: Database, path: str, layout: Layout, **options: bool) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        load(database, path, layout=layout, **options)
    return raised.value


STORED = "select user_id, item_id, kind, value from recdb.interaction order by user_id, item_id, interaction_id"


def test_public_data_sets_are_loaded_as_they_are(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    for name, (content, layout) in FILES.items():
        load(database, write(tmp_path, content), layout=layout)
        assert db.execute(STORED).fetchall() == RATED, name
        assert db.execute("select distinct created_at from recdb.interaction").fetchall() == [(AT,)], name
        db.execute("truncate recdb.interaction")


def test_an_id_in_json_is_a_string_or_a_number(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    """The number 42.0 is the id 42, as in SQL; a string stays as it is; a list or an object cannot be meant."""
    rows: list[dict[str, object]] = [
        {"u": 1.0, "i": 42.50, "k": "like"}, {"u": "1.0", "i": 7, "k": 2.0}, {"u": 1e3, "i": '["q"]', "k": True},
        {"u": {"a": 1}, "i": "x", "k": "like"}, {"u": "x", "i": ["q"], "k": "like"}, {"u": True, "i": 1, "k": "like"},
        {"u": "x", "i": "x", "k": ["like"]}, {"u": None, "i": "x", "k": "like"}, {"u": float("nan"), "i": 1, "k": "a"},
    ]  # fmt: skip
    lines = [json.dumps(row) for row in rows]
    layout = Layout("u", "i", "k")
    for content in ("\n".join(lines), "[" + ",\n".join(lines) + "]"):
        path = write(tmp_path, content)
        found = str(refusal(database, path, layout))
        assert "6 bad rows" in found and 'line 4: u is {"a": 1}, which is no id' in found
        assert 'line 5: i is ["q"], which is no id' in found and "line 8: user_id is empty" in found
        assert load(database, path, layout=layout, skip_bad=True).rows == 3
        stored = db.execute("select user_id, item_id, kind from recdb.interaction order by interaction_id").fetchall()
        assert sorted(stored) == [("1", "42.5", "like"), ("1.0", "7", "2"), ("1000", '["q"]', "true")]
        db.execute("truncate recdb.interaction, recdb.load_log")
    path = write(tmp_path, '{"item_id": 5.0, "owner_id": 7.0, "title": "1.0"}\n{"item_id": "b", "owner_id": [7]}\n')
    assert load(database, path, items=True, skip_bad=True).refused.count == 1
    assert db.execute("select item_id, owner_id, title from recdb.item").fetchall() == [("5", "7", "1.0")]


def test_plays_are_weighed_by_their_number(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    """A file with tabs has no quotes: a name may hold one."""
    path = write(tmp_path, 'userID\tartist\tweight\n2\t"Weird Al\t100\n2\tBjörk\t10\n'.encode("latin-1"))
    layout = Layout("userID", "artist", kind_is="play", value="log(weight)", delimiter="\\t", encoding="latin-1")
    load(database, path, layout=layout)
    assert db.execute(STORED).fetchall() == [("2", '"Weird Al', "play", 2), ("2", "Björk", "play", 1)]


def test_encodings_by_name(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    text = "user_id,item_id,kind\nü,é,like\n"
    for encoding, content in {
        "utf-8": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "utf-16-be": text.encode("utf-16-be"),
        "latin-1": gzip.compress(text.encode("latin-1")),
    }.items():
        load(database, write(tmp_path, content), layout=Layout(encoding=encoding))
        assert db.execute(STORED).fetchall() == [("ü", "é", "like", None)]
        db.execute("truncate recdb.interaction")

    latin, wide = write(tmp_path, text.encode("latin-1"), "latin"), write(tmp_path, text.encode("utf-16"), "wide")
    assert "line 2: not UTF-8; for another encoding: --encoding latin-1" in str(refusal(database, latin, Layout()))
    assert "--encoding utf-16" in str(refusal(database, wide, Layout()).hint)
    assert "is not in the encoding utf-16" in str(refusal(database, latin, Layout(encoding="utf-16")))
    for name in ("klingon", "zip"):
        assert f"no encoding '{name}'" in str(refusal(database, latin, Layout(encoding=name)))


def test_times_that_cannot_be_meant_are_refused_by_line(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    """A number of digits is no date, though PostgreSQL reads some as the year 170004."""
    for moment, time, reason in (
        ("1700041130", "iso", "'1700041130' is not a date but a number; if it counts from 1970: --time unix"),
        ("1700041130000", "iso", "is not a date but a number; if it counts from 1970: --time unix-ms"),
        ("1969-12-31", "iso", "is not from 1970"),
        ("2999-12-31", "iso", "is not from 1970"),
        ("1700041130000", "unix", "is not from 1970"),
        ("-5", "unix", "is not from 1970"),
        ("1700041130", "unix-ms", "are these seconds? pass --time unix"),
        ("2024-01-31", "unix", "is not a number of seconds since 1970"),
    ):
        path = write(tmp_path, f"user_id,item_id,kind,created_at\nu,i,view,\nu,j,view,{moment}\n")
        found = str(refusal(database, path, Layout(time=time)))  # type: ignore[arg-type]
        assert f"line 3: created_at '{moment}'" in found and reason in found
        loaded = load(database, path, layout=Layout(time=time), skip_bad=True, again=True)  # type: ignore[arg-type]
        assert (loaded.rows, loaded.refused.count) == (1, 1)
    path = write(tmp_path, "user_id,item_id,kind,created_at\nold,i,view,1969-12-31\nold,j,view,2999-12-31\n")
    assert load(database, path, layout=Layout(any_time=True)).rows == 2


def test_a_value_that_is_no_number_is_refused_by_line(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    for value, reason in (
        ("many", "'many' is not a number"), ("nan", "is not a number"), ("1e400", "is not from -1,000,000"),
        ("2000000", "is not from -1,000,000"), ("1e-400", "is not from -1,000,000"),
    ):  # fmt: skip
        path = write(tmp_path, f"user_id,item_id,kind,value\nu,i,view,\nu,j,view,{value}\n")
        for layout in (Layout(), Layout(value="value * 1")):
            found = str(refusal(database, path, layout))
            assert "line 3:" in found and reason in found
    path = write(tmp_path, "user_id,item_id,kind,stars\nu,i,view,0\n")
    for expression, reason in (
        ("points", "names no column of the file"), ("stars +", "syntax error"), ("stars; drop table x", "syntax error"),
        ("sum(nope) + stars", "does not exist"),
    ):  # fmt: skip
        assert reason in str(refusal(database, path, Layout(value=expression)))
    assert "division by zero" in str(refusal(database, path, Layout(value="1 / stars")))
    assert db.execute(STORED).fetchall() == []


def test_a_column_that_is_missing_is_named(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "196;242;3\n")
    for layout, reason, hint in (
        (Layout("1", "2", kind_is="x"), "cannot tell whether the first line is a header", "--no-header"),
        (Layout("userId", "2", kind_is="x", header=True, delimiter=";"), "no column userId", "as the first line"),
        (Layout("userId", delimiter=";"), "no column userId", "--no-header"),
        (Layout("1", "2", header=False, delimiter=";"), "no column is named for kind", "--kind-is KIND"),
        (Layout(), "no column user_id", "--delimiter ';'"),
        (Layout(kind="a", kind_is="b"), "pass one of them", ""),
    ):
        found = refusal(database, path, layout)
        assert reason in str(found) and hint in str(found.hint or "")


def test_a_file_is_loaded_once(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    text = "user_id,item_id,kind\nu,i,view\n"
    load(database, write(tmp_path, text))
    packed = write(tmp_path, gzip.compress(text.encode()), "packed")
    found = refusal(database, packed, Layout())
    assert "was loaded before as " in str(found) and "--again" in str(found.hint)
    assert len(db.execute(STORED).fetchall()) == 1
    assert load(database, packed, again=True).rows == 1
    assert load(database, write(tmp_path, text + "u,j,view\n")).rows == 2


def test_ids_with_spaces_at_an_end_are_reported(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "user_id,item_id,kind\nu,i,view\nu ,i,view\n v,i\u00a0,view\n")
    found = load(database, path).padded
    assert [(padded.column, padded.rows, padded.line, padded.example) for padded in found] == [
        ("user_id", 2, 3, "u "), ("item_id", 1, 4, "i\u00a0"),
    ]  # fmt: skip


def test_a_catalogue_names_its_item(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    path = write(tmp_path, "movieId::title::genres\n1::Tea: the film::Drama\n")
    load(database, path, items=True, layout=Layout(item="movieId", delimiter="::"))
    assert db.execute("select item_id, title from recdb.item").fetchall() == [("1", "Tea: the film")]


def test_a_disliked_item_of_a_test_file_is_not_relevant(tmp_path: Path) -> None:
    path = write(tmp_path, "user_id,item_id,value\nu,a,1.5\nu,b,-1\nu,c,0\nu,d,\n")
    assert read_test(path) == {"u": {"a", "d"}}


def test_a_byte_order_mark_behind_an_encoding_is_no_part_of_a_name(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "marked.csv"
    file.write_bytes("\ufeffuser,item\nana,tea\n".encode("utf-16-le"))
    assert load(database, str(file), layout=Layout("user", "item", kind_is="like", encoding="utf-16-le")).rows == 1


def test_a_name_that_two_columns_have_is_refused(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("u,u,i\nana,ben,tea\n")
    with pytest.raises(InvalidInput, match="several columns u") as refused:
        load(database, str(file), layout=Layout("u", "i", kind_is="like"))
    assert "by its number" in (refused.value.hint or "")
    assert load(database, str(file), layout=Layout("2", "3", kind_is="like", header=True)).rows == 1


def test_a_catalogue_names_all_of_its_columns(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    content = (
        'key;name;genre;tags;shop;vec\n1;Tea;hot;"[""a"", ""b""]";u1;[0.5, -1e-2]\n2;Ice;;;;"{1, 2}"\n3;Air;x;y;;\n'
    )
    named = {"title": "name", "owner_id": "shop", "attributes": "genre,tags", "embedding": "vec"}
    load(
        database, write(tmp_path, content), items=True, layout=Layout(item="key", delimiter=";", of_items=named)
    )  # fmt: skip

    query = "select item_id, title, owner_id, attributes, embedding from recdb.items order by 1"
    assert db.execute(query).fetchall() == [
        ("1", "Tea", "u1", {"genre": "hot", "tags": ["a", "b"]}, pytest.approx([0.5, -0.01])),
        ("2", "Ice", None, {}, [1, 2]),
        ("3", "Air", None, {"genre": "x", "tags": "y"}, None),
    ]


@pytest.mark.parametrize("layout", [Layout(), Layout(of_items={"embedding": "embedding", "attributes": "attributes"})])
def test_a_catalogue_of_json_lines_has_embeddings(
    database: Database, db: psycopg.Connection, tmp_path: Path, layout: Layout
) -> None:
    rows = '{"item_id": "a", "attributes": {"x": 1}, "embedding": [1e-60, 2]}\n{"item_id": "b", "embedding": null}\n'
    load(database, write(tmp_path, rows), items=True, layout=layout)
    query = "select item_id, attributes, embedding from recdb.items order by 1"
    assert db.execute(query).fetchall() == [("a", {"x": 1}, [0, 2]), ("b", {}, None)]


@pytest.mark.parametrize("wrong", ["[0, 0]", "none", "[1, x]", "[NaN]", "[]", str([1] * 4001)])
def test_an_embedding_that_is_none_is_refused_with_its_line(database: Database, tmp_path: Path, wrong: str) -> None:
    path = write(tmp_path, f'item_id,embedding\na,"[1, 2]"\nb,"{wrong}"\n')
    with pytest.raises(InvalidInput, match=r"line 3: embedding .* is not a list of 1 to 4,000 numbers"):
        load(database, path, items=True)
