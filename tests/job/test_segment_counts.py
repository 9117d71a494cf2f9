"""The kept counts of segments: a refresh maintains them, and calls read them instead of counting."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import record, tastes, train

from recdb.database import Database

EVERYBODY = Jsonb({"language": "en"})
MEMBERS = """
select array_agg(u.user_id order by u.user_id) from recdb.segment_popularity p
join recdb.user_key u on u.user_key = any (p.member_keys) where p.segment = %s
"""


@pytest.fixture
def served(db: psycopg.Connection, database: Database) -> psycopg.Connection:
    """Sixty users of one language in two countries, and ten of another language."""
    record(db, tastes(users=70))
    db.cursor().executemany(
        "insert into recdb.user_attributes (user_id, attributes) values (%s, %s)",
        [
            (f"u{n}", Jsonb({"language": "en" if n < 60 else "sv", "country": "uk" if n < 55 else "us", "tags": ["a"]}))
            for n in range(70)
        ],
    )
    train(database)
    return db


def popular(connection: psycopg.Connection, segment: Jsonb) -> list[Any]:
    return connection.execute("select * from recdb.popular(1000, segment => %s)", [segment]).fetchall()


def counted_now(connection: psycopg.Connection, segment: Jsonb) -> list[Any]:
    """The list without the kept counts."""
    with connection.transaction(force_rollback=True):
        connection.execute("delete from recdb.segment_popularity")
        return popular(connection, segment)


def members(connection: psycopg.Connection, segment: Jsonb) -> list[str] | None:
    found = connection.execute(MEMBERS, [segment]).fetchone()
    return found[0] if found else None


def test_the_largest_segments_of_one_and_two_attributes_are_counted(served: psycopg.Connection) -> None:
    rows = served.execute("select segment, users from recdb.segment_popularity order by users desc, segment").fetchall()
    assert rows == [
        ({"language": "en"}, 60), ({"country": "uk"}, 55), ({"country": "uk", "language": "en"}, 55),
    ]  # fmt: skip


@pytest.mark.parametrize("segment", [
    {"language": "en"}, {"country": "uk", "language": "en"}, {"language": "sv"}, {"tags": ["a"]}, {"language": "xx"},
])  # fmt: skip
def test_a_kept_segment_has_the_list_that_a_call_would_count(served: psycopg.Connection, segment: Any) -> None:
    assert popular(served, Jsonb(segment)) == counted_now(served, Jsonb(segment)) != []


def test_a_call_reads_the_kept_counts_and_a_full_refresh_counts_again(
    served: psycopg.Connection, database: Database
) -> None:
    before = popular(served, EVERYBODY)
    served.execute("delete from recdb.user_attributes where user_id not in ('u0', 'u1')")
    assert popular(served, EVERYBODY) == before
    served.execute("select recdb.rebuild()")
    assert served.execute("select count(*) from recdb.segment_popularity").fetchone() == (0,)
    assert popular(served, EVERYBODY) != before


def test_refreshes_count_segments_again_in_turn(served: psycopg.Connection) -> None:
    served.execute("insert into recdb.interaction (user_id, item_id, kind) select 'u' || n, 'i1', 'like' "
                   "from generate_series(0, 59) n")  # fmt: skip
    served.execute("update recdb.segment_popularity set took = '1 hour'")
    before = popular(served, EVERYBODY)
    served.execute("call recdb.refresh()")
    assert popular(served, EVERYBODY) == before != counted_now(served, EVERYBODY)
    served.execute("update recdb.segment_popularity set took = '0'")
    for _ in range(3):
        served.execute("call recdb.refresh()")
        served.execute("update recdb.segment_popularity set took = '0'")
    assert popular(served, EVERYBODY) == counted_now(served, EVERYBODY) != before


def test_a_forgotten_user_leaves_the_counts_at_once(served: psycopg.Connection) -> None:
    assert "u3" in (members(served, EVERYBODY) or [])
    served.execute("select recdb.forget_user('u3')")
    assert members(served, EVERYBODY) is None
    without = popular(served, EVERYBODY)
    assert without == counted_now(served, EVERYBODY)
    served.execute("call recdb.refresh()")
    assert len(members(served, EVERYBODY) or []) == 59
    assert popular(served, EVERYBODY) == without


@pytest.mark.parametrize("leave", [
    "insert into recdb.ignored_user (user_id) values ('u3')",
    "select recdb.merge_users('u3', 'u65')",
    "delete from recdb.interaction where user_id = 'u3'; insert into recdb.changed_user (user_id) values ('u3')",
])  # fmt: skip
def test_a_refresh_counts_segments_again_that_lost_a_user(served: psycopg.Connection, leave: str) -> None:
    served.execute("update recdb.segment_popularity set took = '1 hour'")
    before = popular(served, EVERYBODY)
    served.execute(leave)
    served.execute("call recdb.refresh()")
    assert popular(served, EVERYBODY) == counted_now(served, EVERYBODY) != before
    waiting = "select count(*) from recdb.segment_popularity where item_keys is null"
    assert served.execute(waiting).fetchone() == (0,)
