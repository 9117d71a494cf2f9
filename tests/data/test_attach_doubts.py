"""attach() doubts a mapping that is wrong or of no use, says how many rows show it, and how to write it instead.

All tests attach tables of one database for a try, which changes nothing.
"""

from collections.abc import Sequence

import psycopg
import pytest
from typer.testing import CliRunner

from recdb.cli import app
from recdb.data.attach import attach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.errors import InvalidInput

TABLES = """
create table account (id text primary key, name text);
insert into account select 'u' || n, 'User ' || n from generate_series(1, 50) n;
create table post (
    id bigint primary key, slug text not null unique, author_id text references account, "deletedAt" timestamp,
    status text not null, created_at timestamp not null);
insert into post
select 100000 + n, 'post-' || n, 'u' || 1 + n % 50, case when n % 10 = 0 then now() end,
    case when n % 4 = 0 then 'draft' else 'published' end, now() - n * interval '1 day'
from generate_series(1, 60) n;
create table product (id text primary key, active boolean not null);
insert into product select 'p' || n, n % 5 > 0 from generate_series(1, 40) n;

-- Right, but for the ten items that are gone.
create table visit (account_id text references account, post_id bigint, at timestamptz);
insert into visit select 'u' || 1 + n % 50, 100000 + 1 + n % 70, now() - n * interval '70 minutes'
from generate_series(1, 2100) n;
create index on visit (account_id, at);
create index on visit (at);

-- Who, and the item twice: by its id and by its slug. Users without a foreign key, and some who are nobody.
create table play (who text, slug text, listened timestamp, deleted boolean, guest text);
insert into play select case when n % 2 = 0 then 'u' || n % 50 else 'x' || n end, 'post-' || 1 + n % 60,
    timestamp '2026-01-01', n % 4 = 0, null from generate_series(1, 400) n;

-- Several kinds of things in one column.
create table interaction (
    user_id text references account, target_type text, target_id bigint, verb text, created_at timestamptz);
insert into interaction
select 'u' || 1 + n % 50, case when n % 4 = 0 then 'User' else 'Post' end, 100000 + 1 + n % 59, 'like', now()
from generate_series(1, 800) n;
create table favourite (
    id bigint, customer text, favoritable_id text, "favoritableType" text, at timestamptz, removed_at timestamptz);
insert into favourite
select n, 'u' || n % 50, 'p' || 1 + n % 40, case when n % 2 = 0 then 'App\\Product' else 'Shop' end,
    now(), case when n % 8 = 0 then now() end from generate_series(1, 160) n;

-- Integers for everything, and no foreign keys.
create table song (id int primary key, name text);
insert into song select 999 + n, 'Song ' || n from generate_series(1, 300) n;
create table listener (id int primary key);
insert into listener select n from generate_series(1, 100) n;
create table hears (listener int, track int, rating int, heard timestamptz);
insert into hears select 1 + n % 100, 1000 + n % 300, 1 + n % 5, now() from generate_series(1, 900) n;
create index on hears (listener, heard);

create view plays as select who, slug, listened from play where not deleted;
create table event (id bigint, user_id text, slug text, at integer, seen timestamp);
insert into event select n, 'nobody' || n, 'z' || n, n, timestamp '1970-01-01' + n * interval '1 second'
from generate_series(1, 100) n;
analyze
"""

POSTS = Source("items", "post", {"item": "id", "owner": "author_id", "available": '"deletedAt" is null'})
PRODUCTS = Source("items", "product", {"item": "id"})
SONGS, LISTENERS = (Source("items", table, {"item": "id"}) for table in ("song", "listener"))
VISITS = parse_source("visit user=account_id item=post_id kind='view' at=at")


@pytest.fixture(scope="module")
def tables(module_database: Database) -> Database:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        connection.execute(TABLES)
    return module_database


def doubts(database: Database, *sources: Source, force: bool = False) -> dict[str, str | None]:
    found = attach(database, sources, dry_run=True, force=force)
    return {remark.message: remark.fix for source in found for remark in source.warnings}


def refusal(database: Database, *sources: Source) -> str:
    with pytest.raises(InvalidInput) as refused:
        attach(database, sources, dry_run=True)
    assert "--force" in (refused.value.hint or "")
    assert doubts(database, *sources, force=True)[str(refused.value)] in (refused.value.hint or "")
    return f"{refused.value} | {refused.value.hint}"


def said(found: dict[str, str | None], *parts: str) -> bool:
    """Tell whether one doubt, with its fix, has all these parts."""
    return any(all(part in f"{message} | {fix}" for part in parts) for message, fix in found.items())


REFUSED: dict[str, tuple[Sequence[Source], Sequence[str]]] = {
    "swapped columns": (
        [parse_source("visit user=post_id item=account_id kind='view' at=at"), POSTS],
        ["0 of 50 item ids of public.visit are in public.post", "did you mean --user account_id --item post_id?"],
    ),
    "ids of another column of the catalogue": (
        [parse_source("play user=who item=slug kind='view'"), POSTS],
        ["0 of 60 item ids", "public.post has '1000", "did you mean --item-id slug?"],
    ),
    "another column of the table": (
        [parse_source("play user=slug item=who kind='view'"), Source("items", "post", {"item": "slug"})],
        ["0 of 225 item ids of public.play are in public.post", "--user who --item slug"],
    ),
    "swapped columns of integers without foreign keys": (
        [parse_source("hears user=track item=listener kind='view' at=heard"), SONGS],
        ["0 of 100 item ids are in public.song", "did you mean --user listener --item track?"],
    ),
    "swapped columns with a value": (
        [parse_source("hears user=track item=listener kind='view' at=heard value=rating"), SONGS],
        ["0 of 100 item ids are in public.song", "did you mean --user listener --item track?"],
    ),
    "the table of users as catalogue": (
        [parse_source("hears user=listener item=track kind='view' value=rating"), LISTENERS],
        ["0 of 300 item ids are in public.listener", "public.listener sounds like the table of users"],
    ),
    "items of another catalogue": (
        [parse_source("event user=user_id item=slug kind='view'"), PRODUCTS],
        ["0 of 100 item ids are in public.product", "an interaction has 'z", "--item and --item-id"],
    ),
    "numbers of several kinds of things": (
        [parse_source("interaction user=user_id item=target_id kind=verb at=created_at"), POSTS],
        [
            "several kinds of things",
            "target_type",
            "Post 600, User 200 of 800 rows",
            "--where \"target_type = 'Post'\"",
        ],
    ),
    "a column without values": (
        [parse_source("play user=guest item=slug kind='view'")],
        ["public.play.guest is NULL in all 400 rows read", "--user"],
    ),
    "the same mapping twice": (
        [VISITS, VISITS],
        ["public.visit is named twice", "read 1,000 of 1,000 rows", "count twice"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_mapping_of_no_use_is_refused_with_the_right_one(tables: Database, what: str) -> None:
    sources, parts = REFUSED[what]
    text = refusal(tables, *sources)
    assert [part for part in parts if part not in text] == [], text


DOUBTED: dict[str, tuple[Sequence[Source], Sequence[str]]] = {
    "items of no catalogue": (
        [VISITS, POSTS],
        ["10 of 70 item ids of public.visit are in no catalogue", "recommend() does not return them"],
    ),
    "users of no table": (
        [parse_source("play user=who item=slug kind='view'"), VISITS, POSTS],
        ["24 of 225 user ids of public.play.who are in public.account: are the others guests"],
    ),
    "text ids of several kinds of things": (
        [parse_source("favourite user=customer item=favoritable_id kind='like' at=at"), PRODUCTS],
        ["favoritableType tells them apart", r"""use --where "\"favoritableType\" = 'App\Product'"""],
    ),
    "deleted interactions": (
        [parse_source("favourite user=customer item=favoritable_id kind='like' at=at where=id > 0")],
        ["removed_at is set in 20 of 160 rows", '--where "(id > 0) and removed_at is null"'],
    ),
    "deleted interactions by a boolean": (
        [parse_source("play user=who item=slug kind='view'")],
        ["deleted is true in 100 of 400 rows", '--where "deleted is not true"'],
    ),
    "deleted items": (
        [Source("items", "post", {"item": "id"})],
        ["deletedAt is set in 6 of 60 rows", """--available '"deletedAt" is null'"""],
    ),
    "items that are not shown": ([PRODUCTS], ["active is false in 8 of 40 rows", "--available active"]),
    "drafts": ([POSTS], ["status is draft in 15 of 60 rows", "and status = 'published'"]),
    "a time that is always the same": (
        [parse_source("play user=who item=slug kind='view' at=listened")],
        ["listened is the same in all 400 rows"],
    ),
    "a time of long ago": (
        [parse_source("event user=user_id item=slug kind='view' at=seen")],
        ["of 100 times 100 are before 1990"],
    ),
    "swapped columns without a catalogue": (
        [parse_source("visit user=post_id item=account_id kind='view' at=at")],
        ["account_id sounds like a user's id", "--user account_id --item post_id"],
    ),
    "a table and a view of it": (
        [parse_source("play user=who item=slug kind='view'"), parse_source("plays user=who item=slug kind='view'")],
        ["public.plays reads public.play, which is attached too", "recdb detach public.play"],
    ),
    "two mappings of one table": (
        [
            parse_source("play user=who item=slug kind='view' where=deleted"),
            parse_source("play user=who item=slug kind='like' where=who like 'u%'"),
        ],
        ["public.play is named twice", "both mappings read 100 of 100 rows"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DOUBTED)
def test_a_doubt_says_how_many_rows_and_what_to_write(tables: Database, what: str) -> None:
    sources, parts = DOUBTED[what]
    found = doubts(tables, *sources)
    assert said(found, *parts), found


def test_a_right_mapping_raises_no_doubt(tables: Database) -> None:
    found = doubts(
        tables,
        parse_source("visit user=account_id item=post_id kind=view at=at where=post_id <= 100060"),
        Source("items", "post", {"item": "id", "available": "\"deletedAt\" is null and status = 'published'"}),
        parse_source("interaction user=user_id item=target_id kind='like' where=target_type = 'Post'"),
    )
    assert [message for message in found if "index" not in message and "without times" not in message] == [
        "from now on recommend() returns only items of a catalogue; to return other items too:"
    ]


def test_a_number_is_no_time_and_the_hint_says_how_to_read_it(tables: Database) -> None:
    with pytest.raises(InvalidInput, match="not a time") as refused:
        doubts(tables, parse_source("event user=user_id item=slug kind='view' at=at"))
    assert "to_timestamp(" in (refused.value.hint or "")


def test_a_new_mapping_of_the_same_table_says_which_one_it_replaces(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table did (who text, what text, how text, at timestamptz)")
    attach(database, [parse_source("did user=who item=what kind='view' at=at where=how = 'seen'")])
    (found,) = attach(database, [parse_source("did user=who item=what kind='like' at=at where=how = 'liked'")])
    (replaced,) = [remark for remark in found.warnings if "replaces" in remark.message]
    assert "kind 'view', at at, where how = 'seen'" in replaced.message and "--also" in (replaced.fix or "")
    db.execute("insert into did values ('a', 'b', 'liked', now()); select recdb.track('a', 'b', 'like')")
    (found,) = attach(database, [parse_source("did user=who item=what kind='like' at=at where=how = 'liked'")])
    assert not [remark for remark in found.warnings if "replaces" in remark.message]
    assert [remark for remark in found.warnings if "1 of 1 pairs" in remark.message and "count twice" in remark.message]


def test_a_large_table_is_not_read_whole(database: Database, db: psycopg.Connection) -> None:
    db.execute(
        "create table click (who bigint, what bigint, at timestamptz, deleted_at timestamptz)"
        "    with (autovacuum_enabled = off);"  # its reads would count too
        "insert into click select n, n, now(), null from generate_series(1, 200000) n; analyze click"
    )
    before = "select heap_blks_read + heap_blks_hit from pg_statio_user_tables where relname = 'click'"
    db.execute("select pg_stat_force_next_flush()")
    (start,) = db.execute(before).fetchone() or (0,)
    found = attach(database, [parse_source("click user=who item=what kind=view at=at")], dry_run=True)
    assert any("deleted_at is set in 0 of 1,000 rows" in remark.message for remark in found[0].warnings)
    with psycopg.connect(database.conninfo) as other:
        (stop,) = other.execute(before).fetchone() or (0,)
    assert stop - start < 400


def test_the_command_line_writes_a_constant_kind_without_quotes(tables: Database) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        options = ["--interactions", "visit", "--user", "account_id", "--item", "post_id", "--at", "at", "--dry-run"]
        done = CliRunner().invoke(app, ["attach", *options, *arguments, "--url", tables.conninfo])
        return done.exit_code, done.output

    code, printed = run("--kind-is", "it's")
    assert code == 0 and "kind 'it''s'" in printed and "it's" in printed
    code, printed = run("--kind-is", "play", "--kind", "at")
    assert code == 2 and "give one of them" in printed
    assert "kind 'song'" in run("--kind-is", "play", "--also", "play user=who item=slug kind-is=song")[1]
    wrong = "attach --interactions visit --user post_id --item account_id --kind-is view --items post --dry-run --url"
    done = CliRunner().invoke(app, [*wrong.split(), tables.conninfo])
    assert isinstance(done.exception, InvalidInput) and done.exit_code == 1
    done = CliRunner().invoke(app, [*wrong.split(), tables.conninfo, "--force"])
    assert done.exit_code == 0 and "did you mean --user account_id --item post_id?" in done.output


def test_a_right_mapping_of_integers_is_no_swap(tables: Database) -> None:
    right = doubts(tables, parse_source("hears user=listener item=track kind='view' at=heard value=rating"), SONGS)
    assert not [message for message in right if "item ids" in message]


def test_a_column_that_has_a_meaning_is_not_suggested_for_another(tables: Database) -> None:
    """The ratings from 1 to 5 are ids of listeners too."""
    wrong = parse_source("hears user=listener item=track kind='view' value=rating")
    assert "--item rating" not in refusal(tables, wrong, LISTENERS)


def test_a_table_of_people_that_no_attached_table_refers_to_is_asked_about_only_if_most_users_are_in_it(
    tables: Database,
) -> None:
    """public.account may hold the staff: a few ids that agree by accident are no doubt about a mapping."""
    posts = Source("items", "post", {"item": "slug"})
    said = doubts(tables, parse_source("play user=who item=slug kind='view'"), posts)
    assert not [message for message in said if "user ids" in message]
    most = parse_source("play user=who item=slug kind='view' where=who like 'u%' or who like 'x1_'")
    (asked,) = [message for message in doubts(tables, most, posts) if "user ids" in message]
    assert " are in public.account: are the others guests, or users who were deleted?" in asked
