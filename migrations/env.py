"""Alembic's entry: all revisions, the roles and the replay of `sql/` run in one transaction, under one lock.

The revisions are frozen once released (see released.txt). The functions of recdb.migrate that this file calls are not:
they run before the first revision and after the newest one, always in their present form.
"""

from alembic import context

from recdb.database import connect_engine, find_database
from recdb.migrate import VERSION_TABLE, create_roles, prepare, replay


def migrate_online() -> None:
    """Run the revisions on `config.attributes["database"]` or `["url"]`, else `-x url=...`, else where recdb finds its database.

    The schema is that of the database, else `-x schema=...`, else RECDB_SCHEMA, else recdb.
    """
    url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    dimension = context.config.attributes.get("dimension") or context.get_x_argument(as_dictionary=True).get(
        "dimension"
    )
    prefix = context.config.attributes.get("role_prefix") or context.get_x_argument(as_dictionary=True).get(
        "role_prefix"
    )
    schema = context.get_x_argument(as_dictionary=True).get("schema")
    database = context.config.attributes.get("database") or find_database(url, schema=schema)
    with connect_engine(database) as connection:
        context.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            version_table_schema=database.schema,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            width = int(dimension) if dimension else None
            remarks = context.config.attributes.setdefault("remarks", [])
            prepare(connection, dimension=width, role_prefix=prefix, remarks=remarks)
            context.run_migrations()
            if set(context.get_context().get_current_heads()) == set(context.script.get_heads()):
                create_roles(connection)
                replay(connection, dimension=width, remarks=remarks)


if context.is_offline_mode():
    raise SystemExit("recdb migrates a live database only: its SQL depends on where pgvector is installed")
migrate_online()
