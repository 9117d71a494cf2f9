"""The command that chooses hyper-parameters: tune."""

import json

from recdb.cli.common import (
    Budget,
    CostOption,
    Json,
    LatencyOption,
    Mlflow,
    Url,
    app,
    open_database,
    parse_budget,
    parse_cost,
    parse_latency,
    price_line,
    tracker,
)
from recdb.offline.validation import Trial
from recdb.terminal import errors, output, progress, table
from recdb.tuning import tune as tuning
from recdb.tuning.latency_model import Prices


@app.command()
def tune(
    url: Url = None,
    budget: Budget = "5m",
    latency: LatencyOption = None,
    cost: CostOption = None,
    mlflow: Mlflow = None,
    as_json: Json = False,
) -> None:
    """Choose hyper-parameters on a validation part of the database's own interactions, and train with them."""
    seconds = parse_budget(budget)
    latency_ms = parse_latency(latency) if latency is not None else None
    most = parse_cost(cost, latency)
    database = open_database(url, quiet=as_json)
    track = tracker(database, mlflow)
    best_printed: list[Trial] = []
    known_prices: list[Prices] = []

    def on_trial(trial: Trial, best: Trial) -> None:
        if best not in best_printed:
            best_printed.append(best)
            prices = known_prices[0]
            errors.print(
                f"recall@20 {best.recall:.4f}  ndcg@20 {best.ndcg:.4f}  {best.users:,} users  "
                f"{best.rows:,.0f} rows a call  {prices.milliseconds(best.rows):.1f} ms  "
                f"{prices.cost(best.rows):.1f}x",
                markup=False,
            )

    with progress("tune") as report:
        outcome = tuning.tune(
            database, seconds=seconds, latency_ms=latency_ms, cost=most, report=report, on_trial=on_trial,
            on_prices=known_prices.append,
        )  # fmt: skip
    if outcome.tuning is None:
        output.print("another job is running: nothing done")
        return
    if outcome.model:
        track(outcome.model)
    if as_json:
        output.print_json(json.dumps({"model": outcome.model, **outcome.tuning.to_json()}))
        return
    show(outcome.tuning)
    output.print(f"trained and activated {outcome.model}")


def show(found: tuning.Tuning) -> None:
    """Print the result of a search: before and after, quality against latency, changes, and the measured latency."""
    shown = table("", ">recall@20", ">ndcg@20", ">rows a call", ">predicted", ">cost")
    for name, trial in (("before", found.start), ("tuned", found.best)):
        shown.add_row(name, *figures(found, trial))
    output.print(shown)
    output.print()
    output.print("quality against latency:")
    curve = table("", ">recall@20", ">ndcg@20", ">rows a call", ">predicted", ">cost", "changed")
    for trial in found.frontier:
        mark = "tuned" if trial.params == found.best.params else ""
        curve.add_row(mark, *figures(found, trial), changes(found, trial))
    output.print(curve)
    output.print()
    output.print(price_line(found.to_json()), markup=False)
    ended = ", then nothing was left to find" if found.finished else ""
    output.print(
        f"{len(found.trials)} trials in {found.seconds:.0f} s, on {found.users:,} users' held-out items{ended}"
    )
    output.print(f"changed: {json.dumps(tuning.changed(found.start.params.to_json(), found.params))}", markup=False)
    if found.half_life:
        output.print(str(found.half_life), markup=False)
    output.print(f"recommend() takes {found.measured_ms:.1f} ms, the median over users")


def figures(found: tuning.Tuning, trial: Trial) -> tuple[str, ...]:
    """Return the cells of a trial's row."""
    predicted, cost = found.prices.milliseconds(trial.rows), found.prices.cost(trial.rows)
    return f"{trial.recall:.4f}", f"{trial.ndcg:.4f}", f"{trial.rows:,.0f}", f"{predicted:.1f} ms", f"{cost:.1f}x"


def changes(found: tuning.Tuning, trial: Trial) -> str:
    """Return the costly parameters in which a trial differs from the start."""
    start = found.start.params.to_json()
    costly = ("blend", "neighbors", "item_neighbors", "profile_limit")
    return " ".join(f"{name}={value}" for name, value in tuning.changed(start, trial.params).items() if name in costly)
