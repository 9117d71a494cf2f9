"""Checks of the data: the oddities in it, and the remedy for each."""

import psycopg

from recdb.database import fetch_row
from recdb.doctor.verdict import Verdict, some
from recdb.job.shares import heavy_users, leave_out, name_some

REPEATED_SHARE = 0.02
COMPLETE = 0.9
"""A catalogue that has this share of all items counts as complete."""


def check_times(connection: psycopg.Connection) -> Verdict | None:
    """Every interaction has a time that can be right. Scans all interactions."""
    total, ahead, before = fetch_row(
        connection,
        """
        select count(*), count(*) filter (where i.created_at > now() + interval '1 day'),
            count(*) filter (where i.created_at < timestamptz '1971-01-01 00:00:00+00')
        from recdb.all_interactions i
        """,
    )
    if ahead or before:
        parts = [f"{ahead:,} more than a day ahead, which count as now"] * bool(ahead)
        parts += [f"{before:,} before 1971, which count as the oldest"] * bool(before)
        fix = (
            "correct them where they are written, such as seconds for milliseconds, or: delete from recdb.interaction "
            "where created_at > now() + interval '1 day' or created_at < '1971-01-01'; then: recdb refresh --full"
        )
        return Verdict("warn", f"{ahead + before:,} of {total:,} interactions: {'; '.join(parts)}", fix)
    return Verdict("ok", "every interaction has a time that can be right") if total else None


def check_repeats(connection: psycopg.Connection) -> Verdict | None:
    """Few interactions repeat the same user's, with the same item and kind, within a second. Reads all interactions."""
    total, repeated = fetch_row(
        connection,
        """
        select count(*), count(*) filter (where s.after <= 1)
        from (
            -- In seconds: no interval is as long as from the first to the last time that PostgreSQL can hold.
            select date_part('epoch', a.created_at) - date_part('epoch', lag(a.created_at) over (
                partition by a.user_id, a.item_id, a.kind order by a.created_at)) as after
            from recdb.interactions a
            where isfinite(a.created_at)
        ) s
        """,
    )
    if repeated and repeated > REPEATED_SHARE * total:
        message = (
            f"{repeated:,} of {total:,} interactions follow the same one within a second, as a double click does: "
            "each counts"
        )
        return Verdict("warn", message, "let the application send one; recdb counts what it is given")
    return None


def check_shares(connection: psycopg.Connection) -> Verdict | None:
    """No user holds more than a fair share of all interactions. Scans all interactions."""
    connection.execute("select recdb.check_sources()")
    users = heavy_users(connection)
    if users:
        statements = f"if these are no people: {leave_out(users)} then: recdb refresh --full"
        return Verdict("warn", "; ".join(name_some(users)), statements)
    (ignored,) = fetch_row(connection, "select count(*) from recdb.ignored_user")
    message = "nobody holds more than a fair share of the interactions"
    return Verdict("ok", f"{message}; {ignored:,} ignored" if ignored else message)


def check_ids(connection: psycopg.Connection) -> Verdict | None:
    """No two ids differ only by case, spaces around them or Unicode form."""
    rows = connection.execute("select of, ids from recdb.similar_ids()").fetchall()
    if not rows:
        return None
    counts = [f"{count:,} groups of {of}s" for of in ("user", "item") if (count := sum(row[0] == of for row in rows))]
    examples = some([" and ".join(map(repr, ids[:3])) for _, ids in rows])
    message = (
        f"ids that differ only by case, spaces or Unicode form count as different, {', '.join(counts)}: {examples}"
    )
    return Verdict(
        "warn", message, "write one spelling; for two users who are one: select recdb.merge_users(from, to);"
    )


def check_catalogue(connection: psycopg.Connection) -> Verdict | None:
    """The catalogue has the items that users touched; those that it lacks are hidden where listed_only is set."""
    listed_only, items, missing, examples = fetch_row(
        connection,
        """
        select c.listed_only, count(p.item_id), count(p.item_id) filter (where l.item_id is null),
            coalesce((array_agg(p.item_id order by p.item_id) filter (where l.item_id is null))[:3], '{}')
        from recdb.config c
        left join recdb.item_popularity p on true
        left join recdb.items l on l.item_id = p.item_id
        group by c.listed_only
        """,
    )
    if listed_only and missing and missing >= items / 2:
        message = (
            f"{missing:,} of {items:,} items that users touched are in no catalogue, and listed_only hides them: "
            f"{', '.join(examples)}{' and more' if missing > len(examples) else ''}"
        )
        remedy = "did the ids of the catalogue change? attach it by its new ids; or: "
        return Verdict(
            "fail" if missing == items else "warn", message, f"{remedy}update recdb.config set listed_only = false;"
        )
    if listed_only or not missing or missing > (1 - COMPLETE) * items:
        return None
    message = (
        f"{missing:,} of {items:,} items are in no catalogue and are recommended all the same: "
        f"{', '.join(examples)}{' and more' if missing > len(examples) else ''}"
    )
    return Verdict("warn", message, "if they were deleted: update recdb.config set listed_only = true;")


def check_half_life(connection: psycopg.Connection) -> Verdict | None:
    """The weights of new interactions still grow: in vectors they stop some 60 half-lives after a rebuild."""
    row = connection.execute(
        """
        select c.half_life::text
        from recdb.config c
        where (select max(least(w.last_at, now())) from recdb.user_item_recent w) - c.decay_origin > 20 * c.half_life
        """
    ).fetchone()
    if row is None:
        return None
    message = f"many half-lives of {row[0]} have passed since the last rebuild: what is new soon weighs alike"
    return Verdict("warn", message, "recdb refresh --full, at least every 20 half-lives; or a longer config.half_life")
