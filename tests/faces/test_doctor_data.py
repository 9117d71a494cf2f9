"""Each check of the data in recdb doctor finds odd rows, and the statement that it prints fixes them."""

import psycopg
import pytest
from support.data import column, record, tastes, train
from support.doctor import find, findings

from recdb.database import Database
from recdb.terminal import visible

CHECKS = {"times", "shares", "repeats", "ids", "catalogue", "half-life"}


def test_ordinary_data_has_nothing_odd(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    found = findings(db)
    assert {name: found[name].state for name in CHECKS if name in found} == {"times": "ok", "shares": "ok"}


def test_times_that_cannot_be_right_are_counted(db: psycopg.Connection) -> None:
    times = ("57872-10-01", "infinity", "2099-01-01", "-infinity", "0044-03-15 BC", "1970-01-01", "2024-01-01")
    record(db, [["u1", f"i{n}", "view", time] for n, time in enumerate(times)])
    found = find(db, "times")
    assert found.state == "warn"
    assert found.message.startswith("6 of 7 interactions: 3 more than a day ahead")
    assert "3 before 1971" in found.message
    assert found.fix is not None
    db.execute(found.fix[found.fix.index("delete") : found.fix.index("; then")])
    assert find(db, "times").state == "ok"


def test_a_heavy_user_is_named_with_the_statement_that_leaves_it_out(db: psycopg.Connection) -> None:
    record(db, tastes())
    for number in range(12):
        record(db, [[f"bot {number}", f"i{n % 9}", "view"] for n in range(400 + number)])
    found = find(db, "shares")
    assert found.state == "warn" and found.fix is not None
    assert "'bot 11' holds" in found.message and "'bot 1' holds" not in found.message
    assert found.message.endswith("; and 2 more hold too much")
    db.execute(found.fix[found.fix.index("insert") : found.fix.index(" then:")])
    assert find(db, "shares").message.endswith("; 12 ignored")


def test_a_small_database_has_heavy_users_too(db: psycopg.Connection) -> None:
    record(db, [[f"u{n % 100}", f"i{n % 50}", "view"] for n in range(800)])
    record(db, [["crawler", f"i{n % 50}", "view"] for n in range(999)])
    assert "'crawler' holds 56% of all interactions (999)" in find(db, "shares").message


def test_the_printed_statement_leaves_out_ids_of_any_characters(db: psycopg.Connection) -> None:
    ids = ["\x1b[2J bot", "line\nfeed", "it's a \\ \u202e bot", "\u00e9\x9b", "plain \\ it's"]
    record(db, tastes())
    for user in ids:
        record(db, [[user, f"i{n % 9}", "view"] for n in range(500)])
    fix = visible(find(db, "shares").fix or "")
    assert "\n" not in fix
    db.execute(fix[fix.index("insert") : fix.index(" then:")])
    assert set(column(db.execute("select user_id from recdb.ignored_user"))) == set(ids)
    assert find(db, "shares").state == "ok"


def test_two_times_as_far_apart_as_can_be_stop_no_check(db: psycopg.Connection) -> None:
    record(db, [["u1", "i1", "view", time] for time in ("4713-01-01 BC", "294276-12-31", "294276-12-31")])
    assert find(db, "repeats").message.startswith("1 of 3 interactions")


def test_double_clicks_are_reported(db: psycopg.Connection) -> None:
    record(db, [[f"u{n}", "i1", "view", f"2024-01-01 12:00:{n:02}"] for n in range(50)])
    assert "repeats" not in findings(db)
    record(db, [[f"u{n}", "i1", "view", f"2024-01-01 12:00:{n:02}.7"] for n in range(40)])
    found = find(db, "repeats")
    assert found.state == "warn" and found.message.startswith("40 of 90 interactions")


def test_ids_that_may_be_one_are_reported_and_not_merged(db: psycopg.Connection) -> None:
    record(db, [[user, item, "view"] for user in ("Anna", "anna", "bob") for item in ("é", "e\u0301", " x", "x", "y")])
    db.execute("call recdb.refresh()")
    found = find(db, "ids")
    assert found.state == "warn"
    assert "1 groups of users, 2 groups of items" in found.message
    assert "'Anna' and 'anna'" in found.message
    assert db.execute("select count(*) from recdb.user_key").fetchone() == (3,)


@pytest.mark.parametrize(("listed", "proposed"), [(60, False), (59, True), (57, True), (20, False), (0, False)])
def test_listed_only_is_proposed_where_the_catalogue_is_complete(
    db: psycopg.Connection, listed: int, proposed: bool
) -> None:
    record(db, tastes())
    db.execute("insert into recdb.item (item_id) select 'i' || n from generate_series(0, 59) n")
    db.execute("call recdb.refresh()")
    db.execute("delete from recdb.item where substr(item_id, 2)::integer >= %s", [listed])
    found = findings(db)
    assert ("catalogue" in found) == proposed
    if proposed:
        fix = found["catalogue"].fix or ""
        assert "i59" in found["catalogue"].message
        db.execute(fix[fix.index("update") :])
        assert "catalogue" not in findings(db)
        assert "i59" not in {row[0] for row in db.execute("select item_id from recdb.popular(1000)")}


@pytest.mark.parametrize(("kept", "state"), [(40, None), (20, "warn"), (0, "fail")])
def test_a_catalogue_that_hides_most_items_is_found(db: psycopg.Connection, kept: int, state: str | None) -> None:
    """As after a migration that gave the catalogue other ids."""
    record(db, tastes())
    db.execute("insert into recdb.item (item_id) select 'i' || n from generate_series(0, 59) n")
    db.execute("update recdb.config set listed_only = true")
    db.execute("call recdb.refresh()")
    db.execute("update recdb.item set item_id = 'new-' || item_id where substr(item_id, 2)::integer >= %s", [kept])
    found = findings(db).get("catalogue")
    assert (found and found.state) == state
    if found:
        assert f"{60 - kept} of 60 items that users touched are in no catalogue" in found.message
        assert found.fix
        db.execute(found.fix[found.fix.index("update") :])
        assert db.execute("select * from recdb.popular(5)").fetchall()


def test_a_half_life_far_shorter_than_the_time_between_rebuilds(db: psycopg.Connection) -> None:
    record(db, [[*row, "2024-01-01"] for row in tastes()])
    db.execute("update recdb.config set half_life = '1 hour'")
    db.execute("select recdb.rebuild()")
    assert "half-life" not in findings(db)
    db.execute("select recdb.track('u1', 'i1', 'view')")
    db.execute("call recdb.refresh()")
    found = find(db, "half-life")
    assert found.state == "warn" and "01:00:00" in found.message
    db.execute("select recdb.rebuild()")
    assert "half-life" not in findings(db)
