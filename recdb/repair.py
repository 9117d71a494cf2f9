"""The repairs that `recdb init` makes before and after the replay of `sql/`: parts that were dropped with `cascade`.

An application owns its schema: it may drop schema `public`, pgvector, and every table that recdb reads. The functions
and views of recdb come back with the replay. This module brings back the rest: schema `public`, the
revision and the first rows of a dump without data, and the vector columns, whose models are gone with them.
"""

from contextlib import suppress

import psycopg
from psycopg import sql

from recdb.errors import RecdbError

LEARNED_TABLES = ("user_vector", "item_vector", "item_neighbor")

# What the tables of a revision have that those of the revision before do not: the newest revision first.
SIGNS = {
    "0016": "to_regclass('recdb.segment_popularity') is not null",
    "0015": "to_regclass('recdb.gathered_database') is not null",
    "0014": "to_regclass('recdb.partitioning') is not null",
    "0013": "to_regclass('recdb.arrived_item') is not null",
    "0012": "to_regclass('recdb.impression_attached') is not null",
    "0011": "to_regclass('recdb.little_shown') is not null",
    "0010": "to_regclass('recdb.user_attributes') is not null",
    "0009": "to_regclass('recdb.impression') is not null",
    "0008": "to_regclass('recdb.scenario') is not null",
    "0007": "to_regclass('recdb.item_embedding') is not null",
    "0006": "exists (select from pg_attribute where attrelid = to_regclass('recdb.attachment') and attname = 'query')",
    "0005": "to_regclass('recdb.ignored_user') is not null",
    "0004": "to_regclass('recdb.refresh_log') is not null",
    "0003": "to_regclass('recdb.model') is not null",
    "0002": "to_regclass('recdb.user_key') is not null",
    "0001": "to_regclass('recdb.config') is not null",
}


def restore_public(raw: psycopg.Connection) -> list[str]:
    """Create schema `public` if somebody dropped it; return the repairs."""
    if raw.execute("select 1 from pg_namespace where nspname = 'public'").fetchone():
        return []
    try:
        with raw.transaction():
            raw.execute("create schema public")
    except psycopg.errors.InsufficientPrivilege as error:
        raise RecdbError(
            "schema public is missing, and this role may not create it",
            "run recdb init as the database's owner, or: create schema public;",
        ) from error
    raw.execute("comment on schema public is 'standard public schema'")
    raw.execute("grant usage on schema public to public")
    return ["schema public was missing: created"]


def restore_revision(raw: psycopg.Connection) -> list[str]:
    """Find the revision of tables that came without their rows, and give them the rows that an install makes."""
    if not raw.execute("select 1 from pg_class where oid = to_regclass('recdb.config')").fetchone():
        return []
    if raw.execute("select 1 from pg_class where oid = to_regclass('recdb.alembic_version')").fetchone():
        if raw.execute("select 1 from recdb.alembic_version").fetchone():
            return []
    else:
        raw.execute(
            "create table recdb.alembic_version "
            "(version_num varchar(32) not null constraint alembic_version_pkc primary key)"
        )
    revision = next(
        name
        for name, sign in SIGNS.items()
        if raw.execute(sql.SQL("select 1 where {}").format(sql.SQL(sign))).fetchone()
    )
    raw.execute("insert into recdb.alembic_version (version_num) values (%s)", [revision])
    raw.execute("insert into recdb.config default values on conflict do nothing")
    raw.execute(
        "insert into recdb.interaction_kind (kind, weight) "
        "select * from (values ('view', 0.1), ('click', 0.3), ('like', 0.7), ('share', 1.0)) k(kind, weight) "
        "where not exists (select from recdb.interaction_kind)"
    )
    if raw.execute("select 1 from pg_class where oid = to_regclass('recdb.secret')").fetchone():
        raw.execute(
            "insert into recdb.secret (salt) select sha256(convert_to("
            "concat(gen_random_uuid(), gen_random_uuid(), clock_timestamp()), 'UTF8')) "
            "where not exists (select from recdb.secret)"
        )
    if revision >= "0008":
        raw.execute("insert into recdb.scenario (name) values ('default') on conflict do nothing")
    if revision >= "0014":
        restore_partitioning(raw)
    if revision >= "0003":
        drop_partitions(raw)
    return ["the tables of recdb were here without their rows, as after a dump of the schema alone: it begins again"]


def restore_partitioning(raw: psycopg.Connection) -> None:
    """Write down again how the interactions are partitioned, which the bounds of a partition say."""
    raw.execute(
        """
        insert into recdb.partitioning (every)
        select case when b.length <= interval '1 day' then 'day' when b.length <= interval '7 days' then 'week'
            else 'month' end
        from (
            select (m.bounds)[2]::timestamptz - (m.bounds)[1]::timestamptz as length
            from pg_inherits i
            join pg_class c on c.oid = i.inhrelid and c.relname ~ '^interaction_[0-9]{8}$'
            cross join regexp_match(pg_get_expr(c.relpartbound, c.oid), $$'(.*)'.*'(.*)'$$) m(bounds)
            where i.inhparent = to_regclass('recdb.interaction')
            limit 1
        ) b
        on conflict do nothing
        """
    )


def find_lost_caller(raw: psycopg.Connection) -> list[str]:
    """Find out, before anything changes, that current_user_id() is gone; the replay then makes one that names nobody.

    The functions that call it came with it, so it was here. Nobody knows whether it was the default.
    """
    lost = raw.execute(
        "select 1 from pg_proc where proname = 'list_for_me' and pronamespace = to_regnamespace('recdb') "
        "and to_regprocedure('recdb.current_user_id()') is null"
    ).fetchone()
    raw.execute("select set_config('recdb.lost_caller', %s, true)", ["on" if lost else ""])
    if not lost:
        return []
    return [
        "recdb.current_user_id() was missing: it is made again and names nobody, so recommend_me() gives nobody a list "
        "until you let it name the caller: create or replace function recdb.current_user_id() ..."
    ]


def find_missing(raw: psycopg.Connection, vector: str) -> list[str]:
    """Say which parts of recdb the replay makes again, and whether pgvector has moved."""
    absent = (
        "select to_regprocedure('recdb.missing_parts()') is null or to_regprocedure('recdb.vector_schema()') is null"
    )
    if raw.execute(absent).fetchone() == (True,):
        return []
    lines = []
    (before,) = raw.execute("select recdb.vector_schema()").fetchone() or ("",)
    if before != vector:
        lines.append(f"pgvector is in schema {vector} now, and was in {before}")
    names = [name for (name,) in raw.execute("select * from recdb.missing_parts()").fetchall()]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"made again: {', '.join(names[:3])}{more}")
    return lines


def restore_vectors(raw: psycopg.Connection, vector: str, dimension: int | None) -> tuple[int, list[str]]:
    """Add the vector columns that went with pgvector, and retire the models that lost them.

    Returns the width of the columns, and the repairs. `vector` is pgvector's schema, quoted for SQL.
    """
    rows = raw.execute(
        """
        select t.name, (select a.atttypmod from pg_attribute a
            where a.attrelid = to_regclass('recdb.' || t.name) and a.attname = 'embedding' and not a.attisdropped)
        from unnest(array['user_vector', 'item_vector']) t(name)
        """
    ).fetchall()
    widths = [width for _, width in rows if width]
    missing = [name for name, width in rows if not width]
    lost = restore_embeddings(raw, vector)
    if not missing:
        return int(widths[0]), lost
    width = int(widths[0]) if widths else known_dimension(raw, dimension)
    gone = raw.execute(
        "update recdb.model set state = 'retired', active = false where state = 'ready' returning label"
    ).fetchall()
    drop_partitions(raw)
    for name in missing:
        column = sql.SQL("alter table recdb.{} add column embedding {}.halfvec({}) not null").format(
            sql.Identifier(name), sql.SQL(vector), sql.Literal(width)
        )
        raw.execute(column)
        raw.execute(
            sql.SQL(
                "comment on column recdb.{}.embedding is 'The vector; its width was chosen at the install.'"
            ).format(sql.Identifier(name))
        )
    if not gone:
        return width, [*lost, "the vector columns were missing: created"]
    labels = ", ".join(sorted(label for (label,) in gone))
    return width, [*lost, f"the vectors of {labels} went with pgvector: the next recdb refresh trains a new model"]


def restore_embeddings(raw: psycopg.Connection, vector: str) -> list[str]:
    """Add the column of the catalogue's embeddings if it went with pgvector. Those of `recdb embed` are there."""
    if raw.execute(
        "select 1 from pg_attribute a "
        "where a.attrelid = 'recdb.item'::regclass and a.attname = 'embedding' and not a.attisdropped"
    ).fetchone():
        return []
    raw.execute(
        sql.SQL(
            "alter table recdb.item add column embedding {0}.vector "
            "constraint item_embedding_width check ({0}.vector_dims(embedding) <= 4000)"
        ).format(sql.SQL(vector))
    )
    raw.execute(
        "comment on column recdb.item.embedding is 'The embedding of its text or its image, made by any model: at most "
        "4,000 numbers. Two items are alike if their embeddings are. Those of one catalogue come from one model; of "
        "another width than most, they count as missing.'"
    )
    return ["the embeddings in recdb.item went with pgvector: the column is here again, empty; load them again"]


def known_dimension(raw: psycopg.Connection, dimension: int | None) -> int:
    """Return the width that the vector columns had."""
    if raw.execute("select to_regprocedure('recdb.vector_dimension()')").fetchone() != (None,):
        row = raw.execute("select recdb.vector_dimension()").fetchone()
    elif dimension:
        row = (dimension,)
    else:
        row = raw.execute("select max((m.params ->> 'dimension')::integer) from recdb.model m").fetchone()
    return int(row[0]) if row and row[0] else 128


def drop_partitions(raw: psycopg.Connection) -> None:
    """Drop the partitions of the versions that are not ready."""
    rows = raw.execute(
        """
        select c.relname
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        join pg_class p on p.oid = i.inhparent and p.relnamespace = 'recdb'::regnamespace
        where p.relkind = 'p' and p.relname = any (%s) and not exists (
            select from recdb.model m where m.state = 'ready' and c.relname = p.relname || '_' || m.model_id)
        """,
        [list(LEARNED_TABLES)],
    ).fetchall()
    for (name,) in rows:
        raw.execute(sql.SQL("drop table recdb.{}").format(sql.Identifier(name)))


def review(raw: psycopg.Connection) -> list[str]:
    """Look at every attached table again, and fill the weighted interactions if they are new; return the changes."""
    lines = []
    changes = raw.execute("select * from recdb.review_sources(true)").fetchall()
    effects: dict[str, str] = dict(raw.execute("select relation, effect from recdb.unread_items()").fetchall())
    for relation, role, state, problem in changes:
        if state == "read" and problem:
            lines.append(
                f"{relation}, attached as {role}, is read without {problem}: attach it again if that has moved"
            )
        elif state == "read":
            lines.append(f"{relation}, attached as {role}, can be read again: its rows count")
        else:
            effect = effects.get(relation) if role == "items" else None
            lines.append(
                f"{relation}, attached as {role}, cannot be read: {problem}; {effect or 'its rows no longer count'}. "
                f"Attach it again if its name or its columns changed; recdb refresh takes it in when it is back"
            )
    unpopulated = raw.execute(
        "select 1 from pg_class where oid = to_regclass('recdb.user_item_settled') and not relispopulated "
        "and not exists (select from recdb.hidden_sources())"
    ).fetchone()
    if unpopulated:
        raw.execute("refresh materialized view recdb.user_item_settled")
    return lines


def find_failing_rows(connection: psycopg.Connection) -> list[str]:
    """Say which attached tables have a row that cannot be read, as far as a few seconds show it; needs autocommit."""
    if not connection.execute("select 1 from recdb.attachment limit 1").fetchone():
        return []
    try:
        connection.execute("select set_config('statement_timeout', '10s', false)")
        rows = connection.execute("select problem, hint from recdb.failing_sources() where problem is not null")
        return [f"{problem}; {hint}" for problem, hint in rows.fetchall()]
    except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege):
        return []


def open_public(raw: psycopg.Connection, roles: list[str]) -> list[str]:
    """Let recdb's roles use schema `public`, where recommend() is: one that was made again lets nobody in."""
    query = "select r from unnest(%s::text[]) r where not has_schema_privilege(r, 'public', 'usage')"
    shut_out = [role for (role,) in raw.execute(query, [roles]).fetchall()]
    for role in shut_out:
        statement = sql.SQL("grant usage on schema public to {}").format(sql.Identifier(role))
        try:
            with raw.transaction():
                raw.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return [f"{', '.join(shut_out)} may not use schema public: grant usage on schema public to {role};"]
    return []


def shut_public(connection: psycopg.Connection, role: str) -> None:
    """Take back the right on schema public that open_public() gave to a role."""
    granted = connection.execute(
        "select 1 from pg_namespace n, aclexplode(n.nspacl) a, pg_roles r "
        "where n.nspname = 'public' and a.grantee = r.oid and r.rolname = %s",
        [role],
    ).fetchone()
    if granted:
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(sql.SQL("revoke usage on schema public from {}").format(sql.Identifier(role)))


def dependents(connection: psycopg.Connection) -> list[str]:
    """Name the objects that an application built on recdb's: views, functions, columns and foreign keys of its own."""
    rows = connection.execute(
        """
        with recdb as (select n.oid, n.nspowner from pg_namespace n where n.nspname = 'recdb'),
        ours as (
            select p.oid from pg_proc p, recdb r
            where p.pronamespace = r.oid
               or p.proname = 'recommend' and p.proowner = r.nspowner
                   and obj_description(p.oid, 'pg_proc') like 'recdb: %'
        ), inside as (
            select 'pg_class'::regclass::oid as classid, c.oid as objid from pg_class c, recdb r
            where c.relnamespace = r.oid
            union all select 'pg_type'::regclass, t.oid from pg_type t, recdb r where t.typnamespace = r.oid
            union all select 'pg_proc'::regclass, o.oid from ours o
        )
        select distinct coalesce(
            case when w.oid is not null then pg_describe_object('pg_class'::regclass, w.ev_class, 0) end,
            pg_describe_object(d.classid, d.objid, d.objsubid))
        from pg_depend d
        join inside i on i.classid = d.refclassid and i.objid = d.refobjid
        left join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
        left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
        left join pg_trigger g on d.classid = 'pg_trigger'::regclass and g.oid = d.objid
        left join pg_attrdef f on d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
        left join pg_policy y on d.classid = 'pg_policy'::regclass and y.oid = d.objid
        left join pg_class c on c.oid = coalesce(
            w.ev_class, nullif(k.conrelid, 0), g.tgrelid, f.adrelid, y.polrelid,
            case when d.classid = 'pg_class'::regclass then d.objid end)
        left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
        left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
        where d.deptype in ('n', 'a')
          and not exists (select from ours o where o.oid = p.oid)
          and coalesce(c.relnamespace, p.pronamespace, t.typnamespace) <> (select r.oid from recdb r)
          and coalesce(c.relnamespace, p.pronamespace, t.typnamespace) <> 'pg_toast'::regnamespace
        order by 1
        """
    ).fetchall()
    return [name for (name,) in rows]
