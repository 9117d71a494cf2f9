"""Released revisions are frozen, and so are the helpers that they call."""

import ast
import hashlib
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HELPERS = "../recdb/revisions.py"


def changed_revisions(migrations: Path) -> list[str]:
    """Compare the revisions and their helpers with `released.txt`.

    A file listed there may not change or go, and no file may be slipped in before it: neither a revision before a
    released one, nor released revisions without their helpers.
    """
    lines = (migrations / "released.txt").read_text().splitlines()
    released = [line.split() for line in lines if not line.startswith("#")]
    files = [migrations / HELPERS, *(migrations / "versions").glob("*.py")]
    present = {
        HELPERS if file.name == "revisions.py" else f"versions/{file.name}": hashlib.sha256(
            file.read_bytes()
        ).hexdigest()
        for file in files
    }
    changed = {name for digest, name in released if present.get(name) != digest}
    names = [name for _, name in released]
    slipped_in = {name for name in present if name not in names and name < max(names, default="")}
    return sorted(changed | slipped_in)


def test_released_revisions_are_as_they_were_released() -> None:
    assert changed_revisions(PROJECT / "migrations") == []


def release(migrations: Path) -> None:
    """Lock all files that are there, with the command in released.txt."""
    text = (migrations / "released.txt").read_text()
    (command,) = [line.removeprefix("#").strip() for line in text.splitlines() if "sha256sum" in line]
    subprocess.run(command, shell=True, cwd=migrations, check=True)


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A folder of three revisions, with their helpers beside it, that were released."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (tmp_path / "recdb").mkdir()
    (folder / HELPERS).write_text("def execute(): ...\n")
    for number in (1, 2, 4):
        (folder / "versions" / f"000{number}_step.py").write_text(f"revision = {number}\n")
    (folder / "released.txt").write_text((PROJECT / "migrations" / "released.txt").read_text())
    release(folder)
    return folder


def test_the_lock_notices_a_changed_a_missing_and_an_inserted_revision(migrations: Path) -> None:
    versions = migrations / "versions"
    (versions / "0005_next.py").write_text("revision = 5\n")
    assert changed_revisions(migrations) == []

    (versions / "0001_step.py").write_text("revision = 'changed'\n")
    (versions / "0002_step.py").unlink()
    (versions / "0003_late.py").write_text("revision = 3\n")
    assert changed_revisions(migrations) == ["versions/0001_step.py", "versions/0002_step.py", "versions/0003_late.py"]


def test_the_lock_notices_changed_helpers(migrations: Path) -> None:
    (migrations / HELPERS).write_text("def execute(): return 1\n")
    assert changed_revisions(migrations) == [HELPERS]


def test_the_lock_notices_revisions_that_were_released_without_their_helpers(migrations: Path) -> None:
    locked = (migrations / "released.txt").read_text().splitlines(keepends=True)
    (migrations / "released.txt").write_text("".join(line for line in locked if HELPERS not in line or "#" in line))
    assert changed_revisions(migrations) == [HELPERS]


def test_the_next_release_adds_only_what_is_new(migrations: Path) -> None:
    before = (migrations / "released.txt").read_text()
    (migrations / "versions" / "0005_next.py").write_text("revision = 5\n")

    release(migrations)

    added = (migrations / "released.txt").read_text().removeprefix(before).splitlines()
    assert [line.split()[1] for line in added] == ["versions/0005_next.py"]
    assert changed_revisions(migrations) == []


def imported(file: Path) -> set[str]:
    """The modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def test_revisions_use_no_living_code_of_recdb() -> None:
    for file in (PROJECT / "migrations" / "versions").glob("*.py"):
        assert imported(file) == {"recdb.revisions"}, file.name
    assert imported(PROJECT / "recdb" / "revisions.py") == {"collections.abc", "re", "alembic", "psycopg"}
