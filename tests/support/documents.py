"""Documents as programs: find the commands in them, run them, and compare their output with the document's.

A page is Markdown. Its `console`, `sql` and `python` blocks are run in their order. The output of a console command
stands below it in the same block. The output of an SQL or Python block is the `text` block that follows. An HTML
comment on the line above a block changes this:

    <!-- test: skip (reason) -->   the block is not run
    <!-- test: quiet -->           the commands are run and must not fail; the page does not show their output

`pip` commands are left to tests/project/test_install_lines.py.
"""

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

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
DOCS = PROJECT / "docs"
REFERENCE = DOCS / "reference.md"

BLOCK = re.compile(
    r"^(?:<!-- test: (?:skip \((?P<reason>[^)]+)\)|(?P<quiet>quiet)) -->\n)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^\$ (?P<command>.*(?:\n> .*)*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command of a page, and where the page shows its output, if it does."""

    language: str
    command: str
    start: int
    stop: int
    shown: bool


def read_steps(text: str) -> Iterator[Step]:
    """Find the commands of a page that are to be run, in their order."""
    for block, following in pairwise([*BLOCK.finditer(text), None]):
        assert block is not None
        language, at = block["language"], block.start("text")
        if block["reason"]:
            continue
        if language == "console":
            for found in COMMAND.finditer(block["text"]):
                command = found["command"].replace("\n> ", "\n")
                if not command.startswith("pip "):
                    yield Step(
                        language, command, at + found.start("output"), at + found.end("output"), not block["quiet"]
                    )
        elif language in ("sql", "python"):
            shown = following is not None and following["language"] == "text"
            shown = shown and not text[block.end() : following.start()].strip()
            start, stop = following.span("text") if shown else (at, at)
            yield Step(language, block["text"], start, stop, shown)


def differing(text: str) -> list[tuple[Step, str]]:
    """Run a page's commands; return those that print something else than the page shows, with their output."""
    wrong = []
    for step in read_steps(text):
        printed = run_step(step)
        if step.shown:
            matches = agree(text[step.start : step.stop], printed)
        else:
            matches = not re.search(r"^error:|ERROR:|Traceback|command not found", printed, re.MULTILINE)
            matches = matches and (step.language == "console" or not printed.strip())
        if not matches:
            wrong.append((step, printed))
    return wrong


def rewrite(text: str, wrong: list[tuple[Step, str]]) -> str:
    """Replace the page's output by the printed one."""
    for step, printed in reversed(wrong):
        if step.shown:
            text = text[: step.start] + printed + text[step.stop :]
    return text


def run_step(step: Step) -> str:
    """Run a command and return its output, without the progress that a terminal does not keep."""
    if step.language == "sql":
        printed = run_program(["psql", "--no-psqlrc", "--quiet"], step.command)
    elif step.language == "python":
        printed = capture(lambda: exec(compile(step.command, "page", "exec"), {"__name__": "__main__"}))
    elif step.command.startswith("recdb ") and not re.search(r"[|<>]|^recdb psql", step.command):
        printed = run_recdb(step.command)
    else:
        printed = run_program(["bash", "-c", step.command])
    printed = re.sub(r"^psql:<stdin>:\d+: ", "", printed, flags=re.MULTILINE)
    printed = re.sub(r"^\d\d:\d\d:\d\d [\w-]+: .*\n", "", printed, flags=re.MULTILINE)
    printed = re.sub(r"^database: \S+ at \S+ \(from", "database: app at localhost (from", printed, flags=re.MULTILINE)
    printed = re.sub(r" +$", "", printed, flags=re.MULTILINE).strip("\n")
    return f"{printed}\n" if printed else ""


def run_program(command: list[str], stdin: str = "") -> str:
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def run_recdb(command: str) -> str:
    """Run recdb in this process: starting Python for each command would take most of the test's time."""
    sys.argv = split(command.replace("\\\n", ""))
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
    """Return lines of output without the parts that differ from run to run."""
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


# Links ----------------------------------------------------------------------------------------------------------------

REPOSITORY = "https://github.com/recdb/recdb"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Name the anchors of a page's headings, as GitHub makes them."""
    return {slug(heading) for heading in headings(page)}


def headings(page: Path) -> list[str]:
    """List a page's headings, as they are rendered."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [re.sub(r"[`*]|\]\([^)]*\)|\[", "", found) for found in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]


def slug(heading: str) -> str:
    """Turn a heading into an anchor as GitHub does: it drops punctuation, and each blank becomes a hyphen."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def site_slug(heading: str) -> str:
    """Turn a heading into an anchor as MkDocs does: adjacent blanks become one hyphen."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def broken_links(page: Path) -> list[str]:
    """List a page's links that lead nowhere: a file or an anchor is missing. Other sites are not asked."""
    broken = []
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = (
            link.removeprefix(f"{REPOSITORY}/blob/main/").removeprefix(f"{REPOSITORY}/tree/main/").partition("#")
        )
        if path.startswith("https://"):
            continue
        start = PROJECT if link.startswith(REPOSITORY) else page.parent
        target = start / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken
