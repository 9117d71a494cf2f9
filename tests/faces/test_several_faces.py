"""The command line, the clients and the service reach each of several recommenders in one database."""

import asyncio
import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from psycopg_pool import ConnectionPool
from support.serving import serving
from support.several import CALL, ask, execute, make_both, people_of

from recdb import AsyncRecommender, Recommender
from recdb.cli import app, main
from recdb.database import Database, connect
from recdb.errors import InvalidInput, NotInstalled
from recdb.revisions import in_schema
from recdb.schemas import Verbatim, with_schema
from recdb.tables import Interaction

Command = Callable[..., str]


@pytest.fixture(scope="module")
def both(module_database: Database) -> Database:
    """A database with posts in schema recdb and people to follow in schema people, both trained: only read it."""
    make_both(module_database)
    return module_database


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, and return all that it prints."""

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["recdb", *arguments])
        capsys.readouterr()
        try:
            main()
            found: object = 0
        except SystemExit as stop:
            found = stop.code or 0
        captured = capsys.readouterr()
        assert found == code, captured.out + captured.err
        return captured.err + captured.out

    return call


def answer(printed: str) -> Any:
    """Read the JSON that a command printed below its progress."""
    found = re.search(r"^[\[{].*", printed, re.MULTILINE | re.DOTALL)
    assert found, printed
    return json.loads(found[0])


# Commands -----------------------------------------------------------------------------------------------------


def test_every_command_on_a_database_takes_the_schema(command: Command) -> None:
    names = [each.name or each.callback.__name__.replace("_", "-") for each in app.registered_commands if each.callback]
    taking = [name for name in names if "--schema" in command(name, "--help")]

    assert set(names) - set(taking) <= {"demo", "size", "stop"}
    assert [name for name in taking if in_schema(f"recdb {name}", "people") != f"recdb {name} --schema people"] == []


def test_the_commands_work_on_the_schema_alone(
    database: Database, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "create table follow (follower text, followed text, at timestamptz)",
            "create index on follow (follower, at)",
            "create index on follow (followed)", "create index on follow (at)")  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", database.conninfo)
    monkeypatch.delenv("RECDB_DATABASE_URL", raising=False)
    here = ("--schema", "people")
    before = ask(database, "select count(*) from recdb.interactions")

    said = command("doctor", *here, code=1)
    assert "recdb init --schema people" in said
    assert "schema people" in command("init", *here)
    command("generate", *here, "--users", "60", "--items", "50", "--count", "900", "--seed", "1")
    file = tmp_path / "more.csv"
    file.write_text("user_id,item_id,kind\nana,item-1,like\nana,item-2,like\n")
    assert "recdb refresh --schema people" in command("load", *here, str(file))
    attached = command("attach", *here, "--interactions", "follow", "--user", "follower", "--item", "followed",
                       "--kind", "'follow'", "--at", "at", "--where", "followed <> 'recdb.x'")  # fmt: skip
    assert "recdb refresh --schema people --full" in attached
    assert ask(database, "select query like '%''recdb.x''%' from people.attachment") == [True]
    command("refresh", *here, "--full", "--force")
    assert "collaborative_filtering_v1" in command("models", *here)
    command("activate", *here, "collaborative_filtering_v1")
    listed = answer(command("recommend", *here, "ana", "-k", "3", "--json"))
    assert [row["item_id"] for row in listed] == ask(database, "select item_id from people.recommend('ana', 3)")
    assert len(listed) == 3
    command("recommend-all", *here, str(tmp_path / "all.csv"), "-k", "3")
    with (tmp_path / "all.csv").open() as lists:
        assert [row["item_id"] for row in csv.DictReader(lists) if row["user_id"] == "ana"] == [
            row["item_id"] for row in listed
        ]
    checks = command("doctor", *here, "--json")
    assert answer(checks)["healthy"], checks
    assert command("psql", *here, "-c", "\\dv attached*", "-c", "select count(*) from interaction").count("people") >= 1
    assert "detached" in command("detach", *here, "follow")
    monkeypatch.setenv("RECDB_SCHEMA", "people")
    assert "collaborative_filtering_v1" in command("models")
    assert "no model has been trained" in command("models", "--schema", "recdb")
    monkeypatch.delenv("RECDB_SCHEMA")
    assert ask(database, "select count(*) from recdb.interactions") == before
    command("uninstall", *here, "--yes")
    assert ask(database, "select to_regnamespace('people') is null and to_regnamespace('recdb') is not null") == [True]


@pytest.mark.parametrize("arguments", [["evaluate", "--json"], ["tune", "--budget", "1s"]])
def test_the_slow_commands_work_on_the_schema_too(both: Database, command: Command, arguments: list[str]) -> None:
    if arguments[0] == "evaluate":
        arguments = [*arguments, "--scratch-url", both.conninfo]
    counted = ask(both, "select count(*) from recdb.model")

    assert "schema people" in command(*arguments, "--schema", "people", "--url", both.conninfo)

    assert ask(both, "select count(*) from recdb.model") == counted


def test_statements_and_commands_in_messages_name_the_schema(both: Database, command: Command) -> None:
    with pytest.raises(psycopg.Error) as refused:
        ask(both, "select people.refuse_loss(100000, 1)")
    assert "select people.rebuild(force => true)" in str(refused.value.diag.message_hint)
    assert "recdb refresh --schema people --full --force" in str(refused.value.diag.message_hint)

    said = command("refresh", "--schema", "music", "--url", both.conninfo, code=1)
    assert "not installed in schema music" in said and "recdb init --schema music" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select recdb.config.half_life from recdb.config", "select people.config.half_life from people.config"),
        ("'recdb.attached_%s'::regclass, recdb.%I", "'people.attached_%s'::regclass, people.%I"),
        ("nspname = 'recdb'; datname = 'recdb'", "nspname = 'people'; datname = 'recdb'"),
        ("grant usage on schema recdb to recdb_reader", "grant usage on schema people to recdb_reader"),
        ("'recdb: lists' and recdb's schema, recdb reads.", "'recdb: lists' and recdb's schema, recdb reads."),
        ("`recdb refresh --full`, then recdb doctor",
         "`recdb refresh --schema people --full`, then recdb doctor --schema people"),
        ("recdb recommends; recdb recommend-all", "recdb recommends; recdb recommend-all --schema people"),
        ("current_setting('recdb.any', true), recdb.user_id, set recdb.x = 1",
         "current_setting('recdb.any', true), recdb.user_id, set recdb.x = 1"),
        ("to_regclass('recdb.' || t.name), all of recdb.'", "to_regclass('people.' || t.name), all of recdb.'"),
        ("'or: recdb '\n    'init; then'", "'or: recdb '\n    'init --schema people; then'"),
        ("https://x.org/recdb.git my_recdb.t recdb_x.t", "https://x.org/recdb.git my_recdb.t recdb_x.t"),
        ("recdb/arrays/events.py", "recdb/arrays/events.py"),
    ],
)  # fmt: skip
def test_only_the_name_of_the_schema_is_written_over(text: str, expected: str) -> None:
    assert in_schema(text, "people") == expected
    assert in_schema(expected, "people") == expected
    assert in_schema(text, "recdb") == text


def test_values_and_texts_of_users_in_a_statement_stay() -> None:
    statement = sql.SQL("comment on table recdb.{} is {}").format(sql.Identifier("x"), sql.Literal("recdb.x"))
    view = sql.SQL("select from {} where {}").format(sql.Identifier("recdb", "x"), Verbatim("y = 'recdb.x'"))

    assert with_schema(statement, "people").as_string() == "comment on table people.\"x\" is 'recdb.x'"
    assert with_schema(view, "people").as_string() == 'select from "people"."x" where y = \'recdb.x\''
    assert with_schema(b"table recdb.x", "people") == b"table people.x"


def test_every_kind_of_cursor_writes_the_name_in(both: Database) -> None:
    with connect(people_of(both)) as connection:
        name = "select distinct left(item_id, 6) from recdb.interaction"
        with connection.cursor("named") as cursor:
            assert cursor.execute(name).fetchall() == [("person",)]
        with connection.cursor() as cursor:
            assert list(cursor.stream(name)) == [("person",)]
            cursor.executemany("insert into recdb.interaction_kind values (%s, 1)", [("a",), ("b",)])
            with cursor.copy("copy (select count(*) from recdb.interaction_kind) to stdout") as copy:
                assert b"".join(bytes(part) for part in copy) == b"6\n"
        connection.rollback()


# Clients ------------------------------------------------------------------------------------------------------


def test_the_clients_reach_it_however_they_connect(both: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ask(both, CALL.format("people"))

    def items(client: Recommender) -> list[str]:
        return [each.item_id for each in client.recommend("u1", 5)]

    with Recommender(both.conninfo, schema="people") as client:
        assert items(client) == expected
        assert client.popular(1)[0].item_id.startswith("person-")
        client.refresh()
    with psycopg.connect(both.conninfo) as connection:
        assert items(Recommender(connection, schema="people")) == expected
        assert items(Recommender(connection)) == ask(both, CALL.format("recdb"))
    with ConnectionPool(both.conninfo, min_size=1, open=True) as pool:
        assert items(Recommender(pool, schema="people")) == expected
    with connect(people_of(both)) as connection:
        assert items(Recommender(connection)) == expected
    monkeypatch.setenv("RECDB_SCHEMA", "people")
    with Recommender(both.conninfo) as client:
        assert items(client) == expected
    with Recommender(both.conninfo, schema="recdb") as client:
        assert items(client) == ask(both, CALL.format("recdb"))
    with connect(both) as connection:
        assert items(Recommender(connection)) == ask(both, CALL.format("recdb"))
    with pytest.raises(InvalidInput):
        Recommender(both.conninfo, schema="My Recs")


def test_the_clients_hints_name_the_schema(both: Database, empty_database: Callable[[], Database]) -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(both.conninfo))
    sources: list[Any] = [both.conninfo, empty_database().conninfo, engine]
    for source in sources:
        with Recommender(source, schema="nope") as client:
            for call in (client.recommend, client.neighbors):
                with pytest.raises(NotInstalled) as refused:
                    call("u1")
                assert refused.value.hint == "run: recdb init --schema nope"

    async def ask_async() -> None:
        async with AsyncRecommender(both.conninfo, schema="nope") as client:
            await client.recommend("u1")

    with pytest.raises(NotInstalled) as refused:
        asyncio.run(ask_async())
    assert refused.value.hint == "run: recdb init --schema nope"
    engine.dispose()


def test_the_async_client_reaches_it(both: Database) -> None:
    async def ask_async() -> list[str]:
        async with AsyncRecommender(both.conninfo, schema="people") as client:
            return [each.item_id for each in await client.recommend("u1", 5)]

    assert asyncio.run(ask_async()) == ask(both, CALL.format("people"))


def test_the_service_serves_it(both: Database) -> None:
    with serving(people_of(both)) as http:
        body = http.post("/recommendations/generate", json={"user_id": "u1", "limit": 5}).json()
        assert [post["post_id"] for post in body["recommendations"]] == ask(both, CALL.format("people"))
        assert http.get("/health").status_code == 200
        assert "recdb_model_age_seconds" in http.get("/metrics").text
    with serving(replace(both, schema="music")) as http:
        health = http.get("/health")
        assert health.status_code == 503
        assert health.json()["hint"] == "run: recdb init --schema music"


def test_the_models_of_sqlalchemy_reach_it(both: Database) -> None:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(both.conninfo), poolclass=sqlalchemy.NullPool
    )
    with engine.connect().execution_options(schema_translate_map={"recdb": "people"}) as connection:
        items = connection.scalars(sqlalchemy.select(Interaction.item_id).limit(3)).all()
    assert all(item.startswith("person-") for item in items) and len(items) == 3
