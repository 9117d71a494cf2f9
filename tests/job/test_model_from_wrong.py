"""Taking an item half where something goes wrong: everything stays as it was, and the message says why."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pytest_postgresql.executors import NoopExecutor
from support.cells import ACTIVE, ITEMS, WORLD, ask, clones, execute, lists_of, store, take
from support.data import train
from support.nights import die_at, remains
from support.servers import Server
from support.standby import run_standby, wait_for_replay

from recdb import faults, job, migrate
from recdb.cli import main
from recdb.database import Database
from recdb.errors import InvalidInput, NotInstalled, NotPermitted, RecdbError, Rejected, Unavailable
from recdb.job.gather import gather


def test_items_that_do_not_fit_the_users_here_are_rejected(fresh: Database, source: Database) -> None:
    store(fresh, [[user, f"other-{item}", kind] for user, item, kind in WORLD])
    own = train(fresh)

    with pytest.raises(Rejected) as rejected:
        take(fresh, source)

    assert ask(fresh, ACTIVE) == [(own,)]
    assert "is clearly worse than" in str(rejected.value)
    assert "recdb refresh --full --model-from URL --force" in (rejected.value.hint or "")


def test_a_source_that_trains_and_drops_its_version_meanwhile_gives_the_version_that_was_active(
    cell: Database, server: Server, template: NoopExecutor
) -> None:
    with clones(server, template, 1) as (there,):
        store(there, WORLD)
        execute(there, "update recdb.config set kept_models = 1")
        train(there)
        before = ask(there, ITEMS)
        trained = []

        def report(step: str) -> None:
            if step.startswith("item vectors of the other") and not trained:
                trained.append(train(there, dimension=8))

        job.run(cell, full=True, model_from=there, report=report)

        assert trained == ["collaborative_filtering_v2"] and ask(there, ITEMS) != before
        assert ask(cell, ITEMS) == before


def broken(database: Database) -> None:
    execute(database, "alter table recdb.new_item drop column digest")


def test_a_source_that_cannot_be_read_leaves_everything_as_it_was(
    cell: Database, fresh: Database, empty_database: Callable[[], Database], server: Server
) -> None:
    own = train(cell)
    execute(cell, "create role stranger login", "create role half login", "grant usage on schema recdb to half")
    try:
        nowhere = Database(make_conninfo(cell.conninfo, dbname="nowhere", password="s3cret-word"), "test")
        wrong = [
            (nowhere, Unavailable, 'cannot connect to nowhere at .*: .*"nowhere" does not exist'),
            (empty_database(), NotInstalled, "has no recdb"),
            (fresh, RecdbError, "has no active model version"),
            (
                Database(make_conninfo(cell.conninfo, application_name="x"), "other"),
                InvalidInput,
                "this database itself",
            ),
        ]
        for there, kind, message in wrong:
            with pytest.raises(kind, match=message) as raised:
                take(cell, there)
            assert "s3cret" not in f"{raised.value} {getattr(raised.value, 'hint', '')}"
            ((logged, state),) = ask(cell, "select error, state from recdb.refresh_log order by run_id desc limit 1")
            assert (logged, state) == (str(raised.value), "failed")
        grants = "grant usage on schema recdb to half"
        execute(fresh, grants)
        for role in ("stranger", "half"):
            with pytest.raises(NotPermitted, match=f"role {role} may not read") as raised:
                take(cell, Database(make_conninfo(fresh.conninfo, user=role), "test"))
            assert raised.value.hint == f"run there: grant recdb_analyst to {role};"
        broken(fresh)
        with pytest.raises(NotInstalled, match=r"older than here: it has no new_item\.digest"):
            take(cell, fresh)
    finally:
        for database in (cell, fresh):
            execute(database, "drop owned by half", "drop owned by stranger")
        execute(cell, "drop role half", "drop role stranger")
    assert ask(cell, ACTIVE) == [(own,)]
    assert ask(cell, "select count(*) from recdb.model") == [(1,)]


@pytest.mark.parametrize("arguments", [{"full": True}, {"if_stale": timedelta(0)}], ids=["full", "stale"])
@pytest.mark.parametrize("reason", ["unreachable", "unreadable", "half way"])
def test_a_source_that_is_down_keeps_no_user_from_being_refreshed(
    cell: Database,
    source: Database,
    fresh: Database,
    arguments: dict[str, Any],
    reason: str,
) -> None:
    take(cell, source)
    touched = "select count(*) from recdb.user_item w join recdb.item_key t using (item_key) where t.item_id = 'i1'"
    ((touches,),) = ask(cell, touched)
    store(cell, [[f"newcomer{number}", item, "like"] for number in range(5) for item in ("i1", "i2", "i3")])
    there = {"unreachable": Database(make_conninfo(cell.conninfo, dbname="nowhere"), "test"), "unreadable": fresh}

    def report(step: str) -> None:
        if reason == "half way" and step.startswith("item vectors of the other"):
            execute(
                source,
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name = 'recdb'",
            )

    with pytest.raises(RecdbError) as raised:
        job.run(cell, model_from=there.get(reason, source), force=True, report=report, **arguments)

    assert ask(cell, touched) == [(touches + 5,)]
    assert len(lists_of(cell, ["newcomer0"])[0]) == 10
    assert "newcomer1" in [user for (user,) in ask(cell, "select neighbor_id from recdb.neighbors('newcomer0', 5)")]
    last = "select kind, state, error from recdb.refresh_log order by run_id desc limit 1"
    assert ask(cell, last) == [("train", "failed", str(raised.value))]
    assert ask(cell, "select count(*) from recdb.model") == [(1,)]


def test_an_analyst_may_take(cell: Database, source: Database) -> None:
    execute(source, "create role reading login", "grant recdb_analyst to reading")
    try:
        outcome = take(cell, Database(make_conninfo(source.conninfo, user="reading"), "test"))
    finally:
        execute(source, "drop role reading")

    assert outcome.model and ask(cell, ITEMS) == ask(source, ITEMS)


def test_the_command_says_what_it_took_and_no_password(
    cell: Database, source: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = make_conninfo(source.conninfo, password="s3cret-word")
    arguments = ["recdb", "refresh", "--full", "--url", cell.conninfo, "--model-from", url]
    monkeypatch.setattr("sys.argv", arguments)

    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    monkeypatch.setattr("sys.argv", ["recdb", "models", "--url", cell.conninfo])
    with pytest.raises(SystemExit):
        main()
    without = [argument for argument in arguments if argument != "--full"]
    for wrong in ([*arguments[:-1], make_conninfo(url, host="/nowhere")], without):
        monkeypatch.setattr("sys.argv", wrong)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1

    printed = capsys.readouterr()
    assert "took collaborative_filtering_v1 of cell_" in printed.out
    assert "is the item model here already" in printed.err
    assert "cannot connect to" in printed.err and "--model-from needs --full or --if-stale" in printed.err
    assert "items of" in printed.out
    assert "s3cret" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--full", "--model-from", ""], "the URL given by --model-from is empty"),
        (["--if-stale", "0s", "--model-from", " "], "the URL given by --model-from is empty"),
        (["--model-from", ""], "--model-from needs --full or --if-stale"),
        (["--full", "--model-from", "dbname=x", "--from-schema", " "], "the name given by --from-schema is empty"),
        (["--full", "--from-schema", ""], "--from-schema is for --model-from"),
        (["--if-stale", "", "--model-from", "dbname=x"], "'' is not an age or duration"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_empty_option_trains_nothing(
    cell: Database,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["recdb", "refresh", *arguments, "--url", cell.conninfo])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1 and message in capsys.readouterr().err
    assert ask(cell, "select count(*) from recdb.model") == [(0,)]


@pytest.mark.parametrize("point", faults.POINTS["taking"])
def test_a_taking_killed_anywhere(cell: Database, source: Database, point: str) -> None:
    own = train(cell)
    before = lists_of(cell, ["u0", "u2"])

    die_at(point, cell, "refresh", "--full", "--model-from", source.conninfo)

    if point != "own items linked":
        assert ask(cell, ACTIVE) == [(own,)] and lists_of(cell, ["u0", "u2"]) == before
    assert take(cell, source, force=True).taken
    with psycopg.connect(cell.conninfo) as connection:
        assert remains(connection) == {}


def test_a_source_on_an_older_server_can_be_read_by_an_analyst(
    cell: Database, older_database: Callable[[], Database]
) -> None:
    there = older_database()
    migrate.upgrade(there)
    store(there, WORLD)
    train(there)
    execute(there, "create role old_reader login", "grant recdb_analyst to old_reader")
    try:
        outcome = take(cell, Database(make_conninfo(there.conninfo, user="old_reader"), "test"))
    finally:
        execute(there, "drop role old_reader")

    assert outcome.taken and ask(cell, ITEMS) == ask(there, ITEMS)


def test_a_standby_can_be_taken_and_gathered_from(
    fresh: Database, cell: Database, server: Server, template: NoopExecutor
) -> None:
    with clones(server, template, 1) as (there,):
        store(there, WORLD)
        train(there)
        with run_standby(server) as standby, psycopg.connect(there.conninfo, autocommit=True) as primary:
            name = str(primary.info.dbname)
            with psycopg.connect(standby.conninfo(name), autocommit=True) as follower:
                wait_for_replay(primary, follower)
            copy = Database(standby.conninfo(name), "test")
            outcome = take(cell, copy)
            gathered = gather(fresh, [copy])

        assert outcome.taken and ask(cell, ITEMS) == ask(there, ITEMS)
        assert gathered and gathered[0].users == 200
