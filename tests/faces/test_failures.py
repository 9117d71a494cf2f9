"""Every command in every failure: one line that says what is wrong, a hint, and never a traceback."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.commands import SHORT, Command, example_of, run
from support.data import record, tastes
from support.servers import Server

from recdb import migrate
from recdb.database import Database

ROLE = "recdb_failures_nobody"
# psql says itself what is wrong.
ASKING = tuple(command for command in SHORT if "--url" in command.options and str(command) != "psql")


@contextmanager
def answering(code: str, message: str) -> Iterator[str]:
    """A server that answers each connection with an error, as PostgreSQL refuses a password."""
    body = b"SFATAL\0VFATAL\0C" + code.encode() + b"\0M" + message.encode() + b"\0\0"
    answer = b"E" + (len(body) + 4).to_bytes(4, "big") + body

    def answer_all(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(65536)
                while asked[4:8] in ((80877103).to_bytes(4, "big"), (80877104).to_bytes(4, "big")):  # TLS, GSS
                    connection.sendall(b"N")
                    asked = connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer_all, args=[listening])
        thread.start()
        try:
            yield f"postgresql://ann:wrong@127.0.0.1:{listening.getsockname()[1]}/shop"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with (
        answering("28P01", 'password authentication failed for user "ann"') as password,
        answering("53300", "sorry, too many clients already") as full,
        answering("57P03", "the database system is starting up") as starting,
    ):
        yield {
            "no server": f"host={tmp_path_factory.mktemp('empty')} dbname=shop",
            "no port": "postgresql://ann:secret@127.0.0.1:1/shop",
            "a wrong password": password,
            "too many connections": full,
            "a server that starts": starting,
        }


UNREACHABLE = ("no server", "no port", "a wrong password", "too many connections", "a server that starts")


@pytest.mark.parametrize("failure", UNREACHABLE)
@pytest.mark.parametrize("command", ASKING, ids=str)
def test_a_server_that_does_not_let_us_in(
    command: Command,
    failure: str,
    unreachable: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = run(example_of(command, tmp_path), monkeypatch, capsys, unreachable[failure])
    ended.assert_plain()
    assert ended.code == 1 and len(ended.complaints) == len(ended.hints) == 1
    assert "cannot connect to shop" in ended.complaints[0]


CLICKS = "create table public.clicks (u text, i text, k text)"
# A trigger on the tables that the commands write, which ends the session as an administrator does.
FINISH = (
    "create function public.finish() returns trigger language plpgsql as "
    "$$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(10); return new; end $$",
    *(
        f"create trigger finish before insert or update on recdb.{table} for each statement execute function finish()"
        for table in ("interaction", "item", "refresh_log", "model", "config", "attachment")
    ),
)


def install(database: Database, *statements: str, data: bool = False) -> str:
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(CLICKS)
        if data:
            record(connection, tastes(users=20, items=20))
        for statement in statements:
            connection.execute(statement)
    return database.conninfo


def older(database: Database) -> str:
    migrate.upgrade(database, revision="0004")
    return database.conninfo


def set_revision(revision: str) -> str:
    return f"update recdb.alembic_version set version_num = '{revision}'"


Make = Callable[[], Database]
BROKEN: dict[str, Callable[[Make], str]] = {
    "not installed": lambda make: make().conninfo,
    "no database": lambda make: make_conninfo(make().conninfo, dbname="no_such_database"),
    "an older revision": lambda make: older(make()),
    "a newer revision": lambda make: install(make(), set_revision("9999")),
    "no revision": lambda make: install(make(), "delete from recdb.alembic_version"),
    "no interactions": lambda make: install(make()),
    "the session is ended": lambda make: install(make(), *FINISH),
    "not the owner": lambda make: make_conninfo(install(make(), data=True), user=ROLE),
}
# What there is to do is done: the command may succeed.
FINE = {
    "not installed": {"demo", "doctor", "init"},
    "an older revision": {"init", "demo", "doctor", "uninstall"},
    "a newer revision": {"doctor", "uninstall"},
    "no revision": {"demo", "doctor", "init", "uninstall"},
    "no interactions": set(map(str, SHORT)),
    "the session is ended": set(map(str, SHORT)) - {"load", "generate", "attach", "refresh"},
    "not the owner": {"doctor"},
}


@pytest.fixture
def nobody(server: Server) -> Iterator[None]:
    """A role without any right."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"create role {ROLE} login")
        yield
        connection.execute(f"drop role {ROLE}")


def in_order(commands: tuple[Command, ...]) -> list[Command]:
    """The commands that install and remove come last."""
    last = ("doctor", "demo", "init", "uninstall")
    return sorted(commands, key=lambda command: last.index(str(command)) if str(command) in last else -1)


@pytest.mark.parametrize("failure", BROKEN)
def test_a_database_that_does_not_fit(
    failure: str,
    nobody: None,
    empty_database: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = BROKEN[failure](empty_database)
    for command in in_order(ASKING):
        ended = run(example_of(command, tmp_path), monkeypatch, capsys, url)
        ended.assert_plain()
        if str(command) not in FINE.get(failure, {"doctor"}):
            assert ended.code == 1 and len(ended.complaints) == len(ended.hints) == 1, (command, ended)
        if failure == "not installed" and str(command) == "demo":
            return  # the demo has installed it


# What a database holds that recdb reads as UTF-8: bytes of another client, or characters that it cannot hold.
FOREIGN = {
    "LATIN1": None,
    "SQL_ASCII": "insert into recdb.interaction (user_id, item_id, kind) select 'u' || n, E'caf\\xe9', 'view' "
    "from generate_series(1, 20) n",
}


@pytest.mark.parametrize("encoding", FOREIGN)
def test_a_database_in_another_encoding(
    encoding: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, url = f"failures_{encoding.lower()}", server.conninfo(f"failures_{encoding.lower()}")
    japanese = tmp_path / "japanese.csv"
    japanese.write_text("user_id,item_id,kind\nu1,\N{HIRAGANA LETTER A},view\n", encoding="utf-8")
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} encoding '{encoding}' locale 'C' template template0")
        try:
            assert run(["init"], monkeypatch, capsys, url).code == 0
            with psycopg.connect(url, autocommit=True) as there:
                there.execute(CLICKS)
                there.execute("insert into recdb.interaction (user_id, item_id, kind) values ('u1', 'i1', 'view')")
                if statement := FOREIGN[encoding]:
                    there.execute("set client_encoding = 'SQL_ASCII'")
                    there.execute(statement.encode())
            for command in in_order(ASKING):
                run(example_of(command, tmp_path), monkeypatch, capsys, url).assert_plain()
                if encoding == "LATIN1" and str(command) == "load":
                    ended = run(["load", str(japanese)], monkeypatch, capsys, url)
                    ended.assert_plain()
                    assert ended.code == 1 and "encoding" in ended.complaints[0] + ended.hints[0]
        finally:
            connection.execute(f"drop database {name} with (force)")
