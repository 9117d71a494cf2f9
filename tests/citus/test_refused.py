"""What `recdb distribute` refuses before it begins, and the settings of Citus that it works under."""

from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from support.citus import ask, drop_database, fill, lists, make_database, shards
from support.servers import Server

from recdb import spread
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.job import aging
from recdb.progress import silent

OBSTACLES = (
    (
        "foreign key own_fk of recdb.interaction",
        "create table public.people as select distinct user_id as id from recdb.interaction; "
        "alter table public.people add primary key (id); "
        "alter table recdb.interaction add constraint own_fk foreign key (user_id) references public.people",
        "alter table recdb.interaction drop constraint own_fk",
    ),
    (
        "foreign key other_fk of public.notes to recdb.interaction",
        "create table public.notes (id bigint constraint other_fk references recdb.interaction)",
        "drop table public.notes",
    ),
    (
        "trigger own_trigger on recdb.interaction",
        "create trigger own_trigger before update on recdb.interaction for each row "
        "execute function suppress_redundant_updates_trigger()",
        "drop trigger own_trigger on recdb.interaction",
    ),
    (
        "unique index own_unique on recdb.interaction, without user_id",
        "create unique index own_unique on recdb.interaction (interaction_id, item_id)",
        "drop index recdb.own_unique",
    ),
)


@pytest.fixture
def database(one_node: Sequence[Server]) -> Iterator[Database]:
    """A recommender with a model, on one node."""
    database = make_database(one_node, "refused")
    fill(database)
    yield database
    drop_database(one_node, "refused")


def test_a_dry_run_names_what_citus_does_not_spread(database: Database) -> None:
    for named, make, drop in OBSTACLES:
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute(make)
        for dry_run in (True, False):
            with pytest.raises(RecdbError, match="nothing was changed") as refused:
                spread.distribute(database, 2, silent, dry_run=dry_run)
            assert named in str(refused.value)
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute(drop)
    # A unique index with the user is in nobody's way.
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create unique index with_user on recdb.interaction (user_id, interaction_id)")
    spread.distribute(database, 2, silent)
    assert shards(database, "interaction") == 2


def test_the_partitioning_says_how_to_bring_the_store_back(database: Database) -> None:
    spread.distribute(database, 2, silent)
    with pytest.raises(RecdbError, match="Citus has spread") as refused:
        aging.partition(database, "month")
    assert "recdb distribute --undo" in str(refused.value.hint)


def test_a_cluster_that_manages_all_tables_and_copies_shards_is_fine(
    one_node: Sequence[Server], make: Callable[[], Database]
) -> None:
    database = make()
    name = psycopg.conninfo.conninfo_to_dict(database.conninfo)["dbname"]
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("set citus.enable_ddl_propagation = off")
        connection.execute(f"alter database {name} set citus.use_citus_managed_tables = on")
        connection.execute(f"alter database {name} set citus.shard_replication_factor = 3")
    fill(database)
    expected = lists(database)
    spread.distribute(database, 2, silent)
    spread.undo(database, silent)
    assert lists(database) == expected
    managed = "select count(*) from pg_dist_partition d where d.logicalrelid::text like 'recdb.%%'"
    assert ask(database, managed) == 0


def test_the_way_back_gives_no_number_of_an_erased_interaction_again(database: Database) -> None:
    with connect(database, autocommit=True) as connection:
        spread.distribute(database, 2, silent)
        (newest,) = connection.execute("select recdb.track('gone', 'i1', 'like')").fetchone() or ()
        connection.execute("select recdb.forget_user('gone')")
        # As a worker numbers them.
        connection.execute(
            "insert into recdb.interaction (interaction_id, user_id, item_id, kind) "
            "overriding system value values ((1::bigint << 48) + 1, 'far', 'i1', 'like')"
        )
        spread.undo(database, silent)
        assert connection.execute("select recdb.track('u1', 'i1', 'like')").fetchone() == (newest + 1,)
