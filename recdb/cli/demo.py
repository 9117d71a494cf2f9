"""The command demo: loads real data, trains, and shows how one purchase changes the recommendations."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import psycopg
import typer

from recdb import job, migrate
from recdb.cli.common import app
from recdb.cli.model import read_titles
from recdb.client import Recommender
from recdb.database import Database, connect, find_database
from recdb.demo import story
from recdb.demo.groceries import KIND, read_groceries
from recdb.errors import RecdbError
from recdb.latency import timed
from recdb.records import Recommendation
from recdb.terminal import cut, output, progress, table
from recdb.urls import socket_url

NEWCOMER = "a-new-household"
LATENCY_CALLS = 200


@dataclass
class Step:
    """A step of the demo: its outcome is printed when the step ends."""

    outcome: str = ""


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Time a step of the demo; print its name, outcome and time."""
    began = time.monotonic()
    done = Step()
    yield done
    output.print(f"{name:<9}{done.outcome:<60}{time.monotonic() - began:>7.1f} s", markup=False)


@app.command()
def demo(
    url: Annotated[
        str | None, typer.Option("--url", help="A database for the demo; default: an embedded server of its own.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's own server running at the end.")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", help="Load only N households.", show_default=False)
    ] = None,
    household: Annotated[
        str | None, typer.Option("--household", metavar="ID", help="Show this household.", show_default=False)
    ] = None,
) -> None:
    """Show recdb on real data: migrate, load, train, recommend, and see how one more purchase changes the list."""
    if url and keep:
        raise typer.BadParameter("the demo does not stop a server that --url names", param_hint="--keep")
    output.print("recdb demo: a year of groceries (Complete Journey, by 84.51°)")
    with step("read") as done, progress("demo") as report:
        report("reading the data")
        groceries = read_groceries(sample)
        done.outcome = f"{len(groceries.purchases):,} purchases"
    database = find_database(url) if url else story.fresh_database(keep=keep)
    output.print(f"database: {database}", markup=False)
    with step("migrate") as done:
        migrate.upgrade(database)
        done.outcome = f"recdb is at revision {migrate.newest_revision()}"
    with connect(database, autocommit=True) as connection:
        story.require_own(connection)
        with step("load") as done, progress("load") as report:
            loaded = story.load_groceries(connection, groceries, report)
            done.outcome = f"{loaded.households:,} households, {loaded.products:,} products"
        del groceries
        if household is None:
            household = story.pick_household(connection)
        story.require_household(connection, household)
        train_model(database)
        latency = story.time_households(connection, LATENCY_CALLS)
        output.print(
            f"ask      recommend() {latency.calls} times, 50 items: "
            f"median {latency.p50:.1f} ms, 95 % within {latency.p95:.1f} ms",
            markup=False,
        )
        show_changes(connection, household)
    if keep:
        show_next_steps(database, household)
    elif not url:
        output.print("\nThe demo's server stops now; `recdb demo --keep` leaves it running.")


def train_model(database: Database) -> None:
    """Refresh and train, as a step of the demo."""
    with step("train") as done, progress("train") as report:
        outcome = job.run(database, full=True, report=report)
        if not outcome.ran:
            raise RecdbError("another job is running on this database", "wait until it ends")
        peak = story.peak_memory()
        memory = f", peak memory {peak / 1e6:,.0f} MB" if peak else ""
        done.outcome = f"{outcome.model}{memory}"


def show_changes(connection: psycopg.Connection, household: str) -> None:
    """Print a household's history and list, and how one purchase changes the list of this and of a new household."""
    recommender = Recommender(connection)
    output.print()
    shown = table("item", "title", ">times", "last bought", title=f"Household {household} bought, among other things",
                  whole=["item", "last bought"])  # fmt: skip
    for purchase in story.read_history(connection, household, 8):
        shown.add_row(purchase.item_id, cut(purchase.title), str(purchase.times), f"{purchase.last_at:%Y-%m-%d}")
    output.print(shown)

    before = show_list(connection, recommender, household, 10)
    if not before:
        output.print("nothing to recommend: the model knows none of these products")
        return
    buy(connection, recommender, household, before[0].item_id)
    show_list(connection, recommender, household, 10, before)

    output.print("\nA household without any purchase:")
    show_list(connection, recommender, NEWCOMER, 5)
    buy(connection, recommender, NEWCOMER, story.pick_first_purchase(connection).item_id)
    show_list(connection, recommender, NEWCOMER, 5)


def show_list(
    connection: psycopg.Connection,
    recommender: Recommender,
    user: str,
    k: int,
    before: Sequence[Recommendation] | None = None,
) -> list[Recommendation]:
    """Call recommend(); print the call, its time, its rows and how they differ from `before`; return the rows."""
    ((rows, took),) = timed(lambda user: recommender.recommend(user, k), [user])
    output.print(f"\nselect * from recommend('{user}', {k});   -- {len(rows)} rows, {took:.1f} ms", markup=False)
    if not rows:
        return rows
    titles = read_titles(connection, [row.item_id for row in rows])
    headers = [">rank", "item", "title", ">score", "reason"] if before is None else [">rank", "item", "title", ">score"]
    shown = table(*headers, *([] if before is None else ["change"]), whole=["item", "reason"])
    remarks = [row.reason for row in rows] if before is None else story.describe_changes(before, rows)
    for rank, (row, remark) in enumerate(zip(rows, remarks, strict=True), 1):
        shown.add_row(str(rank), row.item_id, cut(titles.get(row.item_id, "")), f"{row.score:.3f}", remark)
    output.print(shown)
    return rows


def buy(connection: psycopg.Connection, recommender: Recommender, user: str, item: str) -> None:
    """Track one purchase; print the call and its time."""
    title = read_titles(connection, [item]).get(item, item)
    began = time.perf_counter()
    recommender.track(user, item, KIND)
    took = (time.perf_counter() - began) * 1000
    output.print(f"\nselect recdb.track('{user}', '{item}', '{KIND}');   -- {title}, {took:.1f} ms", markup=False)


def show_next_steps(database: Database, household: str) -> None:
    """Print the URL of the server that goes on running, and commands to try on it."""
    output.print(
        "\nThe server goes on running. Try:\n"
        f"  export RECDB_DATABASE_URL='{socket_url(database.conninfo)}'\n"
        f"  recdb recommend {household}\n"
        "  recdb doctor\n"
        f"  recdb psql -c \"select * from recommend('{household}', 10)\"\n"
        "`recdb stop` stops it. The next `recdb demo` starts with a new database.",
        markup=False,
    )
