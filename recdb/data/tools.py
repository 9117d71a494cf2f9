"""Advice for the tool that owns the application's schema: an index that the tool does not know is drift to it.

A tool is recognised by the table in which it notes its migrations. recdb only advises: it never alters a table.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

# The tables of migrations, and the columns that tell tools with the same table apart. The first that fits counts: tools
# that drop what they do not know come before tools that keep it.
MARKS: Sequence[tuple[str, str, frozenset[str]]] = (
    ("Prisma", "_prisma_migrations", frozenset()),
    ("Drizzle", "__drizzle_migrations", frozenset()),
    ("Django", "django_migrations", frozenset()),
    ("Rails", "ar_internal_metadata", frozenset()),
    ("Alembic", "alembic_version", frozenset()),
    ("TypeORM", "migrations", frozenset({"timestamp", "name"})),
    ("Laravel", "migrations", frozenset({"migration", "batch"})),
    ("Sequelize", "SequelizeMeta", frozenset()),
    ("knex", "knex_migrations", frozenset()),
    ("Ecto", "schema_migrations", frozenset({"version", "inserted_at"})),
    ("golang-migrate", "schema_migrations", frozenset({"version", "dirty"})),
    ("Supabase", "schema_migrations", frozenset({"version", "statements"})),
    ("Flyway", "flyway_schema_history", frozenset()),
    ("Liquibase", "databasechangelog", frozenset()),
    ("goose", "goose_db_version", frozenset()),
    ("MikroORM", "mikro_orm_migrations", frozenset()),
    ("Kysely", "kysely_migration", frozenset()),
    ("node-pg-migrate", "pgmigrations", frozenset()),
    ("Atlas", "atlas_schema_revisions", frozenset()),
    ("sqlx", "_sqlx_migrations", frozenset()),
    ("Diesel", "__diesel_schema_migrations", frozenset()),
    ("SeaORM", "seaql_migrations", frozenset()),
    ("Entity Framework", "__EFMigrationsHistory", frozenset()),
    ("Doctrine", "doctrine_migration_versions", frozenset()),
    ("dbmate", "schema_migrations", frozenset({"version"})),
)

# `prisma db push` and `drizzle-kit push` note nothing, but give names of their own: Prisma to the table of an implicit
# many-to-many relation, Drizzle to a foreign key (likes_user_id_users_id_fk, and _fkey from 1.0 on).
NAMES: Mapping[str, str] = {
    "Prisma": r"""
        select from pg_class c
        where c.relkind = 'i' and c.relname ~ '^_.*_(AB_pkey|AB_unique|B_index)$'
          and exists (
              select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attname in ('A', 'B')
              where i.indexrelid = c.oid)
    """,
    "Drizzle": r"""
        select from pg_constraint f
        join pg_class c on c.oid = f.conrelid
        join pg_class r on r.oid = f.confrelid
        join pg_attribute a on a.attrelid = c.oid and a.attnum = f.conkey[1]
        join pg_attribute b on b.attrelid = r.oid and b.attnum = f.confkey[1]
        where f.contype = 'f' and cardinality(f.conkey) = 1
          and f.conname in (
              concat_ws('_', c.relname, a.attname, r.relname, b.attname, 'fk'),
              concat_ws('_', c.relname, a.attname, r.relname, b.attname, 'fkey'))
    """,
}


@dataclass(frozen=True)
class Index:
    """An index to create: the table, its columns, and the columns that are foreign keys."""

    schema: str
    table: str
    columns: Sequence[str]
    references: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The name that PostgreSQL would give the index."""
        return f"{self.table}_{'_'.join(self.columns)}_idx"


def recognise_tool(connection: psycopg.Connection) -> str | None:
    """Name the tool that migrates this database, or None. The tables of recdb itself do not count."""
    rows = connection.execute(
        """
        select c.relname,
            array(select a.attname::text from pg_attribute a
                  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.relname = any (%s) and n.nspname <> 'recdb'
          and coalesce(obj_description(n.oid, 'pg_namespace'), '') not like 'recdb: %%'
        """,
        [[table for _, table, _ in MARKS]],
    ).fetchall()
    for tool, table, columns in MARKS:
        if any(table == name and columns <= set(found) for name, found in rows):
            return tool
    return next((tool for tool, query in NAMES.items() if connection.execute(query).fetchone() is not None), None)


def advise_index(connection: psycopg.Connection, relation: str, statement: str) -> str:
    """Say how to create an index on a table, in the form of the application's tool; else return the statement."""
    tool = recognise_tool(connection)
    if tool is None:
        return statement
    index = read_index(connection, relation, statement)
    if index is None:
        return statement
    if tool in FORMS:
        return f"{tool}: {FORMS[tool](index)}"
    return f"put it into a migration of {tool}, which does not know an index of another origin:\n{statement}"


def read_index(connection: psycopg.Connection, relation: str, statement: str) -> Index | None:
    """Read an index from the statement that creates it."""
    listed = re.search(r"\((.*)\);$", statement)
    if listed is None:
        return None
    quoted = re.findall(r'"((?:[^"]|"")+)"|([^\s,"]+)', listed[1])
    columns = [name.replace('""', '"') if name else plain for name, plain in quoted]
    row = connection.execute(
        """
        select n.nspname, c.relname, array(
            select a.attname::text from pg_constraint f
            join pg_attribute a on a.attrelid = c.oid and a.attnum = f.conkey[1]
            where f.conrelid = c.oid and f.contype = 'f' and cardinality(f.conkey) = 1)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = to_regclass(%s)
        """,
        [relation],
    ).fetchone()
    return Index(row[0], row[1], columns, frozenset(row[2])) if row else None


# The forms ----------------------------------------------------------------------------------------------------


def camel(column: str) -> str:
    """Write a column's name as TypeScript's and JavaScript's models usually name its field."""
    return re.sub(r"_+([a-zA-Z0-9])", lambda found: found[1].upper(), column.strip("_"))


def listed(names: Sequence[str], form: str = "{}") -> str:
    """Write names one after another, each in a form."""
    return ", ".join(form.format(name) for name in names)


def for_prisma(index: Index) -> str:
    """Write the index for schema.prisma, which names fields and not columns."""
    fields = [camel(column) for column in index.columns]
    maps = [f'@map("{column}")' for field, column in zip(fields, index.columns, strict=True) if field != column]
    note = f" (the fields with {' and '.join(maps)})" if maps else ""
    return (
        f"add to the model of table {index.table}: @@index([{listed(fields)}]){note}; then run npx prisma migrate dev"
    )


def for_drizzle(index: Index) -> str:
    """Write the index for the schema of Drizzle, which names fields and not columns."""
    fields = [camel(column) for column in index.columns]
    changed = [f'"{column}"' for field, column in zip(fields, index.columns, strict=True) if field != column]
    note = f" (the fields of {' and '.join(changed)})" if changed else ""
    return (
        f'add to pgTable("{index.table}", {{…}}, (table) => […]): index().on({listed(fields, "table.{}")}){note}; '
        "then run npx drizzle-kit generate, or npx drizzle-kit push"
    )


def for_django(index: Index) -> str:
    """Write the index for a model's Meta: a foreign key's field has the name without _id."""
    fields = [column.removesuffix("_id") if column in index.references else column for column in index.columns]
    return (
        f"add to class Meta of the model of table {index.table}: "
        f"indexes = [models.Index(fields=[{listed(fields, chr(34) + '{}' + chr(34))}])]; "
        "then run python manage.py makemigrations"
    )


def for_rails(index: Index) -> str:
    """Write the index for a migration of Rails."""
    table = f":{index.table}" if index.schema == "public" else f'"{index.schema}.{index.table}"'
    symbols = listed(index.columns, ":{}")
    return (
        f"in a migration with disable_ddl_transaction!: add_index {table}, [{symbols}], algorithm: :concurrently; "
        "then run bin/rails db:migrate"
    )


def for_alembic(index: Index) -> str:
    """Write the index for a model of SQLAlchemy, from which Alembic makes the migration."""
    columns = listed(index.columns, '"{}"')
    return (
        f'add to __table_args__ of the model of table {index.table}: Index("{index.name}", {columns}); '
        "then run alembic revision --autogenerate"
    )


def for_typeorm(index: Index) -> str:
    """Write the index for an entity of TypeORM."""
    fields = listed([camel(column) for column in index.columns], '"{}"')
    return f"add to the entity of table {index.table}: @Index([{fields}]); then run typeorm migration:generate"


def for_laravel(index: Index) -> str:
    """Write the index for a migration of Laravel."""
    columns = listed(index.columns, "'{}'")
    return f"in a migration: Schema::table('{index.table}', fn (Blueprint $table) => $table->index([{columns}]));"


def for_ecto(index: Index) -> str:
    """Write the index for a migration of Ecto."""
    return f"in a migration: create index(:{index.table}, [{listed(index.columns, ':{}')}])"


def for_knex(index: Index) -> str:
    """Write the index for a migration of knex."""
    columns = listed(index.columns, '"{}"')
    return f'in a migration: knex.schema.alterTable("{index.table}", (table) => table.index([{columns}]))'


FORMS: Mapping[str, Callable[[Index], str]] = {
    "Prisma": for_prisma,
    "Drizzle": for_drizzle,
    "Django": for_django,
    "Rails": for_rails,
    "Alembic": for_alembic,
    "TypeORM": for_typeorm,
    "Laravel": for_laravel,
    "Ecto": for_ecto,
    "knex": for_knex,
}
