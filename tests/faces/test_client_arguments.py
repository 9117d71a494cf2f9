"""What the clients take for ids, lists and numbers, and what they refuse before a driver reads it as something else."""

import enum
import uuid
from typing import Any

import numpy as np
import psycopg
import pytest
from support.data import record, tastes, train

from recdb import InvalidInput, Recommender
from recdb.database import Database

KEY = uuid.UUID("11111111-2222-3333-4444-555555555555")


@pytest.fixture(scope="module")
def client(module_database: Database) -> Any:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        rows = [[user.removeprefix("u"), item.removeprefix("i"), kind] for user, item, kind in tastes()]
        record(connection, [*rows, *([str(KEY), item, kind] for user, item, kind in rows if user == "1")])
    train(module_database)
    with Recommender(module_database.conninfo) as made:
        yield made


class Name(enum.StrEnum):
    ONE = "1"


@pytest.mark.parametrize("user", [1, np.int64(1), Name.ONE], ids=repr)
def test_an_id_is_text_an_integer_or_a_uuid(client: Recommender, user: Any) -> None:
    expected = client.recommend("1", 5)
    assert len(expected) == 5 and client.recommend(user, 5) == expected
    assert client.neighbors(user, 3) == client.neighbors("1", 3)
    assert client.explain(user, int(expected[0].item_id)) == client.explain("1", expected[0].item_id)
    assert [row.item_id for row in client.recommend_batch([user], 5)] == [row.item_id for row in expected]
    assert client.similar_items(user, 3) == client.similar_items("1", 3)
    assert client.recommend_for_items([user, 2], 3) == client.recommend_for_items(["1", "2"], 3)


def test_a_uuid_is_a_user(client: Recommender) -> None:
    assert client.recommend(KEY, 5) == client.recommend(str(KEY), 5) != []
    number = client.track(KEY, 7, "like")
    assert number > 0 and client.forget_user(KEY) > 0


@pytest.mark.parametrize("kind", [list, tuple, set, iter, np.array, lambda ids: (one for one in ids)])
def test_a_list_of_ids_is_anything_that_can_be_walked(client: Recommender, kind: Any) -> None:
    left_out = [int(row.item_id) for row in client.recommend(1, 3)]
    assert not {row.item_id for row in client.recommend(1, exclude=kind(left_out))} & set(map(str, left_out))


def test_none_is_the_default(client: Recommender) -> None:
    expected = client.recommend(1)
    assert client.recommend(1, None, None, None, None, None) == expected  # type: ignore[arg-type]
    assert client.recommend_for_items([1], 3, None, None) == client.recommend_for_items([1], 3)
    assert client.recommend(None) == []  # type: ignore[arg-type]


BAD: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("recommend", (1,), {"exclude": "63"}, "exclude is of type str, and must be a list of ids"),
    ("recommend", (1,), {"exclude": b"63"}, "exclude is of type bytes"),
    ("recommend", (1,), {"exclude": 63}, "exclude is of type int"),
    ("recommend", (1,), {"exclude": {"63": 1}}, "exclude is of type dict"),
    ("recommend", (1,), {"exclude": KEY}, "exclude is of type UUID"),
    ("recommend", (1,), {"exclude": [b"63"]}, r"exclude\[0\] is of type bytes"),
    ("recommend", (1,), {"exclude": [1, [2]]}, r"exclude\[1\] is of type list"),
    ("recommend", (1,), {"exclude": [True]}, r"exclude\[0\] is of type bool"),
    ("recommend", (b"1",), {}, "user_id is of type bytes"),
    ("recommend", (True,), {}, "user_id is of type bool"),
    ("recommend", (1.0,), {}, "user_id is of type float"),
    ("recommend", ([1],), {}, "user_id is of type list"),
    ("recommend", (1, "5"), {}, "k is of type str"),
    ("recommend", (1, 5.0), {}, "k is of type float"),
    ("recommend", (1, True), {}, "k is of type bool"),
    ("recommend", (1, 10**30), {}, "between 1 and 1000"),
    ("recommend", (1,), {"fallback": True}, "fallback is of type bool"),
    ("recommend", (1,), {"model": 1}, "model is of type int"),
    ("recommend", (1,), {"filter": ["lang"]}, "filter is of type list"),
    ("recommend", (1,), {"among": "63"}, "among is of type str, and must be a list of ids"),
    ("recommend", (1,), {"scenario": 1}, "scenario is of type int"),
    ("recommend", (1,), {"filter": {"at": KEY}}, "filter is not JSON"),
    ("recommend", (1,), {"filter": {"x": float("nan")}}, "filter is not JSON"),
    ("recommend_for_items", ("63",), {}, "items is of type str"),
    ("recommend_for_items", ([1],), {"weights": "1"}, "weights is of type str"),
    ("recommend_for_items", ([1],), {"weights": ["x"]}, "weights holds something that is no number"),
    ("recommend_for_items", ([1],), {"exclude": "63"}, "exclude is of type str"),
    ("recommend_batch", ("63",), {}, "user_ids is of type str"),
    ("neighbors", (b"1",), {}, "user_id is of type bytes"),
    ("similar_items", (False,), {}, "item_id is of type bool"),
    ("explain", (1, b"2"), {}, "item_id is of type bytes"),
    ("popular", ("4",), {}, "k is of type str"),
    ("track", (1, 2, 3), {}, "kind is of type int"),
    ("track", (1, 2, "view", "2026-01-01"), {}, "created_at is of type str"),
    ("track", (1, 2, "view"), {"metadata": [1]}, "metadata is of type list"),
    ("merge_users", (b"1", 2), {}, "from_id is of type bytes"),
    ("forget_user", (True,), {}, "user_id is of type bool"),
]


@pytest.mark.parametrize(("method", "arguments", "named", "said"), BAD, ids=lambda value: str(value)[:30])
def test_what_nobody_meant_is_refused(
    client: Recommender, method: str, arguments: tuple[Any, ...], named: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        getattr(client, method)(*arguments, **named)
