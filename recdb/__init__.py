"""Recommendations inside PostgreSQL."""

from recdb.client import AsyncRecommender, Recommender
from recdb.errors import InvalidInput, ModelNotFound, NotInstalled, RecdbError
from recdb.records import (
    BatchRecommendation,
    Neighbor,
    PopularItem,
    Recommendation,
    SimilarItem,
)

__all__ = [
    "AsyncRecommender",
    "BatchRecommendation",
    "InvalidInput",
    "ModelNotFound",
    "Neighbor",
    "NotInstalled",
    "PopularItem",
    "RecdbError",
    "Recommendation",
    "Recommender",
    "SimilarItem",
]
