"""Clusters of Citus for the tests of this folder; without RECDB_TEST_CITUS they are skipped."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from support.citus import drop_database, make_database, run_nodes
from support.servers import Server

from recdb.database import Database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that starts nodes: it needs servers."""
    for item in items:
        if {"one_node", "three_nodes", "nodes"} & set(getattr(item, "fixturenames", ())):
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


@pytest.fixture(scope="session", params=["one_node", "three_nodes"])
def nodes(request: pytest.FixtureRequest) -> Sequence[Server]:
    """One node, and three."""
    found: Sequence[Server] = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def make(nodes: Sequence[Server]) -> Iterator[Callable[[], Database]]:
    """A function that makes an empty database on the nodes."""
    made: list[str] = []

    def empty() -> Database:
        made.append(f"empty_{len(made)}")
        return make_database(nodes, made[-1])

    yield empty
    for name in made:
        drop_database(nodes, name)
