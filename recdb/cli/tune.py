"""The command that chooses hyper-parameters: tune."""

import json

from recdb.cli.common import (
    Budget,
    Json,
    LatencyOption,
    Mlflow,
    Url,
    app,
    open_database,
    parse_budget,
    parse_latency,
    tracker,
)
from recdb.offline.validation import Trial
from recdb.terminal import errors, output, progress, table
from recdb.tuning import tune as tuning


@app.command()
def tune(
    url: Url = None,
    budget: Budget = "5m",
    latency: LatencyOption = None,
    mlflow: Mlflow = None,
    as_json: Json = False,
) -> None:
    """Choose hyper-parameters on a validation part of the database's own interactions, and train with them."""
    seconds = parse_budget(budget)
    latency_ms = parse_latency(latency) if latency is not None else None
    database = open_database(url, quiet=as_json)
    track = tracker(database, mlflow)
    best_printed: list[Trial] = []

    def on_trial(trial: Trial, best: Trial) -> None:
        if best not in best_printed:
            best_printed.append(best)
            errors.print(
                f"recall@20 {best.recall:.4f}  ndcg@20 {best.ndcg:.4f}  {best.users:,} users  "
                f"{best.rows:,.0f} rows a call",
                markup=False,
            )

    with progress("tune") as report:
        outcome = tuning.tune(database, seconds=seconds, latency_ms=latency_ms, report=report, on_trial=on_trial)
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
    shown = table("", ">recall@20", ">ndcg@20", ">rows a call", ">predicted")
    for name, trial in (("before", found.start), ("tuned", found.best)):
        shown.add_row(name, *figures(found, trial))
    output.print(shown)
    output.print()
    curve = table("quality against latency", ">recall@20", ">ndcg@20", ">rows a call", ">predicted", "changed")
    for trial in found.frontier:
        mark = "tuned" if trial.params == found.best.params else ""
        curve.add_row(mark, *figures(found, trial), changes(found, trial))
    output.print(curve)
    output.print()
    output.print(f"{len(found.trials)} trials in {found.seconds:.0f} s, on {found.users:,} users' held-out items")
    output.print(f"changed: {json.dumps(tuning.changed(found.start.params.to_json(), found.params))}", markup=False)
    if found.half_life:
        output.print(str(found.half_life), markup=False)
    output.print(f"recommend() takes {found.measured_ms:.1f} ms, the median over users")


def figures(found: tuning.Tuning, trial: Trial) -> tuple[str, ...]:
    """Return the cells of a trial's row."""
    predicted = found.latency.predict(trial.rows)
    return f"{trial.recall:.4f}", f"{trial.ndcg:.4f}", f"{trial.rows:,.0f}", f"{predicted:.1f} ms"


def changes(found: tuning.Tuning, trial: Trial) -> str:
    """Return the costly parameters in which a trial differs from the start."""
    start = found.start.params.to_json()
    costly = ("blend", "neighbors", "item_neighbors", "profile_limit")
    return " ".join(f"{name}={value}" for name, value in tuning.changed(start, trial.params).items() if name in costly)
