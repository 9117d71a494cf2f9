"""Commands for the model: refresh, recommend, models, activate."""

import json
from contextlib import suppress
from typing import Annotated, Any

import psycopg
import typer

from recdb import job, migrate
from recdb.cli.cells import OtherSchema, other_database
from recdb.cli.common import Json, Mlflow, Url, app, narrowed, open_database, parse_duration, tracker
from recdb.client import Recommender
from recdb.database import connect
from recdb.errors import InvalidInput, Rejected
from recdb.terminal import errors, output, progress

FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON", help="Only items with these attributes, or where a JSON path is true."),
]


@app.command()
def refresh(
    url: Url = None,
    full: Annotated[bool, typer.Option("--full", help="Rebuild and train in any case.")] = False,
    if_stale: Annotated[
        str | None,
        typer.Option("--if-stale", metavar="AGE", help="Train if the last training is older, such as 24h or 7d."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on even if most data are gone, or the new version ranks worse.")
    ] = False,
    model_from: Annotated[
        str | None,
        typer.Option(
            "--model-from", metavar="URL", help="Take the items of that database's model instead of training."
        ),
    ] = None,
    from_schema: OtherSchema = None,
    mlflow: Mlflow = None,
) -> None:
    """Run the maintenance job: refresh changed users; train if there is no model, if it is old, or with --full.

    A new version that ranks clearly worse than the active one is kept, but not activated. If most interactions are gone
    since the last run, or row-level security hides them, the job changes nothing and fails. With --model-from, the new
    version has the item vectors and item neighbors of another database's active version, and the users of this one.
    """
    stale = parse_duration(if_stale) if if_stale is not None else None
    if model_from is not None and not full and stale is None:
        raise InvalidInput("--model-from needs --full or --if-stale", "run: recdb refresh --full --model-from URL")
    if from_schema is not None and model_from is None:
        raise InvalidInput("--from-schema is for --model-from", "run: recdb refresh --full --model-from URL")
    other = other_database(model_from, from_schema, "given by --model-from") if model_from is not None else None
    database = open_database(url)
    track = tracker(database, mlflow)
    try:
        with progress("refresh") as report:
            outcome = job.run(database, full=full, if_stale=stale, force=force, model_from=other, report=report)
    except Rejected as rejected:
        track(rejected.label)
        raise
    if outcome.model:
        track(outcome.model)
    if not outcome.ran:
        output.print("another job is running: nothing done")
    elif outcome.model and outcome.taken:
        output.print(
            f"took {outcome.taken} and activated it as {outcome.model} in {outcome.seconds:.1f} s", markup=False
        )
    elif outcome.model:
        output.print(f"trained and activated {outcome.model} in {outcome.seconds:.1f} s")
    else:
        output.print(f"refreshed in {outcome.seconds:.1f} s")
    for note in outcome.notes:
        errors.print(f"note: {note}", markup=False)
    for user in outcome.heavy:
        errors.print(f"warning: {user}; if this is no person: {user.statement}", markup=False)


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    url: Url = None,
    k: Annotated[int, typer.Option("-k", "--k", help="The most items to return.")] = 10,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="ID", help="Leave out this item. May be repeated.")
    ] = None,
    fallback: Annotated[str, typer.Option(help="'popular' fills the list up to k with popular items.")] = "none",
    model: Annotated[str | None, typer.Option(help="The label of a model version; default: the active one.")] = None,
    filter: FilterOption = None,
    among: Annotated[
        list[str] | None, typer.Option("--among", metavar="ID", help="Rank only this item. May be repeated.")
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="A row of recdb.scenario; default: the row default.")] = None,
    segment: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Fill up first with items popular among users with these attributes."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the items that recommend() returns for a user, with titles and reasons."""
    attributes = read_segment(segment)
    database = open_database(url, quiet=as_json)
    with connect(database) as connection:
        migrate.require_installed(connection)
        rows = Recommender(connection).recommend(
            user, k, exclude or [], fallback, read_filter(filter), model, among or None, scenario, attributes
        )
        titles = read_titles(connection, [row.item_id for row in rows])
    if as_json:
        output.print_json(
            json.dumps(
                [
                    {
                        "item_id": row.item_id,
                        "score": row.score,
                        "reason": row.reason,
                        "model_version": row.model_version,
                        "title": titles.get(row.item_id),
                    }
                    for row in rows
                ]
            )
        )
        return
    if not rows:
        output.print(f"nothing for {user}: no interactions that the model knows (try --fallback popular)", markup=False)
        return
    cells = [
        (str(rank), row.item_id, titles.get(row.item_id) or "", f"{row.score:.3f}", row.reason)
        for rank, row in enumerate(rows, 1)
    ]
    output.print(narrowed((">rank", "item", "title", ">score", "reason"), cells, foldable=["title"]))


def read_filter(text: str | None) -> dict[str, Any] | str | None:
    """Read the option --filter: a JSON object, or a JSON path, which may be a JSON string as in SQL."""
    if text is not None and text.lstrip().startswith('"'):
        with suppress(ValueError):
            return str(json.loads(text))
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--filter is not JSON: {error}") from error
    return found


def read_segment(text: str | None) -> Any:
    """Read the option --segment, a JSON object such as {"country": "de"}; the client refuses anything else."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--segment is not JSON: {error}", 'write --segment \'{"country": "de"}\'') from error


def read_titles(connection: psycopg.Connection, item_ids: list[str]) -> dict[str, str]:
    """Read the titles of items from the catalogue; items without a title are left out."""
    rows = connection.execute(
        "select i.item_id, i.title from unnest(%s::text[]) n(item_id), recdb.item_of(n.item_id) i "
        "where i.title is not null",
        [item_ids],
    )
    return dict(rows.fetchall())


@app.command()
def models(url: Url = None, as_json: Json = False) -> None:
    """List the trained model versions, with the ndcg@20 that each training measured."""
    database = open_database(url, quiet=as_json)
    with connect(database) as connection:
        migrate.require_installed(connection)
        rows = connection.execute(
            "select label, active, state, created_at, users, items, interactions, metrics, params "
            "from recdb.models order by created_at"
        ).fetchall()
    if as_json:
        names = (
            "label",
            "active",
            "state",
            "created_at",
            "users",
            "items",
            "interactions",
            "metrics",
            "params",
        )
        output.print_json(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
        return
    if not rows:
        output.print("no model has been trained yet: recdb refresh")
        return
    headers: list[str] = ["label", "state", "trained", ">users", ">items", ">interactions", ">ndcg@20", ">seconds"]
    cells: list[tuple[str, ...]] = []
    for label, active, state, created, users, items, interactions, metrics, _ in rows:
        ndcg = metrics.get("validation", {}).get("ndcg@20")
        cells.append((
            label, "active" if active else state, f"{created:%Y-%m-%d %H:%M}", f"{users:,}", f"{items:,}",
            f"{interactions:,}", "" if ndcg is None else f"{ndcg:.4f}", f"{metrics.get('train_seconds', 0):.1f}",
        ))  # fmt: skip
    taken = [metrics.get("taken") for *_, metrics, _ in rows]
    if any(taken):
        headers.append("items of")
        origins = [f"{each['label']} of {each['database']}" if each else "" for each in taken]
        cells = [(*row, origin) for row, origin in zip(cells, origins, strict=True)]
    output.print(narrowed(headers, cells, (">seconds", ">items", ">users", ">interactions")))


@app.command()
def activate(label: Annotated[str, typer.Argument(help="The label of a kept version.")], url: Url = None) -> None:
    """Make another kept model version the active one, with the half-life of its training."""
    database = open_database(url)
    with progress("activate") as report:
        said = job.activate(database, label, report)
    if said:
        output.print(said, markup=False)
    output.print(f"{label} serves now", markup=False)
