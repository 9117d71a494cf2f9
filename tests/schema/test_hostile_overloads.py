"""Nothing that recdb runs finds an operator or a function that another role made in a schema of the usual path.

The rights of whoever runs recdb are at stake: a function that runs as recdb's owner, the job and each command would
call the other role's code with the owner's rights.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support import application
from support.attached import INTERACTIONS, SOURCES
from support.data import record, tastes, train
from support.hostile import called, set_traps
from typer.testing import CliRunner

from recdb import everyone, job, migrate
from recdb.cli import app
from recdb.data.attach import attach, detach
from recdb.data.generate import generate
from recdb.data.layout import Layout
from recdb.data.load import load
from recdb.data.sources import Source
from recdb.database import Database, connect
from recdb.doctor import examine
from recdb.progress import silent
from recdb.tuning.tune import tune

CALLS = [
    "select * from recdb.recommend('u1')",
    "select * from recdb.recommend('u1', 5, '{i1,i2}'::text[], fallback => 'popular', filter => '{}')",
    "select * from recdb.recommend('u1', 5, '<i1,i2>')",
    "select * from recdb.recommend('u1', 5, '[\"i1\", 2]')",
    "select * from recdb.recommend('u1', 5, '{i1,i2}', 'popular')",
    "select * from recdb.recommend('nobody', 5, fallback => 'popular')",
    "select * from recdb.recommend_for_items(array['i1', 'i2'], 5, weights => array[1, 0.5]::real[])",
    "select * from recdb.recommend_batch(array['u1', 'u2'], 5)",
    "select * from recdb.popular()",
    "select * from recdb.similar_items('i1')",
    "select * from recdb.neighbors('u1')",
    "select e.* from recdb.recommend('u1', 3) r, recdb.explain('u1', r.item_id) e",
    "select e.* from recdb.recommend('u1', 3) r, recdb.explain_neighbors('u1', r.item_id) e",
    "select * from recdb.profile_of('u1')",
    "select * from recdb.missing_indexes()",
    "select item_id, embedding from recdb.items",
    "select * from recdb.item_of('i1')",
    "select recdb.parse_embedding('[1, 2]'), recdb.round_embedding('{1, 2}'), recdb.clean_embedding('{1, 2}')",
    "select recdb.as_embedding('x', 'real[]'), recdb.is_vector('text'::regtype)",
    "select * from recdb.mistaken_items()",
    "select recdb.track('u1', 'i9', 'like', metadata => '{\"a\": 1}', value => 2.5)",
    "select recdb.impressions('u1', '{i1,i2,fresh}', 'home', '{1,2,3}', now(), 'v1', 'a', '{0.5,1,1}')",
    "insert into recdb.experiment (name, scenario) values ('e', 'home')",
    "insert into recdb.experiment_variant (experiment, name, weight) values ('e', 'a', 1), ('e', 'b', 2.5)",
    "select recdb.start_experiment('e')",
    "select recdb.variant('u1', 'e')",
    "select recdb.rebuild()",
    "select recdb.impressions('u1', '{i1,i2}', 'home')",
    "call recdb.refresh()",
    "select recdb.activate('{older}')",
    "select recdb.activate('{newer}')",
    "select recdb.forget_user('u3')",
    "call recdb.refresh()",
]
# With ids of other types: of a reader, an analyst, a writer and a caller who asks for themselves.
TYPED = [
    "select * from recdb.recommend(42, 5)",
    "select * from recdb.recommend('u1', 5, array[1, 2])",
    "select * from recdb.recommend(42.0, 5, '{6f0c1b52-8c52-4b7e-9d5a-0f2d3c4b5a69}'::uuid[])",
    "select * from recdb.recommend_for_items(array[1.0, 2], 5, array[3])",
    "select * from recdb.recommend_batch(array[1, 2])",
    "select * from recdb.similar_items(42)",
    "select * from recdb.explain(42, '\"i1\"'::jsonb)",
    "select * from recdb.neighbors(42::smallint)",
    "select * from recdb.explain_neighbors('u1', 7::real)",
    "select recdb.track(42, 7.0::float8, 'like')",
    "select recdb.track('u1', 7::bigint, 'like')",
    "select recdb.merge_users(42, 43::bigint)",
    "select recdb.impressions(42, array[7, 8.5])",
    "select recdb.impressions('u1', array[7]::bigint[], 'home')",
    "select * from recdb.recommend_me(5, fallback => 'popular')",
    "select * from recdb.recommend_me(5, array[1, 2.0])",
    "select * from recdb.recommend_me(5, '{6f0c1b52-8c52-4b7e-9d5a-0f2d3c4b5a69}'::uuid[])",
    "select * from recdb.explain_me('i1')",
    "select * from recdb.explain_me(7)",
]
LISTS = [
    "select * from recdb.popular(5, '{}', '{\"country\": \"de\"}')",
    "select * from recdb.trending(5, '7 days', '{}')",
    "select * from recdb.trending()",
]
AUDIENCES = ["select * from recdb.audience('i1', 5)", "select * from recdb.audience(42::bigint)"]
ROW = "select * from recdb.item_of(42)"
WRITTEN = [
    f"select recdb.track({ids}, 'view'::interaction_type)" for ids in ("'u1', 'i9'", "42, 'i9'", "'u1', 7", "42, 7.0")
]
SEGMENT = 'segment => \'{"country": "de"}\''
MANY = ",".join(f"i{number}" for number in range(1001))
STEERED = [
    "select * from recdb.recommend('u1', 5, among => '{i1,i2,i3,i9}', fallback => 'popular', filter => '\"1 == 1\"')",
    "select * from recdb.recommend('u1', 5, '{i1}'::text[], fallback => 'popular', scenario => 'here')",
    "select e.* from recdb.explain('u1', 'i9', scenario => 'here') e",
    "select * from recdb.recommend(42, 5, among => array[1, 2], scenario => 'here')",
    f"select * from recdb.recommend('u1', 90, among => '{{{MANY}}}', fallback => 'popular', scenario => 'here')",
    f"select * from recdb.recommend('u1', 5, fallback => 'popular', {SEGMENT})",
    f"select * from recdb.recommend('u1', 5, among => '{{i1,i9}}', fallback => 'popular', {SEGMENT})",
    f"select * from recdb.recommend_for_items(array[1, 2], 5, among => array[3], {SEGMENT})",
]
# parse_exclude() reads these spellings with the caller's rights and on the caller's path.
SPELT = [
    "select * from recdb.recommend_for_items('{1,2}', 5, among => array[3])",
    f"select * from recdb.recommend_me(5, '<i1>', among => array[1, 2.0], {SEGMENT})",
]
SCENARIO = [
    "delete from recdb.scenario where name = 'here'",
    "insert into recdb.scenario (name, freshness, max_per_owner, max_per_attribute, max_per_number, diversity, "
    "rotation_rate, filter, minimum_score) values ('here', '1 day', 3, 'topic', 5, 0.5, 0.5, '{}', 0)",
    "insert into recdb.rule (scenario, condition, factor, place) "
    "values ('here', '{}', 2, null), ('here', '\"1 == 1\"', 0.5, null), ('here', '{}', null, 2), "
    "('here', '{\"a\": 1}', 1e6, null), ('here', '{\"a\": 2}', null, 2), ('here', '{\"a\": 3}', 0, null)",
]
CALLS += [
    "insert into recdb.user_attributes values ('u1', '{\"country\": \"de\"}'), ('u2', '{\"country\": \"de\"}')",
    *LISTS,
    *AUDIENCES,
    *SCENARIO,
    *STEERED,
    *SPELT,
    *TYPED,
    *WRITTEN,
    "select * from recdb.recommend(42, 5, '[1]'::jsonb)",
    "select * from recdb.recommend_me(5, '[1]'::jsonb)",
    ROW,
    "select recdb.variant(42, 'e')",
    "select recdb.replayed('0/1', '1 min'), recdb.replication_lag(), recdb.database_identity()",
    "select recdb.stop_experiment('e')",
    "select * from recdb.profile_of(42)",
    "select * from recdb.recommend(42, 5, '<i1>')",
    "select * from recdb.recommend_for_items('{i1,i2}')",
    "select * from recdb.recommend_batch('[\"u1\", 2]')",
    "select * from recdb.recommend_me(5, '<i1>', fallback => 'popular')",
    "select recdb.forget_user(43)",
]


@pytest.fixture(scope="module", params=["public", "vectors", "public on PostgreSQL 16"])
def hostile(
    request: pytest.FixtureRequest, empty_database: Callable[[], Database], older_database: Callable[[], Database]
) -> Iterator[Database]:
    """A database where the role mallory may create in public and in pgvector's schema, and did, before the install."""
    vector, _, on_16 = request.param.partition(" ")
    database = older_database() if on_16 else empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        application.build(connection)
        connection.execute(f"create schema if not exists {vector}; create extension vector schema {vector}")
        connection.execute("create role mallory")
        connection.execute(f"grant create, usage on schema public, {vector} to mallory")
        assert set_traps(connection, "mallory", "public", vector) > 10_000
        if vector != "public":
            set_traps(connection, "mallory", vector, vector)
        name = connection.info.dbname
    yield database
    with psycopg.connect(make_conninfo(database.conninfo, dbname="postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")
        connection.execute("drop role mallory")


@pytest.fixture
def db(hostile: Database) -> Iterator[psycopg.Connection]:
    """A connection of the owner on the usual path; afterwards no trap was called."""
    with psycopg.connect(hostile.conninfo, autocommit=True) as connection:
        called(connection)
        yield connection
        assert not called(connection)


def test_the_traps_work(hostile: Database) -> None:
    """On the usual path the shapes of the report call mallory's code, and with recdb's path they do not."""
    shapes = [
        "power(2::bigint, 0.5::float8)", "1 - 0.5::float8", "1::real = 1", "1::float8 > 0.5", "2::bigint * 0.5::float8",
        "0.5::float8 / 2::bigint", "0.5::float8 < 1", "round(0.5::real)", "ln(2::bigint)",
    ]  # fmt: skip
    with psycopg.connect(hostile.conninfo, autocommit=True) as connection:
        for shape in shapes:
            with pytest.raises(psycopg.errors.RaiseException, match="called"):
                connection.execute(f"select {shape}")
        assert called(connection)
    with connect(hostile, autocommit=True) as connection:
        for shape in shapes:
            connection.execute(f"select {shape}")


def test_install_train_and_every_call(hostile: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    """From the first revision on: views, generated columns and functions look names up while they are created."""
    migrate.upgrade(hostile)
    record(db, [[*row, datetime(2026, 1, 1 + number % 28, tzinfo=UTC)] for number, row in enumerate(tastes())])
    with connect(hostile) as connection:
        connection.execute("update recdb.config set half_life = interval '30 days'")
    labels = {"{older}": train(hostile, neighbors=10), "{newer}": train(hostile, neighbors=12)}
    for call in CALLS:
        db.execute(call.replace("{older}", labels["{older}"]).replace("{newer}", labels["{newer}"]))
    views = [
        row[0]
        for row in db.execute(
            "select pg_catalog.quote_ident(c.relname) from pg_catalog.pg_class c "
            "where c.relnamespace = 'recdb'::pg_catalog.regnamespace and c.relkind in ('r', 'p', 'v', 'm')"
        )
    ]
    for view in views:
        db.execute(f"select * from recdb.{view}")
    with psycopg.connect(hostile.conninfo) as connection:
        for role in ("recdb_maintainer", "recdb_analyst"):
            connection.execute(f"set role {role}")
            connection.execute("call recdb.refresh()" if role == "recdb_maintainer" else CALLS[2])
            connection.rollback()
    migrate.upgrade(hostile)


def test_a_callers_own_path_does_not_reach_into_functions_of_the_owner(
    hostile: Database, db: psycopg.Connection
) -> None:
    """Here the traps stand before PostgreSQL's own functions, also those with exactly the same types."""
    migrate.upgrade(hostile)
    record(db, tastes())
    train(hostile)
    for statement in SCENARIO:
        db.execute(statement)
    db.execute("set search_path = public, pg_catalog")
    for role, calls in {
        "recdb_reader": CALLS[:2] + CALLS[5:10] + CALLS[11:12] + TYPED[:7] + LISTS + STEERED,
        "recdb_analyst": CALLS[10:13] + TYPED[7:9] + [ROW] + AUDIENCES,
        "recdb_writer": ["select recdb.track('u1', 'i9', 'like')", *TYPED[9:14], *WRITTEN],
        "recdb_self": TYPED[14:],
        "recdb_maintainer": ["select recdb.refresh_changed()"],
    }.items():
        db.execute(f"set role {role}")
        for call in calls:
            db.execute(call)
        db.execute("reset role")


def test_the_job_and_the_commands(hostile: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    migrate.upgrade(hostile)
    attach(hostile, SOURCES)
    for value in ("length(post_id::text)", "ln(length(post_id::text)::float8)", "length(post_id::text) - 2.5"):
        attach(hostile, [replace(INTERACTIONS, mapping=INTERACTIONS.mapping | {"value": value})])
    db.execute("create table page_view (who text, what text[], at timestamp, spot integer[], chance numeric, arm text)")
    pages = [("u1", ["i1", "i2"], datetime.now(UTC), [1, 2], 0.5, "a"), ("u1", ["i1"], datetime.now(UTC), [0], 2, "")]
    for page in pages:
        db.execute("insert into page_view values (%s, %s::text[], %s::timestamp, %s::integer[], %s, %s)", page)
    mapping = {"user": "who", "item": "what", "at": "at", "place": "spot", "propensity": "chance", "variant": "arm"}
    zone = {"timezone": "Europe/Berlin", "scenario": "arm", "where": "spot is not null"}
    attach(hostile, [Source("impressions", "page_view", mapping | zone)])
    file = tmp_path / "interactions.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("user_id", "item_id", "kind", "created_at"), ("u1", "i1", "view", "2026-01-02")])
    load(hostile, str(file))
    file.write_text("user_id,item_id,stars,at\nu1,i2,4,1706702400\n")
    load(hostile, str(file), layout=Layout(kind_is="like", at="at", time="unix", value="ln(stars) - 2.5"))
    generate(hostile, users=30, items=30, count=600, days=30, seed=1)
    db.execute("update recdb.config set listed_only = false")
    label = train(hostile)
    tune(hostile, seconds=1)
    job.run(hostile)
    db.execute("select recdb.forget_user('user-1')")
    db.execute("call recdb.refresh()")
    job.activate(hostile, label, silent)
    everyone.recommend_all(hostile, str(tmp_path / "all.csv"), k=5)
    with connect(hostile, autocommit=True) as connection:
        findings = {finding.check: finding for finding in examine(connection)}
    assert findings["schemas"].message.startswith("mallory may create in schema")
    beside = make_conninfo(hostile.conninfo, dbname="postgres")
    for command in (
        ["recommend", "user-2", "--fallback", "popular"],
        ["models"],
        ["doctor"],
        ["activate", label],
        ["evaluate", "--scratch-url", beside],
    ):
        result = CliRunner().invoke(app, [command[0], "--url", hostile.conninfo, *command[1:]])
        assert "called" not in result.output
        assert result.exit_code == 0 or command[0] == "doctor", result.output
    detach(hostile, None)
    migrate.downgrade(hostile, "0001")
    migrate.upgrade(hostile)
    migrate.uninstall(hostile)
