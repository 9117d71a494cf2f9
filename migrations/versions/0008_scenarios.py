"""Scenarios: how a product team steers the lists of each place of its product, and its rules.

upgrade() is long: it is one SQL script, which never changes after its release.

Revision ID: 0008
Revises: 0007
"""

from recdb.revisions import execute, withdraw

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The views and routines that this revision and those before it created. The replay makes all others again, those that
# take candidates and a scenario too.
KEEP = (
    "attached_interactions", "current_user_id", "decay", "interactions_of", "keep_config", "link_added_items",
    "precedence", "queue_ignored", "read_interactions", "read_item", "read_items", "settle", "user_item", "users_since",
)  # fmt: skip


def upgrade() -> None:
    withdraw(keep=KEEP)
    execute("""
create table recdb.scenario (
    name text primary key check (length(name) between 1 and 100),
    freshness interval
        constraint scenario_freshness check (freshness between interval '1 second' and interval '1000 years'),
    max_per_owner integer constraint scenario_max_per_owner check (max_per_owner >= 1),
    max_per_attribute text constraint scenario_max_per_attribute check (length(max_per_attribute) between 1 and 1000),
    max_per_number integer constraint scenario_max_per_number check (max_per_number >= 1),
    diversity double precision not null default 0 constraint scenario_diversity check (diversity between 0 and 1),
    rotation_rate double precision not null default 0
        constraint scenario_rotation_rate check (rotation_rate between 0 and 1),
    rotation_time interval not null default '1 day'
        constraint scenario_rotation_time check (rotation_time between interval '1 second' and interval '1000 years'),
    explore double precision not null default 0 constraint scenario_explore check (explore between 0 and 1),
    filter jsonb
        constraint scenario_filter check (
            case coalesce(jsonb_typeof(filter), 'object') when 'object' then true
                when 'string' then (filter #>> '{}')::jsonpath is not null else false end),
    fallback text constraint scenario_fallback check (fallback in ('none', 'popular')),
    minimum_score double precision constraint scenario_minimum_score check (minimum_score between 0 and 1),
    experiment text constraint scenario_experiment check (length(experiment) between 1 and 100),
    pool integer not null default 200 constraint scenario_pool check (pool between 20 and 5000),
    note text,
    acts boolean not null generated always as (
        freshness is not null or max_per_owner is not null or max_per_attribute is not null or diversity > 0
        or rotation_rate > 0 or explore > 0 or filter is not null or minimum_score is not null) stored,
    constraint scenario_max_per check ((max_per_attribute is null) = (max_per_number is null))
);
comment on table recdb.scenario is
    'The places of the product that show lists, one row each: recommend(scenario => name). The row default serves calls '
    'that name none. Change a row with UPDATE: the next call follows it.';
comment on column recdb.scenario.name is 'The name that callers give; default serves those who give none.';
comment on column recdb.scenario.freshness is
    'An item''s score halves with each such time since it was published, by published_at of the catalogue. NULL: age '
    'does not count, and neither does it for an item without a date.';
comment on column recdb.scenario.max_per_owner is
    'At most this many items of one owner on a page, together with those in exclude. NULL: no limit.';
comment on column recdb.scenario.max_per_attribute is
    'An attribute of the catalogue, such as topic: at most max_per_number items of one value on a page, together with '
    'those in exclude. An item with a list of values counts for each of them.';
comment on column recdb.scenario.max_per_number is 'The number for max_per_attribute.';
comment on column recdb.scenario.diversity is
    'How much an item loses by being like one that is above it, 0 to 1: maximal marginal relevance by the item vectors of '
    'the model. 0: nothing.';
comment on column recdb.scenario.rotation_rate is
    'How much the score of an item that was shown and not touched sinks, 0 to 1: times 1 - rate * 2 ^ (-age / '
    'rotation_time), by the age of its last impression. 0: nothing.';
comment on column recdb.scenario.rotation_time is 'The time in which the score gets half of its loss back.';
comment on column recdb.scenario.explore is
    'The share of the places that goes to items with few impressions, 0 to 1. 0: none.';
comment on column recdb.scenario.filter is
    'Only items whose attributes contain this object (@>), or meet this JSON path (a JSON string), beside the caller''s '
    'own filter. NULL: all.';
comment on column recdb.scenario.fallback is
    'popular fills lists up even if the caller does not ask for it. NULL: as the caller says.';
comment on column recdb.scenario.minimum_score is
    'Personal items with a lower score of the model are left out. NULL: none is.';
comment on column recdb.scenario.experiment is
    'The experiment that decides here while it runs: several places can share one. NULL: the one of this scenario.';
comment on column recdb.scenario.pool is
    'How many of the best items, by the score of the model, a list is chosen from. Long pages and many excluded items '
    'take more.';
comment on column recdb.scenario.note is 'Your own remark.';
comment on column recdb.scenario.acts is 'Whether the row changes which items a list has, or their order.';
insert into recdb.scenario (name) values ('default');

create table recdb.rule (
    rule_id integer primary key generated always as identity,
    scenario text not null default 'default'
        references recdb.scenario (name) on update cascade on delete cascade,
    condition jsonb not null
        constraint rule_condition check (
            case jsonb_typeof(condition) when 'object' then true
                when 'string' then (condition #>> '{}')::jsonpath is not null else false end),
    factor double precision constraint rule_factor check (factor = 0 or factor between 1e-6 and 1e6),
    place integer constraint rule_place check (place between 1 and 1000),
    valid_from timestamptz,
    valid_to timestamptz,
    note text,
    constraint rule_acts check ((factor is null) <> (place is null)),
    constraint rule_valid check (valid_from < valid_to)
);
create index rule_scenario on recdb.rule (scenario);
comment on table recdb.rule is
    'The rules of a scenario: which items are lifted, lowered, left out or pinned to a place. The next call follows them.';
comment on column recdb.rule.condition is
    'The attributes of the items: an object that they contain (@>), or a JSON path as a JSON string.';
comment on column recdb.rule.factor is
    'Below 1 it lowers: the score is multiplied by it, and 0 leaves the items out. Above 1 it lifts: the odds of the '
    'score, score / (1 - score), are multiplied by it. NULL for a pinned place.';
comment on column recdb.rule.place is
    'The best item that meets the condition gets this place on a page, unless an excluded item meets it. NULL for a '
    'factor.';
comment on column recdb.rule.valid_from is 'The rule acts from then on. NULL: at once.';
comment on column recdb.rule.valid_to is 'The rule acts until then. NULL: for good.';
comment on column recdb.rule.note is 'Your own remark.';
""")


def downgrade() -> None:
    withdraw(keep=KEEP)
    execute("drop table recdb.rule, recdb.scenario;")
