"""Generated interactions: plausible, as many as asked, the same for the same seed, mixed with others only if asked."""

import json
import os
import pty
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from recdb import job, migrate
from recdb.cli import main
from recdb.data.generate import Generated, generate
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError

UNTIL = datetime(2024, 6, 1, 15, 30, tzinfo=UTC)


def make(database: Database, **changes: Any) -> Generated:
    arguments = {"users": 60, "items": 200, "count": 4000, "days": 30, "seed": 7, "until": UNTIL} | changes
    return generate(database, **arguments)


def rows(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    return db.execute(
        "select user_id, item_id, kind, created_at, metadata from recdb.interaction order by interaction_id"
    ).fetchall()


def test_so_many_interactions_of_so_many_users(database: Database, db: psycopg.Connection) -> None:
    make(database)
    known = rows(db)
    assert len(known) == 4000
    assert {user for user, *_ in known} == {f"user-{number}" for number in range(1, 61)}
    assert {item for _, item, *_ in known} <= {f"item-{number}" for number in range(1, 201)}
    assert Counter(kind for _, _, kind, *_ in known) == {"view": 2000, "click": 1200, "like": 600, "share": 200}
    moments = [moment for *_, moment, _ in known]
    assert UNTIL - timedelta(days=30) <= min(moments) < UNTIL - timedelta(days=24)
    assert UNTIL - timedelta(days=2) < max(moments) <= UNTIL


@pytest.mark.parametrize("size", [{"users": 1, "items": 1, "count": 1, "days": 1}, {"users": 50, "count": 7}])
def test_the_smallest_sizes(database: Database, db: psycopg.Connection, size: dict[str, int]) -> None:
    make(database, **size)
    assert len(rows(db)) == size["count"]


def test_what_follows_a_view_is_of_the_same_item_and_later(database: Database, db: psycopg.Connection) -> None:
    make(database)
    reached: dict[tuple[str, str], list[str]] = {}
    order = ["view", "click", "like", "share"]
    for user, item, kind, _, _ in sorted(rows(db), key=lambda row: (row[3], order.index(row[2]))):
        before = reached.setdefault((user, item), [])
        if kind != "view":
            assert order[order.index(kind) - 1] in before
        before.append(kind)


def test_metadata_tells_a_views_duration_and_a_clicks_depth(database: Database, db: psycopg.Connection) -> None:
    make(database)
    for *_, kind, _, metadata in rows(db):
        assert metadata.pop("generated") == 7
        if kind == "view":
            assert 1 <= metadata.pop("duration") <= 600
        elif kind == "click":
            assert 0 < metadata.pop("scroll_depth") <= 1
        assert metadata == {}


def test_the_catalogue_names_titles_topics_and_owners(database: Database, db: psycopg.Connection) -> None:
    make(database)
    catalogue = db.execute(
        "select item_id, title, owner_id, attributes->>'topic', published_at from recdb.item"
    ).fetchall()
    assert len(catalogue) == 200
    assert len({title for _, title, *_ in catalogue}) == 200
    for _, title, owner, topic, published in catalogue:
        assert topic in title
        assert 1 <= int(owner.removeprefix("user-")) <= 60
        assert published <= UNTIL


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(empty_database: Any) -> None:
    made = []
    for seed in (7, 7, 8):
        database = empty_database()
        migrate.upgrade(database)
        make(database, seed=seed, count=500)
        with psycopg.connect(database.conninfo) as connection:
            made.append([row[:4] for row in rows(connection)])
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_few_items_and_users_gather_much_and_all_have_tastes(database: Database, db: psycopg.Connection) -> None:
    """The tenth most popular items get far more than a tenth, and users touch few topics much."""
    make(database, users=300, items=800, count=20000)
    touches = db.execute("select user_id, item_id from recdb.interaction where kind = 'view'").fetchall()
    for column, entities in ((0, 300), (1, 800)):
        largest = Counter(touch[column] for touch in touches).most_common(entities // 10)
        assert sum(count for _, count in largest) > 0.25 * len(touches)
    topics = dict(db.execute("select item_id, attributes->>'topic' from recdb.item").fetchall())
    assert len(set(topics.values())) == 20
    by_user: dict[str, Counter[str]] = {}
    for user, item in touches:
        by_user.setdefault(user, Counter())[topics[item]] += 1
    first = sum(counter.most_common(1)[0][1] for counter in by_user.values() if counter.total() >= 20)
    assert first > 0.4 * sum(counter.total() for counter in by_user.values() if counter.total() >= 20)


def test_training_finds_the_tastes(database: Database, db: psycopg.Connection) -> None:
    """Most recommended items are of the three topics that a user touched most; by chance it would be 3 of 20."""
    make(database, users=200, items=800, count=12000)
    job.run(database)
    found = db.execute(
        """
        with touched as (
            select n.user_id, t.attributes->>'topic' as topic,
                row_number() over (partition by n.user_id order by count(*) desc) as place,
                sum(count(*)) over (partition by n.user_id) as events
            from recdb.interaction n join recdb.item t using (item_id)
            group by n.user_id, topic
        )
        select avg((exists (
            select from touched o
            where o.user_id = u.user_id and o.place <= 3 and o.topic = t.attributes->>'topic'))::int)::float8
        from (select distinct user_id from touched where events >= 40 order by user_id limit 30) u
        cross join lateral recommend(u.user_id, 10) r
        join recdb.item t on t.item_id = r.item_id
        """
    ).fetchone()
    assert found is not None
    assert found[0] > 0.45


def test_existing_users_and_items_are_taken(database: Database, db: psycopg.Connection) -> None:
    awkward = "a\\b\tc\nd"
    db.execute("select recdb.track(%s, 'post-1', 'view')", [awkward])
    db.execute("insert into recdb.item (item_id, owner_id, published_at) values ('post-2', 'ü', '2024-05-20Z')")

    made = make(database, existing=True, users=None, items=None, count=300)

    assert (made.users, made.items) == (2, 2)
    generated = [row for row in rows(db) if row[4]]
    assert len(generated) == 300
    assert {row[0] for row in generated} == {awkward, "ü"}
    assert {row[1] for row in generated} == {"post-1", "post-2"}
    assert min(row[3] for row in generated if row[1] == "post-2") > datetime(2024, 5, 20, tzinfo=UTC)
    assert db.execute("select count(*) from recdb.item").fetchone() == (1,)


def test_existing_says_so_when_there_are_none(database: Database, db: psycopg.Connection) -> None:
    with pytest.raises(RecdbError, match="there are no users yet"):
        make(database, existing=True)
    db.execute("insert into recdb.item (item_id) values ('post-2')")
    with pytest.raises(RecdbError, match="there are no users yet"):
        make(database, existing=True)
    assert rows(db) == []


def test_an_applications_own_item_is_kept(database: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.item (item_id, title) values ('item-1', 'Mine')")
    make(database)
    assert db.execute("select title from recdb.item where item_id = 'item-1'").fetchone() == ("Mine",)


def test_numbers_that_make_no_sense_are_refused(database: Database) -> None:
    for wrong in ({"users": 0}, {"items": 0}, {"count": 0}, {"days": 0}, {"seed": -1}):
        with pytest.raises(InvalidInput):
            make(database, **wrong)


def run_command(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *options: str,
) -> tuple[int, str, str]:
    size = ["--users", "5", "--items", "9", "--count", "40", "--days", "3", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", ["recdb", "generate", *size, *options, "--url", database.conninfo])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_data_that_was_not_generated_needs_a_yes(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # beside its own rows, it does not ask
        code, out, _ = run_command(database, monkeypatch, capsys)
        assert code == 0
        assert "generated 40 interactions of 5 users with 9 items" in out
    db.execute("select recdb.track('u', 'i', 'view', now(), null)")

    code, _, err = run_command(database, monkeypatch, capsys)
    assert code == 1
    assert "error: this database has interactions or items that were not generated" in err
    assert "--yes" in err
    assert len(rows(db)) == 81

    code, out, _ = run_command(database, monkeypatch, capsys, "--yes", "--json")
    assert code == 0
    assert json.loads(out)["interactions"] == 40
    assert len(rows(db)) == 121


def test_a_catalogue_that_was_not_generated_needs_a_yes(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    db.execute("insert into recdb.item (item_id) values ('post-2')")
    assert run_command(database, monkeypatch, capsys)[0] == 1
    assert rows(db) == []


def test_on_a_terminal_it_asks(database: Database, db: psycopg.Connection) -> None:
    db.execute("select recdb.track('u', 'i', 'view')")
    command = [sys.executable, "-m", "recdb.cli", "generate", "--count", "40", "--url", database.conninfo]
    for answer, code, count in ((b"n\n", 1, 1), (b"y\n", 0, 41)):
        leader, follower = pty.openpty()
        os.write(leader, answer)
        done = subprocess.run(command, stdin=follower, capture_output=True, check=False)
        os.close(leader)
        os.close(follower)
        assert b"Write generated ones beside them?" in done.stdout
        assert done.returncode == code
        assert len(rows(db)) == count
