"""The methods of both clients that explain a list, and that name similar users and items."""

from recdb import calls
from recdb.arguments import Id
from recdb.calls import Call, Row
from recdb.records import Neighbor, NeighborReason, Reason, SimilarItem


class ReasonCalls:
    """The methods of Recommender."""

    def _rows(self, call: Call[Row]) -> list[Row]:
        raise NotImplementedError

    def neighbors(self, user_id: Id, k: int = 20) -> list[Neighbor]:
        """Return the `k` users most like a user, nearest first."""
        return self._rows(calls.neighbors(user_id, k))

    def similar_items(self, item_id: Id, k: int = 20) -> list[SimilarItem]:
        """Return the `k` items most like an item, nearest first."""
        return self._rows(calls.similar_items(item_id, k))

    def explain(self, user_id: Id, item_id: Id, model: str | None = None, scenario: str | None = None) -> list[Reason]:
        """Return why a user gets an item: contributions that add up to its score, the largest first.

        The sources `explored` and `pinned` are no part of the sum.
        """
        return self._rows(calls.explain(user_id, item_id, model, scenario))

    def explain_neighbors(self, user_id: Id, item_id: Id, model: str | None = None) -> list[NeighborReason]:
        """Return the contribution of each neighbour to the score of a recommended item, the largest first."""
        return self._rows(calls.explain_neighbors(user_id, item_id, model))


class AsyncReasonCalls:
    """The methods of AsyncRecommender."""

    async def _rows(self, call: Call[Row]) -> list[Row]:
        raise NotImplementedError

    async def neighbors(self, user_id: Id, k: int = 20) -> list[Neighbor]:
        """Return the `k` users most like a user, nearest first."""
        return await self._rows(calls.neighbors(user_id, k))

    async def similar_items(self, item_id: Id, k: int = 20) -> list[SimilarItem]:
        """Return the `k` items most like an item, nearest first."""
        return await self._rows(calls.similar_items(item_id, k))

    async def explain(
        self, user_id: Id, item_id: Id, model: str | None = None, scenario: str | None = None
    ) -> list[Reason]:
        """Return why a user gets an item: contributions that add up to its score, the largest first.

        The sources `explored` and `pinned` are no part of the sum.
        """
        return await self._rows(calls.explain(user_id, item_id, model, scenario))

    async def explain_neighbors(self, user_id: Id, item_id: Id, model: str | None = None) -> list[NeighborReason]:
        """Return the contribution of each neighbour to the score of a recommended item, the largest first."""
        return await self._rows(calls.explain_neighbors(user_id, item_id, model))
