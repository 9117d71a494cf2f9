"""The advice to create an index has the form of the tool that migrates the application's database."""

import psycopg
import pytest

from recdb.data.attach import attach
from recdb.data.sources import parse_source
from recdb.database import Database
from recdb.doctor import examine

# How each tool notes its migrations, and the advice for an index on (user_id, "createdAt").
TOOLS = {
    "create table _prisma_migrations (id text)": [
        "Prisma: add to the model of table likes: @@index([userId, createdAt]) "
        '(the fields with @map("user_id")); then run npx prisma migrate dev'
    ],
    'create table "_PostLikes" ("A" text, "B" text, constraint "_PostLikes_AB_pkey" primary key ("A", "B"))': [
        "@@index([userId, createdAt])"
    ],
    "create schema drizzle; create table drizzle.__drizzle_migrations (id int)": [
        'Drizzle: add to pgTable("likes", ', "index().on(table.userId, table.createdAt)",
    ],
    "alter table likes add constraint likes_user_id_users_id_fk foreign key (user_id) references users": [
        'Drizzle: add to pgTable("likes", {…}, (table) => […]): index().on(table.userId, table.createdAt) '
        '(the fields of "user_id"); then run npx drizzle-kit generate'
    ],
    "create table django_migrations (id int)": [
        'Django: add to class Meta of the model of table likes: indexes = [models.Index(fields=["user", "createdAt"])]'
    ],
    "create table schema_migrations (version text); create table ar_internal_metadata (key text)": [
        "Rails: in a migration with disable_ddl_transaction!: "
        "add_index :likes, [:user_id, :createdAt], algorithm: :concurrently"
    ],
    "create table alembic_version (version_num text)": [
        'Alembic: add to __table_args__ of the model of table likes: '
        'Index("likes_user_id_createdAt_idx", "user_id", "createdAt")'
    ],
    "create table migrations (id int, timestamp bigint, name text)": ['TypeORM: ', '@Index(["userId", "createdAt"])'],
    "create table migrations (id int, migration text, batch int)": ["$table->index(['user_id', 'createdAt'])"],
    "create table schema_migrations (version bigint, inserted_at timestamp)": ["create index(:likes, [:user_id"],
    "create table knex_migrations (id int)": ['knex: ', 'table.index(["user_id", "createdAt"])'],
    **{
        f"create table {table}": [
            f"put it into a migration of {name}", 'concurrently on public.likes (user_id, "createdAt")'
        ]
        for table, name in {
            'flyway_schema_history (id int)': "Flyway",
            'databasechangelog (id int)': "Liquibase",
            '"SequelizeMeta" (name text)': "Sequelize",
            'goose_db_version (id int)': "goose",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("marks", TOOLS)
def test_an_index_is_advised_in_the_form_of_the_tool(database: Database, db: psycopg.Connection, marks: str) -> None:
    db.execute('create table users (id int primary key); create schema "Other"')
    db.execute('create table likes (user_id int references users, post_id int, "createdAt" timestamptz)')
    db.execute(marks)
    source = parse_source("likes user=user_id item=post_id kind=like at=createdAt")
    (found,) = attach(database, [source])
    (fix,) = [remark.fix or "" for remark in found.warnings if "one user's rows" in remark.message]
    assert [part for part in TOOLS[marks] if part not in fix] == [], fix
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        (verdict,) = [finding for finding in examine(connection) if finding.check == "attached"]
    assert [part for part in TOOLS[marks] if part not in (verdict.fix or "")] == []


def test_a_tool_of_recdbs_own_is_no_tool_of_the_application(database: Database, db: psycopg.Connection) -> None:
    """Each installation has a table of Alembic's in its schema, which its comment tells from an application's."""
    db.execute("create schema people; comment on schema people is 'recdb: recommendations'")
    db.execute("create table people.alembic_version (version_num text); create table likes (who int, what int)")
    (found,) = attach(database, [parse_source("likes user=who item=what kind=like")])
    assert "create index concurrently on public.likes (who);" in {remark.fix for remark in found.warnings}
