"""What the client returns: frozen dataclasses, one a row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An item for a user."""

    item_id: str
    score: float
    """0..1."""
    reason: str
    """'collaborative_filtering' or 'popular'."""
    model_version: str | None


@dataclass(frozen=True, slots=True)
class BatchRecommendation:
    """An item for one of many users."""

    user_id: str
    rank: int
    """From 1."""
    item_id: str
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A user like another."""

    neighbor_id: str
    similarity: float
    """Cosine, -1..1."""
    shared_items: int


@dataclass(frozen=True, slots=True)
class SimilarItem:
    """An item like another."""

    neighbor_id: str
    similarity: float
    """Cosine, -1..1."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A part of the score of a recommended item."""

    source: str
    """'item', or 'neighbors': all of them together."""
    because_id: str | None
    """The user's own item; None for the neighbours."""
    contribution: float
    """All of an item's contributions add up to its score."""


@dataclass(frozen=True, slots=True)
class NeighborReason:
    """What one neighbour contributes to the score of a recommended item."""

    neighbor_id: str
    similarity: float
    """Cosine, -1..1."""
    contribution: float


@dataclass(frozen=True, slots=True)
class PopularItem:
    """A popular item."""

    item_id: str
    score: float
    """0..1, the most popular item 1."""
