"""The command doctor."""

import json

import typer
from rich.text import Text

from recdb.cli.common import Json, Url, app, open_database
from recdb.database import connect
from recdb.doctor import examine
from recdb.terminal import output, progress, table

COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Check the installation; print each finding and its fix. Exit code 1 if a check fails."""
    database = open_database(url, quiet=as_json)
    with connect(database, autocommit=True) as connection, progress("doctor") as report:
        report("asking the database")
        findings = list(examine(connection))
    failed = [finding for finding in findings if finding.state == "fail"]
    if as_json:
        output.print_json(json.dumps({"healthy": not failed, "checks": [finding.to_json() for finding in findings]}))
    else:
        shown = table("check", "state", "finding", whole=["check", "state"])
        for finding in findings:
            color = COLORS[finding.state]
            shown.add_row(finding.check, Text(finding.state, color), finding.message)
            if finding.fix:
                shown.add_row("", "", Text.assemble(("fix:", "bold"), " ", finding.fix))
        output.print(shown)
        warned = sum(finding.state == "warn" for finding in findings)
        output.print(f"{len(findings)} checks: {len(failed)} failed, {warned} warned")
    if failed:
        raise typer.Exit(1)
