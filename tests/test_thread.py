"""From an interaction to a recommendation, end to end."""

import psycopg

from recdb import job
from recdb.database import Database


def test_the_withheld_item_of_a_checkerboard_comes_first(database: Database, db: psycopg.Connection) -> None:
    """Users and items of one colour belong together; each user lacks one item of their colour."""
    size = 12
    with db.cursor().copy("copy recdb.interaction (user_id, item_id, kind) from stdin") as copy:
        for user in range(size):
            for item in range(size):
                if user != item and (user + item) % 2 == 0:
                    copy.write_row((f"u{user}", f"i{item}", "like"))

    job.run(database)

    for user in range(size):
        first = db.execute("select item_id from recommend(%s, 1, '{}')", [f"u{user}"]).fetchone()
        assert first == (f"i{user}",)
