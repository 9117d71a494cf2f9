"""Attached values: quantities and stars of foreign schemas, odd numbers, refused expressions, and doubtful kinds."""

from collections.abc import Sequence

import psycopg
import pytest
from support.data import column, recommend
from support.doctor import findings

from recdb import job, migrate
from recdb.data.attach import Attached, attach
from recdb.data.kinds import read_stars, sounds_low
from recdb.data.sources import parse_source
from recdb.database import Database, connect
from recdb.errors import InvalidInput

LINES = "public.line user=buyer item=product kind=like"


def weights_of(db: psycopg.Connection, user: str) -> dict[str, float]:
    return dict(db.execute("select item_id, weight from recdb.profile_of(%s)", [user]).fetchall())


def remarks(found: Sequence[Attached]) -> str:
    return "\n".join(f"{warning.message} | {warning.fix}" for attached in found for warning in attached.warnings)


def test_a_shop_whose_order_lines_have_no_user_column(database: Database, db: psycopg.Connection) -> None:
    """A view gives each line its customer; the quantity counts, and a refund takes back."""
    db.execute("""
        create table customer (id bigint primary key);
        create table orders (id bigint primary key, customer_id bigint, placed_at timestamptz default now());
        create index on orders (customer_id);
        create table order_line (
            order_id bigint, product_id int, quantity numeric(10, 2), primary key (order_id, product_id));
        insert into customer select generate_series(1, 60);
        insert into orders select n, 1 + n % 60 from generate_series(1, 240) n;
        insert into order_line select n, (n % 2) * 100 + n * 7 % 30, 1 + n % 3 from generate_series(1, 240) n;
        insert into order_line values (1, 999, 4), (61, 999, -4);
        create view bought as
        select o.customer_id, l.product_id, l.quantity, o.placed_at
        from orders o join order_line l on l.order_id = o.id;
        insert into recdb.interaction_kind (kind, weight, hides) values ('purchase', 1, false)
    """)
    attach(
        database, [parse_source("bought user=customer_id item=product_id kind=purchase at=placed_at value=quantity")]
    )
    job.run(database, full=True)

    sums = dict(
        db.execute("select product_id::text, sum(quantity)::float8 from bought where customer_id = 2 group by 1")
    )
    assert weights_of(db, "2") == sums
    assert sums["999"] == 0
    found = [int(item) for item, *_ in recommend(db, "2", 10)]
    assert found and all((item >= 100) == (found[0] >= 100) for item in found)


def test_stars_and_a_table_for_each_kind(database: Database, db: psycopg.Connection) -> None:
    db.execute("""
        create table rating (
            member uuid, film int, stars smallint check (stars between 1 and 5), primary key (member, film));
        create table watchlist (member uuid, film int, added date, primary key (member, film));
        create table play (member uuid, film int, watched interval, at timestamptz default now());
        create index on play (member);
        insert into rating select lpad(u::text, 32, '0')::uuid, f, case when f % 2 = u % 2 then 5 else 1 end
        from generate_series(1, 40) u, generate_series(1, 40) f where hashint4(u * 100 + f) % 2 = 0;
        insert into watchlist select lpad(u::text, 32, '0')::uuid, 100, '2026-01-01' from generate_series(1, 40) u;
        insert into play values (lpad('1', 32, '0')::uuid, 100, '90 minutes');
        insert into recdb.interaction_kind (kind, weight) values ('rating', 1), ('wish', 0.5), ('play', 0.2)
    """)
    attach(database, [
        parse_source("rating user=member item=film kind=rating value=stars - 2.5"),
        parse_source("watchlist user=member item=film kind=wish at=added"),
        parse_source("play user=member item=film kind=play at=at value=extract(epoch from watched) / 3600"),
    ])  # fmt: skip
    job.run(database, full=True)

    me = "00000000-0000-0000-0000-000000000001"
    found = weights_of(db, me)
    assert found["100"] == pytest.approx(0.5 + 0.2 * 1.5)
    assert {weight for item, weight in found.items() if int(item) % 2} == {2.5}
    assert {weight for item, weight in found.items() if item != "100" and not int(item) % 2} == {-1.5}
    listed = [int(item) for item, *_ in recommend(db, me, 5)]
    assert listed and all(film % 2 for film in listed)


def test_no_row_stops_the_reading(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table line (buyer text, product text, f float8, n numeric, i bigint)")
    db.execute("""
        insert into line values ('a', 'null', null, null, null), ('a', 'nan', 'nan', 'nan', 1),
            ('a', 'inf', 'inf', 'infinity', 1), ('a', 'minus', '-inf', '-infinity', 1),
            ('a', 'large', 1e300, '1e400', 1e12),
            ('a', 'small', 1e-300, '1e-400', 0), ('a', 'third', 0.1, 0.1, 2)
    """)
    one, large = 0.7, pytest.approx(0.7e6)
    for name in ("f", "n", "i"):
        attach(database, [parse_source(f"{LINES} value={name}")])
        db.execute("select recdb.rebuild()")
        found = weights_of(db, "a")
        assert (found["null"], found["nan"], found["inf"], found["minus"]) == (one, one, one, one)
        assert (found["large"], found["small"]) == (large, 0)
        assert found["third"] == pytest.approx(1.4 if name == "i" else 0.07)
        assert found == dict(db.execute("select item_id, weight from recdb.user_item_weights").fetchall())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("sum(n)", "aggregate functions are not allowed"),
        ("row_number() over ()", "window functions are not allowed"),
        ("generate_series(1, 3)", "set-returning functions are not allowed"),
        ("product", "is of type text, which is not a number"),
        ("true", "is of type boolean"),
        ("n; drop table line", "syntax error"),
        ("1) as value, (2", "must|syntax"),
        ("nothing", 'column "nothing" does not exist'),
        ("1 / n", "division by zero"),
        ("$1", "parameter"),
    ],
)
def test_what_is_no_expression_for_a_number_is_refused(
    database: Database, db: psycopg.Connection, value: str, reason: str
) -> None:
    db.execute("create table line (buyer text, product text, n int)")
    db.execute("insert into line values ('a', 'b', 0)")
    with pytest.raises(InvalidInput, match=reason):
        attach(database, [parse_source(f"{LINES} value={value}")])
    assert column(db.execute("select relation from recdb.attachment")) == []


def test_values_that_look_wrong_are_named(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table line (buyer text, product text, n int)")
    db.execute("insert into line values ('a', 'b', 1), ('a', 'c', 2)")
    assert "no value of public.line is above 0" in remarks(attach(database, [parse_source(f"{LINES} value=n - 5")]))
    assert "no value" not in remarks(attach(database, [parse_source(f"{LINES} value=n - 1.5")]))


def test_no_weight_is_suggested_for_what_nobody_knows(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table line (buyer text, product text, kind text)")
    db.execute("insert into line values ('a', 'b', 'REPORT'), ('a', 'b', 'notInterested'), ('a', 'b', 'cart')")
    found = remarks(attach(database, [parse_source("public.line user=buyer item=product kind=kind")]))
    assert "REPORT, notInterested sound like dislikes, and count 0.1 in favour" in found
    assert "('REPORT', -…), ('cart', …), ('notInterested', -…)" in found
    assert "0.5" not in found


@pytest.mark.parametrize(
    ("type", "kinds", "suggested"),
    [("text", "'1 star','2 stars','5 stars'", "[0-9.]+"), ("int", "1,2,3,4,5", '"stars" - 2.5')],
)
def test_stars_as_kinds_are_asked_for_as_values(
    database: Database, db: psycopg.Connection, type: str, kinds: str, suggested: str
) -> None:
    db.execute(f"create table line (buyer text, product text, stars {type})")
    db.execute(f"insert into line select 'a', 'b' || k, k from unnest(array[{kinds}]) k")
    found = remarks(attach(database, [parse_source("public.line user=buyer item=product kind=stars")]))
    assert "holds numbers as kinds" in found and suggested in found
    assert "insert into recdb.interaction_kind" not in found


LOW = """
    report REPORTED block hide hidden dislike unlike downvote skip 1_star one-star refund return unsubscribe spam
    un_like thumbs_down notInterested not-interested opt_out unfollow Dismiss ★ removeFavorite mute
"""
NOT_LOW = "view click like share purchase cart wish rating play follow 5_stars comment under"


def test_what_sounds_low() -> None:
    assert [kind for kind in LOW.split() if not sounds_low(kind)] == []
    assert [kind for kind in NOT_LOW.split() if sounds_low(kind)] == []


def test_numbers_are_read_as_stars() -> None:
    assert read_stars(["5", "1", "3.5 stars"]) == [1, 3.5, 5]
    assert read_stars(["5", "like"]) == read_stars(["1"]) == read_stars(["1000", "1"]) == []


@pytest.mark.parametrize("value", ["quantity", '"quantity"'])
def test_a_column_of_values_that_holds_texts_now_is_refused_as_attach_does(
    database: Database, db: psycopg.Connection, value: str
) -> None:
    db.execute(
        "create table line (buyer text, product text, quantity integer); create index on line (buyer); "
        "insert into line select 'u' || n % 9, 'p' || n * n % 20, 1 + n % 3 from generate_series(1, 40) n"
    )
    attach(database, [parse_source(f"{LINES} value={value}")])
    job.run(database, full=True)
    db.execute("alter table line alter quantity type bigint")
    assert migrate.upgrade(database) == [] and recommend(db, "u1", 3, fallback="popular")

    db.execute("alter table line alter quantity type text using 'x' || quantity")

    with connect(database, autocommit=True) as doctor:
        found = findings(doctor)["parts"]
    assert found.state == "fail" and "is of type text, which is not a number" in found.message
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"public\.line.*quantity") as error:
        db.execute("select * from recdb.recommend('u1', 3)")
    assert "recdb detach public.line" in (error.value.diag.message_hint or "")
    assert any("public.line, attached as interactions, cannot be read" in line for line in migrate.upgrade(database))
    db.execute("call recdb.refresh()")
    assert not weights_of(db, "u1")

    db.execute("alter table line alter quantity type integer using substring(quantity, 2)::integer")
    job.run(database, full=True)
    assert recommend(db, "u1", 3, fallback="popular")
