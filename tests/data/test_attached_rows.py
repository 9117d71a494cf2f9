"""The rows that recdb reads from attached tables: live, through the tables' own indexes, without altering them."""

from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from support.application import post_id, user_id
from support.attached import SOURCES, by_user, interact, plan_of
from support.data import column, recommend, record

from recdb import job
from recdb.data.attach import attach, detach
from recdb.data.sources import Source, parse_source
from recdb.database import Database

NONSENSE = ("nope", "", " 1", "1 ", "+1", "01", "-0", "0x1", "1e0", "9" * 30, "{}", "ä", "DEADBEEF" * 4, "-")


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
def test_one_users_interactions_are_those_of_the_view(attached: psycopg.Connection) -> None:
    mine = user_id(attached, 7)
    attached.execute("select recdb.track(%s, 'elsewhere', 'view')", [mine])
    expected = attached.execute(
        "select item_id, kind, created_at from recdb.interactions where user_id = %s order by 1, 2, 3", [mine]
    ).fetchall()
    assert len(expected) > 20
    assert by_user(attached, mine) == expected
    (count,) = column(
        attached.execute(
            "select (select count(*) from recdb.interactions) = 1 + (select count(*) from user_interaction) "
            '+ (select count(*) from "like")'
        )
    )
    assert count is True


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_an_id_of_another_form_is_nobody_and_nothing(attached: psycopg.Connection, mode: str) -> None:
    attached.execute(f"set plan_cache_mode = {mode}")
    for wrong in (*NONSENSE, user_id(attached, 1).upper() + "A", None):
        assert by_user(attached, wrong) == []
        assert attached.execute("select * from recdb.item_of(%s)", [wrong]).fetchall() == []
        assert recommend(attached, wrong) == []
        literal = sql.SQL("select * from recdb.interactions_of({}), recdb.item_of({})").format(wrong, wrong)
        assert attached.execute(literal).fetchall() == []


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_the_tables_own_indexes_serve(attached: psycopg.Connection, mode: str) -> None:
    mine, post = user_id(attached, 1), post_id(attached, 1)
    attached.execute("create index on user_interaction (created_at)")
    attached.execute('create index on "like" (created_at)')
    attached.execute("set enable_seqscan = off")
    attached.execute(f"set plan_cache_mode = {mode}")
    plan = plan_of(attached, "select * from recdb.interactions_of(%s)", mine)
    assert "user_interaction_user_id_created_at_idx" in plan and "like_pkey" in plan and "Seq Scan" not in plan
    plan = plan_of(attached, "select * from recdb.read_item(%s)", post)
    assert "post_pkey" in plan and "Seq Scan" not in plan
    plan = plan_of(attached, "select * from recdb.users_since(%s, now() - interval '10 minutes')", "1")
    assert "user_interaction_created_at_idx" in plan and "like_created_at_idx" in plan


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
def test_an_index_of_the_tables_own_that_covers_a_user_is_read_alone(attached: psycopg.Connection) -> None:
    attached.execute(
        "create index covering on user_interaction (user_id) include (post_id, interaction_type, created_at)"
    )
    attached.execute("drop index user_interaction_user_id_created_at_idx")
    attached.execute("set enable_seqscan = off")
    attached.execute("set enable_bitmapscan = off")
    plan = plan_of(attached, "select * from recdb.interactions_of(%s)", user_id(attached, 1))
    assert "Index Only Scan using covering" in plan


def test_timestamps_without_zone_are_utc(attached: psycopg.Connection) -> None:
    attached.execute("set timezone = 'Asia/Tokyo'")
    user, post = user_id(attached, 1), post_id(attached, 1)
    attached.execute(
        "insert into user_interaction (user_id, post_id, interaction_type, created_at) values (%s, %s, 'share', "
        "'2020-01-01 12:00')",
        [user, post],
    )
    query = "select count(*) from recdb.interactions_of(%s) where created_at = '2020-01-01 12:00+00'"
    assert attached.execute(query, [user]).fetchone() == (1,)


@pytest.mark.parametrize("time", ["created_at timestamptz", "created_at timestamp", "created_at date", ""])
def test_rows_without_a_time_count_as_of_when_they_were_attached(
    database: Database, db: psycopg.Connection, time: str
) -> None:
    db.execute(f'create table "_Liked" ("A" int, "B" bigint, {time or "note text"})')
    db.execute('insert into "_Liked" values (1, 2, null), (1, null, null), (null, 3, null)')
    at = " at=created_at" if time else ""
    (found,) = attach(database, [parse_source(f"public._Liked user=A item=B kind=like{at}")])
    assert any("without times" in remark.message for remark in found.warnings) == (not time)
    ((item, kind, moment),) = by_user(db, "1")
    assert (item, kind) == ("2", "like")
    assert db.execute("select attached_at = %s from recdb.attachment", [moment]).fetchone() == (True,)
    record(db, [[f"u{n}", f"i{m}", "like"] for n in range(9) for m in range(n, n + 4)])
    job.run(database)


SHAPES = {
    "varchar": 'create table did (u varchar(36) collate "C", i varchar collate "POSIX", at timestamptz)',
    "domains": """
        create domain user_no as bigint check (value > 0); create domain best_user_no as user_no;
        create domain moment as timestamp;
        create table did (u best_user_no, i user_no, at moment)""",
    "small integers": "create table did (u smallint, i integer, at date)",
    "partitions": """
        create table did (u integer, i bigint, at timestamptz) partition by hash (u);
        create table did_0 partition of did for values with (modulus 2, remainder 0);
        create table did_1 partition of did for values with (modulus 2, remainder 1)""",
    "a view": """
        create table happened (who integer, what integer, at timestamptz);
        create view did as select who as u, what as i, at from happened""",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_other_shapes(database: Database, db: psycopg.Connection, shape: str) -> None:
    db.execute(SHAPES[shape])
    db.execute("insert into did select n, m, now() from generate_series(1, 12) n, generate_series(n, n + 4) m")
    # The items of a catalogue must be unique, so they get a table of their own.
    db.execute("create table thing as select distinct i from did; alter table thing add unique (i)")
    attach(database, [parse_source("did user=u item=i kind=like at=at"), Source("items", "thing", {"item": "i"})])
    assert column(db.execute("select count(*) from recdb.interactions")) == [60]
    assert sorted(row[0] for row in by_user(db, "3")) == ["3", "4", "5", "6", "7"]
    assert by_user(db, "03") == by_user(db, "99999999999") == []
    assert column(db.execute("select item_id from recdb.item_of('7')")) == ["7"]
    job.run(database)
    assert recommend(db, "3")
    detach(database, None)


def test_one_table_can_be_several_kinds(database: Database, app_db: psycopg.Connection) -> None:
    sources = [
        parse_source("post user=user_id item=original_post_id kind=share at=created_at"),
        parse_source("post user=user_id item=id kind='post' at=created_at where=original_post_id is null"),
    ]
    for _ in range(2):
        attach(database, sources)
        counts = app_db.execute("select kind, count(*) > 0 from recdb.interactions group by 1 order by 1").fetchall()
        assert counts == [("post", True), ("share", True)]
        assert column(app_db.execute("select count(*) from recdb.attachment")) == [2]


def test_a_constant_kind_may_have_any_spelling(database: Database, app_db: psycopg.Connection) -> None:
    attach(
        database, [Source("interactions", "comment", {"user": "user_id", "item": "post_id", "kind": "'it''s said'"})]
    )
    assert column(app_db.execute("select distinct kind from recdb.interactions")) == ["it's said"]


def test_a_first_rebuild_knows_the_sizes_it_joins(attached: psycopg.Connection) -> None:
    """Without the sizes, the plan for a large attached table takes minutes instead of seconds."""
    attached.execute("select recdb.rebuild()")
    sizes = "select reltuples::integer from pg_class where oid = any (%s::regclass[]) order by 1"
    tables = ["recdb.config", "recdb.interaction_kind", "recdb.user_key", "recdb.item_key"]
    assert column(attached.execute(sizes, [tables])) == [1, 4, 60, 80]


def test_a_condition_leaves_rows_out(database: Database, app_db: psycopg.Connection) -> None:
    attach(database, [Source("interactions", "comment", {"user": "user_id", "item": "post_id", "kind": "'comment'"})])
    everything = column(app_db.execute("select count(*) from recdb.interactions"))[0]
    where = "comment where=user_id in (select u.id from \"user\" u where name like '%1') -- half of them"
    attach(database, [parse_source(where.replace("comment", "comment user=user_id item=post_id kind='comment'", 1))])
    assert 0 < column(app_db.execute("select count(*) from recdb.interactions"))[0] < everything


def test_the_applications_row_counts_for_an_item_that_both_catalogues_have(attached: psycopg.Connection) -> None:
    post = post_id(attached, 1)
    attached.execute(
        "insert into recdb.item (item_id, title) values (%s, 'a stale copy'), ('mine alone', 'mine')", [post]
    )
    query = "select title from recdb.{} where item_id = %s"
    for item, title in ((post, f"Post 1 on topic {1 % 4}"), ("mine alone", "mine")):
        assert column(attached.execute(query.format("items"), [item])) == [title]
        assert column(attached.execute("select title from recdb.item_of(%s)", [item])) == [title]


def test_two_catalogues_are_read_the_first_attached_first(database: Database, attached: psycopg.Connection) -> None:
    attached.execute("create table product (id text primary key, name text)")
    attached.execute("insert into product values ('p', 'a product'), (%s, 'a copy')", [post_id(attached, 1)])
    attach(database, [Source("items", "product", {"item": "id", "title": "name"})])
    rows = attached.execute("select item_id, title from recdb.items where title like 'a %'").fetchall()
    assert rows == [("p", "a product")]
    assert attached.execute("select title from recdb.item_of('p')").fetchall() == [("a product",)]
    assert len(attached.execute("select from recdb.item_of(%s)", [post_id(attached, 1)]).fetchall()) == 1


def test_a_refresh_finds_what_is_new_in_attached_tables(trained: psycopg.Connection) -> None:
    mine, post = user_id(trained, 3), post_id(trained, 80)
    trained.execute("delete from user_interaction where user_id = %s and post_id = %s", [mine, post])
    trained.execute("call recdb.refresh()")
    interact(trained, mine, post, "share")
    trained.execute("call recdb.refresh()")
    query = "select weight from recdb.user_item_weights where user_id = %s and item_id = %s"
    assert trained.execute(query, [mine, post]).fetchone() == (1.0,)


def test_ids_too_long_for_an_index_break_nothing(database: Database, attached: psycopg.Connection) -> None:
    long = "x" * 3000
    attached.execute('insert into "user" (id, email) values (%s, %s)', ["tiny", "long"])
    attached.execute("alter table user_interaction drop constraint user_interaction_user_id_fkey")
    attached.execute("drop index user_interaction_user_id_created_at_idx")
    interact(attached, long, post_id(attached, 1))
    job.run(database)
    attached.execute("call recdb.refresh()")
    assert column(attached.execute("select count(*) from recdb.user_key where length(user_id) > 1000")) == [0]
    assert recommend(attached, user_id(attached, 1))


def test_renamed_tables_and_columns_are_attached_again(database: Database, trained: psycopg.Connection) -> None:
    mine = user_id(trained, 1)
    before = recommend(trained, mine)
    trained.execute('alter table post rename to "Article"; alter table user_interaction rename user_id to "userId"')
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"public\.user_interaction") as refused:
        recommend(trained, mine)
    assert "attach it again: recdb attach" in (refused.value.diag.message_hint or "")
    items = next(source for source in SOURCES if source.role == "items")
    interactions = parse_source("user_interaction user=userId item=post_id kind=interaction_type at=created_at")
    attach(database, [replace(items, relation='"Article"'), interactions])
    assert recommend(trained, mine) == before


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
def test_an_ignored_users_rows_count_for_nobody_else(database: Database, trained: psycopg.Connection) -> None:
    mine = user_id(trained, 3)
    learned = sql.SQL(
        "select exists (select from recdb.user_item_weights where user_id = {0}), "
        "exists (select from recdb.user_vectors where user_id = {0}), "
        "exists (select from recdb.interactions where user_id = {0})"
    ).format(mine)
    assert trained.execute(learned).fetchone() == (True, True, True)
    trained.execute("insert into recdb.ignored_user (user_id) values (%s)", [mine])
    trained.execute("call recdb.refresh()")
    assert trained.execute(learned).fetchone() == (False, False, False)
    interact(trained, mine, post_id(trained, 1))
    job.run(database, full=True, force=True)
    assert trained.execute(learned).fetchone() == (False, False, False)
    assert recommend(trained, mine)
    detach(database, None)
    attach(database, SOURCES)
    assert trained.execute(learned).fetchone() == (False, False, False)
    trained.execute("delete from recdb.ignored_user")
    trained.execute("call recdb.refresh()")
    assert trained.execute(learned).fetchone() == (True, True, True)
