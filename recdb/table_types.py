"""The base of recdb's SQLAlchemy models, and the types that PostgreSQL has and SQLAlchemy lacks."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, Dialect, Double, Integer, Interval, LargeBinary, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import UserDefinedType

RANDOM_KEY = "hashtextextended((gen_random_uuid())::text, (0)::bigint)"


class XID8(UserDefinedType[int]):
    """A transaction's number that never wraps around, as `pg_current_xact_id()` returns it."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Name the type in SQL."""
        return "xid8"

    def bind_processor(self, dialect: Dialect) -> Callable[[int | None], str | None]:
        """Send the number as text: PostgreSQL casts no number to xid8."""
        return lambda value: None if value is None else str(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], int | None]:
        """Read the number from its text."""
        return lambda value: None if value is None else int(value)


ischema_names["xid8"] = XID8


class Base(DeclarativeBase):
    """The base of all models: the schema, and the PostgreSQL type of each Python type."""

    metadata = MetaData(schema="recdb")
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own name, read once
        str: Text,
        int: Integer,
        float: Double,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        timedelta: Interval,
        dict[str, Any]: JSONB,
    }
