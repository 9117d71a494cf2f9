"""No text from the database or from the caller makes a terminal do anything."""

import csv
import json
import re
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from support.data import record, tastes, train
from typer.testing import CliRunner

from recdb.cli import app
from recdb.database import Database
from recdb.terminal import cut, errors, output, table, visible

ACTED_ON = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# Clears the screen, sets the window's title, writes into the clipboard, deletes what stands before, reverses.
EVIL = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;aGk=\x07\x9b31m\r\x08\u202eevil"


@given(st.text())
def test_what_is_visible_says_what_was_there_and_nothing_acts(text: str) -> None:
    shown = visible(text)
    assert not ACTED_ON.search(shown)
    if not ACTED_ON.search(text) and text.isprintable():
        assert shown == text


@given(st.text(max_size=50))
def test_every_way_to_print_is_safe(text: str) -> None:
    shown = table("item", "title")
    shown.add_row(text, cut(text))
    shown.add_row("fix", Text.assemble(("fix:", "bold"), " ", text))
    for console in (output, errors):
        with console.capture() as printed:
            console.print(shown)
            console.print(f"nothing for {text}", markup=False)
            console.print_json(json.dumps({"item_id": text}))
        assert not ACTED_ON.search(printed.get())
    assert json.loads(printed.get().splitlines()[-2].strip()[len('"item_id": ') :]) == text


@pytest.fixture
def evil(database: Database, db: psycopg.Connection) -> Database:
    """Ids, kinds and titles that a terminal would act on."""
    record(db, [[f"{user}{EVIL}", f"{item}{EVIL}", kind] for user, item, kind in tastes(users=20, items=20)])
    db.execute("insert into recdb.interaction (user_id, item_id, kind) values ('u', 'i', %s)", [EVIL])
    db.execute(
        "insert into recdb.item (item_id, title) select distinct item_id, 'title ' || item_id from recdb.interaction"
    )
    train(database)
    return database


def test_commands_print_what_a_terminal_would_act_on_as_escapes(evil: Database, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    with file.open("w", newline="") as opened:
        rows = [("user_id", "item_id", "kind", "created_at"), (f"u{EVIL}", "i", EVIL, EVIL)]
        csv.writer(opened).writerows(rows)
    for command in (
        ["recommend", f"u1{EVIL}"],
        ["recommend", f"u1{EVIL}", "--json"],
        ["recommend", f"nobody{EVIL}"],
        ["recommend", "u1", "--model", EVIL],
        ["activate", EVIL],
        ["models"],
        ["doctor"],
        ["doctor", "--json"],
        ["load", str(file)],
        ["load", str(tmp_path / EVIL)],
    ):
        result = CliRunner().invoke(app, [command[0], "--url", evil.conninfo, *command[1:]])
        assert not ACTED_ON.search(result.output), command
        assert not ACTED_ON.search(result.stderr), command
    listed = CliRunner().invoke(app, ["recommend", "--url", evil.conninfo, f"u1{EVIL}"])
    assert r"\x1b[2J" in listed.output and r"\u202eevil" in listed.output
