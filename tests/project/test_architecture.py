"""The package keeps its layers and its sizes: docs/architecture.md describes both, and these tests hold them."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ARCHITECTURE = PROJECT / "docs" / "architecture.md"

# The layers of recdb, the top one first. A module may import modules of lower layers, and other modules of its own
# package. Modules on one line are independent of each other.
LAYERS = (
    ("cli",),
    ("service", "evaluate"),
    ("tuning", "everyone", "experiments", "demo", "doctor", "sizing", "spread"),
    ("job",),
    ("arrays",),
    ("offline",),
    ("learn",),
    ("data",),
    ("client", "migrate"),
    ("alchemy", "client_impressions", "client_lists", "client_reasons", "removal", "replicas", "sources"),
    ("alembic", "callers", "calls", "citus", "identity", "preconditions", "public", "repair", "translate"),
    ("database", "terminal"),
    ("arguments", "embedded", "positions", "records", "tables", "latency", "progress", "roles", "schemas", "urls"),
    ("content_tables", "gathered_tables", "impression_tables", "partition_tables", "steering_tables", "user_tables"),
    ("errors", "distribution", "faults", "revisions", "table_types"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# The modules that `import recdb` loads, so that an application does not load the job with it.
DOOR = {"client", "errors", "records"}
# A layer that may import less than all lower layers.
NARROW = {
    "offline": {"learn", "errors", "progress"},
    "learn": {"errors", "progress"},
    "arrays": {"learn", "database", "errors", "progress"},
}
DRIVERS = {"psycopg", "psycopg_pool", "sqlalchemy", "alembic", "pgvector"}

MOST_LINES = 400
MOST_FUNCTION_LINES = 80
# Exceptions to the limits. The head of the file gives the reason, in these words.
LONG: dict[str, str] = {"sql/36_greedy.sql": "choose_places() is long"}
# Every revision may have long functions, and says so in these words.
LONG_REVISION = "upgrade() is long: it is one SQL script"
FUNCTION = re.compile(
    r"^create (?:or replace )?(?:function|procedure) (\S+?)\(.*?^(?:\$\$;|end;)$", re.MULTILINE | re.DOTALL
)


def module_of(file: Path) -> str:
    """Name the module that a file of the package holds."""
    parts = file.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(source: str) -> Iterator[str]:
    """Find every module, or name in a module, that a source text imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "recdb uses absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


SOURCES = {module_of(file): file.read_text(encoding="utf-8") for file in sorted((PROJECT / "recdb").rglob("*.py"))}
UNITS = {module.split(".")[1] for module in SOURCES if "." in module}


def graph_of(sources: dict[str, str]) -> dict[str, set[str]]:
    """Return which modules of recdb each module imports."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        names = {name for name in find_imports(source) if name.split(".")[0] == "recdb"}
        graph[module] = {name if name in sources else name.rpartition(".")[0] for name in names} - {module}
    return graph


GRAPH = graph_of(SOURCES)


def wrong_imports(graph: dict[str, set[str]]) -> list[str]:
    """Find the imports that the layers do not allow."""
    wrong = []
    for module, imported in graph.items():
        for other in imported:
            if module == "recdb":
                allowed = other.split(".")[1] in DOOR
            elif other == "recdb":
                allowed = False
            else:
                ours, theirs = module.split(".")[1], other.split(".")[1]
                allowed = ours == theirs or (
                    LEVEL[ours] < LEVEL[theirs] and (ours not in NARROW or theirs in NARROW[ours])
                )
            if not allowed:
                wrong.append(f"{module} imports {other}")
    return wrong


def reach(module: str) -> set[str]:
    """Return every module of recdb that a module imports, directly or through another one."""
    found, left = set[str](), [module]
    while left:
        for other in GRAPH[left.pop()] - found:
            found.add(other)
            left.append(other)
    return found


def test_every_module_has_a_layer_and_every_layer_a_module() -> None:
    assert set(LEVEL) == UNITS - {"__init__"}


def test_no_module_imports_from_a_higher_layer() -> None:
    assert wrong_imports(GRAPH) == []


def test_no_module_imports_itself_through_others() -> None:
    TopologicalSorter(GRAPH).prepare()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("recdb.job.train", "from recdb import tuning"),
        ("recdb.errors", "import recdb.database"),
        ("recdb.everyone.rank", "def late():\n    from recdb.doctor import examine"),
        ("recdb.learn.params", "from recdb.database import connect"),
        ("recdb.arrays.copy", "from recdb.data import load"),
        ("recdb.records", "from recdb import Recommender"),
        ("recdb", "from recdb.job import run"),
    ],
)
def test_a_wrong_import_is_found(module: str, line: str) -> None:
    added = set(wrong_imports(graph_of(SOURCES | {module: line}))) - set(wrong_imports(GRAPH))

    assert len(added) == 1


@pytest.mark.parametrize("layer", ["learn", "offline"])
def test_learning_needs_no_database(layer: str) -> None:
    for module in SOURCES:
        if module.split(".")[1:2] == [layer]:
            for part in {module, *reach(module)}:
                outside = {name.split(".")[0] for name in find_imports(SOURCES[part])}
                assert not outside & DRIVERS, f"{module} imports {part}"


def test_only_the_command_line_prints() -> None:
    for module, source in SOURCES.items():
        unit = module.split(".")[1:2]
        names = {name.split(".")[0] for name in find_imports(source)}
        assert unit == ["cli"] or "typer" not in names, module
        assert unit in (["cli"], ["terminal"]) or "rich" not in names, module
        assert unit == ["cli"] or "recdb.terminal" not in GRAPH[module], module


def test_the_documented_layers_are_the_tested_ones() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)

    assert tuple(tuple(re.findall(r"\w+", row)) for row in rows) == LAYERS


def test_the_walks_name_functions_where_they_are() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = re.findall(r"\[`(\w+)\(\)`\]\(https://github\.com/recdb/recdb/blob/main/([^)]+)\)", text)

    assert len(named) > 20
    for name, file in named:
        defined = rf"^(?:def {name}\(|create (?:or replace )?(?:function|procedure) recdb\.{name}\()"
        assert re.search(defined, (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{name}() in {file}"


def test_links_to_the_repository_lead_to_files() -> None:
    for page in (ARCHITECTURE, PROJECT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"https://github\.com/recdb/recdb/(?:blob|tree)/main/([^)#\s]+)", text)
        links += [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if page.parent == PROJECT and ":" not in link]

        assert links
        assert [link for link in links if not (PROJECT / link).exists()] == []


# Sizes --------------------------------------------------------------------------------------------------------

FOLDERS = ("recdb", "sql", "migrations", "tests", "docs", "benchmarks", "examples", ".github")
BUILT = {"node_modules", ".next", "generated"}
SIZED = [
    file
    for folder in FOLDERS
    for file in sorted((PROJECT / folder).rglob("*"))
    if file.suffix in (".py", ".sql", ".mjs", ".js", ".ts", ".tsx") and not BUILT & set(file.parts)
]


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """Yield every function of a Python file with its number of lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def sql_functions(text: str) -> Iterator[tuple[str, int]]:
    """Yield every SQL function or procedure of a text with its number of lines."""
    for found in FUNCTION.finditer(text):
        yield found[1], found[0].count("\n") + 1


def oversized(name: str, text: str) -> list[str]:
    """Name the file and the functions that are too long, in Python and in SQL."""
    sizes = [(name, len(text.splitlines()), MOST_LINES)]
    sizes += [(f"{name} {function}()", lines, MOST_FUNCTION_LINES) for function, lines in sql_functions(text)]
    if name.endswith(".py"):
        sizes += [(f"{name} {function}()", lines, MOST_FUNCTION_LINES) for function, lines in python_functions(text)]
    return [f"{what}: {lines} lines" for what, lines, most in sizes if lines > most]


@pytest.mark.parametrize("file", SIZED, ids=lambda file: str(file.relative_to(PROJECT)))
def test_no_file_and_no_function_is_too_long(file: Path) -> None:
    name, text = file.relative_to(PROJECT).as_posix(), file.read_text(encoding="utf-8")
    long = oversized(name, text)

    if name in LONG:
        assert long, f"{name} needs no exception any more"
        assert LONG[name] in text[:1500]
    elif name.startswith("migrations/versions/") and long:
        assert LONG_REVISION in text[:1500]
    else:
        assert long == []


def test_what_is_too_long_is_found() -> None:
    body = "\n".join(["    x = 1"] * 80)
    sql = "create or replace function recdb.f(x text)\nreturns text\nas $$\n" + "--\n" * 80 + "$$;\n"

    assert oversized("a.py", f"def f():\n{body}\n") == ["a.py f(): 81 lines"]
    assert oversized("a.sql", sql) == ["a.sql recdb.f(): 84 lines"]
    assert oversized("a.sql", "--\n" * 401) == ["a.sql: 401 lines"]


def test_every_sql_function_is_measured() -> None:
    for file in (PROJECT / "sql").glob("*.sql"):
        text = file.read_text(encoding="utf-8")
        begun = re.findall(r"^create (?:or replace )?(?:function|procedure)", text, re.MULTILINE)
        assert len(list(sql_functions(text))) == len(begun), file.name
