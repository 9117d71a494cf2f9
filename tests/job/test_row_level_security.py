"""Rows that row-level security hides, or that somebody deletes, do not take with them what was learned."""

from collections.abc import Iterator

import psycopg
import pytest
from support import application
from support.application import user_id
from support.attached import SOURCES, interact, owned_by_librarian
from support.data import column, recommend, record, tastes, train
from support.doctor import find
from support.nights import last_runs
from support.outside import recdb

from recdb import job
from recdb.data.attach import attach
from recdb.database import Database

HIDES = """
alter table user_interaction enable row level security;
create policy own_rows on user_interaction using (user_id = current_setting('app.user', true));
"""
REFUSAL = "row-level security may hide rows of public.user_interaction"


@pytest.fixture
def owned(db: psycopg.Connection) -> Iterator[Database]:
    """The application's database, trained; its tables belong to postgres, and recdb to a role without superuser."""
    with owned_by_librarian(db) as database:
        attach(database, SOURCES)
        job.run(database)
        yield database


def learned(db: psycopg.Connection) -> list[object]:
    """What lists are made of, apart from the user's own rows."""
    return [
        db.execute(query).fetchall()
        for query in (
            "select * from recdb.user_item_weights order by 1, 2",
            "select item_key, total, users from recdb.item_popularity order by 1",
            "select label, active from recdb.models order by 1",
            "select user_digest from recdb.forgotten_user",
        )
    ]


def rebuild_is_refused(database: Database, error: type[psycopg.Error], match: str) -> str:
    """Try to rebuild, and return the hint."""
    with psycopg.connect(database.conninfo) as connection, pytest.raises(error, match=match) as refused:
        connection.execute("select recdb.rebuild()")
    return str(refused.value.diag.message_hint)


# Row-level security -------------------------------------------------------------------------------------------


def test_a_policy_that_hides_rows_stops_every_run_and_nothing_learned_is_lost(
    owned: Database, db: psycopg.Connection
) -> None:
    others = user_id(db, 2)
    before = learned(db)
    db.execute(HIDES)

    rebuild_is_refused(owned, psycopg.errors.InsufficientPrivilege, REFUSAL)
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match=REFUSAL)
    with psycopg.connect(owned.conninfo, autocommit=True) as connection, refused as raised:
        connection.execute("call recdb.refresh()")
    assert "create policy recdb_reads" in str(raised.value.diag.message_hint)
    said = recdb("refresh", "--full", database=owned, code=1)
    assert REFUSAL in said and "create policy recdb_reads" in said and "Traceback" not in said
    assert learned(db) == before
    assert recommend(db, "nobody", fallback="popular")
    assert column(db.execute("select last_error from recdb.health"))[0].startswith(REFUSAL)
    assert column(db.execute("select hidden_tables from recdb.health")) == [["public.user_interaction"]]
    found = find(db, "attached")
    assert found.state == "fail" and "public.user_interaction" in found.message

    # The application goes on meanwhile, and the statement of the hint fixes it: nothing of this time is missed.
    interact(db, others, application.post_id(db, 3), "share")
    assert found.fix is not None
    db.execute(found.fix)
    assert recommend(db, others)
    with psycopg.connect(owned.conninfo, autocommit=True) as connection:
        connection.execute("call recdb.refresh()")
    weights = "select item_id from recdb.user_item_weights where user_id = %s"
    assert application.post_id(db, 3) in column(db.execute(weights, [others]))
    assert column(db.execute("select kind from recdb.refresh_log order by run_id desc limit 1")) == ["refresh"]
    assert column(db.execute("select hidden_tables from recdb.health")) == [[]]
    assert find(db, "attached").state != "fail"


def test_tombstones_stay_while_rows_are_hidden(owned: Database, db: psycopg.Connection) -> None:
    """A rebuild lifts the tombstones of users without rows, and a policy hides the rows of everybody."""
    forgotten = user_id(db, 5)
    with psycopg.connect(owned.conninfo, autocommit=True) as owner:
        owner.execute("select recdb.forget_user(%s)", [forgotten])
        db.execute(HIDES)
        owner.execute("select recdb.rebuild(force => true)")
        db.execute("drop policy own_rows on user_interaction; alter table user_interaction disable row level security")
        owner.execute("select recdb.rebuild(force => true)")
    assert not db.execute("select from recdb.user_item_weights where user_id = %s", [forgotten]).fetchall()


@pytest.mark.parametrize(
    ("statements", "table", "fix"),
    [
        ("alter table post enable row level security", "public.post", "create policy recdb_reads on public.post"),
        (
            'alter table "like" enable row level security; create policy a on "like" using (true); '
            """create policy b on "like" as restrictive using (user_id <> '')""",
            'public."like"',
            "alter role librarian bypassrls",
        ),
        (
            "alter table recdb.interaction enable row level security, force row level security",
            "recdb.interaction",
            "create policy recdb_reads on recdb.interaction",
        ),
    ],
    ids=["the catalogue", "a restrictive policy", "recdb's own store"],
)
def test_whichever_table_is_hidden_is_named_with_the_statement_that_mends_it(
    owned: Database, db: psycopg.Connection, statements: str, table: str, fix: str
) -> None:
    db.execute(statements)
    hint = rebuild_is_refused(owned, psycopg.errors.InsufficientPrivilege, f"hide rows of {table}")
    assert fix in hint
    db.execute(hint.partition(";")[0])
    job.run(owned, full=True)


def test_policies_that_hide_nothing_from_the_owner_stop_nothing(owned: Database, db: psycopg.Connection) -> None:
    db.execute(HIDES)
    db.execute("create policy recdb_reads on user_interaction for select to librarian using (true)")
    job.run(owned, full=True)
    db.execute("drop policy recdb_reads on user_interaction; alter role librarian bypassrls")
    job.run(owned, full=True)


def test_who_insists_learns_from_what_the_policies_show(owned: Database, db: psycopg.Connection) -> None:
    db.execute(HIDES)
    rebuild_is_refused(owned, psycopg.errors.InsufficientPrivilege, REFUSAL)
    with psycopg.connect(owned.conninfo, autocommit=True) as owner:
        owner.execute("select recdb.rebuild(force => true)")
    # What is left are the rows of the table "like".
    assert column(db.execute("select count(*) from recdb.user_item_weights")) == column(
        db.execute('select count(*) from "like"')
    )


# Losses -------------------------------------------------------------------------------------------------------


def test_a_rebuild_that_would_lose_most_pairs_changes_nothing(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=60, items=60))
    label = train(database)
    before, lists = learned(db), [recommend(db, f"u{number}") for number in range(30)]
    db.execute("delete from recdb.interaction where substr(item_id, 2)::integer > 20")
    left = column(db.execute("select count(*) from recdb.interaction"))[0]

    hint = rebuild_is_refused(
        database,
        psycopg.errors.ObjectNotInPrerequisiteState,
        f"only {left} of 720 weighted interactions and 60 of 60 users would be left: nothing was changed",
    )
    assert "recdb refresh --full --force" in hint and "recdb.rebuild(force => true)" in hint
    said = recdb("refresh", "--full", database=database, code=1)
    assert "would be left" in said and "--force" in said and "Traceback" not in said
    assert learned(db) == before
    db.execute("delete from recdb.interaction")
    record(db, tastes(users=60, items=60))
    assert [recommend(db, f"u{number}") for number in range(30)] == lists

    db.execute("delete from recdb.interaction where substr(item_id, 2)::integer > 20")
    said = recdb("refresh", "--full", "--force", database=database)
    assert "trained and activated" in said and label not in said
    assert column(db.execute("select count(*) from recdb.user_item_weights")) == [left]


def test_a_rebuild_that_would_lose_most_users_changes_nothing(database: Database, db: psycopg.Connection) -> None:
    """A few users with most of the interactions: the pairs alone do not show the loss."""
    record(db, [[f"heavy{u}", f"i{i}", "like"] for u in range(10) for i in range(200)])
    record(db, [[f"light{n}", f"i{n % 7}", "like"] for n in range(100)])
    db.execute("select recdb.rebuild()")
    before = learned(db)
    db.execute("delete from recdb.interaction where user_id like 'light%'")
    rebuild_is_refused(
        database, psycopg.errors.ObjectNotInPrerequisiteState, "only 2000 of 2100 .* and 10 of 110 users"
    )
    assert learned(db) == before


def test_a_refresh_that_would_lose_most_pairs_of_the_changed_users_changes_nothing(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes(users=60, items=60))
    train(database)
    before = learned(db)
    db.execute("delete from recdb.interaction where substr(item_id, 2)::integer > 20")
    db.execute("select count(recdb.track('u' || n, 'i1', 'view')) from generate_series(0, 59) n")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="of 720 weighted interactions would be left"):
        db.execute("call recdb.refresh()")
    assert learned(db) == before
    assert last_runs(db)["refresh"] == "failed"
    db.execute("select recdb.rebuild(force => true)")
    db.execute("call recdb.refresh()")
    assert last_runs(db)["refresh"] == "succeeded"


@pytest.mark.parametrize(
    ("users", "per_user", "deleted", "refused"),
    [
        (50, 10, "substr(user_id, 2)::integer >= 25", False),
        (50, 10, "substr(user_id, 2)::integer >= 24", True),
        (49, 10, "substr(user_id, 2)::integer >= 1", False),
        (100, 1, "substr(user_id, 2)::integer >= 49", True),
        (99, 1, "substr(user_id, 2)::integer >= 1", False),
    ],
    ids=["half is left", "less than half", "too few pairs", "less than half of the users", "too few users"],
)
def test_the_threshold_is_half_of_500_pairs_or_100_users(
    database: Database, db: psycopg.Connection, users: int, per_user: int, deleted: str, refused: bool
) -> None:
    record(db, [[f"u{u}", f"i{i}", "like"] for u in range(users) for i in range(per_user)])
    db.execute("select recdb.rebuild()")
    db.execute(f"delete from recdb.interaction where {deleted}")
    if refused:
        rebuild_is_refused(database, psycopg.errors.ObjectNotInPrerequisiteState, "would be left")
    else:
        db.execute("select recdb.rebuild()")
    db.execute("select recdb.rebuild(force => true)")


def test_forgetting_most_users_is_no_loss(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=120, items=60))
    db.execute("select recdb.rebuild()")
    db.execute("select count(recdb.forget_user('u' || n)) from generate_series(0, 99) n")
    db.execute("select recdb.rebuild()")
    assert column(db.execute("select count(distinct user_id) from recdb.user_item_weights")) == [20]


def test_a_table_that_is_emptied_by_mistake_keeps_serving(owned: Database, db: psycopg.Connection) -> None:
    """A failed import: the application's table is empty at the time of the nightly run."""
    before = learned(db)
    db.execute("create table kept as table user_interaction; truncate user_interaction")
    said = recdb("refresh", "--full", database=owned, code=1)
    assert "would be left" in said
    assert learned(db) == before
    db.execute("insert into user_interaction overriding system value table kept; drop table kept")
    job.run(owned, full=True)
