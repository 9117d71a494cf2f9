"""Limits on the share of one user in the lists of others.

A crawler, a shared account or an import does thousands of interactions under one user id. If each of them counted like
anybody's, that one id would decide which items belong together, and the lists of all others would follow it. So the
job limits each user by the common behaviour of users in the same database: nobody counts for more than the most
active few in a hundred. No list of bad ids is needed, and a normal user is below every limit.

A user's part in the co-occurrences of items is called its mass here: the sum over all pairs of different items of
d_r^-2a W_rj W_ri, over the user's row and its sessions' rows r, with d the row sums. The constants were chosen on
validation parts of several data sets, with and without bots added.
"""

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
USER_QUANTILE = 0.95
"""A user's row has at most this quantile of the users' masses."""
NEIGHBOR_QUANTILE = 0.95
"""As a neighbour, a user gives at most this quantile of the weights that users give."""
BASIS_QUANTILE = 0.98
"""In the decomposition, a user's row has at most this quantile of the masses."""
SESSION_SHARE = 0.02
"""All sessions of one user have at most this share of the mass of all sessions. It is a share and no quantile, because
in sparse shops the few most active users make most of the sessions, and others' lists are better for them."""


def rows_to_learn_from(
    known: Interactions, exponent: float, user_exponent: float, session_weight: float, session_gap: float
) -> sparse.csr_array:
    """Return W to the exponent with a row for each session below the users' rows, (users + sessions, items).

    The session rows are scaled so that they count `session_weight` times as much in W'W as the users' rows. Where no
    times are known, or that is 0, the users' rows are returned alone. Then the rows are limited; `user_exponent` is a.
    """
    users = known.matrix(exponent)
    limited = limit_users(users, user_exponent)
    if session_weight == 0 or len(known.seconds) == 0 or known.seconds.min() == known.seconds.max():
        return limited
    numbers = known.sessions(session_gap)
    owners = np.zeros(int(numbers.max()) + 1, dtype=np.int64)
    owners[numbers] = known.users
    data = users.data * np.float32(session_weight**0.5)
    sessions = sparse.csr_array((data, (numbers, known.items)), shape=(len(owners), known.shape[1]))
    return sparse.vstack([limited, limit_sessions(sessions, owners, user_exponent)], format="csr")


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
    """Scale down the users' rows, (users, items), whose mass is above a quantile; `exponent` is a."""
    mass = masses(users, exponent)
    return scale_rows(users, factors(mass, quantile(mass, share), exponent))


def limit_sessions(sessions: sparse.csr_array, owners: NDArray[np.integer], exponent: float) -> sparse.csr_array:
    """Scale down the sessions' rows, (sessions, items), of the users who have more than their share of the mass.

    `owners` (sessions,) are the users, `exponent` is a.
    """
    mass: Float64 = np.bincount(owners, masses(sessions, exponent)).astype(np.float64)
    mass_of_users = mass[np.unique(owners)]
    return scale_rows(sessions, factors(mass, share_limit(mass_of_users, SESSION_SHARE), exponent)[owners])


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
    if exponent > 0.99:  # such rows are normalized already
        return np.ones(len(mass), dtype=np.float32)
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
