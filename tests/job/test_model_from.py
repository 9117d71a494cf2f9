"""Taking the item half of another database's model: `recdb refresh --full --model-from URL`."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from psycopg.conninfo import make_conninfo
from pytest_postgresql.executors import NoopExecutor
from support.cells import ACTIVE, ITEMS, SECOND, WORLD, ask, clones, execute, lists_of, notes_of, store, take
from support.data import train
from support.servers import Server

from recdb import job, migrate
from recdb.database import Database
from recdb.errors import RecdbError, Unavailable

# The version that is made --------------------------------------------------------------------------------------


def test_a_cell_has_the_items_of_the_source_and_places_its_own_users(cell: Database, source: Database) -> None:
    outcome = take(cell, source)

    assert outcome.taken and outcome.taken.startswith("collaborative_filtering_v1 of cell_")
    assert ask(cell, ITEMS) == ask(source, ITEMS)
    assert ask(cell, "select count(*) from recdb.user_vector") == [(100,)]
    assert ask(cell, "select users, items, metrics -> 'taken' ->> 'label' from recdb.models") == [
        (100, 60, "collaborative_filtering_v1")
    ]
    assert 0 < ask(cell, "select metrics -> 'validation' -> 'ndcg@20' from recdb.models")[0][0] < 1  # type: ignore[operator]


def test_with_the_same_users_the_lists_are_those_of_the_source(fresh: Database, source: Database) -> None:
    execute(fresh, "insert into recdb.item_key (item_id) select 'i' || n from generate_series(59, 0, -1) n")
    store(fresh, WORLD[::-1])

    take(fresh, source)

    users = [f"u{number}" for number in range(0, 200, 7)]
    assert lists_of(fresh, users) == lists_of(source, users)


def test_lists_hold_items_that_only_the_source_has_unless_the_catalogue_says_otherwise(
    cell: Database, source: Database
) -> None:
    execute(
        cell, "delete from recdb.interaction where item_id = 'i9'", "delete from recdb.item_key where item_id = 'i9'"
    )
    execute(cell, "insert into recdb.item (item_id) select 'i' || n from generate_series(0, 59) n where n <> 9")

    outcome = take(cell, source)

    assert "1 of 60 items of" in notes_of(outcome) and "listed_only = true" in notes_of(outcome)
    users = [f"u{number}" for number in range(0, 200, 2)]
    assert any("i9" in items for items in lists_of(cell, users))
    execute(cell, "update recdb.config set listed_only = true")
    assert not any("i9" in items for items in lists_of(cell, users))
    assert "items of" not in notes_of(take(cell, source, force=True))


def test_items_that_only_this_database_has_are_ranked_by_who_touched_them(cell: Database, source: Database) -> None:
    fans = [f"u{number}" for number in range(0, 96, 6)]  # of one group
    store(cell, [[user, "own", "share"] for user in fans])

    take(cell, source)

    lists = dict(zip(fans, lists_of(cell, [f"u{number}" for number in range(96, 200, 6)], 30), strict=False))
    assert any("own" in items for items in lists.values())


def test_what_the_source_learned_from_content_is_taken_too(
    fresh: Database, server: Server, template: NoopExecutor
) -> None:
    with clones(server, template, 1) as (there,):
        catalogue = (
            "insert into recdb.item (item_id, title, attributes) select 'i' || n, 'about ' || mod(n, 3), "
            "jsonb_build_object('group', mod(n, 3)) from generate_series(0, %s) n"
        )
        store(there, WORLD)
        execute(there, catalogue % 65)
        train(there)
        assert ask(there, "select scale > 0 from recdb.model_content") == [(True,)]
        store(fresh, SECOND)
        execute(fresh, catalogue % 70)

        take(fresh, there)

        places = (
            "select t.item_id, n.embedding from recdb.new_item n join recdb.item_key t using (item_key) "
            "where t.item_id in ('i60', 'i61', 'i62', 'i63', 'i64', 'i65') order by 1"
        )
        assert ask(fresh, places) == ask(there, places) != []
        assert ask(fresh, "select count(*) from recdb.new_item where embedding is not null") == [(11,)]
        assert ask(fresh, "select count(distinct item_key) from recdb.item_link") != [(0,)]


def test_a_fresh_tenant_has_personal_lists_from_the_first_click_on(fresh: Database, source: Database) -> None:
    execute(fresh, "insert into recdb.item (item_id) select 'i' || n from generate_series(0, 59) n")

    outcome = take(fresh, source)

    assert outcome.model == "collaborative_filtering_v1"
    assert lists_of(fresh, ["new"]) == [[]]
    popular = ask(fresh, "select reason from recdb.recommend('new', 5, fallback => 'popular')")
    assert popular == [("popular",)] * 5
    execute(fresh, "select recdb.track('new', 'i3', 'like')")
    assert len(lists_of(fresh, ["new"])[0]) == 10
    job.run(fresh)
    assert ask(fresh, "select count(*) from recdb.user_vector") == [(1,)]
    assert len(lists_of(fresh, ["new"])[0]) == 10


@pytest.mark.parametrize("width", [16, 200])
def test_vectors_of_another_width_fit(empty_database: Callable[[], Database], source: Database, width: int) -> None:
    narrow = empty_database()
    migrate.upgrade(narrow, dimension=width)
    store(narrow, SECOND)

    outcome = take(narrow, source)

    assert outcome.model
    assert ask(narrow, "select (params ->> 'dimension')::integer from recdb.models") == [(min(width, 128),)]
    assert all(len(items) == 10 for items in lists_of(narrow, ["u0", "u2", "u4"]))


def test_recommenders_of_one_database_are_different_databases(cell: Database) -> None:
    people = replace(cell, schema="people")
    migrate.upgrade(people)
    train(cell)

    outcome = take(people, cell)

    assert outcome.model and outcome.taken
    with pytest.raises(RecdbError, match="is this database itself"):
        take(people, people)


def test_the_version_is_rolled_back_and_forward_like_any_other(cell: Database, source: Database) -> None:
    own = train(cell)
    taken = take(cell, source).model
    assert taken is not None
    before = lists_of(cell, ["u0"])

    job.activate(cell, own, lambda step: None)
    assert ask(cell, "select distinct model_version from recdb.recommend('u0', 5)") == [(own,)]
    job.activate(cell, taken, lambda step: None)

    assert lists_of(cell, ["u0"]) == before


# Later runs ----------------------------------------------------------------------------------------------------


def test_a_version_that_is_here_already_is_not_taken_again(cell: Database, source: Database) -> None:
    label = take(cell, source).model
    execute(cell, "delete from recdb.interaction where user_id = 'u0'")
    with pytest.raises(Unavailable):
        take(cell, Database(make_conninfo(source.conninfo, dbname="nowhere"), "test"))
    assert ask(cell, "select failing from recdb.health") == [(["train"],)]

    again = take(cell, source)

    assert ask(cell, "select state, model from recdb.last_runs where kind = 'train'") == [("succeeded", label)]
    assert again.model is None and again.refreshed and "users were not placed again" in notes_of(again)
    assert ask(cell, ACTIVE) == [(label,)]
    # The rebuild of --full ran all the same.
    assert ask(cell, "select count(*) from recdb.user_item_weights where user_id = 'u0'") == [(0,)]
    assert take(cell, source, force=True).model is not None


@pytest.mark.parametrize(
    "change",
    [
        "update recdb.interaction_kind set weight = 0.2 where kind = 'view'",
        "insert into recdb.interaction (user_id, item_id, kind) select 'n' || n % 40, 'i' || n / 40, 'like' "
        "from generate_series(0, 999) n",
    ],
    ids=["other weights", "many more interactions"],
)
def test_users_are_placed_again_if_they_changed(cell: Database, source: Database, change: str) -> None:
    take(cell, source)
    execute(cell, change)
    job.run(cell)

    assert take(cell, source).model is not None


def test_a_stale_model_with_the_same_items_there_is_only_refreshed(cell: Database, source: Database) -> None:
    label = take(cell, source).model
    execute(
        cell,
        "update recdb.model set created_at = created_at - interval '2 days'",
        "select recdb.track('new', 'i3', 'like')",
    )

    outcome = job.run(cell, if_stale=timedelta(days=1), model_from=source)

    assert outcome.model is None and ask(cell, ACTIVE) == [(label,)]
    assert ask(cell, "select kind from recdb.refresh_log order by run_id desc limit 1") == [("refresh",)]


def test_an_ordinary_refresh_keeps_the_items_and_an_ordinary_training_learns_here(
    cell: Database, source: Database
) -> None:
    take(cell, source)
    execute(cell, "select recdb.track('u0', 'i3', 'share')")

    job.run(cell)
    assert ask(cell, ITEMS) == ask(source, ITEMS)

    outcome = job.run(cell, full=True, force=True)
    assert outcome.model and outcome.taken is None
    assert ask(cell, ITEMS) != ask(source, ITEMS)
    assert ask(cell, "select metrics ? 'taken' from recdb.models where active") == [(False,)]
