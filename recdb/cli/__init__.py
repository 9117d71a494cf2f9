"""The command line: importing a module of commands adds its commands to `app`."""

from recdb.cli.failing import quiet_loading, run

# The modules below take a second to load.
with quiet_loading():
    from recdb.cli import attach, data, demo, doctor, embed, evaluate, everyone, lists, model, schema, serve, shell
    from recdb.cli import cells, experiment, partition, size, tune  # isort: skip
    from recdb.cli.common import app, name_source

__all__ = [
    "app",
    "attach",
    "cells",
    "data",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "everyone",
    "experiment",
    "lists",
    "main",
    "model",
    "partition",
    "schema",
    "serve",
    "shell",
    "size",
    "tune",
]


def main() -> None:
    """Run the command line; print each failure as one line and a hint on standard error."""
    run(run_command)


def run_command() -> None:
    """Run the command line; an error that a row of an attached table raised names the table."""
    try:
        app()
    except Exception as error:
        named = name_source(error)
        if named is error:
            raise
        raise named from error
