"""Commands for an application's own tables: attach and detach."""

import json
from dataclasses import replace
from typing import Annotated, Any

import typer

from recdb.cli.common import Json, Url, app, open_database
from recdb.data import attach as attaching
from recdb.data.attach import Attached
from recdb.data.sources import KEYS, Role, Source, constant_kind, parse_source
from recdb.database import connect
from recdb.migrate import require_installed
from recdb.terminal import cut, errors, output, progress, table


def option(metavar: str, help: str) -> Any:
    """Make an option whose help shows no default."""
    return typer.Option(metavar=metavar, help=help, show_default=False)


Value = Annotated[
    str,
    option(
        "COLUMN|SQL",
        "How much of it, as quantity or 'stars - 2.5': the weight of the kind is multiplied by it; NULL is 1.",
    ),
]
Also = Annotated[
    list[str] | None,
    option(
        "SOURCE",
        "Another table of interactions: 'TABLE user=COLUMN item=COLUMN kind=COLUMN|CONSTANT [at=COLUMN] "
        "[value=SQL] [where=SQL]'; kind-is=KIND and timezone=ZONE as above. May be repeated.",
    ),
]
Impressions = Annotated[str | None, option("TABLE", "The table, or view, of impressions: the items that pages showed.")]
Scenario = Annotated[str, option("COLUMN", "Impressions: the place in the product; NULL is 'default'.")]
ScenarioIs = Annotated[str, option("NAME", "Impressions: the scenario of all rows: --scenario-is home.")]
Place = Annotated[str, option("COLUMN", "Impressions: the place on the page, from 1; an array if --item is one.")]
Variant = Annotated[str, option("COLUMN", "Impressions: the variant, if the application chose it.")]
Propensity = Annotated[str, option("COLUMN", "Impressions: the probability of the item at its place.")]
ModelVersion = Annotated[str, option("COLUMN", "Impressions: the model version that ranked the page.")]


@app.command()
def attach(
    url: Url = None,
    interactions: Annotated[str | None, option("TABLE", "The table, or view, of interactions.")] = None,
    user: Annotated[str, option("COLUMN", "The user's id: text, uuid or an integer.")] = "",
    item: Annotated[
        str, option("COLUMN", "The item's id: text, uuid or an integer; of impressions also an array.")
    ] = "",
    kind: Annotated[
        str, option("COLUMN|'CONSTANT'", "The kind of interaction: a column (also an enum) or a constant.")
    ] = "",
    kind_is: Annotated[str, option("KIND", "The kind of all rows, in place of --kind: --kind-is play.")] = "",
    at: Annotated[str, option("COLUMN", "The time; a timestamp without time zone is read as UTC.")] = "",
    timezone: Annotated[
        str, option("ZONE", "The zone of times without time zone in all named tables, such as Europe/Berlin.")
    ] = "",
    value: Value = "",
    where: Annotated[str, option("SQL", "Keep only the rows that meet this condition.")] = "",
    also: Also = None,
    impressions: Impressions = None,
    scenario: Scenario = "",
    scenario_is: ScenarioIs = "",
    place: Place = "",
    variant: Variant = "",
    propensity: Propensity = "",
    model_version: ModelVersion = "",
    items: Annotated[str | None, option("TABLE", "The table, or view, of items.")] = None,
    item_id: Annotated[str, typer.Option(metavar="COLUMN", help="The item's id.")] = "id",
    owner: Annotated[
        str, option("COLUMN", "The owner's user id: recommend() never returns an item to its owner.")
    ] = "",
    published: Annotated[str, option("COLUMN", "The time of publication.")] = "",
    available: Annotated[
        str, option("COLUMN|SQL", "Whether recommend() may return the item, such as 'deleted_at is null'.")
    ] = "",
    title: Annotated[str, option("COLUMN", "The title that recdb's commands show.")] = "",
    attributes: Annotated[
        str, option("COLUMN,...", "The attributes that filter => matches: one jsonb column, or several columns.")
    ] = "",
    embedding: Annotated[str, option("COLUMN", "The embedding: a vector, an array of numbers, or JSON.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Attach although the mapping seems to be of no use.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show everything, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Read an application's own tables in place, beside recdb's own store; without options, list the attached tables.

    recdb never alters the tables. A table that you attach again gets the new mapping.
    """
    kind = either("kind", kind, kind_is)
    mapping = {"user": user, "item": item, "at": at, "where": where}
    page = {"scenario": either("scenario", scenario, scenario_is), "place": place, "variant": variant}
    page |= {"propensity": propensity, "model-version": model_version}
    sources = read_sources(interactions, impressions, mapping, {"kind": kind, "value": value}, page, timezone)
    sources += [with_zone(parse_source(text), timezone) for text in also or ()]
    if items:
        catalogue = {"item": item_id, "owner": owner, "published": published, "available": available, "title": title}
        catalogue |= {"timezone": timezone} if timezone else {}
        sources.append(Source("items", items, catalogue | {"attributes": attributes, "embedding": embedding}))
    elif owner or published or available or title or attributes or embedding:
        raise typer.BadParameter("name the table: --items TABLE")
    database = open_database(url, quiet=as_json)
    if not sources:
        with connect(database) as connection:
            require_installed(connection)
            show(list(attaching.read_attached(connection).values()), as_json)
        return
    with progress("attach") as report:
        found = attaching.attach(database, sources, dry_run=dry_run, force=force, report=report)
    if timezone and not any("timezone" in attached.mapping for attached in found):
        errors.print("warning: --timezone changes nothing: every time has a time zone of its own")
    show(found, as_json)
    if not as_json:
        output.print("dry run: nothing was changed" if dry_run else f"attached; next: {next_step(found)}")


def read_sources(
    interactions: str | None,
    impressions: str | None,
    mapping: dict[str, str],
    event: dict[str, str],
    page: dict[str, str],
    zone: str,
) -> list[Source]:
    """Return the table of --interactions or of --impressions, which share the options of `mapping`."""
    if interactions and impressions:
        raise typer.BadParameter(
            "--user, --item, --at and --where are of one table: attach --interactions and --impressions one by one"
        )
    if (not interactions and any(event.values())) or (not impressions and any(page.values())):
        raise typer.BadParameter(f"name the table: --{'interactions' if any(event.values()) else 'impressions'} TABLE")
    if interactions:
        require({"--user": mapping["user"], "--item": mapping["item"], "--kind": event["kind"]}, "--interactions")
        return [Source("interactions", interactions, in_order("interactions", mapping | event | {"timezone": zone}))]
    if impressions:
        require({f"--{key}": mapping[key] for key in ("user", "item", "at")}, "--impressions")
        return [Source("impressions", impressions, in_order("impressions", mapping | page | {"timezone": zone}))]
    if any(mapping.values()):
        raise typer.BadParameter("name the table: --interactions TABLE or --impressions TABLE")
    return []


def in_order(role: Role, mapping: dict[str, str]) -> dict[str, str]:
    """Put a mapping in the order in which it is shown."""
    return {key: mapping[key] for key in KEYS[role]}


def next_step(changed: list[Attached]) -> str:
    """Return the command after which tables that were attached or detached count, or count no more."""
    return "recdb refresh" if all(each.role == "impressions" for each in changed) else "recdb refresh --full"


def either(key: str, column: str, constant: str) -> str:
    """Return the mapping of a key from its column, or from the constant of all rows, such as --kind or --kind-is."""
    if column and constant:
        raise typer.BadParameter(f"--{key} names a column and --{key}-is the {key} of all rows: give one of them")
    return constant_kind(constant) if constant else column


def require(options: dict[str, str], table_option: str) -> None:
    """Refuse a table if an option that it needs is missing."""
    missing = [name for name, value in options.items() if not value]
    if missing:
        raise typer.BadParameter(f"{table_option} also needs {', '.join(missing)}")


def with_zone(source: Source, zone: str) -> Source:
    """Give a source the zone of --timezone, unless it names its own."""
    return replace(source, mapping={"timezone": zone} | dict(source.mapping)) if zone else source


def show(found: list[Attached], as_json: bool) -> None:
    """Print the mapping of each table, some of its rows, and the warnings."""
    if as_json:
        output.print_json(json.dumps([attached.to_json() for attached in found]))
        return
    if not found:
        output.print("nothing is attached")
    for attached in found:
        mapping = ", ".join(f"{key} {value}" for key, value in attached.mapping.items())
        output.print(f"{attached.relation} as {attached.role}: {mapping}", markup=False)
        if attached.sample:
            rows = table(*(f"  {name}" if not column else name for column, name in enumerate(attached.sample[0])))
            for row in attached.sample:
                cells = ["" if value is None else value.replace("\n", " ") for value in row.values()]
                rows.add_row(cut(f"  {cells[0]}"), *(cut(cell) for cell in cells[1:]))
            output.print(rows)
    for attached in found:
        for warning in attached.warnings:
            errors.print(f"warning: {warning.message}", markup=False)
            for line in (warning.fix or "").splitlines():
                errors.print(f"  {line}", markup=False)


@app.command()
def detach(
    relation: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="The attached table.", show_default=False)
    ] = None,
    url: Url = None,
    everything: Annotated[bool, typer.Option("--all", help="Detach every table.")] = False,
) -> None:
    """Stop reading an attached table. The table and recdb's own store stay; impressions that were copied from it go."""
    if (relation is None) != everything:
        raise typer.BadParameter("name a table, or --all")
    gone = attaching.detach(open_database(url), relation)
    for attached in gone:
        output.print(f"detached {attached.relation} as {attached.role}", markup=False)
    output.print(f"next: {next_step(gone)}" if gone else "nothing is attached")
