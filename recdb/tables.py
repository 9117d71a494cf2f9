"""recdb's tables as SQLAlchemy 2 models, for programs that read or write them through SQLAlchemy.

The revisions in `migrations/` create the tables; a test checks that the models agree with them. Views and materialized
views have no models, and neither have the partitions of the learned tables: query the parent table by `model_id`.
"""

from datetime import datetime, timedelta
from typing import Any

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Computed,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, OID, REAL
from sqlalchemy.orm import Mapped, mapped_column

from recdb.content_tables import ContentToken, ContentVector, EmbeddingBasis, EmbeddingToken, ItemEmbedding

from recdb.content_tables import ArrivedItem, ItemLink, ModelContent, NewItem  # isort: skip
from recdb.gathered_tables import GatheredDatabase, GatheredInteraction
from recdb.impression_tables import Experiment, ExperimentVariant, Impression, ImpressionNew, ImpressionState, ItemShown
from recdb.partition_tables import InteractionChange, Partitioning, PartitioningPart, recorded_index
from recdb.steering_tables import Rule, Scenario
from recdb.table_types import RANDOM_KEY, XID8, Base
from recdb.user_tables import ForgottenUser, IgnoredUser, SegmentPopularity, UserAttributes

__all__ = [
    "ArrivedItem",
    "Attachment", "Base", "ChangedUser", "Config", "ContentToken", "ContentVector", "EmbeddingBasis", "EmbeddingToken",
    "Experiment", "ExperimentVariant", "ForgottenUser", "GatheredDatabase", "GatheredInteraction", "IgnoredUser",
    "Impression", "ImpressionNew", "ImpressionState", "Interaction", "InteractionChange", "InteractionKind", "Item",
    "ItemEmbedding", "ItemKey", "ItemLink", "ItemNeighbor", "ItemPopularity", "ItemShown", "ItemVector", "LoadLog",
    "Model", "ModelContent", "NewItem", "Partitioning", "PartitioningPart", "RecentUser", "RefreshLock", "RefreshLog",
    "Rule", "Scenario", "Secret", "SegmentPopularity", "UserAttributes", "UserItemRecent", "UserKey", "UserVector",
]  # fmt: skip


class Config(Base):
    """The settings of recdb, one row."""

    __tablename__ = "config"
    __table_args__ = (
        CheckConstraint("only_row"),
        CheckConstraint("half_life > interval '0'"),
        CheckConstraint("profile_limit between 1 and 10000"),
        CheckConstraint("profile_limit <= training_limit"),
        CheckConstraint("training_limit between 1 and 30000"),
        CheckConstraint("training_interactions >= 1"),
        CheckConstraint("kept_models >= 1"),
        CheckConstraint(
            "default_weight between -1e6 and 1e6 and (default_weight = 0 or abs(default_weight) >= 1e-9)",
            name="config_default_weight_range",
        ),
        CheckConstraint(
            "half_life between interval '1 second' and interval '1000 years'", name="config_half_life_range"
        ),
        CheckConstraint("isfinite(decay_origin)", name="config_decay_origin_finite"),
        CheckConstraint("content_share between 0 and 1", name="config_content_share"),
        CheckConstraint("impression_retention between interval '1 day' and interval '10 years'"),
        CheckConstraint("retention between interval '1 day' and interval '1000 years'", name="config_retention_range"),
    )

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    half_life: Mapped[timedelta | None]
    decay_origin: Mapped[datetime] = mapped_column(server_default=text("now()"))
    default_weight: Mapped[float] = mapped_column(server_default=text("0.1"))
    default_hides: Mapped[bool] = mapped_column(server_default=text("true"))
    profile_limit: Mapped[int] = mapped_column(server_default=text("500"))
    training_limit: Mapped[int] = mapped_column(server_default=text("5000"))
    training_interactions: Mapped[int] = mapped_column(BigInteger, server_default=text("40000000"))
    listed_only: Mapped[bool] = mapped_column(server_default=text("false"))
    kept_models: Mapped[int] = mapped_column(server_default=text("2"))
    content_share: Mapped[float] = mapped_column(REAL, server_default=text("0.005"))
    impression_retention: Mapped[timedelta] = mapped_column(server_default=text("'90 days'"))
    retention: Mapped[timedelta | None]
    """How long interactions are kept; None for ever."""


class InteractionKind(Base):
    """A kind of interactions: the weight of one, and whether it hides its item."""

    __tablename__ = "interaction_kind"
    __table_args__ = (
        CheckConstraint("weight between -1e6 and 1e6"),
        CheckConstraint("weight = 0 or abs(weight) >= 1e-9", name="interaction_kind_weight_range"),
    )

    kind: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[float]
    hides: Mapped[bool] = mapped_column(server_default=text("true"))


class Interaction(Base):
    """An interaction in recdb's own store, which is append-only."""

    __tablename__ = "interaction"
    __table_args__ = (
        CheckConstraint("length(user_id) between 1 and 1000"),
        CheckConstraint("length(item_id) between 1 and 1000"),
        CheckConstraint("length(kind) between 1 and 100"),
        CheckConstraint("octet_length(user_id) + octet_length(item_id) + octet_length(kind) <= 2600"),
        CheckConstraint(
            "value between -1e6 and 1e6 and (value = 0 or abs(value) >= 1e-9)", name="interaction_value_range"
        ),
        Index("interaction_user", "user_id", "created_at", postgresql_include=["item_id", "kind", "value"]),
        recorded_index(),
        Index("interaction_created", "created_at"),
    )

    interaction_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[str]
    item_id: Mapped[str]
    kind: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # SQLAlchemy uses the name `metadata` itself.
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    recorded_in: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    value: Mapped[float | None]
    """The weight of the kind is multiplied by it; None is 1."""


class LoadLog(Base):
    """A file of interactions that `recdb load` has stored."""

    __tablename__ = "load_log"
    __table_args__ = (Index("load_log_digest", "digest"),)

    load_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    file: Mapped[str]
    digest: Mapped[bytes]
    """The SHA-256 hash of the content, unpacked."""
    rows: Mapped[int] = mapped_column(BigInteger)
    loaded_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Item(Base):
    """An item of recdb's own catalogue."""

    __tablename__ = "item"
    __table_args__ = (
        CheckConstraint("length(item_id) between 1 and 1000 and octet_length(item_id) <= 2600"),
        CheckConstraint("vector_dims(embedding) <= 4000", name="item_embedding_width"),
        Index("item_published", literal_column("published_at desc nulls last"), "item_id"),
        Index("item_attributes", "attributes", postgresql_using="gin", postgresql_with={"fastupdate": "off"},
              postgresql_ops={"attributes": "jsonb_path_ops"}),
    )  # fmt: skip

    item_id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str | None]
    published_at: Mapped[datetime | None]
    available: Mapped[bool] = mapped_column(server_default=text("true"))
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    title: Mapped[str | None]
    embedding: Mapped[Any | None] = mapped_column(VECTOR)
    """Of any width up to 4,000; that of most items counts."""


class Attachment(Base):
    """A table of the application that recdb reads as interactions, items or impressions."""

    __tablename__ = "attachment"
    __table_args__ = (
        CheckConstraint("role in ('interactions', 'items', 'impressions')"),
        CheckConstraint("state in ('read', 'missing')"),
    )

    attachment_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    role: Mapped[str]
    relation: Mapped[str]
    mapping: Mapped[dict[str, Any]]
    attached_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    query: Mapped[str | None]
    """The query that reads the table, with recdb's names of the columns."""
    reads: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """The tables and views that the query names."""
    seen: Mapped[list[int]] = mapped_column(ARRAY(OID), server_default=text("'{}'"))
    """Their oids when recdb looked at them last."""
    state: Mapped[str] = mapped_column(server_default=text("'read'"))
    """missing: recdb cannot read the table, so its rows do not count."""
    changed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    listed_only: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether config.listed_only is on again when this catalogue is back."""
    whole_query: Mapped[str | None]
    """The query with every mapped column, while `query` reads the table without some that only describe an item."""
    copied_at: Mapped[datetime | None]
    """The impressions of this table from before this time are copied."""
    left_out: Mapped[str | None]
    """The rows that the last refresh did not copy, and why."""


class Secret(Base):
    """The secrets of this installation, one row: a salt, and the keys of two advisory locks."""

    __tablename__ = "secret"
    __table_args__ = (CheckConstraint("only_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    salt: Mapped[bytes]
    job_lock: Mapped[int] = mapped_column(BigInteger, server_default=text(RANDOM_KEY))
    activation_lock: Mapped[int] = mapped_column(BigInteger, server_default=text(RANDOM_KEY))


class RefreshLock(Base):
    """A table without rows, which whoever rewrites the weighted interactions locks."""

    __tablename__ = "refresh_lock"
    __table_args__ = (CheckConstraint("only_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))


class ChangedUser(Base):
    """A user whom the next refresh weighs again, without a new interaction."""

    __tablename__ = "changed_user"

    change_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[str]


class UserKey(Base):
    """A user's dense integer key."""

    __tablename__ = "user_key"
    __table_args__ = (UniqueConstraint("user_id"),)

    user_key: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    user_id: Mapped[str]


class ItemKey(Base):
    """An item's dense integer key."""

    __tablename__ = "item_key"
    __table_args__ = (UniqueConstraint("item_id"),)

    item_key: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    item_id: Mapped[str]
    first_at: Mapped[datetime | None]
    """The first interaction with it, as of the last full refresh."""


class RecentUser(Base):
    """A user whose weighted interactions are in UserItemRecent."""

    __tablename__ = "recent_user"

    user_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    refreshed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class UserItemRecent(Base):
    """A weighted interaction of a user who changed since the last full refresh."""

    __tablename__ = "user_item_recent"

    user_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[int]
    item_key: Mapped[int]
    weight: Mapped[float]
    last_at: Mapped[datetime]
    heaviest: Mapped[float]
    """The decayed weight of the heaviest single interaction, by its kind."""


class ItemPopularity(Base):
    """The popularity of an item: the sum of its users' weights, without dislikes."""

    __tablename__ = "item_popularity"
    __table_args__ = (Index("item_popularity_rank", literal_column("weight desc"), "item_id"),)

    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_id: Mapped[str]
    total: Mapped[float]
    weight: Mapped[float] = mapped_column(
        Computed(
            "case when total > 0 then round(total::numeric, 9 - floor(log(total))::integer)::double precision "
            "else 0 end",
            persisted=True,
        )
    )
    """The total, rounded to 10 digits: popular() ranks items by it."""
    users: Mapped[int] = mapped_column(BigInteger)


class Model(Base):
    """A trained model version: its hyper-parameters, metrics and counts."""

    __tablename__ = "model"
    __table_args__ = (
        UniqueConstraint("label"),
        CheckConstraint("state in ('training', 'ready', 'retired')"),
        CheckConstraint("not active or state = 'ready'"),
        Index("model_active", "active", unique=True, postgresql_where=text("active")),
    )

    model_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    label: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'training'"))
    active: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    activated_at: Mapped[datetime | None]
    params: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    users: Mapped[int | None] = mapped_column(BigInteger)
    items: Mapped[int | None] = mapped_column(BigInteger)
    interactions: Mapped[int | None] = mapped_column(BigInteger)
    half_life: Mapped[timedelta | None]
    decay_origin: Mapped[datetime]
    pair_limit: Mapped[float | None]
    neighbor_limit: Mapped[float | None]


class UserVector(Base):
    """A user's unit vector in a model version, and the items and weights that the user contributes as a neighbour."""

    __tablename__ = "user_vector"
    __table_args__ = (
        CheckConstraint("cardinality(item_keys) = cardinality(weights)"),
        {"postgresql_partition_by": "list (model_id)"},
    )

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    embedding: Mapped[Any] = mapped_column(HALFVEC, nullable=False)
    """Its width was chosen at the install."""
    item_keys: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    weights: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    """sign(w) |w|^neighbor_weight_exponent of each of `item_keys`."""
    total_weight: Mapped[float] = mapped_column(REAL)
    """The sum of |weights|."""


class ItemVector(Base):
    """An item's vector in a model version."""

    __tablename__ = "item_vector"
    __table_args__ = {"postgresql_partition_by": "list (model_id)"}  # noqa: RUF012  SQLAlchemy's own name

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    embedding: Mapped[Any] = mapped_column(HALFVEC, nullable=False)


class ItemNeighbor(Base):
    """An item's neighbours in a model version, as keys and weights."""

    __tablename__ = "item_neighbor"
    __table_args__ = (
        CheckConstraint("cardinality(neighbor_keys) = cardinality(weights)"),
        {"postgresql_partition_by": "list (model_id)"},
    )

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    neighbor_keys: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    weights: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    total_weight: Mapped[float] = mapped_column(REAL)
    """The sum of |weights|."""


class RefreshLog(Base):
    """A maintenance run."""

    __tablename__ = "refresh_log"
    __table_args__ = (
        CheckConstraint("kind in ('refresh', 'rebuild', 'train', 'tune', 'activate')"),
        CheckConstraint("state in ('running', 'succeeded', 'failed', 'rejected', 'cancelled', 'lost')"),
        Index("refresh_log_started", "started_at"),
        Index("refresh_log_kind", "kind", "run_id"),
        Index("refresh_log_running", "run_id", postgresql_where=text("state = 'running'")),
    )

    run_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    users: Mapped[int | None] = mapped_column(BigInteger)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str | None]
    seen: Mapped[int | None] = mapped_column(XID8)
    cluster: Mapped[int | None] = mapped_column(BigInteger)
    """The system identifier of the server that numbers these transactions."""
    error: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=text("'succeeded'"))
    pid: Mapped[int | None]
    """The server process of the run."""
    half_life_before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
