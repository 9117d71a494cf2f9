"""The estimated rate of a model version that was never served, from logged impressions with propensities."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from recdb.errors import RecdbError
from recdb.offline.off_policy import OffPolicy, estimate_lists

LEAST_EFFECTIVE = 100.0
LEAST_OVERLAP, MOST_OVERLAP = 0.8, 1.25


@dataclass(frozen=True)
class VersionEstimate:
    """The estimate of a version, and the reasons to doubt it."""

    model: str
    found: OffPolicy
    doubts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as `recdb experiment estimate --json` prints it."""
        rates = {
            name: {"rate": each.value, "low": each.low, "high": each.high} if each.value == each.value else None
            for name, each in (("logged", self.found.logged), ("ips", self.found.ips), ("snips", self.found.snips))
        }
        return {
            "model_version": self.model,
            "users": self.found.users,
            "impressions": self.found.impressions,
            "matched": self.found.matched,
            "effective_sample_size": self.found.effective,
            "overlap": self.found.overlap,
            **rates,
            "doubts": list(self.doubts),
        }


def estimate_version(
    connection: psycopg.Connection,
    model: str,
    *,
    scenario: str | None = None,
    since: datetime | None = None,
    kind: str | None = None,
    attribution: timedelta | None = None,
    pages: int = 2000,
) -> VersionEstimate:
    """Estimate the rate at which users would follow the lists of a version; see recdb.logged_outcomes().

    Raises psycopg's UndefinedObject for an unknown version, and RecdbError if there are no impressions with
    propensities.
    """
    rows = connection.execute(
        "select user_key, followed, propensity, matches "
        "from recdb.logged_outcomes(%s::text, %s::text, %s::timestamptz, %s::text, %s::interval, %s::bigint)",
        [model, scenario, since, kind, attribution, pages],
    ).fetchall()
    if not rows:
        raise RecdbError(
            f"no impressions with propensities were recorded since {model} was trained",
            "record them: select recdb.impressions(..., propensities => ...); or name an earlier time with --since",
        )
    users, followed, propensities, matches = (np.array(column) for column in zip(*rows, strict=True))
    found = estimate_lists(users, followed, propensities, matches)
    return VersionEstimate(model, found, tuple(doubts_of(found)))


def doubts_of(found: OffPolicy) -> list[str]:
    """Say why an estimate is not to be trusted."""
    doubts = []
    if found.ips.value > 1:
        doubts.append("IPS is above 100 %, which no rate is: read SNIPS")
    if found.effective < LEAST_EFFECTIVE:
        doubts.append(
            f"the effective sample size is {found.effective:.0f}: too few logged impressions are like the version's"
        )
    if found.overlap < LEAST_OVERLAP:
        doubts.append(
            f"the log could not have shown all of the version's items: the mean weight is {found.overlap:.2f}, not 1"
        )
    elif found.overlap > MOST_OVERLAP:
        doubts.append(f"the propensities are too small: the mean weight is {found.overlap:.2f}, and should be 1")
    return doubts
