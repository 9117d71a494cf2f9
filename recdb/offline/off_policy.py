"""The rate at which users would have followed other lists, estimated from logged ones.

Where the log shows an item at a place with a known probability, its propensity, and the other list has the same item at
the same place, the impression stands for 1 / propensity of them; every other impression stands for none. So the mean of
the weighted outcomes is an unbiased estimate for the other lists, if each item that they have could have been shown
there, and if whether a user follows an item depends on item and place alone (Horvitz and Thompson 1952; Li et al. 2018,
Offline evaluation of ranking policies with click models). The self-normalised estimate divides by the sum of the
weights instead of by their expected sum: slightly biased, and much steadier (Swaminathan and Joachims 2015).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A rate with its 95 % interval, where users are the unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """The estimated rate of other lists, and how far to trust it."""

    users: int
    impressions: int
    logged: Estimate
    """The rate of the logged lists."""
    ips: Estimate
    """The rate of the other lists by inverse propensities."""
    snips: Estimate
    """The same, self-normalised."""
    matched: int
    """How many logged impressions the other lists have at the same place."""
    effective: float
    """The effective sample size: so many impressions with equal weights are as precise."""
    overlap: float
    """The mean weight: about 1 if the log could have shown all that the other lists have."""


def estimate_lists(
    users: NDArray[np.integer],
    followed: NDArray[np.bool_],
    propensities: NDArray[np.floating],
    matches: NDArray[np.bool_],
) -> OffPolicy:
    """Estimate the rate of other lists; all arrays have one entry for each logged impression."""
    _, owners = np.unique(users, return_inverse=True)
    weights = np.where(matches, 1 / propensities.astype(np.float64), 0.0)
    gains = weights * followed
    ones = np.ones(len(owners))
    total, squares = float(weights.sum()), float((weights**2).sum())
    return OffPolicy(
        users=int(owners.max(initial=-1)) + 1,
        impressions=len(owners),
        logged=_ratio(owners, followed.astype(np.float64), ones),
        ips=_ratio(owners, gains, ones),
        snips=_ratio(owners, gains, weights),
        matched=int(np.count_nonzero(matches)),
        effective=total**2 / squares if squares else 0.0,
        overlap=total / len(owners) if len(owners) else 0.0,
    )


def _ratio(
    owners: NDArray[np.integer], numerators: NDArray[np.floating], denominators: NDArray[np.floating]
) -> Estimate:
    """Return the ratio of two sums, with its interval by the delta method over the owners."""
    whole = float(denominators.sum())
    if not whole:
        return Estimate(math.nan, math.nan, math.nan)
    value = float(numerators.sum()) / whole
    rests = np.bincount(owners, weights=numerators - value * denominators)
    count = len(rests)
    error = math.sqrt(float((rests**2).sum()) * count / max(1, count - 1)) / whole if count > 1 else math.inf
    # It is a rate, whose interval has no end beyond 0 and 1. The value of IPS may be beyond.
    low, high = (min(1.0, max(0.0, value + sign * Z * error)) for sign in (-1, 1))
    return Estimate(value, low, high)
