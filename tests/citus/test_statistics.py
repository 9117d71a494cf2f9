"""Where recdb's tables of users went, PostgreSQL has statistics at once, and need not guess how to search."""

from collections.abc import Callable

from support.citus import ask, fill

from recdb import spread
from recdb.database import Database
from recdb.progress import silent

COLUMNS = "select count(*) from pg_statistic where starelid = '%s'::regclass"
ON_NODES = f"select min(r.result::bigint) from run_command_on_shards('recdb.user_vector_1', $${COLUMNS}$$) r"


def test_the_vectors_have_statistics_there_and_back(make: Callable[[], Database]) -> None:
    database = make()
    fill(database)
    spread.distribute(database, 2, silent)
    assert ask(database, ON_NODES) > 0

    spread.undo(database, silent)
    assert ask(database, COLUMNS % "recdb.user_vector_1") > 0
