"""Positions in the primary's log: which texts are one, and which a client remembers."""

from typing import Any

import pytest

from recdb import InvalidInput
from recdb.positions import Positions, number_of_position, text_of_position


@pytest.mark.parametrize("position", ["", "0", "1/2/3", "G/1", "0/1\n", "123456789/1", 5])
def test_a_text_that_is_no_position_is_refused(position: Any) -> None:
    with pytest.raises(InvalidInput, match="no position"):
        number_of_position(position)


def test_positions_are_bounded_and_nobodys_write_is_forgotten() -> None:
    positions = Positions(most=2, kept=1000)
    positions.note(["a"], 30)
    positions.note(["b"], 10)
    positions.note(["b"], 5)
    assert [positions.of([user]) for user in ("a", "b", "c")] == [30, 10, 0]
    assert positions.of(["b", "a"]) == 30
    positions.note(["c"], 20)
    # There was no more room for a's position, so it counts for everybody.
    assert [positions.of([user]) for user in ("a", "b", "c", "d")] == [30, 30, 30, 30]
    assert [positions.own(user) for user in ("a", "b", "c")] == [0, 10, 20]
    expired = Positions(kept=0)
    expired.note(["a"], 30)
    assert expired.of(["a"]) == 0
    assert text_of_position(number_of_position("A/3000148")) == "A/3000148"
