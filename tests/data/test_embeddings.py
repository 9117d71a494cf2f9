"""Embeddings of the catalogue: from recdb.item, from attached columns of any type, as SQL and the job read them."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from support.data import column
from support.doctor import findings

from recdb import migrate
from recdb.arrays.content import read_items_in_blocks
from recdb.arrays.described import read_described
from recdb.data.attach import Attached, attach, detach
from recdb.data.sources import Source
from recdb.database import Database
from recdb.errors import InvalidInput

Make = Callable[[], Database]

FORMS = {
    "vector": "'[1, 0.5, -2]'",
    "vector(3)": "'[1, 0.5, -2]'",
    "halfvec(3)": "'[1, 0.5, -2]'",
    "real[]": "'{1, 0.5, -2}'",
    "double precision[]": "'{1, 0.5, -2}'",
    "numeric[]": "'{1, 0.5, -2}'",
    "json": "'[1, 5e-1, -2.0]'",
    "jsonb": "'[1, 0.5, -2]'",
    "text": "' [1, .5, -2e0]'",
}


def post_table(db: psycopg.Connection, form: str) -> None:
    db.execute(f"create table public.post (id text primary key, title text, embedding {form})")


def source(embedding: str = "embedding") -> Source:
    return Source("items", "public.post", {"item": "id", "title": "title", "embedding": embedding})


def attach_posts(database: Database, embedding: str = "embedding") -> list[str]:
    found: list[Attached] = attach(database, [source(embedding)])
    return [remark.message for remark in found[0].warnings]


def embeddings(db: psycopg.Connection) -> dict[str, Any]:
    return dict(db.execute("select item_id, embedding from recdb.items").fetchall())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_attached_embedding_is_read(database: Database, db: psycopg.Connection, form: str) -> None:
    post_table(db, form)
    db.execute(f"insert into post values ('a', 'A', {FORMS[form]}), ('b', 'B', null)")

    attach_posts(database, "post.embedding")

    assert embeddings(db) == {"a": [1, 0.5, -2], "b": None}
    assert column(db.execute("select embedding from recdb.item_of('a')")) == [[1, 0.5, -2]]
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        (block,) = read_items_in_blocks(connection, embeddings=True)
    read = dict(zip(block.item_ids, block.vectors, strict=True))
    assert read["a"] is not None and read["a"].tolist() == [1, 0.5, -2] and read["b"] is None


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("real[]", ["{0, 0}", "{1, NaN}", "{1, Infinity}", "{1, NULL}", "{}", "{{1, 2}, {3, 4}}"]),
        ("double precision[]", ["{0, 0}", "{1, NaN}", "{1, -Infinity}", "{1, NULL}", "{}", "{1, 1e200}", "{{1, 2}}"]),
        ("vector", ["[0, 0]"]),
        ("text", ["", "[]", "none", "[1, two]", "[1,,2]", "[1e999]", "[NaN]", "[0, 0]"]),
        ("jsonb", ["null", "[]", "{}", '{"a": 1}', "[1, null]", '"x"', "[1e99]"]),
    ],
)  # fmt: skip
def test_what_is_no_embedding_counts_as_missing_and_is_counted(
    database: Database, db: psycopg.Connection, form: str, wrong: list[str]
) -> None:
    post_table(db, form)
    with db.cursor() as cursor:
        cursor.executemany(
            f"insert into post values (%s, 'x', %s::text::{form})",
            [(f"w{n}", text) for n, text in enumerate(wrong)],
        )
    db.execute(
        f"insert into post values ('good', 'x', '{'{1, 2}' if '[]' in form else '[1, 2]'}'), ('none', 'x', null)"
    )

    said = "\n".join(attach_posts(database))

    assert {item for item, embedding in embeddings(db).items() if embedding} == {"good"}
    assert f"{len(wrong)} of {len(wrong) + 1} embeddings in public.post.embedding count as missing" in said
    assert f"is NULL in 1 of {len(wrong) + 2} rows" in said


def test_tiny_numbers_are_0_and_no_error(database: Database, db: psycopg.Connection) -> None:
    post_table(db, "double precision[]")
    db.execute("insert into post values ('a', 'A', '{1e-300, 1}')")
    attach_posts(database)
    assert embeddings(db) == {"a": [0, 1]}


def test_mixed_widths_are_counted_and_the_commonest_is_read(database: Database, db: psycopg.Connection) -> None:
    post_table(db, "vector")
    db.execute("insert into post values ('a', 'A', '[1, 2]'), ('b', 'B', '[3, 4]'), ('c', 'C', '[1, 2, 3]')")

    said = "\n".join(attach_posts(database))

    assert "several widths (2 of 2, 1 of 3 numbers)" in said
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        content = read_described(connection)
        found = findings(connection)["embeddings"]
    assert found.state == "warn" and "2 of 2 numbers, 1 of 3: only those of 2 count" in found.message
    assert content is not None
    keys = dict(db.execute("select item_id, item_key from recdb.item_key").fetchall())
    read = [content.embeddings[keys[item]].tolist() for item in "abc"]
    assert read == [pytest.approx([0.4472136, 0.8944272]), pytest.approx([0.6, 0.8]), [0, 0]]


@pytest.mark.parametrize(
    ("form", "embedding", "message", "hint"),
    [
        ("vector(4001)", "embedding", "4,001 numbers wide", "smaller model"),
        ("boolean", "embedding", "of type boolean, which recdb does not read as embeddings", "halfvec"),
        ("sparsevec(3)", "embedding", "does not read as embeddings", "embedding::vector"),
        ("vector(3)", "vectors", "no column vectors", "embedding"),
        ("vector(3)", "post_embedding.embedding", "post_embedding is not public.post", "left join post_embedding"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_way_out(
    database: Database, db: psycopg.Connection, form: str, embedding: str, message: str, hint: str
) -> None:
    post_table(db, form)
    with pytest.raises(InvalidInput, match=message) as raised:
        attach_posts(database, embedding)
    assert hint in (raised.value.hint or "")


def test_a_column_of_another_type_later_is_read_again(database: Database, db: psycopg.Connection) -> None:
    post_table(db, "real[]")
    db.execute("insert into post values ('a', 'A', '{1, 2}')")
    attach_posts(database)
    db.execute("alter table post alter embedding type vector using embedding::vector")
    db.execute("call recdb.refresh()")
    assert embeddings(db) == {"a": [1, 2]}
    db.execute("create schema elsewhere; alter extension vector set schema elsewhere")
    migrate.upgrade(database)
    assert embeddings(db) == {"a": [1, 2]}


def test_recdbs_own_catalogue_takes_embeddings_up_to_the_width_of_an_index(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.item (item_id, embedding) values ('a', '[1, 2]'), ('b', '[1, 2, 3]')")
    shared.execute("insert into recdb.item (item_id, embedding) values ('c', %s)", [str([1.0] * 4000)])
    widths = "select item_id, cardinality(embedding) from recdb.items order by 1"
    assert shared.execute(widths).fetchall() == [("a", 2), ("b", 3), ("c", 4000)]
    with pytest.raises(psycopg.errors.CheckViolation, match="item_embedding_width"), shared.transaction():
        shared.execute("insert into recdb.item (item_id, embedding) values ('d', %s)", [str([1.0] * 4001)])


def test_an_embedding_of_the_catalogue_comes_before_one_that_recdb_made(
    database: Database, db: psycopg.Connection
) -> None:
    post_table(db, "vector")
    db.execute("insert into post values ('a', 'A', '[1, 2]'), ('b', 'B', null)")
    db.execute("insert into recdb.item (item_id, embedding) values ('c', '[3, 4]'), ('d', null)")
    db.execute("insert into recdb.item_embedding select i, '{9, 9}', '' from unnest(array['a', 'b', 'c', 'd']) i")
    said = "\n".join(attach_posts(database))

    assert "recdb embed made do not compare with those in public.post.embedding" in said
    # Of a table that brings embeddings, none of another model counts.
    assert embeddings(db) == {"a": [1, 2], "b": None, "c": [3, 4], "d": [9, 9]}
    detach(database, "post")
    db.execute("alter table post drop embedding")
    attach(database, [Source("items", "public.post", {"item": "id", "title": "title"})])
    assert embeddings(db) == {"a": [9, 9], "b": [9, 9], "c": [3, 4], "d": [9, 9]}
    detach(database, "post")
    assert embeddings(db) == {"c": [3, 4], "d": [9, 9]}


def test_a_source_attached_before_has_no_embedding_and_going_down_keeps_the_rest(
    database: Database, db: psycopg.Connection
) -> None:
    post_table(db, "vector")
    db.execute("insert into post values ('a', 'A', '[1, 2]')")
    attach_posts(database)
    db.execute("insert into recdb.item (item_id, title, embedding) values ('b', 'B', '[1]')")

    migrate.downgrade(database, "0006")
    migrate.upgrade(database)

    assert db.execute("select item_id, title, embedding from recdb.items order by 1").fetchall() == [
        ("a", "A", None), ("b", "B", None)
    ]  # fmt: skip
    attach_posts(database)
    assert embeddings(db)["a"] == [1, 2]
    migrate.downgrade(database, "0005")
    assert db.execute("select item_id, title from recdb.items order by 1").fetchall() == [("a", "A"), ("b", "B")]
    migrate.upgrade(database)
    assert embeddings(db) == {"a": None, "b": None}


def test_embeddings_go_with_pgvector_and_those_that_recdb_made_stay(database: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.item (item_id, embedding) values ('a', '[1, 2]'), ('b', '[1, 2]')")
    db.execute("insert into recdb.item_embedding values ('b', '{9, 9}', '')")
    db.execute("drop extension vector cascade")

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="vector"):
        db.execute("select embedding from recdb.items")
    assert "load them again" in "\n".join(migrate.upgrade(database))

    assert embeddings(db) == {"a": None, "b": [9, 9]}
    db.execute("update recdb.item set embedding = '[3, 4]' where item_id = 'a'")
    assert embeddings(db)["a"] == [3, 4]


def test_content_has_tokens_of_words_attributes_and_owner(database: Database, db: psycopg.Connection) -> None:
    db.execute(
        """insert into recdb.item (item_id, owner_id, title, attributes) values ('a', 'u1', 'The Title, again the',
        '{"genres": ["Comedy", "Drama"], "year": 1995, "maker": {"country": "FR"}, "new": true, "none": null}')"""
    )
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        (block,) = read_items_in_blocks(connection)
    texts = [
        "genres=comedy", "genres=drama", "year=1995", "maker=fr", "new=true", "owner=u1", "word=the", "word=title",
        "word=again",
    ]  # fmt: skip
    expected = column(db.execute("select hashtextextended(t, 0) from unnest(%s::text[]) t order by 1", [texts]))
    assert sorted(block.tokens.numbers.tolist()) == expected
    assert block.item_keys.tolist() == [0] and block.vectors == [None]
