"""Freshness: does a half-life that is chosen on validation windows improve the lists of later windows?

    .venv/bin/python benchmarks/quality/freshness.py DATA

The second half of a data set's interactions, by time, is cut into windows of as many interactions each. For each window
recdb learns from all that is older, and recommend_batch() serves the lists under a scenario for each half-life. The
first half of the windows chooses the half-life, the second half tests it. Data sets without times are left out.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
from served import (
    HERE,
    PAGE,
    Event,
    as_numbers,
    mean_interval,
    plain_axes,
    plt,
    read_events,
    read_meta,
    save_plot,
    serve,
    set_scenario,
    store_events,
    write_section,
)

from recdb import job, migrate
from recdb.database import connect, scratch_database
from recdb.evaluate.plan import Kinds
from recdb.evaluate.run import set_kinds
from recdb.offline.metrics import Truth, user_metrics

HALF_LIVES = (None, 0.5, 1, 2, 4, 7, 14, 30, 60, 120, 240)
"""In days; None is no freshness."""


@dataclass
class Figures:
    """The users of some windows, and the ndcg of their lists by half-life."""

    users: list[str] = field(default_factory=list)
    ndcg: dict[float | None, list[float]] = field(default_factory=lambda: defaultdict(list))

    def mean(self, half_life: float | None) -> float:
        return float(np.mean(self.ndcg[half_life]))

    def best(self) -> float | None:
        return max(HALF_LIVES, key=self.mean)

    def change(self, half_life: float | None) -> tuple[float, float, float]:
        """Return the mean change against no freshness and its 95 % interval."""
        changes = np.array(self.ndcg[half_life]) - np.array(self.ndcg[None])
        return float(changes.mean()), *mean_interval(changes, self.users)


def cut(events: Sequence[Event], windows: int) -> list[tuple[list[Event], list[Event]]]:
    """Return what is older than each window of the second half, and the window itself."""
    places = np.linspace(len(events) // 2, len(events), 2 * windows + 1).astype(int)
    parts = []
    for first, last in pairwise(places.tolist()):
        start, end = events[first].at, events[last].at if last < len(events) else None
        older = [event for event in events[:last] if event.at < start]
        parts.append((older, [e for e in events[len(older) :] if e.at >= start and (end is None or e.at < end)]))
    return parts


def relevant_items(
    older: Sequence[Event], window: Sequence[Event], kinds: set[str], hiding: set[str]
) -> dict[str, set[str]]:
    """Return what known users do with known items in a window, without the items that recdb hides from the user."""
    items = {event.item for event in older}
    hidden = {(event.user, event.item) for event in older if event.kind in hiding}
    users = {event.user for event in older}
    relevant: dict[str, set[str]] = defaultdict(set)
    for event in window:
        known = event.user in users and event.item in items
        if known and event.kind in kinds and (event.user, event.item) not in hidden:
            relevant[event.user].add(event.item)
    return relevant


def measure(
    url: str, older: Sequence[Event], kinds: Kinds, relevant: dict[str, dict[str, set[str]]], into: dict[str, Figures]
) -> None:
    """Train on what is older than a window, and score the lists by each of the definitions of what is relevant."""
    later = datetime.now(UTC) - older[-1].at  # so the window begins now
    users = sorted(set().union(*relevant.values()))
    keys = {item: number for number, item in enumerate({event.item for event in older})}
    with scratch_database(url) as database:
        migrate.upgrade(database)
        with connect(database, autocommit=True) as connection:
            set_kinds(connection, kinds)
            store_events(connection, older, later)
            connection.execute(
                "insert into recdb.item (item_id, published_at) "
                "select item_id, min(created_at) from recdb.interaction group by item_id"
            )
        job.run(database, full=True)
        with connect(database, autocommit=True) as connection:
            for half_life in HALF_LIVES:
                set_scenario(connection, "tried", freshness=timedelta(days=half_life) if half_life else None)
                lists = dict(zip(users, serve(connection, users, "tried"), strict=True))
                for name, wanted in relevant.items():
                    some = sorted(wanted)
                    if not some:
                        continue
                    truth = Truth([wanted[user] for user in some], keys)
                    hits = truth.hits(as_numbers([lists[user] for user in some], keys))
                    into[name].ndcg[half_life] += user_metrics(hits, truth.counts, PAGE)[f"ndcg@{PAGE}"].tolist()
    for name, wanted in relevant.items():
        into[name].users += sorted(wanted)


def evaluate(url: str, folder: Path, windows: int) -> dict[str, tuple[Figures, Figures]]:
    """Return the figures of the validation and of the test windows, by what is relevant; none without times."""
    files = [file for file in (folder / "train.csv.gz", folder / "test.csv.gz") if file.exists()]
    events = [event for event in read_events(*files) if event.at is not None]
    if not events:
        return {}
    weights, kinds = read_meta(folder)
    hiding = set(weights if kinds.hides is None else kinds.hides)
    strong = {name for name, weight in weights.items() if weight >= max(weights.values()) / 2}
    names = {"any": set(weights), ", ".join(sorted(strong)): strong}
    validation, test = ({name: Figures() for name in names} for _ in range(2))
    for number, (older, window) in enumerate(cut(events, windows)):
        relevant = {name: relevant_items(older, window, kept, hiding) for name, kept in names.items()}
        print(f"{folder.name}: window {number + 1} of {2 * windows}, from {window[0].at:%Y-%m-%d}", flush=True)
        if any(relevant.values()):
            measure(url, older, kinds, relevant, validation if number < windows else test)
    return {name: (validation[name], test[name]) for name in names if validation[name].users and test[name].users}


def days(half_life: float | None) -> str:
    """Write a half-life."""
    if half_life is None:
        return "none"
    return f"{half_life:g} days" if half_life >= 1 else f"{half_life * 24:g} hours"


def describe(results: dict[tuple[str, str], tuple[Figures, Figures]]) -> list[str]:
    """Return the table."""
    lines = [
        "| data set | relevant | lists: validation, test | half-life chosen | test without | with | change (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for (folder, name), (validation, test) in results.items():
        best = validation.best()
        mean, low, high = test.change(best)
        verdict = "" if best is None else f"{mean:+.4f} ({low:+.4f} to {high:+.4f}), {mean / test.mean(None):+.1%}"
        lines.append(
            f"| {folder} | {name} | {len(validation.users):,}, {len(test.users):,} | {days(best)} | "
            f"{test.mean(None):.4f} | {test.mean(best):.4f} | {verdict} |"
        )
    return lines


def draw(results: dict[tuple[str, str], tuple[Figures, Figures]], file: Path) -> None:
    """Plot the change of ndcg by half-life, on both parts of the windows."""
    figure, panels = plt.subplots(1, len(results), figsize=(3 * len(results), 2.8), squeeze=False)
    tried = [half_life for half_life in HALF_LIVES if half_life]
    for axes, ((folder, name), parts) in zip(panels[0], results.items(), strict=True):
        for label, part in zip(("validation", "test"), parts, strict=True):
            axes.plot(tried, [100 * (part.mean(each) / part.mean(None) - 1) for each in tried], "o-", ms=3, label=label)
        axes.axhline(0, color="black", lw=0.8)
        axes.set(xscale="log", title=f"{folder}, {name}", xlabel="half-life, days", ylabel=f"change of ndcg@{PAGE}, %")
        plain_axes(axes)
    panels[0][0].legend(frameon=False)
    save_plot(figure, file)


def main() -> None:
    """Measure every data set of a folder and rewrite the section of STEERING.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--windows", type=int, default=4, help="for validation, and again for the test")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of STEERING.md")
    arguments = parser.parse_args()
    results = {}
    with scratch_database() as server:
        for folder in sorted(path.parent for path in arguments.folder.glob("*/meta.json")):
            found = evaluate(server.conninfo, folder, arguments.windows)
            results |= {(folder.name, name): parts for name, parts in found.items()}
    lines = describe(results)
    print("\n".join(lines))
    draw(results, arguments.out / "results" / "freshness.svg")
    write_section(
        arguments.out / "STEERING.md", "freshness", [*lines, "", "![Freshness by half-life](results/freshness.svg)"]
    )


if __name__ == "__main__":
    main()
