"""The values that a search tries, and which of them make a difference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recdb.learn.item_neighbors import EASE_ITEMS
from recdb.learn.params import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.learned import filtered, learns

Space = Mapping[str, Sequence[Any]]

# Hyper-parameters of the item-based part: of learning, then of scoring.
ITEM_LEARNING: Space = {
    "learner": ("cooccurrence", "ease"),
    "item_weight_exponent": (0.0, 0.5, 1.0),
    "item_user_exponent": (0.0, 0.125, 0.25, 0.375, 0.5),
    "source_exponent": (-0.15, 0.0, 0.15, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0),
    "target_exponent": (-0.15, 0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8),
    "cooccurrence_power": (0.6, 0.8, 1.0, 1.3, 1.6),
    "spectral_weight": (0.0, 0.03, 0.1, 0.2, 0.3, 0.6, 0.9, 2.0, 4.0, 8.0, 16.0, 32.0),
    "spectral_filter": ("ideal", "second-order", "chebyshev", "ridge"),
    "spectral_power": (1.5, 2.0, 3.0, 5.0),
    "spectral_rank": (64, 128, 256, 512),
    "ease_regularization": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6),
    "ease_dropout": (0.0, 0.2, 0.35, 0.5, 0.65),
    "ease_refit": (0, 1),
    "item_neighbors": (12, 25, 50, 100, 200, 400),
    "recount_exponent": (0.0, 0.2, 0.4, 0.7, 1.0),
    "session_weight": (0.0, 10.0, 50.0),
    "session_gap": (60.0, 180.0, 420.0, 1800.0),
}
ITEM_SCORING: Space = {
    "profile_weight_exponent": (0.0, 0.5, 1.0),
    "profile_recency": (0.0, 0.3, 0.6, 0.9, 1.2),
    "self_weight": (0.0, 1.0, 2.0, 4.0, 8.0, 16.0),
}
# Hyper-parameters of the user-based part: of learning, then of scoring.
USER_LEARNING: Space = {
    "people_weight_exponent": (0.0, 0.5, 1.0),
    "basis_user_exponent": (0.0, 0.25, 0.5),
    "basis_item_exponent": (0.0, 0.15, 0.25, 0.4, 0.5),
}
USER_SCORING: Space = {
    "spectrum_exponent": (0.0, 0.25, 0.5),
    "dimension": (64, 128, 256, 512, 1024),
    "people_recency": (0.0, 0.3, 0.6, 0.9),
    "neighbors": (12, 25, 50, 100, 200, 400),
    "similarity_exponent": (0.5, 1.0, 2.0, 4.0, 6.0),
    "activity_exponent": (0.0, 0.25, 0.5),
    "neighbor_weight_exponent": (0.0, 0.5, 1.0),
}
# Hyper-parameters of both parts.
BLENDING: Space = {"blend": tuple(step / 10 for step in range(11)), "profile_limit": (10, 20, 40, 80, 160, 320)}

FORMS = ("learner", "spectral_filter")
"""Hyper-parameters that say how to learn: each value goes with other values of the others, so no step changes them."""
OF_ITEMS = (*ITEM_LEARNING, *ITEM_SCORING)
OF_USERS = (*USER_LEARNING, *USER_SCORING)


def matters(params: Params, name: str) -> bool:
    """Tell whether a hyper-parameter has an effect, given the others."""
    if name in OF_USERS:
        return params.blend > 0
    if name in OF_ITEMS:
        return params.blend < 1 and learns(params, name)
    return True


def form(params: Params) -> str:
    """Name the way of learning item neighbours."""
    return params.spectral_filter if filtered(params) else params.learner


def around(values: Sequence[Any], current: Any) -> list[Any]:
    """Return the values next to the current one; for names, which have no order, all other values."""
    if isinstance(current, str):
        return [value for value in values if value != current]
    below = [value for value in values if value < current]
    above = [value for value in values if value > current]
    return below[-1:] + above[:1]


def plainest(params: Params, evaluator: OfflineEvaluator, width: int) -> Params:
    """Set hyper-parameters that have no effect on this data to their plainest values, and bound the dimension."""
    params = replace(params, dimension=min(params.dimension, width))
    if not evaluator.timed:
        params = replace(params, people_recency=0.0, profile_recency=0.0, session_weight=0.0)
    if not evaluator.returns:
        params = replace(params, self_weight=0.0)
    if not evaluator.weighted:
        defaults = Params()
        names = [name for name in (*OF_ITEMS, *OF_USERS) if name.endswith("weight_exponent")]
        params = replace(params, **{name: getattr(defaults, name) for name in names})
    limits = trimmed(BLENDING, evaluator, width).get("profile_limit", ())
    if params.profile_limit > max(limits, default=0):
        params = replace(params, profile_limit=max(limits, default=Params().profile_limit))
    return params


def trimmed(space: Space, evaluator: OfflineEvaluator, width: int) -> dict[str, Sequence[Any]]:
    """Return the part of a search space that makes a difference on this data."""
    left = {name: list(values) for name, values in space.items()}
    if not evaluator.timed:
        for name in ("people_recency", "profile_recency", "session_weight", "session_gap"):
            left.pop(name, None)
    if not evaluator.returns:
        left.pop("self_weight", None)
    if not evaluator.weighted:
        for name in [name for name in left if name.endswith("weight_exponent")]:
            left.pop(name)
    if "dimension" in left:
        left["dimension"] = sorted({min(value, width) for value in left["dimension"]})
    if "profile_limit" in left:
        left["profile_limit"] = [value for value in left["profile_limit"] if value / 2 < evaluator.longest]
    if "learner" in left and evaluator.known.shape[1] > EASE_ITEMS // 2:
        left["learner"] = ["cooccurrence"]
    return {name: values for name, values in left.items() if len(values) > 1}
