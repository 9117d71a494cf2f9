"""The command that embeds the catalogue: embed."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from recdb.cli.common import Json, Url, app, open_database
from recdb.cli.data import count_of
from recdb.job import embed as embedding
from recdb.terminal import errors, output, progress


@app.command()
def embed(
    url: Url = None,
    dimension: Annotated[
        int | None,
        typer.Option(
            "--dimension", min=1, max=4000, help="The width without a model (default 256).", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="FOLDER|NAME",
            envvar="RECDB_EMBED_MODEL",
            help="A language model: its folder, or its name in the local cache; tfidf for none.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the model that --model names; else no network is used.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Embed all items again, in a new way.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete all embeddings that recdb made.")] = False,
    as_json: Json = False,
) -> None:
    """Embed the titles, attributes and owners of the catalogue: the items that are new or changed.

    Without a model, the embeddings come from TF-IDF and SVD of the catalogue's own words. Later runs embed in the same
    way, so that new items compare with those that are here.
    """
    if download and not model:
        raise typer.BadParameter("--download needs the name of a model: --model NAME")
    if remove and (dimension or model or full):
        raise typer.BadParameter("--remove goes with no other way to embed")
    database = open_database(url, quiet=as_json)
    if remove:
        removed = embedding.remove_embeddings(database)
        if as_json:
            output.print_json(json.dumps({"removed": removed}))
        else:
            output.print(f"removed the embeddings that recdb made of {count_of(removed, 'item')}")
            output.print("next: recdb refresh --full")
        return
    with progress("embed") as report:
        made = embedding.embed(database, dimension=dimension, model=model, download=download, full=full, report=report)
    if as_json:
        output.print_json(json.dumps(asdict(made) | {"seconds": round(made.seconds, 3)}))
        return
    by = "the catalogue's own words (TF-IDF and SVD)" if made.method == embedding.TFIDF else made.method
    output.print(
        f"embedded {made.embedded:,} of {count_of(made.items, 'item')} by {by}, {made.dimension:,} numbers each, in "
        f"{made.seconds:.1f} s",
        markup=False,
    )
    if made.without:
        errors.print(f"warning: {count_of(made.without, 'item')} without an embedding: no text, or no known word in it")
    if made.again:
        output.print("next: recdb refresh --full")
