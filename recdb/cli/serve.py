"""The command serve: the HTTP service."""

from typing import Annotated

import typer

from recdb.cli.common import Url, app, open_database
from recdb.distribution import install_command
from recdb.errors import RecdbError


@app.command()
def serve(
    url: Url = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 means all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 means any free port.")] = 8000,
    max_connections: Annotated[int, typer.Option(min=1, help="The most connections to the database.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="The most seconds to wait for the database.")] = 5.0,
) -> None:
    """Serve recommendations over HTTP, for programs that do not connect to PostgreSQL; /docs describes the API.

    The service also starts without a database: requests get 503 until the database is up, and /health says why.
    The database role needs recdb_reader and recdb_writer. The service has no login: keep it inside your network.
    """
    try:
        from recdb import service  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError("the HTTP service is not installed", f"run: {install_command('serve')}") from error
    database = open_database(url, quiet=True)
    service.serve(database, host=host, port=port, max_connections=max_connections, timeout=timeout)
