"""A database as Supabase sets a project up: its roles, schema auth, pgvector in schema extensions, PostgREST's calls.

Since October 2026 no project grants new tables of schema public to the roles of its API. Functions are granted here, as
in older projects. The owner of the tables is no superuser, creates roles and bypasses row-level security. On Supabase
this role is called postgres, which is the superuser's name on the tests' servers.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recdb.database import Database

OWNER = "project_owner"
PROJECT = f"""
create role {OWNER} login createrole createdb bypassrls;
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to {OWNER};
create schema extensions;
grant usage on schema extensions to public;
create extension vector schema extensions;
create schema auth;
create table auth.users (id uuid primary key, email text);
create function auth.uid() returns uuid language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
grant usage on schema auth to {OWNER}, anon, authenticated, service_role;
grant select, insert, references on auth.users to {OWNER};
grant all on schema public to {OWNER};
grant usage on schema public to anon, authenticated, service_role;
alter default privileges for role {OWNER} in schema public grant all on functions to anon, authenticated, service_role;
"""


def build(database: Database) -> Database:
    """Set an empty database of a server up as a project; return it as its owner reaches it."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(PROJECT)
        name = connection.info.dbname
        connection.execute(f'grant create, connect on database "{name}" to {OWNER}')
        connection.execute(f'alter database "{name}" set search_path = "$user", public, extensions')
    return Database(make_conninfo(database.conninfo, user=OWNER), "test")


def url_of(database: Database) -> str:
    """Return the database's URL."""
    parts = conninfo_to_dict(database.conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?" + urlencode(
        {"host": str(parts["host"]), "port": str(parts["port"])}
    )


@contextmanager
def request(database: Database, role: str, subject: str | None = None) -> Iterator[psycopg.Connection]:
    """Open a transaction as PostgREST does for a request with a JSON web token."""
    claims = {"role": role} | ({"sub": subject} if subject else {})
    with psycopg.connect(make_conninfo(database.conninfo, user="authenticator")) as connection:
        connection.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true), "
            "set_config('search_path', 'public, extensions', true)",
            [role, json.dumps(claims)],
        )
        yield connection
        connection.rollback()


def rpc(connection: psycopg.Connection, function: str, arguments: dict[str, Any], types: dict[str, str]) -> list[Any]:
    """Call a function as PostgREST does: arguments by name, of the function's types, out of a JSON object."""
    columns = ", ".join(f"{name} {types[name]}" for name in arguments)
    named = ", ".join(f"{name} := body.{name}" for name in arguments)
    source = f"from json_to_record(%s::json) as body({columns}), " if arguments else "from "
    return connection.execute(
        f"select result.* {source} lateral public.{function}({named}) result",
        [json.dumps(arguments)] if arguments else None,
    ).fetchall()
