"""The figures of an experiment, with intervals that hold at every look.

The unit is the user. A rate is a ratio of two sums over users, followed impressions by impressions, so its error comes
from the delta method (Deng, Knoblich and Lu 2018, Applying the Delta Method in Metric Analytics).

A usual 95 % interval holds at one look that was planned. Whoever looks every day and stops at the first difference
finds one in most experiments without any. The intervals here are asymptotic confidence sequences (Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas 2021, Time-uniform central limit theory, theorem 2.2): with 95 % they hold at all looks
together, so one may look at any time, and stop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.05
PLANNED_USERS = 10_000
"""The number of users at which the intervals are as narrow as they can be; they hold at any number."""
LEAST_USERS = 100
LEAST_CONVERTED = 10
"""A variant with fewer users, or fewer of them who followed an impression, has no interval: the sums are not normal."""
CONCENTRATION = 100.0
"""How close to the planned split the mixture of other splits is: those of so many users drawn by the planned one."""
MISMATCH = 0.001
"""A split of users that is less likely than this under the planned shares is a mistake somewhere."""


@dataclass(frozen=True)
class Sums:
    """Sums over the users of a variant: x impressions and y followed impressions of each."""

    users: int
    x: float
    xx: float
    converted: int = 0
    """How many users followed at least one impression."""
    y: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    @property
    def rate(self) -> float:
        """Followed impressions by impressions."""
        return self.y / self.x if self.x else 0.0

    @property
    def error(self) -> float:
        """The standard error of the rate, by the delta method; infinite for fewer than two users."""
        if self.users < 2 or not self.x:
            return math.inf
        squares = max(0.0, self.yy - 2 * self.rate * self.xy + self.rate**2 * self.xx)
        return math.sqrt(squares * self.users / (self.users - 1)) / self.x

    @property
    def is_enough(self) -> bool:
        """Whether the sums are large enough for an interval."""
        return self.users >= LEAST_USERS and self.converted >= LEAST_CONVERTED


@dataclass(frozen=True)
class Range:
    """An estimate with the ends of its always-valid interval."""

    value: float
    low: float
    high: float


def radius(error: float, users: int, alpha: float = ALPHA, planned: int = PLANNED_USERS) -> float:
    """Return half the width of the always-valid interval of an estimate from so many users with this standard error."""
    spread = (2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha))) / planned * users
    return error * math.sqrt((1 + 1 / spread) * (math.log(1 + spread) + 2 * math.log(1 / alpha)))


def rate_range(sums: Sums, alpha: float = ALPHA) -> Range | None:
    """Return a variant's rate with its interval; None if there are too few users."""
    if not sums.is_enough:
        return None
    half = radius(sums.error, sums.users, alpha)
    return Range(sums.rate, max(0.0, sums.rate - half), min(1.0, sums.rate + half))


def difference(control: Sums, other: Sums, alpha: float = ALPHA) -> Range | None:
    """Return by how much a variant's rate differs from the control's, with its interval; None with too few users."""
    if not (control.is_enough and other.is_enough):
        return None
    half = radius(math.hypot(control.error, other.error), control.users + other.users, alpha)
    value = other.rate - control.rate
    return Range(value, value - half, value + half)


def split_chance(users: Sequence[int], weights: Sequence[float]) -> float:
    """Return the p-value that users were split by these weights, which holds at every look: a sample-ratio mismatch.

    It is 1 by the Bayes factor of a mixture of splits, drawn from a Dirichlet distribution around the planned one,
    against the planned split (Lindon and Malek 2022, Anytime-valid inference for multinomial count data, NeurIPS 35).
    If users come as planned, the probability that it is ever p or less, at any look, is at most p.
    """
    whole = sum(weights)
    prior = [CONCENTRATION * weight / whole for weight in weights]
    log_factor = math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + sum(users))
    for seen, due, weight in zip(users, prior, weights, strict=True):
        log_factor += math.lgamma(due + seen) - math.lgamma(due) - seen * math.log(weight / whole)
    return math.exp(-max(0.0, log_factor))
