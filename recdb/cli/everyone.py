"""The command that writes the lists of all users: recommend-all."""

from typing import Annotated

import typer

from recdb import everyone
from recdb.cli.common import Url, app, open_database
from recdb.terminal import errors, output, progress


@app.command("recommend-all")
def recommend_all(
    file: Annotated[
        str, typer.Argument(help="The CSV file to write, gzipped where its name ends in .gz; - is standard output.")
    ],
    url: Url = None,
    k: Annotated[int, typer.Option("-k", "--k", help="The largest number of items for each user.")] = 50,
    scenario: Annotated[str | None, typer.Option(help="A row of recdb.scenario; default: the row default.")] = None,
) -> None:
    """Write the lists of all users to a CSV file, as recommend() returns them as of the last refresh.

    Use it for mails and caches. Columns: user_id, rank (from 1), item_id, score, reason, model_version. A user's rows
    stand together, best first. The users are in no particular order; users for whom the model has no recommendation
    have no rows. The file appears when it is complete.
    """
    to_stdout = file == everyone.STDOUT
    database = open_database(url, quiet=to_stdout)
    with progress("recommend-all") as report:
        written = everyone.recommend_all(database, file, k=k, scenario=scenario, report=report)
    (errors if to_stdout else output).print(
        f"wrote {written.rows:,} rows of {written.model} for {written.users:,} users in {written.seconds:.1f} s",
        markup=False,
    )
