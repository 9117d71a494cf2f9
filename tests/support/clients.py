"""Clients of both classes, for tests that hold for either."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from recdb import AsyncRecommender, Recommender

Open = Callable[..., Any]


class Waiting:
    """An AsyncRecommender whose methods wait."""

    def __init__(self, runner: asyncio.Runner, client: AsyncRecommender) -> None:
        self._runner, self._client = runner, client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *arguments, **named: self._runner.run(method(*arguments, **named))


@pytest.fixture(params=["Recommender", "AsyncRecommender"])
def open_client(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Make clients of either class; they are closed after the test."""
    made: list[Any] = []
    with asyncio.Runner() as runner:

        async def make(**options: Any) -> AsyncRecommender:
            return AsyncRecommender(**options)

        def open_one(**options: Any) -> Any:
            if request.param == "Recommender":
                made.append(Recommender(**options))
            else:
                made.append(Waiting(runner, runner.run(make(**options))))
            return made[-1]

        yield open_one
        for client in made:
            client.close()
