"""The help of every command: all of its text is there, on any width of a terminal."""

import re

import pytest
from support.commands import COMMANDS, Command, find_commands, run

WIDTHS = (60, 80)


def flat(text: str) -> str:
    """A text without its line breaks and the blanks at them."""
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_help_has_all_that_the_command_says(
    command: Command, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what stands in brackets, which markup would take for a style."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    shown = run([*command.words, "--help"], monkeypatch, capsys)
    assert shown.code == 0 and shown.errors == "" and "\x1b" not in shown.output
    assert max(map(len, shown.output.splitlines())) <= width
    said = [command.tree.help, *(each.help for each in command.tree.params)]
    assert [text for text in said if text and flat(text) not in flat(shown.output)] == []
    assert "\\[" not in shown.output and "…" not in shown.output
    names = [name for each in command.tree.params for name in each.opts if name.startswith("--")]
    assert [name for name in names if name not in shown.output] == []


def test_the_walk_finds_what_is_in_brackets() -> None:
    said = " ".join(each.help or "" for command in find_commands() for each in command.tree.params)
    assert "[at=COLUMN] [value=SQL] [where=SQL]" in said and "pip install 'recdb-postgres[mlflow]'" in said


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_commands_has_whole_sentences(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = run(["--help"], monkeypatch, capsys)
    assert max(map(len, shown.output.splitlines())) <= width and "..." not in shown.output.partition("Commands:")[2]
    for command in COMMANDS:
        if len(command.words) == 1:
            sentence = command.tree.help.partition("\n\n")[0].partition(". ")[0].rstrip(".")
            assert flat(sentence) in flat(shown.output)
