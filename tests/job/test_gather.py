"""Gathering other databases' weighted interactions: `recdb gather URL...`."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_postgresql.executors import NoopExecutor
from support.cells import ITEMS, ask, clones, execute, lists_of, store
from support.data import tastes, train
from support.doctor import find
from support.servers import Server
from support.standby import run_standby, wait_for_replay

from recdb import job, migrate
from recdb.cli import main
from recdb.database import Database
from recdb.errors import InvalidInput, NotInstalled, NotPermitted, Unavailable
from recdb.job.gather import gather, remove_gathered
from recdb.job.other import address_of, name_of
from recdb.tuning.tune import tune

WORLD = [
    [*row, f"2026-01-{1 + number // 12 % 28:02} 0{number % 12 // 3}:{number % 3}0+00"]
    for number, row in enumerate(tastes(200, 60, 12))
]
NEIGHBORS = """
    select t.item_id || ' ' || o.item_id, u.weight::float8
    from recdb.item_neighbor r join recdb.item_key t using (item_key) join recdb.model m using (model_id)
    cross join unnest(r.neighbor_keys, r.weights) u(item_key, weight) join recdb.item_key o on o.item_key = u.item_key
    where m.active
"""
ROWS = """
    select t.item_id, g.user_number, g.position, g.weight, g.last_at
    from recdb.gathered_interaction g join recdb.item_key t using (item_key) order by g.database_id, 2, 3
"""


@pytest.fixture(scope="module")
def cells(server: Server, template: NoopExecutor) -> Iterator[list[Database]]:
    """Two databases, each with every second user of a world, whose weights are up to date."""
    with clones(server, template, 2) as databases:
        for number, database in enumerate(databases):
            store(database, [row for row in WORLD if int(row[0][1:]) % 2 == number])
            execute(database, "call recdb.refresh()")
        yield databases


@pytest.fixture
def learner(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """A database without users, whose items have other keys."""
    with clones(server, template, 1) as (database,):
        execute(database, "insert into recdb.item_key (item_id) select 'i' || n from generate_series(59, 0, -7) n")
        yield database


def test_a_training_learns_the_items_that_one_database_with_everybody_learns(
    learner: Database, cells: list[Database], server: Server, template: NoopExecutor
) -> None:
    done = gather(learner, cells)

    assert done is not None and [each.users for each in done] == [100, 100]
    label = train(learner)
    with clones(server, template, 1) as (whole,):
        store(whole, WORLD)
        train(whole)
        pairs = "select users, interactions from recdb.models"
        assert ask(learner, pairs) == ask(whole, pairs) == [(200, 2400)]
        here, there = dict(ask(learner, NEIGHBORS)), dict(ask(whole, NEIGHBORS))
        assert here.keys() == there.keys()
        assert here == pytest.approx(there, rel=0.02)
    assert ask(learner, "select (metrics -> 'validation' -> 'users')::integer from recdb.models") == [(200,)]
    assert tune(learner, seconds=1).model is not None
    label = job.activate(learner, label, lambda step: None) or label

    outcome = job.run(cells[0], full=True, model_from=learner)
    assert outcome.taken and outcome.taken.startswith(label)
    assert ask(cells[0], ITEMS) == ask(learner, ITEMS)


def test_gathered_users_get_no_lists_and_are_nobodys_neighbours(learner: Database, cells: list[Database]) -> None:
    store(learner, [row for row in WORLD if int(row[0][1:]) % 10 == 0])
    popular = "select * from recdb.popular(60)"
    execute(learner, "select recdb.rebuild()")
    before = ask(learner, popular)

    gather(learner, cells)
    train(learner)

    assert ask(learner, popular) == before
    assert ask(learner, "select count(*) from recdb.user_key") == [(20,)]
    assert ask(learner, "select count(*) from recdb.user_vector") == [(20,)]
    assert ask(learner, "select count(*) from recdb.interactions") == [(240,)]
    assert ask(learner, "select users from recdb.models") == [(220,)]
    assert lists_of(learner, ["u1"]) == [[]] and len(lists_of(learner, ["u0"])[0]) == 10


def test_a_sample_is_of_whole_users_and_a_larger_one_contains_it(learner: Database, cells: list[Database]) -> None:
    users = "select database_id, user_number, count(*) from recdb.gathered_interaction group by 1, 2 order by 1, 2"
    small = gather(learner, cells, users=20)
    of_small = ask(learner, users)
    larger = gather(learner, cells, users=60)

    assert small and [each.users for each in small] == [10, 10]
    assert larger and [each.users for each in larger] == [30, 30]
    assert {count for *_, count in of_small} == {12}
    assert set(of_small) < set(ask(learner, users))


def test_gathering_again_changes_nothing_and_others_stay_unless_they_are_replaced(
    learner: Database, cells: list[Database]
) -> None:
    gather(learner, cells)
    rows = ask(learner, ROWS)

    gather(learner, cells[1:])
    assert ask(learner, ROWS) == rows
    gather(learner, cells[1:], replace=True)
    assert ask(learner, ROWS) == rows[1200:]
    assert ask(learner, "select users, interactions from recdb.gathered_database") == [(100, 1200)]

    assert [each.users for each in remove_gathered(learner)] == [100]
    assert ask(learner, ROWS) == [] == ask(learner, "select * from recdb.gathered_database")


@pytest.mark.parametrize("way", ["removed", "replaced", "gathered again"])
def test_no_dead_rows_stay(learner: Database, cells: list[Database], way: str) -> None:
    gather(learner, cells)
    execute(
        learner,
        "insert into recdb.gathered_interaction (database_id, user_number, position, item_key, weight, last_at) "
        "select d.database_id, 2000 + n, 1, 1, 1, now() from recdb.gathered_database d, generate_series(1, 20000) n",
    )

    if way == "removed":
        remove_gathered(learner)
    else:
        gather(learner, cells[:1] if way == "replaced" else cells, replace=way == "replaced")

    with psycopg.connect(learner.conninfo, autocommit=True) as connection:
        assert find(connection, "dead rows").message == "few"


def test_weights_decay_by_the_half_life_of_this_database(
    learner: Database, server: Server, template: NoopExecutor
) -> None:
    with clones(server, template, 1) as (there,):
        execute(
            there,
            "update recdb.config set half_life = '10 days', decay_origin = now() - interval '300 days'",
            "insert into recdb.interaction (user_id, item_id, kind, created_at) select 'u' || n % 9, 'i' || n / 9, "
            "'like', now() - interval '1 day' * (n / 9) from generate_series(0, 89) n",
            "call recdb.refresh()",
        )

        gather(learner, [there])

    assert ask(learner, "select distinct round(weight::numeric, 6)::text from recdb.gathered_interaction") == [
        ("0.700000",)
    ]
    ages = ask(learner, "select distinct (now()::date - last_at::date) from recdb.gathered_interaction order by 1")
    assert [age for (age,) in ages] == list(range(10))


def test_ignored_and_forgotten_users_stay_where_they_are(
    learner: Database, server: Server, template: NoopExecutor
) -> None:
    with clones(server, template, 1) as (there,):
        store(there, tastes(40, 30, 6))
        execute(
            there,
            "call recdb.refresh()",
            "insert into recdb.ignored_user (user_id) values ('u1')",
            "select recdb.forget_user('u2')",
        )

        done = gather(learner, [there])

    assert done is not None and done[0].users == 38


def test_nothing_names_a_user(learner: Database, cells: list[Database]) -> None:
    gather(learner, cells)

    columns = ask(
        learner,
        "select a.attname::text from pg_attribute a where a.attnum > 0 "
        "and a.attrelid = 'recdb.gathered_interaction'::regclass and a.atttypid = 'text'::regtype",
    )
    assert columns == []
    assert ask(learner, "select count(*) from recdb.user_key") == [(0,)]


def test_databases_that_cannot_be_gathered_change_nothing(
    learner: Database, cells: list[Database], empty_database: Callable[[], Database]
) -> None:
    gather(learner, cells)
    rows = ask(learner, ROWS)
    execute(cells[1], "create role stranger login")
    stranger = Database(make_conninfo(cells[1].conninfo, user="stranger"), "test")
    again = Database(make_conninfo(cells[0].conninfo, connect_timeout=9), "test")
    try:
        for other, kind, message in (
            (empty_database(), NotInstalled, "has no recdb"),
            (stranger, NotPermitted, "role stranger may not read recdb"),
            (learner, InvalidInput, "is this database itself"),
            (again, InvalidInput, "a database is named twice"),
        ):
            with pytest.raises(kind, match=message):
                gather(learner, [cells[0], other], users=10, replace=True)
            assert ask(learner, ROWS) == rows
    finally:
        execute(cells[1], "drop role stranger")


def test_an_analyst_may_gather_and_other_schemas_can_be_gathered(learner: Database, cells: list[Database]) -> None:
    execute(cells[0], "create role reading login", "grant recdb_analyst to reading")
    try:
        done = gather(learner, [Database(make_conninfo(cells[0].conninfo, user="reading"), "test")], users=10)
    finally:
        execute(cells[0], "drop role reading")
    people = replace(learner, schema="people")
    migrate.upgrade(people)

    assert done and done[0].users == 10
    gather(people, cells[:1], users=7)
    assert ask(learner, "select users from people.gathered_database") == [(7,)]


@pytest.mark.parametrize("noted", [True, False], ids=["the owner may ask", "nobody may ask"])
def test_a_role_that_may_not_ask_for_the_system_identifier_gathers_and_takes(
    learner: Database, cells: list[Database], server: Server, noted: bool
) -> None:
    train(cells[1])
    log = ask(cells[0], "select run_id, cluster from recdb.refresh_log where cluster is not null")
    revoke = "revoke execute on function pg_control_system() from public"
    for database in cells:
        execute(database, revoke)
        if not noted:
            execute(database, "update recdb.refresh_log set cluster = null")
    execute(cells[0], "create role reading login", "grant recdb_analyst to reading")
    there = [Database(make_conninfo(each.conninfo, user="reading"), "test") for each in cells]
    try:
        done = gather(learner, there)
        again = gather(learner, there[::-1])
        taken = [job.run(learner, full=True, model_from=there[1]).model for _ in range(2)]
        with pytest.raises(InvalidInput, match="a database is named twice"):
            gather(learner, [there[0], Database(make_conninfo(there[0].conninfo, connect_timeout=9), "test")])
    finally:
        execute(cells[0], "drop role reading")
        for database in cells:
            execute(database, "grant execute on function pg_control_system() to public")
            for run_id, cluster in log if database is cells[0] else ():
                execute(database, f"update recdb.refresh_log set cluster = {cluster} where run_id = {run_id}")
    assert done and again and [each.users for each in [*done, *again]] == [100] * 4
    assert ask(learner, "select count(*) from recdb.gathered_database") == [(2,)]
    assert taken[0] and taken[1] is None
    if noted:
        gather(learner, cells)
        assert ask(learner, "select count(*) from recdb.gathered_database") == [(2,)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("host=/run/postgresql port=5432 dbname=x", "host=/run/postgresql port=5433 dbname=x", False),
        ("host=a dbname=x", "host=a port=5432 dbname=x user=u", True),
        ("host=A,b dbname=x", "host=a,b port=5432,5432 dbname=x", True),
        ("host=a,b port=5432,5433 dbname=x", "host=a,b port=5432,5434 dbname=x", False),
        ("host=a dbname=x", "host=b dbname=x", False),
        ("host=localhost port=5432", "host=127.0.0.1 port=5432", True),
        ("hostaddr=10.0.0.1", "hostaddr=10.0.0.2", False),
        ("host=/srv/A", "host=/srv/a", False),
    ],
)
def test_an_address_is_one_however_it_is_written(one: str, other: str, same: bool) -> None:
    first, second = (address_of(Database(conninfo, "test")) for conninfo in (one, other))

    assert (first == second) == same


def test_a_copy_of_a_servers_files_replaces_nothing_unless_asked(
    learner: Database, server: Server, template: NoopExecutor
) -> None:
    with clones(server, template, 1) as (there,), run_standby(server) as standby:
        store(there, WORLD[:600])
        execute(there, "call recdb.refresh()")
        name = str(conninfo_to_dict(there.conninfo)["dbname"])
        copy, administration = Database(standby.conninfo(name), "test"), Database(standby.conninfo("postgres"), "test")
        with psycopg.connect(there.conninfo) as primary, psycopg.connect(copy.conninfo, autocommit=True) as follower:
            wait_for_replay(primary, follower)
            follower.execute("select pg_promote()")
        execute(copy, "select recdb.forget_user('u1')")
        gather(learner, [there])
        rows = ask(learner, ROWS)

        with pytest.raises(InvalidInput, match=r"has the identity of cell_.*, which was gathered before") as raised:
            gather(learner, [copy])
        with pytest.raises(InvalidInput, match=r"a database is named twice: cell_.* and cell_.* both have") as twice:
            gather(learner, [there, copy], replace=True)
        assert ask(learner, ROWS) == rows
        for error in (raised.value, twice.value):
            assert error.hint and "create database app template app_copied" in error.hint
        assert "--replace" in (raised.value.hint or "")
        moved = gather(learner, [copy], replace=True)
        execute(administration, f"alter database {name} rename to copied", f"create database {name} template copied")
        apart = gather(learner, [there, copy], replace=True)

    assert moved and moved[0].users == 49
    assert apart and [each.users for each in apart] == [50, 49]
    assert ask(learner, "select count(*) from recdb.gathered_database") == [(2,)]


@pytest.mark.parametrize(
    ("conninfo", "name"),
    [
        ("host=/run/postgresql port=5433 dbname=x password=word", "x at /run/postgresql, port 5433"),
        ("port=5433 dbname=x", "x at local:5433"),
        ("host=/run/postgresql port=5432 dbname=x", "x at /run/postgresql"),
        ("host=/a,/b port=5433,5434 dbname=x", "x at /a,/b, port 5433,5434"),
        ("host=a port=5433 dbname=x", "x at a:5433"),
        ("hostaddr=10.0.0.1 dbname=x", "x at 10.0.0.1"),
    ],
)
def test_a_name_tells_two_servers_of_one_machine_apart(conninfo: str, name: str) -> None:
    assert name_of(Database(conninfo, "test")) == name
    assert name_of(Database(conninfo, "test", "people")) == f"{name}, schema people"


def test_the_command_shows_what_is_here_and_removes_it(
    learner: Database, cells: list[Database], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["recdb", "gather", *arguments, "--url", learner.conninfo])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    urls = [make_conninfo(each.conninfo, password="s3cret-word") for each in cells]
    printed = run(*urls, "--users", "50")
    assert printed.split().count("300") == 2 and "next: recdb refresh --full" in printed
    assert run().split().count("300") == 2
    assert "removed 600 interactions of other databases" in run("--remove")
    assert "nothing is gathered here" in run()
    assert "s3cret" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the URL given to gather is empty"),
        (["dbname=x", " "], "the URL given to gather is empty"),
        (["dbname=x", "--from-schema", ""], "the name given by --from-schema is empty"),
        (["--replace"], "--replace is for databases to gather from"),
        (["--users", "50"], "--users is for databases to gather from"),
        (["--from-schema", "shop"], "--from-schema is for databases to gather from"),
        (["--remove", "--replace"], "--replace is for databases to gather from"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_name_no_database_are_refused(
    learner: Database,
    cells: list[Database],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gather(learner, cells, users=10)
    rows = ask(learner, ROWS)
    monkeypatch.setattr("sys.argv", ["recdb", "gather", *arguments, "--url", learner.conninfo])

    with pytest.raises(SystemExit) as ended:
        main()

    said = capsys.readouterr().err
    assert ended.value.code == 1 and message in said and "Traceback" not in said
    assert ask(learner, ROWS) == rows


def test_a_cell_that_is_down_keeps_no_other_from_being_gathered(learner: Database, cells: list[Database]) -> None:
    down = Database(make_conninfo(cells[1].conninfo, dbname="nowhere"), "test")

    with pytest.raises(Unavailable, match="1 of 2 databases were not gathered: cannot connect to nowhere"):
        gather(learner, [down, cells[0]])
    assert ask(learner, "select users from recdb.gathered_database") == [(100,)]
    with pytest.raises(Unavailable, match="cannot connect to nowhere"):
        gather(learner, [down, cells[1]], replace=True)

    assert len(ask(learner, ROWS)) == 1200
