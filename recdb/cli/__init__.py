"""The command line: importing a module of commands adds its commands to `app`."""

from recdb.cli.failing import quiet_loading, run

# The modules below take a second to load.
with quiet_loading():
    from recdb.cli import attach, data, demo, doctor, embed, evaluate, everyone, model, schema, serve, shell, tune
    from recdb.cli.common import app

__all__ = [
    "app",
    "attach",
    "data",
    "demo",
    "doctor",
    "embed",
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
    run(app)
