"""An application's own table of the pages that it showed, and the impressions that recdb has of them."""

from typing import Any

import psycopg
from support.data import column

from recdb.data.sources import Source

TABLE = """
create table page_view (
    who text, what text, at timestamptz default now(), spot integer, place integer, chance numeric, arm text
);
create index on page_view (at);
"""
MAPPING = {"user": "who", "item": "what", "at": "at", "place": "place"}
KEPT = """
    select u.user_id, t.item_id, m.scenario, m.place, m.shown_at, m.model_version, m.experiment, m.variant, m.propensity
    from recdb.impression m join recdb.user_key u using (user_key) join recdb.item_key t using (item_key)
    union all
    select n.user_id, n.item_id, n.scenario, n.place, n.shown_at, n.model_version, n.experiment, n.variant, n.propensity
    from recdb.impression_new n
    order by 1, 2, 5, 4
"""


def source(relation: str = "public.page_view", **more: str) -> Source:
    named = {key.replace("_", "-"): value for key, value in more.items()}
    return Source("impressions", relation, MAPPING | named)


def kept(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    return db.execute(KEPT).fetchall()


def pairs(db: psycopg.Connection) -> list[tuple[str, str]]:
    return [row[:2] for row in kept(db)]


def show(db: psycopg.Connection, *rows: tuple[str | None, str | None], ago: str = "1 minute", place: int = 1) -> None:
    """Write pages into the application's table."""
    for user, item in rows:
        db.execute(
            "insert into page_view (who, what, place, at) values (%s, %s, %s, now() - %s::interval)",
            [user, item, place, ago],
        )


def unread(db: psycopg.Connection) -> str | None:
    return column(db.execute("select left_out from recdb.attachment"))[0]  # type: ignore[no-any-return]
