"""The clock on recommend(): every call is timed, and its answer is the statement's."""

import psycopg
import pytest
from support.data import record, tastes, train

from recdb.database import Database
from recdb.latency import Latency, recommend_with, timed


def test_every_call_is_timed_and_its_answer_comes_back() -> None:
    answered = list(timed(str.upper, iter(["ann", "bob"])))

    assert [answer for answer, _ in answered] == ["ANN", "BOB"]
    assert all(milliseconds >= 0 for _, milliseconds in answered)


def test_calls_are_made_only_when_asked_for() -> None:
    called: list[str] = []
    answers = timed(called.append, ["ann", "bob"])

    next(answers)

    assert called == ["ann"]


def test_percentiles_are_those_of_all_calls() -> None:
    assert Latency.of([float(number) for number in range(101)]) == Latency(calls=101, p50=50, p95=95, p99=99)
    assert Latency.of([3.0]) == Latency(calls=1, p50=3, p95=3, p99=3)


def test_the_prepared_statement_returns_what_recommend_returns(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    first = train(database)
    train(database, blend=1.0)

    for model in (None, first):
        (rows,) = [rows for rows, _ in timed(recommend_with(db, k=5, model=model), ["u1"])]
        expected = db.execute("select item_id, score from recdb.recommend('u1', 5, model => %s)", [model]).fetchall()
        assert [(item, pytest.approx(score)) for item, score in rows] == expected
