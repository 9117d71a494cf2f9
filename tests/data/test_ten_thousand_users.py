"""An application with 10,000 users adopts recdb by the commands of the documents, while its users go on writing."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.data import column, recommend
from support.documents import COMMAND, README
from support.outside import dump_schema, enter_shell
from support.servers import Server

from recdb.database import Database

PROJECT = Path(__file__).parents[2]
APPLICATION = PROJECT / "examples" / "application"
WALK_THROUGH = APPLICATION / "README.md"
USERS = 10_000
POSTS = 3_000
INTERACTIONS = 120_000
WRITERS = 2
PAUSE = 0.01  # seconds between two turns of a writer: users are slower, and the job needs a processor too

RIGHTS = """
create role feed login;
grant select, insert, update, delete on all tables in schema public to feed;
"""


def commands(document: Path, heading: str) -> list[str]:
    """Read the commands of a section, also those that the test of the README skips."""
    section = document.read_text(encoding="utf-8").split(f"\n{heading}\n")[1]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [found["command"].replace("\n> ", "\n") for block in blocks for found in COMMAND.finditer(block)]


FIVE = commands(README, "## An existing application, in five commands")
FURTHER = commands(WALK_THROUGH, "## Attach, refresh, recommend")
QUICKLY, NIGHTLY, DOCTOR, *BACK = commands(WALK_THROUGH, "## From then on")
(FEED,) = re.findall(r"^```sql\n(.*?);\n```$", WALK_THROUGH.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


RECORD: LiteralString = """
    insert into user_interaction (id, user_id, post_id, interaction_type)
    values (%(id)s, %(user)s, %(post)s, %(kind)s)
"""

HELD_BACK: LiteralString = """
    delete from user_interaction
    where hashtext(id) & 7 = 0
    returning user_id, post_id, interaction_type, hashtext(post_id) as hash
"""


class Application:
    """The application's writers, which write all the time; each has posts of its own, so that none waits for another.

    They record interactions that were taken out of the prepared database for this.
    """

    def __init__(self, database: Database) -> None:
        self.conninfo = make_conninfo(database.conninfo, user="feed")
        with psycopg.connect(self.conninfo) as connection:
            self.interactions = connection.execute(HELD_BACK).fetchall()
        self.recommends = Event()
        self.stopped = Event()
        self.turn = Condition()
        self.turns = 0
        self.errors: list[BaseException] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [Thread(target=self.write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()

    def go_on(self) -> None:
        """Wait until the writers have taken some more turns."""
        with self.turn:
            wanted = self.turns + 20
            assert self.turn.wait_for(lambda: self.errors or self.turns >= wanted, timeout=60)
        assert not self.errors

    def write(self, number: int) -> None:
        try:
            with psycopg.connect(self.conninfo, autocommit=True) as connection:
                connection.execute("set lock_timeout = '5s'")
                self.take_turns(connection, number)
        except BaseException as error:
            with self.turn:
                self.errors.append(error)
                self.turn.notify_all()

    def take_turns(self, connection: psycopg.Connection[Any], number: int) -> None:
        mine = [row for *row, post_hash in self.interactions if post_hash % WRITERS == number]
        gone = set()
        for turn, (user, post, kind) in enumerate(mine):
            # On a slow machine the commands take long: the second half of the stock lasts twenty times as long.
            if self.stopped.wait(PAUSE if turn < len(mine) / 2 else 20 * PAUSE):
                return
            if post in gone:
                continue
            if turn % 40 == 20:
                connection.execute("update post set deleted_at = now() where id = %s", [post])
            elif turn % 40 == 39:
                connection.execute("delete from post where id = %s", [post])
                gone.add(post)
            else:
                self.act(connection, turn, {"user": user, "post": post, "kind": kind, "id": f"{number}-{turn}"})
            with self.turn:
                self.turns += 1
                self.turn.notify_all()
        raise AssertionError("the writers have nothing left to write")

    def act(self, connection: psycopg.Connection[Any], turn: int, values: dict[str, str]) -> None:
        """Record an interaction or a related row; if there are recommendations, read them."""
        around: dict[int, LiteralString] = {
            1: "insert into comment (id, user_id, post_id, content) values (%(id)s, %(user)s, %(post)s, 'Yes')",
            2: "insert into follow select %(user)s, p.user_id from post p where p.id = %(post)s on conflict do nothing",
            3: "insert into post (id, user_id, topic, content, original_post_id) "
            "values (%(id)s, %(user)s, 'chess', '', %(post)s)",
            4: "insert into post (id, user_id, topic, content) values (%(id)s, %(user)s, 'chess', 'New')",
        }
        connection.execute(around.get(turn % 20, RECORD), values)
        if self.recommends.is_set() and turn % 20 > 4:
            assert values["post"] not in {row[0] for row in recommend(connection, values["user"])}


@pytest.fixture(params=[16, 18], ids=["PostgreSQL 16", "PostgreSQL 18"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Database]:
    """The application's database, before recdb is installed."""
    server: Server = request.getfixturevalue("postgres_16" if request.param == 16 else "other_server")
    make: Callable[[], Database] = request.getfixturevalue(
        "older_database" if request.param == 16 else "other_database"
    )
    made = make()
    name = str(conninfo_to_dict(made.conninfo)["dbname"])
    seed = [sys.executable, APPLICATION / "seed.py", made.conninfo, "--users", USERS, "--posts", POSTS]
    with psycopg.connect(made.conninfo) as connection:
        connection.execute((APPLICATION / "schema.sql").read_text())
    subprocess.run([*map(str, seed), "--interactions", str(INTERACTIONS)], check=True)
    with psycopg.connect(made.conninfo) as connection:
        connection.execute(RIGHTS)
    enter_shell(monkeypatch, made, tmp_path)
    yield made
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")
        connection.execute("drop role feed")


def run(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


# The weights, straight from the application's tables; a deleted post has no interactions any more.
WEIGHTS = """
    select e.user_id, e.item_id, round(sum(k.weight)::numeric, 6)
    from (
        select user_id, post_id, interaction_type from user_interaction
        union all select user_id, post_id, 'comment' from comment
        union all select follower_id, following_id, 'follow' from follow
        union all select user_id, original_post_id, 'share' from post where original_post_id is not null
    ) e (user_id, item_id, kind)
    join recdb.interaction_kind k using (kind)
    group by 1, 2
"""
LEARNED = """
    select w.user_id, w.item_id, round(w.weight::numeric, 6)
    from recdb.user_item_weights w
    where w.item_id in (select id from post) or w.item_id in (select id from "user")
"""


@pytest.mark.server
def test_it_is_taken_on_under_way_and_given_up_again(database: Database) -> None:
    before = dump_schema(database)
    application = Application(database)
    with application.running():
        application.go_on()
        assert FIVE[0] == "pip install ."  # the environment of the tests has it already
        for command in FIVE[1:]:
            shown = run(command)
            application.go_on()
        assert "(50 rows)" in shown
        application.recommends.set()
        for command in (*FURTHER, QUICKLY):
            run(command)
            application.go_on()
    assert not application.errors

    run(QUICKLY)
    with psycopg.connect(application.conninfo, autocommit=True) as feed, psycopg.connect(database.conninfo) as owner:
        for one, other in ((WEIGHTS, LEARNED), (LEARNED, WEIGHTS)):
            assert owner.execute(f"select * from ({one}) o except all select * from ({other}) p").fetchall() == []
        chosen = column(owner.execute('select id from "user" order by md5(id) limit 40'))
        for user in chosen:
            assert_feed(feed, user)
        assert_newcomer(feed, chosen[0])

    for command in (NIGHTLY, DOCTOR, *BACK):
        run(command)
    assert dump_schema(database) == before


def assert_feed(feed: psycopg.Connection[Any], user: str) -> None:
    """Under the application's role the feed's query returns only allowed posts, and explanations add up to scores."""
    query = FEED.replace(":'user'", "%s")
    ids, scores = [], {}
    for post, content, _, _, score, model in feed.execute(query, [user]).fetchall():
        assert content and model
        ids.append(post)
        scores[post] = score
    refused = """
        select p.id from post p
        where p.id = any (%(ids)s) and (
            p.user_id = %(user)s or p.deleted_at is not null or p.original_post_id is not null
            or exists (select from user_interaction i where i.user_id = %(user)s and i.post_id = p.id)
            or exists (select from comment c where c.user_id = %(user)s and c.post_id = p.id)
            or exists (select from post r where r.user_id = %(user)s and r.original_post_id = p.id))
    """
    assert len(ids) == 50 or feed.execute(
        "select count(*) from user_interaction where user_id = %s", [user]
    ).fetchone() == (0,)
    assert feed.execute(refused, {"ids": ids, "user": user}).fetchall() == []
    assert [row[0] for row in recommend(feed, user)] == ids
    for post in (*ids[:2], *ids[-1:]):
        parts = column(feed.execute("select contribution from recdb.explain(%s, %s)", [user, post]))
        assert sum(parts) == pytest.approx(scores[post], abs=1e-6)


def assert_newcomer(feed: psycopg.Connection[Any], somebody: str) -> None:
    """A new user has no feed; after liking one post, the user has one."""
    feed.execute("insert into \"user\" (id, handle, name) values ('newcomer', 'newcomer', 'New')")
    assert recommend(feed, "newcomer") == []
    (post, *_), *_ = recommend(feed, somebody)
    feed.execute(
        "insert into user_interaction (id, user_id, post_id, interaction_type) "
        "values ('first', 'newcomer', %s, 'like')",
        [post],
    )
    assert_feed(feed, "newcomer")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        feed.execute("select * from recdb.interactions")
