"""recdb size: its figures against a real database of 100,000 users, and its plans."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from support import commands

from recdb import job
from recdb.data.generate import generate
from recdb.database import Database, fetch_row
from recdb.errors import InvalidInput
from recdb.job.aging import partition
from recdb.sizing import TRAINING_INTERACTIONS, Load, Server, make_plan, on_one_server, parts

GB = 10**9

# What the parts are made of, by the start of a relation's name.
RELATIONS = {
    "interactions": ["interaction"],
    "weighted interactions": ["user_item_settled"],
    "user vectors": ["user_vector_"],
    "users": ["user_key"],
    "item vectors, neighbours": ["item_vector_", "item_neighbor_"],
    "items": ["item", "item_key", "item_popularity", "content_token", "content_vector", "new_item", "little_shown"],
}


def measured(connection: psycopg.Connection, names: list[str]) -> int:
    """Return the bytes of tables with their indexes; a name that ends with `_` stands for those of each version."""
    (found,) = fetch_row(
        connection,
        """
        select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
        from pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'm')
          and regexp_replace(c.relname, '_[0-9]+$', '_') = any (%s)
        """,
        [names],
    )
    return int(found)


def test_the_figures_are_those_of_a_database_of_100000_users(db: psycopg.Connection, database: Database) -> None:
    (most,) = fetch_row(db, "update recdb.config set kept_models = 1 returning training_interactions")
    assert most == TRAINING_INTERACTIONS
    generate(database, users=100_000, items=3_000, count=1_000_000, days=720, seed=1)
    job.run(database, full=True)
    users, items, rows, pairs, of_user, of_item, metadata, links = fetch_row(
        db,
        """
        select (select count(*) from recdb.user_key), (select count(*) from recdb.item_key),
            (select count(*) from recdb.interaction), (select count(*) from recdb.user_item),
            (select avg(octet_length(user_id)) from recdb.user_key),
            (select avg(octet_length(item_id)) from recdb.item_key),
            (select avg(pg_column_size(metadata)) from recdb.interaction),
            (select avg(cardinality(neighbor_keys)) from recdb.item_neighbor)
        """,
    )
    load = Load(
        users, items, rows, pairs, round(of_user), round(of_item), round(metadata), item_neighbors=round(links),
        kept_models=1,
    )  # fmt: skip
    for part in parts(load):
        real = measured(db, RELATIONS[part.name])
        assert part.disk == pytest.approx(real, rel=0.2), part.name
    (whole,) = fetch_row(db, "select pg_database_size(current_database())")
    assert on_one_server(load).disk == pytest.approx(whole, rel=0.2)

    partition(database, every="month")
    (real,) = fetch_row(
        db, "select sum(pg_total_relation_size(t.relid)) from pg_partition_tree('recdb.interaction') t where t.isleaf"
    )
    assert parts(replace(load, partitioned=True))[0].disk == pytest.approx(float(real), rel=0.2)


LOAD = Load(users=1_000_000, items=50_000, interactions=40_000_000, pairs=16_000_000)


def test_a_load_that_fits_takes_one_server_and_more_calls_take_replicas() -> None:
    large = Server(128 * GB, 16)
    assert (make_plan(LOAD, large, 100).cells, make_plan(LOAD, large, 100).copies) == (1, 1)
    busy = make_plan(LOAD, large, 10 * 16 * 1000 / on_one_server(LOAD).call_ms)
    assert busy.cells == 1
    assert busy.copies > 10


def test_what_does_not_fit_into_memory_is_divided_among_cells() -> None:
    small = Server(4 * GB, 4)
    plan = make_plan(LOAD, small, 0)
    assert plan.cells > 1
    assert plan.copies == 1
    assert plan.hot <= 3 * GB
    assert make_plan(LOAD, small, 100_000).cells > plan.cells


def test_items_that_are_too_many_for_a_server_are_refused() -> None:
    with pytest.raises(InvalidInput, match="items alone"):
        make_plan(LOAD, Server(GB / 100, 4), 0)


def test_longer_ids_metadata_and_wider_vectors_take_more() -> None:
    one = on_one_server(LOAD).disk
    for longer in ({"user_id_bytes": 36}, {"item_id_bytes": 36}, {"metadata_bytes": 60}, {"dimension": 256}):
        assert on_one_server(Load(1_000_000, 50_000, 40_000_000, 16_000_000, **longer)).disk > one * 1.03


@pytest.fixture
def size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., commands.Ended]:
    return lambda *options: commands.run(["size", *options], monkeypatch, capsys)


def test_the_command_reads_short_numbers_and_prints_json(size: Callable[..., commands.Ended]) -> None:
    options = ["--users", "1M", "--items", "50k", "--events", "40_000_000", "--pairs", "16M", "--json"]
    found = json.loads(size(*options).output)
    assert found["disk"] == pytest.approx(on_one_server(LOAD).disk)
    assert found["cells"] == found["copies"] == 1


def test_no_more_pairs_are_assumed_than_there_can_be(size: Callable[..., commands.Ended]) -> None:
    assert "1B interactions of 200M pairs" in size("--users", "1M", "--items", "200", "--events", "1B").output
    assert "1M interactions of 100 pairs" in size("--users", "10", "--items", "10", "--events", "1,000,000").output


def test_a_server_that_is_too_small_for_the_items_is_refused_with_the_size_that_suffices(
    size: Callable[..., commands.Ended],
) -> None:
    options = ["--users", "1M", "--items", "1M", "--events", "40M", "--memory"]
    refused = size(*options, "4GB")
    (needed,) = re.findall(r"servers of (\d+) GB", refused.errors)
    assert size(*options, f"{needed}GB").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users", "many"], "--users many"),
        (["--users", "-5"], "--users -5"),
        (["--users", "0"], "--users 0"),
        (["--users", "1e999"], "--users 1e999"),
        (["--pairs", "41M"], "at most 40,000,000"),
        (["--items", "10", "--pairs", "20M"], "at most 10,000,000"),
        (["--users", "1,5M"], "--users 1,5M"),
        (["--users", "9" * 400], "--users 9"),
        (["--memory", "128000000000B"], "--memory 128000000000B"),
        (["--memory", "64B"], "--memory 64B"),
        (["--memory", "none"], "--memory none"),
        (["--memory", "1MB"], "items alone"),
        (["--calls", "-1"], "--calls -1"),
    ],
)
def test_wrong_numbers_have_one_clear_error(
    size: Callable[..., commands.Ended], options: list[str], message: str
) -> None:
    ended = size("--users", "1M", "--items", "50k", "--events", "40M", *options)
    ended.assert_plain()
    assert ended.code
    assert message in ended.errors
