"""The users of a validation part, and a setting's metrics on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float32
from recdb.learn.params import Params

BLOCK_USERS = 250


@dataclass(frozen=True)
class Trial:
    """One setting, and its metrics on the validation part."""

    params: Params
    recall: float
    """recall@20."""
    ndcg: float
    """ndcg@20."""
    users: int
    """How many users it was ranked for."""
    rows: float
    """How many weights recommend() adds up per call, neighbours' and items', the mean over users."""
    gains: Float32 = field(compare=False, repr=False)
    """(users,): each user's recall plus ndcg."""
    seconds: float = field(default=0.0, compare=False)
    """When it began, in seconds of the search's clock."""

    @property
    def objective(self) -> float:
        """The geometric mean of recall and ndcg."""
        return float(np.sqrt(self.recall * self.ndcg))


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial among those on the most users; None if there are none."""
    most = max((trial.users for trial in trials), default=0)
    return max((trial for trial in trials if trial.users == most), key=lambda trial: trial.objective, default=None)


@dataclass(frozen=True)
class ValidationUsers:
    """Users of the validation part, and their relevant items: those that were held out."""

    users: NDArray[np.int64]
    """Ascending."""
    rows: NDArray[np.int64]
    """(relevant,): places in `users`, ascending."""
    relevant: NDArray[np.int64]
    """(relevant,): item numbers."""
    hidden: sparse.csr_array
    """(users, items): not 0 where an item must not be recommended."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of relevant items of each user."""
        return np.bincount(self.rows, minlength=len(self.users))

    def slices(self) -> Iterator[slice]:
        """Divide the users into blocks."""
        for start in range(0, len(self.users), BLOCK_USERS):
            yield slice(start, min(start + BLOCK_USERS, len(self.users)))

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the chosen users; `chosen` is (users,)."""
        kept = chosen[self.rows]
        rows = np.cumsum(chosen)[self.rows[kept]] - 1
        return replace(
            self, users=self.users[chosen], rows=rows, relevant=self.relevant[kept], hidden=self.hidden[chosen]
        )
