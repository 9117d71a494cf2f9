"""The README is true: every command in it is run, in its order, and what it prints is what the README shows.

With RECDB_WRITE_README=1 in the environment the README's outputs are replaced by what was printed.
"""

import contextlib
import difflib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from shlex import split

import psycopg
import pytest
from conftest import Server
from outside import enter_shell
from psycopg.conninfo import conninfo_to_dict

from recdb.cli import app, main
from recdb.database import Database

README = Path(__file__).parent.parent / "README.md"
CALLERS = README.parent / "examples" / "callers"
RUN = {
    "node-postgres.ts", "postgres-js.ts", "prisma.ts", "drizzle.ts", "with_psycopg.py", "with_sqlalchemy.py", "psql.sql"
}  # fmt: skip
MOST_SKIPPED = 8

BLOCK = re.compile(
    r"^(?:<!-- test: skip \((?P<reason>[^)]+)\) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^\$ (?P<command>.*(?:\n> .*)*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command of the README, and where the output that the README shows stands in it."""

    language: str
    command: str
    start: int
    stop: int


def read_steps(text: str) -> Iterator[Step]:
    """Find what is to be run: console commands, and SQL and Python blocks, whose output is the text block after."""
    blocks = list(BLOCK.finditer(text))
    for block, following in pairwise([*blocks, None]):
        assert block is not None
        language, at = block["language"], block.start("text")
        if block["reason"]:
            continue
        if language == "console":
            for found in COMMAND.finditer(block["text"]):
                command = found["command"].replace("\n> ", "\n")
                yield Step(language, command, at + found.start("output"), at + found.end("output"))
        elif language in ("sql", "python"):
            shown = following is not None and following["language"] == "text"
            shown = shown and not text[block.end() : following.start()].strip()
            start, stop = following.span("text") if shown else (at, at)
            yield Step(language, block["text"], start, stop)


def run_step(step: Step) -> str:
    """Run a command and return what it printed, without the progress that a terminal does not keep."""
    if step.language == "sql":
        printed = run_program(["psql", "--no-psqlrc", "--quiet"], step.command)
    elif step.language == "python":
        printed = capture(lambda: exec(compile(step.command, "README.md", "exec"), {"__name__": "__main__"}))
    elif step.command.startswith("recdb ") and not re.search(r"[|<>]", step.command):
        printed = run_recdb(step.command)
    else:
        printed = run_program(["bash", "-c", step.command])
    printed = re.sub(r"^psql:<stdin>:\d+: ", "", printed, flags=re.MULTILINE)
    printed = re.sub(r"^\d\d:\d\d:\d\d [\w-]+: .*\n", "", printed, flags=re.MULTILINE)
    printed = re.sub(r"^database: \S+ at \S+ \(from", "database: app at localhost (from", printed, flags=re.MULTILINE)
    return re.sub(r" +$", "", printed, flags=re.MULTILINE).strip("\n") + "\n"


def run_program(command: list[str], stdin: str = "") -> str:
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def run_recdb(command: str) -> str:
    """Run recdb in this process: starting Python for each command would take most of the test's time."""
    sys.argv = split(command)
    return capture(main)


def capture(function: Callable[[], object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
        function()
    return printed.getvalue()


MASKS = (
    (r"^database: .* \(", "database: … ("),
    (r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d(\.\d+)?)?(\+\d\d)?)?", "a date"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?", "a time"),
    (r"[\d.,]+ (ms|s|min|h|days|bytes|kB|MB|GB)\b", "an amount"),
    (r"\b\d+\.\d$", "seconds"),
    (r"-{2,}", "--"),
    (r"[ \t]+", " "),
)
DECIMAL = re.compile(r"\d+\.\d+")
TOLERANCE = 0.011


def mask(output: str) -> list[str]:
    """Return lines of output without what differs from run to run."""
    lines = output.strip().splitlines()
    for pattern, name in MASKS:
        lines = [re.sub(pattern, name, line).strip() for line in lines]
    return lines


def agree(shown: str, printed: str) -> bool:
    """Tell whether two outputs say the same; scores may differ by rounding."""
    one, other = "\n".join(mask(shown)), "\n".join(mask(printed))
    numbers = zip(DECIMAL.findall(one), DECIMAL.findall(other), strict=False)
    return DECIMAL.sub("#", one) == DECIMAL.sub("#", other) and all(
        abs(float(first) - float(second)) <= TOLERANCE for first, second in numbers
    )


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
