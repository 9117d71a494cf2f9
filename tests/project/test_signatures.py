"""Released SQL functions keep their signatures: callers of an older release go on working.

With RECDB_WRITE_SIGNATURES=1 in the environment, the test adds the functions of this release to the list.
"""

import os
from pathlib import Path

import psycopg

RELEASED = Path(__file__).parents[2] / "migrations" / "signatures.txt"

# The owner of the schema calls these; every other public function is granted to a role.
OWNERS = ["activate", "forget_user", "rebuild"]


def read_signatures(connection: psycopg.Connection) -> set[str]:
    """Read the public functions of a database, a line each: name, arguments with defaults, and result."""
    rows = connection.execute(
        """
        select format('%%s.%%s(%%s)', n.nspname, p.proname, pg_get_function_arguments(p.oid))
            || coalesce(' returns ' || pg_get_function_result(p.oid), '')
        from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace
        where (n.nspname = 'recdb' or n.nspname = 'public' and p.proname = 'recommend')
          and (p.proname = any (%s) or exists (
              select from aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
              where starts_with(r.rolname, 'recdb_')))
        """,
        [OWNERS],
    )
    return {row[0] for row in rows}


def released(text: str) -> set[str]:
    """Read the list."""
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def test_released_functions_keep_their_signatures(db: psycopg.Connection) -> None:
    text = RELEASED.read_text(encoding="utf-8")
    present = read_signatures(db)

    if os.environ.get("RECDB_WRITE_SIGNATURES"):
        head = [line for line in text.splitlines() if line.startswith("#")]
        RELEASED.write_text("\n".join([*head, *sorted(present | released(text))]) + "\n", encoding="utf-8")
    assert released(text) - present == set()


def test_a_changed_default_and_a_missing_function_are_noticed(db: psycopg.Connection) -> None:
    before = read_signatures(db)
    assert (
        "recdb.popular(k bigint DEFAULT 50, filter jsonb DEFAULT NULL::jsonb, segment jsonb DEFAULT NULL::jsonb) "
        "returns TABLE(item_id text, score double precision)"
    ) in before

    db.execute("drop function recdb.popular(bigint, jsonb, jsonb)")
    db.execute("create or replace function recdb.forget_user(user_id text default null) returns bigint "
               "language sql as 'select 0::bigint'")  # fmt: skip

    assert {line.partition("(")[0] for line in before - read_signatures(db)} == {"recdb.popular", "recdb.forget_user"}
