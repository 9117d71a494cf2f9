"""The README is true: every command in it is run, in its order, and what it prints is what the README shows.

With RECDB_WRITE_README=1 in the environment the README's outputs are replaced by what was printed.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.documents import BLOCK, README, agree, mask, read_steps, run_step
from support.outside import enter_shell
from support.servers import Server

from recdb.cli import app
from recdb.database import Database

CALLERS = README.parent / "examples" / "callers"
RUN = {
    "node-postgres.ts", "postgres-js.ts", "prisma.ts", "drizzle.ts", "with_psycopg.py", "with_sqlalchemy.py", "psql.sql"
}  # fmt: skip
MOST_SKIPPED = 8


@pytest.fixture
def shell(
    other_database: Callable[[], Database],
    other_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A new database on a server where recdb never was, named as a reader of the README would have named it."""
    database = other_database()
    name = str(conninfo_to_dict(database.conninfo)["dbname"])
    enter_shell(monkeypatch, database, tmp_path, PGDATABASE=name, PGTZ="UTC")
    monkeypatch.setattr(sys, "argv", [])
    yield
    with psycopg.connect(other_server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("drop database if exists restored with (force)")


@pytest.mark.usefixtures("shell")
def test_every_command_prints_what_the_readme_shows() -> None:
    text = README.read_text(encoding="utf-8")
    stale, edits = [], []
    for step in read_steps(text):
        shown, printed = text[step.start : step.stop], run_step(step)
        if step.start == step.stop and step.language != "console":
            shown = printed if "ERROR" not in printed else ""
        if not agree(shown, printed):
            diff = difflib.unified_diff(mask(shown), mask(printed), "README.md", "printed", lineterm="")
            line = text.count("\n", 0, step.start) + 1
            stale.append(f"line {line}: {step.command.strip()}\n" + "\n".join(diff))
            edits.append((step.start, step.stop, printed))

    if os.environ.get("RECDB_WRITE_README"):
        for start, stop, printed in reversed(edits):
            text = text[:start] + printed + text[stop:]
        README.write_text(text, encoding="utf-8")
    assert not stale, "\n\n".join(stale)


def test_every_block_is_run_or_says_why_not() -> None:
    blocks = list(BLOCK.finditer(README.read_text(encoding="utf-8")))
    skipped = [block for block in blocks if block["reason"]]

    assert {block["language"] for block in blocks if not block["reason"]} == {"console", "sql", "python", "text"}
    assert len(skipped) <= MOST_SKIPPED


def test_what_is_not_there_yet_is_not_there_and_every_command_is_named() -> None:
    there, missing = README.read_text(encoding="utf-8").split("## What is not there yet")
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}

    assert set(re.findall(r"recdb ([a-z-]+)", there)) >= commands
    assert not set(re.findall(r"`recdb ([a-z-]+)", missing)) & commands


def test_a_wrong_output_is_noticed() -> None:
    shown = "rank item score\n   1 item-1 0.812\nrefreshed in 0.3 s"

    assert agree(shown, "rank  item  score\n   1  item-1  0.813\nrefreshed in 11.4 s")
    for wrong in (("item-1", "item-2"), ("0.812", "0.712"), ("refreshed", "trained"), ("   1 item-1 0.812\n", "")):
        assert not agree(shown, shown.replace(*wrong))


# Which of a cell's borders a line of a drawing reaches.
DOWN = "│┌┐├┤┬┼"
UP = "│└┘├┤┴┼"


def test_the_lines_of_the_picture_meet() -> None:
    pictures = [block["text"] for block in BLOCK.finditer(README.read_text(encoding="utf-8")) if "┌" in block["text"]]

    assert len(pictures) == 1
    for upper, lower in pairwise(pictures[0].splitlines()):
        for column, character in enumerate(upper):
            below = lower[column : column + 1]
            assert character not in DOWN or below in f"{UP}▼", f"{upper}\n{lower}\n{' ' * column}^"


@pytest.mark.parametrize("page", [README, CALLERS / "README.md"], ids=["README", "the callers' page"])
def test_the_lines_to_copy_are_those_that_are_run(page: Path) -> None:
    rows = re.findall(
        r"^\| \[[\w. -]+\]\(([\w./-]+)\)[ \d.]* \|(.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    rows = [(page.parent / file, line) for file, line in rows if (page.parent / file).is_relative_to(CALLERS)]

    assert {file.name for file, _ in rows} == RUN
    for file, line in rows:
        (call,) = re.findall(r"select \* from recommend\(.*?, 50, .*?\)+", line)
        if file.suffix != ".sql":  # its ids are literals; the README's own SQL has that call
            assert re.match(r"[^)]*\)", call.replace(", 50, ", ", 5, "))[0] in file.read_text(encoding="utf-8"), (
                file.name
            )


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", text)

    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (README.parent / link).exists(), link
