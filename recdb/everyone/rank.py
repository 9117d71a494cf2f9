"""Ranks for all users from a snapshot of a model, by the formulas of `sql/30_rank.sql`.

Up to EXACT stored users, each user is compared with all of them. With more, a user is compared with those in the
nearest cells, where SQL asks an HNSW index.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.arrays.snapshot import Keys, Snapshot, unit
from recdb.learn.basis import fold_in
from recdb.learn.content_links import link_share
from recdb.learn.matrix import Float64, largest_to_one, power, row_numbers
from recdb.learn.nearest import blocks, make_cells, nearest_cells
from recdb.learn.parallel import in_threads
from recdb.learn.scoring import Neighborhood, nearest_users, neighbor_strengths, profiles, shares
from recdb.progress import Report, silent

EXACT = 30_000
"""Up to so many stored users, each user is compared with all of them."""
PROBED = 8
"""With more, a user is compared with the stored users in this many nearest cells, and with those in the nearest cells
of the other users of its block. This found 99.5 % of the 40 true neighbours among 30,000 generated users, and 99.9 %
among 100,000."""
BLOCK_BYTES = 64 * 2**20
MOST_USERS = 64
"""The largest number of users in a block."""
FOLD_BLOCK = 50_000


@dataclass(frozen=True)
class Lists:
    """Some users' lists, as arrays of one length: an entry for each item, best first, user after user."""

    users: Keys
    ranks: NDArray[np.int64]
    items: Keys
    scores: Float64


def rank_everybody(snapshot: Snapshot, k: int, report: Report = silent) -> Iterator[tuple[int, Lists]]:
    """Rank for all users, a block at a time: yield the number of users in the block, and their lists.

    A user for whom the model has no recommendation is counted and has no list.
    """
    report("grouping users")
    ranker = Ranker(snapshot, k)
    yield from in_threads(ranker.rank, ranker.jobs())


class Ranker:
    """The ranking of recommend(), for blocks of users."""

    def __init__(self, snapshot: Snapshot, k: int) -> None:
        self.snapshot, self.k = snapshot, k
        served = snapshot.served
        # The neighbours' weights above the item neighbours: one product adds up both parts of the ranking.
        share = link_share(served["blend"])
        items = snapshot.item_neighbors.astype(np.float64) * ((1 - served["blend"]) / share) + snapshot.links
        self.given = sparse.vstack([snapshot.neighbor_weights, items], format="csr", dtype=np.float64)
        profile = largest_to_one(
            self._profiles(served["profile_weight_exponent"], served["profile_recency"]), np.float64
        )
        self.item_based = shares(profile, snapshot.item_totals, share, np.float64)
        self.queries = self._fold_in()
        stored = len(snapshot.vectors)
        self.cells = make_cells(snapshot.vectors, count=1 if stored <= EXACT else None)
        self.stored_keys = snapshot.vector_keys[self.cells.members]
        self.own = np.full(len(snapshot.user_ids), -1, dtype=np.int64)
        self.own[self.stored_keys] = np.arange(stored)

    def _profiles(self, exponent: float, recency: float) -> sparse.csr_array:
        """Return the profiles of all users, (users, items), in double precision."""
        weights = power(self.snapshot.weights, exponent, np.float64)
        return profiles(weights, self.snapshot.ranks, recency, np.float64)

    def _fold_in(self) -> NDArray[np.float16]:
        """Return all users' vectors, (users, width), in half precision, as the index compares them."""
        served, item_vectors = self.snapshot.served, self.snapshot.item_vectors
        profile = self._profiles(served["people_weight_exponent"], served["people_recency"])
        queries = np.zeros((profile.shape[0], item_vectors.shape[1]), dtype=np.float16)
        for block in blocks(len(queries), FOLD_BLOCK):
            queries[block] = fold_in(profile[block], item_vectors, np.float64)[0]
        return queries

    def jobs(self) -> Iterator[NDArray[np.int64]]:
        """Divide the users that have a profile into blocks of users in the same cell."""
        users = np.flatnonzero(np.diff(self.snapshot.weights.indptr))
        cell = np.empty(len(users), dtype=np.int64)
        for block in blocks(len(users), FOLD_BLOCK):
            cell[block] = nearest_cells(self.queries[users[block]].astype(np.float32), self.cells.centres)
        users = users[np.argsort(cell, kind="stable")]
        widest = self.given.shape[1] + min(len(self.stored_keys), EXACT)
        step = max(1, min(MOST_USERS, BLOCK_BYTES // (4 * widest)))
        for together in np.split(users, np.cumsum(np.bincount(cell))[:-1]):
            for block in blocks(len(together), step):
                yield together[block]

    def rank(self, users: NDArray[np.int64]) -> tuple[int, Lists]:
        """Rank for some users; return their number and their lists."""
        sources = sparse.hstack([self.user_based(users), self.item_based[users]], format="csr")
        # Indices as wide as those of the other factor: scipy would otherwise widen all of those for every block.
        width = self.given.indices.dtype
        sources.indices, sources.indptr = sources.indices.astype(width), sources.indptr.astype(width)
        return len(users), self.choose(users, sparse.csr_array(sources @ self.given))

    def user_based(self, users: NDArray[np.int64]) -> sparse.csr_array:
        """Return by how much each stored user's weights count for some users, (users, all users)."""
        served, totals = self.snapshot.served, self.snapshot.user_totals
        near = self.neighborhood(users) if served["blend"] > 0 else None
        if near is None:
            return sparse.csr_array((len(users), len(totals)), dtype=np.float64)
        strengths = neighbor_strengths(
            near, totals, served["neighbors"], served["similarity_exponent"], served["activity_exponent"], np.float64
        )
        return shares(strengths, totals, served["blend"], np.float64)

    def neighborhood(self, users: NDArray[np.int64]) -> Neighborhood | None:
        """Find the nearest stored users, by user key; None if no users are stored near them."""
        queries = unit(self.queries[users])
        places = self.cells.places(self.cells.near(queries, PROBED))
        if len(places) == 0:
            return None
        own = np.searchsorted(places, self.own[users])
        own[places[np.minimum(own, len(places) - 1)] != self.own[users]] = -1
        near = nearest_users(queries, self.cells.vectors_at(places), own, self.snapshot.served["neighbors"])
        return replace(near, users=self.stored_keys[places[near.users]])

    def choose(self, users: NDArray[np.int64], final: sparse.csr_array) -> Lists:
        """Return the k items with the best scores for each user, of `final` (users, items), that the user may get."""
        snapshot = self.snapshot
        rows, items, scores = row_numbers(final), final.indices, final.data
        hidden = snapshot.hidden[users].toarray()
        shown = (scores > 0) & snapshot.available[items] & (snapshot.owners[items] != users[rows])
        shown &= ~hidden[rows, items]
        rows, items, scores = rows[shown], items[shown], scores[shown]
        counts = np.bincount(rows, minlength=len(users))
        column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        side_by_side = np.full((len(users), max(self.k, int(counts.max(initial=0)))), -1.0)
        side_by_side[rows, column] = scores
        scores = np.round(scores / side_by_side.max(axis=1)[rows], 9)
        side_by_side[rows, column] = scores
        width = side_by_side.shape[1]
        enough = scores >= np.partition(side_by_side, width - self.k, axis=1)[rows, width - self.k]
        rows, items, scores = rows[enough], items[enough], scores[enough]
        order = np.lexsort((snapshot.places[items], -scores, rows))
        counts = np.bincount(rows, minlength=len(users))
        ranks = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        best = order[ranks <= self.k]
        return Lists(
            users[rows[best]].astype(np.int32), ranks[ranks <= self.k], items[best].astype(np.int32), scores[best]
        )
