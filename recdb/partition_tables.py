"""The models of the tables about partitions of the interactions; recdb.tables has them with all others."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from recdb.table_types import Base


class Partitioning(Base):
    """How the interactions are partitioned by time, one row; without a row they are one table."""

    __tablename__ = "partitioning"
    __table_args__ = (
        CheckConstraint("only_row"),
        CheckConstraint("every in ('month', 'week', 'day')"),
        CheckConstraint("target in ('month', 'week', 'day', 'none')"),
        CheckConstraint("(source is null) = (target is null) and (source is null) = (began_at is null)"),
    )

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    every: Mapped[str | None]
    """The time that a partition holds; None for one table."""
    source: Mapped[str | None]
    """The table that is being written again; None for none."""
    target: Mapped[str | None]
    began_at: Mapped[datetime | None]


class PartitioningPart(Base):
    """A span of time that is copied while a table is written again."""

    __tablename__ = "partitioning_part"

    starts: Mapped[datetime] = mapped_column(primary_key=True)
    ends: Mapped[datetime | None]
    own: Mapped[bool]
    """Whether the span has a partition of its own."""
    packed: Mapped[bool]
    done: Mapped[bool] = mapped_column(server_default=text("false"))


class InteractionChange(Base):
    """An interaction that came, changed or went while the store is being written again."""

    __tablename__ = "interaction_change"

    change_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    interaction_id: Mapped[int | None] = mapped_column(BigInteger)


def recorded_index() -> Index:
    """Make the index by which a refresh finds the interactions that are new: a summary of each range of pages."""
    return Index(
        "interaction_recorded",
        text("((recorded_in::text)::bigint)"),
        postgresql_using="brin",
        postgresql_with={"pages_per_range": "32", "autosummarize": "on"},
    )
