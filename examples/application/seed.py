"""Fill the application's tables with users who have tastes, posts with readable texts, and interactions.

    python seed.py postgresql://… --users 10000 --posts 4000 --interactions 400000

The script needs the tables of schema.sql and nothing of recdb. The same seed gives the same rows, except that all
times are relative to now.
"""

import argparse
import random
import time
import tomllib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

HERE = Path(__file__).parent
DAYS = 60

FIRST_NAMES = (
    "Ada", "Amir", "Anouk", "Ben", "Björn", "Camille", "Chidi", "Dora", "Elif", "Emil", "Farah", "Finn", "Greta",
    "Hana", "Hugo", "Ines", "Ivo", "Jonas", "Joy", "Kai", "Lena", "Leo", "Lucía", "Mads", "Maya", "Mina", "Noor",
    "Oskar", "Paula", "Priya", "Quinn", "Rafael", "Ravi", "Rosa", "Sami", "Selma", "Sofia", "Tariq", "Theo", "Uma",
    "Vera", "Wanda", "Yara", "Yuki", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abbot", "Almeida", "Aydin", "Baker", "Bergström", "Castillo", "Chen", "Costa", "Dahl", "Eriksen", "Fischer",
    "Fontaine", "Garcia", "Haddad", "Hansen", "Horvat", "Ibrahim", "Ito", "Jansen", "Kaya", "Keller", "Kowalski",
    "Larsen", "Lindqvist", "Marino", "Mensah", "Moreau", "Nakamura", "Novak", "Okafor", "Olsen", "Patel", "Petrov",
    "Quist", "Rossi", "Sato", "Silva", "Sharma", "Tanaka", "Toth", "Urban", "Vargas", "Weber", "Winter", "Zhang",
)  # fmt: skip

# The shares of a user's looks that go to their first, second and third taste. The rest goes to random topics.
TASTE_SHARES = (0.55, 0.25, 0.12)
# The posts of a topic are in circles. This share of a user's looks at a topic goes to one circle.
CIRCLES = 5
CIRCLE_SHARE = 0.7
# One user in so many writes posts, each about one topic, and some write much more than others.
READERS_PER_AUTHOR = 10
# Each look is a view; some looks go on to a click, a like and a share. These are the shares of looks that end at each
# kind, so that of all interactions 50 % are views, 30 % clicks, 15 % likes and 5 % shares.
KINDS = ("view", "click", "like", "share")
DEPTH_SHARES = (0.4, 0.3, 0.2, 0.1)

# Some shares and likes lead to other rows: one share in four to a repost, one like in four to a comment, and one like
# in eight to a follow of the author.
AROUND = """
insert into post (id, user_id, topic, content, original_post_id, created_at)
select distinct on (i.user_id, i.post_id)
    md5('repost' || i.id)::uuid::text, i.user_id, p.topic, '', i.post_id, i.created_at
from user_interaction i
join post p on p.id = i.post_id
where i.interaction_type = 'share' and hashtext(i.id) & 3 = 0;

insert into comment (id, user_id, post_id, content, created_at)
select md5('comment' || i.id)::uuid::text, i.user_id, i.post_id, 'More of this, please.', i.created_at
from user_interaction i
where i.interaction_type = 'like' and hashtext(i.id) & 3 = 1;

insert into follow (follower_id, following_id, created_at)
select distinct on (i.user_id, p.user_id) i.user_id, p.user_id, i.created_at
from user_interaction i
join post p on p.id = i.post_id
where i.interaction_type = 'like' and hashtext(i.id) & 7 = 2 and p.user_id <> i.user_id;
"""


def write_posts(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """Write `count` different posts and return the topic and the text of each."""
    topics: dict[str, Any] = tomllib.loads((HERE / "posts.toml").read_text())
    closings = topics.pop("closing")
    posts: dict[str, str] = {}
    while len(posts) < count:
        topic = chance.choice(list(topics))
        words = topics[topic]
        sentences = [chance.choice(words["opening"])]
        sentences += chance.sample(words["middle"], chance.choice((0, 1, 1, 1, 2, 2, 3)))
        if chance.random() < 0.25:
            sentences.append(chance.choice(closings))
        filled = (
            sentence.format(
                thing=chance.choice(words["thing"]), place=chance.choice(words["place"]), n=chance.randint(3, 19)
            )
            for sentence in sentences
        )
        posts.setdefault(" ".join(text[0].upper() + text[1:] for text in filled), topic)
    return [(topic, text) for text, topic in posts.items()]


def name_people(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """Make up `count` people and return the handle and the name of each."""
    people: dict[str, str] = {}
    while len(people) < count:
        name = f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"
        handle = name.lower().replace(" ", ".")
        people[handle if handle not in people else f"{handle}{len(people)}"] = name
    return list(people.items())


def utc(seconds: float) -> datetime:
    """Convert seconds of the epoch into a UTC time without time zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def copy(connection: psycopg.Connection, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Append rows to a table."""
    with connection.cursor().copy(f"copy {table} ({columns}) from stdin") as sink:
        for row in rows:
            sink.write_row(row)


def draw_looks(
    rng: np.random.Generator, users: int, topics: np.ndarray, published: np.ndarray, now: float, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw `count` looks by taste and popularity.

    Returns the positions of the users and of the posts, and the times in seconds of the epoch.
    """
    names, of_topic = np.unique(topics, return_inverse=True)
    groups = of_topic * CIRCLES + rng.integers(0, CIRCLES, len(topics))
    appeal = rng.lognormal(0, 1.1, len(topics))
    activity = rng.lognormal(0, 0.8, users)
    tastes = np.argsort(rng.random((users, len(names))), axis=1)[:, : len(TASTE_SHARES)]
    circles = rng.integers(0, CIRCLES, users)
    who = rng.choice(users, count, p=activity / activity.sum())
    slot = np.searchsorted(np.cumsum(TASTE_SHARES), rng.random(count))
    topic = np.where(
        slot < len(TASTE_SHARES),
        tastes[who, np.minimum(slot, len(TASTE_SHARES) - 1)],
        rng.integers(0, len(names), count),
    )
    circle = np.where(rng.random(count) < CIRCLE_SHARE, circles[who], rng.integers(0, CIRCLES, count))
    wanted = topic * CIRCLES + circle
    what = rng.choice(len(topics), count, p=appeal / appeal.sum())
    for group in np.unique(groups):
        members, asked = np.flatnonzero(groups == group), wanted == group
        what[asked] = rng.choice(members, asked.sum(), p=appeal[members] / appeal[members].sum())
    seconds = published[what] + (now - published[what]) * rng.beta(0.7, 2.0, count)
    return who, what, seconds


def draw_authors(rng: np.random.Generator, users: int, topics: np.ndarray) -> np.ndarray:
    """Draw the author of each post and return the authors' positions among the users."""
    names, of_topic = np.unique(topics, return_inverse=True)
    authors = rng.permutation(users)[: max(len(names), users // READERS_PER_AUTHOR)]
    diligence = rng.lognormal(0, 1.2, len(authors))
    drawn = np.empty(len(topics), dtype=int)
    for topic in range(len(names)):
        posts, shares = of_topic == topic, np.where(np.arange(len(authors)) % len(names) == topic, diligence, 0)
        drawn[posts] = rng.choice(authors, posts.sum(), p=shares / shares.sum())
    return drawn


def seed(url: str, *, users: int, posts: int, interactions: int, number: int = 1) -> None:
    """Fill the tables of the database at `url`, then vacuum and analyse them."""
    chance, rng = random.Random(number), np.random.default_rng(number)
    now = time.time()
    texts = write_posts(chance, posts)
    people = name_people(chance, users)
    user_ids, post_ids = ([str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in some] for some in (people, texts))
    ages = np.sort(rng.random(posts) * DAYS * 86400)
    published = now - ages
    looks = interactions // 2
    topics = np.array([topic for topic, _ in texts])
    who, what, seconds = draw_looks(rng, len(people), topics, published, now, looks)
    depths = rng.choice(len(KINDS), looks, p=DEPTH_SHARES) + 1

    with psycopg.connect(url) as connection:
        joined = utc(now - (DAYS + 1) * 86400)
        copy(
            connection,
            '"user"',
            "id, handle, name, created_at",
            ((user, *person, joined) for user, person in zip(user_ids, people, strict=True)),
        )
        authors = draw_authors(rng, len(people), topics)
        copy(
            connection,
            "post",
            "id, user_id, topic, content, created_at",
            (
                (post, user_ids[author], *text, utc(moment))
                for post, author, text, moment in zip(post_ids, authors, texts, published.tolist(), strict=True)
            ),
        )
        copy(
            connection,
            "user_interaction",
            "id, user_id, post_id, interaction_type, created_at",
            (
                (f"seed-{look}-{kind}", user_ids[user], post_ids[post], kind, utc(moment))
                for look, (user, post, moment, depth) in enumerate(
                    zip(who.tolist(), what.tolist(), seconds.tolist(), depths.tolist(), strict=True)
                )
                for kind in KINDS[:depth]
            ),
        )
        connection.execute(AROUND)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('vacuum analyze "user", post, user_interaction, comment, follow')


def main() -> None:
    """Read the command line and fill the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--posts", type=int, default=4_000)
    parser.add_argument("--interactions", type=int, default=400_000)
    seed(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
