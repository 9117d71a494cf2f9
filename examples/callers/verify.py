"""Compare every spelling of a call with the plain call."""

import os
from collections.abc import Callable, Mapping

URL = os.environ["DATABASE_URL"]
USER = os.environ["USER_ID"]

Ask = Callable[[list[str]], list[str]]
AskForAll = Callable[[], list[str]]

AWKWARD = ['a "quoted", {id}', "it's", "back\\slash", ""]


def verify(plain: AskForAll, excluding: Mapping[str, Ask], excluding_nothing: Mapping[str, AskForAll]) -> None:
    """Ask for five posts in each spelling. Raises AssertionError if the answers differ."""
    every = plain()
    assert len(set(every)) == 5
    for name, ask in excluding.items():
        assert ask([]) == every, f"{name}, empty"
        assert ask(every[:2])[:3] == every[2:], f"{name}, two ids"
        assert ask([*AWKWARD, every[0]])[:4] == every[1:], f"{name}, awkward ids"
    for name, ask_for_all in excluding_nothing.items():
        assert ask_for_all() == every, name
