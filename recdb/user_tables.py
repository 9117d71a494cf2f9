"""The models of the tables about users: attributes, and who counts no more; recdb.tables has them with all others."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Double, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from recdb.table_types import Base


class UserAttributes(Base):
    """Attributes of a user that the application knows, such as country and language."""

    __tablename__ = "user_attributes"
    __table_args__ = (
        CheckConstraint("length(user_id) between 1 and 1000 and octet_length(user_id) <= 2600"),
        CheckConstraint("jsonb_typeof(attributes) = 'object'"),
        Index(
            "user_attributes_attributes",
            "attributes",
            postgresql_using="gin",
            postgresql_ops={"attributes": "jsonb_path_ops"},
            postgresql_with={"fastupdate": "off"},
        ),
    )

    user_id: Mapped[str] = mapped_column(primary_key=True)
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class SegmentPopularity(Base):
    """The items that are popular among the users with one or two attributes, as a refresh counted them."""

    __tablename__ = "segment_popularity"
    __table_args__ = (CheckConstraint("jsonb_typeof(segment) = 'object'"), CheckConstraint("users >= 0"))

    segment: Mapped[dict[str, Any]] = mapped_column(primary_key=True)
    users: Mapped[int] = mapped_column(BigInteger)
    """How many users had these attributes at the last full refresh."""
    member_keys: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    """The users who were counted; NULL, as the other columns: to be counted."""
    item_keys: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    item_ids: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    rates: Mapped[list[float] | None] = mapped_column(ARRAY(Double))
    counted_at: Mapped[datetime | None]
    took: Mapped[timedelta | None]


class IgnoredUser(Base):
    """A user who counts in nobody else's list, until the row is deleted."""

    __tablename__ = "ignored_user"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str | None]
    ignored_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ForgottenUser(Base):
    """The salted hash of the id of a user who was erased."""

    __tablename__ = "forgotten_user"

    user_digest: Mapped[bytes] = mapped_column(primary_key=True)
    forgotten_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
