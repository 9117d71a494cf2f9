"""The documents are true: a test runs every command in them and compares its output with the page's.

Each page starts from a new database. With RECDB_WRITE_DOCS=1 in the environment the test writes the
printed outputs into the pages:

    RECDB_WRITE_DOCS=1 pytest tests/project/test_documents.py -k every_command
"""

import contextlib
import difflib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict
from support import supabase
from support.documents import (
    BLOCK,
    DOCS,
    LINK,
    PROJECT,
    README,
    REFERENCE,
    REPOSITORY,
    agree,
    broken_links,
    differing,
    headings,
    mask,
    read_steps,
    rewrite,
    site_slug,
    slug,
)
from support.outside import enter_shell
from support.servers import Server
from support.standby import run_standby

from recdb.cli import app
from recdb.database import Database

PAGES = [README, *sorted(DOCS.glob("*.md"))]
WITH_COMMANDS = [page for page in PAGES if page != REFERENCE]  # which is generated, see test_reference.py
ELSEWHERE = [*sorted((PROJECT / "examples").glob("*/README.md")), *sorted((PROJECT / "benchmarks").glob("*/*.md"))]
CALLERS = PROJECT / "examples" / "callers"
RUN = {
    "node-postgres.ts", "postgres-js.ts", "prisma.ts", "drizzle.ts", "with_psycopg.py", "with_sqlalchemy.py", "psql.sql"
}  # fmt: skip
MOST_SKIPPED = 12
LONGEST_README = 170


def name(page: Path) -> str:
    return str(page.relative_to(PROJECT))


@pytest.fixture
def shell(
    request: pytest.FixtureRequest,
    other_database: Callable[[], Database],
    other_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A new database on a server where recdb never was, named as a reader of the page would have named it."""
    database = other_database()
    if request.node.callspec.params.get("page") == DOCS / "supabase.md":
        database = supabase.build(database)
    dbname = str(conninfo_to_dict(database.conninfo)["dbname"])
    enter_shell(monkeypatch, database, tmp_path, PGDATABASE=dbname, PGTZ="UTC")
    monkeypatch.setattr(sys, "argv", [])
    with contextlib.ExitStack() as stack:
        if request.node.callspec.params.get("page") == DOCS / "replicas.md":
            standby = stack.enter_context(run_standby(other_server, hot_standby_feedback="on"))
            monkeypatch.setenv("RECDB_READ_URL", f"postgresql://{standby.user}@/{dbname}?host={standby.host}")
        yield
    with psycopg.connect(other_server.conninfo("postgres"), autocommit=True) as connection:
        for made in ("restored", "cell_1", "cell_2", "learn", "tenant"):
            connection.execute(f"drop database if exists {made} with (force)")


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_every_command_prints_what_the_page_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = differing(text)
    if os.environ.get("RECDB_WRITE_DOCS"):
        page.write_text(rewrite(text, wrong), encoding="utf-8")
    stale = []
    for step, printed in wrong:
        diff = difflib.unified_diff(mask(text[step.start : step.stop]), mask(printed), "page", "printed", lineterm="")
        line = text.count("\n", 0, step.start) + 1
        stale.append(f"{name(page)}, line {line}: {step.command.strip()}\n" + "\n".join(diff))
    assert not stale, "\n\n".join(stale)


def test_every_block_is_run_or_says_why_not() -> None:
    blocks = [block for page in WITH_COMMANDS for block in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    skipped = [block for block in blocks if block["reason"]]

    assert {block["language"] for block in blocks if not block["reason"]} == {"console", "sql", "python", "text"}
    assert len(skipped) <= MOST_SKIPPED
    for page in WITH_COMMANDS:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- test:") == len(
            [each for each in BLOCK.finditer(text) if each["reason"] or each["quiet"]]
        )


def test_a_page_that_runs_commands_says_from_which_state_it_starts() -> None:
    for page in WITH_COMMANDS[1:]:
        text = page.read_text(encoding="utf-8")
        if any(read_steps(text)):
            assert re.search(r"\bThis page (starts|continues) from ", text[:500]), name(page)


def test_unavailable_commands_do_not_exist_and_every_command_is_named() -> None:
    limits = DOCS / "limits.md"
    there, missing = limits.read_text(encoding="utf-8").split("## Not available yet")
    pages = [page.read_text(encoding="utf-8") for page in PAGES if page not in (limits, REFERENCE)]
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}

    assert set(re.findall(r"recdb ([a-z-]+)", "\n".join([there, *pages]))) >= commands
    assert re.findall(r"`recdb ([a-z-]+)", missing)
    assert not set(re.findall(r"`recdb ([a-z-]+)", missing)) & commands


def test_a_wrong_output_is_noticed() -> None:
    shown = "rank item score\n   1 item-1 0.812\nrefreshed in 0.3 s"

    assert agree(shown, "rank  item  score\n   1  item-1  0.813\nrefreshed in 11.4 s")
    for wrong in (("item-1", "item-2"), ("0.812", "0.712"), ("refreshed", "trained"), ("   1 item-1 0.812\n", "")):
        assert not agree(shown, shown.replace(*wrong))


def test_a_wrong_page_is_noticed_and_rewritten() -> None:
    page = "```console\n$ echo one\ntwo\n```\n\n<!-- test: quiet -->\n```console\n$ echo error: three\n```\n"
    wrong = differing(page)

    assert [(step.command, printed) for step, printed in wrong] == [
        ("echo one", "one\n"), ("echo error: three", "error: three\n"),
    ]  # fmt: skip
    assert rewrite(page, wrong) == page.replace("two", "one")


def test_user_42_likes_the_item_that_the_text_says() -> None:
    """The first look says that user-42 likes the first item of the list before; so that is the item that is tracked."""
    for page in (README, DOCS / "quickstart.md"):
        before, after = re.split(r"likes the first", page.read_text(encoding="utf-8"))
        first = re.findall(r"^ +1  (item-\d+) ", before, re.MULTILINE)[-1]
        (liked,) = re.findall(r"track\('user-42', '([^']+)', 'like'\)", after)
        shown = re.findall(r"^ (item-\d+) +\| +[\d.]+ \|", after, re.MULTILINE)

        assert liked == first
        assert shown and liked not in shown


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_README


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


@pytest.mark.parametrize("page", [DOCS / "clients.md", CALLERS / "README.md"], ids=name)
def test_the_lines_to_copy_are_those_that_are_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace(f"{REPOSITORY}/blob/main/examples/callers/", f"{CALLERS}/")
    rows = re.findall(r"^\| \[[\w. -]+\]\(([\w./-]+)\)[ \d.]* \|(.*) \|$", text, re.MULTILINE)
    rows = [(page.parent / file, line) for file, line in rows if (page.parent / file).is_relative_to(CALLERS)]

    assert {file.name for file, _ in rows} == RUN
    for file, line in rows:
        (call,) = re.findall(r"select \* from recommend\(.*?, 50, .*?\)+", line)
        if file.suffix != ".sql":  # its ids are literals; the page about recommend() has that call
            assert re.match(r"[^)]*\)", call.replace(", 50, ", ", 5, "))[0] in file.read_text(encoding="utf-8"), (
                file.name
            )


@pytest.mark.parametrize("page", [*PAGES, *ELSEWHERE], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_links_fit_the_place_where_a_page_is_read() -> None:
    """The package index shows the README alone, and the site shows docs/ alone."""
    for link in LINK.findall(BLOCK.sub("", README.read_text(encoding="utf-8"))):
        assert link.startswith(("https://", "#")), link
    for page in DOCS.glob("*.md"):
        for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
            assert not link.startswith("../") and f"{REPOSITORY}/blob/main/docs/" not in link, f"{name(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_heading_has_the_same_anchor_on_github_and_on_the_site(page: Path) -> None:
    for heading in headings(page):
        assert slug(heading) == site_slug(heading)
    assert len(set(map(slug, headings(page)))) == len(headings(page))


def test_a_stranger_finds_these_from_the_readme() -> None:
    links = dict(re.findall(r"\[([^\]]+)\]\(([^)]+)\)", README.read_text(encoding="utf-8")))

    assert {
        "How to attach your tables", "The formula of recommend()", "How to run one test", "Releases"
    } <= set(links)  # fmt: skip


def test_every_page_is_in_the_site_and_the_site_is_built_strictly(tmp_path: Path) -> None:
    settings = yaml.safe_load(re.sub(r"!!python/name:\S+", "x", (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")))
    listed = [page for entry in settings["nav"] for page in pages_of(entry)]

    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))
    assert settings["strict"] is True and settings["theme"]["font"] is False
    pytest.importorskip("material", reason="the extra docs is not installed; make docs builds the site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def pages_of(entry: object) -> Iterator[str]:
    """Find the pages in an entry of the site's navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for value in entry.values():
            yield from pages_of(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from pages_of(value)
