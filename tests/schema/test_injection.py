"""SQL in ids, filters, kinds, labels, file names, names of tables and columns, and conditions stays data."""

import csv
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.data import record, tastes, train
from typer.testing import CliRunner

from recdb.cli import app
from recdb.data.attach import attach, detach
from recdb.data.sources import Source
from recdb.database import Database
from recdb.errors import InvalidInput

NASTY = [
    "'; drop table public.victim; --",
    '"; drop table public.victim; --',
    "$$; drop table public.victim; $$",
    "$trap$ 'a' \"b\" \\'; drop table public.victim",
    "%s %(x)s %I %L %1$s {} {0} {vector} @vector@ :x $1 ?",
    "x'); select 1/0; --\n/*",
]


@pytest.fixture(autouse=True)
def victim(db: psycopg.Connection) -> None:
    db.execute("create table public.victim (id integer)")


def survives(db: psycopg.Connection) -> bool:
    return db.execute("select to_regclass('public.victim') is not null").fetchone() == (True,)


@pytest.mark.parametrize("nasty", NASTY)
def test_ids_kinds_filters_and_labels(database: Database, db: psycopg.Connection, nasty: str) -> None:
    rows: list[list[Any]] = [[f"{user}{nasty}", f"{item}{nasty}", kind] for user, item, kind in tastes()]
    record(db, rows)
    train(database)
    user, item = f"u1{nasty}", f"i1{nasty}"
    listed = db.execute("select item_id from recdb.recommend(%s::text, 5)", [user]).fetchall()
    assert listed and all(found.endswith(nasty) for (found,) in listed)
    rest = db.execute("select item_id from recdb.recommend(%s::text, 5, %s::text[])", [user, [listed[0][0]]]).fetchall()
    assert listed[0] not in rest
    as_text = json.dumps([listed[0][0]])
    assert db.execute("select item_id from recdb.recommend(%s::text, 5, %s::text)", [user, as_text]).fetchall() == rest
    filtered = "select * from recdb.recommend(%s::text, 5, filter => %s::jsonb)"
    assert db.execute(filtered, [user, json.dumps({nasty: nasty})]).fetchall() == []
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("select * from recdb.recommend(%s::text, 5, model => %s::text)", [user, nasty])
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("select recdb.activate(%s::text)", [nasty])
    db.execute("select recdb.track(%s::text, %s::text, %s::text)", [user, f"new{nasty}", nasty[:50]])
    db.execute("call recdb.refresh()")
    for command in (["recommend", user], ["recommend", user, "--exclude", nasty], ["activate", nasty], ["models"]):
        CliRunner().invoke(app, [command[0], "--url", database.conninfo, *command[1:]])
    for function in ("neighbors", "similar_items"):
        db.execute(f"select * from recdb.{function}(%s::text)", [user if function == "neighbors" else item])
    found = db.execute("select e.* from recdb.explain(%s::text, %s::text) e", [user, listed[0][0]]).fetchall()
    assert found
    assert db.execute("select recdb.forget_user(%s::text) > 0", [user]).fetchone() == (True,)
    assert survives(db)


@pytest.mark.parametrize("nasty", NASTY)
def test_names_of_tables_and_columns(database: Database, db: psycopg.Connection, nasty: str) -> None:
    """Their names are quoted in the views, in the functions that read them, and in the statements that recdb prints."""
    name = nasty.replace(".", " ")[:40]
    table, user, item, kind, at = (sql.Identifier(f"{part} {name}") for part in ("t", "u", "i", "k", "a"))
    db.execute(
        sql.SQL("create table public.{} ({} text, {} text, {} text, {} timestamptz)").format(
            table, user, item, kind, at
        )
    )
    db.execute(sql.SQL("insert into public.{} values ({n}, {n}, {n}, now())").format(table, n=sql.Literal(nasty)))
    mapping = {"user": f"u {name}", "item": f"i {name}", "kind": f"k {name}", "at": f"a {name}"}
    (attached,) = attach(database, [Source("interactions", f'public."{"t " + name}"', mapping)])
    assert db.execute("select user_id, item_id, kind from recdb.interactions").fetchall() == [(nasty, nasty, nasty)]
    assert db.execute("select item_id from recdb.interactions_of(%s::text)", [nasty]).fetchall() == [(nasty,)]
    for warning in attached.warnings:
        if warning.fix:
            db.execute(warning.fix.replace("…", "0.5"))
    db.execute("select recdb.rebuild()")
    db.execute("select recdb.forget_user(%s::text)", [nasty])
    assert db.execute("select * from recdb.interactions").fetchall() == []
    catalogue = Source("items", f'public."{"t " + name}"', {"item": f"i {name}", "attributes": f"u {name}"})
    db.execute(sql.SQL("create unique index on public.{} ({})").format(table, item))
    attach(database, [catalogue])
    assert db.execute("select item_id, attributes from recdb.items").fetchall() == [(nasty, {f"u {name}": nasty})]
    detach(database, None)
    assert survives(db)


@pytest.mark.parametrize(
    "condition",
    [
        "true); drop table public.victim; --",
        "true) union select 'a', 'b', 'c', now() from public.victim --",
        "true; drop table public.victim",
        "(select 1/0) = 1); --",
        "%s", "{}", "$1 = 'x'", "@vector@", "/* ", "'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["where", "available"])
def test_a_condition_is_one_expression(database: Database, db: psycopg.Connection, condition: str, key: str) -> None:
    db.execute("create table public.t (u text, i text primary key, k text)")
    if key == "where":
        source = Source("interactions", "public.t", {"user": "u", "item": "i", "kind": "k", "where": condition})
    else:
        source = Source("items", "public.t", {"item": "i", "available": condition})
    with pytest.raises(InvalidInput):
        attach(database, [source])
    assert survives(db)
    assert db.execute("select count(*) from recdb.attachment").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["'a''; drop table public.victim; --'", "'%s {} $$'", "'a' || current_user || 'b'"])
def test_a_constant_kind_is_a_constant(database: Database, db: psycopg.Connection, kind: str) -> None:
    db.execute("create table public.t (u text, i text); insert into public.t values ('u', 'i')")
    attach(database, [Source("interactions", "public.t", {"user": "u", "item": "i", "kind": kind})])
    (found,) = db.execute("select kind from recdb.interactions").fetchone() or ("",)
    assert found == kind[1:-1].replace("''", "'")
    assert survives(db)


@pytest.mark.parametrize("nasty", [text.replace("/", "").replace("\n", "") for text in NASTY])
def test_files_and_what_is_in_them(database: Database, db: psycopg.Connection, tmp_path: Path, nasty: str) -> None:
    file = tmp_path / f"{nasty}.csv"
    with file.open("w", newline="") as opened:
        rows = [("user_id", "item_id", "kind", nasty), (nasty, nasty, "view", nasty)]
        csv.writer(opened).writerows(rows)
    CliRunner().invoke(app, ["load", "--url", database.conninfo, str(file)])
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("user_id", "item_id", "kind"), (nasty, nasty, nasty[:60])])
    result = CliRunner().invoke(app, ["load", "--url", database.conninfo, str(file)])
    assert result.exit_code == 0, result.output
    assert db.execute("select user_id, item_id, kind from recdb.interaction").fetchall() == [(nasty, nasty, nasty[:60])]
    assert survives(db)
