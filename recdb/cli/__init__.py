"""The command line: importing a module of commands adds its commands to `app`."""

import sys

import psycopg

from recdb.cli import attach, data, demo, doctor, evaluate, everyone, model, schema, serve, shell, tune
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
    "shell",
    "tune",
]


def main() -> None:
    """Run the command line; print each failure as one line and a hint on standard error."""
    try:
        app()
    except (RecdbError, psycopg.Error) as raised:
        error = translate(raised) if isinstance(raised, psycopg.Error) else raised
        errors.print(f"error: {error}", markup=False)
        if error.hint:
            errors.print(f"hint: {error.hint}", markup=False)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == 130:  # Typer's exit code for Ctrl-C, without a message
            errors.print("interrupted")
        raise
