"""Loading CSV: accepted files, refused files and their errors; a refusal or an interruption leaves no rows behind."""

import gzip
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from recdb.cli import main
from recdb.data import load as loading
from recdb.database import Database
from recdb.errors import InvalidInput, NotInstalled

HEADER = "user_id,item_id,kind,created_at\n"
COMMAND = [sys.executable, "-m", "recdb.cli"]


def write(folder: Path, content: str | bytes) -> str:
    file = folder / "data.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def stored(db: psycopg.Connection) -> list[tuple[object, ...]]:
    return db.execute(
        "select user_id, item_id, kind from recdb.interaction order by user_id, interaction_id"
    ).fetchall()


def refusal(database: Database, path: str, *, items: bool = False) -> str:
    with pytest.raises(InvalidInput) as raised:
        loading.load(database, path, items=items)
    return str(raised.value)


def test_rows_are_stored_as_they_are_written(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    text = 'it"em,\\N\t\n1'
    quoted = text.replace('"', '""')
    path = write(tmp_path, f'{HEADER}ü 👋,"{quoted}",view,2024-01-31T12:00:00+02:00\r\n\n b ,c\\,like,\n')

    before = datetime.now(UTC)
    loaded = loading.load(database, path)

    assert stored(db) == [(" b ", "c\\", "like"), ("ü 👋", text, "view")]
    moments = dict(db.execute("select user_id, created_at from recdb.interaction").fetchall())
    assert moments["ü 👋"] == datetime(2024, 1, 31, 10, tzinfo=UTC)
    assert before - timedelta(minutes=1) < moments[" b "] < datetime.now(UTC) + timedelta(minutes=1)
    assert (loaded.rows, loaded.users, loaded.items, loaded.refused.count) == (2, 2, 2, 0)


def test_dates_are_what_postgresql_reads_in_utc(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    db.execute(f"alter database \"{db.info.dbname}\" set timezone = 'Asia/Tokyo'")
    db.execute(f"alter database \"{db.info.dbname}\" set datestyle = 'DMY'")
    dates = [
        "2024-02-03T12:00:00Z",
        "2024-02-03 12:00",
        "20240203T120000",
        "2024-02-03 13:00+01",
        "Feb 3 12:00:00 2024 UTC",
        "3-Feb-2024 8:00 America/Marigot",
        "Saturday 3 February 2024 12:00",
        "2024/2/3 12:00",
        "2024.02.03 12:00",
    ]
    loading.load(database, write(tmp_path, HEADER + "".join(f"u,i,view,{date}\n" for date in dates)))
    query = "select created_at, count(*) from recdb.interaction group by created_at"
    assert db.execute(query).fetchall() == [(datetime(2024, 2, 3, 12, tzinfo=UTC), len(dates))]


UNCLEAR = [
    "2/3/2024 12:00", "03/02/2024", "03.04.2024 10:00", "03-04-2024", "13/02/2024", "2024.123", "240203", "01-02-03",
    "10:00 03/02/2024", "03/02/2024 10:00 America/Marigot", "03.02.2024 10:00:00-0800",
]  # fmt: skip


def test_a_date_that_is_another_day_elsewhere_is_a_bad_row(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    """PostgreSQL takes the month first, or the day of the year, without a word."""
    db.execute(f"alter database \"{db.info.dbname}\" set datestyle = 'DMY'")
    path = write(tmp_path, HEADER + "".join(f"u,i,view,{date}\n" for date in [*UNCLEAR, "2024-02-03"]))
    with pytest.raises(InvalidInput, match=f"{len(UNCLEAR)} bad rows") as refused:
        loading.load(database, path)
    assert "created_at '03/02/2024' does not say which number is the day: write the year first" in str(refused.value)
    assert loading.load(database, path, skip_bad=True).refused.count == len(UNCLEAR)
    assert stored(db) == [("u", "i", "view")]
    path = write(tmp_path, "item_id,published_at\na,03/02/2024\nb,1700041130\nc,3 Feb 2024\nd,\n")
    assert loading.load(database, path, items=True, skip_bad=True).refused.count == 2


def test_columns_come_in_any_order_after_a_byte_order_mark(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    path = write(tmp_path, '\ufeffkind, metadata ,Item_ID,user_id\nview,"{""duration"": 3}",i,u\nclick,,j,u\n')
    loading.load(database, path)
    assert stored(db) == [("u", "i", "view"), ("u", "j", "click")]
    assert db.execute("select metadata from recdb.interaction order by kind desc").fetchall() == [
        ({"duration": 3},),
        (None,),
    ]


def test_gzip_is_known_by_its_content(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    packed = gzip.compress(f"{HEADER}u,i,view,\n".encode())
    loading.load(database, write(tmp_path, packed))
    assert stored(db) == [("u", "i", "view")]
    assert "damaged gzip" in refusal(database, write(tmp_path, packed[:-6]))
    assert len(stored(db)) == 1


def test_a_dash_reads_standard_input(database: Database, db: psycopg.Connection) -> None:
    command = [*COMMAND, "load", "-", "--json", "--url", database.conninfo]
    packed = gzip.compress(f"{HEADER}u,i,view,\nv,i,like,\n".encode())
    done = subprocess.run(command, input=packed, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert (answer["rows"], answer["users"], answer["items"]) == (2, 2, 1)
    assert stored(db) == [("u", "i", "view"), ("v", "i", "like")]


BAD_ROWS = [
    (b"u,i", "2 columns instead of 4"),
    (b"u,i,view,,more", "5 columns instead of 4"),
    (b"u,i,view,yesterday evening", "created_at 'yesterday evening' is not a date"),
    (b"u,i,view,2023-02-29", "created_at '2023-02-29' is not a date"),
    (b"u,i,view,1706702400", "created_at '1706702400' is not a date"),
    (b"u,i,view,infinity", "created_at 'infinity' is not a date"),
    (b",i,view,", "user_id is empty"),
    (b"u,,view,", "item_id is empty"),
    (b"u,i,,", "kind is empty"),
    (b"u" * 1001 + b",i,view,", "user_id has more than 1,000 characters"),
    (b"u," + "\N{WAVING HAND SIGN}".encode() * 900 + b",view,", "item_id takes more than 2,600 bytes"),
    (b"u," + b"i" * 1000 + b"," + b"k" * 101 + b",", "kind has more than 100 characters"),
    (
        b"u" * 1000 + b"," + "\N{WAVING HAND SIGN}".encode() * 400 + b",view,",
        "user_id, item_id and kind together take more than 2,600 bytes",
    ),
    (b"u\0,i,view,", "a NUL byte"),
    (b"u\xff,i,view,", "not UTF-8"),
    (b'"u,i,view,', "quotes do not balance"),
    (b'"u"x,i,view,', "quotes do not balance"),
]


def test_a_bad_row_refuses_the_file(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    for row, reason in BAD_ROWS:
        path = write(tmp_path, HEADER.encode() + b'u,"i\n1",view,\n' + row + b"\nv,j,like,\nw,j,like,\n")
        message = refusal(database, path)
        assert message.startswith(f"1 bad row in {path}; nothing was loaded")
        assert f"line 4: {reason}" in message
        assert stored(db) == []


def test_bad_rows_are_skipped_when_asked(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    rows = b"".join(row + b"\nu,i,view,\n" for row, _ in BAD_ROWS)
    loaded = loading.load(database, write(tmp_path, HEADER.encode() + rows), skip_bad=True)
    assert stored(db) == [("u", "i", "view")] * len(BAD_ROWS)
    assert (loaded.rows, loaded.refused.count) == (len(BAD_ROWS), len(BAD_ROWS))
    assert [line for line, _ in loaded.refused.first] == [2 * number + 2 for number in range(10)]


def test_the_first_bad_lines_are_listed_in_order_and_the_rest_counted(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    rows = "".join(f"u,i\nu,i,view,{number}th\nu,i,view,\n" for number in range(20))
    message = refusal(database, write(tmp_path, HEADER + rows))
    assert [int(line.split()[1][:-1]) for line in message.splitlines()[1:-1]] == [2, 3, 5, 6, 8, 9, 11, 12, 14, 15]
    assert message.startswith("40 bad rows")
    assert message.endswith("and 30 more")
    assert stored(db) == []


def test_the_longest_ids_and_kinds_are_stored(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    user, item, kind = "u" * 1000, "i" * 1000, "ü" * 100
    loading.load(database, write(tmp_path, f"user_id,item_id,kind\n{user},{item},{kind}\n"))
    assert stored(db) == [(user, item, kind)]


def test_a_header_that_is_not_understood_is_refused(database: Database, tmp_path: Path) -> None:
    for content, reason in (
        (b"", "is empty"),
        (b"user_id,item_id\n", "has no column kind"),
        (b"user_id;item_id;kind\nu;i;view\n", "has no column user_id, item_id, kind"),
        (b"user_id,item_id,kind,price,shop\n", "unknown columns price, shop"),
        (b"user_id,item_id,kind,kind\n", "named twice"),
        ("user_id,item_id,kind\n".encode("utf-16"), "is not a CSV file in UTF-8"),
        (b'"user_id,item_id\n', "not CSV"),
    ):
        with pytest.raises(InvalidInput, match=reason) as raised:
            loading.load(database, write(tmp_path, content))
        assert "user_id,item_id,kind,[created_at]" in str(raised.value.hint)


def test_a_file_that_cannot_be_read_is_one_clear_error(database: Database, tmp_path: Path) -> None:
    assert "No such file" in refusal(database, str(tmp_path / "missing.csv"))
    assert "Is a directory" in refusal(database, str(tmp_path))


def test_a_database_without_recdb_says_so(empty_database: type[Database], tmp_path: Path) -> None:
    with pytest.raises(NotInstalled):
        loading.load(empty_database(), write(tmp_path, f"{HEADER}u,i,view,\n"))


def test_an_interruption_leaves_nothing(database: Database, db: psycopg.Connection) -> None:
    """The load has read some rows and waits for more when the signal arrives."""
    command = [*COMMAND, "load", "-", "--url", database.conninfo]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(HEADER.encode() + b"u,i,view,2024-01-01\n" * 100_000)
        process.stdin.flush()
        assert b"reading" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
        assert b"Traceback" not in process.stderr.read()
    assert stored(db) == []
    assert db.execute("select count(*) from pg_class where relname = 'staged'").fetchone() == (0,)


def test_kinds_without_a_weight_are_loaded_and_named(
    database: Database,
    db: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    db.execute("update recdb.config set default_weight = 0.25")
    path = write(tmp_path, "user_id,item_id,kind\nu,i,cart\nu,j,view\nv,i,cart\nv,j,wish\n")
    monkeypatch.setattr(sys, "argv", ["recdb", "load", path, "--url", database.conninfo])
    with pytest.raises(SystemExit, match="0"):
        main()
    shown = capsys.readouterr()
    assert "loaded 4 interactions of 2 users with 2 items" in shown.out
    assert "weigh 0.25: cart (2), wish (1)" in shown.err
    assert "dislikes" not in shown.err
    assert len(stored(db)) == 4


def test_a_refusal_on_the_command_line_exits_with_1_and_a_hint(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, f"{HEADER}[bold],i\n")
    monkeypatch.setattr(sys, "argv", ["recdb", "load", path, "--url", database.conninfo])
    with pytest.raises(SystemExit, match="1"):
        main()
    shown = capsys.readouterr().err
    assert f"error: 1 bad row in {path}; nothing was loaded\n  line 2: 2 columns instead of 4\n" in shown
    assert "hint: fix them, or pass --skip-bad" in shown


def test_a_catalogue_is_loaded_and_updated(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    first = (
        "item_id,title,owner_id,published_at,available,attributes\n"
        'a,"Tea, green",u,2024-01-31,true,"{""tags"": [""hot""]}"\n'
        "b,,,,,\n"
    )
    assert loading.load(database, write(tmp_path, first), items=True).rows == 2
    loading.load(database, write(tmp_path, "available,item_id\nyes,a\nno,a\nyes,c\n"), items=True)

    query = "select item_id, title, owner_id, published_at, available, attributes from recdb.item order by item_id"
    assert db.execute(query).fetchall() == [
        ("a", "Tea, green", "u", datetime(2024, 1, 31, tzinfo=UTC), False, {"tags": ["hot"]}),
        ("b", None, None, None, True, {}),
        ("c", None, None, None, True, {}),
    ]


def test_a_bad_catalogue_row_is_refused(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    for row, reason in (
        ("a,maybe,{}", "available 'maybe' is not true or false"),
        ("a,true,{hot}", "attributes '{hot}' is not a JSON object"),
        ("a,true,[1]", "attributes '[1]' is not a JSON object"),
        (",true,{}", "item_id is empty"),
    ):
        path = write(tmp_path, f"item_id,available,attributes\nb,true,\n{row}\n")
        assert f"line 3: {reason}" in refusal(database, path, items=True)
        assert db.execute("select count(*) from recdb.item").fetchone() == (0,)
