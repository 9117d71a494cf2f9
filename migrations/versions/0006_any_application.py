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

# The views and routines that the revisions before this one created.
KEEP_BEFORE = (
    "all_interactions", "decay", "interactions", "interactions_of", "item_of", "items", "keep_config", "precedence",
    "queue_ignored", "settle", "user_item", "users_since",
)  # fmt: skip

# What this revision leaves of them. The replay makes those that read sources, in sql/05_missing.sql, if they are
# missing: so `recdb init` repairs them by the text that made them.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "precedence", "queue_ignored",
    "read_interactions", "read_item", "read_items", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP_BEFORE)

    # Sources: recdb reads an application's tables without depending on them.
    execute("""
alter table recdb.attachment
    add column query text,
    add column reads text[] not null default '{}',
    add column seen oid[] not null default '{}',
    add column state text not null default 'read' check (state in ('read', 'missing')),
    add column changed_at timestamptz not null default now(),
    add column listed_only boolean not null default false;
comment on table recdb.attachment is
    'The application''s own tables that recdb reads beside its own store, one row for each `recdb attach`.';
comment on column recdb.attachment.relation is
    'The table''s name. recdb reads whatever table has this name, and follows no renamed table or column.';
comment on column recdb.attachment.query is
    'The query that reads the table with recdb''s names of the columns; it is written into recdb''s functions as text, '
    'so recdb depends on nothing of the application''s.';
comment on column recdb.attachment.reads is 'The tables and views that the query names.';
comment on column recdb.attachment.seen is
    'The oids that these had when recdb looked at them last: another table of the same name is checked before it is '
    'read.';
comment on column recdb.attachment.state is
    'read; or missing: `recdb init` found that recdb cannot read the table, so its rows do not count. The next refresh '
    'or `recdb init` that can read it again takes it in again.';
comment on column recdb.attachment.listed_only is
    'True while this catalogue is missing and config.listed_only is therefore off: it is on again with the catalogue.';
comment on column recdb.attachment.changed_at is 'When the table was attached, or the state changed: a rebuild follows.';

-- The views attached_N become queries.
do $$
declare
    source record;
begin
    for source in
        select a.attachment_id, to_regclass(format('recdb.attached_%s', a.attachment_id)) as view
        from recdb.attachment a
    loop
        if source.view is null then  -- it went with its table: the replay says so
            continue;
        end if;
        update recdb.attachment a
        set query = case
                when a.role = 'interactions' and not exists (
                    select from pg_attribute v where v.attrelid = source.view and v.attname = 'value')
                then format('select q.*, null::double precision as value from (%s) q',
                    rtrim(pg_get_viewdef(source.view), ';'))
                else rtrim(pg_get_viewdef(source.view), ';') end,
            reads = array(
                select distinct format('%I.%I', n.nspname, c.relname)
                from pg_rewrite r
                join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
                    and d.refclassid = 'pg_class'::regclass and d.refobjid <> source.view
                join pg_class c on c.oid = d.refobjid
                join pg_namespace n on n.oid = c.relnamespace
                where r.ev_class = source.view)
        where a.attachment_id = source.attachment_id;
    end loop;
end
$$;
update recdb.attachment set changed_at = attached_at where state = 'read';
drop view if exists recdb.user_item;
drop materialized view if exists recdb.user_item_settled;
drop function if exists recdb.item_of(text), recdb.users_since(xid8, timestamptz), recdb.interactions_of(text);
drop view if exists recdb.items, recdb.interactions, recdb.all_interactions;
do $$
declare
    view text;
begin
    for view in
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'v' and c.relname ~ '^attached_[0-9]+$'
    loop
        execute format('drop view %s', view);
    end loop;
end
$$;
""")

    # Values: a number on an interaction.
    execute("""
alter table recdb.interaction add column value double precision
    constraint interaction_value_range check (value between -1e6 and 1e6 and (value = 0 or abs(value) >= 1e-9));
comment on column recdb.interaction.value is
    'How much of it: a quantity, hours of play, stars above or below the middle. The weight of the interaction is the '
    'weight of its kind times this number, NULL is 1; a negative number is a dislike, and 0 has no weight.';
drop index recdb.interaction_user;
-- A covering index: recommend() reads a profile from one or two pages instead of one page per interaction.
create index interaction_user on recdb.interaction (user_id, created_at) include (item_id, kind, value);

create table recdb.load_log (
    load_id bigint generated always as identity primary key,
    file text not null,
    digest bytea not null,
    rows bigint not null,
    loaded_at timestamptz not null default now()
);
comment on table recdb.load_log is
    'The files of interactions that `recdb load` has stored, one row each: it refuses a file that it has loaded before, '
    'unless told to load it again.';
comment on column recdb.load_log.file is 'The name of the file when it was loaded.';
comment on column recdb.load_log.digest is 'The SHA-256 hash of the content of the file, unpacked.';
comment on column recdb.load_log.rows is 'How many interactions were stored.';
create index load_log_digest on recdb.load_log (digest);
""")

    # Locks that only recdb's owner can hold.
    execute("""
create table recdb.refresh_lock (
    only_row boolean primary key default true check (only_row)
);
comment on table recdb.refresh_lock is
    'A table without rows. Who rewrites the weighted interactions locks it in exclusive mode: a lock that no other role '
    'than the owner can take, unlike an advisory lock.';
alter table recdb.secret
    add column job_lock bigint not null default hashtextextended(gen_random_uuid()::text, 0::bigint),
    add column activation_lock bigint not null default hashtextextended(gen_random_uuid()::text, 0::bigint);
comment on table recdb.secret is
    'The secrets of this installation, one row, for its owner alone.';
comment on column recdb.secret.salt is
    'It is random: without it nobody finds out who was forgotten by hashing ids.';
comment on column recdb.secret.job_lock is
    'The key of the advisory lock of the job''s session. It changes when another role holds that lock.';
comment on column recdb.secret.activation_lock is
    'The key of the advisory lock of a session that activates a version.';
""")

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
    'NULL. A time in the future counts as now, one more than a day ahead as the origin. It is bounded, so that it '
    'neither overflows nor underflows.';

alter table recdb.user_item_recent add column heaviest double precision not null default 0;
alter table recdb.user_item_recent alter column heaviest drop default;
comment on column recdb.user_item_recent.heaviest is
    'The decayed weight of the kind of one of these interactions, the largest; at least 0.';

alter table recdb.config drop column popularity_limit;
""")


def downgrade() -> None:
    # A table that recdb cannot read can have no view: it is left out.
    execute("""
do $$
begin
    if to_regprocedure('recdb.review_sources(boolean)') is not null then
        perform recdb.review_sources(true);
    end if;
end
$$;
""")
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
alter table recdb.user_item_recent drop column heaviest;
""")

    # Locks.
    execute("""
alter table recdb.secret drop column activation_lock, drop column job_lock;
comment on table recdb.secret is
    'The random salt of this installation, one row, for its owner alone: without it nobody finds out who was forgotten '
    'by hashing ids.';
comment on column recdb.secret.salt is null;
drop table recdb.refresh_lock;
""")

    # Callers who may ask for themselves alone: the replay made it.
    execute("drop function recdb.current_user_id();")

    # Values: the column goes last, when nothing reads it any more.
    execute("drop table recdb.load_log;")

    # Sources.
    execute("""
do $$
declare
    source record;
    of_user text;
begin
    for source in select a.attachment_id, a.query from recdb.attachment a loop
        if source.query is not null then
            begin
                execute format('create view recdb.attached_%s as %s', source.attachment_id, source.query);
                continue;
            exception when syntax_error_or_access_rule_violation or invalid_schema_name then
                null;
            end;
        end if;
        delete from recdb.attachment a where a.attachment_id = source.attachment_id;
    end loop;
    -- The bodies of the functions, which are SQL over the same queries, bind to the tables.
    execute 'create view recdb.all_interactions as
        select i.user_id, i.item_id, i.kind, i.created_at from recdb.interaction i
        union all
        select s.user_id, s.item_id, s.kind, s.created_at from ('
        || (select p.prosrc from pg_proc p where p.oid = 'recdb.attached_interactions()'::regprocedure)
        || ') s(user_id, item_id, kind, created_at, value)';
    execute 'create view recdb.items as '
        || (select p.prosrc from pg_proc p where p.oid = 'recdb.read_items()'::regprocedure);
    -- Without recdb's own column value, which goes below.
    of_user := replace((select p.prosrc from pg_proc p where p.oid = 'recdb.interactions_of(text)'::regprocedure),
        'i.created_at, i.value', 'i.created_at, null::double precision');
    drop function recdb.interactions_of(text);
    execute format('
        create function recdb.interactions_of(user_id text)
        returns table (item_id text, kind text, created_at timestamptz)
        language sql stable parallel safe
        begin atomic
            select s.item_id, s.kind, s.created_at from (%s) s(item_id, kind, created_at, value);
        end', of_user);
    comment on function recdb.interactions_of(text) is
        'The interactions of one user, read through an index of recdb''s own store and of each attached table.';
    execute format('
        create or replace function recdb.users_since(seen xid8, since timestamptz)
        returns table (user_id text)
        language sql stable
        begin atomic %s; end',
        (select p.prosrc from pg_proc p where p.oid = 'recdb.users_since(xid8, timestamptz)'::regprocedure));
    execute format('
        create function recdb.item_of(item_id text)
        returns table (
            item_id text, owner_id text, published_at timestamptz, available boolean, attributes jsonb, title text
        )
        language sql stable parallel safe
        begin atomic %s; end',
        replace((select p.prosrc from pg_proc p where p.oid = 'recdb.read_item(text)'::regprocedure),
            'read_item.item_id', 'item_of.item_id'));
end
$$;
drop function recdb.read_interactions(), recdb.attached_interactions(), recdb.read_items(), recdb.read_item(text);
comment on view recdb.all_interactions is
    'Every interaction of recdb''s own store and of all attached tables, without forgotten users; ignored users are in '
    'it.';
comment on view recdb.items is
    'The catalogue: the items of all attached tables, and those of recdb.item that no attached table has.';
comment on function recdb.item_of(text) is
    'The row of the catalogue for one item, read through an index of recdb.item and of each attached table.';
create view recdb.interactions as
select a.user_id, a.item_id, a.kind, a.created_at
from recdb.all_interactions a
where not exists (select from recdb.ignored_user g where g.user_id = a.user_id);
comment on view recdb.interactions is
    'Every interaction that counts for others: recdb''s own store and all attached tables, without forgotten users and '
    'without those of ignored_user.';
alter table recdb.attachment
    drop column listed_only,
    drop column changed_at,
    drop column state,
    drop column seen,
    drop column reads,
    drop column query;
comment on table recdb.attachment is
    'The application''s own tables that `recdb attach` added to the views interactions and items. recdb reads the '
    'table with attachment_id N through the view recdb.attached_N.';
comment on column recdb.attachment.relation is
    'The table''s name when it was attached; the view follows a table that is renamed.';

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

create view recdb.user_item as
select s.user_key, s.position, s.item_key, s.rank, s.weight, s.last_at
from recdb.user_item_settled s
where not exists (select from recdb.recent_user r where r.user_key = s.user_key)
union all
select n.user_key, n.position, n.item_key, n.rank, n.weight, n.last_at
from recdb.user_item_recent n;
comment on view recdb.user_item is
    'The weighted interactions of all users by integer keys: settled and recent. user_item_weights has them by ids.';
alter materialized view recdb.user_item_settled set (vacuum_truncate = off);
drop index recdb.interaction_user;
alter table recdb.interaction drop column value;
create index interaction_user on recdb.interaction (user_id, created_at) include (item_id, kind);
""")
