"""The lines by which an application picks a cell, as docs/cells.md shows them, on two servers."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_postgresql.executors import NoopExecutor
from support.cells import ask, clones, execute
from support.data import tastes, train
from support.documents import BLOCK, DOCS
from support.servers import Server, drop_roles

from recdb import Recommender, job, migrate
from recdb.database import Database
from recdb.job.gather import gather

USERS = [f"user-{number}" for number in range(2000)] + ["42", "Ünïcødé", "a b", "'"]


def block(language: str) -> str:
    """Return the page's block of a language that defines the lines."""
    page = (DOCS / "cells.md").read_text(encoding="utf-8")
    (found,) = [
        each["text"] for each in BLOCK.finditer(page) if each["language"] == language and "sha256" in each["text"]
    ]
    return found


def python_lines(cells: dict[str, str]) -> Callable[[str], str]:
    """Return cell_of() as the page defines it, for other cells."""
    definition = block("python").partition("print(")[0]
    names: dict[str, object] = {}
    exec(re.sub(r"^CELLS = .*$", f"CELLS = {cells!r}", definition, flags=re.MULTILINE), names)
    found = names["cell_of"]
    assert callable(found)
    return found


def test_both_languages_and_sql_pick_the_same_cell(shared_cells: list[Database], tmp_path: Path) -> None:
    cells = dict.fromkeys(("cell_1", "cell_2", "cell_3"), "")
    picked = [python_lines(cells)(user) for user in USERS]

    (tmp_path / "users.json").write_text(json.dumps(USERS))
    program = re.sub(r"^const cells = .*$", f"const cells = {json.dumps(cells)};", block("js"), flags=re.MULTILINE)
    program += '\nimport { readFileSync } from "node:fs";\n'
    program += 'console.log(JSON.stringify(JSON.parse(readFileSync("users.json", "utf8")).map(cellOf)));\n'
    (tmp_path / "cells.mjs").write_text(program)
    query = (
        "select (select c from unnest(%s::text[]) c "
        "order by sha256(convert_to(c || '/' || u.id, 'UTF8')) desc limit 1) "
        "from unnest(%s::text[]) with ordinality u(id, place) order by u.place"
    )
    assert [name for (name,) in ask(shared_cells[0], query, list(cells), USERS)] == picked
    node = shutil.which("node")
    if node is None:
        pytest.skip("the lines in JavaScript need Node")
    done = subprocess.run([node, "cells.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == picked


def test_a_new_cell_takes_a_fair_share_and_moves_nobody_else() -> None:
    two, three = (python_lines({f"cell_{n}": "" for n in range(1, cells + 1)}) for cells in (2, 3))
    moved = [(two(user), three(user)) for user in USERS if two(user) != three(user)]

    assert {new for _, new in moved} == {"cell_3"}
    assert 0.3 < len(moved) / len(USERS) < 0.37


@pytest.fixture(scope="module")
def shared_cells(server: Server, other_server: Server, template: NoopExecutor) -> Iterator[list[Database]]:
    """A cell on each of two servers; the second one has roles of its own."""
    with clones(server, template, 1) as (first,), clones(other_server, None, 1) as (second,):
        migrate.upgrade(second)
        yield [first, second]
    drop_roles(other_server)


def test_an_application_serves_its_users_from_two_servers_with_one_item_model(
    shared_cells: list[Database], server: Server, template: NoopExecutor
) -> None:
    urls = {f"cell_{number}": cell.conninfo for number, cell in enumerate(shared_cells, 1)}
    cell_of = python_lines(urls)
    clients = {name: Recommender(url) for name, url in urls.items()}
    try:
        for user, item, kind in tastes(120, 40, 10):
            clients[cell_of(user)].track(user, item, kind)
        counts = [ask(cell, "select count(distinct user_id) from recdb.interaction")[0][0] for cell in shared_cells]
        assert sum(int(str(count)) for count in counts) == 120 and 0 not in counts
        with clones(server, template, 1) as (learner,):
            for cell in shared_cells:
                execute(cell, "call recdb.refresh()")
            gather(learner, shared_cells)
            train(learner)
            for cell in shared_cells:
                job.run(cell, full=True, model_from=learner)
        for number in range(120):
            assert len(clients[cell_of(f"u{number}")].recommend(f"u{number}", 5)) == 5

        clients[cell_of("newcomer")].track("newcomer", "i3", "like")
        assert len(clients[cell_of("newcomer")].recommend("newcomer", 5)) == 5
        others = [client for name, client in clients.items() if name != cell_of("newcomer")]
        assert all(client.recommend("newcomer", 5) == [] for client in others)
    finally:
        for client in clients.values():
            client.close()
    assert {"cell_1", "cell_2"} == {cell_of(f"u{number}") for number in range(120)}
