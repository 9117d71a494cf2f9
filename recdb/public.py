"""The function public.recommend: it belongs to the recommender that was installed first.

A recommender of a later install leaves it alone, and answers in its own schema: people.recommend(). When the first one
is removed, its public.recommend goes, and the next `recdb init` of another one makes its own.
"""

import re
from typing import NamedTuple

import psycopg
from psycopg import sql

from recdb.errors import RecdbError
from recdb.schemas import DEFAULT_SCHEMA, schema_of

# `sql/` creates, comments and grants public.recommend in several files. Where it is another recommender's, all of this
# is done to a temporary function, which is dropped at the end.
PUBLIC = re.compile(r"\bpublic\.(?=recommend\()")


FORMS = 15
"""How many forms public.recommend has: those of sql/63_public.sql."""


class Found(NamedTuple):
    """A function public.recommend."""

    name: str
    of_others: bool
    """It is another recommender's."""
    is_foreign: bool
    """It is no recommender's, or of another role."""


def find_public_recommend(raw: psycopg.Connection, *, moved: bool = False) -> list[Found]:
    """Find the forms of public.recommend, with whose they are; those of neither sort are this schema's own.

    With `moved`, also in other schemas and of other names: somebody renamed schema public, or moved or renamed a
    function.
    """
    rows = raw.execute(
        """
        select f.name, f.ours and f.of_others, not f.ours or not f.of_others and f.owner <> (
            select n.nspowner from pg_namespace n where n.nspname = 'recdb')
        from (
            select p.oid::regprocedure::text as name, p.proowner as owner,
                coalesce(obj_description(p.oid, 'pg_proc'), '') like 'recdb: %%' and p.prokind = 'f' as ours,
                exists (
                    select from pg_namespace n
                    where n.nspname <> 'recdb' and n.nspowner = p.proowner
                      and obj_description(n.oid, 'pg_namespace') like 'recdb: %%'
                      and strpos(
                          regexp_replace(
                              case p.prokind when 'f' then pg_get_functiondef(p.oid) end, '[^a-z0-9_.]', ' ', 'g'),
                          format(' %%s.', n.nspname)) > 0) as of_others
            from pg_proc p
            where case when %(moved)s::boolean
                then p.pronamespace <> to_regnamespace('recdb')
                    and (p.proname = 'recommend' or strpos(p.prosrc, 'recdb.list_for_user(') > 0)
                else p.proname = 'recommend' and p.pronamespace = to_regnamespace('public') end
        ) f
        """,
        {"moved": moved},
    ).fetchall()
    return [Found(*row) for row in rows]


def may_make_public_recommend(raw: psycopg.Connection) -> bool:
    """Return whether public.recommend is, or may become, the one of this connection's schema.

    In schema recdb, raises RecdbError if an application or another role has a function of this name, or if this role
    may not create one.
    """
    schema, found = schema_of(raw) or DEFAULT_SCHEMA, find_public_recommend(raw)
    if any(each.of_others for each in found) or is_claimed(raw):
        return False
    foreign = [each.name for each in found if each.is_foreign]
    if foreign and schema == DEFAULT_SCHEMA:
        raise RecdbError(
            f"this database has a function {foreign[0]} of its own",
            "rename or drop it: recdb needs the name public.recommend; or give recdb another schema: "
            "recdb init --schema NAME",
        )
    allowed = raw.execute("select has_schema_privilege('public', 'create')").fetchone()
    if allowed and not allowed[0] and schema == DEFAULT_SCHEMA:
        raise RecdbError(
            "this role may not create public.recommend",
            "run recdb init as the database's owner, or: grant create on schema public to <the owner>",
        )
    return not foreign and bool(allowed and allowed[0])


# The end of the comment of a schema whose recommender has public.recommend, also while somebody has dropped it.
CLAIM = ", and public.recommend"


def is_claimed(raw: psycopg.Connection) -> bool:
    """Tell whether public.recommend is another recommender's, even if it is missing at the moment."""
    row = raw.execute(
        "select 1 from pg_namespace n where n.nspname <> 'recdb' "
        "and obj_description(n.oid, 'pg_namespace') like 'recdb: %%' || %s",
        [CLAIM],
    ).fetchone()
    return row is not None


def claim(raw: psycopg.Connection) -> None:
    """Write into the schema's comment that its recommender has public.recommend."""
    row = raw.execute("select obj_description('recdb'::regnamespace, 'pg_namespace')").fetchone()
    comment = str(row[0]) if row and row[0] else ""
    if comment.startswith("recdb: ") and not comment.endswith(CLAIM):
        raw.execute(sql.SQL("comment on schema recdb is {}").format(sql.Literal(comment + CLAIM)))


def drop_stand_ins(raw: psycopg.Connection) -> None:
    """Drop the functions that the replay made in the place of public.recommend."""
    row = raw.execute(
        "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p "
        "where p.pronamespace = pg_my_temp_schema() and p.proname = 'recommend'"
    ).fetchone()
    if row and row[0]:
        psycopg.Cursor(raw).execute(f"drop function {row[0]}")
