"""The caller of recommend_me(): an answer that holds for recdb's owner, and not for the caller, is found here."""

import re

import psycopg

# Everybody gets the list of recdb's owner by these, because recommend_me() runs with the owner's rights. Without a
# quote `user` is the same keyword, but for a column after a dot or a name after `as`.
OWNER = re.compile(r"(?<![\w.$])(?<!\bas )(current_user|current_role|user)(?![\w$(.])", re.IGNORECASE)
# A name before a parenthesis, in double quotes or without.
CALLED = re.compile(r'([\w$]+|(?<=")[^"]+)"?\s*\(')
APART = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"", re.DOTALL)
ADVICE = (
    "where each user logs in: create or replace function recdb.current_user_id() returns text language sql stable as "
    "$$ select session_user::text $$; where a server sets the role: the same with "
    "$$ select nullif(current_setting('role'), 'none') $$"
)


def find_owner_as_caller(connection: psycopg.Connection) -> tuple[str, str] | None:
    """Return the problem and the remedy, if current_user_id(), or a function that it calls, reads current_user."""
    own = connection.execute(
        "select 'recdb.current_user_id', coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) "
        "from pg_proc p where p.oid = to_regprocedure('recdb.current_user_id()')"
    ).fetchall()
    called = sorted({name.lower() for _, body in own for name in CALLED.findall(body)})
    others = connection.execute(
        """
        select format('%%I.%%I', n.nspname, p.proname), coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
        from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace
        join pg_language l on l.oid = p.prolang and l.lanname in ('sql', 'plpgsql')
        where lower(p.proname) = any (%s) and p.prokind = 'f'
          and n.nspname not in ('pg_catalog', 'information_schema', 'recdb')
        order by 1
        """,
        [called],
    ).fetchall()
    for name, body in own + others:
        found = OWNER.search(APART.sub(" ", body))
        if found:
            where = "" if name.endswith(".current_user_id") else f", by {name}(),"
            return (
                f"recdb.current_user_id(){where} reads {found[1].lower()}, which is recdb's owner there: "
                "recommend_me() gives everybody the list of the owner",
                ADVICE,
            )
    return None
