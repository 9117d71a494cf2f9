"""The command that evaluates the ranking: evaluate."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from recdb.cli.common import (
    Budget,
    CostOption,
    Json,
    LatencyOption,
    app,
    narrowed,
    open_database,
    parse_budget,
    parse_cost,
    parse_duration,
    parse_latency,
    price_line,
)
from recdb.errors import InvalidInput
from recdb.evaluate.holdout import Split
from recdb.evaluate.plan import Evaluation, Kinds, Plan, Warm
from recdb.evaluate.run import evaluate_database, evaluate_files
from recdb.learn import Params
from recdb.offline.baselines import NEIGHBORS
from recdb.offline.half_life import spell
from recdb.offline.metrics import FORMULAS
from recdb.terminal import output, progress
from recdb.tuning.tune import changed

Interval = tuple[float, float]

SourceUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The database to evaluate on. Default: RECDB_DATABASE_URL, DATABASE_URL, or else an embedded server; "
        "with files, as --scratch-url.",
        show_default=False,
    ),
]
ScratchUrl = Annotated[
    str | None,
    typer.Option(
        "--scratch-url",
        help="A server for the scratch database, which recdb drops at the end. Default: an embedded server of its own.",
        show_default=False,
    ),
]
Holdout = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Hold out the last days of the database's own interactions, such as 7d."),
]
Catalogue = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="With files: the catalogue, as recdb load --items reads it.", show_default=False),
]
Cold = Annotated[bool, typer.Option("--cold", help="Rank only items that nobody touched in training.")]


@app.command()
def evaluate(
    train: Annotated[
        str | None, typer.Option(metavar="FILE", help="CSV to learn from: user_id,item_id,kind[,created_at].")
    ] = None,
    test: Annotated[str | None, typer.Option(metavar="FILE", help="CSV of relevant items: user_id,item_id.")] = None,
    holdout: Holdout = None,
    items: Catalogue = None,
    cold: Cold = False,
    url: SourceUrl = None,
    scratch_url: ScratchUrl = None,
    k: Annotated[
        list[int] | None, typer.Option("-k", "--k", min=1, max=1000, help="List length; may be repeated.")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose hyper-parameters on a validation part of the training data.")
    ] = False,
    budget: Budget = "5m",
    latency: LatencyOption = None,
    cost: CostOption = None,
    model_params: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Hyper-parameters that replace the active version's; with files, the defaults."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="KIND=WEIGHT,...",
            help="The kinds' weights, instead of the database's; other kinds have its default weight, with files 0.1.",
        ),
    ] = None,
    hides: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...",
            help="The kinds that hide an item; else as in the database, with files all kinds.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train in a scratch database, call recommend() for every test user, and score the lists beside the baselines.

    Training and test part come from two files (--train, --test), or from the
    database's own interactions. With --holdout 7d, recdb learns from the
    interactions before the last 7 days, and the items that users chose in them
    are relevant. Without --holdout, it learns from all but the last fifth of
    each user's items, and those are relevant. The database is only read.
    With --cold, a tenth of the items is withheld whole, or with files those
    that the training file lacks; recommend() ranks these alone.
    """
    require_catalogue(train, items, cold)
    require_compatible(train, test, holdout, url, scratch_url)
    require_tuning(tune, model_params, latency, cost)
    last_days = parse_duration(holdout) if holdout is not None else None
    if last_days is not None and last_days.total_seconds() <= 0:
        raise InvalidInput(f"a --holdout of {holdout} is nothing", "write 7d: the last 7 days")
    plan = Plan(
        ks=sorted(set(k or [20])),
        params=parse_params(model_params),
        tune_seconds=parse_budget(budget) if tune else None,
        latency_ms=parse_latency(latency) if latency is not None else None,
        items=items,
        cold=cold,
        cost=parse_cost(cost, latency),
        kinds=Kinds(parse_weights(weights) if weights else None, hides.split(",") if hides else None),
    )
    if train is not None and test is not None:
        with progress("evaluate") as report:
            found = evaluate_files(train, test, plan, scratch_url=scratch_url or url, report=report)
    else:
        database = open_database(url, quiet=as_json)
        with progress("evaluate") as report:
            found = evaluate_database(database, plan, holdout=last_days, scratch_url=scratch_url, report=report)
    if as_json:
        output.print_json(json.dumps(found.to_json()))
        return
    show(found, plan.ks)


def require_compatible(
    train: str | None, test: str | None, holdout: str | None, url: str | None, scratch_url: str | None
) -> None:
    """Raise BadParameter where the options that name the data exclude each other."""
    if (train is None) != (test is None):
        raise typer.BadParameter(
            "--train and --test go together; without both, recdb evaluates on the database's own interactions"
        )
    if train is not None and holdout is not None:
        raise typer.BadParameter("--holdout splits the database's own interactions: leave --train and --test out")
    if train is not None and url is not None and scratch_url is not None:
        raise typer.BadParameter("with files, --url and --scratch-url mean the same: pass one of them")


def require_tuning(tune: bool, model_params: str | None, latency: str | None, cost: str | None) -> None:
    """Raise BadParameter where the options of a search and --tune do not fit."""
    if tune and model_params:
        raise typer.BadParameter("--tune chooses the parameters: leave --model-params out")
    if latency is not None and not tune:
        raise typer.BadParameter("--latency bounds the settings that --tune chooses: pass that too")
    if cost is not None and not tune:
        raise typer.BadParameter("--cost bounds the settings that --tune chooses: pass that too")


def require_catalogue(train: str | None, items: str | None, cold: bool) -> None:
    """Raise BadParameter where --items and --cold do not fit the files."""
    if items is not None and train is None:
        raise typer.BadParameter("--items is the catalogue of --train and --test: the database has its own")
    if cold and train is not None and items is None:
        raise typer.BadParameter("--cold ranks items by their content: name the catalogue with --items FILE")


def show(found: Evaluation, ks: Sequence[int]) -> None:
    """Print an evaluation: the metrics of recdb and of the baselines, the formulas, and how long each step took."""
    if found.split:
        show_split(found.split)
        output.print()
    if found.cold:
        output.print(f"new items: {found.cold.items:,} that nobody touched in training, ranked alone\n")
    # The baselines' names without their brackets, so that the table fits into 80 columns.
    baselines = [f">{name.split(' (')[0]}" for name in found.baselines]
    headers, rows = ["metric", ">recdb", ">95 % interval", *baselines], list[list[str]]()
    for k in ks:
        if k != ks[0]:
            rows.append([""] * len(headers))
        for metric, value in found.ours.means.items():
            if metric.endswith(f"@{k}"):
                others = [number(scores.means.get(metric)) for scores in found.baselines.values()]
                rows.append([metric, number(value), interval(found.ours.intervals.get(metric)), *others])
    output.print(narrowed(headers, rows, [">95 % interval", *reversed(baselines)]))
    output.print()
    for metric, formula in FORMULAS.items():
        if f"{metric[:-1]}{ks[0]}" in found.ours.means:
            output.print(f"{metric:12} {formula}", markup=False)
    output.print()
    left_out = f"; {found.unknown_users:,} test users are not in the training data" if found.unknown_users else ""
    output.print(f"means over {found.users:,} users{left_out}")
    some = (
        f", on {found.baseline_users:,} of these users, drawn at random" if found.baseline_users < found.users else ""
    )
    if found.cold:
        show_warm(found.warm)
    else:
        output.print(f"user-kNN and item-kNN: exact cosine, {NEIGHBORS} neighbors{some}")
    if found.tuning:
        show_tuning(found.tuning)
    defaults = Params().to_json()
    chosen = changed(defaults, found.params)
    output.print(f"parameters: {json.dumps(chosen) if chosen else 'the defaults'}", markup=False)
    latency = ", ".join(f"{name} {getattr(found.latency, name):.1f} ms" for name in ("p50", "p95", "p99"))
    output.print(f"training took {found.train_seconds:.1f} s; recommend() took {latency}")
    output.print("this took " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in found.seconds.items()))


def show_tuning(tuning: Mapping[str, Any]) -> None:
    """Print the result of the search for hyper-parameters."""
    output.print(
        f"tuned in {tuning['seconds']:.0f} s: {len(tuning['curve'])} trials, on a validation part of "
        f"the training data recall@20 {tuning['recall@20']:.4f}, ndcg@20 {tuning['ndcg@20']:.4f}"
    )
    output.print(price_line(tuning), markup=False)
    if tuning["cost_limit"] is not None:
        output.print("for the best ranking whatever it costs: --cost any")
    if tuning["half_life"]:
        output.print(f"half-life: {spell(tuning['half_life']['proposed'])}")


def show_warm(warm: Warm | None) -> None:
    """Print the figures of items that somebody touched, beside those of new items."""
    if warm is None:
        output.print("other items: not measured, nobody has two items with a weight")
        return
    figures = ", ".join(f"{name} {warm.means[name]:.4f}" for name in warm.means if name.startswith(("recall", "ndcg")))
    where = "on the test part, new items among them" if warm.part == "test" else "on the training's validation part"
    output.print(f"other items, {where}: {figures}, {warm.users:,} users")


def show_split(split: Split) -> None:
    """Print how a database's own interactions were split."""
    part = f"the interactions before {split.cut_at}" if split.cut_at else "all but the last fifth of each user's items"
    output.print(f"learned from {part}", markup=False)
    output.print(f"interactions: {split.train_interactions:,} to learn from, {split.held_out_interactions:,} held out")
    output.print(
        f"relevant items ({', '.join(split.kinds)}): {split.relevant:,}, {split.new_items:,} of them new to everybody",
        markup=False,
    )
    if split.random_users:
        output.print(
            f"{split.random_users:,} users have no order in time: their last fifth was drawn at random, seed 0"
        )


def number(value: float | None) -> str:
    """Format a metric's value, '' if there is none."""
    return "" if value is None else f"{value:.4f}"


def interval(bounds: Interval | None) -> str:
    """Format an interval, '' if there is none."""
    return "" if bounds is None else f"{bounds[0]:.4f} .. {bounds[1]:.4f}"


def parse_params(text: str | None) -> dict[str, Any]:
    """Read hyper-parameters from a JSON object."""
    if text is None:
        return {}
    try:
        values: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"--model-params is not JSON: {error}", "write '{\"neighbors\": 100}'") from error
    if not isinstance(values, dict):
        raise InvalidInput("--model-params is not a JSON object", "write '{\"neighbors\": 100}'")
    return values


def parse_weights(text: str) -> dict[str, float]:
    """Read weights such as view=.1,cart=.3."""
    try:
        return {kind.strip(): float(value) for kind, value in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise InvalidInput(f"'{text}' are no weights", "write view=.1,cart=.3,purchase=1") from error
