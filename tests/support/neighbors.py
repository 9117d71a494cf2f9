"""The formulas of the item neighbours, computed densely from a reference; it shares no code with recdb."""

from typing import Any

import numpy as np
from support import reference


def rows_to_learn_from(learned: reference.Reference) -> tuple[reference.Array, reference.Array]:
    """W with one row per user, and below it sqrt(session weight) W with one row per session, (rows, items), and how
    often each row counts.

    A user's row has at most the mass of 90 % of the users, and a user's sessions at most 2 % of the mass of all. Only
    EASE has rows for sessions of one item; they have limits of their own.
    """
    weights, seconds = learned.learned_from("item_weight_exponent"), learned.profiles.seconds
    exponent = learned.params["item_user_exponent"]
    rows = reference.limit_masses(weights, exponent, 0.9)
    counts = np.ones(len(rows))
    if len(np.unique(seconds[weights != 0])) == 1 or learned.params["session_weight"] == 0:
        return rows, counts
    sessions: list[reference.Array] = []
    owners: list[int] = []
    for user, (profile, times) in enumerate(zip(weights, seconds, strict=True)):
        last = -np.inf
        for item in sorted(np.flatnonzero(profile), key=lambda item: float(times[item])):
            if times[item] - last > learned.params["session_gap"]:
                sessions.append(np.zeros(len(profile)))
                owners.append(user)
            sessions[-1][item] = np.sqrt(learned.params["session_weight"]) * profile[item]
            last = times[item]
    lengths = (np.array(sessions) != 0).sum(axis=1)
    users = int((weights != 0).any(axis=1).sum())
    for chosen in (lengths > 1, lengths == 1) if learned.params["learner"] == "ease" else (lengths > 1,):
        if chosen.any():
            part, of = np.array(sessions)[chosen], np.unique(np.array(owners)[chosen], return_inverse=True)[1]
            often = reference.session_counts(part, of, users, exponent, 0.02)
            rows, counts = np.vstack([rows, part[often > 0]]), np.r_[counts, often[often > 0]]
    return rows, counts


def spectrum(learned: reference.Reference) -> tuple[reference.Array, reference.Array]:
    """The eigenvectors and eigenvalues of P = R'R, R = sqrt(c) D_r^-a W D_i^-b, of which those of rank are kept."""
    (rows, counts), params = rows_to_learn_from(learned), learned.params
    by_row = np.sqrt(counts) * reference.inverse_power(np.abs(rows).sum(axis=1), params["item_user_exponent"])
    middle = (params["source_exponent"] + params["target_exponent"]) / 2
    scaled = by_row[:, None] * rows * reference.inverse_power(counts @ np.abs(rows), middle)
    eigenvalues, vectors = np.linalg.eigh(scaled.T @ scaled)
    order = np.argsort(eigenvalues)[::-1][: params["spectral_rank"]]
    order = order[eigenvalues[order] > 1e-8 * eigenvalues.max()]
    return vectors[:, order], eigenvalues[order]


def response(eigenvalues: reference.Array, params: dict[str, Any]) -> reference.Array:
    """h of each filter, for eigenvalues in units of the largest."""
    weight, power = params["spectral_weight"], params["spectral_power"]
    one: reference.Array = np.ones(len(eigenvalues))
    plateau = np.array([0.5 - 0.5 * abs(1 - 2 * each) ** power * (1 if each < 0.5 else -1) for each in eigenvalues])
    return {
        "ideal": weight * one,
        "second-order": -weight * eigenvalues**2,
        "chebyshev": plateau - eigenvalues + weight,
        "ridge": eigenvalues / (1 + weight * eigenvalues) - eigenvalues,
    }[params["spectral_filter"]]


def cooccurrences(learned: reference.Reference) -> reference.Array:
    """N_ji = (d_j^-x d_i^-y sum_r c_r d_r^-2a W_rj W_ri)^s + u^s d_j^-e (V h(l / u) V')_ji d_i^e, e = (x - y) / 2."""
    (rows, counts), params = rows_to_learn_from(learned), learned.params
    item_sums = counts @ np.abs(rows)
    by_row = counts * reference.inverse_power(np.abs(rows).sum(axis=1), 2 * params["item_user_exponent"])
    by_source = reference.inverse_power(item_sums, params["source_exponent"])
    by_target = reference.inverse_power(item_sums, params["target_exponent"])
    together = by_source[:, None] * (rows.T @ (by_row[:, None] * rows)) * by_target
    expected = reference.signed_power(together, params["cooccurrence_power"])
    itself = learned.self_weight * np.diag(expected)
    if params["spectral_weight"]:
        vectors, eigenvalues = spectrum(learned)
        half = (params["source_exponent"] - params["target_exponent"]) / 2
        filtered = (vectors * response(eigenvalues / eigenvalues.max(), params)) @ vectors.T
        filtered *= eigenvalues.max() ** params["cooccurrence_power"]
        first = expected.copy()
        expected += (
            reference.inverse_power(item_sums, half)[:, None] * filtered * reference.inverse_power(item_sums, -half)
        )
        if (rows < 0).any():
            # With dislikes, a filter turns no sign, and links no items that never occur together.
            expected[expected * first <= 0] = 0
    np.fill_diagonal(expected, itself)
    return expected


def ease(learned: reference.Reference) -> reference.Array:
    """N_ji = -P_ji / P_ii, P = (A'A + lambda I + p / (1 - p) diag(A'A))^-1, A = sqrt(c) D_r^-a W D_i^-y; lambda in
    units of the mean diagonal."""
    (rows, counts), params = rows_to_learn_from(learned), learned.params
    by_row = np.sqrt(counts) * reference.inverse_power(np.abs(rows).sum(axis=1), params["item_user_exponent"])
    item_sums = counts @ np.abs(rows)
    by_item = reference.inverse_power(item_sums, params["target_exponent"])
    scaled = by_row[:, None] * rows * by_item
    gram = scaled.T @ scaled
    regularization = params["ease_regularization"] * np.diag(gram)[item_sums > 0].mean()
    dropped = params["ease_dropout"] / (1 - params["ease_dropout"]) * np.diag(np.diag(gram))
    precision = np.linalg.inv(gram + regularization * np.eye(len(gram)) + dropped)
    expected = -precision / np.diag(precision)
    np.fill_diagonal(expected, 0)
    np.fill_diagonal(expected, learned.self_weight * np.abs(expected).max(axis=1))
    return expected
