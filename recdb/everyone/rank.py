"""Everybody's lists at once, computed in numpy from the stored model, with the results of recommend().

What recommend() would give every user as of the last refresh: everything is read in one snapshot, by COPY, and
recommend() is never called. `sql/30_rank.sql` says what is computed. Up to EXACT users the neighbours are exact;
above, they are looked for in the cells nearest to a user, where SQL asks an HNSW index.
"""

import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.arrays.snapshot import Snapshot, read_snapshot, unit
from recdb.database import Database, connect
from recdb.errors import InvalidInput, RecdbError
from recdb.learn.basis import NOISE_NORM
from recdb.learn.matrix import Float64, inverse_power, row_numbers
from recdb.learn.nearest import blocks, largest, make_cells, nearest_cells
from recdb.learn.parallel import in_threads
from recdb.learn.scoring import NOISE_COSINE
from recdb.migrate import require_installed
from recdb.progress import Report, silent

EXACT = 30_000
"""Among so many stored users each is compared with all others."""
PROBED = 8
"""Among more, with those in so many cells nearest to the user, and in those nearest to others of its block. Of the 40
true neighbours 99.5 % were found so among 30,000 generated users, and 99.9 % among 100,000."""
BLOCK_BYTES = 64 * 2**20
MOST_USERS = 64
"""Users a block, at most."""
FOLD_BLOCK = 50_000

HEADER = "user_id,rank,item_id,score,reason,model_version\n"
REASON = "collaborative_filtering"
STDOUT = "-"

Keys = NDArray[np.int32]


@dataclass(frozen=True)
class Lists:
    """Some users' lists, as arrays of one length: a row an item, best first, user after user."""

    users: Keys
    ranks: NDArray[np.int64]
    items: Keys
    scores: Float64


@dataclass(frozen=True)
class Written:
    """What was written."""

    users: int
    """How many have a list."""
    rows: int
    model: str
    seconds: float


def recommend_all(database: Database, path: str, *, k: int = 50, report: Report = silent) -> Written:
    """Write the lists of all users to a CSV file, gzipped where its name ends in .gz; '-' is standard output.

    A user's rows stand together, best first; the users are in no particular order, and those that the model says
    nothing about have no rows. The file appears when it is whole. Raises RecdbError where there is no model yet,
    InvalidInput for a k outside 1..1000 or a file that cannot be written.
    """
    began = time.monotonic()
    if not 1 <= k <= 1000:
        raise InvalidInput(f"k is {k}, and must be between 1 and 1000")
    users = rows = done = 0
    with open_output(path) as file:
        with connect(database) as connection:
            require_installed(connection)
            snapshot = read_snapshot(connection, report)
        write_text = renderer(snapshot)
        file.write(HEADER.encode())
        for asked, lists in rank_everybody(snapshot, k, report):
            file.write(write_text(lists).encode())
            users, rows, done = users + int((lists.ranks == 1).sum()), rows + len(lists.users), done + asked
            report(f"lists, {done:,} of {len(snapshot.user_ids) - 1:,} users")
    return Written(users, rows, snapshot.served["label"], time.monotonic() - began)


# Ranking --------------------------------------------------------------------------------------------------


def rank_everybody(snapshot: Snapshot, k: int, report: Report = silent) -> Iterator[tuple[int, Lists]]:
    """Rank for all users, a block of them at a time: how many were asked for, and the lists of those that have one."""
    report("grouping users")
    ranker = Ranker(snapshot, k)
    yield from in_threads(ranker.rank, ranker.jobs())


class Ranker:
    """The ranking of recommend(), for blocks of users."""

    def __init__(self, snapshot: Snapshot, k: int) -> None:
        self.snapshot, self.k = snapshot, k
        served = snapshot.served
        self.asked = self._profiles(served["profile_weight_exponent"], served["profile_recency"])
        # What neighbours like above what items recommend: one product adds up both halves.
        self.voices = sparse.vstack([snapshot.liking, snapshot.item_neighbors], format="csr", dtype=np.float64)
        self.damping = inverse_power(snapshot.user_totals, served["activity_exponent"])
        self.queries = self._fold_in()
        stored = len(snapshot.vectors)
        self.cells = make_cells(snapshot.vectors, count=1 if stored <= EXACT else None)
        self.stored_keys = snapshot.vector_keys[self.cells.members]
        self.own = np.full(len(snapshot.user_ids), -1, dtype=np.int64)
        self.own[self.stored_keys] = np.arange(stored)

    def _profiles(self, exponent: float, recency: float) -> sparse.csr_array:
        """Return the profiles that users ask with, as recdb.profile_weights() does: the largest magnitude is 1."""
        weights = self.snapshot.weights
        data = np.sign(weights.data) * np.abs(weights.data) ** exponent * self.snapshot.ranks**-recency
        asked = sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)
        lengths = np.diff(asked.indptr)
        most = np.ones(len(lengths))
        most[lengths > 0] = np.maximum.reduceat(np.abs(asked.data), asked.indptr[:-1][lengths > 0])
        asked.data /= np.repeat(np.where(most > 0, most, 1), lengths)
        return asked

    def _fold_in(self) -> NDArray[np.float16]:
        """Return the vectors that users ask with, (users, width), in half precision as the index compares them.

        As recdb.fold_in() adds them up, in the same order and precision: half precision magnifies what differs.
        """
        asked = self._profiles(self.snapshot.served["people_weight_exponent"], self.snapshot.served["people_recency"])
        asked.data = asked.data.astype(np.float32)  # astype() of the matrix would sort its entries
        queries = np.zeros((asked.shape[0], self.snapshot.item_vectors.shape[1]), dtype=np.float16)
        for block in blocks(len(queries), FOLD_BLOCK):
            sums = asked[block] @ self.snapshot.item_vectors
            norms = np.linalg.norm(sums.astype(np.float64), axis=1, keepdims=True)
            queries[block] = np.where(norms >= NOISE_NORM, sums / np.maximum(norms, NOISE_NORM), 0).astype(np.float32)
        return queries

    def jobs(self) -> Iterator[NDArray[np.int64]]:
        """Divide the users that have a profile into blocks that look among much the same stored users."""
        users = np.flatnonzero(np.diff(self.snapshot.weights.indptr))
        cell = np.empty(len(users), dtype=np.int64)
        for block in blocks(len(users), FOLD_BLOCK):
            cell[block] = nearest_cells(self.queries[users[block]].astype(np.float32), self.cells.centres)
        users = users[np.argsort(cell, kind="stable")]
        widest = self.voices.shape[1] + min(len(self.stored_keys), EXACT)
        step = max(1, min(MOST_USERS, BLOCK_BYTES // (4 * widest)))
        for together in np.split(users, np.cumsum(np.bincount(cell))[:-1]):
            for block in blocks(len(together), step):
                yield together[block]

    def rank(self, asking: NDArray[np.int64]) -> tuple[int, Lists]:
        """Rank for some users; return their number too."""
        voices = sparse.hstack([self.people(asking), self.items(asking)], format="csr")
        # Indices as wide as the other factor's: scipy would widen those, which are millions, for every block.
        width = self.voices.indices.dtype
        voices.indices, voices.indptr = voices.indices.astype(width), voices.indptr.astype(width)
        return len(asking), self.choose(asking, sparse.csr_array(voices @ self.voices))

    def people(self, asking: NDArray[np.int64]) -> sparse.csr_array:
        """Return by how much each stored user's likings count for some users, (users, all users)."""
        served = self.snapshot.served
        shape = (len(asking), self.voices.shape[0] - self.voices.shape[1])
        queries = unit(self.queries[asking])
        places = self.cells.places(self.cells.near(queries, PROBED))
        if served["blend"] == 0 or len(places) == 0:
            return sparse.csr_array(shape, dtype=np.float64)
        cosines = queries @ self.cells.vectors_at(places).T
        own = np.searchsorted(places, self.own[asking])
        there = np.flatnonzero(places[np.minimum(own, len(places) - 1)] == self.own[asking])
        cosines[there, own[there]] = -1
        nearest, similarities = largest(cosines, min(served["neighbors"], len(places)))
        users = self.stored_keys[places[nearest]]
        alike = np.where(similarities > NOISE_COSINE, similarities, 0).astype(np.float64)
        strength = np.where(alike > 0, alike ** served["similarity_exponent"], 0) * self.damping[users]
        total = (strength * self.snapshot.user_totals[users]).sum(axis=1)
        strength *= served["blend"] / np.where(total > 0, total, np.inf)[:, None]
        starts = np.arange(0, users.size + 1, users.shape[1])
        return sparse.csr_array((strength.ravel(), users.ravel(), starts), shape=shape)

    def items(self, users: NDArray[np.int64]) -> sparse.csr_array:
        """Return by how much each item's neighbours count for some users, (users, items)."""
        asked = self.asked[users]
        total = np.abs(asked) @ self.snapshot.item_totals
        factor = (1 - self.snapshot.served["blend"]) / np.where(total > 0, total, np.inf)
        asked.data *= np.repeat(factor, np.diff(asked.indptr))
        return asked

    def choose(self, users: NDArray[np.int64], final: sparse.csr_array) -> Lists:
        """Choose the best k of the scores (users, items) that each user may see."""
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


# Writing --------------------------------------------------------------------------------------------------


def renderer(snapshot: Snapshot) -> Callable[[Lists], str]:
    """Return a function that writes lists as lines of CSV."""
    user_ids, item_ids = quote(snapshot.user_ids), quote(snapshot.item_ids)
    (ending,) = quote([snapshot.served["label"]])

    def render(lists: Lists) -> str:
        rows = zip(lists.users.tolist(), lists.ranks.tolist(), lists.items.tolist(), lists.scores.tolist(), strict=True)
        return "".join(
            [
                f"{user_ids[user]},{rank},{item_ids[item]},{score},{REASON},{ending}\n"
                for user, rank, item, score in rows
            ]
        )

    return render


def quote(texts: Sequence[str]) -> list[str]:
    """Quote the texts that CSV needs quoted."""
    return ['"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n\r') else text for text in texts]


@contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """Open a file that appears when the block has ended well; gzipped where its name ends in .gz.

    Standard output ('-'), and what is no regular file, is written to straight away.
    """
    if path == STDOUT:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has nowhere to go
            raise RecdbError("standard output was closed before all was written") from error
        return
    target = Path(path).resolve()
    straight = target.exists() and not target.is_file()
    writing = target if straight else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with (
            writing.open("wb") as raw,
            gzip.open(raw, "wb", compresslevel=3) if target.suffix == ".gz" else raw as file,
        ):
            yield cast(BinaryIO, file)
        if not straight:
            writing.replace(target)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if not straight:
            writing.unlink(missing_ok=True)
