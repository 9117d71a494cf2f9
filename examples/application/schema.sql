-- The tables of a small feed application, as Prisma makes them: text ids, reserved words as names, times in UTC as
-- timestamp(3) without time zone, and a log of interactions in which a user may repeat an interaction.

create table "user" (
    id text primary key,
    handle text not null unique,
    name text not null,
    created_at timestamp(3) not null default (now() at time zone 'utc')
);

create table post (
    id text primary key,
    user_id text not null references "user" (id) on delete cascade,
    topic text not null,
    content text not null,
    media_urls text[] not null default '{}',
    original_post_id text references post (id) on delete cascade, -- set for a repost, which has no content of its own
    created_at timestamp(3) not null default (now() at time zone 'utc'),
    deleted_at timestamp(3)
);
create index post_created_at on post (created_at desc);
create index post_user on post (user_id, created_at);

create table user_interaction (
    id text primary key,
    user_id text not null references "user" (id) on delete cascade,
    post_id text not null references post (id) on delete cascade,
    interaction_type text not null,
    metadata jsonb,
    created_at timestamp(3) not null default (now() at time zone 'utc')
);
create index user_interaction_user on user_interaction (user_id, created_at);
create index user_interaction_post on user_interaction (post_id, created_at);
create index user_interaction_like on user_interaction (post_id, user_id) where interaction_type = 'like';

create table comment (
    id text primary key,
    user_id text not null references "user" (id) on delete cascade,
    post_id text not null references post (id) on delete cascade,
    content text not null,
    created_at timestamp(3) not null default (now() at time zone 'utc')
);
create index comment_user on comment (user_id, created_at);

create table follow (
    follower_id text not null references "user" (id) on delete cascade,
    following_id text not null references "user" (id) on delete cascade,
    created_at timestamp(3) not null default (now() at time zone 'utc'),
    primary key (follower_id, following_id)
);
