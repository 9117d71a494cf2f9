"""The methods of both clients that give one list for everybody, or the users of an item."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from recdb import calls
from recdb.arguments import Id
from recdb.calls import Call, Filter, Row
from recdb.records import AudienceUser, PopularItem, TrendingItem


class ListCalls:
    """The methods of Recommender."""

    def _rows(self, call: Call[Row]) -> list[Row]:
        raise NotImplementedError

    def popular(
        self, k: int = 50, filter: Filter | None = None, segment: Mapping[str, Any] | None = None
    ) -> list[PopularItem]:
        """Return the `k` most popular items, among all users or among those with the attributes of `segment`."""
        return self._rows(calls.popular(k, filter, segment))

    def trending(
        self, k: int = 50, time_window: timedelta = timedelta(days=1), filter: Filter | None = None
    ) -> list[TrendingItem]:
        """Return the `k` items that most users touched in `time_window`, compared with their usual number."""
        return self._rows(calls.trending(k, time_window, filter))

    def audience(self, item_id: Id, k: int = 50) -> list[AudienceUser]:
        """Return the `k` users that an item should be sent to; nobody who touched it."""
        return self._rows(calls.audience(item_id, k))


class AsyncListCalls:
    """The methods of AsyncRecommender."""

    async def _rows(self, call: Call[Row]) -> list[Row]:
        raise NotImplementedError

    async def popular(
        self, k: int = 50, filter: Filter | None = None, segment: Mapping[str, Any] | None = None
    ) -> list[PopularItem]:
        """Return the `k` most popular items, among all users or among those with the attributes of `segment`."""
        return await self._rows(calls.popular(k, filter, segment))

    async def trending(
        self, k: int = 50, time_window: timedelta = timedelta(days=1), filter: Filter | None = None
    ) -> list[TrendingItem]:
        """Return the `k` items that most users touched in `time_window`, compared with their usual number."""
        return await self._rows(calls.trending(k, time_window, filter))

    async def audience(self, item_id: Id, k: int = 50) -> list[AudienceUser]:
        """Return the `k` users that an item should be sent to; nobody who touched it."""
        return await self._rows(calls.audience(item_id, k))
