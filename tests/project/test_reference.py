"""docs/reference.md has the comments of the database; docs/generate_reference.py writes it."""

import runpy

import psycopg
from support.documents import DOCS, REFERENCE

describe = runpy.run_path(str(DOCS / "generate_reference.py"))["describe"]


def test_the_reference_is_what_the_database_says(db: psycopg.Connection) -> None:
    assert REFERENCE.read_text(encoding="utf-8") == describe(db), "run: python docs/generate_reference.py"


def test_a_changed_comment_is_noticed(db: psycopg.Connection) -> None:
    before = describe(db)
    db.execute("comment on function recdb.popular(bigint, jsonb, jsonb) is 'Something else.'")
    db.execute("comment on column recdb.item.title is 'Another.'")

    changed = set(describe(db).splitlines()) - set(before.splitlines())

    assert len(changed) == 2 and "Something else." in changed


def test_everything_that_the_reference_lists_has_a_comment(db: psycopg.Connection) -> None:
    missing = db.execute(
        """
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'recdb'::regnamespace and obj_description(p.oid, 'pg_proc') is null
        union all
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
          and c.relname <> 'alembic_version' and obj_description(c.oid, 'pg_class') is null
        """
    ).fetchall()

    assert missing == []
