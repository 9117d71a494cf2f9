"""Settings that a search begins with: they won on other data, the most similar data first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recdb.learn.item_neighbors import EASE_ITEMS
from recdb.learn.params import Params
from recdb.offline.evaluator import OfflineEvaluator


@dataclass(frozen=True)
class Traits:
    """The traits by which data are similar."""

    timed: bool
    """Whether times are known."""
    returns: bool
    """Whether items may be recommended again."""
    weighted: bool
    """Whether the pairs of a user and an item differ in weight."""
    per_user: float
    """The mean number of items of a user."""
    per_item: float
    """The mean number of users of an item."""

    def distance(self, other: "Traits") -> float:
        """Return how much other data differ: 1 for each trait, and 1 for each factor of 4 in a number."""
        traits = (self.timed != other.timed) + 2 * (self.returns != other.returns) + (self.weighted != other.weighted)
        ratios = np.log([self.per_user / other.per_user, self.per_item / other.per_item])
        return traits + float(np.abs(ratios).sum() / np.log(4))


@dataclass(frozen=True)
class Start:
    """A setting, and the data on which it won."""

    kind: Traits
    changes: Mapping[str, Any]
    """The hyper-parameters that differ from PLAIN."""


def traits_of(evaluator: OfflineEvaluator) -> Traits:
    """Describe the data of an evaluator."""
    known = evaluator.known
    pairs = max(len(known.users), 1)
    users, items = max(len(np.unique(known.users)), 1), max(len(np.unique(known.items)), 1)
    return Traits(evaluator.timed, evaluator.returns, evaluator.weighted, pairs / users, pairs / items)


RATINGS = Traits(True, False, True, 70, 40)
SHOP = Traits(True, True, True, 34, 2.5)
RETURNS = Traits(False, True, True, 61, 78)
LIBRARY = Traits(False, False, False, 28, 9)
FILMS = Traits(False, False, False, 63, 134)

PLAIN = replace(
    Params(), source_exponent=0.5, target_exponent=0.5, spectral_weight=0.0, spectral_filter="ideal", spectral_rank=256,
    recount_exponent=0.0,
)  # fmt: skip
"""The setting that the starts change."""

STARTS: Sequence[Start] = (
    Start(RATINGS, {
        "people_recency": 0.9, "dimension": 64, "basis_user_exponent": 0.5, "basis_item_exponent": 0.15,
        "neighbors": 400, "similarity_exponent": 6.0, "neighbor_weight_exponent": 0.0,
        "profile_weight_exponent": 1.0, "profile_recency": 0.9, "item_neighbors": 200, "item_user_exponent": 0.125,
        "source_exponent": 0.7, "target_exponent": 0.6, "cooccurrence_power": 0.8, "session_weight": 10.0,
        "session_gap": 1800.0, "recount_exponent": 0.4,
    }),
    Start(SHOP, {
        "blend": 0.6, "profile_limit": 320, "people_weight_exponent": 0.0, "people_recency": 0.6, "dimension": 256,
        "basis_user_exponent": 0.5, "neighbors": 50, "activity_exponent": 0.25, "item_weight_exponent": 0.0,
        "profile_weight_exponent": 1.0, "profile_recency": 0.3, "item_neighbors": 100, "source_exponent": 0.3,
        "target_exponent": 0.0, "cooccurrence_power": 0.8, "self_weight": 0.0, "session_gap": 180.0,
        "recount_exponent": 0.2,
    }),
    Start(RETURNS, {
        "blend": 0.0, "profile_limit": 320, "profile_weight_exponent": 0.0, "profile_recency": 0.0,
        "item_neighbors": 50, "item_user_exponent": 0.0, "source_exponent": 0.55, "target_exponent": 0.6,
        "cooccurrence_power": 0.8, "session_weight": 0.0,
    }),
    Start(RATINGS, {
        "blend": 0.4, "people_recency": 0.9, "dimension": 64, "similarity_exponent": 4.0, "learner": "ease",
        "profile_weight_exponent": 1.0, "profile_recency": 0.3, "item_neighbors": 200, "item_user_exponent": 0.125,
        "target_exponent": 0.15, "ease_regularization": 1.6, "session_gap": 180.0, "recount_exponent": 0.4,
    }),
    Start(FILMS, {
        "blend": 0.1, "profile_limit": 320, "learner": "ease", "item_user_exponent": 0.125, "target_exponent": 0.2,
        "ease_regularization": 3.2, "ease_dropout": 0.5, "recount_exponent": 0.55, "item_neighbors": 400,
        "dimension": 256, "spectrum_exponent": 0.5, "neighbors": 50, "similarity_exponent": 2.0,
        "activity_exponent": 0.25, "session_weight": 0.0, "profile_recency": 0.0,
    }),
    Start(LIBRARY, {
        "blend": 0.1, "profile_limit": 320, "item_user_exponent": 0.125, "source_exponent": 0.7,
        "target_exponent": 0.25, "spectral_filter": "ridge", "spectral_weight": 2.0, "spectral_rank": 512,
        "item_neighbors": 400, "dimension": 256, "basis_user_exponent": 0.5, "spectrum_exponent": 0.5,
        "neighbors": 200, "similarity_exponent": 2.0, "profile_recency": 0.0, "session_weight": 0.0,
    }),
    Start(LIBRARY, {
        "blend": 0.4, "profile_limit": 320, "item_user_exponent": 0.5, "item_neighbors": 400, "dimension": 256,
        "neighbors": 200, "profile_recency": 0.0,
    }),
)  # fmt: skip
WIDE = {
    "profile_limit": 320, "item_neighbors": 400, "recount_exponent": 0.4, "dimension": 256, "neighbors": 100,
    "profile_recency": 0.0,
}  # fmt: skip
ALWAYS: Sequence[Mapping[str, Any]] = (
    {
        **WIDE, "learner": "ease", "blend": 0.2, "target_exponent": 0.15, "ease_regularization": 1.6,
        "spectrum_exponent": 0.25, "dimension": 64, "similarity_exponent": 4.0,
    },
    {
        **WIDE, "learner": "ease", "ease_refit": 1, "item_neighbors": 50, "profile_recency": 0.3, "neighbors": 40,
        "item_user_exponent": 0.125, "target_exponent": 0.15, "ease_regularization": 1.6, "dimension": 64,
        "similarity_exponent": 4.0,
    },
    {
        **WIDE, "blend": 0.2, "item_user_exponent": 0.0, "source_exponent": 0.4, "target_exponent": 0.1,
        "spectral_filter": "ridge", "spectral_weight": 4.0, "spectral_rank": 512,
    },
    {
        **WIDE, "blend": 0.2, "source_exponent": 0.4, "target_exponent": 0.25, "spectral_filter": "ridge",
        "spectral_weight": 16.0, "spectral_rank": 512, "session_weight": 0.0,
    },
    {
        **WIDE, "item_user_exponent": 0.125, "source_exponent": 0.4, "target_exponent": 0.1,
        "spectral_filter": "second-order", "spectral_weight": 0.9, "spectral_rank": 512,
    },
    {
        **WIDE, "item_user_exponent": 0.25, "source_exponent": 0.55, "target_exponent": 0.25,
        "spectral_filter": "chebyshev", "spectral_weight": 0.03, "spectral_rank": 256,
    },
    {
        **WIDE, "blend": 0.5, "people_weight_exponent": 0.0, "basis_user_exponent": 0.5,
        "basis_item_exponent": 0.0, "source_exponent": 1.0, "target_exponent": 0.0,
        "item_user_exponent": 0.5, "spectral_weight": 0.3,
    },
)  # fmt: skip
"""Forms that the winners do not cover, tried after them."""


def starts(evaluator: OfflineEvaluator) -> Iterator[Params]:
    """Yield settings to begin a search with, the most promising first."""
    here = traits_of(evaluator)
    ordered = sorted(STARTS, key=lambda start: start.kind.distance(here))
    small = evaluator.known.shape[1] <= EASE_ITEMS // 2
    for changes in (*(start.changes for start in ordered), *ALWAYS):
        if small or changes.get("learner") != "ease":
            yield replace(PLAIN, **changes)
