"""What one client of the HTTP service may hold: half a request, a slow body, many connections."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from support.http import GENERATE
from support.serving import serving

from recdb.database import Database
from recdb.service.limits import HEAD_BYTES

HALF_HEAD = b"POST /recommendations/generate HTTP/1.1\r\nHost: recdb\r\n"
HALF_BODY = HALF_HEAD + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


def dial(client: httpx.Client, start: bytes = b"") -> socket.socket:
    """Open a connection to the service and send the start of a request."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=30)
    connection.sendall(start)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What the service still sends until it closes the connection."""
    received = b""
    try:
        while block := connection.recv(65536):
            received += block
    except ConnectionResetError:
        pass
    return received


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("start", [b"", HALF_HEAD, HALF_BODY], ids=["nothing", "half a head", "half a body"])
def test_a_request_that_does_not_arrive_is_ended(application: Database, opened: ExitStack, start: bytes) -> None:
    client = opened.enter_context(serving(application, held={"seconds": 0.5}))
    connection = opened.enter_context(dial(client, start))
    assert b" 200 " not in rest(connection)
    assert client.post(GENERATE, json={"user_id": "u1"}).status_code == 200


def test_a_second_request_on_a_connection_has_the_same_limit(application: Database, opened: ExitStack) -> None:
    client = opened.enter_context(serving(application, held={"seconds": 1.0}))
    connection = opened.enter_context(dial(client, b"GET /live HTTP/1.1\r\nHost: recdb\r\n\r\n"))
    first = connection.recv(65536)
    connection.sendall(HALF_HEAD)
    assert b"200 OK" in first
    assert b"200 OK" not in rest(connection)


@pytest.mark.parametrize("start", [b"", HALF_HEAD, HALF_BODY], ids=["nothing", "half a head", "half a body"])
def test_connections_that_send_half_a_request_do_not_starve_the_others(
    application: Database, opened: ExitStack, start: bytes
) -> None:
    """200 of them, where 50 connections are allowed; none of them ends by itself."""
    client = opened.enter_context(serving(application, held={"seconds": 600.0, "most": 50}))
    for _ in range(200):
        opened.enter_context(dial(client, start))
    with httpx.Client(base_url=client.base_url, timeout=30) as another:
        for _ in range(3):
            assert another.post(GENERATE, json={"user_id": "u1"}).status_code == 200


def test_a_head_without_end_is_refused(application: Database, opened: ExitStack) -> None:
    client = opened.enter_context(serving(application))
    connection = opened.enter_context(dial(client, HALF_HEAD + b"X-Long: " + b"x" * (HEAD_BYTES + 1)))
    assert b" 400 " in rest(connection)
