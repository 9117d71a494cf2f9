"""recdb reads an application's own tables in place: the lists that users get, warnings, the command line."""

import json

import psycopg
import pytest
from support import application
from support.application import user_id
from support.attached import (
    INTERACTIONS,
    ITEMS,
    SOURCES,
    Make,
    assert_serves,
    interact,
)
from support.data import column, recommend
from typer.testing import CliRunner

from recdb import job, migrate
from recdb.cli import app
from recdb.data import generate
from recdb.data.attach import Attached, attach, detach
from recdb.data.sources import parse_source
from recdb.database import Database
from recdb.doctor import examine


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
            "recdb.user_item_weights where user_id = %s",
            "recdb.neighbors(%s)",
            "recdb.items where owner_id = %s",
        ):
            assert trained.execute(f"select * from {call}", [mine]).fetchall(), call


# Warnings, the doctor, the command line -----------------------------------------------------------------------


def messages(found: list[Attached]) -> dict[str, str | None]:
    return {remark.message: remark.fix for source in found for remark in source.warnings}


def test_warnings_come_with_statements_that_fix_them(database: Database, app_db: psycopg.Connection) -> None:
    app_db.execute("drop index user_interaction_user_id_created_at_idx")
    app_db.execute("create type mood as enum ('VIEW', 'LOVE'); alter table \"like\" add mood mood default 'VIEW'")
    sources = [INTERACTIONS, parse_source('"like" user=user_id item=post_id kind=mood at=created_at')]
    found = messages(attach(database, sources))
    fixes = set(found.values())
    assert {
        "create index concurrently on public.user_interaction (user_id, created_at);",
        "create index concurrently on public.user_interaction (created_at);",
        'create index concurrently on public."like" (created_at);',
        "insert into recdb.interaction_kind (kind, weight) values ('LOVE', …), ('VIEW', 0.1);",
    } == fixes
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        checks = {finding.check: finding for finding in examine(connection)}
        assert checks["attached"].state == "warn" and "user_interaction" in checks["attached"].message
        for fix in fixes:
            connection.execute((fix or "").replace("…", "0.5"))
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
