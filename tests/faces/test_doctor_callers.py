"""recdb doctor finds a current_user_id() that names recdb's owner in the place of the caller."""

import psycopg
import pytest
from support.doctor import findings

from recdb import migrate
from recdb.database import Database

WRONG = {
    "current_user": "language sql stable as $$ select current_user::text $$",
    "role": "language sql stable as 'select Current_Role::text'",
    "user": "language sql stable as $$ select user::text $$",
    "atomic": "language sql stable begin atomic; select current_user::text; end",
    "plpgsql": "language plpgsql stable as $$ begin return (select a.id from public.acc a where a.name = user); end $$",
    "by another function": "language sql stable as $$ select app.me() $$",
}
RIGHT = {
    "session_user": "language sql stable as $$ select session_user::text $$",
    "setting": "language sql stable as $$ select current_setting('role') -- current_user is the owner here $$",
    "table": """language sql stable as $$ select u.user from "user" u where u.user = session_user::text $$""",
    "name": "language sql stable as $$ select session_user::text as user $$",
    "text": "language sql stable as $$ select current_setting('app.current_user', true) $$",
    "other function": "language sql stable as $$ select app.uid() $$",
}
TABLES = """
create table public.acc (id text, name text); create table public."user" ("user" text); create schema app;
create function app.me() returns text language sql stable as 'select current_user::text';
create function app.uid() returns text language sql stable as $$ select current_setting('request.sub', true) $$;
"""


@pytest.mark.parametrize("name", WRONG)
def test_the_owner_in_the_place_of_the_caller_is_found(database: Database, db: psycopg.Connection, name: str) -> None:
    db.execute(TABLES)
    db.execute(f"create or replace function recdb.current_user_id() returns text {WRONG[name]}")
    found = findings(db)["callers"]
    assert found.state == "fail" and "gives everybody the list of the owner" in found.message
    assert ("app.me()" in found.message) == (name == "by another function")
    assert any("gives everybody" in line for line in migrate.upgrade(database))
    assert found.fix and "select session_user::text" in found.fix
    db.execute(found.fix[found.fix.index("create or") : found.fix.index("; where a server")])
    assert "callers" not in findings(db)
    assert migrate.upgrade(database) == []


def test_the_advice_names_the_caller(db: psycopg.Connection) -> None:
    """Also where a server logs in as one role and becomes another one."""
    db.execute(
        "create or replace function recdb.current_user_id() returns text language sql stable as "
        "$$ select nullif(current_setting('role'), 'none') $$; create role asking; "
        "create function public.asked() returns text language sql security definer as "
        "$$ select recdb.current_user_id() $$"
    )
    try:
        db.execute("set role asking")
        assert db.execute("select public.asked()").fetchone() == ("asking",)
    finally:
        db.execute("reset role; drop owned by asking; drop role asking")


@pytest.mark.parametrize("name", RIGHT)
def test_other_answers_are_left_alone(db: psycopg.Connection, name: str) -> None:
    db.execute(TABLES)
    db.execute(f"create or replace function recdb.current_user_id() returns text {RIGHT[name]}")
    assert "callers" not in findings(db)
