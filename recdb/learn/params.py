"""The hyper-parameters of a model version, stored as JSON on its row."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from recdb.errors import InvalidInput


@dataclass(frozen=True)
class Params:
    """What learning and serving depend on; the SQL functions read the same names from `recdb.model.params`.

    W is the users x items matrix of summed weights, to the power `weight_exponent`; d its row and column sums.
    """

    weight_exponent: float = 0.5
    """Exponent on W's entries: 0 makes all kinds equal, 1 keeps their weights."""

    dimension: int = 128
    """Width of the learned vectors; at most the width of the installed columns."""
    user_exponent: float = 0.5
    """a of the basis: W is divided by d_user^a before the decomposition."""
    item_exponent: float = 0.25
    """b of the basis: W is divided by d_item^b, and so are the item vectors."""
    spectrum_exponent: float = 0.0
    """p: item vectors are divided by the singular values to this power."""

    neighbors: int = 100
    """n: how many nearest users are asked."""
    similarity_exponent: float = 2.0
    """q: a neighbour counts as cosine^q."""
    activity_exponent: float = 0.25
    """g: a neighbour counts as d_user^-g."""

    item_neighbors: int = 100
    """M: how many items each item recommends."""
    cooccurrence_exponent: float = 0.6
    """a of co-occurrence: W is divided by d_user^a and d_item^(1-a)."""
    cooccurrence_power: float = 0.8
    """s: each co-occurrence count counts to this power."""
    spectral_weight: float = 0.1
    """lambda: how much the spectral similarity of two items adds to their co-occurrence."""
    self_weight: float = 0.5
    """An item's weight for itself, in units of its strongest neighbour's. Matters where not every kind hides."""

    blend: float = 0.4
    """beta: the share of people like you; the rest is because of what you did."""

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "weight_exponent": (0, 2),
            "dimension": (1, 1024),
            "user_exponent": (0, 1),
            "item_exponent": (0, 1),
            "spectrum_exponent": (0, 1),
            "neighbors": (1, 999),
            "similarity_exponent": (0, 20),
            "activity_exponent": (0, 2),
            "item_neighbors": (1, 2000),
            "cooccurrence_exponent": (0, 1),
            "cooccurrence_power": (0, 4),
            "spectral_weight": (0, 10),
            "self_weight": (0, 10),
            "blend": (0, 1),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise InvalidInput(f"{name} is {value}, and must be between {lowest} and {highest}")

    def to_json(self) -> dict[str, Any]:
        """Return the parameters as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build parameters from a JSON object; what is missing has its default.

        Raises InvalidInput for an unknown name or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidInput(f"unknown model parameters: {', '.join(unknown)}", f"known: {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidInput(f"a model parameter has the wrong type: {error}") from error
