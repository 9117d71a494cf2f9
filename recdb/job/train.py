"""Training: read the weighted interactions, learn from them, write the learned tables, build their indexes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from recdb.arrays.settings import Settings
from recdb.arrays.weighted import read_interactions
from recdb.database import fetch_row
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.content import add_content
from recdb.job.guard import Figure
from recdb.job.indexes import build_indexes
from recdb.job.memory import sparing
from recdb.job.partitions import (
    Limits,
    create_partitions,
    write_item_neighbors,
    write_item_vectors,
    write_user_vectors,
)
from recdb.learn import Basis, Interactions, ItemNeighbors, Params, fit_basis, fit_item_neighbors
from recdb.learn.limits import BASIS_QUANTILE, limit_users, neighbor_limit, pair_limit, rows_to_learn_from
from recdb.progress import Report


@dataclass(frozen=True)
class Trained:
    """A trained version, written and indexed; readers cannot see it before publish()."""

    model_id: int
    label: str
    began_at: datetime
    """The server's time before the first read."""
    notes: Sequence[str] = ()
    """What was slower than it could be, and what would make it faster; a line for each."""
    taken: Mapping[str, Any] | None = None
    """Where its item half comes from, if it was not learned here."""


def train(
    connection: psycopg.Connection, params: Params, settings: Settings, report: Report, figure: Figure | None = None
) -> Trained:
    """Train a version from the weighted interactions; raise RecdbError if there are none.

    `figure` says how well the setting ranks items that somebody touched.
    """
    began_at = read_clock(connection)
    (last_key,) = fetch_row(connection, "select coalesce(max(t.item_key), 0) from recdb.item_key t")
    report("reading interactions")
    known = sparing(connection, lambda: read_interactions(connection, most=settings.training_interactions), report)
    if not len(known.users):
        raise nothing_to_learn(connection)
    limits = find_limits(known, params, settings)
    known = known.clipped(limits.pair)
    model_id, label = begin_version(connection, known, params, limits)
    reach("tables made")

    basis = learn_basis(known, params, report)
    write_item_vectors(connection, model_id, basis.item_vectors, settings.dimension)
    reach("item vectors written")
    write_user_vectors(connection, model_id, basis, params, limits, settings, report)
    reach("user vectors written")
    if not settings.items_return:
        params = replace(params, self_weight=0.0)
    learned = learn_item_neighbors(known, params, report)
    ndcg = figure.ndcg if figure else None
    learned = add_content(connection, model_id, known, learned, params, settings, last_key, ndcg, report)
    write_item_neighbors(connection, model_id, learned)
    reach("item neighbors written")
    notes = build_indexes(connection, model_id, report)
    reach("indexed")
    return Trained(model_id, label, began_at, notes)


def fit_width(params: Params, settings: Settings) -> Params:
    """Limit the parameters' dimension to the width of the installed vector columns."""
    return replace(params, dimension=min(params.dimension, settings.dimension))


def nothing_to_learn(connection: psycopg.Connection) -> RecdbError:
    """Return the error: there are no interactions, or none has a weight."""
    weighted, counts, most = fetch_row(
        connection,
        "select exists (select from recdb.user_item), exists (select from recdb.user_item w where w.weight <> 0), "
        "c.training_interactions from recdb.config c",
    )
    if counts:
        return RecdbError(
            f"no interactions to learn from: config.training_interactions is {most:,}, too few for any user",
            "update recdb.config set training_interactions = default;",
        )
    if weighted:
        return RecdbError("no interactions to learn from: all of them weigh 0", "see the table recdb.interaction_kind")
    return RecdbError("no interactions to learn from", "run: recdb load, recdb attach, or select recdb.track(...)")


def find_limits(known: Interactions, params: Params, settings: Settings) -> Limits:
    """Return the most that one user counts for in a version."""
    pair = pair_limit(known)
    scored = known.clipped(pair).first(min(params.profile_limit, settings.profile_limit))
    return Limits(pair, neighbor_limit(scored.matrix(params.neighbor_weight_exponent)))


def begin_version(
    connection: psycopg.Connection, known: Interactions, params: Params, limits: Limits
) -> tuple[int, str]:
    """Create a version's row and its tables; return its id and its label."""
    with connection.transaction():
        model_id, label = fetch_row(
            connection,
            """
            insert into recdb.model (
                label, params, users, items, interactions, half_life, decay_origin, pair_limit, neighbor_limit)
            select 'collaborative_filtering_v' || coalesce(max(substring(m.label from '_v([0-9]+)$')::numeric), 0) + 1,
                %s, %s, %s, %s, c.half_life, c.decay_origin, %s, %s
            from recdb.config c left join recdb.model m on m.label like 'collaborative\\_filtering\\_v%%'
            group by c.half_life, c.decay_origin
            returning model_id, label
            """,
            [
                Jsonb(params.to_json()),
                len(np.unique(known.users)),
                len(np.unique(known.items)),
                len(known.users),
                limits.pair,
                limits.neighbor,
            ],
        )
        create_partitions(connection, model_id)
    return model_id, label


def learn_basis(known: Interactions, params: Params, report: Report) -> Basis:
    """Learn the basis of the user vectors."""
    return fit_basis(
        limit_users(known.matrix(params.people_weight_exponent), params.basis_user_exponent, BASIS_QUANTILE),
        dimension=params.dimension,
        user_exponent=params.basis_user_exponent,
        item_exponent=params.basis_item_exponent,
        spectrum_exponent=params.spectrum_exponent,
        progress=report,
    )


def learn_item_neighbors(known: Interactions, params: Params, report: Report) -> Iterator[ItemNeighbors]:
    """Learn the item neighbors, a block of items at a time."""
    rows = rows_to_learn_from(
        known,
        params.item_weight_exponent,
        params.item_user_exponent,
        params.session_weight,
        params.session_gap,
        alone=params.learner == "ease",
    )
    return fit_item_neighbors(rows, params, report)


def read_clock(connection: psycopg.Connection) -> datetime:
    """Read the server's clock."""
    now: datetime
    (now,) = fetch_row(connection, "select clock_timestamp()")
    return now
