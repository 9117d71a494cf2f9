"""The commands of experiments: experiment start, show, stop and estimate."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from recdb.cli.common import Application, Json, Url, app, narrowed, open_database, parse_duration
from recdb.database import connect
from recdb.experiments.estimate import VersionEstimate, estimate_version
from recdb.experiments.figures import Figures, read_experiments, read_figures
from recdb.experiments.lifecycle import parse_variant, start_experiment, stop_experiment
from recdb.migrate import require_installed
from recdb.offline.always_valid import MISMATCH, Range
from recdb.offline.off_policy import Estimate
from recdb.terminal import errors, output

experiments = Application(
    name="experiment", no_args_is_help=True, rich_markup_mode=None, help="Compare variants of a list with live users."
)
app.add_typer(experiments)

Name = Annotated[str, typer.Argument(help="The name of the experiment.")]
Attribution = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long after an impression an interaction counts, such as 1h. Default: 1d."),
]


@experiments.command()
def start(
    name: Name,
    url: Url = None,
    scenario: Annotated[
        str | None, typer.Option(help="The place in the product whose lists differ. Default: default.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=WEIGHT][,model=LABEL][,scenario=NAME]",
            help="A variant. Repeat it for each one; without any, the rows in recdb.experiment_variant count.",
        ),
    ] = None,
) -> None:
    """Start an experiment: from now on each user gets the list of one variant, always the same one."""
    variants = [parse_variant(each) for each in variant or []]
    database = open_database(url)
    start_experiment(database, name, scenario, variants)
    output.print(f"experiment {name} runs", markup=False)


@experiments.command()
def stop(name: Name, url: Url = None) -> None:
    """Stop an experiment: from now on every user gets the usual list. Its figures stay."""
    database = open_database(url)
    stop_experiment(database, name)
    output.print(f"experiment {name} has stopped", markup=False)


@experiments.command()
def show(
    name: Annotated[str | None, typer.Argument(help="The name of the experiment; without one, list all.")] = None,
    url: Url = None,
    attribution: Attribution = None,
    as_json: Json = False,
) -> None:
    """Show the figures of an experiment, as of the last refresh. Look as often as you like: the intervals allow it."""
    span = parse_duration(attribution) if attribution else None
    database = open_database(url, quiet=as_json)
    with connect(database) as connection:
        require_installed(connection)
        known = [] if name else read_experiments(connection)
        figures = read_figures(connection, name, span) if name else None
    if as_json:
        output.print_json(json.dumps(figures.to_json() if figures else known, default=str))
    elif figures:
        print_figures(figures)
    elif not known:
        output.print("no experiment has been made yet: recdb experiment start")
    else:
        cells = [
            (each["name"], each["scenario"], state_of(each["started_at"], each["stopped_at"]),
             ", ".join(each["variants"]))
            for each in known
        ]  # fmt: skip
        output.print(narrowed(("experiment", "scenario", "state", "variants"), cells, foldable=["variants"]))


@experiments.command()
def estimate(
    model: Annotated[str, typer.Argument(help="The label of a kept model version.")],
    url: Url = None,
    scenario: Annotated[str | None, typer.Option(help="Only impressions of this scenario.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Impressions of this last time, such as 7d. Default: since its training."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="The kind of interaction. Default: any of positive weight.")] = None,
    attribution: Attribution = None,
    pages: Annotated[int, typer.Option(min=1, help="The most pages to look at.")] = 2000,
    as_json: Json = False,
) -> None:
    """Estimate how often users would follow the lists of a version that has not served, from logged propensities."""
    begin = datetime.now(UTC) - parse_duration(since) if since else None
    span = parse_duration(attribution) if attribution else None
    database = open_database(url, quiet=as_json)
    with connect(database) as connection:
        require_installed(connection)
        found = estimate_version(
            connection, model, scenario=scenario, since=begin, kind=kind, attribution=span, pages=pages
        )
    if as_json:
        output.print_json(json.dumps(found.to_json()))
    else:
        print_estimate(found)


def state_of(started: datetime | None, stopped: datetime | None) -> str:
    """Describe where an experiment stands."""
    if started is None:
        return "not started"
    if stopped is None:
        return f"running since {started:%Y-%m-%d}"
    return f"{started:%Y-%m-%d} to {stopped:%Y-%m-%d}"


def print_figures(figures: Figures) -> None:
    """Print the figures of an experiment."""
    state = state_of(figures.started_at, figures.stopped_at)
    output.print(f"experiment {figures.name}, scenario {figures.scenario}, {state}", markup=False)
    whole = sum(arm.weight for arm in figures.arms)
    rows = [
        (arm.name, arm.scenario or "", arm.model or "", f"{arm.weight / whole:.0%}", f"{arm.users:,}",
         f"{arm.impressions:,}")
        for arm in figures.arms
    ]  # fmt: skip
    headers = ("variant", "scenario", "model", ">share", ">users", ">impressions")
    used = [place for place in range(len(headers)) if place not in (1, 2) or any(row[place] for row in rows)]
    output.print(narrowed([headers[place] for place in used], [[row[place] for place in used] for row in rows]))
    if figures.split < MISMATCH:
        errors.print(
            f"warning: the users are not split as planned (p = {figures.split:.1g}), so the variants cannot be "
            "compared: some impressions are not recorded, or a page shows another variant",
            markup=False,
        )
    elif sum(arm.users for arm in figures.arms):
        output.print(f"the users are split as planned (p = {figures.split:.2f})")
    if figures.crossed:
        output.print(f"{figures.crossed:,} users who were shown several variants count nowhere")
    if not figures.comparisons:
        output.print("no impression was followed yet (figures are as of the last refresh)")
        return
    cells: list[Any] = []
    for each in figures.comparisons:
        is_control = each.variant == figures.control
        change = "control" if is_control else points_of(each.change)
        cells.append((each.kind, each.variant, percent(each.rate), percents(each.interval), change, each.verdict))
    output.print(narrowed((">kind", "variant", ">rate", "interval", "change in points", ""), cells))
    output.print("The intervals hold at every look (95 %): stop when one is narrow enough.")


def percent(value: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * value:.2f} %"


def percents(found: Range | Estimate | None) -> str:
    """Write the ends of an interval as percentages."""
    return f"{100 * found.low:.2f} to {100 * found.high:.2f}" if found else "too few users"


def points_of(found: Range | None) -> str:
    """Write a difference in percentage points."""
    if found is None:
        return "too few users"
    return f"{100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def print_estimate(estimated: VersionEstimate) -> None:
    """Print the estimate of a version."""
    found = estimated.found
    rows = [("logged lists", found.logged), (f"{estimated.model}, IPS", found.ips), ("the same, SNIPS", found.snips)]
    cells = [
        (name, percent(min(1.0, each.value)), percents(each)) if each.value == each.value else (name, "unknown", "")
        for name, each in rows
    ]
    output.print(narrowed(("lists", ">rate", "95 % interval"), cells))
    output.print(
        f"{found.impressions:,} impressions of {found.users:,} users; the version would show {found.matched:,} of them "
        "alike"
    )
    output.print(f"effective sample size {found.effective:,.0f}, mean weight {found.overlap:.2f}")
    for doubt in estimated.doubts:
        errors.print(f"warning: {doubt}", markup=False)
