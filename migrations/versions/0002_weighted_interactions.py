"""The weighted interactions: dense keys, the settled and the recent rows, popularity.

The rows of a user are either settled (in the materialized view, which the full refresh rebuilds) or recent (in a table,
where `CALL recdb.refresh()` replaces them user by user). So the cost of a refresh depends on how many users changed,
not on how many there are.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0002
Revises: 0001
"""

from recdb.revisions import execute, withdraw

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = ("decay", "interactions", "interactions_of", "item_of", "items", "settle", "user_item", "users_since")


def upgrade() -> None:
    execute("""
create table recdb.user_key (
    user_key integer generated always as identity primary key,
    user_id text not null unique
);
comment on table recdb.user_key is
    'The dense integer keys of the users: vectors and weights are stored under these instead of ids.';

create table recdb.item_key (
    item_key integer generated always as identity primary key,
    item_id text not null unique
);
comment on table recdb.item_key is
    'The dense integer keys of the items: vectors, weights and neighbours are stored under these instead of ids.';

-- recdb.decay: the factor of an interaction's weight for its age.
--   parameters  created_at  when it happened; a time in the future counts as now
--               origin      the time at which the factor is 1
--               half_life   the factor halves in this time; NULL: it is always 1
--   returns     2^((created_at - origin) / half_life), at least e^-600 and at most e^600
create function recdb.decay(created_at timestamptz, origin timestamptz, half_life interval)
returns double precision
language sql stable parallel safe
begin atomic
    select case
        when decay.half_life is null then 1
        else exp(greatest(-600, least(600, ln(2::double precision)
            * (date_part('epoch', least(decay.created_at, now())) - date_part('epoch', decay.origin))
            / date_part('epoch', decay.half_life))))
    end;
end;
comment on function recdb.decay(timestamptz, timestamptz, interval) is
    'The factor of an interaction''s weight for its age: 2^((created_at - origin) / half_life), or 1 if half_life is '
    'NULL. A time in the future counts as now. It is bounded, so that it neither overflows nor underflows.';

-- recdb.settle: a sum without its rounding error.
--   parameters  total      the sum
--               magnitude  the sum of its terms' magnitudes
--   returns     total, or 0 if it is below 1e-9 of magnitude
create function recdb.settle(total double precision, magnitude double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select case when abs(settle.total) > 1e-9 * settle.magnitude then settle.total else 0 end;
end;
comment on function recdb.settle(double precision, double precision) is
    'total, or 0 if it is only a rounding error: if it is below 1e-9 of magnitude, the sum of its terms'' magnitudes.';

-- The weight of an interaction follows the rule of the view weighted_interactions in sql/. The rule is repeated here,
-- because a materialized view of a revision may not depend on a view that a replay replaces and a downgrade drops.
create materialized view recdb.user_item_settled as
with weighted as (
    select
        u.user_key,
        t.item_key,
        coalesce(k.weight, c.default_weight) * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
        i.created_at
    from recdb.interactions i
    cross join recdb.config c
    join recdb.user_key u on u.user_id = i.user_id
    join recdb.item_key t on t.item_id = i.item_id
    left join recdb.interaction_kind k on k.kind = i.kind
), summed as (
    select
        w.user_key,
        w.item_key,
        sum(w.weight) as total,
        sum(abs(w.weight)) as magnitude,
        max(least(w.created_at, now())) as last_at
    from weighted w
    group by w.user_key, w.item_key
)
select
    s.user_key,
    row_number() over (partition by s.user_key order by s.last_at desc, s.item_key)::integer as position,
    s.item_key,
    recdb.settle(s.total, s.magnitude) as weight,
    s.last_at
from summed s;
comment on materialized view recdb.user_item_settled is
    'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
    'recent_user are out of date: read the view user_item.';
comment on column recdb.user_item_settled.position is '1 is the user''s newest item.';
comment on column recdb.user_item_settled.weight is
    'The decayed weights of all interactions of this user with this item, summed.';
comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);

create table recdb.recent_user (
    user_key integer primary key,
    refreshed_at timestamptz not null default now()
);
comment on table recdb.recent_user is
    'The users that changed since the last full refresh: their weighted interactions are in user_item_recent.';

create table recdb.user_item_recent (
    user_key integer not null,
    position integer not null,
    item_key integer not null,
    weight double precision not null,
    last_at timestamptz not null,
    primary key (user_key, position)
);
comment on table recdb.user_item_recent is
    'The weighted interactions of the users that changed since the last full refresh; columns as user_item_settled.';

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';

create table recdb.item_popularity (
    item_key integer primary key,
    item_id text not null,
    total double precision not null,
    -- Rounded to 10 digits: a sum depends on the order of its terms, and items that tie must go on tying.
    weight double precision not null generated always as (
        case when total > 0 then round(total::numeric, 9 - floor(log(total))::integer)::double precision else 0 end
    ) stored,
    users bigint not null
);
comment on table recdb.item_popularity is
    'The popularity of each item. A refresh adds the changes of its users, and a rebuild computes it again.';
comment on column recdb.item_popularity.total is 'The sum of the users'' weights for the item, without dislikes.';
comment on column recdb.item_popularity.weight is 'total, rounded to 10 digits: popular() ranks items by it.';
comment on column recdb.item_popularity.users is 'How many users interacted with the item.';
create index item_popularity_rank on recdb.item_popularity (weight desc, item_id);
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop table recdb.item_popularity;
drop view recdb.user_item;
drop table recdb.user_item_recent;
drop table recdb.recent_user;
drop materialized view recdb.user_item_settled;
drop function recdb.settle(double precision, double precision);
drop function recdb.decay(timestamptz, timestamptz, interval);
drop table recdb.item_key;
drop table recdb.user_key;
""")
