"""The wheel is complete: installed into another folder, it migrates, loads, trains and recommends."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.data import tastes

from recdb.database import Database

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("recdb_postgres-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel without its dependencies into a folder; the environment of the tests has those."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    done = subprocess.run([*command, str(folder), str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_holds_the_package_every_revision_and_every_sql_file(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    wanted = [
        *(f"sql/{file.name}" for file in (PROJECT / "sql").glob("*.sql")),
        *(f"migrations/versions/{file.name}" for file in (PROJECT / "migrations/versions").glob("*.py")),
        "migrations/env.py",
    ]

    assert {f"recdb/_database/{name}" for name in wanted} <= set(names)
    assert "recdb/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"recdb"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_works_from_any_folder(
    installed: Path, empty_database: Callable[[], Database], tmp_path: Path
) -> None:
    database = empty_database()
    lines = ["user_id,item_id,kind", *(",".join(row) for row in tastes())]
    (tmp_path / "interactions.csv").write_text("\n".join(lines))
    environment = os.environ | {"PYTHONPATH": str(installed), "RECDB_DATABASE_URL": database.conninfo}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert Path(python("-c", "import recdb; print(recdb.__file__)").strip()).is_relative_to(installed)
    assert "recdb is at revision" in python("-m", "recdb.cli", "init")
    assert f"{len(lines) - 1}" in python("-m", "recdb.cli", "load", "interactions.csv")
    assert "trained and activated collaborative_filtering_v1" in python("-m", "recdb.cli", "refresh")
    shown = python("-m", "recdb.cli", "recommend", "u1", "-k", "3")
    assert shown.count("collaborative_filtering") == 3
    assert python("-m", "recdb.cli", "recommend", "u1", "-k", "3", "--json").count('"item_id"') == 3
