"""`recdb embed`: embeddings of the catalogue's texts, made on this machine, the same in every run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from support.data import column
from support.doctor import findings
from support.outside import recdb

from recdb import migrate
from recdb.arrays.described import read_described
from recdb.data.attach import attach
from recdb.data.generate import generate
from recdb.data.sources import Source
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError
from recdb.job.embed import embed
from recdb.job.language import load_language_model
from recdb.learn.text_vectors import fit_text_basis
from recdb.learn.tokens import TokenSets

TITLES = {
    "a": "The red fox in the wood",
    "b": "A red fox and a grey wolf in the wood",
    "c": "Baking bread with yeast at home",
    "d": "Bread and yeast, baking for all",
    "e": "",
}


def put(db: psycopg.Connection, titles: dict[str, str]) -> None:
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into recdb.item (item_id, title) values (%s, %s) "
            "on conflict (item_id) do update set title = excluded.title",
            list(titles.items()),
        )


def embeddings(db: psycopg.Connection) -> dict[str, Any]:
    rows = db.execute("select item_id, embedding from recdb.items order by 1").fetchall()
    return {item: None if embedding is None else np.array(embedding) for item, embedding in rows}


def test_texts_that_are_alike_have_embeddings_that_are_alike(database: Database, db: psycopg.Connection) -> None:
    put(db, TITLES)

    made = embed(database, dimension=8)

    assert (made.method, made.dimension, made.items, made.embedded, made.without) == ("tfidf", 8, 5, 4, 1)
    found = embeddings(db)
    assert found["e"] is None and np.linalg.norm(found["a"]) == pytest.approx(1, abs=1e-5)
    assert found["a"] @ found["b"] > 0.5 > found["a"] @ found["c"]
    assert found["c"] @ found["d"] > 0.5 > found["b"] @ found["d"]
    assert column(db.execute("select vector_dims(embedding) from recdb.item where item_id = 'a'")) == [8]


def test_only_new_and_changed_items_are_embedded_again(database: Database, db: psycopg.Connection) -> None:
    put(db, TITLES)
    embed(database, dimension=8)
    before = embeddings(db)

    assert embed(database).embedded == 0
    put(db, {"f": "a fox, a wolf", "a": "bread at home"})
    db.execute("delete from recdb.item where item_id = 'b'")
    again = embed(database)

    assert (again.embedded, again.again, again.dimension) == (2, False, 8)
    after = embeddings(db)
    assert (after["c"] == before["c"]).all() and (after["d"] == before["d"]).all()
    assert after["f"] @ before["b"] > 0.5 and after["a"] @ after["c"] > 0.5
    assert column(db.execute("select item_id from recdb.item_embedding order by 1")) == ["a", "c", "d", "f"]
    assert embed(database, dimension=4).again and len(embeddings(db)["c"]) == 4
    put(db, {f"n{n}": "a red fox" for n in range(10)})
    assert embed(database).again


def test_an_item_that_lost_its_text_loses_its_embedding(database: Database, db: psycopg.Connection) -> None:
    put(db, TITLES)
    embed(database)
    put(db, {"a": ""})
    assert embed(database).without == 2
    assert embeddings(db)["a"] is None


def test_an_attached_catalogue_is_not_written_to(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table public.post (id text primary key, title text)")
    with db.cursor() as cursor:
        cursor.executemany("insert into post values (%s, %s)", list(TITLES.items()))
    attach(database, [Source("items", "public.post", {"item": "id", "title": "title"})])
    put(db, {"own": "The grey wolf"})

    embed(database)

    found = embeddings(db)
    assert found["a"] @ found["b"] > 0.3 > found["a"] @ found["c"] and found["own"] @ found["b"] > 0.3
    assert db.execute("select * from public.post").fetchall() == list(TITLES.items())


def test_embeddings_that_the_catalogue_brings_are_kept(database: Database, db: psycopg.Connection) -> None:
    put(db, TITLES)
    embed(database)
    db.execute("update recdb.item set embedding = '[1, 2]' where item_id = 'a'")
    with pytest.raises(RecdbError, match="1 item has an embedding that recdb did not make") as raised:
        embed(database)
    assert "update recdb.item set embedding = null" in (raised.value.hint or "")
    assert embeddings(db)["a"].tolist() == [1, 2]
    db.execute("update recdb.item set embedding = null")
    assert embed(database).embedded == 0
    assert len(embeddings(db)["a"]) == 256


def test_removed_embeddings_make_room_for_those_of_the_catalogue(database: Database, db: psycopg.Connection) -> None:
    put(db, TITLES)
    embed(database, dimension=2)
    db.execute("update recdb.item set embedding = '[1, 2]' where item_id in ('a', 'b')")
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        assert "do not compare" in findings(connection)["embeddings"].message
        mixed = read_described(connection)
    keys = dict(db.execute("select item_id, item_key from recdb.item_key").fetchall())
    assert mixed is not None
    assert [item for item in "abcd" if mixed.embeddings[keys[item]].any()] == ["a", "b"]

    assert "removed the embeddings that recdb made of 4 items" in recdb("embed", "--remove", database=database)

    assert {item for item, vector in embeddings(db).items() if vector is not None} == {"a", "b"}
    db.execute("update recdb.item set embedding = null")
    assert embed(database, dimension=3).embedded == 4
    assert len(embeddings(db)["a"]) == 3


def test_embeddings_survive_pgvector(database: Database, db: psycopg.Connection) -> None:
    put(db, TITLES)
    embed(database)
    before = embeddings(db)
    db.execute("drop extension vector cascade")
    migrate.upgrade(database)
    assert (embeddings(db)["a"] == before["a"]).all()
    assert embed(database).embedded == 0
    assert column(db.execute("select count(embedding) from recdb.item")) == [4]


def test_the_same_words_give_the_same_numbers_in_every_process(database: Database, db: psycopg.Connection) -> None:
    """And in any order of the items."""
    put(db, TITLES)
    embed(database, dimension=8)
    before = embeddings(db)
    db.execute("truncate recdb.item, recdb.item_embedding")
    put(db, dict(reversed(TITLES.items())))

    assert "embedded 4 of 5 items" in recdb("embed", "--dimension", "8", "--full", database=database)

    after = embeddings(db)
    assert {item: vector.tolist() for item, vector in after.items() if vector is not None} == {
        item: vector.tolist() for item, vector in before.items() if vector is not None
    }


def test_embeddings_of_words_that_recdb_numbered_in_another_way_are_made_again(
    database: Database, db: psycopg.Connection
) -> None:
    """As after an upgrade from a version whose words were taken in Python."""
    put(db, TITLES)
    embed(database, dimension=8)
    db.execute("update recdb.embedding_basis set method = 'tfidf'")
    db.execute("update recdb.embedding_token set token = token + 1")

    made = embed(database)

    assert made.again and made.embedded == 4 and made.dimension == 256


def test_the_nearest_items_share_their_genre(database: Database, db: psycopg.Connection) -> None:
    """On a generated catalogue, whose genres only the attributes name."""
    generate(database, users=50, items=300, count=500, days=30, seed=3)
    kinds = dict(db.execute("select item_id, attributes - 'generated' from recdb.item").fetchall())

    embed(database)

    found = embeddings(db)
    items = list(found)
    matrix = np.array([found[item] for item in items])
    likeness = matrix @ matrix.T
    np.fill_diagonal(likeness, -1)
    nearest = [kinds[items[place]] for place in likeness.argmax(axis=1)]
    genres = [kinds[item]["topic"] for item in items]
    same = np.mean([kind["topic"] == genre for kind, genre in zip(nearest, genres, strict=True)])
    chance = sum((genres.count(genre) / len(genres)) ** 2 for genre in set(genres))
    assert same > 3 * chance


def test_an_empty_catalogue_and_a_catalogue_without_words(database: Database, db: psycopg.Connection) -> None:
    assert embed(database).items == 0
    put(db, {"a": "alone", "b": "unique"})
    made = embed(database)
    assert (made.items, made.embedded, made.without) == (2, 0, 2)


def test_the_command_line(database: Database, db: psycopg.Connection, tmp_path: Path) -> None:
    catalogue = tmp_path / "items.csv"
    catalogue.write_text("item_id,title\n" + "".join(f'{item},"{title}"\n' for item, title in TITLES.items()))
    recdb("load", "--items", str(catalogue), database=database)
    said = recdb("embed", "--dimension", "16", database=database)
    assert "embedded 4 of 5 items by the catalogue's own words (TF-IDF and SVD), 16 numbers each" in said
    assert "warning: 1 item without an embedding" in said
    answered = recdb("embed", "--json", database=database)
    assert json.loads(answered[answered.index("{") : answered.index("}") + 1])["embedded"] == 0
    assert "no model nobody/has-it" in recdb("embed", "--model", "nobody/has-it", database=database, code=1) or (
        "no library for models" in recdb("embed", "--model", "nobody/has-it", database=database, code=1)
    )
    recdb("embed", "--download", database=database, code=2)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A tiny model of model2vec: foxes and wolves point one way, bread and yeast another."""
    model2vec = pytest.importorskip("model2vec")
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415  it comes with model2vec

    words = {"[UNK]": 0, "fox": 1, "wolf": 2, "bread": 3, "yeast": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.array([[0, 0], [1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)
    folder = tmp_path / "tiny"
    (tmp_path / "elsewhere").mkdir()
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(folder)
    return folder


def test_a_model_from_a_local_folder_embeds(database: Database, db: psycopg.Connection, model_folder: Path) -> None:
    put(db, TITLES)
    embed(database, dimension=8)

    made = embed(database, model=str(model_folder))

    assert (made.method, made.dimension, made.again) == (f"model2vec:{model_folder}", 2, True)
    found = embeddings(db)
    assert found["a"] @ found["b"] > 0.9 and found["a"] @ found["c"] < 0.5
    moved = model_folder.rename(model_folder.parent / "elsewhere" / "tiny")
    assert embed(database, model=str(moved)).embedded == 0
    with pytest.raises(InvalidInput, match="there is no model"):
        embed(database)
    with pytest.raises(InvalidInput, match="makes embeddings of 2 numbers, not of 8"):
        embed(database, model=str(moved), dimension=8)
    assert embed(database, model="tfidf").method == "tfidf"


def test_no_basis_of_nothing() -> None:
    basis = fit_text_basis(TokenSets.of_lists([]), dimension=4)
    vectors = basis.embed(TokenSets.of_lists([np.array([7]), np.array([], dtype=np.int64)]))
    assert vectors.shape == (2, 4) and not vectors.any()


def test_a_folder_without_a_model_asks_for_another_where_the_library_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("model2vec")
    with pytest.raises(InvalidInput, match="cannot be loaded") as raised:
        load_language_model(str(tmp_path))
    assert "name the folder of a model" in (raised.value.hint or "")
