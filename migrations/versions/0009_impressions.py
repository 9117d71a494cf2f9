"""Impressions and experiments: which items were shown to whom, and which variant of a scenario a user gets.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0009
Revises: 0008
"""

from recdb.revisions import execute, withdraw

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The views and routines that the revisions before this one created, and keep_variants().
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "keep_variants",
    "link_added_items", "precedence", "queue_ignored", "read_interactions", "read_item", "read_items", "settle",
    "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)

    execute("""
alter table recdb.config add column impression_retention interval not null default interval '90 days'
    check (impression_retention between interval '1 day' and interval '10 years');
comment on column recdb.config.impression_retention is
    'How long recdb keeps impressions. A refresh drops the weeks that are older than this.';

create table recdb.impression (
    user_key integer not null,
    item_key integer not null,
    scenario text not null,
    place smallint not null check (place >= 1),
    shown_at timestamptz not null,
    model_version text,
    experiment text,
    variant text,
    propensity real check (propensity > 0 and propensity <= 1)
) partition by range (shown_at);
create index impression_user on recdb.impression (user_key, shown_at);
comment on table recdb.impression is
    'The items that were shown, one row for each place of each page. impressions() records them; a partition holds a '
    'week, from Monday 0:00 UTC on. A refresh makes the partitions and drops the old ones.';
comment on column recdb.impression.scenario is
    'The place in the product that showed the item; default if none was named.';
comment on column recdb.impression.place is 'The place on the page, from 1.';
comment on column recdb.impression.model_version is
    'The label of the model version that ranked the page; NULL if no model was active.';
comment on column recdb.impression.experiment is
    'The experiment that ran on the scenario at that time; NULL if none did.';
comment on column recdb.impression.variant is 'The variant of that experiment that the user got.';
comment on column recdb.impression.propensity is
    'The probability with which the page showed this item at this place, as the application gave it; NULL if unknown.';

create table recdb.impression_new (
    user_id text not null,
    item_id text not null,
    scenario text not null,
    place smallint not null check (place >= 1),
    shown_at timestamptz not null,
    model_version text,
    experiment text,
    variant text,
    propensity real check (propensity > 0 and propensity <= 1),
    check (length(user_id) between 1 and 1000 and octet_length(user_id) <= 2600),
    check (length(item_id) between 1 and 1000 and octet_length(item_id) <= 2600)
);
create index impression_new_user on recdb.impression_new (user_id);
comment on table recdb.impression_new is
    'Impressions that the next refresh moves to recdb.impression: the user or the item has no key yet, or the week has '
    'no partition yet. So whoever records impressions makes no key and no table, and waits for nobody.';

create table recdb.item_shown (
    item_key integer primary key,
    impressions bigint not null,
    touched bigint not null
);
comment on table recdb.item_shown is
    'How often each item was shown within config.impression_retention, and how many of these impressions its user '
    'followed with an interaction of positive weight. Without the users of ignored_user.';

create table recdb.impression_state (
    only_row boolean primary key default true check (only_row),
    counted_at timestamptz not null,
    took interval not null
);
comment on table recdb.impression_state is
    'When recdb last counted the rows of item_shown, and how long that took: a refresh counts again when a hundred '
    'times as long has passed.';

create table recdb.experiment (
    name text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$'),
    scenario text not null default 'default' check (length(scenario) between 1 and 100),
    started_at timestamptz,
    stopped_at timestamptz,
    note text,
    check (stopped_at >= started_at),
    constraint experiment_started_before_stopped check (started_at is not null or stopped_at is null)
);
create unique index experiment_running on recdb.experiment (scenario)
    where started_at is not null and stopped_at is null;
comment on table recdb.experiment is
    'The experiments: an experiment compares variants of a scenario. One experiment at a time runs on a scenario. '
    'start_experiment() and stop_experiment() set the times.';
comment on column recdb.experiment.name is 'Its name, which also decides who gets which variant.';
comment on column recdb.experiment.scenario is 'The place in the product whose lists differ.';
comment on column recdb.experiment.started_at is 'NULL until it has started: then every user gets the usual list.';
comment on column recdb.experiment.stopped_at is 'NULL while it runs.';
comment on column recdb.experiment.note is 'Anything that you want to remember of it. recdb does not read it.';

create table recdb.experiment_variant (
    experiment text not null references recdb.experiment (name) on update cascade on delete cascade,
    name text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$'),
    weight real not null default 1 check (weight > 0 and weight <= 1e6),
    model_version text,
    scenario text check (length(scenario) between 1 and 100),
    primary key (experiment, name)
);
comment on table recdb.experiment_variant is
    'The variants of the experiments. Once an experiment has started, its variants no longer change.';
comment on column recdb.experiment_variant.weight is
    'The share of users that get it, in relation to the weights of the other variants.';
comment on column recdb.experiment_variant.model_version is
    'The label of the model version that ranks its lists; NULL for the active version. While the experiment runs, no '
    'training removes this version.';
comment on column recdb.experiment_variant.scenario is
    'The scenario whose row steers its lists; NULL for the scenario of the experiment.';

-- recdb.keep_variants: keep the variants of a started experiment as they are.
--   returns     a trigger of experiment_variant
--   errors      55000 once the experiment has started
-- Who gets which variant follows from the names and the weights. If they changed, users would change their variant, and
-- the figures would compare mixtures.
create function recdb.keep_variants()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from recdb.experiment e
        where e.started_at is not null
          and (tg_op <> 'INSERT' and e.name = old.experiment or tg_op <> 'DELETE' and e.name = new.experiment))
    then
        raise exception 'the variants of a started experiment stay as they are'
            using errcode = 'object_not_in_prerequisite_state', hint = 'Stop it, and start one with another name.';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function recdb.keep_variants() is
    'Internal: a trigger of experiment_variant: error 55000 for a change once the experiment has started.';
create trigger keep_variants before insert or update or delete on recdb.experiment_variant
    for each row execute function recdb.keep_variants();
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
drop table recdb.experiment_variant, recdb.experiment;
drop function recdb.keep_variants();
drop table recdb.impression_state, recdb.item_shown, recdb.impression_new, recdb.impression;
alter table recdb.config drop column impression_retention;
""")
