"""A view, or a condition, that makes PostgreSQL read a whole table in each call is said, with the index that helps."""

import psycopg

from recdb.data.attach import attach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.doctor import examine

SHOP = """
create table customer (id bigint primary key);
create table purchase (id bigint primary key, customer_id bigint references customer, placed_at timestamptz);
create table line (purchase_id bigint references purchase, "productId" bigint, count int);
create table product (id bigint primary key, name text);
create table moderation (product_id bigint, hidden boolean);
create view bought as
select p.customer_id, l."productId", p.placed_at from line l join purchase p on p.id = l.purchase_id;
create view loose as select customer_id::text as customer_id, id from purchase;
create view numbered as
select customer_id, id, row_number() over (order by placed_at) as place from purchase;
create view offered as select * from product where name is not null
"""
BOUGHT = parse_source("bought user=customer_id item=productId kind='buy' at=placed_at")


def warnings(database: Database, source: Source) -> dict[str, str | None]:
    (found,) = attach(database, [source])
    return {remark.message: remark.fix for remark in found.warnings}


def test_a_view_is_planned_for_one_user_and_for_new_rows(database: Database, db: psycopg.Connection) -> None:
    db.execute(SHOP)
    found = warnings(database, BOUGHT)
    reads = {message: fix for message, fix in found.items() if "reads the whole table" in message}
    assert reads == {
        "public.bought: each recommendation reads the whole table public.purchase": (
            "create index concurrently on public.purchase (customer_id);"
        ),
        "public.bought: each recommendation reads the whole table public.line": (
            "create index concurrently on public.line (purchase_id);"
        ),
        "public.bought: each refresh reads the whole table public.line": (
            "create index concurrently on public.purchase (placed_at);"
        ),
    }
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        (verdict,) = [finding for finding in examine(connection) if finding.check == "sources"]
        assert verdict.state == "warn" and "public.bought" in verdict.message
        for statement in (verdict.fix or "").splitlines():
            connection.execute(statement)
        assert not [finding for finding in examine(connection) if finding.check == "sources"]
    assert not [message for message in warnings(database, BOUGHT) if "whole table" in message]


def test_a_view_that_no_index_helps_says_why(database: Database, db: psycopg.Connection) -> None:
    db.execute(SHOP)
    db.execute("create index on purchase (customer_id)")
    for view in ("loose", "numbered"):
        found = warnings(database, parse_source(f"{view} user=customer_id item=id kind='buy'"))
        fix = found[f"public.{view}: each recommendation reads the whole table public.purchase"]
        assert "cast" in (fix or "") and "window function" in (fix or "")


def test_a_catalogue_and_its_condition_are_planned_for_one_item(database: Database, db: psycopg.Connection) -> None:
    db.execute(SHOP)
    assert not [m for m in warnings(database, Source("items", "offered", {"item": "id"})) if "whole table" in m]
    hidden = "not exists (select from public.moderation m where m.product_id = id and m.hidden)"
    found = warnings(database, Source("items", "product", {"item": "id", "available": hidden}))
    assert found["public.product: each recommendation reads the whole table public.moderation"] == (
        "create index concurrently on public.moderation (product_id);"
    )


def test_a_partitioned_table_is_told_of_one_index_and_once(database: Database, db: psycopg.Connection) -> None:
    db.execute(
        "create table act (who text, what text, at timestamptz) partition by range (at); "
        "create table act_1 partition of act for values from ('2024-01-01') to ('2025-01-01') partition by range (at); "
        "create table act_11 partition of act_1 default; create table act_2 partition of act default; "
        "create view acts as select * from act"
    )
    attach(database, [parse_source("act user=who item=what kind='buy' at=at")])
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        found = {finding.check: finding for finding in examine(connection)}
        assert "sources" not in found
        assert found["attached"].fix == ("create index on public.act (who, at);\ncreate index on public.act (at);")
        connection.execute(found["attached"].fix)
    db.execute("drop index act_who_at_idx, act_at_idx")
    reads = warnings(database, parse_source("acts user=who item=what kind='buy' at=at"))
    assert [fix for message, fix in reads.items() if "whole table" in message] == [
        "create index on public.act (who);", "create index on public.act (at);",
    ]  # fmt: skip
