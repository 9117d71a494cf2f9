"""The contributor's documents name files, tests and commands that exist, and the configuration files are valid."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import reference

from recdb.learn import Params
from recdb.offline import search

PROJECT = Path(__file__).parents[2]
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
SETTINGS: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
FORMS = PROJECT / ".github" / "ISSUE_TEMPLATE"
HOOKS: list[dict[str, Any]] = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
HYPERPARAMETERS = {field.name for field in dataclasses.fields(Params)}


def dry_run(*arguments: str) -> list[str]:
    """Return the lines that make would run; a target that is up to date runs nothing."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    # The tests may run under make themselves: its options must not reach this one.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "ARGS"}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.dev", *arguments],
        cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# CONTRIBUTING.md ----------------------------------------------------------------------------------------------


def test_every_file_that_the_checklists_name_is_there() -> None:
    named = set(re.findall(r"`((?:sql|recdb|migrations|tests|docs|\.github)/[\w./]*|[A-Z]+\.md)`", CONTRIBUTING))

    assert len(named) > 20
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []


def test_every_test_that_the_checklists_name_is_in_the_file_that_they_name() -> None:
    # One item of a list is one step: the tests that it names are in a file that it names.
    for step in re.split(r"^(?:\d+\.|-|#+) ", CONTRIBUTING, flags=re.MULTILINE):
        files = [PROJECT / path for path in re.findall(r"`(tests/[\w/]+\.py)`", step)]
        for test in re.findall(r"`(test_\w+)`", step):
            where = files or sorted((PROJECT / "tests").rglob("test_*.py"))
            assert any(f"def {test}(" in file.read_text(encoding="utf-8") for file in where), test


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([\w-]+(?: [\w-]+)*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    known = {target for line in targets for target in line.split()}

    named = set(re.findall(r"`make ([a-z-]+)", CONTRIBUTING))
    assert named and named <= known


def test_the_search_tries_every_hyperparameter() -> None:
    spaces = [value for value in vars(search).values() if isinstance(value, Mapping)]

    tried = {name for space in spaces for name in space if isinstance(space[name], tuple)}
    assert HYPERPARAMETERS - tried == set()


def test_every_hyperparameter_is_compared_with_the_formulas() -> None:
    """The numpy of the tests reads it, or another value of it is set where the scores are compared."""
    texts = (Path(reference.__file__), PROJECT / "tests" / "serving" / "test_scores.py")
    compared = "\n".join(text.read_text(encoding="utf-8") for text in texts)

    assert [name for name in sorted(HYPERPARAMETERS) if not re.search(rf"\b{name}\b", compared)] == []


# make ---------------------------------------------------------------------------------------------------------


def test_make_test_without_arguments_runs_everything_with_coverage() -> None:
    *lint, tests = dry_run("test")

    assert any(line.endswith("ruff check .") for line in lint) and any(line.endswith("mypy") for line in lint)
    assert "--cov-fail-under" in tests and " -m " not in tests


def test_make_test_with_arguments_runs_these_alone_and_asks_for_no_coverage() -> None:
    assert dry_run("test", "ARGS=tests/serving/test_scores.py -k 'name or other'") == [
        ".venv/bin/pytest tests/serving/test_scores.py -k 'name or other'"
    ]


def test_make_check_runs_lint_types_and_the_tests_without_a_server() -> None:
    lines = [line.removeprefix(".venv/bin/") for line in dry_run("check")]

    assert lines[:3] == ["ruff check .", "ruff format --check .", "mypy"]
    assert lines[3].endswith('-m "not server and not slow"')


@pytest.mark.usefixtures("tmp_path")
def test_a_test_without_a_server_is_not_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("server") is None


@pytest.mark.usefixtures("db")
def test_a_test_of_a_fixture_that_asks_for_a_server_by_name_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("server")


@pytest.mark.usefixtures("empty_database")
def test_a_test_of_a_fixture_that_uses_the_server_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("server")


# pre-commit, issue forms, CHANGELOG.md ------------------------------------------------------------------------


def test_the_hooks_run_what_make_lint_runs() -> None:
    linted = {line.removeprefix(".venv/bin/").removesuffix(" .") for line in dry_run("lint")}

    entries = {hook["entry"].removeprefix(".venv/bin/") for hook in HOOKS}
    assert {entry.replace(" --force-exclude", "") for entry in entries} == {
        line.replace(" --check", "") for line in linted
    }


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_runs_a_program_of_the_environment(hook: dict[str, Any], tmp_path: Path) -> None:
    """Nothing is downloaded, and a file that needs a change is changed or refused."""
    assert hook["language"] == "system"
    program, *arguments = hook["entry"].split()
    assert program.startswith(".venv/bin/")
    command = [str(Path(sys.executable).parent / Path(program).name), *arguments]
    (tmp_path / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    for folder in SETTINGS["tool"]["mypy"]["files"]:
        (tmp_path / folder).mkdir()
    wrong = tmp_path / "recdb" / "wrong.py"
    wrong.write_text('import os\nlength : int = "long"\n')
    files = [str(wrong)] if hook.get("pass_filenames", True) else []

    done = subprocess.run([*command, *files], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode != 0 or wrong.read_text() == 'import os\n\nlength: int = "long"\n', done.stdout


@pytest.mark.parametrize("form", sorted(FORMS.glob("*.yml")), ids=lambda form: form.name)
def test_the_issue_forms_follow_the_published_schemas(form: Path) -> None:
    schema = "vendor.github-issue-config" if form.stem == "config" else "vendor.github-issue-forms"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(form)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_form_for_bugs_features_and_questions() -> None:
    assert {form.stem for form in FORMS.glob("*.yml")} == {"bug", "config", "feature", "question"}


def test_the_changelog_has_unreleased_changes_and_every_released_version() -> None:
    headings = re.findall(r"^## \[(.+?)\](.*)$", CHANGELOG, re.MULTILINE)

    assert headings[0] == ("Unreleased", "")
    for version, date in headings[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version) and re.fullmatch(r" - \d{4}-\d\d-\d\d", date)
    for version in [heading[0] for heading in headings]:
        assert f"\n[{version}]: https://" in CHANGELOG
    groups = set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_distribution_has_its_own_name_and_addresses() -> None:
    project = SETTINGS["project"]

    assert project["name"] == "recdb-postgres" and project["scripts"] == {"recdb": "recdb.cli:main"}
    assert all(url.startswith("https://github.com/recdb/recdb") for url in project["urls"].values())
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    assert [line for line in extras if re.match(r"recdb\b(?!-postgres\[)", line)] == []


def test_every_promise_names_a_test_that_exists() -> None:
    page = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!promise|---)(.+?) \| (.+) \|$", page, re.MULTILINE)
    proofs = [re.findall(r"\[([^]]+)\]\([^)]*/main/([\w/]+\.(?:py|mjs))\)", proof) for _, proof in rows]

    assert len(rows) > 40 and all(proofs)
    for name, file in (each for proof in proofs for each in proof):
        text = (PROJECT / file).read_text(encoding="utf-8")
        said = name.replace(" ", "_")
        if file.endswith(".mjs"):
            assert f'test("{name}"' in text or f"test(`{name} " in text, (name, file)
        else:
            assert f"def test_{said}(" in text or file.endswith(f"/test_{said}.py"), (name, file)
