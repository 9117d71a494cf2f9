"""Calls that wait while `recdb distribute` or its way back holds the tables: they answer as if they had not waited."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from support.citus import ask, drop_database, fill, lists, make_database, shards
from support.doctor import find
from support.nights import die_at
from support.servers import Server
from support.waiting import until

from recdb import spread
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.progress import silent
from recdb.spread import hold

READS = {
    "recommend": "select * from recommend('u1', 5)",
    "recommend_batch": "select * from recdb.recommend_batch(array['u1', 'u2'], 5)",
    "neighbors": "select neighbor_id, round(similarity::numeric, 5) from recdb.neighbors('u1', 5)",
    "trending": "select * from recdb.trending(5)",
    "interactions": "select count(*) from recdb.interactions",
}
AGAIN = {
    "audience": "select * from recdb.audience('i1', 5)",
    "recommend_for_items": "select * from recdb.recommend_for_items(array['i1', 'i2'], 5)",
}
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


@pytest.mark.parametrize("undo", [False, True], ids=["distribute", "undo"])
def test_reads_that_wait_have_their_rows(filled: Database, monkeypatch: pytest.MonkeyPatch, undo: bool) -> None:
    if undo:
        spread.distribute(filled, 2, silent)
    with psycopg.connect(filled.conninfo, autocommit=True) as connection:
        expected = {name: connection.execute(statement).fetchall() for name, statement in READS.items()}
    callers = {
        (name, warm): Caller(filled, statement, warm=warm)
        for name, statement in READS.items()
        for warm in (False, True)
    }
    let_wait(filled, list(callers.values()), monkeypatch, undo=undo)
    assert {key: caller.end() for key, caller in callers.items()} == {
        (name, warm): rows for name, rows in expected.items() for warm in (False, True)
    }
    assert ask(filled, "select count(*) from recdb.recommend('u1', 5)") == 5


@pytest.mark.parametrize("name", list(AGAIN))
def test_a_search_that_waits_has_its_rows_or_is_told_to_call_again(
    filled: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The search is the first thing of such a call that waits: PostgreSQL has begun it as on one server."""
    with psycopg.connect(filled.conninfo, autocommit=True) as connection:
        expected = connection.execute(AGAIN[name]).fetchall()
    callers = [Caller(filled, AGAIN[name], warm=warm) for warm in (False, True)]
    let_wait(filled, callers, monkeypatch, undo=False)
    for caller in callers:
        answer = caller.end()
        if isinstance(answer, psycopg.Error):
            assert (answer.sqlstate, answer.diag.message_hint) == ("40001", "Run it again."), answer
        else:
            assert answer == expected
    callers = [Caller(filled, AGAIN[name], warm=warm) for warm in (False, True)]
    let_wait(filled, callers, monkeypatch, undo=True)
    assert [caller.end() for caller in callers] == [expected, expected]


def test_the_way_back_waits_for_readers_of_views_and_names_the_last_one(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread.distribute(filled, 2, silent)
    with psycopg.connect(filled.conninfo) as reader:
        reader.execute("select count(*) from recdb.models")
        monkeypatch.setattr(hold, "ATTEMPTS", 2)
        with pytest.raises(RecdbError, match=r"in use by process .* for 30 s"):
            spread.undo(filled, silent)
    assert shards(filled, "interaction") == 2
    spread.undo(filled, silent)
    assert shards(filled, "interaction") == 0


def test_rows_that_a_killed_command_leaves_here_are_not_read_and_go_with_the_next(filled: Database) -> None:
    expected, rows = lists(filled), ask(filled, "select count(*) from recdb.interaction")
    die_at("spread", filled, "distribute", "--shards", "2")
    left = "select pg_relation_size('recdb.interaction')"
    assert ask(filled, left) > 0
    with connect(filled, autocommit=True) as connection:
        assert find(connection, "shards").state == "warn"
    assert (lists(filled), ask(filled, "select count(*) from recdb.interaction")) == (expected, rows)
    spread.distribute(filled, None, silent)
    assert ask(filled, left) == 0
    assert lists(filled) == expected
