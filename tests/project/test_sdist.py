"""The source distribution is complete: its tests find every file that they read."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# Set while a source distribution is tested, so that it does not build and test one in turn.
NESTED = "RECDB_TESTS_OF_SDIST"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution from the checkout and unpack it."""
    if NESTED in os.environ:
        pytest.skip("these tests are those of a source distribution")
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (archive,) = folder.glob("recdb_postgres-*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    (root,) = (path for path in folder.iterdir() if path.is_dir())
    return root


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run pytest in a folder, with the package that is there; return its output."""
    environment = os.environ | {NESTED: "1", "PYTHONPATH": str(folder)}
    for name in [name for name in environment if name.startswith(("PYTEST_", "COV_", "COVERAGE_"))]:
        del environment[name]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-cov", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_every_file_of_the_repository(unpacked: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout")
    files = [name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]

    assert "tests/project/test_sdist.py" in files
    assert [name for name in files if not (unpacked / name).is_file()] == []


def test_it_holds_nothing_that_a_run_leaves_behind(unpacked: Path) -> None:
    left = {".git", ".venv", "node_modules", "__pycache__", "site", "dist", ".mypy_cache", ".next"}

    assert [path for path in unpacked.rglob("*") if path.name in left] == []


def test_every_test_is_collected_from_it(unpacked: Path) -> None:
    assert "tests collected" in run_pytest(unpacked, "--collect-only")


def test_its_tests_of_files_pass(unpacked: Path) -> None:
    assert " passed" in run_pytest(unpacked, "-m", "not server", "tests/project", "tests/schema")


def test_a_wheel_can_be_built_from_it(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(unpacked)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)

    assert built.returncode == 0, built.stdout + built.stderr
    assert list(tmp_path.glob("recdb_postgres-*.whl"))
