"""The options that give the columns of a file their meaning."""

from typing import Annotated, Any

import typer

from recdb.data.layout import TimeForm


def _column(help: str) -> Any:
    return typer.Option(metavar="COLUMN", help=help, show_default=False)


User = Annotated[str | None, _column("The user's id: the name of a column, or its number.")]
Item = Annotated[str | None, _column("The item's id.")]
Kind = Annotated[str | None, _column("The kind of interaction.")]
KindIs = Annotated[str | None, typer.Option(metavar="KIND", help="The kind of every row.", show_default=False)]
At = Annotated[str | None, _column("The time; without one, it is now.")]
Value = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|SQL",
        help="How much of it: a column of numbers, or an expression as 'stars - 2.5'. The weight of the kind is "
        "multiplied by it.",
        show_default=False,
    ),
]
IsCatalogue = Annotated[
    bool,
    typer.Option(
        "--items",
        help="The file is a catalogue: item_id [, title, owner_id, published_at, available, attributes, "
        "embedding]. The rows update items that exist.",
    ),
]
Title = Annotated[str | None, _column("Of a catalogue: the title.")]
Owner = Annotated[str | None, _column("Of a catalogue: the user id of the owner.")]
Published = Annotated[str | None, _column("Of a catalogue: the time of publication.")]
Available = Annotated[str | None, _column("Of a catalogue: whether recommend() may return the item.")]
Attributes = Annotated[
    str | None,
    typer.Option(metavar="COLUMN,...", help="Of a catalogue: one column of JSON, or several.", show_default=False),
]
Embedding = Annotated[str | None, _column("Of a catalogue: the embedding, as [0.1, -0.2, ...].")]
Delimiter = Annotated[str, typer.Option(help="What stands between the columns: , ; tab | or ::")]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line names the columns; without it, give them by number.",
        show_default=False,
    ),
]
Encoding = Annotated[str, typer.Option(help="The file's encoding: utf-8, utf-16, latin-1, ...")]
Time = Annotated[
    TimeForm, typer.Option(help="The times: dates (iso), or seconds (unix) or milliseconds (unix-ms) since 1970.")
]
AnyTime = Annotated[bool, typer.Option("--any-time", help="Load times before 1970 and of the future too.")]
