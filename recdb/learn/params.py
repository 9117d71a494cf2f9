"""The hyper-parameters of a model version, stored as JSON on its row."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from recdb.errors import InvalidInput

NAMES = {
    "learner": ("cooccurrence", "ease"),
    "spectral_filter": ("ideal", "second-order", "chebyshev", "ridge"),
}
"""The values of the parameters that are names."""

BEFORE = {
    "source_exponent": 0.5, "target_exponent": 0.5, "spectral_weight": 0.0, "spectral_filter": "ideal",
    "spectral_rank": 256, "recount_exponent": 0.0,
}  # fmt: skip
"""The effect of these parameters on versions that were trained before there were any, where the defaults differ."""


def _number(default: float, lowest: float, highest: float) -> Any:
    return field(default=default, metadata={"limits": (lowest, highest)})


@dataclass(frozen=True)
class Params:
    """The hyper-parameters of learning and serving; SQL functions read them by these names from `recdb.model.params`.

    W is the users x items matrix of summed weights, d its row and column sums. An exponent of 0 on W makes all kinds
    equal, one of 1 keeps their weights. With a recency, a profile's r-th newest item counts r^-recency.
    """

    blend: float = _number(0.3, 0, 1)
    """beta: the share of the user-based part in a score; the rest is the item-based part."""

    profile_limit: int = _number(80, 1, 10_000)
    """The number of items in a profile, the user's and each neighbour's; `config.profile_limit` bounds it."""

    # The user-based part: nearest users in the space of a truncated SVD.
    people_weight_exponent: float = _number(0.5, 0, 2)
    """Exponent on W, for learning the basis and for placing users in it."""
    people_recency: float = _number(0.3, 0, 4)
    dimension: int = _number(128, 1, 1024)
    """Width of the learned vectors; at most the width of the installed columns."""
    basis_user_exponent: float = _number(0.25, 0, 1)
    """a: W is divided by d_user^a before the decomposition."""
    basis_item_exponent: float = _number(0.25, 0, 1)
    """b: W is divided by d_item^b before the decomposition, and so are the item vectors."""
    spectrum_exponent: float = _number(0.0, 0, 1)
    """p: item vectors are divided by the singular values to this power."""
    neighbors: int = _number(40, 1, 999)
    """n: the number of nearest users that contribute."""
    similarity_exponent: float = _number(1.0, 0, 20)
    """q: a neighbour counts as cosine^q."""
    activity_exponent: float = _number(0.0, 0, 2)
    """g: a neighbour counts as d_user^-g."""
    neighbor_weight_exponent: float = _number(0.5, 0, 2)
    """Exponent on W, for the weights that neighbours contribute."""

    # The item-based part: the neighbours of each item.
    learner: str = "cooccurrence"
    """'cooccurrence' or 'ease'."""
    item_weight_exponent: float = _number(0.5, 0, 2)
    """Exponent on W, for learning item neighbours."""
    profile_weight_exponent: float = _number(0.5, 0, 2)
    """Exponent on the profile's weights, for scoring."""
    profile_recency: float = _number(0.6, 0, 4)
    item_neighbors: int = _number(40, 1, 2000)
    """M: the number of neighbours that each item keeps, not counting itself."""
    item_user_exponent: float = _number(0.25, 0, 1)
    """a: W is divided by d_user^a."""
    source_exponent: float = _number(0.7, -1, 2)
    """x: co-occurrences are divided by d^x of the item that recommends."""
    target_exponent: float = _number(0.4, -1, 2)
    """y: co-occurrences (and, for EASE, W) are divided by d^y of the item that is recommended."""
    cooccurrence_power: float = _number(1.0, 0.1, 4)
    """s: each co-occurrence counts to this power."""
    spectral_weight: float = _number(2.0, 0, 1000)
    """w: the weight of the spectral filter that is added to the co-occurrences; 0 for none."""
    spectral_filter: str = "ridge"
    """'ideal', 'second-order', 'chebyshev' or 'ridge': see recdb/learn/filters.py."""
    spectral_power: float = _number(2.0, 0.1, 20)
    """p: the steepness of the filter 'chebyshev'."""
    spectral_rank: int = _number(128, 1, 4096)
    """How many eigenvectors a filter has, and EASE with more than 20,000 items."""
    ease_regularization: float = _number(1.0, 1e-4, 1e4)
    """EASE's lambda, in units of the mean diagonal of W'W."""
    ease_dropout: float = _number(0.0, 0, 0.99)
    """EDLAE's p: the share of interactions that EASE drops while it learns."""
    ease_refit: int = _number(0, 0, 1)
    """1: EASE's weights are solved again for the neighbours that are kept, with up to 20,000 items; 0: they are not."""
    recount_exponent: float = _number(0.4, 0, 2)
    """g': the weights that item i is given are multiplied by (d_i / d'_i)^g', with the degrees d' after adding the best
    predicted links: see recdb/learn/recount.py."""
    self_weight: float = _number(8.0, 0, 100)
    """An item's weight for itself: this times its co-occurrence with itself. It is 0 where every kind hides."""
    session_weight: float = _number(50.0, 0, 1000)
    """Co-occurrence within a session counts this much more than co-occurrence within a user's lifetime."""
    session_gap: float = _number(420.0, 1, 1e9)
    """Seconds without an interaction that end a session."""

    def __post_init__(self) -> None:
        for name, allowed in NAMES.items():
            if getattr(self, name) not in allowed:
                named = " or ".join(map(repr, allowed))
                raise InvalidInput(f"{name} is '{getattr(self, name)}', and must be {named}")
        for each in fields(self):
            if "limits" in each.metadata:
                value, (lowest, highest) = getattr(self, each.name), each.metadata["limits"]
                whole = each.type is int
                if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                    raise InvalidInput(f"{each.name} is {value!r}, and must be a {'whole ' if whole else ''}number")
                if not lowest <= value <= highest:
                    raise InvalidInput(f"{each.name} is {value}, and must be between {lowest} and {highest}")

    def to_json(self) -> dict[str, Any]:
        """Return the parameters as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build parameters from a JSON object; missing ones have their defaults.

        Raises InvalidInput for an unknown name, a wrong type or a value out of range.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidInput(f"unknown model parameters: {', '.join(unknown)}", f"known: {', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def of_version(cls, stored: dict[str, Any]) -> Self:
        """Build the parameters of a stored version, which an older recdb may have trained."""
        return cls.from_json(BEFORE | stored)
