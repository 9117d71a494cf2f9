"""The weighted interactions: dense keys, the settled and the recent half, popularity.

A user's rows are either settled (the materialized view, rebuilt by the full refresh) or recent (a table,
replaced user by user by `CALL recdb.refresh()`), so that a refresh costs what changed, not what exists.

Revision ID: 0002
Revises: 0001
"""

from recdb.migrate import execute, withdraw

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute("""
create table recdb.user_key (
    user_key integer generated always as identity primary key,
    user_id text not null unique
);
comment on table recdb.user_key is 'Dense integer keys of the users: what vectors and weights are stored under.';

create table recdb.item_key (
    item_key integer generated always as identity primary key,
    item_id text not null unique
);
comment on table recdb.item_key is 'Dense integer keys of the items: what vectors, weights and neighbours are stored under.';

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
comment on function recdb.decay(timestamptz, timestamptz, interval) is '2^((created_at - origin) / half_life), 1 without a half-life; the future counts as now. Bounded so that it neither overflows nor underflows.';

create function recdb.settle(total double precision, magnitude double precision)
returns double precision
language sql immutable parallel safe
begin atomic
    select case when abs(settle.total) > 1e-9 * settle.magnitude then settle.total else 0 end;
end;
comment on function recdb.settle(double precision, double precision) is 'A sum of weights, or 0 where what is left of its terms'' magnitude is rounding.';

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
comment on materialized view recdb.user_item_settled is 'Weighted interactions as of the last full refresh: the weights of all events of a user and item summed; position 1 is the user''s newest item.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);

create table recdb.recent_user (
    user_key integer primary key,
    refreshed_at timestamptz not null default now()
);
comment on table recdb.recent_user is 'The users whose weighted interactions are in user_item_recent, not in user_item_settled.';

create table recdb.user_item_recent (
    user_key integer not null,
    position integer not null,
    item_key integer not null,
    weight double precision not null,
    last_at timestamptz not null,
    primary key (user_key, position)
);
comment on table recdb.user_item_recent is 'Weighted interactions of the users that changed since the last full refresh.';

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is 'The weighted interactions: settled and recent users together.';

create table recdb.item_popularity (
    item_key integer primary key,
    item_id text not null,
    total double precision not null,
    -- To 10 digits: sums come out differently by the order they are added in, and ties must stay ties.
    weight double precision not null generated always as (
        case when total > 0 then round(total::numeric, 9 - floor(log(total))::integer)::double precision else 0 end
    ) stored,
    users bigint not null
);
comment on table recdb.item_popularity is 'What each item gathered: its users'' weights, dislikes left out. A refresh adds what its users changed, a rebuild sums it all up again.';
comment on column recdb.item_popularity.weight is 'The total, to 10 digits: what items are ranked by.';
comment on column recdb.item_popularity.users is 'How many users touched the item.';
create index item_popularity_rank on recdb.item_popularity (weight desc, item_id);
""")


def downgrade() -> None:
    withdraw()
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
