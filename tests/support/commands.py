"""The commands of recdb, found in the tree of the command line itself, and a way to run each of them in process."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from recdb.cli import app, main


@dataclass(frozen=True)
class Command:
    """A command without subcommands: its words, and what typer knows of it."""

    words: tuple[str, ...]
    tree: Any

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def options(self) -> set[str]:
        return {name for each in self.tree.params for name in each.opts}


def find_commands(tree: Any = None, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Walk the tree of commands."""
    tree = tree or typer.main.get_command(app)
    if hasattr(tree, "commands"):
        for name, below in tree.commands.items():
            yield from find_commands(below, (*words, name))
    else:
        yield Command(words, tree)


COMMANDS = tuple(find_commands())


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    output: str
    errors: str

    @property
    def complaints(self) -> list[str]:
        return [line for line in self.errors.splitlines() if line.startswith("error: ")]

    @property
    def hints(self) -> list[str]:
        return [line for line in self.errors.splitlines() if line.startswith("hint: ")]

    def assert_plain(self) -> None:
        """Assert that nobody had to read a traceback, and that a failure is one line that somebody foresaw."""
        assert "Traceback" not in self.output + self.errors, self.errors
        assert "nobody foresaw" not in self.errors, self.errors
        assert self.code in (0, 1, 2)
        assert len(self.complaints) <= 1, self.errors


def run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str | None = None
) -> Ended:
    """Run a command as the entry point does."""
    monkeypatch.setattr(sys, "argv", ["recdb", *arguments, *(["--url", url] if url else [])])
    capsys.readouterr()
    try:
        main()
        code: Any = 0
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return Ended(int(code or 0), printed.out, printed.err)


def example_of(command: Command, folder: Path) -> list[str]:
    """Make arguments for a command: what it requires, and what keeps it short."""
    file = folder / "interactions.csv"
    if not file.exists():
        file.write_text("user_id,item_id,kind\nzoé,ünï,view\nu2,i2,like\n", encoding="utf-8")
    known = {
        "file": str(folder / "lists.csv") if "all" in str(command) else str(file), "user": "u1", "item": "i1",
        "label": "v1", "table": "public.clicks", "relation": "public.clicks",
    }  # fmt: skip
    made = []
    for each in command.tree.params:
        required = each.required or (command.words == ("detach",) and each.name == "relation")
        if each.param_type_name == "argument" and required:
            made.append(known.get(each.name, "x"))
        elif each.param_type_name == "option" and required:
            made += [each.opts[0], known.get(each.name, "x")]
    short: dict[str, list[str]] = {
        "size": ["--users", "1k", "--items", "100", "--events", "10k"],
        "attach": ["--interactions", "public.clicks", "--user", "u", "--item", "i", "--kind", "k"],
        "generate": ["--count", "20", "--users", "5", "--items", "5", "--yes"],
        "partition": ["--every", "month"],
        "tune": ["--budget", "1s"],
        "uninstall": ["--yes"],
        "demo": ["--sample", "5"],
        "psql": ["-c", "select 1"],
    }
    return [*command.words, *made, *short.get(str(command), [])]


# They serve until they are stopped, or need no database.
LASTING = {"serve", "size", "stop"}
SHORT = tuple(command for command in COMMANDS if str(command) not in LASTING)
