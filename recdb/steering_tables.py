"""The tables that steer lists, as SQLAlchemy models; recdb.tables has all others."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from recdb.table_types import Base

_FILTER = "case {1} when 'object' then true when 'string' then ({0} #>> '{{}}')::jsonpath is not null else false end"
_TIME = "{0} between interval '1 second' and interval '1000 years'"


class Scenario(Base):
    """A place of the product that shows lists, and how they are steered."""

    __tablename__ = "scenario"
    __table_args__ = (
        CheckConstraint("length(name) between 1 and 100"),
        CheckConstraint(_TIME.format("freshness"), name="scenario_freshness"),
        CheckConstraint("max_per_owner >= 1", name="scenario_max_per_owner"),
        CheckConstraint("length(max_per_attribute) between 1 and 1000", name="scenario_max_per_attribute"),
        CheckConstraint("max_per_number >= 1", name="scenario_max_per_number"),
        CheckConstraint("(max_per_attribute is null) = (max_per_number is null)", name="scenario_max_per"),
        CheckConstraint("diversity between 0 and 1", name="scenario_diversity"),
        CheckConstraint("rotation_rate between 0 and 1", name="scenario_rotation_rate"),
        CheckConstraint(_TIME.format("rotation_time"), name="scenario_rotation_time"),
        CheckConstraint("explore between 0 and 1", name="scenario_explore"),
        CheckConstraint(_TIME.format("explore_for"), name="scenario_explore_for"),
        CheckConstraint("explore_below between 1 and 1000000", name="scenario_explore_below"),
        CheckConstraint(_FILTER.format("filter", "coalesce(jsonb_typeof(filter), 'object')"), name="scenario_filter"),
        CheckConstraint("fallback in ('none', 'popular')", name="scenario_fallback"),
        CheckConstraint("minimum_score between 0 and 1", name="scenario_minimum_score"),
        CheckConstraint("length(experiment) between 1 and 100", name="scenario_experiment"),
        CheckConstraint("pool between 20 and 5000", name="scenario_pool"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    freshness: Mapped[timedelta | None]
    max_per_owner: Mapped[int | None]
    max_per_attribute: Mapped[str | None]
    max_per_number: Mapped[int | None]
    diversity: Mapped[float] = mapped_column(server_default=text("0"))
    rotation_rate: Mapped[float] = mapped_column(server_default=text("0"))
    rotation_time: Mapped[timedelta] = mapped_column(server_default=text("'1 day'"))
    explore: Mapped[float] = mapped_column(server_default=text("0"))
    filter: Mapped[Any | None] = mapped_column(JSONB)
    """An object, or a JSON path as a str."""
    fallback: Mapped[str | None]
    minimum_score: Mapped[float | None]
    experiment: Mapped[str | None]
    pool: Mapped[int] = mapped_column(server_default=text("100"))
    note: Mapped[str | None]
    acts: Mapped[bool] = mapped_column(
        Computed(
            "freshness is not null or max_per_owner is not null or max_per_attribute is not null or diversity > 0 "
            "or rotation_rate > 0 or explore > 0 or filter is not null or minimum_score is not null",
            persisted=True,
        )
    )
    explore_for: Mapped[timedelta] = mapped_column(server_default=text("'1 hour'"))
    explore_below: Mapped[int] = mapped_column(server_default=text("100"))


class Rule(Base):
    """A rule of a scenario: a factor for the items that meet a condition, or a place for the best of them."""

    __tablename__ = "rule"
    __table_args__ = (
        CheckConstraint(_FILTER.format("condition", "jsonb_typeof(condition)"), name="rule_condition"),
        CheckConstraint("factor = 0 or factor between 1e-6 and 1e6", name="rule_factor"),
        CheckConstraint("place between 1 and 1000", name="rule_place"),
        CheckConstraint("(factor is null) <> (place is null)", name="rule_acts"),
        CheckConstraint("valid_from < valid_to", name="rule_valid"),
        Index("rule_scenario", "scenario"),
    )

    rule_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    scenario: Mapped[str] = mapped_column(
        ForeignKey("recdb.scenario.name", onupdate="CASCADE", ondelete="CASCADE"), server_default=text("'default'")
    )
    condition: Mapped[Any] = mapped_column(JSONB)
    factor: Mapped[float | None]
    place: Mapped[int | None]
    valid_from: Mapped[datetime | None]
    valid_to: Mapped[datetime | None]
    note: Mapped[str | None]


class LittleShown(Base):
    """An item that scenarios may explore."""

    __tablename__ = "little_shown"
    __table_args__ = (
        CheckConstraint("impressions >= 0"),
        CheckConstraint("touched between 0 and impressions"),
        Index(
            "little_shown_slot",
            "slot",
            "item_key",
            postgresql_include=["impressions", "touched"],
        ),
    )

    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    slot: Mapped[int]
    """A hash of the key."""
    impressions: Mapped[int]
    touched: Mapped[int]


class LittleShownState(Base):
    """When the rows of LittleShown were last chosen, one row."""

    __tablename__ = "little_shown_state"
    __table_args__ = (CheckConstraint("only_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    filled_at: Mapped[datetime]
    took: Mapped[timedelta]
