"""neighbors() and similar_items(): similar users and items, by the cosine of their vectors."""

from typing import Any

import numpy as np
import psycopg
import pytest
from support import reference
from support.data import record, tastes, train

from recdb.database import Database


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=150))
    train(module_database, dimension=4)


@pytest.fixture
def expected(shared: psycopg.Connection) -> reference.Reference:
    return reference.read(shared)


def cosines(vectors: Any, query: Any, names: list[str], without: str) -> dict[str, float]:
    similar = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return {name: float(value) for name, value in zip(names, similar, strict=True) if name != without}


def assert_nearest(found: list[Any], exact: dict[str, float]) -> None:
    """The nearest, nearest first, with the exact cosine each."""
    assert {row[0]: row[1] for row in found} == pytest.approx({row[0]: exact[row[0]] for row in found}, abs=1e-3)
    assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)
    best = sorted(exact.values(), reverse=True)[: len(found)]
    assert [row[1] for row in found] == pytest.approx(best, abs=2e-3)


def test_neighbors_are_the_users_with_the_nearest_vectors(
    shared: psycopg.Connection, expected: reference.Reference
) -> None:
    for user in ("u0", "u17", "u149"):
        found = shared.execute("select * from recdb.neighbors(%s)", [user]).fetchall()
        assert len(found) == 20
        query = expected.query(expected.users.index(user))
        assert_nearest(found, cosines(expected.user_vectors, query, expected.users, user))


def test_neighbors_share_a_taste(shared: psycopg.Connection) -> None:
    """Users whose numbers leave the same remainder by 3 like the same items."""
    found = shared.execute(
        "select u.user_id, n.neighbor_id from recdb.user_key u, lateral recdb.neighbors(u.user_id, 10) n"
    ).fetchall()
    alike = [int(user[1:]) % 3 == int(neighbor[1:]) % 3 for user, neighbor in found]
    assert len(alike) == 1500
    assert sum(alike) > 0.8 * len(alike)


def test_shared_items_are_counted(shared: psycopg.Connection) -> None:
    found = shared.execute("select * from recdb.neighbors('u5', 12)").fetchall()
    for neighbor, _, shared_items in found:
        counted = shared.execute(
            "select count(distinct a.item_id) from recdb.interaction a join recdb.interaction b using (item_id) "
            "where a.user_id = 'u5' and b.user_id = %s",
            [neighbor],
        ).fetchone()
        assert counted == (shared_items,)


def test_nobody_is_their_own_neighbor(shared: psycopg.Connection) -> None:
    found = shared.execute("select neighbor_id from recdb.neighbors('u5', 1000)").fetchall()
    assert ("u5",) not in found
    assert len(found) == len(set(found)) == 149


def test_the_neighbors_of_somebody_new_are_live(shared: psycopg.Connection) -> None:
    assert shared.execute("select * from recdb.neighbors('newcomer')").fetchall() == []
    shared.execute("select recdb.track('newcomer', item_id, 'like') from recdb.interaction where user_id = 'u5'")
    shared.execute("select recdb.track('newcomer', 'brand-new', 'like')")
    found = shared.execute("select * from recdb.neighbors('newcomer', 5)").fetchall()
    assert ("u5", 12) in [(row[0], row[2]) for row in found]


def test_similar_items_have_the_nearest_vectors(shared: psycopg.Connection, expected: reference.Reference) -> None:
    for item in ("i0", "i31", "i59"):
        found = shared.execute("select * from recdb.similar_items(%s)", [item]).fetchall()
        assert len(found) == 20
        query = expected.item_vectors[expected.items.index(item)]
        assert_nearest(found, cosines(expected.item_vectors, query, expected.items, item))


def test_similar_items_are_liked_by_the_same_people(shared: psycopg.Connection) -> None:
    found = shared.execute(
        "select t.item_id, n.neighbor_id from recdb.item_key t, lateral recdb.similar_items(t.item_id, 10) n"
    ).fetchall()
    alike = [int(item[1:]) % 3 == int(neighbor[1:]) % 3 for item, neighbor in found]
    assert len(alike) == 600
    assert sum(alike) > 0.8 * len(alike)


def test_an_item_is_not_similar_to_itself(shared: psycopg.Connection) -> None:
    found = shared.execute("select neighbor_id from recdb.similar_items('i7', 1000)").fetchall()
    assert ("i7",) not in found
    assert len(found) == len(set(found)) == 59


@pytest.mark.parametrize("function", ["neighbors", "similar_items"])
def test_nothing_known_gives_nothing(shared: psycopg.Connection, function: str) -> None:
    for argument in ("'nobody'", "null", "''"):
        assert shared.execute(f"select * from recdb.{function}({argument})").fetchall() == []


@pytest.mark.parametrize("function", ["neighbors", "similar_items"])
def test_k_is_20_for_null_and_1_to_1000(shared: psycopg.Connection, function: str) -> None:
    known = "u5" if function == "neighbors" else "i5"
    rows = shared.execute(f"select * from recdb.{function}(%s, null)", [known]).fetchall()
    assert len(rows) == 20
    assert shared.execute(f"select * from recdb.{function}(%s, 3)", [known]).fetchall() == rows[:3]
    for k in (0, -1, 1001):
        with pytest.raises(psycopg.errors.InvalidParameterValue), shared.transaction():
            shared.execute(f"select * from recdb.{function}(%s, %s)", [known, k])


def test_without_a_model_there_is_nothing(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("call recdb.refresh()")
    assert db.execute("select * from recdb.neighbors('u1')").fetchall() == []
    assert db.execute("select * from recdb.similar_items('i1')").fetchall() == []


def test_a_thousand_neighbors_are_found_where_there_are_more(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=1100, items=60, per_user=6))
    train(database, dimension=16)
    found = db.execute("select neighbor_id from recdb.neighbors('u5', 1000)").fetchall()
    assert len(found) == 1000
