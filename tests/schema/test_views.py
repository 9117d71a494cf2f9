"""The analysts' views: text ids instead of keys, the models, the log and the state of health."""

import numpy as np
import psycopg
import pytest
from support.data import record, tastes, train

from recdb.database import Database


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Two versions of forty users and sixty items."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("analyze recdb.interaction")
    for blend in (0.2, 0.7):
        train(module_database, blend=blend, dimension=10)


def test_user_item_weights_are_the_summed_weights_of_the_events(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('u1', 'i1', 'view')")
    shared.execute("select recdb.track('u1', 'i1', 'share')")
    shared.execute("call recdb.refresh()")
    found = shared.execute("select user_id, item_id, weight, last_at from recdb.user_item_weights order by 1, 2")
    expected = shared.execute(
        "select user_id, item_id, sum(weight), max(created_at) from recdb.interaction "
        "join recdb.interaction_kind using (kind) group by 1, 2 order by 1, 2"
    ).fetchall()
    assert [
        (user, item, pytest.approx(weight), last_at) for user, item, weight, last_at in expected
    ] == found.fetchall()


def test_weighted_interactions_have_what_their_kinds_say_or_the_defaults(shared: psycopg.Connection) -> None:
    shared.execute("update recdb.config set half_life = '1 day', default_weight = 0.4, default_hides = false")
    shared.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('peek', -2, false)")
    for kind, created_at in (("like", "2000-01-01Z"), ("like", "2001-01-01Z"), ("peek", "2002-01-01Z"),
                             ("unlisted", "2003-01-01Z")):  # fmt: skip
        shared.execute("select recdb.track('reader', 'i1', %s, %s::timestamptz)", [kind, created_at])

    rows = shared.execute(
        "select item_id, kind, extract(year from created_at at time zone 'UTC')::integer, weight, hides "
        "from recdb.weighted_interactions where user_id = 'reader' order by created_at"
    ).fetchall()

    assert rows == [
        ("i1", "like", 2000, 0.7, True),
        ("i1", "like", 2001, 0.7, True),
        ("i1", "peek", 2002, -2, False),
        ("i1", "unlisted", 2003, 0.4, False),
    ]
    assert shared.execute("select count(*) from recdb.weighted_interactions").fetchone() == (484,)


def test_all_that_weighs_interactions_follows_the_rule_of_weighted_interactions(shared: psycopg.Connection) -> None:
    """profile_of(), profiles_of() and the materialized view of the weighted interactions repeat the rule.

    So do read_events() and list_choices(): the tests of tuning and of the hold-out compare their weights.
    """
    shared.execute("update recdb.config set default_weight = 0.4, default_hides = false")
    shared.execute("update recdb.interaction_kind set weight = 2, hides = false where kind = 'click'")
    shared.execute("delete from recdb.interaction_kind where kind = 'view'")
    shared.execute("update recdb.interaction set value = 2 * interaction_id % 7 - 2.5 where interaction_id % 3 = 0")
    shared.execute("select recdb.rebuild()")
    rule = shared.execute(
        "select user_id, item_id, sum(weight), bool_or(hides) from recdb.weighted_interactions "
        "group by 1, 2 order by 1, 2"
    ).fetchall()
    assert {hides for *_, hides in rule} == {True, False}

    stored = shared.execute("select user_id, item_id, weight from recdb.user_item_weights order by 1, 2").fetchall()
    live = shared.execute(
        "select u.user_id, p.item_id, p.weight, p.hides "
        "from recdb.user_key u, recdb.profile_of(u.user_id) p order by 1, 2"
    ).fetchall()

    assert stored == [(user, item, pytest.approx(weight)) for user, item, weight, _ in rule]
    assert live == [(user, item, pytest.approx(weight), hides) for user, item, weight, hides in rule]

    # A refresh reads them for many users at once.
    columns = "item_id, item_key, weight, last_at, heaviest"
    apart = f"select u.user_id, {columns} from recdb.user_key u, recdb.profile_of(u.user_id) order by 1, 2"
    everybody = "array(select user_id from recdb.user_key)"
    at_once = f"select user_id, {columns} from recdb.profiles_of({everybody}) order by 1, 2"
    assert shared.execute(at_once).fetchall() == shared.execute(apart).fetchall()


def test_vectors_are_there_for_every_user_and_item_in_every_kept_version(shared: psycopg.Connection) -> None:
    for view, name, count in (("user_vectors", "user_id", 40), ("item_vectors", "item_id", 60)):
        for model in ("collaborative_filtering_v1", "collaborative_filtering_v2"):
            rows = shared.execute(
                f"select {name}, embedding::text from recdb.{view} where model = %s", [model]
            ).fetchall()
            assert len({row[0] for row in rows}) == count
            vectors = np.array([[float(number) for number in row[1].strip("[]").split(",")] for row in rows])
            assert np.abs(vectors[:, :10]).max() > 0
            assert np.abs(vectors[:, 10:]).max() == 0
            if view == "user_vectors":
                np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)


def test_models_says_what_each_version_is(shared: psycopg.Connection) -> None:
    rows = shared.execute(
        "select label, active, state, users, items, interactions, (params ->> 'blend')::float8 "
        "from recdb.models order by created_at"
    ).fetchall()
    assert rows == [
        ("collaborative_filtering_v1", False, "ready", 40, 60, 480, 0.2),
        ("collaborative_filtering_v2", True, "ready", 40, 60, 480, 0.7),
    ]
    ages = shared.execute(
        "select bool_and(activated_at >= created_at), bool_and(metrics ? 'train_seconds') from recdb.models"
    )
    assert ages.fetchone() == (True, True)


def test_activating_flips_the_active_version(shared: psycopg.Connection) -> None:
    active = "select array_agg(label) from recdb.models where active"
    shared.execute("select recdb.activate('collaborative_filtering_v1')")
    assert shared.execute(active).fetchone() == (["collaborative_filtering_v1"],)
    shared.execute("select recdb.activate('collaborative_filtering_v1')")
    assert shared.execute(active).fetchone() == (["collaborative_filtering_v1"],)
    with pytest.raises(psycopg.errors.UndefinedObject, match="v9"), shared.transaction():
        shared.execute("select recdb.activate('v9')")
    assert shared.execute(active).fetchone() == (["collaborative_filtering_v1"],)


def test_the_log_tells_every_run(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('u1', 'brand-new', 'view')")
    shared.execute("call recdb.refresh()")
    rows = shared.execute(
        "select kind, users, rows, model, error, finished_at >= started_at from recdb.refresh_log order by run_id"
    ).fetchall()
    assert rows == [
        ("rebuild", 40, 480, None, None, True),
        ("train", 40, 480, "collaborative_filtering_v1", None, True),
        ("rebuild", 40, 480, None, None, True),
        ("train", 40, 480, "collaborative_filtering_v2", None, True),
        ("refresh", 1, 13, None, None, True),
    ]


def test_health_is_one_row(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('newcomer', 'brand-new', 'view')")
    shared.execute("call recdb.refresh()")
    cursor = shared.execute("select * from recdb.health")
    names = [entry.name for entry in cursor.description or []]
    rows = cursor.fetchall()
    assert len(rows) == 1
    health = dict(zip(names, rows[0], strict=True))
    assert health["model"] == "collaborative_filtering_v2"
    assert health["users"] == 41
    assert health["items"] == 61
    assert health["recent_users"] == 1
    assert health["vector_share"] == pytest.approx(40 / 41)
    assert health["stored_interactions"] == 480
    assert health["bytes"] > 100_000
    assert health["last_error"] is None
    assert health["model_age"].total_seconds() >= 0


def test_health_is_one_row_before_anything_happened(db: psycopg.Connection) -> None:
    rows = db.execute("select model, users, items, vector_share, last_error from recdb.health").fetchall()
    assert rows == [(None, 0, 0, None, None)]


def test_every_public_object_says_what_it_is(shared: psycopg.Connection) -> None:
    """The comments that psql shows with \\d+ and \\df+ are documentation."""
    silent = shared.execute(
        """
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
          and c.relname <> 'alembic_version' and obj_description(c.oid, 'pg_class') is null
        union all
        select p.oid::regprocedure::text from pg_proc p
        where (p.pronamespace = 'recdb'::regnamespace or p.proname = 'recommend')
          and obj_description(p.oid, 'pg_proc') is null
        """
    ).fetchall()
    assert silent == []
