"""How the job reads the catalogue: no row more often than it has to, by one tokenizer, in bounded memory."""

from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, record, tastes
from support.servers import Server

from recdb import job, migrate
from recdb.arrays.content import read_content
from recdb.arrays.described import read_described
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database
from recdb.job.embed import embed

COUNTED = """
create table post (id text primary key, title text);
insert into post select 'i' || n, 'A post about ' || (array['apples', 'bees', 'clouds'])[1 + n % 3]
from generate_series(0, 69) n;
create sequence reads;
create function read_one() returns boolean language plpgsql volatile as $$
begin
    perform nextval('public.reads');
    return true;
end $$;
create view counted as select p.id, p.title from post p where read_one();
"""


def rows_read(db: psycopg.Connection) -> int:
    (count,) = column(db.execute("select case when is_called then last_value else 0 end from reads"))
    return int(count)


def test_a_training_reads_the_catalogue_once_and_once_more_to_explore(
    database: Database, db: psycopg.Connection
) -> None:
    """Twice only while a scenario explores."""
    db.execute(COUNTED)
    record(db, tastes(users=60, items=60))
    attach(database, [Source("items", "public.counted", {"item": "id", "title": "title"})])

    before = rows_read(db)
    job.run(database)
    assert rows_read(db) - before == 70
    assert column(db.execute("select scale > 0 from recdb.model_content")) == [True]
    assert column(db.execute("select item_key from recdb.little_shown")) == []

    db.execute("insert into post values ('new', 'A post about bees')")
    before = rows_read(db)
    db.execute("call recdb.refresh()")
    # All rows to find the new item, and the new item itself, which the view looks for among all.
    assert rows_read(db) - before <= 71 + 71
    before = rows_read(db)
    db.execute("call recdb.refresh()")
    assert rows_read(db) - before <= 71

    # The first refresh after a scenario began to explore fills its pool; from then on a training does.
    db.execute("insert into recdb.scenario (name, explore) values ('curious', 0.5)")
    db.execute("call recdb.refresh()")
    query = "select count(*) from recommend('u1', 20, scenario => 'curious') where reason = 'explored'"
    assert column(db.execute(query)) == [10]
    db.execute("delete from recdb.little_shown")
    before = rows_read(db)
    job.run(database, full=True)
    # All rows to learn from them, and all to choose those that scenarios may explore.
    assert rows_read(db) - before == 71 + 71
    assert column(db.execute(query)) == [10]


def test_the_newest_of_many_new_items_get_a_key_and_are_read(database: Database, db: psycopg.Connection) -> None:
    db.execute(
        "insert into recdb.item (item_id, title, published_at, available, embedding) "
        "select 'i' || n, 'same words', '2026-01-01'::timestamptz + n * interval '1 day', n <> 11, '[3, 4]' "
        "from generate_series(1, 12) n"
    )
    db.execute("insert into recdb.item (item_id, title) values ('timeless', 'same words')")
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        described = read_described(connection, most_untouched=4)
        assert described is not None
        keys = dict(db.execute("select item_id, item_key from recdb.item_key").fetchall())
        assert sorted(keys) == ["i10", "i12", "i8", "i9"]
        tokens = described.tokens.toarray()
        assert tokens.shape == (max(keys.values()) + 1, 2) and (tokens[list(keys.values())] == 1).all()
        assert not tokens[0].any()
        assert described.embeddings[list(keys.values())].tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]] * 4
        assert described.available[list(keys.values())].tolist() == [
            db.execute("select published_at <= now() from recdb.item where item_id = %s", [item]).fetchone() == (True,)
            for item in keys
        ]
        again = read_described(connection, most_untouched=4)
    assert again is not None and len(column(db.execute("select item_id from recdb.item_key"))) == 8


def test_training_embedding_and_the_rival_see_the_same_tokens(database: Database, db: psycopg.Connection) -> None:
    db.execute(
        "insert into recdb.item (item_id, owner_id, title, attributes) "
        """select 'i' || n, 'u' || n % 2, 'Büch über ' || n % 3, '{"topic": "Tea"}' from generate_series(1, 9) n"""
    )
    embed(database, model="tfidf", dimension=4)
    made = column(db.execute("select token from recdb.embedding_token order by 1"))
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        described, content = read_described(connection), read_content(connection)
    expected = column(
        db.execute(
            "select distinct f.token from recdb.read_items() i "
            "cross join lateral recdb.item_tokens(i.owner_id, i.title, i.attributes) f order by 1"
        )
    )
    assert described is not None
    assert made == expected == described.token_ids.tolist() == content.tokens.common().tolist()
    assert np.diff(content.tokens.matrix(content.tokens.common()).indptr).tolist() == [5] * 9


@pytest.mark.parametrize(
    ("first", "second", "shared_texts"),
    [
        ({"genre": "Action, Comedy"}, {"genre": "comedy"}, ["genre=comedy"]),
        ({"genre": "action|comedy;drama"}, {"genre": ["Comedy", "Drama "]}, ["genre=comedy", "genre=drama"]),
        ({"genre": "Action / Comedy"}, {"genre": "action"}, ["genre=action"]),
        ({"place": "Home > Kitchen"}, {"place": "kitchen"}, ["place=kitchen"]),
        ({"genre": " Acid  Jazz"}, {"genre": "acid jazz"}, ["genre=acid jazz"]),
        ({"year": 1995.0, "cost": "12.50"}, {"year": "1995", "cost": 12.5}, ["year=1995", "cost=12.5"]),
        ({"cost": "1,234.50"}, {"cost": 1234.5}, ["cost=1234.5"]),
        ({"tag": "new york"}, {"tag": "new delhi"}, []),
        (
            {"about": "A recipe for apple pie with cinnamon"},
            {"about": "Apple pie, my grandmother's recipe"},
            ["word=apple", "word=pie", "word=recipe"],
        ),
        ({"about": "How to bake bread"}, "Bread for all", ["word=bread"]),
        ("東京の天気予報です", "東京の観光案内です", ["word=東京", "word=京の", "word=です"]),
        ("如何学习机器学习", "机器学习入门", ["word=学习", "word=机器", "word=器学"]),
        ({"about": "東京の天気予報です"}, "iPhoneと東京", ["word=東京"]),
        ("ร้านอาหารไทย", "อาหารไทย", [f"word={'อาหารไทย'[n : n + 2]}" for n in range(7)]),
    ],
)  # fmt: skip
def test_items_share_the_parts_of_their_values_and_the_words_of_every_script(
    shared: psycopg.Connection, first: Any, second: Any, shared_texts: list[str]
) -> None:
    def tokens(of: Any) -> set[int]:
        title, attributes = (of, None) if isinstance(of, str) else (None, Jsonb(of))
        return set(column(shared.execute("select token from recdb.item_tokens(null, %s, %s)", [title, attributes])))

    expected = column(shared.execute("select hashtextextended(t, 0) from unnest(%s::text[]) t", [shared_texts]))
    assert tokens(first) & tokens(second) == set(expected)


def test_the_tokens_of_an_item_are_bounded(shared: psycopg.Connection) -> None:
    many = Jsonb({"a": [f"value {n}" for n in range(30_000)], "b": ",".join(map(str, range(30_000)))})
    (count,) = shared.execute("select count(*) from recdb.item_tokens('o', 'A title', %s)", [many]).fetchone() or (0,)
    assert 1000 <= count <= 3010


def test_words_of_every_script_count_in_a_database_of_the_locale_c(server: Server) -> None:
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("create database words_c template template0 encoding 'UTF8' locale 'C'")
    database = Database(server.conninfo("words_c"), "test")
    migrate.upgrade(database)
    title = "война и мир, «naïve» café — 東京 “旅行” हिन्दी 🦊 λύκος…"
    words = ["война", "и", "мир", "naïve", "café", "東京", "旅行", "हिन्दी", "λύκος"]
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        found = column(db.execute("select token from recdb.item_tokens(null, %s, null) order by 1", [title]))
        expected = "select hashtextextended('word=' || w, 0) from unnest(%s::text[]) w order by 1"
        assert found == column(db.execute(expected, [words]))
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("drop database words_c with (force)")
