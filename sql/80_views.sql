-- The views for analysts: text ids instead of integer keys.


create or replace view recdb.all_interactions as
select i.user_id, i.item_id, i.kind, i.created_at, i.value from recdb.interaction i
union all
select s.user_id, s.item_id, s.kind, s.created_at, s.value from recdb.show_interactions() s;
comment on view recdb.all_interactions is
    'Every interaction of recdb''s own store and of all attached tables, without forgotten users; ignored users are in '
    'it.';

create or replace view recdb.interactions as
select a.user_id, a.item_id, a.kind, a.created_at, a.value
from recdb.all_interactions a
where not exists (select from recdb.ignored_user g where g.user_id = a.user_id);
comment on view recdb.interactions is
    'Every interaction that counts for others: recdb''s own store and all attached tables, without forgotten users and '
    'without those of ignored_user.';

create or replace view recdb.items as
select i.item_id, i.owner_id, i.published_at, i.available, i.attributes, i.title,
    -- Embeddings are large: only a query that names the column reads them.
    recdb.show_embedding(i.item_id) as embedding
from recdb.show_items() i;
comment on view recdb.items is
    'The catalogue: the items of all attached tables, and those of recdb.item that no attached table has.';
comment on column recdb.items.embedding is
    'The embedding of the catalogue; if it has none that recdb can use, the one that `recdb embed` made; else NULL.';


-- The rule for an interaction's weight. Six places repeat it:
--   sql/10_profile.sql: weigh_items() reads one user through the index of each source.
--   sql/66_trending.sql: rising_items() reads a span of time through the index of each source, and decays nothing.
--   sql/05_missing.sql: the materialized view user_item_settled may not depend on a view that a replay replaces and a
--       downgrade drops. Its earlier forms are in migrations/versions/0002_weighted_interactions.py,
--       migrations/versions/0005_safety.py and migrations/versions/0006_any_application.py.
--   recdb/arrays/events.py: read_events() applies the rule once to each kind, and reads the values beside it.
--   sql/67_oddities.sql: heavy_users() counts the interactions that have a weight.
--   recdb/evaluate/holdout.py: list_choices() reads a copy of the interactions; what is relevant follows the kind
--       and the sign of the value, so that a large quantity does not decide for all others.
create or replace view recdb.weighted_interactions as
select
    i.user_id,
    i.item_id,
    i.kind,
    i.created_at,
    -- One row of settings: read once for the whole query, not joined.
    coalesce(k.weight, (select c.default_weight from recdb.config c)) * coalesce(i.value, 1) as weight,
    coalesce(k.hides, (select c.default_hides from recdb.config c)) as hides,
    i.value
from recdb.interactions i
left join recdb.interaction_kind k on k.kind = i.kind;
comment on view recdb.weighted_interactions is
    'Every interaction with its weight, that of its kind times its value, before any decay, and whether it hides its '
    'item. '
    'A kind that interaction_kind does not list has config.default_weight and config.default_hides.';
comment on column recdb.weighted_interactions.weight is
    'The weight of the kind times the value, without decay; the weights of repeated interactions add up.';
comment on column recdb.weighted_interactions.hides is
    'True: recommend() does not give this item to this user again.';

comment on column recdb.weighted_interactions.value is
    'The number on the interaction, as a quantity or stars above the middle; NULL counts as 1.';

create or replace view recdb.user_item_weights as
select u.user_id, t.item_id, w.weight, w.last_at
from recdb.user_item w
join recdb.user_key u on u.user_key = w.user_key
join recdb.item_key t on t.item_key = w.item_key;
comment on view recdb.user_item_weights is
    'The weighted interactions as of the last refresh, one row per user and item.';
comment on column recdb.user_item_weights.weight is
    'The weights of all interactions of this user with this item, decayed and summed.';
comment on column recdb.user_item_weights.last_at is 'When the newest of these interactions happened.';

create or replace view recdb.user_vectors as
select u.user_id, m.label as model, v.embedding, v.total_weight
from recdb.user_vector v
join recdb.model m on m.model_id = v.model_id
join recdb.user_key u on u.user_key = v.user_key;
comment on view recdb.user_vectors is
    'The vectors of the users in every kept model version.';
comment on column recdb.user_vectors.model is 'The label of the model version.';
comment on column recdb.user_vectors.total_weight is
    'The sum of the magnitudes of the weights that the user contributes to lists as a neighbour.';

create or replace view recdb.item_vectors as
select t.item_id, m.label as model, v.embedding
from recdb.item_vector v
join recdb.model m on m.model_id = v.model_id
join recdb.item_key t on t.item_key = v.item_key;
comment on view recdb.item_vectors is
    'The vectors of the items in every kept model version.';
comment on column recdb.item_vectors.model is 'The label of the model version.';

create or replace view recdb.models as
select m.label, m.active, m.state, m.created_at, m.activated_at, m.users, m.items, m.interactions, m.metrics, m.params
from recdb.model m
where m.state <> 'training';
comment on view recdb.models is
    'The trained model versions. state: ready (recommend() can serve it) or retired (its vectors are dropped).';
comment on column recdb.models.active is 'True: recommend() serves this version.';
comment on column recdb.models.users is 'How many users it was trained on.';
comment on column recdb.models.items is 'How many items it was trained on.';
comment on column recdb.models.interactions is 'How many weighted interactions it was trained on.';
comment on column recdb.models.metrics is 'The metrics of the training on its validation part.';
comment on column recdb.models.params is 'The hyper-parameters of learning and serving.';

create or replace view recdb.last_runs as
select
    r.kind,
    r.state,
    r.started_at,
    r.finished_at,
    r.model,
    r.error,
    r.state not in ('running', 'succeeded') and not exists (
        select from recdb.refresh_log l
        where l.state = 'succeeded' and l.finished_at > r.started_at
          and (l.kind in ('refresh', 'rebuild')) = (r.kind in ('refresh', 'rebuild'))) as failing
from (values ('refresh'), ('rebuild'), ('train'), ('tune'), ('activate')) k(kind)
cross join lateral (
    select l.kind, l.started_at, l.finished_at, l.model,
        case when l.state <> 'running' or recdb.is_running(l.pid, l.started_at) then l.state else 'lost' end as state,
        case when l.state <> 'running' or recdb.is_running(l.pid, l.started_at) then l.error
            else 'the process, its connection or the server was stopped before the run ended' end as error
    from recdb.refresh_log l
    where l.kind = k.kind
    order by l.run_id desc
    limit 1
) r;
comment on view recdb.last_runs is
    'The last maintenance run of each kind, one row each, from recdb.refresh_log.';
comment on column recdb.last_runs.state is
    'As in refresh_log; lost as soon as the run''s server process is gone.';
comment on column recdb.last_runs.failing is
    'True: the run did not succeed, and no later run made up for it. A refresh and a rebuild make up for each other, '
    'and so do training, tuning and activating.';

create or replace view recdb.health as
select
    m.label as model,
    now() - m.created_at as model_age,
    (select max(l.finished_at) from recdb.refresh_log l where l.error is null and l.kind <> 'train') as refreshed_at,
    now() - (select max(l.finished_at) from recdb.refresh_log l where l.error is null and l.kind <> 'train')
        as refresh_age,
    (select l.error from recdb.last_runs l where l.failing order by l.started_at desc limit 1) as last_error,
    recdb.count_stored() as stored_interactions,
    (select count(*) from recdb.user_key) as users,
    (select count(*) from recdb.item_key) as items,
    (select count(*) from recdb.recent_user) as recent_users,
    recdb.count_vectors(m.model_id)::double precision / nullif(recdb.count_users(), 0) as vector_share,
    recdb.count_bytes() as bytes,
    (select array_agg(l.kind order by l.kind) from recdb.last_runs l where l.failing) as failing,
    array(select h.relation from recdb.hidden_sources() h order by h.relation) as hidden_tables
from (select) one
left join recdb.model m on m.active;
comment on view recdb.health is
    'One row on the state of recdb: the active model, the last refresh, the last error, and sizes.';
comment on column recdb.health.model is 'The label of the active model version; NULL while none is active.';
comment on column recdb.health.model_age is 'The time since its training began.';
comment on column recdb.health.refreshed_at is 'When the last refresh or rebuild without an error ended.';
comment on column recdb.health.refresh_age is 'The time since then.';
comment on column recdb.health.last_error is
    'The error of the newest maintenance run that did not succeed, until a later run makes up for it; else NULL.';
comment on column recdb.health.failing is
    'The kinds of runs whose last run did not succeed, until a later run makes up for it: see recdb.last_runs.';
comment on column recdb.health.stored_interactions is
    'About how many interactions recdb''s own store has: PostgreSQL''s estimate.';
comment on column recdb.health.users is 'How many users have a key.';
comment on column recdb.health.items is 'How many items have a key.';
comment on column recdb.health.recent_users is 'How many users changed since the last full refresh.';
comment on column recdb.health.vector_share is
    'The share of users with a vector in the active model version, 0 to 1. Users without interactions, who were '
    'only shown items, do not count.';
comment on column recdb.health.bytes is 'The size of all tables of schema recdb with their indexes.';
comment on column recdb.health.hidden_tables is
    'The tables whose row-level security may hide rows from recdb: while there is one, no refresh runs, and users '
    'whose '
    'rows are hidden get no personal rows.';
