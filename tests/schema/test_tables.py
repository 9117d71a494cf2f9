"""The SQLAlchemy models and the migrations describe the same tables."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy.orm import Session
from support.data import record, tastes, train

from recdb import migrate
from recdb.database import Database, connect_engine
from recdb.tables import Base, Config, Interaction, Item, ItemNeighbor, Model, RefreshLog, UserItemRecent, UserVector


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with connect_engine(database) as connection, Session(connection) as session:
        yield session


def is_modelled(item: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Leave out the partitions, which come and go with model versions, and Alembic's own version table."""
    return kind != "table" or (
        name != migrate.VERSION_TABLE
        and not re.fullmatch(r"(user_vector|item_vector|item_neighbor|impression)_\d+", name or "")
    )


def differs(_context: Any, _inspected: Any, _column: Any, inspected_type: Any, declared_type: Any) -> bool | None:
    """Ignore the width of vectors, which is chosen at the install; let Alembic compare all other types."""
    return False if isinstance(inspected_type, HALFVEC) and isinstance(declared_type, HALFVEC) else None


def differences(database: Database) -> list[Any]:
    """The changes by which Alembic's autogenerate would turn the migrated schema into the models' schema."""
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == "recdb",
        "include_object": is_modelled,
        "compare_type": differs,
        "compare_server_default": True,
    }
    # As an application connects: SQLAlchemy knows the type halfvec by its bare name only.
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database.conninfo), poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    # Only the migrations have comments.
    return [step for step in found if not (isinstance(step, tuple) and step[0] == "remove_table_comment")
            and not (isinstance(step, list) and all(change[0] == "modify_comment" for change in step))]  # fmt: skip


def catalogue(database: Database) -> dict[str, list[str]]:
    """Every table of schema recdb with its columns, constraints and indexes, as PostgreSQL itself writes them."""
    with psycopg.connect(database.conninfo) as connection:
        rows = connection.execute(
            """
            with tables as (
                select c.oid, c.relname from pg_class c
                where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                  and c.relname <> 'alembic_version'
            )
            select t.relname, concat_ws(' ', a.attname, format_type(a.atttypid, null), nullif(a.attidentity, '')::text,
                case when a.attnotnull then 'not null' end, 'default ' || pg_get_expr(d.adbin, d.adrelid))
            from tables t
            join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
            left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
            union all
            select t.relname, n.conname || ': ' || pg_get_constraintdef(n.oid)
            from tables t join pg_constraint n on n.conrelid = t.oid and n.contype not in ('n', 't')
            union all
            select t.relname, pg_get_indexdef(i.indexrelid) from tables t join pg_index i on i.indrelid = t.oid
            union all
            select t.relname, pg_get_partkeydef(t.oid) from tables t where pg_get_partkeydef(t.oid) is not null
            order by 1, 2
            """
        ).fetchall()
    described: dict[str, list[str]] = {}
    for table, line in rows:
        described.setdefault(table, []).append(line)
    return described


def test_autogenerate_finds_nothing_to_migrate(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)

    assert differences(database) == []


def test_autogenerate_would_notice(database: Database, db: psycopg.Connection) -> None:
    """The test above relies on this: autogenerate sees each kind of difference."""
    db.execute("alter table recdb.item alter title set not null")
    db.execute("alter table recdb.refresh_log alter users type integer")
    db.execute("drop index recdb.item_published")
    db.execute("alter table recdb.attachment drop attached_at")
    db.execute("create table recdb.stray (x integer)")

    seen = {step[0][0] if isinstance(step, list) else step[0] for step in differences(database)}

    assert seen == {"modify_nullable", "modify_type", "add_index", "add_column", "remove_table"}


def test_the_models_alone_would_make_the_very_same_tables(
    database: Database, empty_database: Callable[[], Database]
) -> None:
    modelled = empty_database()
    with connect_engine(modelled) as connection:
        connection.execute(sqlalchemy.text("create extension vector"))
        connection.execute(sqlalchemy.text("create schema recdb"))
        Base.metadata.create_all(connection)
        connection.commit()

    assert catalogue(modelled) == catalogue(database)


def test_rows_are_written_and_read_through_the_models(
    database: Database, db: psycopg.Connection, session: Session
) -> None:
    record(db, tastes())
    label = train(database)

    session.add(Interaction(user_id="new", item_id="i1", kind="like", metadata_={"source": "mail"}))
    session.add(Item(item_id="i1", title="A title", attributes={"colour": "red"}))
    session.commit()

    stored = session.scalars(sqlalchemy.select(Interaction).where(Interaction.user_id == "new")).one()
    assert stored.metadata_ == {"source": "mail"} and stored.interaction_id > 0 and stored.recorded_in is not None
    assert stored.created_at.tzinfo is not None
    assert session.get_one(Item, "i1").available is True
    assert db.execute("select profile_limit from recdb.config").fetchone() == (
        session.get_one(Config, True).profile_limit,
    )
    model = session.scalars(sqlalchemy.select(Model).where(Model.active)).one()
    assert model.label == label and model.params["neighbors"] > 0
    vector = session.scalars(sqlalchemy.select(UserVector).where(UserVector.model_id == model.model_id).limit(1)).one()
    length = np.linalg.norm(np.asarray(vector.embedding, dtype=np.float64))
    assert length == pytest.approx(1, abs=1e-2)
    neighbors = session.scalars(sqlalchemy.select(ItemNeighbor).limit(1)).one()
    assert len(neighbors.neighbor_keys) == len(neighbors.weights) > 0
    assert [run.kind for run in session.scalars(sqlalchemy.select(RefreshLog).order_by(RefreshLog.run_id))] == [
        "rebuild", "train",
    ]  # fmt: skip
    db.execute("call recdb.refresh()")
    assert session.scalars(sqlalchemy.select(UserItemRecent)).all()
