"""config.retention where Citus has spread the interactions: it deletes what is old in every shard, and nothing else."""

from collections.abc import Callable

from support.citus import ask, fill, lists
from support.data import column

from recdb import job, spread
from recdb.database import Database, connect
from recdb.progress import silent

OLD = "from recdb.interaction where created_at < now() - interval '100 days'"


def test_what_is_older_than_the_retention_goes_and_nothing_else(make: Callable[[], Database]) -> None:
    database = make()
    fill(database)
    expected = lists(database)
    with connect(database, autocommit=True) as connection:
        # Old rows are between new ones, in each shard at other places.
        connection.execute(
            "insert into recdb.interaction (user_id, item_id, kind, created_at) "
            "select 'u' || n % 40, 'gone' || n % 60, 'view', now() - case when n % 3 = 0 then interval '200 days' "
            "else interval '50 days' end from generate_series(1, 300) n"
        )
        spread.distribute(database, 4, silent)
        kept = connection.execute(f"select interaction_id {OLD.replace('<', '>=')} order by 1").fetchall()
        connection.execute("update recdb.config set retention = '100 days'")
        # What no refresh has read stays.
        connection.execute("select recdb.drop_aged_interactions(30)")
        assert ask(database, f"select count(*) {OLD}") == 100

        connection.execute("update recdb.config set retention = null")
        connection.execute("call recdb.refresh()")
        connection.execute("update recdb.config set retention = '100 days'")
        assert column(connection.execute("select recdb.drop_aged_interactions(30)")) == [30]
        connection.execute("call recdb.refresh()")

        assert ask(database, f"select count(*) {OLD}") == 0
        assert connection.execute("select interaction_id from recdb.interaction order by 1").fetchall() == kept
        connection.execute("delete from recdb.interaction where item_id like 'gone%'")
    assert job.run(database, full=True, force=True).ran
    assert len(lists(database)) == len(expected)
