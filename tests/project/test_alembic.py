"""Alembic of an application: with recdb.alembic, autogenerate sees none of recdb's tables, in any of its schemas."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url
from support.several import make_both

import recdb.alembic
from recdb.database import Database

ENV = """
import os
import recdb.alembic
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

metadata = MetaData()
Table("post", metadata, Column("id", Integer, primary_key=True))
Table("account", metadata, Column("id", Integer, primary_key=True), schema="sales")
options = {options}
with create_engine(os.environ["APP_URL"]).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, include_schemas=True, **options)
    with context.begin_transaction():
        context.run_migrations()
"""
OPTIONS = {
    "none": "{}",
    "include_object": '{"include_object": recdb.alembic.include_object}',
    "include_name": '{"include_name": recdb.alembic.include_name}',
    "leaving_out": '{"include_object": recdb.alembic.leaving_out("nameless")}',
}


def check(database: Database, folder: Path, options: str) -> str:
    """Run `alembic check` as the application does, and return what it found."""
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV.replace("{options}", options))
    (folder / "script.py.mako").write_text("")
    (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\npath_separator = os\n")
    info = psycopg.conninfo.conninfo_to_dict(database.conninfo)
    url = make_url(f"postgresql+psycopg://{info['user']}@/{info['dbname']}").update_query_dict(
        {"host": str(info["host"])}
    )
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(folder / "alembic.ini"), "check"],
        env={**os.environ, "APP_URL": url.render_as_string()}, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_autogenerate_finds_the_applications_own_changes_alone(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    db.execute("create table post (id int primary key); create table gone (id int); create schema sales")
    db.execute("create table sales.account (id int primary key); create table sales.old (id int)")
    for schema, comment in (("people", "recdb: recommendations inside PostgreSQL"), ("nameless", "")):
        db.execute(f"create schema {schema}; comment on schema {schema} is '{comment}'")
        db.execute(f"create table {schema}.model (id int); create index on {schema}.model (id)")
    found = {name: check(database, tmp_path / name, options) for name, options in OPTIONS.items()}
    assert "removed table 'recdb." in found["none"] or "'recdb'" in found["none"], found["none"]
    for name in ("include_object", "include_name", "leaving_out"):
        assert "gone" in found[name] and "old" in found[name], found[name]
        assert "'recdb'" not in found[name] and "recdb.model" not in found[name], found[name]
        assert "people" not in found[name], found[name]
        assert ("nameless" in found[name]) == (name != "leaving_out"), found[name]


def test_where_no_env_py_runs_a_second_recommender_is_recognised(database: Database, db: psycopg.Connection) -> None:
    make_both(database)
    db.execute(
        "create schema shop; create table shop.item (item_id text primary key, title text); create table gone (id int)"
    )
    options = {"include_schemas": True, "include_object": recdb.alembic.include_object}
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database.conninfo))
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), sqlalchemy.MetaData())
    engine.dispose()
    assert sorted((change[0], change[1].fullname) for change in found) == [
        ("remove_table", "gone"), ("remove_table", "shop.item"),
    ]  # fmt: skip
