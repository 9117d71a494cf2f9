"""Splits a database's own interactions, copied into a scratch database, into a training part and relevant items.

A user chooses an item by an interaction of a hiding kind that has a positive weight: a kind that hides and weighs 0,
such as "shown", is no choice. The item is relevant if

- its first interaction of a hiding kind, whatever its weight, is in the held-out part: before it, recommend() could
  still have shown the item;
- an interaction of it is of a kind that weighs at least half as much as the heaviest hiding kind (a purchase, not a
  view), and its value, if it has one, is more than 0.

The tuner's validation part has the same rule. Items that recommend() does not show are never relevant: unavailable
items, unlisted items where only listed ones count, and the user's own items. Interactions of the future count as of
now.

There are two ways to split:

- *The last days*, one time for all users. Every interaction from that time on is held out, and every interaction before
  it stays. If a user viewed an item before and bought it after, the view stays in training: the time of the split has
  nothing to do with the purchase, and recommend() would have had that view in the profile as well.
- *The last share*, a time for each user: that of the first choice among the last FRACTION (at least one) of the user's
  chosen items. Every interaction of the user from that time on is held out, including those with the same timestamp.
  Here the time of the split is the decision itself, and the visit that led to it would reveal it. So the user's
  interactions with the held-out items in the time VISIT before the choice are left out too. A user with a single item
  keeps it. A user whose interactions all have the same timestamp has no order: the share is drawn at random, the same
  in every run, and only interactions of hiding kinds are held out, because it is unknown whether the others came
  before.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import psycopg

from recdb.database import fetch_row
from recdb.errors import InvalidInput, RecdbError
from recdb.offline.split import FRACTION, VISIT

SETTINGS = (
    "half_life, default_weight, default_hides, profile_limit, training_limit, training_interactions, listed_only, "
    "content_share"
)

# An attached table may have longer ids than recdb keeps.
KEPT_ITEM = "length(i.item_id) between 1 and 1000 and octet_length(i.item_id) <= 2600"

# The copies to make: the source, its columns, and the table that gets its rows.
COPIED = (
    ("recdb.config", SETTINGS, "recdb.config"),
    ("recdb.interaction_kind", "kind, weight, hides", "recdb.interaction_kind"),
    (
        f"(select distinct on (i.item_id) i.* from recdb.read_items() i where {KEPT_ITEM}) i",
        "item_id, owner_id, available, attributes, title",
        "recdb.item",
    ),
    # Embeddings as numbers: pgvector may live in another schema there.
    (
        "(select i.item_id, max(i.embedding) as embedding, ''::bytea as digest from recdb.read_items() i "
        f"where i.embedding is not null and {KEPT_ITEM} group by i.item_id) i",
        "item_id, embedding, digest",
        "recdb.item_embedding",
    ),
    (
        f"(select * from recdb.read_interactions() i where {KEPT_ITEM} and length(i.user_id) between 1 and 1000) i",
        "user_id, item_id, kind, created_at, value",
        "copied",
    ),
)


@dataclass(frozen=True)
class Split:
    """How the interactions were split; the fields have the names of the JSON of `recdb evaluate`."""

    protocol: str
    """'last days' or 'last share'."""
    cut_at: str | None
    """The time of the split, in UTC; None with 'last share'."""
    kinds: Sequence[str]
    """The kinds whose interactions make an item relevant."""
    train_interactions: int
    held_out_interactions: int
    relevant: int
    """The number of pairs of a user and a relevant item."""
    new_items: int
    """The number of those pairs whose item does not occur in training, so that no ranking can find it."""
    random_users: int
    """The number of users without an order, whose share was drawn at random."""

    def to_json(self) -> dict[str, Any]:
        """Return the split as a JSON object."""
        return asdict(self)


def copy_interactions(source: psycopg.Connection, target: psycopg.Connection) -> None:
    """Copy interactions, catalogue and settings in one snapshot of the source, which is only read.

    The interactions go into the temporary table `copied`. `source` must not be in a transaction. `target` must be in a
    transaction that lasts until hold_out().
    """
    source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    source.read_only = True
    target.execute(
        "create temporary table copied "
        "(user_id text, item_id text, kind text, created_at timestamptz, value double precision) on commit drop"
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
    """Split the interactions that were copied: store the training part, and return the relevant items of each user.

    With `holdout`, the last days before the newest interaction are held out; with None, the last share of each user's
    items. Raises InvalidInput where one of the parts would be empty.
    """
    report("holding out")
    list_choices(connection)
    kinds = read_relevant_kinds(connection)
    cut_at = hold_out_last_days(connection, holdout) if holdout is not None else None
    if holdout is None:
        hold_out_last_share(connection)
    connection.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at, value) "
        "select user_id, item_id, kind, created_at, value from event order by user_id, at"
    )
    connection.execute("analyze recdb.interaction, recdb.item, recdb.interaction_kind")
    rows = connection.execute(
        """
        select h.user_id, array_agg(h.item_id),
            count(*) filter (where not exists (select from event e where e.item_id = h.item_id)),
            exists (select from event e where e.user_id = h.user_id and e.weight <> 0)
        from held h
        cross join recdb.config c
        left join recdb.item i on i.item_id = h.item_id
        where h.relevant and coalesce(i.available, not c.listed_only) and i.owner_id is distinct from h.user_id
        group by h.user_id
        """
    ).fetchall()
    if not any(known for *_, known in rows):
        raise nothing_relevant(holdout, kinds, bool(rows))
    copied, kept, random_users = fetch_row(
        connection,
        "select (select count(*) from copied), (select count(*) from event), "
        "(select count(distinct user_id) from held where not timed)",
    )
    split = Split(
        protocol="last share" if holdout is None else "last days",
        cut_at=cut_at,
        kinds=kinds,
        train_interactions=kept,
        held_out_interactions=copied - kept,
        relevant=sum(len(items) for _, items, *_ in rows),
        new_items=sum(new for _, _, new, _ in rows),
        random_users=random_users,
    )
    return {user: set(items) for user, items, *_ in rows}, split


def list_choices(connection: psycopg.Connection) -> None:
    """Make the tables `event`, interactions with weights, and `choice`, the items that users chose and when.

    The weight of the kind and `hides` follow the view recdb.weighted_interactions, for the copied rows.
    """
    connection.execute(
        """
        create temporary table event on commit drop as
        select i.*, greatest(least(i.created_at, now()), timestamptz '4000-01-01 00:00:00+00 BC') as at,
            coalesce(k.weight, c.default_weight) as weight,
            coalesce(k.hides, c.default_hides) as hides, coalesce(i.value, 1) > 0 as liked
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
        select e.user_id, e.item_id, min(e.at) filter (where e.weight > 0) as chosen_at, min(e.at) as hidden_at,
            coalesce(max(e.weight) filter (where e.liked) >= heaviest.weight / 2, false) as relevant
        from event e
        cross join (select max(h.weight) as weight from event h where h.hides) heaviest
        where e.hides
        group by e.user_id, e.item_id, heaviest.weight
        having max(e.weight) > 0
        """
    )


def read_relevant_kinds(connection: psycopg.Connection) -> list[str]:
    """Read the kinds whose interactions make an item relevant. Raises RecdbError if there are none."""
    kinds, interactions = fetch_row(
        connection,
        """
        select coalesce(array_agg(distinct e.kind collate "C") filter (
            where e.hides and e.liked and e.weight > 0
              and e.weight >= (select max(h.weight) / 2 from event h where h.hides)), '{}'),
            count(*)
        from event e
        """,
    )
    if not interactions:
        raise RecdbError("no interactions to evaluate on", "run: recdb load, recdb attach, or select recdb.track(...)")
    if not kinds:
        raise InvalidInput(
            "no interaction is of a kind that hides its item and has a positive weight, so no item is relevant",
            "name the kinds that a recommendation should lead to: --hides KIND, or hides in recdb.interaction_kind",
        )
    return list(kinds)


def hold_out_last_days(connection: psycopg.Connection, holdout: timedelta) -> str:
    """Keep in `event` the interactions before the last days, and list in `held` the choices in them.

    Returns the time of the split.
    """
    first, last, cut_at, something_left = fetch_row(
        connection,
        # The newest time that can be right: one row of the future would leave nobody who has a choice after the split.
        "select e.first::text, e.last::text, (e.last - %s)::text, e.first < e.last - %s from ("
        "select min(i.at) as first, coalesce(max(i.at) filter (where i.created_at <= now()), now()) as last "
        "from event i) e",
        [holdout, holdout],
    )
    if not something_left:
        raise InvalidInput(
            f"holding out that much leaves nothing to learn from: the interactions range from {first} to {last}",
            "pass a shorter --holdout, or none: recdb then holds out the last share of each user's items",
        )
    connection.execute(
        "create temporary table held on commit drop as "
        "select c.user_id, c.item_id, c.chosen_at, c.relevant and c.hidden_at >= %s::timestamptz as relevant, "
        "true as timed from choice c where c.chosen_at >= %s::timestamptz",
        [cut_at, cut_at],
    )
    connection.execute("delete from event where at >= %s::timestamptz", [cut_at])
    return str(cut_at)


def hold_out_last_share(connection: psycopg.Connection) -> None:
    """Keep in `event` the interactions before the last share of each user's items, and list those items in `held`."""
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
                select e.user_id, count(distinct e.item_id) filter (where e.weight <> 0) as items,
                    min(e.at) < max(e.at) as timed
                from event e
                group by e.user_id
            ) u on u.user_id = c.user_id
        ), last as (
            select l.*, min(l.chosen_at) over (partition by l.user_id) as cut_at
            from chosen l
            where l.age <= greatest(1, floor(l.choices * %(fraction)s::numeric)) and l.items > 1
        )
        select l.user_id, l.item_id, l.chosen_at, l.relevant, l.timed from last l
        union
        -- The items that were chosen with the timestamp of the split.
        select c.user_id, c.item_id, c.chosen_at, c.relevant, l.timed
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
          and case when h.timed then e.at >= h.chosen_at - %s or e.hides else e.hides end
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


def nothing_relevant(holdout: timedelta | None, kinds: Sequence[str], somebody: bool) -> InvalidInput:
    """Return the error for when no user has both a training part and relevant items."""
    named = ", ".join(kinds)
    if holdout is None:
        return InvalidInput(
            f"no user has both something to learn from and a relevant item ({named})",
            "load more interactions: at least two items per user",
        )
    if somebody:
        return InvalidInput(
            "no user who chose an item in the held-out days did anything before", "pass another --holdout"
        )
    return InvalidInput(f"nothing new was chosen ({named}) in the held-out days", "pass a longer --holdout")
