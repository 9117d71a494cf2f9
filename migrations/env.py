"""Alembic's entry: one transaction, under one lock, for every revision and the SQL replayed after the last."""

from alembic import context

from recdb.database import connect_engine, find_database
from recdb.migrate import VERSION_TABLE, prepare, replay


def migrate_online() -> None:
    """Run the revisions on `config.attributes["url"]`, else `-x url=...`, else where recdb finds its database."""
    url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    dimension = context.config.attributes.get("dimension") or context.get_x_argument(as_dictionary=True).get(
        "dimension"
    )
    with connect_engine(find_database(url)) as connection:
        context.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            version_table_schema="recdb",
            transactional_ddl=True,
        )
        with context.begin_transaction():
            prepare(connection, dimension=int(dimension) if dimension else None)
            context.run_migrations()
            if set(context.get_context().get_current_heads()) == set(context.script.get_heads()):
                replay(connection)


if context.is_offline_mode():
    raise SystemExit("recdb migrates a live database only: its SQL depends on where pgvector is installed")
migrate_online()
