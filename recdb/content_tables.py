"""The models of the tables of `recdb embed`; recdb.tables has them with all others."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, text
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
