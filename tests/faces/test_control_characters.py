"""Escape sequences in arguments and names: no command lets a terminal act on them."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from support.commands import SHORT, Command, example_of, run
from support.data import record, tastes, train

from recdb.database import Database

RED = "\x1b[31m"


@pytest.mark.parametrize("command", SHORT, ids=str)
def test_a_wrong_option_is_shown_escaped(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command.words, f"--nothing{RED}", "--url", f"postgresql://%1b[31m@localhost/x{RED}"]
    ended = run(arguments, monkeypatch, capsys)
    assert ended.code in (1, 2)
    assert "\x1b" not in ended.output + ended.errors
    assert "\\x1b[31m" in ended.errors or "control character" in ended.errors


@pytest.mark.parametrize("command", SHORT, ids=str)
def test_a_url_with_a_control_character_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """psql would print the name of the database as it is."""
    if "--url" not in command.options:
        return
    ended = run(example_of(command, tmp_path), monkeypatch, capsys, "postgresql://localhost/x%1b[31m")
    ended.assert_plain()
    assert ended.code in (1, 2) and "\x1b" not in ended.output + ended.errors
    assert "control character in its dbname" in ended.errors


def test_an_unknown_command_is_shown_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run([f"nothing{RED}"], monkeypatch, capsys)
    assert ended.code == 2 and "\x1b" not in ended.errors and "nothing\\x1b[31m" in ended.errors


def test_a_pipe_has_every_column_unless_it_has_a_width(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)

    def shown(**environment: str) -> list[str]:
        command = [sys.executable, "-m", "recdb.cli", "models", "--url", database.conninfo]
        kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[1:]

    whole = shown()
    assert len(whole) == 2 and whole[0].split()[-1] == "seconds" and len(whole[0]) > 80
    narrow = shown(COLUMNS="80")
    assert len(narrow) == 2 and max(map(len, narrow)) <= 80
