"""Checks against hostile roles: the owner of recdb, and the schemas that it looks names up in."""

import psycopg

from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, some
from recdb.preconditions import find_vector_owner


def check_role_of_owner(connection: psycopg.Connection) -> Verdict:
    """recdb's owner is no superuser where others log in, and everything in schema recdb is this owner's."""
    owner, is_super, others, foreign = fetch_row(
        connection,
        """
        select quote_ident(r.rolname), r.rolsuper,
            exists (select from pg_roles o where o.rolcanlogin and not o.rolsuper),
            array(
                select c.oid::regclass::text from pg_class c
                where c.relnamespace = n.oid and c.relowner <> n.nspowner and c.relkind in ('r', 'p', 'v', 'm')
                union all
                select p.oid::regprocedure::text from pg_proc p
                where p.pronamespace = n.oid and p.proowner <> n.nspowner
                order by 1)
        from pg_namespace n join pg_roles r on r.oid = n.nspowner
        where n.nspname = 'recdb'
        """,
    )
    if foreign:
        message = f"not of {owner}, who owns schema recdb: {some(foreign)}"
        return Verdict("fail", message, f"alter … owner to {owner}; then: recdb init, as {owner}")
    if is_super and others:
        message = f"{owner} owns recdb and is a superuser: whatever goes wrong in recdb goes wrong with all rights"
        statement = (
            "create role recdb_owner login; grant create on database … to recdb_owner; then, since recdb uninstall "
            "deletes all interactions and models: copy recdb.interaction to a file, recdb uninstall, recdb init as "
            "recdb_owner, recdb load"
        )
        return Verdict("warn", message, statement)
    return Verdict("ok", f"{owner} owns all of recdb{', and nobody else logs in' if is_super else ''}")


def check_schemas(connection: psycopg.Connection) -> Verdict:
    """Only administrators create in pgvector's schema and in recdb's, and the functions name pgvector where it is."""
    rows = connection.execute(
        """
        select n.nspname, array(
            select quote_ident(r.rolname) from pg_roles r
            where not r.rolsuper and r.rolname <> 'pg_database_owner'
              and not pg_has_role(r.oid, o.nspowner, 'member')
              and has_schema_privilege(r.oid, n.oid, 'create')
            order by r.rolname)
        from pg_namespace o, pg_namespace n
        where o.nspname = 'recdb'
          and (n.oid = o.oid or n.oid = (select e.extnamespace from pg_extension e where e.extname = 'vector'))
        order by n.nspname
        """
    ).fetchall()
    (moved,) = fetch_row(
        connection,
        """
        select exists (
            select from pg_extension e join pg_namespace n on n.oid = e.extnamespace
            join pg_proc p on p.proname = 'nearest_users' and p.pronamespace = 'recdb'::regnamespace
            where e.extname = 'vector' and strpos(p.prosrc, format('operator(%I.<=>)', n.nspname)) = 0)
        """,
    )
    if moved:
        return Verdict("fail", "pgvector has moved to another schema since the install: no search works", "recdb init")
    untrusted = find_vector_owner(connection)
    if untrusted:
        schema, owner = untrusted
        message = f"pgvector is in schema {schema} of {owner}, who could replace its operators and act as recdb's owner"
        return Verdict("fail", message, "alter extension vector set schema public; then: recdb init")
    for schema, roles in rows:
        if roles:
            message = f"{some(roles)} may create in schema {schema}, where recdb's operators are"
            return Verdict("warn", message, f"revoke create on schema {schema} from {', '.join(roles)}, public;")
    return Verdict("ok", f"only administrators create in {' and '.join(schema for schema, _ in rows)}")
