"""The models of the tables of `recdb embed`; recdb.tables has them with all others."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import Mapped, mapped_column

from recdb.table_types import Base


class ItemEmbedding(Base):
    """An embedding that `recdb embed` made."""

    __tablename__ = "item_embedding"
    __table_args__ = (CheckConstraint("length(item_id) between 1 and 1000 and octet_length(item_id) <= 2600"),)

    item_id: Mapped[str] = mapped_column(primary_key=True)
    embedding: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    digest: Mapped[bytes]


class EmbeddingBasis(Base):
    """How `recdb embed` made the embeddings, one row."""

    __tablename__ = "embedding_basis"
    __table_args__ = (CheckConstraint("only_row"), CheckConstraint("dimension between 1 and 4000"))

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    method: Mapped[str]
    dimension: Mapped[int]
    items: Mapped[int] = mapped_column(BigInteger)
    fitted_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class EmbeddingToken(Base):
    """A word or attribute that embeddings are made of."""

    __tablename__ = "embedding_token"

    token: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    weight: Mapped[float] = mapped_column(REAL)
    embedding: Mapped[list[float]] = mapped_column(ARRAY(REAL))


class ModelContent(Base):
    """The row of a model version about items that are newer than itself."""

    __tablename__ = "model_content"
    __table_args__ = (CheckConstraint("scale >= 0"),)

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_item_key: Mapped[int]
    scale: Mapped[float] = mapped_column(REAL)


class ContentToken(Base):
    """The direction in which items with a word, an attribute or an owner lie."""

    __tablename__ = "content_token"

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    weight: Mapped[float] = mapped_column(REAL)
    embedding: Mapped[list[float]] = mapped_column(ARRAY(REAL))


class ContentVector(Base):
    """The unit vector of an item that a version has seen."""

    __tablename__ = "content_vector"

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    embedding: Mapped[list[float]] = mapped_column(ARRAY(REAL))


class NewItem(Base):
    """An item that a model version has not seen."""

    __tablename__ = "new_item"

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    users: Mapped[int] = mapped_column(server_default=text("0"))
    """How many users touched it since the training, as of the last refresh."""
    embedding: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    digest: Mapped[int | None] = mapped_column(BigInteger)
    """A hash of the content by which it was placed; None: it was not looked at."""


class ArrivedItem(Base):
    """When recdb first met an item of the catalogue that some kept model version has not seen."""

    __tablename__ = "arrived_item"
    __table_args__ = (CheckConstraint("octet_length(item_id) <= 2600"),)

    item_id: Mapped[str] = mapped_column(primary_key=True)
    arrived_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class ItemLink(Base):
    """The weight that an item gives to an item which is newer than the model version."""

    __tablename__ = "item_link"
    __table_args__ = (
        Index("item_link_item", "model_id", "item_key"),
        Index("item_link_source", "model_id", "source_key", postgresql_include=["item_key", "weight"]),
    )

    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    touched: Mapped[bool] = mapped_column(primary_key=True)
    weight: Mapped[float] = mapped_column(REAL)
