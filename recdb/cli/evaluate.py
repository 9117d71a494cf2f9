"""The command that measures the ranking: evaluate."""

import json
from typing import Annotated, Any

import typer

from recdb import evaluate as evaluating
from recdb.cli.common import Budget, Json, app, parse_duration
from recdb.errors import InvalidInput
from recdb.learn import Params
from recdb.learn.metrics import FORMULAS
from recdb.terminal import output, progress, table
from recdb.tune import changed


@app.command()
def evaluate(
    train: Annotated[str, typer.Option(metavar="FILE", help="CSV to learn from: user_id,item_id,kind[,created_at].")],
    test: Annotated[str, typer.Option(metavar="FILE", help="CSV of what is to be found: user_id,item_id.")],
    url: Annotated[
        str | None,
        typer.Option("--url", help="A server to make the scratch database on; else an embedded one of its own."),
    ] = None,
    k: Annotated[list[int] | None, typer.Option("--k", help="List length; may be repeated.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose settings on a validation part of the training file.")
    ] = False,
    budget: Budget = "5m",
    model_params: Annotated[
        str | None, typer.Option(metavar="JSON", help="Hyper-parameters other than the defaults.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="KIND=WEIGHT,...", help="What the kinds weigh; others weigh 0.1.")
    ] = None,
    hides: Annotated[
        str | None, typer.Option(metavar="KIND,...", help="Which kinds hide an item; all unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train in a scratch database, ask recommend() for every test user, and score the lists beside the baselines."""
    if tune and model_params:
        raise typer.BadParameter("--tune chooses the parameters: leave --model-params out")
    with progress("evaluate") as report:
        found = evaluating.evaluate_files(
            train,
            test,
            kinds=evaluating.Kinds(parse_weights(weights) if weights else None, hides.split(",") if hides else None),
            ks=sorted(set(k or [20])),
            params=parse_params(model_params),
            tune_seconds=parse_duration(budget).total_seconds() if tune else None,
            url=url,
            report=report,
        )
    if as_json:
        output.print_json(json.dumps(found.to_json()))
        return
    show(found)


def show(found: evaluating.Evaluation) -> None:
    """Print an evaluation: our metrics and the baselines', the formulas, and what it took."""
    shown = table("metric", ">recdb", ">95 % interval", *(f">{name}" for name in found.baselines))
    for metric, value in found.ours.means.items():
        low, high = found.ours.intervals.get(metric, (None, None))
        interval = f"{low:.4f} .. {high:.4f}" if low is not None and high is not None else ""
        others = [f"{scores.means[metric]:.4f}" for scores in found.baselines.values()]
        shown.add_row(metric, f"{value:.4f}", interval, *others)
    output.print(shown)
    output.print()
    for metric, formula in FORMULAS.items():
        output.print(f"{metric:12} {formula}", markup=False)
    output.print()
    left_out = f"; {found.unknown_users:,} test users are not in the training data" if found.unknown_users else ""
    output.print(f"means over {found.users:,} users{left_out}")
    if found.tuning:
        output.print(
            f"tuned in {found.tuning['seconds']:.0f} s: {len(found.tuning['curve'])} trials, on a validation part of "
            f"the training data recall@20 {found.tuning['recall@20']:.4f}, ndcg@20 {found.tuning['ndcg@20']:.4f}"
        )
    defaults = Params().to_json()
    chosen = changed(defaults, found.params)
    output.print(f"parameters: {json.dumps(chosen) if chosen else 'the defaults'}", markup=False)
    latency = ", ".join(f"{name} {value:.1f} ms" for name, value in found.latency_ms.items())
    output.print(f"training took {found.train_seconds:.1f} s; recommend() took {latency}")


def parse_params(text: str | None) -> Params | None:
    """Read hyper-parameters from a JSON object."""
    if text is None:
        return None
    try:
        values: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"--model-params is not JSON: {error}", "write '{\"neighbors\": 100}'") from error
    if not isinstance(values, dict):
        raise InvalidInput("--model-params is not a JSON object", "write '{\"neighbors\": 100}'")
    return Params.from_json(values)


def parse_weights(text: str) -> dict[str, float]:
    """Read weights such as view=.1,cart=.3."""
    try:
        return {kind.strip(): float(value) for kind, value in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise InvalidInput(f"'{text}' are no weights", "write view=.1,cart=.3,purchase=1") from error
