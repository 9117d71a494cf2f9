"""The figures of an experiment, read from the database and compared with its control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from recdb.errors import RecdbError
from recdb.offline.always_valid import ALPHA, Range, Sums, difference, rate_range, split_chance


@dataclass(frozen=True)
class Arm:
    """A variant of an experiment, and how many users got it."""

    name: str
    weight: float
    model: str | None
    scenario: str | None
    users: int
    impressions: int


@dataclass(frozen=True)
class Comparison:
    """How users of a variant followed impressions by one kind of interaction, beside the control's."""

    kind: str
    variant: str
    touched: int
    rate: float
    interval: Range | None
    """None if there are too few users."""
    change: Range | None
    """The rate minus the control's; None for the control, and if there are too few users."""

    @property
    def verdict(self) -> str:
        """Whether the rate is surely `higher` or `lower` than the control's; else `open`, or empty for the control."""
        if self.change is None:
            return ""
        return "higher" if self.change.low > 0 else "lower" if self.change.high < 0 else "open"


@dataclass(frozen=True)
class Figures:
    """An experiment with all its figures."""

    name: str
    scenario: str
    started_at: datetime | None
    stopped_at: datetime | None
    control: str
    arms: Sequence[Arm]
    split: float
    """The p-value of the users' split under the planned shares."""
    crossed: int
    """How many users were shown several variants; they count nowhere."""
    comparisons: Sequence[Comparison]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as `recdb experiment show --json` prints them."""
        whole = sum(arm.weight for arm in self.arms)
        return {
            "name": self.name,
            "scenario": self.scenario,
            "started_at": self.started_at and self.started_at.isoformat(),
            "stopped_at": self.stopped_at and self.stopped_at.isoformat(),
            "control": self.control,
            "alpha": ALPHA,
            "variants": [
                {
                    "name": arm.name,
                    "share": arm.weight / whole,
                    "model_version": arm.model,
                    "scenario": arm.scenario,
                    "users": arm.users,
                    "impressions": arm.impressions,
                }
                for arm in self.arms
            ],
            "split_p_value": self.split,
            "crossed_users": self.crossed,
            "kinds": [
                {"kind": each.kind, "variant": each.variant, "touched": each.touched, "rate": each.rate}
                | _ends("rate", each.interval)
                | {"change": each.change and each.change.value}
                | _ends("change", each.change)
                | {"verdict": each.verdict or None}
                for each in self.comparisons
            ],
        }


def _ends(name: str, found: Range | None) -> dict[str, float | None]:
    return {f"{name}_low": found.low if found else None, f"{name}_high": found.high if found else None}


def read_experiments(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Read all experiments, the newest first."""
    names = ("name", "scenario", "started_at", "stopped_at", "variants")
    rows = connection.execute(
        """
        select e.name, e.scenario, e.started_at, e.stopped_at,
            array(select v.name from recdb.experiment_variant v where v.experiment = e.name order by v.name)
        from recdb.experiment e
        order by e.started_at desc nulls first, e.name
        """
    )
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def read_figures(connection: psycopg.Connection, name: str, attribution: timedelta | None) -> Figures:
    """Read the figures of an experiment; an interaction counts for `attribution` after an impression, or a day."""
    row = connection.execute(
        "select scenario, started_at, stopped_at from recdb.experiment where name = %s", [name]
    ).fetchone()
    if row is None:
        known = ", ".join(each["name"] for each in read_experiments(connection))
        raise RecdbError(f"there is no experiment {name}", f"the experiments: {known or 'none'}")
    sums = read_sums(connection, name, attribution)
    rows = connection.execute(
        "select name, weight, model_version, scenario from recdb.experiment_variant where experiment = %s "
        'order by model_version is not null or scenario is not null, name collate "C"',
        [name],
    ).fetchall()
    arms = []
    for variant, weight, model, steering in rows:
        base = sums.get((variant, None), Sums(0, 0, 0))
        arms.append(Arm(variant, float(weight), model, steering, base.users, int(base.x)))
    crossed = sums.get((None, None))
    chance = split_chance([arm.users for arm in arms], [arm.weight for arm in arms]) if len(arms) > 1 else 1.0
    place, started, stopped = row
    return Figures(
        name=name,
        scenario=place,
        started_at=started,
        stopped_at=stopped,
        control=arms[0].name if arms else "",
        arms=arms,
        split=chance,
        crossed=crossed.users if crossed else 0,
        comparisons=compare(arms, sums),
    )


def read_sums(
    connection: psycopg.Connection, name: str, attribution: timedelta | None
) -> Mapping[tuple[str | None, str | None], Sums]:
    """Read the sums over users by variant and kind; kind None is all users, variant None those who count nowhere."""
    rows = connection.execute(
        "select variant, kind, users, impressions, touched, xx, yy, xy from recdb.experiment_sums(%s, %s)",
        [name, attribution],
    ).fetchall()
    base = {row[0]: row for row in rows if row[1] is None}
    sums: dict[tuple[str | None, str | None], Sums] = {}
    for variant, kind, users, impressions, touched, xx, yy, xy in rows:
        if kind is None:
            sums[variant, None] = Sums(users, impressions or 0, xx or 0)
        else:
            _, _, everybody, shown, _, squares, _, _ = base[variant]
            sums[variant, kind] = Sums(everybody, shown, squares, users, touched, yy, xy)
    return sums


def compare(arms: Sequence[Arm], sums: Mapping[tuple[str | None, str | None], Sums]) -> list[Comparison]:
    """Compare every variant with the first one, for each kind. With several others, each gets a part of alpha."""
    found = []
    alpha = ALPHA / max(1, len(arms) - 1)
    for kind in sorted({kind for _, kind in sums if kind is not None}):
        of_arm = []
        for arm in arms:
            empty = sums.get((arm.name, None), Sums(0, 0, 0))
            of_arm.append(sums.get((arm.name, kind), empty))
        for place, (arm, mine) in enumerate(zip(arms, of_arm, strict=True)):
            change = difference(of_arm[0], mine, alpha) if place else None
            found.append(Comparison(kind, arm.name, int(mine.y), mine.rate, rate_range(mine), change))
    return found
