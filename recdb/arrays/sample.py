"""Samples of users by their keys."""

from psycopg import sql

# Multiples of 2^32 over the golden ratio spread consecutive keys evenly over 0..2^32 (Knuth, volume 3, section 6.4).
GOLDEN = 2_654_435_761


def sampled(key: str, share: float) -> sql.Composed:
    """Return the condition that a column of dense keys is in a sample, a share of all keys; always the same keys."""
    return sql.SQL("{}::bigint * {} % 4294967296 < {}").format(
        sql.SQL(key), sql.Literal(GOLDEN), sql.Literal(round(share * 2**32))
    )
