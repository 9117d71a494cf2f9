"""An application's tables as sources, and how the tests of recdb.data.attach read them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import application
from support.application import user_id
from support.data import column, recommend
from support.outside import dump_schema

from recdb import migrate
from recdb.data.sources import Source, parse_source
from recdb.database import Database

Make = Callable[[], Database]

INTERACTIONS = parse_source("public.user_interaction user=user_id item=post_id kind=interaction_type at=created_at")

LIKES = parse_source('public."like" user=user_id item=post_id kind=like at=created_at')

ITEMS = Source(
    "items",
    "public.post",
    {
        "item": "id",
        "owner": "user_id",
        "published": "created_at",
        "available": "deleted_at is null",
        "title": "content",
        "attributes": "topic",
    },
)

SOURCES = [INTERACTIONS, LIKES, ITEMS]


@contextmanager
def owned_by_librarian(db: psycopg.Connection) -> Iterator[Database]:
    """Build the application's tables, which stay postgres's, and let a role without superuser own recdb beside them."""
    application.build(db)
    migrate.uninstall(Database(db.info.dsn, "test"))
    librarian = Database(make_conninfo(db.info.dsn, user="librarian"), "test")
    db.execute("create extension vector; create role librarian login")
    try:
        for kind, name in (("database", db.info.dbname), ("schema", "public")):
            db.execute(sql.SQL("grant create on {} {} to librarian").format(sql.SQL(kind), sql.Identifier(name)))
        db.execute(f"grant {', '.join(migrate.ROLES)} to librarian with admin option")
        db.execute('grant select on user_interaction, "like", post to librarian')
        migrate.upgrade(librarian)
        yield librarian
    finally:
        db.execute("drop owned by librarian cascade; drop role librarian")


def interact(db: psycopg.Connection, user: str, item: str, kind: str = "like") -> None:
    """Record an interaction as the application does."""
    db.execute(
        "insert into user_interaction (user_id, post_id, interaction_type) values (%s, %s, %s)", [user, item, kind]
    )


def by_user(db: psycopg.Connection, user: str | None) -> list[tuple[object, ...]]:
    return db.execute(
        "select item_id, kind, created_at from recdb.interactions_of(%s) order by 1, 2, 3", [user]
    ).fetchall()


def plan_of(db: psycopg.Connection, query: str, *parameters: object) -> str:
    return "\n".join(column(db.execute(sql.SQL("explain {}").format(sql.SQL(query)), parameters)))


def schema_and_mappings(database: Database) -> object:
    with psycopg.connect(database.conninfo) as connection:
        mappings = connection.execute("select role, relation, mapping from recdb.attachment order by 1, 2").fetchall()
        settings = connection.execute("select listed_only from recdb.config").fetchone()
    return dump_schema(database), mappings, settings


def assert_serves(db: psycopg.Connection) -> None:
    """The whole story: recommendations, live interactions, own, hidden, deleted and unavailable posts."""
    mine = user_id(db, 1)
    rows = recommend(db, mine)
    assert rows and rows[0][1] == 1
    touched = set(column(db.execute("select post_id::text from user_interaction where user_id::text = %s", [mine])))
    own = set(column(db.execute("select id::text from post where user_id::text = %s", [mine])))
    everything = {row[0] for row in recommend(db, mine, 1000, fallback="popular")}
    assert not everything & (touched | own)
    assert everything <= set(column(db.execute("select id::text from post")))

    first, second, third = (row[0] for row in rows[:3])
    interact(db, mine, first)
    assert first not in {row[0] for row in recommend(db, mine)}
    db.execute("update post set deleted_at = now() where id::text = %s", [second])
    assert second not in {row[0] for row in recommend(db, mine, 1000, fallback="popular")}
    db.execute("delete from post where id::text = %s", [third])
    assert third not in {row[0] for row in recommend(db, mine, 1000, fallback="popular")}

    newcomer = (
        """insert into "user" (id, email) select {} from "user" where email = 'user1@example.com' returning id::text"""
    )
    kind = db.execute("select pg_typeof(id)::text from post limit 1").fetchone()
    made = {"text": "'newcomer', 'new'", "uuid": "gen_random_uuid(), 'new'", "bigint": "777777, 'new'"}[
        kind[0] if kind else ""
    ]
    (new,) = column(db.execute(newcomer.format(made)))
    assert recommend(db, new) == []
    interact(db, new, first)
    assert recommend(db, new)
