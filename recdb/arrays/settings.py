"""The settings of an installation, which the job reads before anything else."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from recdb.database import fetch_row


@dataclass(frozen=True)
class Settings:
    """The columns of recdb.config that the job reads, and the width of the stored vectors."""

    dimension: int
    """Width of the installed vector columns."""
    profile_limit: int
    """The largest number of a user's items that a version may score with."""
    training_interactions: int
    """The largest number of weighted interactions that a version is learned from."""
    items_return: bool
    """Whether an item that a user interacted with may be recommended again: true unless every kind hides."""
    content_share: float = 0.0
    """The most that items which nobody has touched may take of the first places."""


def read_settings(connection: psycopg.Connection) -> Settings:
    """Read the settings of an installed recdb."""
    return fetch_row(
        connection.cursor(row_factory=class_row(Settings)),
        """
        select a.atttypmod as dimension, c.profile_limit, c.training_interactions,
            not c.default_hides or exists (select from recdb.interaction_kind k where not k.hides) as items_return,
            c.content_share
        from recdb.config c, pg_attribute a
        where a.attrelid = 'recdb.item_vector'::regclass and a.attname = 'embedding'
        """,
    )
