"""Fixtures of a primary that a standby follows. A file of tests has a fixture `primary` with the database `shop`."""

from collections.abc import Iterator

import psycopg
import pytest
from support.servers import Server
from support.standby import run_standby, wait_for_replay


@pytest.fixture(scope="module")
def standby(primary: Server) -> Iterator[Server]:
    """A standby as docs/operate.md proposes it."""
    with run_standby(primary, hot_standby_feedback="on", wal_receiver_status_interval="1s") as server:
        yield server


@pytest.fixture
def written(primary: Server) -> Iterator[psycopg.Connection]:
    """A connection to the primary."""
    with psycopg.connect(primary.conninfo("shop"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def read(standby: Server, written: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to the standby, which has caught up."""
    with psycopg.connect(standby.conninfo("shop"), autocommit=True) as connection:
        wait_for_replay(written, connection)
        yield connection
