"""Intervals that hold at every look, and estimates for lists that were never served: on users whose truth is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from recdb.experiments.estimate import doubts_of
from recdb.offline.always_valid import (
    ALPHA,
    MISMATCH,
    Sums,
    difference,
    radius,
    rate_range,
    split_chance,
)
from recdb.offline.off_policy import estimate_lists

DAYS = 30


def looks(generator: np.random.Generator, users: int, rate: float, repeats: int) -> list[list[Sums]]:
    """Simulate variants of an experiment: the sums at the end of each day, for each repeat.

    Users differ in taste and in how much they look at, and most come back on other days: their impressions of all days
    are one unit.
    """
    shape = (repeats, users)
    tastes = generator.beta(rate * 4, (1 - rate) * 4, shape)
    begin = generator.integers(0, DAYS, shape)
    busy = generator.gamma(1.5, 2, shape)
    x, y = np.zeros(shape), np.zeros(shape)
    found: list[list[Sums]] = [[] for _ in range(repeats)]
    for day in range(DAYS):
        pages = generator.poisson(busy * (begin <= day) * 0.4)
        pages += begin == day
        x += pages
        y += generator.binomial(pages, tastes)
        for repeat, sums in enumerate(found):
            sums.append(sums_of(x[repeat], y[repeat]))
    return found


def sums_of(x: NDArray[np.floating], y: NDArray[np.floating]) -> Sums:
    there = x > 0
    x, y = x[there], y[there]
    return Sums(
        len(x), float(x.sum()), float(x @ x), int(np.count_nonzero(y)), float(y.sum()), float(y @ y), float(x @ y)
    )


def test_looking_every_day_finds_no_difference_where_none_is() -> None:
    """400 experiments without a difference, looked at every day: the usual interval fails in many of them."""
    repeats = 400
    generator = np.random.default_rng(16)
    control, other = looks(generator, 500, 0.1, repeats), looks(generator, 500, 0.1, repeats)
    usual = wrong = 0
    for one, two in zip(control, other, strict=True):
        ranges = [(difference(a, b), a, b) for a, b in zip(one, two, strict=True)]
        wrong += any(found and not found.low <= 0 <= found.high for found, _, _ in ranges)
        usual += any(found and abs(found.value) > 1.96 * math.hypot(a.error, b.error) for found, a, b in ranges)

    assert wrong / repeats <= ALPHA
    assert usual / repeats > 2 * ALPHA


def test_every_look_covers_the_true_rate() -> None:
    repeats = 300
    wrong = 0
    for sums in looks(np.random.default_rng(3), 600, 0.15, repeats):
        ranges = [rate_range(each) for each in sums]
        wrong += any(found and not found.low <= 0.15 <= found.high for found in ranges)
    assert wrong / repeats <= ALPHA


def test_independent_users_one_after_another_are_covered_at_every_one_of_them() -> None:
    """The worst case for looks: each user comes once, and one looks after each."""
    generator = np.random.default_rng(8)
    wrong, repeats, users = 0, 300, 3000
    for _ in range(repeats):
        values = generator.exponential(1.0, users)
        count = np.arange(1, users + 1)
        mean = np.cumsum(values) / count
        spread = np.sqrt(np.maximum(np.cumsum(values**2) / count - mean**2, 0))
        half = np.array([
            radius(float(s) / math.sqrt(n), int(n)) for s, n in zip(spread[100:], count[100:], strict=True)
        ])  # fmt: skip
        wrong += bool(np.any(np.abs(mean[100:] - 1) > half))
    assert wrong / repeats <= ALPHA


def test_a_true_difference_is_found() -> None:
    generator = np.random.default_rng(5)
    control, better = looks(generator, 1500, 0.1, 20), looks(generator, 1500, 0.14, 20)
    found = [difference(one[-1], two[-1]) for one, two in zip(control, better, strict=True)]
    assert sum(bool(each and each.low > 0) for each in found) >= 18
    assert np.mean([each.value for each in found if each]) == pytest.approx(0.04, abs=0.01)


def test_few_users_have_no_interval() -> None:
    assert rate_range(Sums(99, 500, 3000, 50, 60, 80, 300)) is None
    assert rate_range(Sums(5000, 50_000, 600_000, 9, 9, 9, 90)) is None
    assert difference(Sums(0, 0, 0), Sums(5000, 50_000, 600_000, 500, 600, 900, 6000)) is None
    assert Sums(1, 5, 25).error == math.inf


def test_a_split_that_is_not_the_planned_one_is_noticed() -> None:
    assert split_chance([5000, 5080], [1, 1]) > 0.1
    assert split_chance([5000, 5500], [1, 1]) < MISMATCH
    assert split_chance([9000, 1010], [0.9, 0.1]) > 0.1
    assert split_chance([300_000, 100_000, 102_000], [3, 1, 1]) < MISMATCH
    assert split_chance([0, 0], [1, 1]) == 1
    # By hand, of two users: the mixture gives both to the first variant with the chance 50 / 100 * 51 / 101, and the
    # plan with 1/4. One each is less probable by the mixture.
    assert split_chance([1, 1], [1, 1]) == 1
    assert split_chance([2, 0], [1, 1]) == pytest.approx(0.25 * 100 * 101 / (50 * 51))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (9.0, 1.0), (2.0, 1.0, 1.0)])
def test_looking_after_every_user_finds_no_wrong_split_where_none_is(weights: tuple[float, ...]) -> None:
    """The usual test of one look finds one in many experiments, if one looks after each hundred users."""
    generator = np.random.default_rng(11)
    repeats, shares = 400, np.array(weights) / sum(weights)
    wrong = usual = 0
    for _ in range(repeats):
        arms = generator.choice(len(weights), 10_000, p=shares)
        counts = np.cumsum(np.eye(len(weights), dtype=int)[arms], axis=0)[99::100]
        wrong += any(split_chance(row.tolist(), weights) <= ALPHA for row in counts)
        due = counts.sum(axis=1, keepdims=True) * shares
        usual += bool(np.any(((counts - due) ** 2 / due).sum(axis=1) > {2: 3.84, 3: 5.99}[len(weights)]))
    assert wrong / repeats <= ALPHA
    assert usual / repeats > 2 * ALPHA


# Off-policy estimates -----------------------------------------------------------------------------------------

ITEMS, PLACES = 30, 5


def simulate_log(generator: np.random.Generator, pages: int, greedy: float) -> tuple[dict[str, NDArray], float]:
    """Log pages of a policy that shows its own best item at each place, and any item else; return the truth too.

    The other policy ranks the items by something closer to the truth, which the log knows nothing of.
    """
    appeal = generator.beta(1.5, 8, ITEMS)
    attention = 1 / np.log2(np.arange(PLACES) + 2)
    own = np.argsort(generator.normal(size=ITEMS))[:PLACES]
    other = np.argsort(-appeal + generator.normal(0, 0.03, ITEMS))[:PLACES]
    users = np.repeat(generator.integers(0, pages // 4, pages), PLACES)
    place = np.tile(np.arange(PLACES), pages)
    shown = np.where(generator.random(len(place)) < greedy, own[place], generator.integers(0, ITEMS, len(place)))
    propensities = np.where(shown == own[place], greedy, 0) + (1 - greedy) / ITEMS
    followed = generator.random(len(place)) < appeal[shown] * attention[place]
    truth = float(np.mean(appeal[other] * attention))
    return {
        "users": users, "followed": followed, "propensities": propensities, "matches": shown == other[place]
    }, truth  # fmt: skip


def test_estimates_reach_the_truth_of_lists_that_were_never_served() -> None:
    generator = np.random.default_rng(4)
    ips, snips, covered, logged = [], [], 0, []
    for _ in range(60):
        log, truth = simulate_log(generator, 4000, 0.5)
        found = estimate_lists(**log)
        ips.append(found.ips.value - truth)
        snips.append(found.snips.value - truth)
        logged.append(found.logged.value - truth)
        covered += found.snips.low <= truth <= found.snips.high
        assert found.overlap == pytest.approx(1, abs=0.2)
        assert 0 < found.effective <= found.matched <= found.impressions == 20_000

    assert abs(np.mean(ips)) < 0.01 and abs(np.mean(snips)) < 0.01
    assert abs(np.mean(logged)) > 0.05
    assert covered >= 54


def test_the_log_itself_has_the_rate_of_the_log() -> None:
    log, _ = simulate_log(np.random.default_rng(1), 500, 0.5)
    log |= {"matches": np.ones(2500, dtype=bool), "propensities": np.ones(2500)}
    found = estimate_lists(**log)

    assert found.ips == found.snips == found.logged
    assert (found.overlap, found.effective) == (1, 2500)


def test_the_interval_of_a_rate_ends_at_one() -> None:
    log, _ = simulate_log(np.random.default_rng(1), 500, 0.5)
    found = estimate_lists(**(log | {"followed": np.ones(2500, dtype=bool), "propensities": np.full(2500, 0.02)}))

    assert found.ips.value > 1
    assert 0 <= found.ips.low <= found.ips.high <= 1
    assert "IPS is above 100 %, which no rate is: read SNIPS" in doubts_of(found)


def test_lists_that_the_log_never_shows_have_no_estimate() -> None:
    log, _ = simulate_log(np.random.default_rng(1), 500, 0.5)
    found = estimate_lists(**(log | {"matches": np.zeros(2500, dtype=bool)}))

    assert math.isnan(found.snips.value) and (found.effective, found.overlap, found.matched) == (0, 0, 0)
