"""The command line: a thin face over the modules that do the work; importing a module of commands adds them."""

import sys

import psycopg

from recdb.cli import attach, data, demo, doctor, evaluate, everyone, model, schema, serve, tune
from recdb.cli.common import app
from recdb.client import translate
from recdb.errors import RecdbError
from recdb.terminal import errors

__all__ = [
    "app",
    "attach",
    "data",
    "demo",
    "doctor",
    "evaluate",
    "everyone",
    "main",
    "model",
    "schema",
    "serve",
    "tune",
]


def main() -> None:
    """Run the command line; every failure is one line and a hint on standard error."""
    try:
        app()
    except (RecdbError, psycopg.Error) as raised:
        error = translate(raised) if isinstance(raised, psycopg.Error) else raised
        errors.print(f"error: {error}", markup=False)
        if error.hint:
            errors.print(f"hint: {error.hint}", markup=False)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == 130:  # what Typer makes of Ctrl-C, without a word
            errors.print("interrupted")
        raise
