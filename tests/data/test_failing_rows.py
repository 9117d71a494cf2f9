"""One row that an expression of the application cannot read: attach refuses it, and later it stops nobody else."""

import psycopg
import pytest
from support.attached import owned_by_librarian
from support.commands import run
from support.data import column, recommend, tastes
from support.doctor import findings

from recdb import job, migrate
from recdb.data.attach import attach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.errors import InvalidInput

TABLES = """
create table click (who text, what text, price text, said text, at timestamptz default now() - interval '1 hour');
create index on click (who, at);
create index on click (at);
create type rating as enum ('good', 'bad');
create function refuse(price text) returns double precision language plpgsql as $$
begin
    if price = 'odd' then raise 'no such price' using errcode = 'P0815'; end if;
    return 1;
end $$;
create table post (id text primary key, stock text);
insert into post select 'i' || n, '3' from generate_series(0, 59) n;
"""
CLICKS = "public.click user=who item=what kind=like at=at"

# How a table is read, the row that fails later, and what the error names: the part that fails, and PostgreSQL's reason.
EXPRESSIONS = {
    "cast": ("value=price::integer", "n/a", "--value 'price::integer'", "invalid input syntax"),
    "zero": ("value=10 / price::integer", "0", "--value '10 / price::integer'", "division by zero"),
    "range": ("value=price::smallint", "99999", "--value 'price::smallint'", "out of range"),
    "function": ("value=public.refuse(price)", "odd", "--value 'public.refuse(price)'", "no such price"),
    "json": ("value=(price::jsonb ->> 'n')::integer", '{"n": "x"}', "--value", "invalid input syntax"),
    "condition": ("where=price::integer < 5", "n/a", "--where 'price::integer < 5'", "invalid input syntax"),
}
VIEWS = {
    "view": ("who, what, price::integer as cost, at", "cost", "n/a"),
    "text time": ("who, what, null::integer as cost, price::timestamptz as at", "at", "yesterday noon"),
    "user": ("price::integer as who, what, null::integer as cost, at", "who", "n/a"),
    "item": ("who, price::bigint as what, null::integer as cost, at", "what", "n/a"),
}


def fill(db: psycopg.Connection, price: str = "1") -> None:
    db.execute(TABLES)
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into click (who, what, price) values (%s, %s, %s)", [(u, i, price) for u, i, _ in tastes()]
        )


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_attach_refuses_an_expression_that_fails_for_a_row(
    database: Database, db: psycopg.Connection, name: str
) -> None:
    expression, price, part, reason = EXPRESSIONS[name]
    fill(db, '{"n": 1}' if name == "json" else "1")
    db.execute("insert into click values ('u7', 'i8', %s)", [price])
    with pytest.raises(InvalidInput) as refused:
        attach(database, [parse_source(f"{CLICKS} {expression}")])
    assert "public.click" in str(refused.value) and part in str(refused.value) and reason in str(refused.value)
    if name not in ("condition", "function"):  # PostgreSQL reads nothing of the row without them
        assert "user 'u7' and item 'i8'" in str(refused.value)
    assert refused.value.hint and "detach" not in refused.value.hint
    db.execute("delete from click where who = 'u7' and what = 'i8'")
    attach(database, [parse_source(f"{CLICKS} {expression}")])


@pytest.mark.parametrize("name", VIEWS)
def test_attach_names_the_column_of_a_view_that_fails(database: Database, db: psycopg.Connection, name: str) -> None:
    columns, failing, price = VIEWS[name]
    fill(db, "2026-01-01" if name == "text time" else "1")
    db.execute(f"create view clicks as select {columns} from click")
    db.execute("insert into click values ('u7', 'i8', %s)", [price])
    with pytest.raises(InvalidInput, match=rf"public.clicks as interactions: column {failing} fails") as refused:
        attach(database, [parse_source("public.clicks user=who item=what kind=like at=at value=cost")])
    assert ("user 'u7' and item 'i8'" in str(refused.value)) == (failing not in ("who", "what"))


def test_a_later_row_stops_only_its_own_user_and_the_refresh_and_all_name_the_table(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(db)
    attach(database, [parse_source(f"{CLICKS} value=price::integer")])
    job.run(database)
    before = recommend(db, "u1")
    db.execute("insert into click values ('u2', 'i3', 'n/a', null, now())")

    assert recommend(db, "u1") == before
    problem = (
        "recdb cannot read every row of public.click as interactions: --value 'price::integer' fails for user 'u2'"
    )
    for call in ("select * from recommend('u2')", "call recdb.refresh()", "select recdb.rebuild()",
                 "select * from recdb.interactions", "select * from recdb.neighbors('u2')"):  # fmt: skip
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as raised:
            db.execute(call)
        assert problem in str(raised.value), call
        assert "case when x ~" in str(raised.value.diag.message_hint)
    for command in ("refresh", "refresh --full", "recommend u2", "evaluate"):
        ended = run(command.split(), monkeypatch, capsys, database.conninfo)
        assert ended.code == 1 and problem in ended.complaints[0], ended
        assert "recdb attach" in ended.hints[0] and "recdb detach public.click" in ended.hints[0]
    ended = run(["init"], monkeypatch, capsys, database.conninfo)
    assert ended.code == 0 and problem in ended.output
    checks = findings(db)
    assert checks["rows"].state == "fail" and problem in checks["rows"].message
    assert "times" not in checks  # it reads all rows, and would say the same
    assert problem in checks["last run"].message
    assert recommend(db, "u1") == before

    attach(database, [parse_source(f"{CLICKS} value=case when price ~ '^[0-9]+$' then price::integer end")])
    job.run(database)
    assert recommend(db, "u2")
    assert findings(db)["rows"].state == "ok"


def test_an_item_that_cannot_be_read_is_in_no_list(database: Database, db: psycopg.Connection) -> None:
    fill(db)
    attach(database, [parse_source(CLICKS), Source("items", "post", {"item": "id", "available": "stock::int > 0"})])
    job.run(database)
    lists = (
        "select item_id from recommend('u1', 10)",
        "select item_id from recommend('u1', 1000, fallback => 'popular')",
        "select item_id from recdb.recommend_for_items(array['i1'], 10)",
        "select item_id from recdb.popular(60)",
    )
    before = {call: column(db.execute(call)) for call in lists}
    first = before[lists[0]][0]
    db.execute("update post set stock = 'n/a' where id = %s", [first])
    db.execute("insert into post values ('unseen', 'n/a')")
    for call in lists:
        after = column(db.execute(call))
        assert first not in after and "unseen" not in after
        assert len(after) >= len(before[call]) - 2
    found = findings(db)["rows"]
    assert found.state == "fail" and "--available 'stock::int > 0' fails for item" in found.message
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"public\.post as items"):
        db.execute("select * from recdb.items")


def test_a_function_that_recdb_may_no_longer_call_is_named(db: psycopg.Connection) -> None:
    with owned_by_librarian(db) as librarian:
        db.execute("create function score(text) returns double precision language plpgsql as $$ begin return 1; end $$")
        mapping = "user_interaction user=user_id item=post_id kind=interaction_type value=public.score(post_id)"
        attach(librarian, [parse_source(mapping)])
        job.run(librarian)
        db.execute("revoke execute on function score(text) from public")
        for call in (
            "select * from recdb.recommend((select user_id from user_interaction limit 1))",
            "call recdb.refresh()",
        ):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"user_interaction.*function score"):
                db.execute(call)


def test_init_without_attached_tables_says_nothing(database: Database) -> None:
    assert migrate.upgrade(database) == []


def test_with_both_tables_gone_each_reader_and_the_fixes_name_their_own(
    database: Database, db: psycopg.Connection
) -> None:
    fill(db)
    attach(database, [parse_source(CLICKS), Source("items", "public.post", {"item": "id", "title": "stock"})])
    db.execute("drop table click; drop table post")
    for call in ("recdb.items", "recdb.item_of('i1')"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"public\.post, which") as raised:
            db.execute(f"select * from {call}")
        assert "recdb detach public.post" in str(raised.value.diag.message_hint)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"public\.click, which"):
        db.execute("select * from recdb.interactions")
    for call, problem in (
        ("recommend('u1', 0)", "k is 0"),
        ("recommend(5, 0)", "k is 0"),
        ("recommend('u1', fallback => 'best')", "fallback is"),
        ("recommend_for_items(array['i1'], 1001)", "k is 1001"),
        ("recommend_batch(array['u1'], -1)", "k is -1"),
    ):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=problem):
            db.execute(f"select * from recdb.{call}")
    fix = findings(db)["parts"].fix or ""
    assert [line.rpartition("recdb detach ")[2] for line in fix.splitlines()] == ["public.click", "public.post"]
    migrate.upgrade(database)
    fix = findings(db)["attached"].fix or ""
    assert fix.endswith("recdb detach public.click; recdb detach public.post")
