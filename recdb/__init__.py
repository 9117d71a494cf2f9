"""Recommendations inside PostgreSQL."""

from recdb.client import AsyncRecommender, Recommender
from recdb.errors import InvalidInput, ModelNotFound, NoStandby, NotInstalled, NotPermitted, RecdbError, Unavailable
from recdb.records import (
    AudienceUser,
    BatchRecommendation,
    Neighbor,
    NeighborReason,
    PopularItem,
    Reason,
    Recommendation,
    SimilarItem,
    TrendingItem,
)

__all__ = [
    "AsyncRecommender",
    "AudienceUser",
    "BatchRecommendation",
    "InvalidInput",
    "ModelNotFound",
    "Neighbor",
    "NeighborReason",
    "NoStandby",
    "NotInstalled",
    "NotPermitted",
    "PopularItem",
    "Reason",
    "RecdbError",
    "Recommendation",
    "Recommender",
    "SimilarItem",
    "TrendingItem",
    "Unavailable",
]
