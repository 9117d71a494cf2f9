"""The methods of both clients about impressions and experiments."""

from collections.abc import Iterable
from datetime import datetime

from recdb import calls
from recdb.arguments import Id
from recdb.calls import Call, Row


class ImpressionCalls:
    """The methods of Recommender."""

    def _rows(self, call: Call[Row]) -> list[Row]:
        raise NotImplementedError

    def impressions(
        self,
        user_id: Id,
        item_ids: Iterable[Id],
        scenario: str | None = None,
        places: Iterable[int] | None = None,
        shown_at: datetime | None = None,
        model_version: str | None = None,
        variant: str | None = None,
        propensities: Iterable[float | None] | None = None,
    ) -> int:
        """Record that a page of items was shown to a user, in this order; return the number of rows.

        `propensities`: the probability with which the page showed each item at its place, None if unknown.
        """
        call = calls.impressions(user_id, item_ids, scenario, places, shown_at, model_version, variant, propensities)
        return self._rows(call)[0].value

    def variant(self, user_id: Id | None, experiment: str) -> str | None:
        """Return the variant of an experiment that a user gets; None while the experiment does not run."""
        return self._rows(calls.variant(user_id, experiment))[0].value


class AsyncImpressionCalls:
    """The methods of AsyncRecommender."""

    async def _rows(self, call: Call[Row]) -> list[Row]:
        raise NotImplementedError

    async def impressions(
        self,
        user_id: Id,
        item_ids: Iterable[Id],
        scenario: str | None = None,
        places: Iterable[int] | None = None,
        shown_at: datetime | None = None,
        model_version: str | None = None,
        variant: str | None = None,
        propensities: Iterable[float | None] | None = None,
    ) -> int:
        """Record that a page of items was shown to a user, in this order; return the number of rows.

        `propensities`: the probability with which the page showed each item at its place, None if unknown.
        """
        call = calls.impressions(user_id, item_ids, scenario, places, shown_at, model_version, variant, propensities)
        return (await self._rows(call))[0].value

    async def variant(self, user_id: Id | None, experiment: str) -> str | None:
        """Return the variant of an experiment that a user gets; None while the experiment does not run."""
        return (await self._rows(calls.variant(user_id, experiment)))[0].value
