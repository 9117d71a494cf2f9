"""Documents as programs: the commands in them, what they print, and whether that is what the document shows."""

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from shlex import split

from recdb.cli import main

README = Path(__file__).parents[2] / "README.md"

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
