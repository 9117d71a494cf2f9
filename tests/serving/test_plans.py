"""The plans of the hot path: they use indexes in every plan mode and with any statistics, and read one version."""

import json
from typing import Any

import psycopg
import pytest
from support.data import train

from recdb.database import Database
from recdb.job.aging import partition

USERS, ITEMS = 5000, 6000

SMALL = {"config", "interaction_kind", "model", "attachment", "recent_user", "user_item_recent", "new_item",
         "ignored_user", "rule", "scenario", "experiment", "impression_new"}  # fmt: skip
"""Tables of a few rows, or of as many as changed since the last full refresh: scans of these are allowed."""

CALLS = {
    "a feed": "select * from recommend('u7', 10, '{}')",
    "another page": "select * from recommend('u7', 10, '{i1,i2,i3}')",
    "the largest list": "select * from recommend('u7', 1000, '{}')",
    "a filter": "select * from recommend('u7', 10, filter => '{\"parity\": 1}')",
    "filled up": "select * from recommend('u7', 20, fallback => 'popular')",
    "candidates": "select * from recommend('u7', 20, among => '{i1,i2,i3,i700}', fallback => 'popular')",
    "a scenario": "select * from recommend('u7', 10, scenario => 'steered')",
    "a campaign": "select * from recommend('u7', 10, scenario => 'campaign')",
    "candidates of a scenario": "select * from recommend('u7', 10, scenario => 'campaign', "
    "among => array(select 'i' || n from generate_series(0, 2000) n))",
    "a stranger": "select * from recommend('nobody', 20, fallback => 'popular')",
    "a guest": "select * from recdb.recommend_for_items(array['i1', 'i2'], 10)",
    "popular": "select * from recdb.popular(10)",
    "popular of a kind": "select * from recdb.popular(10, '{\"parity\": 1}')",
    "popular in a segment": 'select * from recdb.popular(10, segment => \'{"country": "is"}\')',
    "an audience": "select * from recdb.audience('i7', 10)",
    "similar items": "select * from recdb.similar_items('i7', 10)",
    "neighbours": "select * from recdb.neighbors('u7', 10)",
    "an interaction": "select recdb.track('u7', 'i1', 'view')",
}


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Two versions, of which the newer one serves; the interactions have no statistics."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        connection.execute(
            "insert into recdb.interaction (user_id, item_id, kind) "
            "select 'u' || n, 'i' || (n + 97 * m * (n %% 11 + 1)) %% %s, 'like' "
            "from generate_series(0, %s) n, generate_series(0, 11) m",
            [ITEMS, USERS - 1],
        )
        connection.execute(
            "insert into recdb.item (item_id, attributes, published_at) "
            "select 'i' || n, jsonb_build_object('parity', n %% 2), now() - n * interval '1 hour' "
            "from generate_series(0, %s) n",
            [ITEMS - 1],
        )
        connection.execute(
            "insert into recdb.user_attributes select 'u' || n, "
            "jsonb_build_object('country', case when n %% 500 = 0 then 'is' else 'de' end) "
            "from generate_series(0, %s) n",
            [USERS - 1],
        )
        connection.execute(
            "insert into recdb.scenario (name, freshness, max_per_owner, max_per_attribute, max_per_number, diversity, "
            "rotation_rate, explore, fallback) values ('steered', '1 day', 2, 'parity', 8, 0.3, 0.5, 0.2, 'popular')"
        )
        connection.execute("insert into recdb.scenario (name, explore) values ('campaign', 0.2)")
        connection.execute(
            "insert into recdb.rule (scenario, condition, factor, place) values "
            "('campaign', '{\"parity\": 7}', 1e6, null), ('campaign', '{\"parity\": 8}', null, 1), "
            "('campaign', '\"$.parity == 9\"', null, 2), ('campaign', '{\"parity\": 6}', 0, null)"
        )
    for _ in range(2):
        train(module_database, dimension=8, neighbors=20)
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        for name in ("user", "item"):  # many more users and items than the model has seen
            connection.execute(
                f"insert into recdb.{name}_key ({name}_id) select 'later' || n from generate_series(1, 50000) n"
            )
            connection.execute(f"analyze recdb.{name}_key")


class Plans:
    """The plans of all statements that a connection executes, those inside functions too."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.nodes: list[dict[str, Any]] = []
        try:
            connection.execute("load 'auto_explain'")
        except psycopg.errors.UndefinedFile:
            pytest.skip("this server has no auto_explain")
        for setting, value in (
            ("log_min_duration", "0"),
            ("log_nested_statements", "on"),
            ("log_analyze", "on"),
            ("log_format", "json"),
            ("log_level", "notice"),
        ):
            connection.execute(f"set local auto_explain.{setting} = {value}")
        connection.add_notice_handler(self.collect)

    def collect(self, notice: psycopg.errors.Diagnostic) -> None:
        _, found, plan = (notice.message_primary or "").partition("plan:\n")
        if found:
            self.walk(json.loads(plan)["Plan"])

    def walk(self, node: dict[str, Any]) -> None:
        self.nodes.append(node)
        for child in node.get("Plans", ()):
            self.walk(child)

    def of(self, call: str) -> list[dict[str, Any]]:
        """Execute a call, and return the plan nodes that were executed."""
        self.nodes = []
        self.connection.execute(call)
        return [node for node in self.nodes if node["Actual Loops"] > 0]


def analyze(connection: psycopg.Connection) -> None:
    """Gather statistics on the tables that the job does not analyse."""
    connection.execute(
        "analyze recdb.interaction, recdb.item, recdb.user_item_settled, recdb.user_item_recent, recdb.recent_user, "
        "recdb.item_popularity, recdb.user_attributes"
    )


def relations(nodes: list[dict[str, Any]], prefix: str) -> set[tuple[str, str, str | None]]:
    """(node type, relation, index) of the scans of relations whose name begins with prefix."""
    return {
        (node["Node Type"], node["Relation Name"], node.get("Index Name"))
        for node in nodes
        if node.get("Relation Name", "").startswith(prefix)
    }


def assert_no_scan(nodes: list[dict[str, Any]]) -> None:
    assert nodes
    assert {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} <= SMALL


@pytest.mark.parametrize("statistics", ["as the job left them", "analysed"])
@pytest.mark.parametrize("call", CALLS)
def test_no_large_table_is_scanned(shared: psycopg.Connection, call: str, statistics: str) -> None:
    if statistics == "analysed":
        analyze(shared)
    plans = Plans(shared)
    for _ in range(7):  # custom plans come first, the generic one may come sixth
        assert_no_scan(plans.of(CALLS[call]))


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("call", CALLS)
def test_no_large_table_is_scanned_in_a_forced_plan_mode(shared: psycopg.Connection, call: str, mode: str) -> None:
    shared.execute(f"set local plan_cache_mode = {mode}")
    assert_no_scan(Plans(shared).of(CALLS[call]))


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("call", ["a feed", "a guest", "neighbours", "an audience"])
def test_neighbours_are_found_by_the_vector_index_of_the_active_version(
    shared: psycopg.Connection, call: str, mode: str
) -> None:
    shared.execute(f"set local plan_cache_mode = {mode}")
    plans = Plans(shared)
    for active in (2, 1):
        shared.execute("select recdb.activate(%s)", [f"collaborative_filtering_v{active}"])
        for _ in range(7 if mode == "auto" else 1):
            scans = relations(plans.of(CALLS[call]), "user_vector")
            assert scans == {("Index Scan", f"user_vector_{active}", f"user_vector_{active}_embedding_idx")}


def test_similar_items_are_found_by_the_vector_index_of_the_active_version(shared: psycopg.Connection) -> None:
    nodes = Plans(shared).of(CALLS["similar items"])
    scans = relations(nodes, "item_vector")
    assert ("Index Scan", "item_vector_2", "item_vector_2_embedding_idx") in scans
    assert {relation for _, relation, _ in scans} == {"item_vector_2"}


def test_the_vector_indexes_are_hnsw(shared: psycopg.Connection) -> None:
    kinds = shared.execute(
        "select distinct a.amname from pg_class c join pg_am a on a.oid = c.relam where c.relname like '%embedding_idx'"
    ).fetchall()
    assert kinds == [("hnsw",)]


@pytest.mark.parametrize("call", ["a feed", "a guest", "the largest list"])
def test_the_items_that_neighbours_contribute_are_stored_beside_their_vectors(
    shared: psycopg.Connection, call: str
) -> None:
    """So recommend() is not slowed by users who changed since the last full refresh."""
    shared.execute(
        "select recdb.track(user_id, 'i1', 'view') from (select distinct user_id from recdb.interaction limit 1500) u"
    )
    shared.execute("call recdb.refresh()")

    nodes = Plans(shared).of(CALLS[call])

    assert relations(nodes, "user_vector") == {("Index Scan", "user_vector_2", "user_vector_2_embedding_idx")}
    assert not relations(nodes, "user_item") and not relations(nodes, "recent_user")


def test_a_profile_reads_each_of_its_items_once_from_every_learned_table(shared: psycopg.Connection) -> None:
    nodes = Plans(shared).of(CALLS["a feed"])

    for table in ("item_vector_2", "item_neighbor_2"):
        loops = [node["Actual Loops"] for node in nodes if node.get("Relation Name") == table]
        assert loops == [12]


def test_a_profile_is_read_from_one_index_alone(database: Database, db: psycopg.Connection) -> None:
    """VACUUM has visited the pages, so no table page is read for an interaction."""
    db.execute("set synchronous_commit = on")  # VACUUM marks only pages whose transactions are on disk
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind) "
        "select 'u' || n % 500, 'i' || n % 97, 'like' from generate_series(1, 20000) n"
    )
    db.execute("vacuum analyze recdb.interaction")

    with db.transaction():
        nodes = Plans(db).of("select * from recdb.profile('u7')")

    scans = {scan for scan in relations(nodes, "interaction") if scan[1] == "interaction"}
    assert scans == {("Index Only Scan", "interaction", "interaction_user")}


@pytest.mark.parametrize("statistics", ["none", "analysed"])
def test_what_is_trending_reads_eight_windows_by_index(
    database: Database, db: psycopg.Connection, statistics: str
) -> None:
    """Of 40,000 interactions in 400 days, those of eight hours: with and without statistics, in every plan mode."""
    db.execute("alter table recdb.interaction set (autovacuum_enabled = off)")
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select 'u' || n % 500, 'i' || n % 97, 'like', now() - n * interval '14.4 minutes' "
        "from generate_series(1, 40000) n"
    )
    if statistics == "analysed":
        analyze(db)
    for mode in ("auto", "force_generic_plan", "force_custom_plan"):
        with db.transaction():
            db.execute(f"set local plan_cache_mode = {mode}")
            nodes = Plans(db).of("select * from recdb.trending(10, '1 hour')")
        reads = [node for node in nodes if node.get("Index Name") == "interaction_created"]
        assert reads and max(node["Actual Rows"] * node["Actual Loops"] for node in reads) <= 40
        assert_no_scan([node for node in nodes if node.get("Relation Name") != "item"])  # there is no catalogue


def test_the_catalogue_is_read_from_the_top_down(shared: psycopg.Connection) -> None:
    """For ten items out of hundreds of candidates, only a few fetches' worth are looked up."""
    nodes = Plans(shared).of(CALLS["a feed"])
    lookups = [node for node in nodes if node.get("Relation Name") == "item"]
    assert lookups
    assert sum(node["Actual Loops"] for node in lookups) <= 100


@pytest.mark.parametrize("statistics", ["as the job left them", "analysed"])
def test_a_refresh_finds_what_is_new_by_index(shared: psycopg.Connection, statistics: str) -> None:
    """The cost of a refresh depends on the changes: it does not scan the interactions."""
    if statistics == "analysed":
        analyze(shared)
    shared.execute("select recdb.track('u7', 'i1', 'view')")
    plans = Plans(shared)
    for _ in range(2):
        nodes = plans.of("call recdb.refresh()")
        scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
        assert "interaction" not in scanned
        assert not any(name.startswith("user_vector") for name in scanned)
        assert relations(nodes, "interaction")


def test_excluded_ids_are_looked_up_in_a_hash_table(shared: psycopg.Connection) -> None:
    """Also below the personal list: the time of a long list of excluded ids grows with its length, not its square."""
    plans = Plans(shared)
    left_out = "(select array_agg('i' || n) from generate_series(0, 3000) n)"
    nodes = plans.of(f"select * from recdb.recommend('nobody', 1000, {left_out}, 'popular')")
    lists = [node for node in nodes if node["Node Type"] == "ProjectSet" and node["Actual Rows"] >= 1000]
    assert lists
    assert max(node["Actual Loops"] for node in lists) == 1


@pytest.mark.parametrize("statistics", ["none", "analysed"])
def test_two_years_of_partitions_are_read_by_index(database: Database, db: psycopg.Connection, statistics: str) -> None:
    """A list reads one index of each month, and a trend or a refresh none but those that can have its rows."""
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select 'u' || n % 300, 'i' || n * 7 % 97, 'like', now() - n * interval '35 minutes' "
        "from generate_series(1, 29000) n"
    )
    train(database, dimension=8, neighbors=20)
    partition(database, "month")
    if statistics == "none":
        db.execute("delete from pg_statistic using pg_inherits where starelid = inhrelid "
                   "and inhparent = 'recdb.interaction'::regclass")  # fmt: skip
    names = {name for (name,) in db.execute("select name from recdb.interaction_partitions()").fetchall()}
    assert len(names) >= 24
    for mode in ("auto", "force_generic_plan", "force_custom_plan"):
        for call, times in (("a feed", 7), ("an interaction", 2)):
            with db.transaction():
                db.execute(f"set local plan_cache_mode = {mode}")
                plans = Plans(db)
                for _ in range(times):
                    nodes = plans.of(CALLS[call])
                    read = [node for node in nodes if node.get("Relation Name", "").startswith("interaction_2")]
                    assert call != "a feed" or {node["Relation Name"] for node in read} == names
                    assert {node["Node Type"] for node in read} <= {
                        "Index Only Scan", "Index Scan", "Bitmap Heap Scan", "ModifyTable", "Seq Scan"
                    }  # fmt: skip
                    full = [node for node in read if node["Node Type"] == "Seq Scan"]
                    assert all(node["Actual Rows"] <= 1 for node in full)
        with db.transaction():
            db.execute(f"set local plan_cache_mode = {mode}")
            nodes = Plans(db).of("select * from recdb.trending(10, '1 hour')")
        assert len({node["Relation Name"] for node in nodes if "interaction_2" in node.get("Relation Name", "")}) <= 2
    with db.transaction():
        db.execute("set local enable_seqscan = off")  # months of a dozen pages are read as fast without an index
        nodes = Plans(db).of("call recdb.refresh()")
    packed = db.execute("select name || '_recorded' from recdb.interaction_partitions() where packed").fetchall()
    assert {name for (name,) in packed} <= {node.get("Index Name") for node in nodes}
