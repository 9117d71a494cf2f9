"""`recdb distribute` and its way back: what they change, and what they refuse."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.citus import ask, citus_folder, drop_database, execute, fill, lists, make_database, shards
from support.commands import Ended
from support.commands import run as run_command
from support.data import train
from support.doctor import findings
from support.nights import die_at
from support.outside import run
from support.servers import Server

from recdb import migrate, spread
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.progress import silent

Nodes = Sequence[Server]


def schema_of(database: Database) -> list[str]:
    """The definitions of everything in schema recdb, as pg_dump writes them, in order."""
    text = run(citus_folder() / "pg_dump", "-s", "-n", "recdb", database.conninfo)
    return sorted(line for line in text.splitlines() if line and not line.startswith(("--", "\\", "SET ", "SELECT ")))


def call(
    database: Database, *arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ended:
    """Run a command on a database."""
    server = psycopg.conninfo.conninfo_to_dict(database.conninfo)
    url = f"postgresql://{server['user']}@/{server['dbname']}?host={server['host']}&port={server['port']}"
    return run_command(list(arguments), monkeypatch, capsys, url)


@pytest.fixture(scope="module")
def shop(one_node: Nodes) -> Iterator[Database]:
    """A database that is spread already."""
    database = make_database(one_node, "shop")
    migrate.upgrade(database)
    spread.distribute(database, 2, silent)
    yield database
    drop_database(one_node, "shop")


def test_it_goes_there_and_back_and_leaves_lists_rows_and_definitions(
    make: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = make()
    fill(database)
    with connect(database, autocommit=True) as connection:
        connection.execute("grant select on recdb.interaction to recdb_reader")
        connection.execute("comment on table recdb.interaction is 'mine'")
        # A new table must not get these.
        connection.execute("alter default privileges in schema recdb grant select on tables to recdb_writer")
        connection.execute("alter default privileges in schema recdb grant usage on sequences to recdb_writer")
    migrate.upgrade(database)  # which grants analysts the partitions that the training made
    definitions, expected = schema_of(database), lists(database)
    rows = "select count(*), max(interaction_id), sum(hashtext(i::text)) from recdb.interaction i"
    with connect(database) as connection:
        stored = connection.execute(rows).fetchone()

    shown = call(database, "distribute", "--shards", "3", "--dry-run", monkeypatch=monkeypatch, capsys=capsys)
    assert "recdb.interaction: about 480 rows" in shown.output
    assert "into 3 shards by user_id" in shown.output
    assert "nothing was changed" in shown.output
    assert schema_of(database) == definitions

    call(database, "distribute", "--shards", "3", monkeypatch=monkeypatch, capsys=capsys).assert_plain()
    assert (shards(database, "interaction"), shards(database, "user_vector")) == (3, 3)
    assert lists(database) == expected
    # The rows are on the nodes, and no copy of them is left here.
    assert ask(database, "select pg_relation_size('recdb.interaction')") == 0
    assert ask(database, "select count(*) from recdb.interaction") == stored[0]

    again = call(database, "distribute", monkeypatch=monkeypatch, capsys=capsys)
    assert "recdb is spread already" in again.output
    refused = call(database, "distribute", "--shards", "4", monkeypatch=monkeypatch, capsys=capsys)
    assert (refused.code, "3 shards already" in refused.errors) == (1, True)

    planned = call(database, "distribute", "--undo", "--dry-run", monkeypatch=monkeypatch, capsys=capsys)
    assert "from the nodes to the coordinator" in planned.output
    assert shards(database, "interaction") == 3
    call(database, "distribute", "--undo", monkeypatch=monkeypatch, capsys=capsys).assert_plain()
    assert (shards(database, "interaction"), shards(database, "user_vector")) == (0, 0)
    assert lists(database) == expected
    with connect(database) as connection:
        assert connection.execute(rows).fetchone() == stored
    assert schema_of(database) == definitions
    with connect(database, autocommit=True) as connection:  # the next number is one that no row has
        assert connection.execute("select recdb.track('u1', 'i1', 'like')").fetchone()[0] > stored[1]
    assert ask(database, "select count(*) from recdb.broken()") == 0


def test_what_an_administrator_set_comes_back(make: Callable[[], Database]) -> None:
    database = make()
    fill(database)
    with connect(database, autocommit=True) as connection:
        for statement in (
            "alter table recdb.interaction set (fillfactor = 80, toast.autovacuum_enabled = off)",
            "alter table recdb.interaction alter column user_id set statistics 500",
            "alter table recdb.interaction alter column item_id set (n_distinct = -0.5)",
            "alter table recdb.interaction alter column metadata set storage external",
            "alter table recdb.interaction alter column metadata set compression pglz",
            "alter table recdb.interaction replica identity full",
            "comment on column recdb.interaction.kind is 'my kinds'",
            "create unique index mine on recdb.interaction (user_id, interaction_id) where kind = 'like'",
            "comment on index recdb.mine is 'my index'",
            "alter table recdb.user_vector_1 alter column weights set statistics 7",
        ):
            connection.execute(statement)
    migrate.upgrade(database)  # which grants analysts the partitions that the training made
    definitions = schema_of(database)
    spread.distribute(database, 2, silent)
    with connect(database, autocommit=True) as connection:  # and what is set while the tables are spread
        for grant in (
            "grant select (user_id, kind), update (kind) on recdb.interaction to recdb_reader with grant option",
            "grant select (user_key) on recdb.user_vector to recdb_writer",
            "grant select (user_key) on recdb.user_vector_1 to recdb_writer",
            "grant usage, select on sequence recdb.interaction_interaction_id_seq to recdb_writer",
        ):
            connection.execute(grant)
        (last,) = connection.execute("select recdb.track('u1', 'i1', 'like')").fetchone() or (0,)
        connection.execute("delete from recdb.interaction where interaction_id = %s", [last])
    spread.undo(database, silent)

    after = schema_of(database)
    assert sorted(set(after) - set(definitions)) == [
        "GRANT SELECT(kind),UPDATE(kind) ON TABLE recdb.interaction TO recdb_reader WITH GRANT OPTION;",
        "GRANT SELECT(user_id) ON TABLE recdb.interaction TO recdb_reader WITH GRANT OPTION;",
        "GRANT SELECT(user_key) ON TABLE recdb.user_vector TO recdb_writer;",
        "GRANT SELECT(user_key) ON TABLE recdb.user_vector_1 TO recdb_writer;",
        "GRANT SELECT,USAGE ON SEQUENCE recdb.interaction_interaction_id_seq TO recdb_writer;",
    ]
    assert set(definitions) <= set(after)
    # No interaction gets the number of one that was deleted.
    assert ask(database, "select recdb.track('u1', 'i1', 'like')") == last + 1


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("create policy mine on recdb.interaction using (true)", "policy mine of recdb.interaction"),
        ("alter table recdb.interaction enable row level security", "row-level security of recdb.interaction"),
        ("create publication mine for table recdb.interaction", "publication mine of recdb.interaction"),
        ("create statistics public.mine on user_id, item_id from recdb.interaction", "statistics mine of"),
        ("alter table recdb.interaction add constraint mine unique (user_id, interaction_id)", "constraint mine of"),
        (
            "create function public.nothing() returns trigger language plpgsql as 'begin return null; end';\n"
            "set citus.enable_unsafe_triggers = on;\n"
            "create trigger mine after insert on recdb.interaction for each row execute function public.nothing()",
            "trigger mine of recdb.interaction",
        ),
    ],
)
def test_what_cannot_come_back_is_named_before_anything_changes(shop: Database, made: str, named: str) -> None:
    with connect(shop, autocommit=True) as connection:
        for statement in made.split(";\n"):
            connection.execute(statement)
    with pytest.raises(RecdbError, match="cannot give the new ones") as refused:
        spread.undo(shop, silent)
    assert named in str(refused.value)
    assert shards(shop, "interaction") == 2


def test_what_a_cluster_lacks_is_refused_and_named(
    make: Callable[[], Database], nodes: Nodes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = make()
    migrate.upgrade(database)
    refused = call(database, "distribute", "--shards", "0", monkeypatch=monkeypatch, capsys=capsys)
    assert "outside 1..128" in refused.errors
    refused = call(database, "distribute", "--undo", monkeypatch=monkeypatch, capsys=capsys)
    assert "recdb is not spread over nodes" in refused.errors
    with connect(database, autocommit=True) as connection:
        connection.execute("create table public.seen (who text, what text, at timestamptz default now())")
        connection.execute("insert into public.seen values ('u1', 'i1'), ('u1', 'i2')")
        connection.execute("select create_distributed_table('public.seen', 'who')")
    words = ("attach", "--interactions", "public.seen", "--user", "who", "--item", "what", "--at", "at",
             "--kind-is", "view")  # fmt: skip
    refused = call(database, *words, monkeypatch=monkeypatch, capsys=capsys)
    assert refused.code == 1
    assert "Citus has spread" in refused.errors
    # One that is spread after it was attached stops the next refresh, and is never silently empty.
    with connect(database, autocommit=True) as connection:
        connection.execute("select undistribute_table('public.seen')")
    assert call(database, *words, monkeypatch=monkeypatch, capsys=capsys).code == 0
    with connect(database, autocommit=True) as connection:
        connection.execute("call recdb.refresh()")
        connection.execute("select create_distributed_table('public.seen', 'who')")
        with pytest.raises(psycopg.Error, match="Citus has spread"):
            connection.execute("call recdb.refresh()")
        assert any(
            found.state == "fail" and "Citus has spread" in found.message for found in findings(connection).values()
        )
    refused = call(database, "distribute", monkeypatch=monkeypatch, capsys=capsys)
    assert "public.seen" in refused.errors or "seen is attached" in refused.errors


def test_partitions_by_time_and_nodes_do_not_go_together(
    make: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = make()
    migrate.upgrade(database)
    assert call(database, "partition", "--every", "month", monkeypatch=monkeypatch, capsys=capsys).code == 0
    refused = call(database, "distribute", monkeypatch=monkeypatch, capsys=capsys)
    assert "partitioned by time" in refused.errors
    assert call(database, "partition", "--undo", monkeypatch=monkeypatch, capsys=capsys).code == 0
    assert call(database, "distribute", monkeypatch=monkeypatch, capsys=capsys).code == 0
    refused = call(database, "partition", "--every", "month", monkeypatch=monkeypatch, capsys=capsys)
    assert "Citus" in refused.errors


def test_a_database_without_citus_or_without_workers_is_refused(nodes: Nodes) -> None:
    execute(nodes[0], "postgres", "create database no_citus template template0")
    database = Database(nodes[0].conninfo("no_citus"), "test")
    try:
        migrate.upgrade(database)
        with pytest.raises(RecdbError, match="no extension citus"):
            spread.distribute(database, None, silent)
        execute(nodes[0], "no_citus", "create extension citus")
        with pytest.raises(RecdbError, match="no node of the cluster holds shards"):
            spread.distribute(database, None, silent)
    finally:
        drop_database(nodes[:1], "no_citus")


def test_a_failure_leaves_everything_as_it_was(make: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    database = make()
    fill(database)
    definitions, expected = schema_of(database), lists(database)
    monkeypatch.setattr(spread.forward, "build_spread_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        spread.distribute(database, 2, silent)
    assert (schema_of(database), lists(database)) == (definitions, expected)
    monkeypatch.undo()
    spread.distribute(database, 2, silent)
    with connect(database, autocommit=True) as connection:
        connection.execute("create view public.mine as select user_id from recdb.interaction")
    with pytest.raises(RecdbError, match="depend on recdb's tables") as refused:
        spread.undo(database, silent)
    assert "mine" in str(refused.value.hint)
    with pytest.raises(RecdbError, match="spread over nodes"):
        migrate.downgrade(database, "0012")
    assert shards(database, "interaction") == 2
    assert lists(database) == expected


def test_a_command_killed_anywhere_leaves_the_lists_and_goes_on(make: Callable[[], Database]) -> None:
    database = make()
    fill(database)
    expected = lists(database)
    for point, undo, spread_after in (
        ("interaction spread", False, 0),
        ("spread", False, 2),
        ("interaction copied", True, 2),
        ("brought back", True, 0),
    ):
        die_at(point, database, "distribute", *(["--undo"] if undo else ["--shards", "2"]))
        assert (shards(database, "interaction"), shards(database, "user_vector")) == (spread_after, spread_after)
        assert lists(database) == expected
    spread.distribute(database, 2, silent)
    spread.undo(database, silent)
    assert lists(database) == expected


def test_every_command_works_on_a_distributed_database(
    make: Callable[[], Database],
    server: Server,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = make()
    fill(database)
    spread.distribute(database, 2, silent)
    file = tmp_path / "more.csv"
    file.write_text("user_id,item_id,kind,created_at\nnew,i1,like,2026-01-01\nnew,i2,like,2026-01-02\n")
    with connect(database, autocommit=True) as connection:
        connection.execute("create table public.seen (who text, what text, at timestamptz default now())")
        connection.execute("insert into public.seen values ('new', 'i3'), ('newer', 'i1')")
    for words in (
        ["init"],
        ["load", str(file)],
        [
            "attach",
            "--interactions",
            "public.seen",
            "--user",
            "who",
            "--item",
            "what",
            "--at",
            "at",
            "--kind-is",
            "view",
        ],
        ["generate", "--users", "30", "--items", "20", "--count", "300", "--existing", "--yes"],
        ["refresh"],
        ["refresh", "--full", "--force"],
        ["models"],
        ["activate", "collaborative_filtering_v1"],
        ["activate", "collaborative_filtering_v2"],
        ["recommend", "new", "--fallback", "popular"],
        ["recommend-all", str(tmp_path / "lists.csv")],
        ["evaluate", "-k", "5", "--scratch-url", server.conninfo("postgres")],
        ["audience", "i1"],
        ["trending"],
        ["doctor"],
        ["detach", "public.seen"],
        ["refresh", "--full", "--force"],
    ):
        ended = call(database, *words, monkeypatch=monkeypatch, capsys=capsys)
        assert ended.code == 0, (words, ended.errors, ended.output)
    assert ask(database, "select count(*) from recdb.interaction where user_id = 'new'") >= 2
    assert ask(database, "select count(*) from recdb.recommend('new', 5)") == 5
    assert shards(database, "user_vector") == 2
    assert len({len(row) for row in lists(database)}) == 1
    ended = call(database, "uninstall", "--yes", monkeypatch=monkeypatch, capsys=capsys)
    assert ended.code == 0, ended.errors
    assert ask(database, "select count(*) from pg_dist_partition d where d.logicalrelid::text like 'recdb.%%'") == 0


def test_a_dump_gives_a_plain_database_the_same_lists(make: Callable[[], Database], one_node: Nodes) -> None:
    database, target = make(), "restored"
    fill(database)
    spread.distribute(database, 2, silent)
    expected = lists(database)
    dump = run(citus_folder() / "pg_dump", "-n", "recdb", "-n", "public", database.conninfo)
    execute(one_node[0], "postgres", f"create database {target} template template0")
    restored = Database(one_node[0].conninfo(target), "test")
    try:
        execute(one_node[0], target, "create extension vector")
        run(citus_folder() / "psql", "-q", "-v", "ON_ERROR_STOP=0", restored.conninfo, stdin=dump)
        migrate.upgrade(restored)
        assert lists(restored) == expected
        train(restored, dimension=8, neighbors=100)
        with connect(restored) as connection:
            assert not [found for found in findings(connection).values() if found.state == "fail"]
    finally:
        drop_database(one_node[:1], target)


def test_two_recommenders_are_spread_apart(make: Callable[[], Database]) -> None:
    posts = make()
    people = replace(posts, schema="people")
    fill(posts)
    fill(people, seed=1)
    expected = lists(people)
    spread.distribute(people, 2, silent)
    assert shards(posts, "interaction") == 0
    assert (lists(people), len(lists(posts))) == (expected, len(lists(posts)))
    spread.distribute(posts, 3, silent)
    train(people, dimension=8, neighbors=100)
    spread.undo(people, silent)
    assert shards(posts, "interaction") == 3
    assert lists(people) == expected


def test_an_owner_who_is_no_superuser_spreads_brings_back_and_removes(three_nodes: Nodes) -> None:
    name = "owned"
    everything = make_database(three_nodes, name)
    roles = ", ".join(migrate.ROLES)
    execute(
        three_nodes[0], name, "create role shop login",
        *(f"do $$ begin create role {role}; exception when duplicate_object then end $$" for role in migrate.ROLES),
        f"grant {roles} to shop with admin option",
    )  # fmt: skip
    for node in three_nodes:
        with psycopg.connect(node.conninfo(name), autocommit=True) as connection:
            connection.execute("set citus.enable_ddl_propagation = off")
            connection.execute(f"alter database {name} owner to shop")
    database = Database(make_conninfo(everything.conninfo, user="shop"), "test")
    fill(database)
    expected = lists(database)
    spread.distribute(database, 2, silent)
    assert lists(database) == expected
    with connect(database, autocommit=True) as connection:
        connection.execute("call recdb.refresh()")
        found = findings(connection)
        assert not [finding for finding in found.values() if finding.state == "fail"]
        assert found["searches"].state == "ok"
    spread.undo(database, silent)
    assert lists(database) == expected
    spread.distribute(database, 2, silent)
    migrate.uninstall(database)
    left = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'recdb'"
    for node in three_nodes:
        with psycopg.connect(node.conninfo(name)) as connection:
            assert connection.execute(left).fetchone() == (0,)
    drop_database(three_nodes, name)
    execute(three_nodes[0], "postgres", "drop owned by shop", "drop role shop")
