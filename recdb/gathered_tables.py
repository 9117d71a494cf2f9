"""The models of the tables of `recdb gather`; recdb.tables has them with all others."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, text
from sqlalchemy.orm import Mapped, mapped_column

from recdb.table_types import Base


class GatheredDatabase(Base):
    """Another database from which interactions were gathered."""

    __tablename__ = "gathered_database"

    database_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    identity: Mapped[str] = mapped_column(unique=True)
    """The server, the database and the schema."""
    name: Mapped[str]
    gathered_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    users: Mapped[int] = mapped_column(BigInteger)
    interactions: Mapped[int] = mapped_column(BigInteger)


class GatheredInteraction(Base):
    """A weighted interaction of another database's user, for trainings to learn from."""

    __tablename__ = "gathered_interaction"

    database_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_key: Mapped[int]
    weight: Mapped[float]
    last_at: Mapped[datetime]
