"""Checks of replication: a standby that is read from, and the standbys and slots of a primary."""

from datetime import timedelta

import psycopg

from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, size, some
from recdb.replicas import MAX_LAG

KEPT_LOG = 1 << 30
"""Bytes of log that a slot may hold back for a standby that is away."""
RELOAD = "select pg_reload_conf();"

ELSEWHERE = {
    "leftovers": "the job's lock is not visible here",
    "dead rows": "the primary counts them",
    "autovacuum": "it runs on the primary",
    "transactions": "those of the primary hold VACUUM and refreshes back",
    "index memory": "indexes are built on the primary",
}
"""The checks that say nothing on a standby, with the reason."""

HERE = ("postgresql", "standby", "shared_buffers", "work_mem")
"""The checks whose fix is for the server that was asked; all other fixes write, so they are for the primary."""


def is_standby(connection: psycopg.Connection) -> bool:
    """Tell whether the server is a standby."""
    (standby,) = fetch_row(connection, "select pg_is_in_recovery()")
    return bool(standby)


def check_standby(connection: psycopg.Connection) -> Verdict | None:
    """A standby follows its primary closely, and its settings suit queries."""
    if not is_standby(connection):
        return None
    lag, paused, receives, feedback, interval, patience = fetch_row(
        connection,
        """
        select recdb.replication_lag(), pg_is_wal_replay_paused(), exists (select from pg_stat_wal_receiver),
            current_setting('hot_standby_feedback')::boolean,
            (select s.setting::integer from pg_settings s where s.name = 'wal_receiver_status_interval'),
            (select s.setting::integer from pg_settings s where s.name = 'max_standby_streaming_delay')
        """,
    )
    behind = "of unknown lag" if lag is None else f"{lag.total_seconds():,.0f} s behind"
    setting = "wal_receiver_status_interval = '10s'" if feedback else "hot_standby_feedback = on"
    delay = f"alter system set max_standby_streaming_delay = '30s'; {RELOAD}"
    wrong = (
        (paused, ": its replay is paused", "select pg_wal_replay_resume();"),
        (
            not receives,
            ": it receives nothing from its primary",
            "check primary_conninfo, the primary's pg_hba.conf, and the server's log",
        ),
        (
            lag is None or lag > timedelta(seconds=MAX_LAG),
            ": clients read at the primary instead",
            "end long queries here, or give it more I/O and processor time",
        ),
        (
            not feedback or not interval,
            "; hot_standby_feedback is off: a vacuum on the primary makes the replay cancel long queries",
            f"alter system set {setting}; {RELOAD}",
        ),
        (patience < 0, "; max_standby_streaming_delay is -1: one long query can hold back the replay for ever", delay),
        (patience == 0, "; max_standby_streaming_delay is 0: the replay cancels each query in its way at once", delay),
    )
    for is_wrong, message, fix in wrong:
        if is_wrong:
            return Verdict("warn", behind + message, fix)
    message = f"{behind}; hot_standby_feedback is on, and a query holds back the replay for up to {patience / 1000:g} s"
    return Verdict("ok", message)


def check_standbys(connection: psycopg.Connection) -> Verdict | None:
    """The standbys of a primary are near, and no slot keeps its log for one that is away."""
    if is_standby(connection):
        return None
    slots = connection.execute(
        """
        select s.slot_name, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn)::bigint
        from pg_replication_slots s
        where s.slot_type = 'physical' and not s.active
          and pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn) > %s
        order by 2 desc
        """,
        [KEPT_LOG],
    ).fetchall()
    if slots:
        listed = some([f"{name} ({size(kept)})" for name, kept in slots])
        message = f"slots keep the log for standbys that are away, until the disk is full: {listed}"
        return Verdict("warn", message, "start the standby, or: select pg_drop_replication_slot('…');")
    # Without pg_monitor, a role sees only that there are standbys.
    count, far, lag = fetch_row(
        connection,
        """
        select count(*), count(*) filter (where r.replay_lag > %s), max(r.replay_lag)
        from pg_stat_replication r where r.state is null or r.state = 'streaming'
        """,
        [timedelta(seconds=MAX_LAG)],
    )
    if not count:
        return None
    if far:
        message = f"{far:,} of {count:,} standbys replay more than {MAX_LAG:.0f} s late"
        return Verdict("warn", message, "run recdb doctor there")
    return Verdict("ok", f"{count:,} follow{'' if lag is None else f', {lag.total_seconds():.1f} s behind at most'}")
