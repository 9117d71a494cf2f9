"""A password appears in nothing that recdb prints, logs or answers, however its URL is spelled."""

import json
import logging
import string
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.data import record, tastes, train
from support.serving import serving

from recdb.cli import main
from recdb.database import Database, find_database, normalize_url
from recdb.errors import RecdbError
from recdb.job.tracking import version_tracker
from recdb.service import logs

ODD = "@/:#?%&=+ '\"\\[]!$,;é"

# Passwords that hold enough to be recognized, between characters that a URL should have percent-encoded.
words = st.text(string.ascii_letters + string.digits, min_size=5, max_size=8)
passwords = st.lists(st.sampled_from(list(ODD)) | words, min_size=2, max_size=8).map("".join)
passwords = passwords.filter(lambda text: bool(pieces(text)) and text.strip() == text)


def pieces(password: str) -> list[str]:
    """The parts of a password that would give it away, if one of them were printed."""
    for sign in ODD:
        password = password.replace(sign, " ")
    return [part for part in password.split() if len(part) >= 5]


def shows(password: str, text: str) -> bool:
    return any(part in text for part in pieces(password))


SPELLINGS = {
    "as it is": lambda p: f"postgresql://ann:{p}@db.example:5433/shop",
    "another scheme": lambda p: f"postgres://ann:{p}@db.example/shop?sslmode=disable",
    "SQLAlchemy's": lambda p: f"postgresql+psycopg://ann:{p}@db.example/shop",
    "Prisma's": lambda p: f"postgresql://ann:{p}@db.example:5433/shop?schema=public&pgbouncer=true",
    "without a database": lambda p: f"postgresql://ann:{p}@db.example",
    "two hosts": lambda p: f"postgresql://ann:{p}@db.example:1,db2.example:2/shop",
    "an IPv6 host": lambda p: f"postgresql://ann:{p}@[::1]:5433/shop",
    "percent-encoded": lambda p: f"postgresql://ann:{quote(p, safe='')}@db.example:5433/shop",
    "a parameter": lambda p: f"postgresql://db.example/shop?user=ann&password={quote(p, safe='')}",
    "a bare parameter": lambda p: f"postgresql://db.example/shop?user=ann&password={p}",
    "key=value": lambda p: f"host=db.example user=ann password={p} dbname=shop",
    "key='value'": lambda p: f"host=db.example user=ann password='{p}' dbname=shop",
    "key=value, quoted": lambda p: make_conninfo(host="db.example", user="ann", password=p, dbname="shop"),
    "twice": lambda p: f"postgresql://ann:{p}@db.example/shop?password={p}",
    "twice, without a host": lambda p: f"postgres://ann:{p}@/shop?sslmode=disable&password={p}",
    "no scheme": lambda p: f"ann:{p}@db.example/shop",
    "another system": lambda p: f"mysql://ann:{p}@db.example/shop",
}


@settings(max_examples=300, deadline=None)
@example("%80000", "as it is")
@given(passwords, st.sampled_from(list(SPELLINGS)))
def test_no_spelling_prints_a_part_of_the_password(password: str, spelling: str) -> None:
    """Both what find_database() names and the error that it raises."""
    url = SPELLINGS[spelling](password)
    try:
        database = find_database(url)
    except RecdbError as error:
        assert not shows(password, f"{error} {error.hint} {error.__cause__}")
    else:
        assert not shows(password, str(database))
        assert database.origin == "given by --url"


@settings(max_examples=300, deadline=None)
@given(passwords, st.sampled_from(list(SPELLINGS)[:8]))
def test_a_password_that_is_not_encoded_is_understood_or_refused(password: str, spelling: str) -> None:
    """It reaches libpq as it is, unless it could be percent-encoded already or be another part of the URL."""
    try:
        parts = conninfo_to_dict(normalize_url(SPELLINGS[spelling](password)))
    except RecdbError:
        assert set(password) & set(ODD)
        return
    if spelling == "percent-encoded":
        assert parts["password"] == password
    assert not shows(password, f"{parts.get('host')} {parts.get('port')} {parts.get('dbname')} {parts.get('user')}")


@pytest.mark.parametrize(
    "password", ["p@ss", "p/ss", "p?ss", "p:ss", "p#ss", "p ss", "p%ss", "p@s/s?s:s#s", "100%@home/x"]
)
def test_the_usual_unencoded_passwords_connect(password: str) -> None:
    for url in (f"postgresql://ann:{password}@db:5433/shop", f"postgres://ann:{password}@db:5433/shop?schema=app"):
        parts = conninfo_to_dict(normalize_url(url))
        assert (parts["user"], parts["password"], parts["host"], parts["port"], parts["dbname"]) == (
            "ann", password, "db", "5433", "shop",
        )  # fmt: skip


HOSTILE = [
    "sec@ret1", "sec/ret1", "sec:ret1", "sec#ret1", "sec?ret1", "sec ret1", "sec%ret1", "5432/sec@ret1", "sec]ret1",
]  # fmt: skip
CLOSED = "127.0.0.1:1"


def url_of(password: str) -> str:
    """A URL of a server that refuses connections."""
    return f"postgresql://ann:{password}@{CLOSED}/shop"


def leaks(text: str) -> bool:
    return "sec" in text.replace("seconds", "").replace("second", "") or "ret1" in text


@pytest.mark.parametrize("password", HOSTILE)
@pytest.mark.parametrize("command", ["models", "doctor", "init", "refresh", "recommend-all"])
def test_a_command_that_cannot_connect_prints_none_of_it(
    password: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["nothing.csv"] if command == "recommend-all" else []
    monkeypatch.setattr("sys.argv", ["recdb", command, *file, "--url", url_of(password)])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr()
    assert "shop at 127.0.0.1:1" in printed.out + printed.err
    assert not leaks(printed.out + printed.err)


@pytest.mark.parametrize("password", HOSTILE)
def test_the_service_answers_and_logs_none_of_it(password: str, caplog: pytest.LogCaptureFixture) -> None:
    """GET /health needs no login."""
    caplog.set_level(logging.DEBUG)
    with serving(Database(normalize_url(url_of(password)), "given by --url")) as client:
        health = client.get("/health")
        answer = client.post("/recommendations/generate", json={"user_id": "u1"})
    assert health.status_code == answer.status_code == 503
    assert "shop at 127.0.0.1:1" in json.loads(health.text)["detail"]
    lines = [logs.JsonFormatter().format(record) for record in caplog.records]
    assert any("shop at 127.0.0.1:1" in line for line in lines)
    assert not leaks(health.text + answer.text + "".join(lines))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of MLflow itself
@pytest.mark.parametrize(
    "place", ["http://ann:sec@ret1@127.0.0.1:1", "postgresql://ann:sec/ret1@127.0.0.1:1/ml", "nothing://ann:secret1@x"]
)
def test_mlflow_that_does_not_answer_prints_none_of_it(
    database: Database, db: psycopg.Connection, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 0)
    record(db, tastes())
    label = train(database)
    lines: list[str] = []
    version_tracker(database, place, lines.append)(label)
    assert lines[0].startswith(f"{label} is trained, but MLflow at ")
    assert not leaks(lines[0])
