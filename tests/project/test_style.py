"""The rules of CONTRIBUTING.md for names, headers, line lengths and words, and the lines there that a reader copies."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from shlex import split

import pytest
from support.documents import BLOCK, DOCS, PROJECT

PAGES = [*PROJECT.glob("*.md"), *(page for page in DOCS.glob("*.md") if page.name != "reference.md")]
SQL = sorted((PROJECT / "sql").glob("*.sql"))
REVISIONS = sorted((PROJECT / "migrations" / "versions").glob("*.py"))
PACKAGE = sorted((PROJECT / "recdb").rglob("*.py"))
LONGEST_LINE = 120


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def name(file: Path) -> str:
    return file.relative_to(PROJECT).as_posix()


# SQL ----------------------------------------------------------------------------------------------------------

CREATED = re.compile(
    r"^create (?:or replace )?(function|procedure|view) (\S+?)( as|\(.*?\))$", re.MULTILINE | re.DOTALL
)
ROUTINE = re.compile(
    r"(?P<header>(?:^--[^\n]*\n)*)^create (?:or replace )?(?P<kind>function|procedure) (?P<name>[\w.]+)"
    r"\((?P<arguments>.*?)\)\n(?P<body>.*?)^(?:\$\$;|\$\$|end;)$",
    re.MULTILINE | re.DOTALL,
)


def test_sql_creates_nothing_twice() -> None:
    created = [" ".join(found.group(1, 2, 3)) for file in SQL for found in CREATED.finditer(read(file))]

    assert len(created) > 40
    assert sorted({each for each in created if created.count(each) > 1}) == []


def faults(text: str) -> list[str]:
    """Name the functions and procedures of a text whose header lacks a part: name, parameters, returns, errors."""
    wrong = []
    for found in ROUTINE.finditer(text):
        header, parts = found["header"], set(re.findall(r"^--   (\w+(?:, \w+)*)  ", found["header"], re.MULTILINE))
        parts = {part for each in parts for part in each.split(", ")}
        wanted = {"parameters"} if found["arguments"].strip() else set()
        if found["kind"] == "function" and "\nreturns void\n" not in f"\n{found['body']}":
            wanted.add("returns")
        if re.search(r"^ *raise exception", found["body"], re.MULTILINE):
            wanted.add("errors")
        if not re.match(rf"-- {re.escape(found['name'])}\b", header) or wanted - parts:
            wrong.append(f"{found['name']}: {', '.join(sorted(wanted - parts)) or 'no header'}")
    return wrong


@pytest.mark.parametrize("file", [*SQL, *REVISIONS], ids=name)
def test_every_sql_function_has_a_header_of_one_shape(file: Path) -> None:
    assert faults(read(file)) == []


def test_an_incomplete_header_is_found() -> None:
    function = "create function recdb.f(x text)\nreturns text\nas $$\n$$;\n"

    assert faults(function) == ["recdb.f: parameters, returns"]
    assert faults(f"-- recdb.f: f.\n--   parameters  x  the text\n{function}") == ["recdb.f: returns"]
    assert faults(f"-- recdb.f: f.\n--   parameters  x  the text\n--   returns     it\n{function}") == []


@pytest.mark.parametrize("file", SQL, ids=name)
def test_no_line_is_too_long(file: Path) -> None:
    """ruff holds the same limit in Python. Text of a query that a function builds may be longer at a user's digest."""
    long = [line for line in read(file).splitlines() if len(line) > LONGEST_LINE]
    assert [line for line in long if "f.user_digest = " not in line] == []


def test_the_view_names_every_place_that_repeats_its_rule() -> None:
    """The places read the weight of an interaction as the view weighted_interactions does."""
    rule = "coalesce(k.weight, c.default_weight)"
    text = read(PROJECT / "sql" / "80_views.sql")
    head = text[: text.index("create or replace view recdb.weighted_interactions")]
    places = [name(file) for file in [*SQL, *REVISIONS, *PACKAGE] if rule in read(file)]

    assert len(places) >= 4
    assert [place for place in places if place not in head] == []


# Names --------------------------------------------------------------------------------------------------------


def test_one_name_means_one_thing() -> None:
    """A command of the command line has the name of the function that it calls; else a name is defined once."""
    places = defaultdict(set)
    for file in PACKAGE:
        if "cli" not in file.parts:
            for node in ast.parse(read(file)).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                    places[node.name].add(name(file))

    assert len(places) > 300
    assert {defined: files for defined, files in places.items() if len(files) > 1} == {}


def test_no_hint_names_another_distribution() -> None:
    """On the package index, recdb is another project; recdb/distribution.py has the name and commands of this one."""
    for file in [*PACKAGE, *sorted((PROJECT / "benchmarks").rglob("*.py"))]:
        assert not re.search(r"\brecdb\[|package recdb|pip install (?!.*\{DISTRIBUTION\})", read(file)), name(file)


# Lines to copy ------------------------------------------------------------------------------------------------


def test_every_variable_that_a_page_names_is_read_by_a_test() -> None:
    named = {variable for page in PAGES for variable in re.findall(r"\bRECDB_WRITE_\w+", read(page))}
    tests = "\n".join(read(file) for file in (PROJECT / "tests").rglob("test_*.py") if file != Path(__file__))

    assert named
    assert [variable for variable in sorted(named) if variable not in tests] == []


def test_the_next_revision_has_the_number_in_the_checklist() -> None:
    (number,) = re.findall(r"alembic revision --rev-id (\d+) ", read(PROJECT / "CONTRIBUTING.md"))

    assert int(number) == max(int(file.name[:4]) for file in REVISIONS) + 1


def copied_arguments() -> Iterator[str]:
    """Find the arguments of pytest in the lines `make test ARGS=...` of the pages and the Makefile."""
    text = "\n".join(read(file) for file in [*PAGES, PROJECT / "Makefile"])
    for quoted, plain in re.findall(r"make test ARGS=(?:\"([^\"]+)\"|([\w./]+))", text):
        yield quoted or plain


def test_every_line_for_one_test_collects_a_test() -> None:
    lines = sorted(set(copied_arguments()))

    assert "tests/serving/test_scores.py -k formulas" in lines
    for line in lines:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *split(line)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


# Words --------------------------------------------------------------------------------------------------------

# Words of earlier versions, and the words that replaced them.
REPLACED = {
    r"voices?": "score source",
    r"speaks? for": "contributes",
    r"likings": "weights",
    r"mend(s|ed)?": "fix",
    r"anew": "again",
    r"yardsticks?": "baseline, reference",
    r"(users|people|items)'? halves|(users'|people|items') half": "user-based part, item-based part",
    r"of one moment": "with the same timestamp",
    r"(is|are) cut from": "is split from",
}
# The exceptions: the key of doctor's JSON, and functions that a revision drops by their old names.
KEPT = re.compile(r"\"mend\"|recdb\.voices\(")


def test_replaced_words_do_not_come_back() -> None:
    files = [*PAGES, *SQL, *REVISIONS, *PACKAGE, *sorted((PROJECT / "tests").rglob("*.py"))]
    for file in files:
        text = KEPT.sub("", read(file)) if file != Path(__file__) else ""
        for old, new in REPLACED.items():
            found = re.search(rf"\b({old})\b", text)
            assert not found, f"{name(file)}: write {new} instead of {found and found[0]}"


def prose_of(page: Path) -> str:
    """Return a page without its blocks, its code in running text, and the names of the tests that it links to."""
    return re.sub(r"`[^`]*`|\[[^]]*\]\(\S+/tests/\S+\.py\)", "", BLOCK.sub("", read(page)))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_noun_stands_before_what_and_whom(page: Path) -> None:
    """Write "the weight that each source gives", not "what each source gives"."""
    assert re.findall(r"^.*\b(?:[Ww]hat|[Ww]hom)\b.*$", prose_of(page), re.MULTILINE) == []


def test_no_comment_in_the_database_says_what() -> None:
    for file in [*SQL, *REVISIONS]:
        for comment in re.findall(r"^comment on .*?;$", read(file), re.MULTILINE | re.DOTALL):
            assert not re.search(r"\b([Ww]hat|[Ww]hom)\b", comment), f"{name(file)}: {comment}"


@pytest.mark.parametrize("file", PACKAGE, ids=name)
def test_no_docstring_says_what(file: Path) -> None:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(read(file))) if isinstance(node, nodes)]
    assert re.findall(r"^.*\b[Ww]hat\b.*$", "\n".join(texts), re.MULTILINE) == []
