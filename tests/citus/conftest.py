"""Clusters of Citus for the tests of this folder; without RECDB_TEST_CITUS they are skipped."""

from collections.abc import Iterator, Sequence

import pytest
from support.citus import run_nodes
from support.servers import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that starts nodes: it needs servers."""
    for item in items:
        if {"one_node", "three_nodes"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def one_node() -> Iterator[Sequence[Server]]:
    """A server with Citus that holds its shards itself."""
    with run_nodes(1) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[Sequence[Server]]:
    """A coordinator and two workers."""
    with run_nodes(3) as nodes:
        yield nodes
