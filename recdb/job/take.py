"""Taking the item half of another database's model version, and placing the own users in it.

The version that comes of it is one like any other: it is written beside the version that serves, measured, compared,
and activated by one flip. Its `metrics` say where its items come from.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.pq import TransactionStatus

from recdb.arrays.copy import copy_in
from recdb.arrays.events import read_events
from recdb.arrays.item_half import COLUMNS, ItemContent, ItemHalf, read_item_half
from recdb.arrays.settings import Settings
from recdb.arrays.weighted import read_interactions
from recdb.database import Database, fetch_row
from recdb.errors import InvalidInput, RecdbError
from recdb.faults import reach
from recdb.job.guard import MOST_EVENTS, Figure, measure_events
from recdb.job.indexes import build_indexes
from recdb.job.memory import sparing
from recdb.job.other import identify, name_of, open_other
from recdb.job.partitions import Limits, write_item_neighbors, write_item_vectors, write_user_vectors
from recdb.job.trace import message_of
from recdb.job.train import Trained, begin_version, find_limits, read_clock
from recdb.learn import Basis, ItemNeighbors, Params
from recdb.learn.matrix import signed_power
from recdb.offline.given import GivenItems
from recdb.progress import Report

ENOUGH_USERS = 100
"""With fewer users here, the limits of the other database are the better ones."""
MOVED = 0.1
"""Users are placed again in the same items if so large a share of the weighted interactions came or went."""
LINKED = 5000
"""Of the items that only this database knows, so many are linked by who touched them, the most popular ones."""
LINKED_AT_ONCE = 1000


@dataclass(frozen=True)
class Origin:
    """A model version of another database."""

    database: str
    """The database and its host, for messages."""
    identity: str
    label: str
    created_at: str
    model_id: int
    params: Params
    half_life: float | None
    """In seconds."""
    decay_origin: float
    """In seconds since 1970."""
    limits: Limits

    def to_json(self) -> dict[str, Any]:
        """Return the object that a version which is made of it stores."""
        names = ("database", "identity", "label", "created_at")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """Name the version."""
        return f"{self.label} of {self.database}"


@dataclass(frozen=True)
class Offer:
    """The active version of another database, and its item half: None if that serves here already."""

    origin: Origin
    half: ItemHalf | None

    @property
    def remark(self) -> str:
        """Say that nothing was taken."""
        return f"{self.origin} is the item model here already: users were not placed again (--force places them)"


def find_offer(
    connection: psycopg.Connection,
    here: Database,
    other: Database,
    report: Report,
    *,
    otherwise: Callable[[], None],
    force: bool = False,
) -> Offer:
    """Read the item half of another database's active version, unless it serves here already and little has changed.

    If the other database cannot be read, `otherwise` does the work that needs no other database, and then the error is
    raised. recdb.refresh_log has a row of a failure, and of a success that leaves nothing to do.
    """
    began = read_clock(connection)
    try:
        offer = read_offer(connection, here, other, report, force=force)
        if offer.half is None:
            connection.execute(
                "select recdb.end_run('train', %s, m.users, m.interactions, m.label) from recdb.model m where m.active",
                [began],
            )
        return offer
    except (RecdbError, psycopg.Error) as error:
        try:
            if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
                otherwise()
        finally:
            with suppress(psycopg.Error):
                connection.execute("select recdb.log_failure('train', %s, %s)", [began, message_of(error)])
        raise


def read_offer(
    connection: psycopg.Connection, here: Database, other: Database, report: Report, *, force: bool
) -> Offer:
    """Do the work of find_offer()."""
    report(f"looking at {name_of(other)}")
    (width, content) = fetch_row(
        connection,
        "select a.atttypmod, c.content_share > 0 from recdb.config c, pg_attribute a "
        "where a.attrelid = 'recdb.item_vector'::regclass and a.attname = 'embedding'",
    )
    with open_other(connection, here, other, COLUMNS) as reader:
        origin = read_origin(reader, other)
        if not force and serves(connection, origin):
            return Offer(origin, None)
        params = replace(origin.params, dimension=min(width, origin.params.dimension))
        half = read_item_half(reader, connection, origin.model_id, params.dimension, report, content=content)
    if not len(half.items):
        raise RecdbError(f"{origin} knows no items", "train there: recdb refresh --full")
    return Offer(replace(origin, params=params), half)


def read_origin(reader: psycopg.Connection, other: Database) -> Origin:
    """Read the row of the active version of another database; raise RecdbError if there is none."""
    row = reader.execute(
        "select m.model_id, m.label, (m.created_at at time zone 'UTC')::text, m.params, "
        "date_part('epoch', m.half_life), date_part('epoch', m.decay_origin), coalesce(m.pair_limit, 'Infinity'), "
        "coalesce(m.neighbor_limit, 'Infinity') from recdb.model m where m.active"
    ).fetchone()
    if row is None:
        raise RecdbError(f"{name_of(other)} has no active model version", "train there first: recdb refresh --full")
    model_id, label, created_at, stored, half_life, decay_origin, pair, neighbor = row
    try:
        params = Params.of_version(stored)
    except InvalidInput as error:
        raise RecdbError(
            f"{label} of {name_of(other)} was made by another recdb: {error}", "bring recdb up to date here and there"
        ) from error
    identity = identify(reader, other)
    limits = Limits(pair, neighbor)
    return Origin(name_of(other), identity, label, created_at, model_id, params, half_life, decay_origin, limits)


def read_placing(connection: psycopg.Connection) -> dict[str, Any]:
    """Return the settings and the number of weighted interactions, by which users are placed."""
    settings, pairs = fetch_row(
        connection,
        "select (select concat(c.half_life, '/', c.default_weight, '/', c.profile_limit, '/', c.content_share > 0) "
        "from recdb.config c) || (select string_agg(concat('/', k.kind, '=', k.weight), '' order by k.kind) "
        "from recdb.interaction_kind k), (select count(*) from recdb.user_item w where w.weight <> 0)",
    )
    return {"settings": hashlib.sha256(str(settings).encode()).hexdigest()[:16], "interactions": pairs}


def serves(connection: psycopg.Connection, origin: Origin) -> bool:
    """Tell whether the active version was made of the same items, of about the same interactions, by these settings."""
    row = connection.execute("select m.metrics -> 'taken' from recdb.model m where m.active").fetchone()
    taken = row[0] if row else None
    if not taken or any(taken.get(name) != getattr(origin, name) for name in ("identity", "label", "created_at")):
        return False
    state = read_placing(connection)
    before, now = taken.get("interactions", 0), state["interactions"]
    return bool(taken.get("settings") == state["settings"] and abs(now - before) <= MOVED * before)


# Measuring and placing ----------------------------------------------------------------------------------------


def measure_taken(connection: psycopg.Connection, offer: Offer, settings: Settings, report: Report) -> Figure | None:
    """Measure the items of another database on the own users' held-out interactions, as the guard does.

    The other database may have learned from these interactions too: then the figure is a little too good.
    """
    half = offer.half
    assert half is not None
    report("measuring on a validation part")
    events = read_events(connection, most=MOST_EVENTS)
    return measure_events(
        events,
        lambda: GivenItems(events, settings.profile_limit, half.vectors, half.neighbors, half.totals),
        offer.origin.params,
        report,
    )


def place(connection: psycopg.Connection, offer: Offer, settings: Settings, report: Report) -> Trained:
    """Write a version with the items of another database and the own users, indexed; readers cannot see it yet."""
    half, origin = offer.half, offer.origin
    assert half is not None
    params = origin.params
    began_at = read_clock(connection)
    report("reading interactions")
    known = sparing(connection, lambda: read_interactions(connection, most=settings.training_interactions), report)
    limits = limits_here(connection, origin)
    if len(np.unique(known.users)) >= ENOUGH_USERS or limits is None:
        limits = find_limits(known, params, settings)
    model_id, label = begin_version(connection, known, params, limits)
    connection.execute("update recdb.model set items = %s where model_id = %s", [len(half.items), model_id])
    reach("tables of the taken version made")
    write_item_vectors(connection, model_id, half.vectors, settings.dimension)
    reach("taken vectors written")
    write_user_vectors(connection, model_id, Basis(half.vectors, half.vectors[:0]), params, limits, settings, report)
    reach("own users placed")
    write_taken_content(connection, model_id, half.content)
    write_item_neighbors(connection, model_id, iter([neighbors_of(half)]))
    reach("taken items written")
    notes = [*remarks(connection, offer, settings), *build_indexes(connection, model_id, report)]
    reach("taken version indexed")
    return Trained(model_id, label, began_at, notes, {**origin.to_json(), **read_placing(connection)})


def neighbors_of(half: ItemHalf) -> ItemNeighbors:
    """Return the rows of the items that have neighbours."""
    rows = np.flatnonzero(np.diff(half.neighbors.indptr))
    return ItemNeighbors(rows, half.neighbors[rows], half.totals[rows])


def limits_here(connection: psycopg.Connection, origin: Origin) -> Limits | None:
    """Return the limits of another database's version for weights of this one; None where they do not compare.

    With a half-life, weights are relative to an origin that each database has of its own.
    """
    half_life, decay_origin = fetch_row(
        connection, "select date_part('epoch', c.half_life), date_part('epoch', c.decay_origin) from recdb.config c"
    )
    if half_life != origin.half_life:
        return None
    if half_life is None:
        return origin.limits
    factor = float(np.exp2(np.clip((origin.decay_origin - decay_origin) / half_life, -500, 500)))
    power = float(signed_power(np.array([factor]), origin.params.neighbor_weight_exponent, np.float64)[0])
    return Limits(origin.limits.pair * factor, origin.limits.neighbor * power)


def remarks(connection: psycopg.Connection, offer: Offer, settings: Settings) -> list[str]:
    """Return a line for everything that a user should know of the taken items."""
    half, origin = offer.half, offer.origin
    assert half is not None
    strange, half_life = fetch_row(
        connection,
        "select (select count(*) from unnest(%s::integer[]) k(item_key) join recdb.item_key t using (item_key) "
        "left join recdb.read_items() i on i.item_id = t.item_id "
        "where i.item_id is null and not exists (select from recdb.item_popularity p where p.item_key = t.item_key) "
        "and not c.listed_only and exists (select from recdb.read_items())), "
        "date_part('epoch', c.half_life) from recdb.config c",
        [half.items.tolist()],
    )
    notes = []
    if strange:
        notes.append(
            f"{strange:,} of {len(half.items):,} items of {origin} are not in the catalogue here, and nobody here "
            "touched them: lists may hold them; if they should not: update recdb.config set listed_only = true;"
        )
    if half_life != origin.half_life:
        notes.append(f"config.half_life is another one here than where {origin} was trained")
    return notes


# Content ------------------------------------------------------------------------------------------------------


def write_taken_content(connection: psycopg.Connection, model_id: int, content: ItemContent | None) -> None:
    """Write the part that another database learned from the content of its catalogue."""
    connection.execute(
        "insert into recdb.model_content (model_id, last_item_key, scale) "
        "select %s, (select coalesce(max(t.item_key), 0) from recdb.item_key t), %s",
        [model_id, content.scale if content else 0.0],
    )
    if content is None:
        return

    def write(table: str, *columns: tuple[str, NDArray[Any]]) -> None:
        arrays = [np.full(len(columns[0][1]), model_id, dtype=np.int32), *(values for _, values in columns)]
        copy_in(connection, f"recdb.{table}", ["model_id", *(name for name, _ in columns)], arrays)

    tokens = ("token", content.tokens), ("weight", content.token_weights), ("embedding", content.directions)
    write("content_token", *tokens)
    write("content_vector", ("item_key", content.items), ("embedding", content.vectors))
    write("new_item", ("item_key", content.untouched), ("embedding", content.places), ("digest", content.digests))
    write(
        "item_link",
        ("source_key", content.sources),
        ("item_key", content.targets),
        ("touched", np.zeros(len(content.sources), dtype=np.bool_)),
        ("weight", content.link_weights),
    )


def link_own_items(connection: psycopg.Connection, label: str, report: Report) -> None:
    """Rank the items that only this database knows, as a refresh ranks new items: by who touched them, and by content.

    Needs autocommit. It reads the users who have these items, and stops after LINKED items.
    """
    report("linking items that only this database knows")
    (keys,) = fetch_row(
        connection,
        """
        select array(
            select p.item_key
            from recdb.item_popularity p
            join recdb.model m on m.label = %s and m.state = 'ready'
            where p.users > 1 and not recdb.knows(m.model_id, p.item_key)
            order by p.users desc, p.item_key
            limit %s)
        """,
        [label, LINKED],
    )
    for start in range(0, len(keys), LINKED_AT_ONCE):
        with connection.transaction():
            connection.execute("select recdb.take_refresh_lock(true)")
            connection.execute("select recdb.link_touched(%s, true)", [keys[start : start + LINKED_AT_ONCE]])
    with connection.transaction():
        connection.execute("select recdb.take_refresh_lock(true)")
        connection.execute("select recdb.link_new_items()")
    reach("own items linked")
