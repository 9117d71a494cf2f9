"""The models of the tables of impressions and experiments; recdb.tables has them with all others."""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import Mapped, mapped_column

from recdb.table_types import Base

NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class Impression(Base):
    """An item that was shown to a user. The table has no primary key: query its columns."""

    __tablename__ = "impression"
    __table_args__ = (
        CheckConstraint("place >= 1"),
        CheckConstraint("propensity > 0 and propensity <= 1"),
        Index("impression_user", "user_key", "shown_at"),
        Index(
            "impression_attached",
            "attachment_id",
            "shown_at",
            postgresql_where=text("attachment_id is not null"),
        ),
        {"postgresql_partition_by": "range (shown_at)"},
    )

    user_key: Mapped[int] = mapped_column()
    item_key: Mapped[int] = mapped_column()
    scenario: Mapped[str] = mapped_column()
    place: Mapped[int] = mapped_column(SmallInteger)
    shown_at: Mapped[datetime] = mapped_column()
    model_version: Mapped[str | None]
    experiment: Mapped[str | None]
    variant: Mapped[str | None]
    propensity: Mapped[float | None] = mapped_column(REAL)
    """The probability with which the page showed this item at this place."""
    attachment_id: Mapped[int | None]
    """The attached table that it was copied from."""

    # For the mapper alone: the columns that tell one row from another.
    __mapper_args__ = {  # noqa: RUF012  SQLAlchemy's own name
        "primary_key": [user_key, item_key, scenario, place, shown_at]
    }


class ImpressionNew(Base):
    """An impression that the next refresh moves to Impression. The table has no primary key."""

    __tablename__ = "impression_new"
    __table_args__ = (
        CheckConstraint("place >= 1"),
        CheckConstraint("propensity > 0 and propensity <= 1"),
        CheckConstraint("length(user_id) between 1 and 1000 and octet_length(user_id) <= 2600"),
        CheckConstraint("length(item_id) between 1 and 1000 and octet_length(item_id) <= 2600"),
        Index("impression_new_user", "user_id"),
    )

    user_id: Mapped[str] = mapped_column()
    item_id: Mapped[str] = mapped_column()
    scenario: Mapped[str] = mapped_column()
    place: Mapped[int] = mapped_column(SmallInteger)
    shown_at: Mapped[datetime] = mapped_column()
    model_version: Mapped[str | None]
    experiment: Mapped[str | None]
    variant: Mapped[str | None]
    propensity: Mapped[float | None] = mapped_column(REAL)
    attachment_id: Mapped[int | None]

    __mapper_args__ = {  # noqa: RUF012  SQLAlchemy's own name
        "primary_key": [user_id, item_id, scenario, place, shown_at]
    }


class ItemShown(Base):
    """How often an item was shown, and how many of these impressions its user followed with an interaction."""

    __tablename__ = "item_shown"

    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    impressions: Mapped[int] = mapped_column(BigInteger)
    touched: Mapped[int] = mapped_column(BigInteger)


class ImpressionState(Base):
    """When the rows of ItemShown were last counted, one row."""

    __tablename__ = "impression_state"
    __table_args__ = (CheckConstraint("only_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    counted_at: Mapped[datetime]
    took: Mapped[timedelta]


class Experiment(Base):
    """An experiment, which compares variants of a scenario."""

    __tablename__ = "experiment"
    __table_args__ = (
        CheckConstraint(f"name ~ '{NAME}'"),
        CheckConstraint("length(scenario) between 1 and 100"),
        CheckConstraint("stopped_at >= started_at"),
        CheckConstraint("started_at is not null or stopped_at is null", name="experiment_started_before_stopped"),
        Index(
            "experiment_running",
            "scenario",
            unique=True,
            postgresql_where=text("started_at is not null and stopped_at is null"),
        ),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    scenario: Mapped[str] = mapped_column(server_default=text("'default'"))
    started_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
    note: Mapped[str | None]


class ExperimentVariant(Base):
    """A variant of an experiment."""

    __tablename__ = "experiment_variant"
    __table_args__ = (
        CheckConstraint(f"name ~ '{NAME}'"),
        CheckConstraint("weight > 0 and weight <= 1e6"),
        CheckConstraint("length(scenario) between 1 and 100"),
    )

    experiment: Mapped[str] = mapped_column(
        ForeignKey("recdb.experiment.name", onupdate="CASCADE", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[float] = mapped_column(REAL, server_default=text("1"))
    model_version: Mapped[str | None]
    """The label of the version that ranks its lists; None for the active one."""
    scenario: Mapped[str | None]
    """The scenario whose row steers its lists; None for that of the experiment."""
