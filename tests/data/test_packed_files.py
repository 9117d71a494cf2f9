"""Files that are packed, and files with a JSON array: they load by their content, or one clear hint says how."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import psycopg
import pytest
from support.data import column

from recdb.data import json_arrays
from recdb.data.load import load
from recdb.database import Database
from recdb.errors import InvalidInput

CSV = b"user_id,item_id,kind,created_at\nann,i1,view,2024-01-31\nbob,i2,like,2024-01-31\n"
ROWS = [{"user_id": user, "item_id": item, "kind": "view"} for user, item in (("ann", "i1"), ("bob", "i2"))]
STORED = "select user_id || item_id from recdb.interaction order by 1"


def zipped(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def write(folder: Path, content: bytes) -> str:
    path = folder / "file.csv"
    path.write_bytes(content)
    return str(path)


LOADED = {
    "gzip": gzip.compress(CSV),
    "bzip2": bz2.compress(CSV),
    "xz": lzma.compress(CSV),
    "zip": zipped({"data/clicks": CSV, "data/": b"", "__MACOSX/clicks": b"x"}),
    "array": json.dumps(ROWS).encode(),
    "array in many lines": json.dumps(ROWS, indent=2).encode(),
    "array after a byte order mark": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "array in xz": lzma.compress(json.dumps(ROWS).encode()),
}


@pytest.mark.parametrize("name", LOADED)
def test_it_loads_by_its_content(database: Database, db: psycopg.Connection, tmp_path: Path, name: str) -> None:
    assert load(database, write(tmp_path, LOADED[name])).rows == 2
    assert column(db.execute(STORED)) == ["anni1", "bobi2"]


REFUSED = {
    "two members": (zipped({"a": CSV, "b": CSV}), "zip archive of 2 files: a, b", "unzip -p"),
    "no member": (zipped({}), "empty zip archive", None),
    "spreadsheet": (zipped({"[Content_Types].xml": b"", "xl": b""}), "spreadsheet", "CSV"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "a zstd file", "zstd -dc"),
    "parquet": (b"PAR1" + bytes(20), "a Parquet file", "CSV"),
    "cut bzip2": (bz2.compress(CSV)[:-6], "damaged packed file", None),
    "cut zip": (zipped({"a": CSV})[:-30], "damaged archive", None),
    "array of numbers": (b"[1, 2]", "not a JSON object", "jq -c"),
    "array without an end": (json.dumps(ROWS).encode()[:-1], "it has no end", "jq -c"),
    "array that is broken": (b'[{"user_id": "a", "item_id": "b", "kind": "c"},\n{"user_id" "a"}]', "line 2", "jq -c"),
    "one object in many lines": (json.dumps({"rows": ROWS}, indent=1).encode(), "not a JSON object", "jq -c"),
    "no row": (b"[]", "is empty", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_way_to_go_on(database: Database, tmp_path: Path, name: str) -> None:
    content, reason, hint = REFUSED[name]
    with pytest.raises(InvalidInput) as refused:
        load(database, write(tmp_path, content))
    assert reason in str(refused.value), refused.value
    assert hint is None or hint in (refused.value.hint or "")


def test_a_bad_object_of_an_array_has_the_line_that_it_begins_in(
    database: Database, db: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file is read in pieces that end within an object."""
    monkeypatch.setattr(json_arrays, "CHUNK", 7)
    rows = [*ROWS, {"user_id": "", "item_id": "x", "kind": "view"}, {"user_id": "eve", "item_id": "i3", "kind": "view"}]
    path = write(tmp_path, json.dumps(rows, indent=1).encode())
    with pytest.raises(InvalidInput, match=r"line 12: user_id is empty"):
        load(database, path)
    loaded = load(database, path, skip_bad=True)
    assert (loaded.rows, loaded.refused.first) == (3, [(12, "user_id is empty")])
    assert column(db.execute(STORED)) == ["anni1", "bobi2", "evei3"]


@pytest.mark.parametrize(
    "text",
    ["now", "today", "Yesterday", "tomorrow", "epoch", "infinity", "-infinity", "allballs", "today 10:00", "now 1",
     "2024-01-31 allballs", "  ", "0000-00-00", "2020-13-01", "2020-02-30", "12:00", "null", "24"],
)  # fmt: skip
def test_a_word_is_no_time(database: Database, tmp_path: Path, text: str) -> None:
    """PostgreSQL reads some of them as times, and another one on each day."""
    path = write(tmp_path, f"user_id,item_id,kind,created_at\nann,i1,view,{text}\n".encode())
    with pytest.raises(InvalidInput, match=r"line 2: created_at .* is not"):
        load(database, path)
