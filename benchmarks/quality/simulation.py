"""Rotation and exploration in a simulation of 30 days, with clicks from a hidden truth.

    .venv/bin/python benchmarks/quality/simulation.py

Generated users have hidden tastes, and new items come every day. Each day recommend_batch() serves a page to every user
under a scenario; recdb.impressions() records the page and recdb.track() the clicks on it, and CALL recdb.refresh()
follows. The arms differ only in the scenario. The settings of the arms are chosen on seeds of their own.
The database's clock is moved by a day at a time: see move_clock().
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from served import (
    HERE,
    PAGE,
    Event,
    as_numbers,
    plain_axes,
    plt,
    save_plot,
    serve,
    set_scenario,
    store_events,
    write_section,
)

from recdb import job, migrate
from recdb.database import Database, connect, scratch_database

TASTES, DIMENSION = 12, 8
RELEVANT_SHARE = 0.08
"""The share of the items that are relevant to a user, on average."""
HIGHEST_CLICK_RATE = 0.4
"""An item that fits perfectly is clicked so often by a user who looks at it; a relevant one at least half as often."""
HISTORY = 10
"""Interactions a user before the first day."""
HISTORY_DAYS = 60
ELSEWHERE = 0.3
"""Items that a user finds a day elsewhere: by search, by links."""
TRAIN_EVERY = 3
TIRED = 0.6
"""Each time that a user has looked at an item without a click, the chance of a click is this times as large (as Lee et
al. 2014 found on LinkedIn: impressions without a click discount an item). 1: users never tire."""
EXAMINED = 1 / np.log2(np.arange(2, PAGE + 2))
"""The chance that a user looks at each place of the page."""
TITLES = {TIRED: "Users tire", 1.0: "Users never tire"}
FOUND, FOUND_NEW, CLICKS, REGRET = range(4)

Arm = dict[str, Any]
Task = tuple[int, Arm, float]
"""A seed, an arm and how users tire."""
ROTATIONS: list[Arm] = [
    {"rotation_rate": rate, "rotation_time": timedelta(days=days)}
    for rate, days in ((0.3, 3), (0.6, 3), (0.9, 3), (0.6, 10))
]
EXPLORATIONS: list[Arm] = [
    {"explore": share, "explore_below": below} for share, below in ((0.05, 100), (0.1, 100), (0.1, 30), (0.2, 30))
]


@dataclass(frozen=True)
class Size:
    """How large the simulation is."""

    users: int = 150
    items: int = 400
    new_items: int = 5
    """Each day."""
    days: int = 30


class World:
    """The hidden truth of a seed: how likely each user clicks on each item that the user looks at."""

    def __init__(self, seed: int, size: Size) -> None:
        self.size = size
        rng = np.random.default_rng(seed)
        items = size.items + size.days * size.new_items
        centers = rng.standard_normal((TASTES, DIMENSION))
        users = centers[rng.integers(0, TASTES, size.users)] + 0.8 * rng.standard_normal((size.users, DIMENSION))
        about = centers[rng.integers(0, TASTES, items)] + 0.6 * rng.standard_normal((items, DIMENSION))
        users /= np.linalg.norm(users, axis=1, keepdims=True)
        about /= np.linalg.norm(about, axis=1, keepdims=True)
        fit = 8 * users @ about.T + rng.standard_normal(items)
        self.rate = HIGHEST_CLICK_RATE / (1 + np.exp(np.quantile(fit, 1 - RELEVANT_SHARE) - fit))
        self.relevant = self.rate >= HIGHEST_CLICK_RATE / 2
        self.published = np.concatenate(
            [rng.uniform(-HISTORY_DAYS, 0, size.items), np.repeat(np.arange(size.days), size.new_items)]
        )
        self.exposure = rng.lognormal(0, 1, items)
        """How often users come upon an item elsewhere."""
        self.seed = seed

    def history(self) -> list[tuple[int, int, float]]:
        """Return what users found before the first day: user, item and day."""
        rng = np.random.default_rng((self.seed, 1))
        found = []
        old = self.size.items
        for user in range(self.size.users):
            chances = self.rate[user, :old] * self.exposure[:old]
            for item in rng.choice(old, HISTORY, replace=False, p=chances / chances.sum()):
                found.append((user, int(item), float(rng.uniform(self.published[item], 0))))
        return found

    def elsewhere(self, day: int, free: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return what users find elsewhere on a day, among items that they have not touched."""
        rng = np.random.default_rng((self.seed, 2, day))
        chances = self.rate * self.exposure * free
        come, draws = rng.random(self.size.users) < ELSEWHERE, rng.random(self.size.users)
        sums = chances.cumsum(1)
        return [(user, int((sums[user] < draws[user] * sums[user, -1]).sum())) for user in np.flatnonzero(come)]

    def look(self, day: int, pages: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which places of the pages (users, PAGE) are looked at on a day, and numbers that decide on clicks.

        They are the same in every arm.
        """
        rng = np.random.default_rng((self.seed, 3, day))
        return (rng.random(pages.shape) < EXAMINED) & (pages >= 0), rng.random(pages.shape)


def move_clock(database: Database, connection: psycopg.Connection, day: int) -> None:
    """Let the database's clock be so many days ahead, for this session and for new ones.

    Nobody waits 30 days. In the scratch database, now() and clock_timestamp() become functions that add a setting to
    the real time; everything else of recdb runs unchanged.
    """
    if day == 0:
        connection.execute("set allow_system_table_mods = on")
        for name, kind in (("now", "stable"), ("clock_timestamp", "volatile")):
            connection.execute(
                f"create function pg_catalog.real_{name}() returns timestamptz language internal {kind} as '{name}'"
            )
            connection.execute(
                f"create or replace function pg_catalog.{name}() returns timestamptz language sql {kind} "
                f"return pg_catalog.real_{name}() "
                "+ coalesce(pg_catalog.current_setting('recdb_simulation.ahead', true), '0')::pg_catalog.interval"
            )
        connection.execute("reset allow_system_table_mods")
    name = connection.info.dbname
    ahead = sql.Literal(f"{day} days")
    connection.execute(sql.SQL("alter database {} set recdb_simulation.ahead = {}").format(sql.Identifier(name), ahead))
    connection.execute(sql.SQL("set recdb_simulation.ahead = {}").format(ahead))


class Audience:
    """The users of a world: what they have touched and looked at so far."""

    def __init__(self, world: World, tired: float) -> None:
        self.world, self.tired = world, tired
        self.touched = np.zeros(world.rate.shape, bool)
        self.looks = np.zeros(world.rate.shape, np.int16)

    def visit(self, day: int, pages: NDArray[np.int64]) -> tuple[list[tuple[int, int]], list[float]]:
        """Look at the pages (users, PAGE) of item numbers; return what is touched, there and elsewhere, and figures."""
        world = self.world
        free = ~self.touched & (world.published <= day)
        rate = world.rate * self.tired**self.looks * free
        shown = np.take_along_axis(rate, np.maximum(pages, 0), 1) * (pages >= 0)
        best = -np.sort(-rate, axis=1)[:, :PAGE]
        looked, draws = world.look(day, pages)
        rows, places = np.nonzero(looked & (draws < shown))
        items = pages[rows, places]
        seen_rows, seen_places = np.nonzero(looked)
        self.looks[seen_rows, pages[seen_rows, seen_places]] += 1
        self.touched[rows, items] = True
        good = world.relevant[rows, items]
        figures = [
            good.sum(),
            (good & (world.published[items] >= 0)).sum(),
            len(items),
            ((best - shown) @ EXAMINED).sum(),
        ]
        found = [*zip(rows.tolist(), items.tolist(), strict=True)]
        found += world.elsewhere(day, free & ~self.touched)
        for user, item in found:
            self.touched[user, item] = True
        return found, figures


def simulate(seed: int, size: Size, arm: Arm, tired: float = TIRED) -> NDArray[np.float64]:
    """Return TITLES = {TIRED: "Users tire", 1.0: "Users never tire"}
    FOUND, FOUND_NEW, CLICKS and REGRET, cumulated, (days, 4): means over users."""
    world = World(seed, size)
    audience = Audience(world, tired)
    users = [f"user-{number}" for number in range(size.users)]
    names = np.array([f"item-{number}" for number in range(world.rate.shape[1])])
    keys = {name: number for number, name in enumerate(names.tolist())}
    daily = np.zeros((size.days, 4))
    with scratch_database() as database:
        migrate.upgrade(database)
        with connect(database, autocommit=True) as connection:
            set_scenario(connection, "home", **arm)
            start(connection, audience, users, names.tolist())
            for day in range(size.days):
                move_clock(database, connection, day)
                publish_items(connection, names[world.published == day])
                if day % TRAIN_EVERY == 0:
                    job.run(database, full=True, force=True)
                else:
                    connection.execute("call recdb.refresh()")
                lists = serve(connection, users, "home", "popular")
                record(connection, users, lists)
                found, daily[day] = audience.visit(day, as_numbers(lists, keys))
                track(connection, ((users[user], str(names[item])) for user, item in found))
    return daily.cumsum(0) / size.users


def start(connection: psycopg.Connection, audience: Audience, users: list[str], names: list[str]) -> None:
    """Store the items and the interactions from before the first day."""
    world = audience.world
    (now,) = connection.execute("select now()").fetchone() or ()
    with connection.cursor() as cursor, cursor.copy("copy recdb.item (item_id, published_at) from stdin") as copy:
        for number in range(world.size.items):
            copy.write_row((names[number], now + timedelta(days=world.published[number])))
    history = world.history()
    for user, item, _ in history:
        audience.touched[user, item] = True
    store_events(
        connection,
        (Event(users[user], names[item], "click", now + timedelta(days=at)) for user, item, at in history),
        timedelta(0),
    )


def publish_items(connection: psycopg.Connection, names: Iterable[str]) -> None:
    """Put the new items of a day into the catalogue."""
    connection.execute(
        "insert into recdb.item (item_id, published_at) select i.id, now() from unnest(%s::text[]) i(id)",
        [[str(name) for name in names]],
    )


def record(connection: psycopg.Connection, users: list[str], lists: list[list[str]]) -> None:
    """Record the pages that were shown."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "select recdb.impressions(%s::text, %s::text[], 'home')", list(zip(users, lists, strict=True))
        )


def track(connection: psycopg.Connection, found: Iterable[tuple[str, str]]) -> None:
    """Record clicks."""
    with connection.cursor() as cursor:
        cursor.executemany("select recdb.track(%s::text, %s::text, 'click')", list(found))


def describe_arm(arm: Arm) -> str:
    """Write the columns of an arm's scenario."""
    values = {name: f"{value.days} days" if isinstance(value, timedelta) else value for name, value in arm.items()}
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "no column"


class Runs:
    """The figures of simulations, by seed, arm and how users tire; a file keeps them from call to call."""

    def __init__(self, size: Size, jobs: int, cache: Path | None) -> None:
        self.size, self.jobs, self.cache = size, jobs, cache
        self.done: dict[str, list[list[float]]] = json.loads(cache.read_text()) if cache and cache.exists() else {}

    def name(self, task: Task) -> str:
        seed, arm, tired = task
        return f"{self.size}, seed {seed}, tired {tired}: {describe_arm(arm)}"

    def run(self, tasks: Iterable[Task]) -> None:
        """Run the simulations that are missing, each in a process of its own."""
        missing = {self.name(task): task for task in tasks if self.name(task) not in self.done}
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            waiting = {pool.submit(simulate, task[0], self.size, *task[1:]): name for name, task in missing.items()}
            for future in as_completed(waiting):
                figures = self.done[waiting[future]] = future.result().round(4).tolist()
                print(f"{waiting[future]}: found {figures[-1][FOUND]}, regret {figures[-1][REGRET]}", flush=True)
                if self.cache:
                    self.cache.write_text(json.dumps(self.done))

    def figures(self, seeds: Iterable[int], arm: Arm, tired: float) -> NDArray[np.float64]:
        """Return the figures (seeds, days, 4)."""
        return np.array([self.done[self.name((seed, arm, tired))] for seed in seeds])


def choose(runs: Runs, seeds: Sequence[int], tried: Sequence[Arm]) -> tuple[Arm, list[str]]:
    """Return the arm under which users find most, and a line for each that was tried."""
    runs.run((seed, arm, TIRED) for seed in seeds for arm in tried)
    last = [runs.figures(seeds, arm, TIRED)[:, -1].mean(0) for arm in tried]
    lines = [
        f"| {describe_arm(arm)} | {means[FOUND]:.2f} | {means[REGRET]:.2f} |"
        for arm, means in zip(tried, last, strict=True)
    ]
    return tried[int(np.argmax([means[FOUND] for means in last]))], lines


def describe(runs: Runs, seeds: Sequence[int], arms: dict[str, Arm], tired: float) -> list[str]:
    """Return the table of the arms, with the changes against always-exploit by seed."""
    lines = [
        "| arm | distinct relevant items found | change | of them new items | clicks | cumulated regret | change |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = runs.figures(seeds, {}, tired)[:, -1]
    for name, arm in arms.items():
        last = runs.figures(seeds, arm, tired)[:, -1]
        found, new, clicks, regret = last.mean(0)
        changes = ["", ""]
        if arm:
            for place, figure in enumerate((FOUND, REGRET)):
                each = last[:, figure] / plain[:, figure] - 1
                spread = f" ({each.min():+.1%} to {each.max():+.1%})" if len(each) > 1 else ""
                changes[place] = f"{each.mean():+.1%}{spread}"
        lines.append(
            f"| {name} | {found:.2f} | {changes[0]} | {new:.2f} | {clicks:.2f} | {regret:.2f} | {changes[1]} |"
        )
    return lines


def draw(runs: Runs, worlds: dict[float, Sequence[int]], arms: dict[str, Arm], file: Path) -> None:
    """Plot what users found and the regret of every arm by day, the mean and the range over the seeds."""
    figure, panels = plt.subplots(len(worlds), 3, figsize=(12, 7))
    days = np.arange(1, runs.size.days + 1)
    for row, (tired, seeds) in zip(panels, worlds.items(), strict=True):
        for axes, number, against, label in (
            (row[0], FOUND, 0, "distinct relevant items found"),
            (row[1], REGRET, 0, "cumulated regret, clicks"),
            (row[2], REGRET, 1, "regret less that of always-exploit"),
        ):
            plain = runs.figures(seeds, {}, tired)[:, :, number]
            for name, arm in arms.items():
                found = runs.figures(seeds, arm, tired)[:, :, number] - against * plain
                (line,) = axes.plot(days, found.mean(0), label=name)
                if len(found) > 1:
                    axes.fill_between(days, found.min(0), found.max(0), color=line.get_color(), alpha=0.15, lw=0)
            axes.set(title=TITLES[tired], xlabel="day", ylabel=label)
            plain_axes(axes)
    panels[0][0].legend(frameon=False)
    save_plot(figure, file)


def main() -> None:
    """Choose the settings, simulate all arms and rewrite the section of STEERING.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="seeds whose figures are reported")
    parser.add_argument("--tireless", type=int, default=1, help="how many of them, again with users who never tire")
    parser.add_argument("--choosing", type=int, default=1, help="other seeds, on which the settings are chosen")
    for field in fields(Size):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="a JSON file that keeps the figures of finished runs")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of STEERING.md")
    arguments = parser.parse_args()
    size = Size(**{field.name: getattr(arguments, field.name) for field in fields(Size)})
    runs = Runs(size, arguments.jobs, arguments.cache)
    seeds, choosing = range(1, 1 + arguments.seeds), range(101, 101 + arguments.choosing)
    (rotation, rotations), (exploration, explorations) = (
        choose(runs, choosing, tried) for tried in (ROTATIONS, EXPLORATIONS)
    )
    both = rotation | exploration
    arms = {"always-exploit": {}, "rotation": rotation, "exploration": exploration, "both": both}
    worlds = {TIRED: seeds, 1.0: seeds[: arguments.tireless]}
    runs.run((seed, arm, tired) for tired, part in worlds.items() for seed in part for arm in arms.values())
    lines = [
        f"Chosen on {len(choosing)} other seed(s): {describe_arm(both)}.",
        "",
        "| tried | distinct relevant items found | cumulated regret |",
        "|---|---|---|",
        *rotations,
        *explorations,
    ]
    for tired, part in worlds.items():
        lines += ["", f"### {TITLES[tired]}, {len(part)} seed(s)", "", *describe(runs, part, arms, tired)]
    print("\n".join(lines))
    draw(runs, worlds, arms, arguments.out / "results" / "simulation.svg")
    write_section(
        arguments.out / "STEERING.md",
        "simulation",
        [*lines, "", "![What users find, and the regret, by day](results/simulation.svg)"],
    )


if __name__ == "__main__":
    main()
