"""Calls that wait while `recdb distribute` or its way back holds the tables: they answer as if they had not waited."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from support.citus import ask, drop_database, fill, make_database
from support.servers import Server
from support.waiting import until

from recdb import spread
from recdb.database import Database, connect
from recdb.progress import silent

WARM = 7
"""How often a session calls before, so that it has a plan for all calls."""


@pytest.fixture
def filled(one_node: Sequence[Server]) -> Iterator[Database]:
    """A recommender with a model, on one node."""
    database = make_database(one_node, "waiting")
    fill(database)
    yield database
    drop_database(one_node, "waiting")


class Caller:
    """A session that calls a statement, in a thread of its own."""

    def __init__(self, database: Database, statement: str, *, warm: bool) -> None:
        self.connection = psycopg.connect(database.conninfo, autocommit=True)
        self.statement, self.answer = statement, None
        self.thread = threading.Thread(target=self.call)
        for _ in range(WARM if warm else 0):
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(statement)

    def call(self) -> None:
        """Call, and keep the rows or the error."""
        try:
            self.answer: Any = self.connection.execute(self.statement).fetchall()
        except psycopg.Error as error:
            self.answer = error

    def end(self) -> Any:
        """Wait for the answer, close the session, and return the answer."""
        self.thread.join()
        self.connection.close()
        return self.answer


def let_wait(database: Database, callers: Sequence[Caller], monkeypatch: pytest.MonkeyPatch, *, undo: bool) -> None:
    """Spread the tables, or bring them back, while the callers wait for them."""
    waiting = "select count(*) from pg_stat_activity where pid = any (%s) and wait_event_type = 'Lock'"
    pids = [caller.connection.info.backend_pid for caller in callers]

    def reach(point: str) -> None:
        if point not in ("interaction spread", "interaction copied"):
            return
        for caller in callers:
            caller.thread.start()
        with connect(database, autocommit=True) as watching:
            until(lambda: watching.execute(waiting, [pids]).fetchone() == (len(callers),))

    with monkeypatch.context() as patched:
        module = spread.back if undo else spread.forward
        patched.setattr(module, "reach", reach)
        if undo:
            spread.undo(database, silent)
        else:
            spread.distribute(database, 2, silent)


@pytest.mark.parametrize("undo", [False, True], ids=["distribute", "undo"])
def test_a_merge_that_waits_moves_the_interactions(
    filled: Database, monkeypatch: pytest.MonkeyPatch, undo: bool
) -> None:
    if undo:
        spread.distribute(filled, 2, silent)
    moved = ask(filled, "select count(*) from recdb.interaction where user_id in ('u5', 'u7')")
    callers = [
        Caller(filled, "select recdb.merge_users('u5', 'u6')", warm=True),
        Caller(filled, "select recdb.merge_users('u7', 'u6')", warm=False),
    ]
    let_wait(filled, callers, monkeypatch, undo=undo)
    answers = [caller.end() for caller in callers]
    assert [type(answer) for answer in answers] == [list, list], answers
    assert sum(answer[0][0] for answer in answers) == moved
    assert ask(filled, "select count(*) from recdb.interaction where user_id in ('u5', 'u7')") == 0
