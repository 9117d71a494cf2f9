"""The links to untouched items that a row of item neighbours carries: the closest, and not too many."""

import numpy as np
import pytest
from scipy import sparse

from recdb.learn import content_links


def test_an_item_leads_to_the_untouched_ones_that_are_like_it_and_to_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the limit, and none whose similarity is next to nothing beside the largest."""
    similar = np.zeros((3, 5), dtype=np.float32)
    similar[0] = [1.0, 0.04, 0.06, 0.5, 0.2]
    similar[1] = [0.02, 0, 0.01, 0, 0.0005]
    untouched = np.array([5, 6, 7, 8, 9])
    columns = sparse.csr_array(np.vstack([similar, np.zeros((7, 5), dtype=np.float32)]))

    def led_to(item: int) -> list[int]:
        links = content_links.both_ways(columns, untouched, 1)
        return sorted(links.indices[links.indptr[item] : links.indptr[item + 1]].tolist())

    assert led_to(0) == [5, 7, 8, 9]
    assert led_to(1) == [5, 7]
    assert led_to(2) == []
    assert led_to(6) == [0]  # an untouched item leads to all that are like it
    monkeypatch.setattr(content_links, "MOST_LINKS", 2)
    assert led_to(0) == [5, 8]
