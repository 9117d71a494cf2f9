"""The command serve: the HTTP service."""

from typing import Annotated

import typer

from recdb.cli.common import Url, app, open_database
from recdb.distribution import install_command
from recdb.errors import RecdbError


@app.command()
def serve(
    url: Url = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 is any free one.")] = 8000,
    max_connections: Annotated[int, typer.Option(min=1, help="Connections to the database, at most.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a request may wait for the database.")] = 5.0,
) -> None:
    """Serve recommendations over HTTP, for programs that do not speak to PostgreSQL; /docs describes it.

    Starts without a database too, and is then not ready: /health says why, and requests get 503 until it is there.
    The database's role needs recdb_reader and recdb_writer. There is no login: keep it inside your network.
    """
    try:
        from recdb import service  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError("the HTTP service is not installed", f"run: {install_command('serve')}") from error
    database = open_database(url, quiet=True)
    service.serve(database, host=host, port=port, max_connections=max_connections, timeout=timeout)
