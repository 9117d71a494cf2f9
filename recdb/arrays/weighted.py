"""Reads the weighted interactions into arrays: a training learns from them, and computes user vectors from them."""

import numpy as np
import psycopg
from psycopg import sql
from scipy import sparse

from recdb.arrays.copy import copy_out
from recdb.arrays.events import MOST_OF_A_USER
from recdb.arrays.gathered import count_gathered, with_gathered
from recdb.arrays.sample import sampled
from recdb.database import fetch_row
from recdb.learn import Interactions

# Bounded, so that neither a weight nor its square leaves single precision: with a short half-life, old interactions
# weigh next to nothing, but a user who has no others must not vanish.
WEIGHT = "(sign(w.weight) * greatest('1e-15'::float8, least('1e15'::float8, abs(w.weight))))::real"


def read_interactions(connection: psycopg.Connection, *, most: int | None = None) -> Interactions:
    """Read the weighted interactions, 18 bytes each, of each user's first config.training_limit items by position.

    The rows that `recdb gather` brought are among them, as interactions of users with larger keys. If there are more
    than `most`, it reads only those of a sample of users that has about that many; a user counts for at most
    MOST_OF_A_USER in that number, so that no crawler makes the sample small. The sample has the same users at every
    call, except for those that a change of the total number adds or removes.
    """
    share = 1.0
    gathered = count_gathered(connection, MOST_OF_A_USER if most is not None else 2**31 - 1)
    if most is not None:
        (count,) = fetch_row(
            connection,
            "select count(*) from recdb.user_item w, recdb.config c "
            "where w.weight <> 0 and w.position <= least(c.training_limit, %s)",
            [MOST_OF_A_USER],
        )
        share = min(1.0, most / max(count + gathered, 1))
    query = sql.SQL(
        """
        select w.user_key, w.item_key, {}, w.position::smallint,
            greatest(-2147483648, date_part('epoch', w.last_at) - date_part('epoch', newest.last_at))::integer
        from recdb.user_item w
        cross join recdb.config c
        cross join (select max(i.last_at) as last_at from recdb.user_item i where isfinite(i.last_at)) newest
        where w.weight <> 0 and w.position <= c.training_limit and {}
        """
    ).format(sql.SQL(WEIGHT), sampled("w.user_key", share))
    columns = copy_out(
        connection,
        query.as_string(connection),
        [
            ("users", np.int32),
            ("items", np.int32),
            ("weights", np.float32),
            ("positions", np.int16),
            ("seconds", np.int32),
        ],
    )
    known = Interactions.sort(
        columns["users"], columns["items"], columns["weights"], columns["positions"], columns["seconds"]
    )
    return with_gathered(connection, known, share) if gathered else known


def read_profiles(connection: psycopg.Connection, users: range, *, limit: int, items: int) -> sparse.csr_array:
    """Read W, (users, items), of the users with keys in a range: their first `limit` items with keys below `items`."""
    columns = copy_out(
        connection,
        f"""
        select w.user_key, w.item_key, {WEIGHT}
        from recdb.user_item w
        where w.user_key >= {users.start} and w.user_key < {users.stop} and w.position <= {limit}
          and w.item_key < {items} and w.weight <> 0
        """,
        [("users", np.int32), ("items", np.int32), ("weights", np.float32)],
    )
    places = columns["users"] - np.int32(users.start), columns["items"]
    return sparse.csr_array((columns["weights"], places), shape=(len(users), items))
