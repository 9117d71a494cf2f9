"""Suggestions for a name that no table has."""

import psycopg


def suggest_tables(connection: psycopg.Connection) -> str:
    """List tables that the user may have meant."""
    rows = connection.execute(
        """
        select format('%I.%I', n.nspname, c.relname)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('recdb', 'information_schema')
          and n.nspname !~ '^pg_' and coalesce(obj_description(n.oid, 'pg_namespace'), '') not like 'recdb: %'
          and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
        order by 1
        limit 20
        """
    ).fetchall()
    return f"the tables are: {', '.join(row[0] for row in rows)}" if rows else "this database has no tables"
