"""What an application of any kind needs: sources that may change, values, callers who ask for themselves.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0006
Revises: 0005
"""

from recdb.revisions import execute, withdraw

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created.
KEEP = (
    "all_interactions", "decay", "interactions", "interactions_of", "item_of", "items", "keep_config", "precedence",
    "queue_ignored", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)

    # Sources: recdb reads an application's tables without depending on them.

    # Values: a number on an interaction.

    # Callers who may ask for themselves alone.

    # Learning: a user counts for one in the popularity of an item, and a time in the future for no more than others.
    execute("""
-- recdb.decay: the factor of an interaction's weight for its age.
--   parameters  created_at  the time of the interaction
--               origin      config.decay_origin, the time of the factor 1
--               half_life   config.half_life; NULL for no decay
--   returns     2^((created_at - origin) / half_life), or 1 if half_life is NULL
create or replace function recdb.decay(created_at timestamptz, origin timestamptz, half_life interval)
returns double precision
language sql stable parallel safe
begin atomic
    select case
        when decay.half_life is null then 1
        -- A time that cannot be right must not outweigh what came before it, however long ago that ended.
        when decay.created_at > now() + interval '1 day' then 1
        else exp(greatest(-600, least(600, ln(2::double precision)
            * (date_part('epoch', least(decay.created_at, now())) - date_part('epoch', decay.origin))
            / date_part('epoch', decay.half_life))))
    end;
end;
comment on function recdb.decay(timestamptz, timestamptz, interval) is
    'The factor of an interaction''s weight for its age: 2^((created_at - origin) / half_life), or 1 if half_life is '
    'NULL. A time in the future counts as now, one more than a day ahead as the origin. It is bounded, so that it neither overflows nor underflows.';

drop view recdb.user_item;
drop materialized view recdb.user_item_settled;
-- As above, with the column heaviest.
create materialized view recdb.user_item_settled as
with weighted as (
    select
        u.user_key,
        t.item_key,
        coalesce(k.weight, c.default_weight) * recdb.decay(i.created_at, c.decay_origin, c.half_life) as weight,
        i.created_at,
        greatest(0, coalesce(k.weight, c.default_weight))
            * recdb.decay(i.created_at, c.decay_origin, c.half_life) as heaviest
    from recdb.interactions i
    cross join recdb.config c
    join recdb.user_key u on u.user_id = i.user_id
    join recdb.item_key t on t.item_id = i.item_id
    left join recdb.interaction_kind k on k.kind = i.kind
), summed as (
    select
        w.user_key,
        w.item_key,
        recdb.settle(sum(w.weight), sum(abs(w.weight))) as weight,
        max(least(w.created_at, now())) as last_at,
        max(w.heaviest) as heaviest
    from weighted w
    group by w.user_key, w.item_key
), ranked as (
    select
        s.*,
        rank() over (partition by s.user_key, s.weight = 0 order by s.last_at desc)::integer as rank
    from summed s
)
select
    s.user_key,
    row_number() over (
        partition by s.user_key
        order by recdb.precedence(s.weight, s.rank) desc, s.last_at desc, s.item_key)::integer as position,
    s.item_key,
    s.rank,
    s.weight,
    s.last_at,
    s.heaviest
from ranked s;
comment on materialized view recdb.user_item_settled is
    'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
    'recent_user are out of date: read the view user_item.';
comment on column recdb.user_item_settled.position is
    '1 is the item with the largest precedence() in the user''s profile; items of weight 0 come last.';
comment on column recdb.user_item_settled.rank is
    'The rank by time among the user''s items that have a weight: 1 is the newest; items with the same timestamp share '
    'a rank.';
comment on column recdb.user_item_settled.weight is
    'The decayed weights of all interactions of this user with this item, summed.';
comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
comment on column recdb.user_item_settled.heaviest is
    'The decayed weight of the kind of one of these interactions, the largest; at least 0. It is the most that the user '
    'adds to the popularity of the item.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);
alter materialized view recdb.user_item_settled set (vacuum_truncate = off);

alter table recdb.user_item_recent add column heaviest double precision not null default 0;
alter table recdb.user_item_recent alter column heaviest drop default;
comment on column recdb.user_item_recent.heaviest is
    'The decayed weight of the kind of one of these interactions, the largest; at least 0.';

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at, s.heaviest
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at, n.heaviest
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';

alter table recdb.config drop column popularity_limit;
""")


def downgrade() -> None:
    withdraw(keep=KEEP)

    # Learning.
    execute("""
-- recdb.decay: the factor of an interaction's weight for its age.
--   parameters  created_at  the time of the interaction
--               origin      config.decay_origin, the time of the factor 1
--               half_life   config.half_life; NULL for no decay
--   returns     2^((created_at - origin) / half_life), or 1 if half_life is NULL
create or replace function recdb.decay(created_at timestamptz, origin timestamptz, half_life interval)
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

alter table recdb.config add column popularity_limit double precision;
comment on column recdb.config.popularity_limit is
    'The most that one user adds to the popularity of one item: the weight of the heaviest kind. A rebuild sets it.';
drop view recdb.user_item;
drop materialized view recdb.user_item_settled;
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
        recdb.settle(sum(w.weight), sum(abs(w.weight))) as weight,
        max(least(w.created_at, now())) as last_at
    from weighted w
    group by w.user_key, w.item_key
), ranked as (
    select
        s.*,
        rank() over (partition by s.user_key, s.weight = 0 order by s.last_at desc)::integer as rank
    from summed s
)
select
    s.user_key,
    row_number() over (
        partition by s.user_key
        order by recdb.precedence(s.weight, s.rank) desc, s.last_at desc, s.item_key)::integer as position,
    s.item_key,
    s.rank,
    s.weight,
    s.last_at
from ranked s;
comment on materialized view recdb.user_item_settled is
    'The weighted interactions as of the last full refresh, one row per user and item. The rows of users in '
    'recent_user are out of date: read the view user_item.';
comment on column recdb.user_item_settled.position is
    '1 is the item with the largest precedence() in the user''s profile; items of weight 0 come last.';
comment on column recdb.user_item_settled.rank is
    'The rank by time among the user''s items that have a weight: 1 is the newest; items with the same timestamp share '
    'a rank.';
comment on column recdb.user_item_settled.weight is
    'The decayed weights of all interactions of this user with this item, summed.';
comment on column recdb.user_item_settled.last_at is 'When the newest of these interactions happened.';
create unique index user_item_settled_key on recdb.user_item_settled (user_key, position);
alter materialized view recdb.user_item_settled set (vacuum_truncate = off);

alter table recdb.user_item_recent drop column heaviest;

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';
""")

    # Callers who may ask for themselves alone.

    # Values.

    # Sources.
