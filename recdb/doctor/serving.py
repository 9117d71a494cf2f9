"""Checks of the served model and of its freshness."""

from datetime import timedelta

import psycopg

from recdb.data.kinds import sounds_low
from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, age_of, some

MODEL_AGE = timedelta(days=7)
REFRESH_AGE = timedelta(days=1)
VECTOR_SHARE = 0.9

NAMES = {"train": "training", "tune": "tuning", "activate": "activation"}
ENDINGS = {"failed": "failed", "cancelled": "was cancelled", "lost": "was killed", "rejected": "was rejected"}
MENDS = {"refresh": "recdb refresh", "rebuild": "recdb refresh"}


def check_kinds(connection: psycopg.Connection) -> Verdict:
    """Every kind has a weight in recdb.interaction_kind. Scans all interactions."""
    rows = connection.execute(
        """
        select coalesce(i.kind, 'NULL'), i.count, k.kind is not null, c.default_weight, c.default_hides
        from (select kind, count(*) as count from recdb.interactions group by kind) i
        cross join recdb.config c
        left join recdb.interaction_kind k on k.kind = i.kind
        order by i.count desc, i.kind
        """
    ).fetchall()
    if not rows:
        return Verdict("warn", "there are no interactions yet", "recdb load FILE, recdb attach, or recdb.track()")
    unknown = [f"'{kind}' ({count:,})" for kind, count, known, *_ in rows if not known]
    if unknown:
        *_, weight, hides = rows[0]
        message = (
            f"kinds without a weight: {some(unknown)}; they weigh {weight:g}{' and hide the item' if hides else ''}"
        )
        low = [f"'{kind}'" for kind, _, known, *_ in rows if not known and sounds_low(kind)]
        if low:
            message += f"; these sound like dislikes: {some(low)}"
        statement = "insert into recdb.interaction_kind (kind, weight) values ('…', …); then: recdb refresh --full"
        return Verdict("warn", message, statement)
    total = sum(count for _, count, *_ in rows)
    return Verdict("ok", f"{total:,} interactions, all of known kinds")


def check_model(connection: psycopg.Connection) -> Verdict:
    """A model is active, and not too old."""
    row = connection.execute(
        """
        select m.label, now() - m.created_at,
            exists (select 1 from recdb.interactions i where i.created_at > m.created_at)
        from recdb.model m where m.active
        """
    ).fetchone()
    if row is None:
        (data,) = fetch_row(connection, "select exists (select 1 from recdb.interactions)")
        return Verdict(
            "fail" if data else "warn", "no model is trained: recommend() returns no personal rows", "recdb refresh"
        )
    label, age, changed = row
    if age > MODEL_AGE and changed:
        message = f"{label} is {age_of(age)} old: it does not know the items added since"
        return Verdict("warn", message, "from cron, every night: recdb refresh --if-stale 20h")
    return Verdict("ok", f"{label}, {age_of(age)} old")


def check_refresh(connection: psycopg.Connection) -> Verdict:
    """The last refresh is recent, or few users changed since."""
    row = connection.execute(
        """
        select l.cluster is distinct from recdb.cluster() or l.seen > pg_snapshot_xmax(pg_current_snapshot()),
            now() - l.finished_at, l.seen::text, l.started_at
        from recdb.refresh_log l
        where l.seen is not null and l.error is null
        order by l.run_id desc
        limit 1
        """
    ).fetchone()
    if row is None:
        return Verdict("warn", "never refreshed", "recdb refresh")
    foreign, age, seen, started = row
    if foreign:
        message = "the last refresh ran before a restore: the next one starts over"
        return Verdict("warn", message, "recdb refresh")
    connection.execute("select recdb.check_sources()")
    (waiting,) = fetch_row(
        connection, "select count(distinct s.user_id) from recdb.users_since(%s::xid8, %s) s", [seen, started]
    )
    if waiting and age > REFRESH_AGE:
        since = f"{waiting:,} users changed in the {age_of(age)} since the last refresh"
        message = f"{since}: their changes do not reach other users' lists yet"
        return Verdict("warn", message, "from cron, every few minutes: psql -c 'call recdb.refresh()'")
    return Verdict("ok", f"{age_of(age)} ago; {waiting:,} users changed since")


def check_last_run(connection: psycopg.Connection) -> Verdict | None:
    """The last run of each kind succeeded, or a later run made up for it."""
    rows = connection.execute(
        "select kind, now() - started_at, state, error, failing from recdb.last_runs "
        "order by failing desc, started_at desc"
    ).fetchall()
    if not rows:
        return None
    kind, age, state, error, failing = rows[0]
    if failing:
        also = [str(NAMES.get(row[0], row[0])) for row in rows[1:] if row[4]]
        more = f"; the last {' and '.join(also)} failed too" if also else ""
        message = f"the last {NAMES.get(kind, kind)}, {age_of(age)} ago, {ENDINGS[state]}: {error}{more}"
        return Verdict("fail", message, f"fix that, then: {MENDS.get(kind, 'recdb refresh --full')}")
    return Verdict("ok", f"the last {NAMES.get(kind, kind)}, {age_of(age)} ago, had no error")


def check_vectors(connection: psycopg.Connection) -> Verdict | None:
    """Most users have a vector; users without one are not found as neighbours."""
    row = connection.execute(
        """
        select recdb.count_vectors(m.model_id),
            (select count(*) from recdb.user_key u
             where not exists (select from recdb.impression)
                or exists (select from recdb.user_item w where w.user_key = u.user_key))
        from recdb.model m where m.active
        """
    ).fetchone()
    if row is None or row[1] == 0:
        return None
    vectors, users = row
    if vectors < VECTOR_SHARE * users:
        message = f"{users - vectors:,} of {users:,} users have no vector: the model knows none of their items"
        return Verdict("warn", message, "recdb refresh --full")
    return Verdict("ok", f"{vectors:,} of {users:,} users have a vector")
