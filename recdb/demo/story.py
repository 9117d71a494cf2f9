"""The demo's story: load a year of groceries, follow one household, and see how its list changes with a purchase."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from recdb.client import Recommender
from recdb.database import Database, fetch_row
from recdb.demo.groceries import KIND, SOURCE, Groceries, catalogue, to_csv
from recdb.embedded import embedded_folder, start_embedded
from recdb.errors import InvalidInput, RecdbError
from recdb.latency import Latency, timed
from recdb.progress import Report, silent
from recdb.records import Recommendation

ROWS_A_WRITE = 50_000


@dataclass(frozen=True)
class LoadedGroceries:
    """How many rows load_groceries() wrote."""

    purchases: int
    households: int
    products: int


@dataclass(frozen=True)
class Product:
    """A product."""

    item_id: str
    title: str


@dataclass(frozen=True)
class Purchase:
    """A product that a household bought."""

    item_id: str
    title: str
    times: int
    last_at: datetime


def fresh_database(*, keep: bool) -> Database:
    """Start the demo's own embedded server and make its database new and empty, also after an earlier demo.

    With `keep` the server goes on running when this process ends. Raises RecdbError if the database is in use.
    """
    folder = embedded_folder("demo")
    conninfo = start_embedded(folder, stop=not keep)
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        try:
            connection.execute("drop database if exists recdb")
        except psycopg.errors.ObjectInUse as error:
            raise RecdbError(
                "the demo's database is in use, and the demo starts with a new one",
                "close the sessions that use it, or wait until the other demo ends",
            ) from error
        connection.execute("create database recdb")
    return Database(conninfo, f"embedded server in {folder}")


def require_own(connection: psycopg.Connection) -> None:
    """Raise InvalidInput if recdb holds an interaction or an item that the demo did not load."""
    (foreign,) = fetch_row(
        connection,
        """
        select exists (select from recdb.items i where not i.attributes @> %(mark)s)
            or exists (
                select from recdb.interactions i
                where not exists (
                    select from recdb.item t where t.item_id = i.item_id and t.attributes @> %(mark)s))
        """,
        {"mark": Jsonb({"source": SOURCE})},
    )
    if foreign:
        raise InvalidInput(
            "this database holds data of its own, and the demo would mix them with groceries",
            "give the demo an empty database, or leave --url out: the demo then starts a server of its own",
        )


def load_groceries(connection: psycopg.Connection, groceries: Groceries, report: Report = silent) -> LoadedGroceries:
    """Replace the rows of an earlier demo with `groceries`, in one transaction; return the counts."""
    products = list(catalogue(groceries))
    with connection.transaction():
        connection.execute("truncate recdb.interaction, recdb.item")
        # Every purchase has the same weight, and hides its product: the demo recommends products new to the household.
        connection.execute(
            "insert into recdb.interaction_kind (kind, weight, hides) values (%s, 1, true) "
            "on conflict (kind) do update set weight = excluded.weight, hides = excluded.hides",
            [KIND],
        )
        report("the catalogue")
        with connection.cursor().copy("copy recdb.item (item_id, title, attributes, available) from stdin") as copy:
            for product in products:
                copy.write_row(product)
        purchases = groceries.purchases
        statement = "copy recdb.interaction (user_id, item_id, kind, created_at) from stdin (format csv)"
        with connection.cursor().copy(statement) as copy:
            for start in range(0, len(purchases), ROWS_A_WRITE):
                report(f"purchases, {start:,} of {len(purchases):,}")
                copy.write(to_csv(purchases.iloc[start : start + ROWS_A_WRITE]))
    connection.execute("analyze recdb.interaction, recdb.item")
    return LoadedGroceries(len(purchases), purchases["household_id"].nunique(), len(products))


def pick_household(connection: psycopg.Connection, products: int = 40) -> str:
    """Pick the household whose number of different products is nearest to `products`."""
    (household,) = fetch_row(
        connection,
        """
        select i.user_id from recdb.interaction i
        group by i.user_id
        order by abs(count(distinct i.item_id) - %s), i.user_id
        limit 1
        """,
        [products],
    )
    return str(household)


def require_household(connection: psycopg.Connection, household: str) -> None:
    """Raise InvalidInput if a household bought nothing."""
    if connection.execute("select from recdb.interactions_of(%s) limit 1", [household]).fetchone() is None:
        raise InvalidInput(f"household {household} is not in the loaded data", "leave --household out")


def read_history(connection: psycopg.Connection, household: str, count: int) -> list[Purchase]:
    """Read the products that a household bought last, the newest first."""
    rows = connection.execute(
        """
        select p.item_id, t.title, p.times, p.last_at
        from (
            select i.item_id, count(*) as times, max(i.created_at) as last_at
            from recdb.interactions_of(%s) i
            group by i.item_id
        ) p
        join recdb.item t on t.item_id = p.item_id
        where t.available
        order by p.last_at desc, p.item_id
        limit %s
        """,
        [household, count],
    )
    return [Purchase(*row) for row in rows.fetchall()]


def pick_first_purchase(connection: psycopg.Connection, category: str = "CAT FOOD") -> Product:
    """Pick the most popular product of a category, or of all categories if nobody bought from this one.

    Cat food is the default because it says much about a household.
    """
    row = connection.execute(
        """
        select t.item_id, t.title
        from recdb.item_popularity p
        join recdb.item t on t.item_id = p.item_id
        where t.available
        order by t.attributes ->> 'category' is not distinct from %s desc, p.weight desc, t.item_id
        limit 1
        """,
        [category],
    ).fetchone()
    if row is None:
        raise RecdbError("there is no product to buy", "give a larger --sample")
    return Product(*row)


def describe_changes(before: Sequence[Recommendation], after: Sequence[Recommendation]) -> list[str]:
    """Describe how the rank of each item in `after` changed: 'new', 'up 3', 'down 1' or ''."""
    ranks = {row.item_id: rank for rank, row in enumerate(before)}
    changes = []
    for rank, row in enumerate(after):
        moved = ranks.get(row.item_id, rank) - rank
        if row.item_id not in ranks:
            changes.append("new")
        else:
            changes.append(f"up {moved}" if moved > 0 else f"down {-moved}" if moved < 0 else "")
    return changes


def time_households(connection: psycopg.Connection, calls: int, k: int = 50) -> Latency:
    """Ask the Python client for `k` items of `calls` households, one call after the other, and time the calls."""
    rows = connection.execute("select user_id from recdb.user_key order by md5(user_id) limit %s", [calls])
    households = [household for (household,) in rows.fetchall()]
    recommender = Recommender(connection)
    return Latency.of([ms for _, ms in timed(lambda household: recommender.recommend(household, k), households)])


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None if the system does not report it."""
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
