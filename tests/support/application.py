"""The database of a feed application, as Prisma makes it: users, posts, reposts, likes, follows and comments.

Ids are text (cuids), uuids or bigints; times are `timestamp(3)` without time zone, holding UTC; kinds are text or an
enum; `"user"` and `"like"` are reserved words. Nothing in here refers to recdb.
"""

from typing import Any, Literal

import psycopg

Ids = Literal["text", "uuid", "bigint"]

SCHEMA = """
create table "user" (
    id {id} primary key,
    email text not null unique,
    name text,
    created_at timestamp(3) not null default current_timestamp
);
create table post (
    id {id} primary key,
    user_id {id} not null references "user" on delete cascade,
    content text not null,
    media_urls text[] not null default '{{}}',
    topic text,
    original_post_id {id} references post on delete set null,
    created_at timestamp(3) not null default current_timestamp,
    deleted_at timestamp(3)
);
create index post_user_id_created_at_idx on post (user_id, created_at);
create type interaction_type as enum ('view', 'click', 'like', 'share', 'report');
create table user_interaction (
    id bigint generated always as identity primary key,
    user_id {id} not null references "user" on delete cascade,
    post_id {id} not null references post on delete cascade,
    interaction_type {kind} not null,
    metadata jsonb,
    created_at timestamp(3) not null default current_timestamp
);
create index user_interaction_user_id_created_at_idx on user_interaction (user_id, created_at);
create index user_interaction_post_id_created_at_idx on user_interaction (post_id, created_at);
create table "like" (
    user_id {id} not null references "user" on delete cascade,
    post_id {id} not null references post on delete cascade,
    created_at timestamp(3) not null default current_timestamp,
    primary key (user_id, post_id)
);
create table follow (
    follower_id {id} not null references "user" on delete cascade,
    following_id {id} not null references "user" on delete cascade,
    created_at timestamp(3) not null default current_timestamp,
    primary key (follower_id, following_id)
);
create table comment (
    id bigint generated always as identity primary key,
    user_id {id} not null references "user" on delete cascade,
    post_id {id} not null references post on delete cascade,
    content text not null,
    created_at timestamp(3) not null default current_timestamp
);
"""

# How a number becomes an id.
ID_OF: dict[Ids, str] = {
    "text": "'c' || substr(md5({kind} || {number}), 1, 24)",
    "uuid": "md5({kind} || {number})::uuid",
    "bigint": "{number}::bigint",
}

DATA = """
insert into "user" (id, email, name)
select {user_n}, 'user' || n || '@example.com', 'User ' || n from generate_series(1, {users}) n;

insert into post (id, user_id, content, topic, original_post_id, created_at)
select {post_n}, {author}, 'Post ' || n || ' on topic ' || n % {topics}, 'topic ' || n % {topics},
    case when n % 10 = 0 then {original} end, now() at time zone 'UTC' - n * interval '10 minutes'
from (select n, 1 + n * 7 % {users} as author, n - {topics} as original from generate_series(1, {posts}) n) p
order by n;

insert into user_interaction (user_id, post_id, interaction_type, created_at)
select {user_u}, {post_p}, d.kind::{kind}, now() at time zone 'UTC' - (1 + e * 37 % 40000) * interval '1 minute'
from (
    select r.u, r.e,
        -- Three in four inside the user's topic, and there the lower numbers more often.
        case when r.chance % 4 > 0 then 1 + (r.u % {topics} + {topics} * (r.place * r.share / 100)) % {posts}
            else 1 + r.place % {posts} end as p,
        case when r.e % 20 < 10 then 'view' when r.e % 20 < 16 then 'click' when r.e % 20 < 19 then 'like'
            else 'share' end as kind
    from (
        select u, e, abs(hashint8(e * 7 + u)) as chance, abs(hashint8(e + u * 31)) % {posts} as place,
            abs(hashint8(u + e * 13)) % (100 / {topics} + 1) as share
        from generate_series(1, {users}) u, generate_series(1, {per_user}) e
    ) r
) d;

insert into "like" (user_id, post_id, created_at)
select i.user_id, i.post_id, max(i.created_at)
from user_interaction i
where i.interaction_type::text = 'like'
group by 1, 2;

insert into comment (user_id, post_id, content, created_at)
select i.user_id, i.post_id, 'So true', i.created_at from user_interaction i where i.interaction_type::text = 'share';

insert into follow (follower_id, following_id)
select {user_n}, {followed}
from (select n, 1 + (n * 13 + 5) % {users} as f from generate_series(1, {users}) n) s
where n <> f;
"""


def build(
    connection: psycopg.Connection[Any],
    *,
    ids: Ids = "text",
    kind: str = "text",
    users: int = 60,
    posts: int = 80,
    per_user: int = 20,
    topics: int = 4,
) -> None:
    """Make the application's tables and fill them; users and posts are numbered from 1, see user_id() and post_id()."""

    def of(what: str, number: str) -> str:
        return ID_OF[ids].format(kind=f"'{what}'", number=number)

    connection.execute(SCHEMA.format(id=ids, kind=kind))
    connection.execute(
        DATA.format(
            users=users,
            posts=posts,
            per_user=per_user,
            topics=topics,
            kind=kind,
            user_n=of("user", "n"),
            post_n=of("post", "n"),
            author=of("user", "author"),
            original=f"case when original > 0 then {of('post', 'original')} end",
            user_u=of("user", "u"),
            post_p=of("post", "p"),
            followed=of("user", "f"),
        )
    )
    connection.execute('analyze "user", post, user_interaction, "like", follow, comment')


def user_id(connection: psycopg.Connection[Any], number: int) -> str:
    """The id of the n-th user, as text."""
    return find(connection, 'select id::text from "user" where email = %s', f"user{number}@example.com")


def post_id(connection: psycopg.Connection[Any], number: int) -> str:
    """The id of the n-th post, as text."""
    return find(connection, "select id::text from post where content like %s", f"Post {number} on%")


def find(connection: psycopg.Connection[Any], query: str, value: object) -> str:
    row = connection.execute(query, [value]).fetchone()
    assert row is not None
    return str(row[0])
