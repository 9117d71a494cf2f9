"""A database's own interactions, copied into a scratch database and cut: what to learn from, what is to be found.

What is to be found is what a user chose: items with an interaction of a hiding kind that weighs at least half of what
the heaviest hiding kind does (a purchase, not a view), whose first hiding interaction, of any weight, is in the part
held out: before it, recommend() could still have shown the item. As in the tuner's validation part, in short. Items
that are unavailable, unlisted where only listed ones count, or the user's own are never to be found: recommend() does
not show them. Interactions of the future count as of now.

Two ways to cut:

- *The last days*, one moment for all: everything from it on is held out, whatever it is; everything before stays. What
  a user viewed before and bought after stays in training: the moment has nothing to do with the purchase, and whoever
  had asked then would have had that view in the profile as well.
- *The last share*, a moment for each user: the first hiding interaction with one of the last FRACTION (at least one) of
  the items chosen. Everything the user did from it on is held out, what happened at that very moment included. This
  moment is the decision itself, so the visit that led to it would give it away: what the user did with the held-out
  items in VISIT before they were chosen is left out too. A user with a single item keeps it. A user whose interactions
  are all of one moment has no order: the share is drawn at random, the same at every run, and only the hiding
  interactions with it are held out, since nothing tells whether the others came before.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import psycopg

from recdb.errors import InvalidInput, RecdbError
from recdb.offline.split import FRACTION, VISIT

SETTINGS = "half_life, default_weight, default_hides, profile_limit, training_limit, training_interactions, listed_only"

# What is copied: from what, which columns, into which table, whose own rows make room.
COPIED = (
    ("recdb.config", SETTINGS, "recdb.config"),
    ("recdb.interaction_kind", "kind, weight, hides", "recdb.interaction_kind"),
    ("(select distinct on (i.item_id) i.* from recdb.items i) i", "item_id, owner_id, available", "recdb.item"),
    ("recdb.interactions", "user_id, item_id, kind, created_at", "copied"),
)


@dataclass(frozen=True)
class Split:
    """How the interactions were cut; what was found is named as in the JSON of `recdb evaluate`."""

    protocol: str
    """'last days' or 'last share'."""
    cut_at: str | None
    """The moment for all, in UTC, with 'last days'."""
    kinds: Sequence[str]
    """The kinds that show what is to be found."""
    train_interactions: int
    held_out_interactions: int
    relevant: int
    """Pairs of user and item that are to be found."""
    new_items: int
    """How many of them are of items that training never saw, and nobody can find."""
    random_users: int
    """Users without an order, whose share was drawn at random."""

    def to_json(self) -> dict[str, Any]:
        """Return the split as a JSON object."""
        return asdict(self)


def copy_interactions(source: psycopg.Connection, target: psycopg.Connection) -> None:
    """Copy interactions, catalogue and settings from a database that is only read, in one snapshot of it.

    The interactions go into the temporary table `copied`. `source` must not be in a transaction, `target` in one that
    lasts until hold_out().
    """
    source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    source.read_only = True
    target.execute(
        "create temporary table copied (user_id text, item_id text, kind text, created_at timestamptz) on commit drop"
    )
    with source.transaction(), source.cursor() as reading, target.cursor() as writing:
        for connection in (source, target):
            connection.execute("set local client_encoding = 'UTF8'")
        target.execute("set local timezone = 'UTC'")
        target.execute("set local work_mem = '64MB'")
        for origin, columns, table in COPIED:
            writing.execute(f"delete from {table}")
            with (
                reading.copy(f"copy (select {columns} from {origin}) to stdout (format binary)") as rows,
                writing.copy(f"copy {table} ({columns}) from stdin (format binary)") as copied,
            ):
                for data in rows:
                    copied.write(data)


def hold_out(
    connection: psycopg.Connection, holdout: timedelta | None, report: Callable[[str], None]
) -> tuple[dict[str, set[str]], Split]:
    """Cut what copy_interactions() copied: store the part to learn from, return the relevant items by user.

    `holdout` holds out the last days before the newest interaction; None the last share of each user's items. Raises
    InvalidInput where one of the parts would be empty.
    """
    report("cutting off what is to be found")
    judge(connection)
    kinds = kinds_to_be_found(connection)
    cut_at = cut_last_days(connection, holdout) if holdout is not None else None
    if holdout is None:
        cut_last_share(connection)
    connection.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select user_id, item_id, kind, created_at from event order by user_id, at"
    )
    connection.execute("analyze recdb.interaction, recdb.item, recdb.interaction_kind")
    rows = connection.execute(
        """
        select h.user_id, array_agg(h.item_id),
            count(*) filter (where not exists (select from event e where e.item_id = h.item_id)),
            exists (select from event e where e.user_id = h.user_id)
        from held h
        cross join recdb.config c
        left join recdb.item i on i.item_id = h.item_id
        where h.wanted and coalesce(i.available, not c.listed_only) and i.owner_id is distinct from h.user_id
        group by h.user_id
        """
    ).fetchall()
    if not any(known for *_, known in rows):
        raise nothing_to_find(holdout, kinds, bool(rows))
    counts = connection.execute(
        "select (select count(*) from copied), (select count(*) from event), "
        "(select count(distinct user_id) from held where not timed)"
    ).fetchone()
    assert counts is not None
    split = Split(
        protocol="last share" if holdout is None else "last days",
        cut_at=cut_at,
        kinds=kinds,
        train_interactions=counts[1],
        held_out_interactions=counts[0] - counts[1],
        relevant=sum(len(items) for _, items, *_ in rows),
        new_items=sum(new for _, _, new, _ in rows),
        random_users=counts[2],
    )
    return {user: set(items) for user, items, *_ in rows}, split


def judge(connection: psycopg.Connection) -> None:
    """Make the tables `event`, of interactions with what their kinds mean, and `choice`, of what users chose when."""
    connection.execute(
        """
        create temporary table event on commit drop as
        select i.*, least(i.created_at, now()) as at, coalesce(k.weight, c.default_weight) as weight,
            coalesce(k.hides, c.default_hides) as hides
        from copied i
        cross join recdb.config c
        left join recdb.interaction_kind k on k.kind = i.kind
        """
    )
    connection.execute("create index on event (user_id, item_id)")
    connection.execute("create index on event (item_id)")
    connection.execute("analyze event")
    connection.execute(
        """
        create temporary table choice on commit drop as
        select e.user_id, e.item_id, min(e.at) as chosen_at, max(e.weight) >= heaviest.weight / 2 as wanted
        from event e
        cross join (select greatest(0, max(h.weight)) as weight from event h where h.hides) heaviest
        where e.hides
        group by e.user_id, e.item_id, heaviest.weight
        """
    )


def kinds_to_be_found(connection: psycopg.Connection) -> list[str]:
    """Name the kinds that show what is to be found; raise an error where there are none."""
    row = connection.execute(
        """
        select coalesce(array_agg(distinct e.kind collate "C") filter (
            where e.hides and e.weight >= (select greatest(0, max(h.weight)) / 2 from event h where h.hides)), '{}'),
            count(*)
        from event e
        """
    ).fetchone()
    assert row is not None
    if not row[1]:
        raise RecdbError("no interactions to measure on", "run: recdb load, recdb attach, or select recdb.track(...)")
    if not row[0]:
        raise InvalidInput(
            "no interaction is of a kind that hides its item, so nothing is to be found",
            "say what a recommendation is for: --hides KIND, or hides in the table recdb.interaction_kind",
        )
    return list(row[0])


def cut_last_days(connection: psycopg.Connection, holdout: timedelta) -> str:
    """Leave in `event` what was before the last days, and list in `held` what was chosen in them; return the moment."""
    row = connection.execute(
        "select min(at)::text, max(at)::text, (max(at) - %s)::text, min(at) < max(at) - %s from event",
        [holdout, holdout],
    ).fetchone()
    assert row is not None
    first, last, cut_at, something_left = row
    if not something_left:
        raise InvalidInput(
            f"holding out that much leaves nothing to learn from: the interactions go from {first} to {last}",
            "pass a shorter --holdout, or none: the last share of each user's items is held out then",
        )
    connection.execute(
        "create temporary table held on commit drop as "
        "select c.*, true as timed from choice c where c.chosen_at >= %s::timestamptz",
        [cut_at],
    )
    connection.execute("delete from event where at >= %s::timestamptz", [cut_at])
    return str(cut_at)


def cut_last_share(connection: psycopg.Connection) -> None:
    """Leave in `event` what was before the last share of each user's items, and list those in `held`."""
    connection.execute(
        """
        create temporary table held on commit drop as
        with chosen as (
            select c.*, u.timed, u.items,
                row_number() over (
                    partition by c.user_id
                    order by c.chosen_at desc, hashtextextended(c.item_id, hashtextextended(c.user_id, 0))) as age,
                count(*) over (partition by c.user_id) as choices
            from choice c
            join (
                select e.user_id, count(distinct e.item_id) as items, min(e.at) < max(e.at) as timed
                from event e
                group by e.user_id
            ) u on u.user_id = c.user_id
        ), last as (
            select l.*, min(l.chosen_at) over (partition by l.user_id) as cut_at
            from chosen l
            where l.age <= greatest(1, floor(l.choices * %(fraction)s::numeric)) and l.items > 1
        )
        select l.user_id, l.item_id, l.chosen_at, l.wanted, l.timed from last l
        union
        -- What was chosen at the very moment of the cut.
        select c.user_id, c.item_id, c.chosen_at, c.wanted, l.timed
        from choice c
        join last l on l.user_id = c.user_id and l.timed and c.chosen_at = l.cut_at
        """,
        {"fraction": str(FRACTION)},
    )
    connection.execute("analyze held")
    connection.execute(
        """
        delete from event e
        using held h
        where e.user_id = h.user_id and e.item_id = h.item_id
          and case when h.timed then e.at >= h.chosen_at - %s else e.hides end
        """,
        [timedelta(seconds=VISIT)],
    )
    connection.execute(
        """
        delete from event e
        using (select h.user_id, min(h.chosen_at) as cut_at from held h where h.timed group by h.user_id) u
        where e.user_id = u.user_id and e.at >= u.cut_at
        """
    )


def nothing_to_find(holdout: timedelta | None, kinds: Sequence[str], somebody: bool) -> InvalidInput:
    """Say why there is nobody to ask recommend() for."""
    named = ", ".join(kinds)
    if holdout is None:
        return InvalidInput(
            f"no user is left something to learn from and something to find ({named})",
            "load more interactions: two items a user at least",
        )
    if somebody:
        return InvalidInput(
            "nobody who chose something in the days held out did anything before", "pass another --holdout"
        )
    return InvalidInput(f"nothing new was chosen ({named}) in the days held out", "pass a longer --holdout")
