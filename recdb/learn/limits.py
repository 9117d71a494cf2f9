"""Limits on the share of one user in the lists of others.

A crawler, a shared account or an import does thousands of interactions under one user id. If each of them counted like
anybody's, that one id would decide which items belong together, and the lists of all others would follow it. So the
job limits each user by the common behaviour of users in the same database: nobody counts for more than the most
active few in a hundred. No list of bad ids is needed, and a normal user is below every limit.

A user's part in the co-occurrences of items is called its mass here: the sum over all pairs of different items of
d_r^-2a W_rj W_ri, over the user's row and its sessions' rows r, with d the row sums. The constants were chosen on
validation parts of several data sets, with and without bots added.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import (
    Float32,
    Float64,
    Interactions,
    absolute_sums,
    inverse_power,
    row_numbers,
    scale_rows,
)

PAIR_QUANTILE = 0.9
"""One user's weight for one item counts at most as much as this quantile of the users' largest weights."""
USER_QUANTILE = 0.9
"""A user's row has at most this quantile of the users' masses."""
NEIGHBOR_QUANTILE = 0.95
"""As a neighbour, a user gives at most this quantile of the weights that users give."""
BASIS_QUANTILE = 0.98
"""In the decomposition, a user's row has at most this quantile of the masses."""
SESSION_SHARE = 0.02
"""All sessions of one user have at most this share of the mass of all sessions. It is a share and no quantile, because
in sparse shops the few most active users make most of the sessions, and others' lists are better for them."""


@dataclass(frozen=True)
class Rows:
    """The rows that item neighbours are learned from: the users' rows, and a row for each session below them."""

    weights: sparse.csr_array
    """(rows, items)."""
    counts: Float32
    """(rows,): a row counts this often, from 0 to 1. Unlike a factor on its weights, this works for any exponent a."""
    users: int | None = None
    """The number of users' rows; None if there are no others."""

    def of_users(self) -> sparse.csr_array:
        """Return the users' rows, (users, items)."""
        return self.weights[: self.users]

    def item_sums(self) -> Float64:
        """Return the items' sums of absolute weights, (items,), each row as often as it counts."""
        return absolute_sums(scale_rows(self.weights, self.counts))[1]


def rows_to_learn_from(
    known: Interactions,
    exponent: float,
    user_exponent: float,
    session_weight: float,
    session_gap: float,
    *,
    alone: bool = False,
) -> Rows:
    """Return W to the exponent with a row for each session below the users' rows, (users + sessions, items).

    The session rows are scaled so that they count `session_weight` times as much in W'W as the users' rows. Where no
    times are known, or that is 0, the users' rows are returned alone. Then the rows are limited; `user_exponent` is a.

    A session of one item says nothing about which items belong together. It has a row only with `alone`: EASE trusts an
    item more, the more often it occurs.
    """
    users = known.matrix(exponent)
    limited = limit_users(users, user_exponent)
    weights, counts = [limited], [np.ones(users.shape[0], dtype=np.float32)]
    if session_weight > 0 and len(known.seconds) and known.seconds.min() < known.seconds.max():
        numbers = known.sessions(session_gap)
        single = np.bincount(numbers)[numbers] == 1
        everybody = np.unique(known.users)
        for chosen in (~single, single) if alone else (~single,):
            _, places, numbered = np.unique(numbers[chosen], return_index=True, return_inverse=True)
            entries = (users.data[chosen] * np.float32(session_weight**0.5), (numbered, known.items[chosen]))
            sessions = sparse.csr_array(entries, shape=(len(places), known.shape[1]))
            often = session_counts(sessions, known.users[chosen][places], everybody, user_exponent)
            weights.append(sessions[np.flatnonzero(often)])
            counts.append(often[often > 0])
    return Rows(sparse.vstack(weights, format="csr"), np.concatenate(counts), users.shape[0])


def pair_limit(known: Interactions) -> float:
    """Return the most that one user's weight for one item may count."""
    largest = np.zeros(known.shape[0], dtype=np.float64)
    np.maximum.at(largest, known.users, np.abs(known.weights))
    return quantile(largest, PAIR_QUANTILE)


def neighbor_limit(neighbor_weights: sparse.csr_array) -> float:
    """Return the largest sum of absolute weights that a user may give as a neighbour; `neighbor_weights` has a row
    for each user, (users, items)."""
    return quantile(absolute_sums(neighbor_weights)[0], NEIGHBOR_QUANTILE)


def limit_sums(rows: sparse.csr_array, limit: float) -> sparse.csr_array:
    """Scale down the rows whose absolute sum is above a limit."""
    sums, _ = absolute_sums(rows)
    return scale_rows(rows, np.divide(limit, sums, out=np.ones(len(sums)), where=sums > limit).astype(np.float32))


def limit_users(users: sparse.csr_array, exponent: float, share: float = USER_QUANTILE) -> sparse.csr_array:
    """Scale down the users' rows, (users, items), whose mass is above a quantile; `exponent` is a.

    Where the rows are divided by their sums, all masses are alike. Then the sums are limited, which the items' sums
    hold.
    """
    if exponent > 0.9:
        return limit_sums(users, quantile(absolute_sums(users)[0], share))
    mass = masses(users, exponent)
    return scale_rows(users, factors(mass, quantile(mass, share), exponent))


def session_counts(
    sessions: sparse.csr_array, owners: NDArray[np.integer], everybody: NDArray[np.integer], exponent: float
) -> Float32:
    """Return how often each session's row counts, (sessions,).

    `owners` (sessions,) are the users, `everybody` (users,) those who may have none, `exponent` is a. A session counts
    less than once if its sum is below that of a usual session: the division by the sum would make a pair of items in a
    small session worth many pairs in usual ones. All sessions of a user who has more than a share of the mass count
    less.
    """
    sums, _ = absolute_sums(sessions)
    counts = np.minimum(1, sums / usual_sum(sums, owners)) ** (2 * exponent)
    of_session = counts * sums**2 * inverse_power(sums, 2 * exponent, np.float64)
    mass: Float64 = np.bincount(owners, of_session, minlength=int(everybody.max()) + 1).astype(np.float64)
    limit = share_limit(mass[everybody], SESSION_SHARE)
    of_user = np.divide(limit, mass, out=np.ones(len(mass)), where=mass > limit)
    found: Float32 = (counts * of_user[owners]).astype(np.float32)
    return found


def usual_sum(sums: Float64, owners: NDArray[np.integer]) -> float:
    """Return the sum of a usual session: the median over users of the mean of their sessions' sums, weighted by
    these."""
    total, squares = np.bincount(owners, sums), np.bincount(owners, sums**2)
    return quantile(np.divide(squares, total, out=np.zeros(len(total)), where=total > 0), 0.5)


def masses(rows: sparse.csr_array, exponent: float) -> Float64:
    """Return the rows' masses: d^-2a (d^2 - the sum of squares)."""
    sums, _ = absolute_sums(rows)
    squares = np.bincount(row_numbers(rows), rows.data.astype(np.float64) ** 2, minlength=rows.shape[0])
    pairs = sums**2 - squares
    pairs[pairs < 1e-9 * sums**2] = 0  # rounding: the row has one item
    found: Float64 = pairs * inverse_power(sums, 2 * exponent, np.float64)
    return found


def factors(mass: Float64, limit: float, exponent: float) -> Float32:
    """Return the factor for each row that brings its mass down to a limit: a factor s scales a mass by s^(2 - 2a)."""
    ratio = np.divide(limit, mass, out=np.ones(len(mass)), where=mass > limit)
    return (ratio ** (1 / (2 - 2 * exponent))).astype(np.float32)


def quantile(values: Float64, share: float) -> float:
    """Return a quantile of the positive values, infinity where there are none."""
    positive = values[values > 0]
    return float(np.quantile(positive, share)) if len(positive) else np.inf


def share_limit(values: Float64, share: float) -> float:
    """Return the limit c at which no value, cut to c, has more than a share of the sum of all values cut to c.

    Where fewer than 1 / share values are positive there is no such limit. Then it is the median of all values: 0 where
    most are 0, since so few say nothing about the others.
    """
    positive = np.sort(values[values > 0])[::-1]
    if len(positive) * share <= 1:
        return float(np.median(values)) if len(values) else np.inf
    below = np.append(np.cumsum(positive[::-1])[::-1], 0)  # below[k]: the sum of all but the k largest
    above = np.arange(len(positive) + 1)
    room = 1 - share * above
    limits = np.where(room > 0, share * below / np.where(room > 0, room, 1), np.inf)
    return float(limits[np.flatnonzero(np.append(positive, 0) <= limits)[0]])
