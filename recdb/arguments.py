"""Checks of the arguments of a client's method, before a driver turns them into something else.

Ids are text in the database. A client takes a str, an integer or a UUID for an id. It refuses a value that Python would
pass on as a list of letters, a number or a literal that nobody meant.
"""

import json
import operator
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from recdb.errors import InvalidInput

Id = str | int | uuid.UUID
"""An id of a user or an item."""

BIGGEST = 2**63 - 1


def kind_of(value: object) -> str:
    """Name the type of a value for a message."""
    return "None" if value is None else type(value).__name__


def text_of(name: str, value: object) -> str | None:
    """Return a text argument as a str; None stays NULL."""
    if value is None or isinstance(value, str):
        return None if value is None else str.__str__(value)
    raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be a str")


def id_of(name: str, value: object) -> str | None:
    """Return an id as text; None stays NULL, which is nobody."""
    if value is None or isinstance(value, str):
        return None if value is None else str.__str__(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    number = None if isinstance(value, bool) else whole_or_none(value)
    if number is None:
        raise InvalidInput(
            f"{name} is of type {kind_of(value)}, and must be a str, an int or a UUID", hint_for_bytes(value)
        )
    return str(number)


def ids_of(name: str, values: object) -> list[str | None]:
    """Return a list of ids as text; None is no ids."""
    if values is None:
        return []
    if isinstance(values, str | bytes | bytearray | Mapping | uuid.UUID) or not isinstance(values, Iterable):
        example = f"write {name}=[{values!r}]" if isinstance(values, str | int | uuid.UUID) else None
        raise InvalidInput(f"{name} is of type {kind_of(values)}, and must be a list of ids", example)
    return [id_of(f"{name}[{place}]", value) for place, value in enumerate(values)]


def ids_or_null(name: str, values: object) -> list[str | None] | None:
    """Return a list of ids as text; None stays NULL, which is all ids."""
    return None if values is None else ids_of(name, values)


def count_of(name: str, value: object) -> int | None:
    """Return a whole number; None stays NULL, which is the function's own default."""
    if value is None:
        return None
    number = None if isinstance(value, bool) else whole_or_none(value)
    if number is None:
        raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be an int")
    if abs(number) > BIGGEST:
        raise InvalidInput(f"{name} is {number}, and must be between 1 and 1000")
    return number


def number_of(name: str, value: object) -> float | None:
    """Return a number; None stays NULL."""
    if value is None:
        return None
    if isinstance(value, bool | str | bytes):
        raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be a number")
    try:
        return float(cast(float, value))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be a number") from error


def weights_of(name: str, values: object) -> list[float] | None:
    """Return a list of numbers; None stays NULL."""
    if values is None:
        return None
    if isinstance(values, str | bytes | bytearray | Mapping) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name} is of type {kind_of(values)}, and must be a list of numbers")
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{name} holds something that is no number", "write weights=[1, 0.5]") from error


def filter_of(name: str, value: object) -> str | None:
    """Return a filter, a dict or a JSON path, as JSON text; None stays NULL."""
    return json.dumps(str.__str__(value)) if isinstance(value, str) else json_of(name, value)


def places_of(name: str, values: object) -> list[int | None] | None:
    """Return a list of whole numbers; None stays NULL."""
    if values is None:
        return None
    if isinstance(values, str | bytes | bytearray | Mapping) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name} is of type {kind_of(values)}, and must be a list of whole numbers")
    return [count_of(f"{name}[{place}]", value) for place, value in enumerate(values)]


def shares_of(name: str, values: object) -> list[float | None] | None:
    """Return a list of numbers, some of which may be unknown; None stays NULL."""
    if values is None:
        return None
    if isinstance(values, str | bytes | bytearray | Mapping) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name} is of type {kind_of(values)}, and must be a list of numbers")
    return [number_of(f"{name}[{place}]", value) for place, value in enumerate(values)]


def json_of(name: str, value: object) -> str | None:
    """Return an object as JSON text; None stays NULL."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        example = f'write {name}={{"key": "value"}}'
        raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be a dict", example)
    try:
        return json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from error


def time_of(name: str, value: object) -> datetime | None:
    """Return a time; None stays NULL."""
    if value is None or isinstance(value, datetime):
        return value
    raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be a datetime", "pass datetime.now(UTC)")


def span_of(name: str, value: object) -> timedelta | None:
    """Return a length of time; None stays NULL."""
    if value is None or isinstance(value, timedelta):
        return value
    raise InvalidInput(f"{name} is of type {kind_of(value)}, and must be a timedelta", "pass timedelta(hours=1)")


def whole_or_none(value: Any) -> int | None:
    """Return the whole number that an integer of any library is, None for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def hint_for_bytes(value: object) -> str | None:
    """Return how to pass bytes."""
    return "decode it: value.decode()" if isinstance(value, bytes | bytearray | memoryview) else None
