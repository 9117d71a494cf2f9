"""The command that chooses hyper-parameters: tune."""

import json

from recdb import tune as tuning
from recdb.cli.common import Budget, Json, Mlflow, Url, app, open_database, parse_duration, tracker
from recdb.learn.search import Trial
from recdb.terminal import errors, output, progress, table


@app.command()
def tune(url: Url = None, budget: Budget = "5m", mlflow: Mlflow = None, as_json: Json = False) -> None:
    """Choose hyper-parameters on a validation part of the database's own interactions, and train with them."""
    seconds = parse_duration(budget).total_seconds()
    database = open_database(url, quiet=as_json)
    track = tracker(database, mlflow)
    best_printed: list[Trial] = []

    def on_trial(trial: Trial, best: Trial) -> None:
        if best not in best_printed:
            best_printed.append(best)
            errors.print(f"recall@20 {best.recall:.4f}  ndcg@20 {best.ndcg:.4f}", markup=False)

    with progress("tune") as report:
        outcome = tuning.tune(database, seconds=seconds, report=report, on_trial=on_trial)
    if outcome.tuning is None:
        output.print("another job is running: nothing done")
        return
    found = outcome.tuning
    if outcome.model:
        track(outcome.model)
    if as_json:
        output.print_json(json.dumps({"model": outcome.model, **found.to_json()}))
        return
    shown = table("", ">recall@20", ">ndcg@20")
    shown.add_row("before", f"{found.start.recall:.4f}", f"{found.start.ndcg:.4f}")
    shown.add_row("tuned", f"{found.best.recall:.4f}", f"{found.best.ndcg:.4f}")
    output.print(shown)
    output.print(f"{len(found.trials)} trials in {found.seconds:.0f} s, on {found.users:,} users' held-out items")
    output.print(
        f"changed: {json.dumps(tuning.changed(found.start.params.to_json(), found.best.params))}", markup=False
    )
    output.print(f"trained and activated {outcome.model}")
