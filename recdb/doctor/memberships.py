"""The check of the roles that were granted one of recdb's: a grant to a role with NOINHERIT has no effect by itself."""

import psycopg

from recdb.callers import find_owner_as_caller
from recdb.doctor.verdict import Verdict, some
from recdb.roles import installed_prefix, role_comments

INHERIT_OPTION = 160000
"""The server version from which a grant of a role may say `with inherit true`."""


def check_memberships(connection: psycopg.Connection) -> Verdict | None:
    """Every member of one of recdb's roles may call the functions of that role, without SET ROLE.

    The roles that may not log in count too: a server with many users logs in as one role and becomes
    another one. A role's administrator who is no member otherwise, such as its creator, does not count.
    """
    rows = connection.execute(
        """
        select r.rolname, m.rolname, quote_ident(r.rolname), quote_ident(m.rolname), array(
            select p.oid::regprocedure::text from pg_proc p
            where (p.pronamespace = 'recdb'::regnamespace
                or p.pronamespace = to_regnamespace('public') and p.proname = 'recommend'
                    and obj_description(p.oid, 'pg_proc') like 'recdb: %%')
              and has_function_privilege(r.oid, p.oid, 'execute')
              and not (has_function_privilege(m.oid, p.oid, 'execute')
                  and has_schema_privilege(m.oid, 'recdb', 'usage'))
            order by 1)
        from pg_auth_members a
        join pg_roles r on r.oid = a.roleid
        join pg_roles m on m.oid = a.member
        where r.rolname = any (%s) and not m.rolsuper
          and m.oid <> (select n.nspowner from pg_namespace n where n.nspname = 'recdb')
          and not pg_has_role(m.oid, r.oid, 'usage')
          and coalesce(to_jsonb(a) ->> 'set_option', 'true') = 'true'
        order by 1, 2
        """,
        [list(role_comments(installed_prefix(connection)))],
    ).fetchall()
    idle = [row for row in rows if row[4]]
    if not idle:
        return None
    message = (
        f"the grant has no effect, as the role does not inherit: {some([f'{row[0]} to {row[1]}' for row in idle])}"
    )
    if connection.info.server_version >= INHERIT_OPTION:
        statements = [f"grant {role} to {member} with inherit true;" for _, _, role, member, _ in idle]
    else:
        statements = [
            f"grant usage on schema recdb to {member}; grant execute on routine {', '.join(routines)} to {member};"
            for _, _, _, member, routines in idle
        ]
    return Verdict("warn", message, " ".join(dict.fromkeys(statements)))


def check_callers(connection: psycopg.Connection) -> Verdict | None:
    """recommend_me() answers for its caller, and not for recdb's owner, with whose rights it runs."""
    found = find_owner_as_caller(connection)
    return Verdict("fail", *found) if found else None
