"""The command that ranks for everybody at once: recommend-all."""

from typing import Annotated

import typer

from recdb.cli.common import Url, app, open_database
from recdb.everyone import rank as everyone
from recdb.terminal import errors, output, progress


@app.command("recommend-all")
def recommend_all(
    file: Annotated[
        str, typer.Argument(help="The CSV file to write, gzipped where it ends in .gz; - is standard output.")
    ],
    url: Url = None,
    k: Annotated[int, typer.Option("-k", help="How many items for each user, at most.")] = 50,
) -> None:
    """Write everybody's lists to a CSV file: what recommend() gives, as of the last refresh, for mails and warm caches.

    Columns: user_id, rank (from 1), item_id, score, reason, model_version. A user's rows stand together, best first;
    users come in no particular order, and those that the model says nothing about have none. The file appears when it
    is whole.
    """
    to_stdout = file == everyone.STDOUT
    database = open_database(url, quiet=to_stdout)
    with progress("recommend-all") as report:
        written = everyone.recommend_all(database, file, k=k, report=report)
    (errors if to_stdout else output).print(
        f"wrote {written.rows:,} rows of {written.model} for {written.users:,} users in {written.seconds:.1f} s",
        markup=False,
    )
