"""The training takes embeddings of any length, and leaves out those that say nothing."""

import numpy as np
import pytest

from recdb.arrays.described import Collected

VECTORS = [[3e38, 3e38], [0, 2e-38], [3, 4], [0, 0], [np.inf, 1], [np.nan, 1]]
UNITS = [[0.5**0.5, 0.5**0.5], [0, 1], [0.6, 0.8], [0, 0], [0, 0], [0, 0]]


def test_embeddings_of_any_length_count_and_those_without_a_direction_are_missing() -> None:
    keys = np.arange(1, len(VECTORS) + 1, dtype=np.int32)
    collected = Collected(vectors={(2, False): [(keys, np.array(VECTORS, dtype=np.float32))]})
    found = collected.embeddings(len(VECTORS))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(0) and found[1:] == pytest.approx(np.array(UNITS))
