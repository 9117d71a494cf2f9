"""What the job has to know of an installation before it reads anything else."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class Settings:
    """An installation's settings: the row of recdb.config as far as the job reads it, and the vectors' width."""

    dimension: int
    """Width of the installed vector columns."""
    profile_limit: int
    """How many of a user's newest items a version may score with."""
    training_interactions: int
    """Of how many weighted interactions, at most, a version is learned."""
    items_return: bool
    """Whether an item that a user touched may be recommended again: whether not every kind hides."""


def read_settings(connection: psycopg.Connection) -> Settings:
    """Read the settings of an installed recdb."""
    row = (
        connection.cursor(row_factory=class_row(Settings))
        .execute(
            """
            select a.atttypmod as dimension, c.profile_limit, c.training_interactions,
                not c.default_hides or exists (select from recdb.interaction_kind k where not k.hides) as items_return
            from recdb.config c, pg_attribute a
            where a.attrelid = 'recdb.item_vector'::regclass and a.attname = 'embedding'
            """
        )
        .fetchone()
    )
    assert row is not None
    return row
