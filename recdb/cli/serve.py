"""The command serve: the HTTP service."""

from typing import Annotated

import typer

from recdb.cli.common import Url, app, open_database, parse_duration
from recdb.distribution import install_command
from recdb.errors import InvalidInput, RecdbError
from recdb.identity import require_same_database
from recdb.replicas import MAX_LAG, OPTIONS, VARIABLE, find_read_database, read_lag
from recdb.terminal import errors


@app.command()
def serve(
    url: Url = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 means all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 means any free port.")] = 8000,
    max_connections: Annotated[int, typer.Option(min=1, help="The most connections to the database.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="The most seconds to wait for the database.")] = 5.0,
    read_url: Annotated[
        str | None,
        typer.Option(help=f"A standby to read from. Default, without --url: {VARIABLE}.", show_default=False),
    ] = None,
    max_lag: Annotated[
        str, typer.Option(metavar="TIME", help="Read at the primary if the standby is further behind than this.")
    ] = f"{MAX_LAG:.0f}s",
) -> None:
    """Serve recommendations over HTTP, for programs that do not connect to PostgreSQL; /docs describes the API.

    The service also starts without a database: requests get 503 until the database is up, and /health says why.
    With --read-url, it reads from a standby, and shows a user's own interactions at once all the same.
    The database role needs recdb_reader and recdb_writer. The service has no login: keep it inside your network.
    """
    try:
        from recdb import service  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError("the HTTP service is not installed", f"run: {install_command('serve')}") from error
    lag = parse_duration(max_lag).total_seconds()
    if not lag > 0:
        raise InvalidInput(f"--max-lag is {max_lag}, and must be more than 0", "write 60s or 5m")
    read_lag(lag)
    if read_url is not None and not read_url.strip():
        raise InvalidInput(
            "the URL given by --read-url is empty",
            "is its variable set? Without a standby, leave --read-url out",
        )
    database = open_database(url, quiet=True)
    standby = find_read_database(read_url, url, database.schema)
    if standby:
        errors.print(f"standby: {standby}", markup=False)
        require_same_database(database, standby, OPTIONS)
    service.serve(
        database,
        host=host,
        port=port,
        max_connections=max_connections,
        timeout=timeout,
        standby=standby,
        max_lag=lag,
    )
