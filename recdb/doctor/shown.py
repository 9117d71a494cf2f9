"""The checks of impressions and experiments."""

import psycopg

from recdb.data.pages import count_rows
from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, size, some


def check_impressions(connection: psycopg.Connection) -> Verdict | None:
    """Old impressions go, new ones are taken in, and the versions that experiments compare are there."""
    (lost,) = fetch_row(
        connection,
        """
        select coalesce(array_agg(format('%s of %s', v.model_version, e.name) order by e.name, v.name), '{}')
        from recdb.experiment e
        join recdb.experiment_variant v on v.experiment = e.name
        where e.started_at is not null and e.stopped_at is null and v.model_version is not null
          and not exists (select from recdb.model m where m.label = v.model_version and m.state = 'ready')
        """,
    )
    if lost:
        message = f"not kept, so the active version serves in its place: {some(lost)}"
        return Verdict("warn", message, "recdb experiment stop NAME")
    old, weeks, total, waiting = fetch_row(
        connection,
        """
        select count(*) filter (where p.ends < now() - interval '7 days' - c.impression_retention),
            count(p.name),
            coalesce(sum(pg_total_relation_size(to_regclass('recdb.' || quote_ident(p.name)))), 0)::bigint,
            (select count(*) from recdb.impression_new n
             where n.shown_at < now() - interval '1 day'
               and n.shown_at < (select max(l.finished_at) from recdb.refresh_log l where l.error is null))
        from recdb.config c
        left join lateral recdb.impression_partitions() p on true
        group by c.impression_retention
        """,
    )
    if old:
        return Verdict(
            "warn",
            f"{old} weeks are older than config.impression_retention, and in use whenever recdb would drop them",
            "recdb refresh, while no transaction reads recdb.impression",
        )
    if waiting:
        return Verdict("warn", f"{waiting:,} rows of recdb.impression_new were not taken in", "recdb refresh")
    if not weeks:
        return None
    return Verdict("ok", f"{weeks} weeks, {size(total)}")


def check_steering(connection: psycopg.Connection) -> Verdict | None:
    """Every filter of a scenario and every condition of a rule can be read, and lists follow their experiments."""
    rows = connection.execute("select name, problem, statement from recdb.unread_filters()").fetchall()
    if not rows:
        lost = connection.execute("select name, statement from recdb.lost_experiments()").fetchall()
        return Verdict("warn", some([row[0] for row in lost]), " ".join(row[1] for row in lost)) if lost else None
    named = [f"{name} ({problem})" for name, problem, _ in rows]
    fix = f"correct them, or remove them: {' '.join(statement for *_, statement in rows)}"
    return Verdict("fail", f"lists cannot follow them: {some(named)}", fix)


def check_pages(connection: psycopg.Connection) -> Verdict | None:
    """Every row of an attached table of impressions is one. Reads the rows of config.impression_retention."""
    (relations,) = fetch_row(
        connection,
        "select array(select a.relation from recdb.attachment a where a.role = 'impressions' and a.state = 'read' "
        "order by a.attachment_id)",
    )
    if not relations:
        return None
    rows = connection.execute("select relation, doubt, rows from recdb.doubtful_impressions()").fetchall()
    if not rows:
        return Verdict("ok", f"every row of {some(relations)} that can be read is an impression")
    tables = dict.fromkeys(relation for relation, *_ in rows)
    named = [
        f"{table}: {', '.join(count_rows(count, doubt) for relation, doubt, count in rows if relation == table)}"
        for table in tables
    ]
    fix = "correct these rows, then: recdb refresh --full; or leave them out: recdb attach ... --where"
    return Verdict("warn", f"not counted as impressions: {'; '.join(named)}", fix)
