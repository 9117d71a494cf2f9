"""The commands of docs/citus.md print the output that the page shows, on a coordinator and two workers."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.citus import drop_database, make_database
from support.documents import DOCS, differing, rewrite
from support.outside import enter_shell
from support.servers import Server

from recdb import job, migrate
from recdb.data import generate

PAGE = DOCS / "citus.md"
MARK = "<!-- test: skip (needs servers with Citus; tests/citus/test_page.py runs it) -->\n"


@pytest.fixture
def shell(three_nodes: Sequence[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A recommender with a model, in a database that is ready to be spread."""
    database = make_database(three_nodes, "app")
    migrate.upgrade(database)
    until = datetime(2026, 1, 1, tzinfo=UTC)
    generate.generate(database, users=400, items=300, count=20_000, days=90, seed=1, until=until)
    job.run(database)
    enter_shell(monkeypatch, database, tmp_path, PGDATABASE="app", PGTZ="UTC")
    yield
    drop_database(three_nodes, "app")


@pytest.mark.usefixtures("shell")
def test_the_commands_of_the_page_print_what_it_shows() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert MARK in text
    before, after = text.split(MARK)
    wrong = differing(before + after)
    if os.environ.get("RECDB_WRITE_DOCS"):
        written = rewrite(before + after, wrong)
        PAGE.write_text(written[: len(before)] + MARK + written[len(before) :], encoding="utf-8")
    assert [(step.command, printed) for step, printed in wrong] == []
