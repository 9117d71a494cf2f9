"""The records that the Python clients return: one frozen dataclass for each row of a SQL function."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A recommended item."""

    item_id: str
    score: float
    """0..1."""
    reason: str
    """'collaborative_filtering' or 'popular'."""
    model_version: str | None


@dataclass(frozen=True, slots=True)
class BatchRecommendation:
    """An item recommended to one of many users."""

    user_id: str
    rank: int
    """From 1."""
    item_id: str
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A user who is similar to another."""

    neighbor_id: str
    similarity: float
    """Cosine, -1..1."""
    shared_items: int


@dataclass(frozen=True, slots=True)
class SimilarItem:
    """An item that is similar to another."""

    neighbor_id: str
    similarity: float
    """Cosine, -1..1."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One contribution to the score of a recommended item."""

    source: str
    """'item', or 'neighbors' for all neighbours together; 'content' or 'author', if the model has not seen the item.
    Of a scenario: 'freshness', 'rotation', 'rule', 'popular', 'explored' and 'pinned'."""
    because_id: str | None
    """The user's own item that contributes; None for all others."""
    contribution: float
    """The contributions of all rows but 'explored' and 'pinned' add up to the item's score."""


@dataclass(frozen=True, slots=True)
class NeighborReason:
    """The contribution of one neighbour to the score of a recommended item."""

    neighbor_id: str
    similarity: float
    """Cosine, -1..1."""
    contribution: float


@dataclass(frozen=True, slots=True)
class PopularItem:
    """A popular item."""

    item_id: str
    score: float
    """0..1; the most popular item has 1."""


@dataclass(frozen=True, slots=True)
class TrendingItem:
    """An item that more users touch now than usual."""

    item_id: str
    score: float
    """0..1; the item that rises most has 1."""
    rise: float
    """How many times the usual, above 1; drawn towards 1 where there are few users."""
    users: int
    """How many users touched it in the window."""


@dataclass(frozen=True, slots=True)
class AudienceUser:
    """A user that an item should be sent to."""

    user_id: str
    score: float
    """0..1, as recommend() gives it to this user; 1 if the item is at the top of the user's list."""
