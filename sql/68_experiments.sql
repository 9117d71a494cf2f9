-- Experiments: which variant of a scenario a user gets.


-- recdb.assignment: the variant that the users' hash gives a user.
--   parameters  user_id     the user
--               experiment  its name
--   returns     one row, or none for nobody and for an experiment without variants. model_version is NULL if its
--               version is not kept any more: then the active one serves
--   reads       experiment_variant, model
-- The share of a user is the first 52 bits of sha256(experiment || '/' || user_id) as a number from 0 to 1. It is the
-- same on every server, and other programs can compute it. The variants divide it in the order of their names.
create or replace function recdb.assignment(user_id text, experiment text)
returns table (variant text, model_version text, scenario text)
language sql stable rows 1
begin atomic
    select v.name,
        (select m.label from recdb.model m where m.label = v.model_version and m.state = 'ready'), v.scenario
    from (
        select a.name, a.model_version, a.scenario,
            case when lead(a.name) over by_name is null then 1 else
                sum(a.weight::double precision) over by_name / sum(a.weight::double precision) over () end as upto
        from recdb.experiment_variant a
        where a.experiment = assignment.experiment
        window by_name as (order by a.name collate "C")
    ) v
    cross join (
        select ('x' || left(encode(sha256(convert_to(
            assignment.experiment || '/' || assignment.user_id, 'UTF8')), 'hex'), 13))::bit(52)::bigint
            ::double precision / 4503599627370496::double precision as share
    ) u
    where u.share < v.upto
    order by v.upto
    limit 1;
end;
comment on function recdb.assignment(text, text) is
    'Internal: the variant that the hash of a user gives in an experiment, with its model version and scenario.';


-- recdb.experiment_at: the experiment of a scenario at a moment, and the variant that a user got.
--   parameters  user_id, scenario, moment  the user, the place in the product, the time
--   returns     one row, or none if no experiment ran there, or for nobody. model_version: the label that ranks, NULL
--               for the active version; variant_scenario: the scenario that steers, NULL for the one given
--   reads       experiment, scenario
-- The lists and the recorded impressions both ask it, so that figures are of the lists that users saw.
create or replace function recdb.experiment_at(user_id text, scenario text, moment timestamptz)
returns table (experiment text, variant text, model_version text, variant_scenario text)
language sql stable rows 1
begin atomic
    select e.name, a.variant, a.model_version, a.scenario
    from recdb.experiment e
    cross join lateral recdb.assignment(experiment_at.user_id, e.name) a
    left join recdb.scenario s on s.name = experiment_at.scenario
    where coalesce(e.name = s.experiment, e.scenario = experiment_at.scenario)
      and e.started_at <= experiment_at.moment
      and (e.stopped_at is null or e.stopped_at > experiment_at.moment)
    order by e.started_at desc
    limit 1;
end;
comment on function recdb.experiment_at(text, text, timestamptz) is
    'Internal: the experiment that ran on a scenario at a moment, and the variant that a user got.';


-- recdb.variant: the variant of an experiment that a user gets.
--   parameters  user_id     the user
--               experiment  its name
--   returns     the variant; NULL for nobody, and while the experiment does not run
--   reads       experiment, experiment_variant
--   errors      42704 for an unknown experiment
create or replace function recdb.variant(user_id text, experiment text)
returns text
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    running boolean;
begin
    select e.started_at is not null and e.stopped_at is null into running
    from recdb.experiment e
    where e.name = variant.experiment;
    if running is null then
        raise exception 'there is no experiment "%"', variant.experiment
            using errcode = 'undefined_object', hint = 'The experiments: select name from recdb.experiment.';
    elsif not running then
        return null;
    end if;
    return (select a.variant from recdb.assignment(variant.user_id, variant.experiment) a);
end
$$;
comment on function recdb.variant(text, text) is
    'The variant of an experiment that a user gets, always the same one; NULL while the experiment does not run. The '
    'variant follows from a hash: sha256(experiment || ''/'' || user_id). Error 42704 for an unknown experiment.';


-- recdb.variant for a user id of any type.
--   parameters  user_id  of any type; experiment, as variant()
--   returns, reads, errors  as variant()
create or replace function recdb.variant(user_id anynonarray, experiment text)
returns text
language sql stable
as $$
    select recdb.variant(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2)
$$;
comment on function recdb.variant(anynonarray, text) is
    'variant() for a user id that is no text, such as a bigint or a uuid.';


-- recdb.start_experiment: let an experiment begin.
--   parameters  experiment  its name
--   reads       experiment_variant, model
--   writes      experiment.started_at; the row of the scenario if there is none
--   errors      42704 for an unknown experiment; 55000 if it has started before, has fewer than two variants, names a
--               model version that is not kept or a scenario without a row, or if another experiment runs on its
--               scenario or is named by the scenario's row
-- Of two that start at once on a scenario, one waits for the other, and then finds it running.
create or replace function recdb.start_experiment(experiment text)
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    found_row recdb.experiment;
    problem text;
begin
    select e.* into found_row from recdb.experiment e where e.name = start_experiment.experiment for update;
    if found_row.name is null then
        raise exception 'there is no experiment "%"', start_experiment.experiment
            using errcode = 'undefined_object', hint = 'The experiments: select name from recdb.experiment.';
    end if;
    insert into recdb.scenario (name) values (found_row.scenario) on conflict (name) do nothing;
    perform from recdb.scenario s
    where s.name = found_row.scenario
       or s.name in (select v.scenario from recdb.experiment_variant v where v.experiment = found_row.name)
    order by s.name
    for update;
    problem := case
        when found_row.started_at is not null then 'it has started before: give a new one another name'
        when (select count(*) from recdb.experiment_variant v where v.experiment = found_row.name) < 2 then
            'it has fewer than two variants'
        else coalesce((
            select format('its variant %s names the model version %s, which is not kept', v.name, v.model_version)
            from recdb.experiment_variant v
            where v.experiment = found_row.name and v.model_version is not null and not exists (
                select from recdb.model m where m.label = v.model_version and m.state = 'ready')
            order by v.name
            limit 1
        ), (
            select format('its variant %s names the scenario %s, which has no row', v.name, v.scenario)
            from recdb.experiment_variant v
            where v.experiment = found_row.name and v.scenario is not null and not exists (
                select from recdb.scenario s where s.name = v.scenario)
            order by v.name
            limit 1
        ), (
            select format('experiment %s runs on scenario %s', e.name, e.scenario)
            from recdb.experiment e
            where e.scenario = found_row.scenario and e.started_at is not null and e.stopped_at is null
        ), (
            select format('the row of scenario %s follows experiment %s: first, update recdb.scenario '
                'set experiment = null where name = %L', s.name, s.experiment, s.name)
            from recdb.scenario s
            where s.name = found_row.scenario and s.experiment <> found_row.name
        ))
    end;
    if problem is not null then
        raise exception 'experiment % cannot start: %', found_row.name, problem
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Its variants: select * from recdb.experiment_variant. Kept versions: recdb.models.';
    end if;
    update recdb.experiment e set started_at = now() where e.name = found_row.name;
end
$$;
comment on function recdb.start_experiment(text) is
    'Lets an experiment begin. Error 55000 if it has started before, has fewer than two variants, names a model '
    'version that is not kept or a scenario without a row, or if another experiment runs on its scenario or is named '
    'by the scenario''s row; 42704 for an unknown experiment.';


-- recdb.stop_experiment: let a running experiment end: from then on every user gets the usual list.
--   parameters  experiment  its name
--   writes      experiment.stopped_at
--   errors      55000 if no experiment of that name runs
create or replace function recdb.stop_experiment(experiment text)
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    update recdb.experiment e set stopped_at = greatest(now(), e.started_at)
    where e.name = stop_experiment.experiment and e.started_at is not null and e.stopped_at is null;
    if not found then
        raise exception 'no experiment "%" runs', stop_experiment.experiment
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'The experiments: select name, started_at, stopped_at from recdb.experiment.';
    end if;
end
$$;
comment on function recdb.stop_experiment(text) is
    'Ends a running experiment: from then on every user gets the usual list. Error 55000 if it does not run.';


-- recdb.keep_compared: keep a row of scenario as experiments need it.
--   returns     a trigger of scenario
--   errors      55000 if a running experiment compares the row that goes or gets another name, runs on it under its old
--               name, or is not the experiment that the row is to follow; also for one that has stopped; 23503 for an
--               unknown one
-- Without it, users would get another list than the one for which their impressions count. Variants of an experiment
-- that has not started follow a new name. It runs as the owner: whoever may edit the rows has no right on the others.
create or replace function recdb.keep_compared()
returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
    gone constant text := case when tg_op = 'DELETE' or tg_op = 'UPDATE' and new.name <> old.name then old.name end;
    follows constant boolean := tg_op <> 'DELETE' and new.experiment is not null
        and (tg_op = 'INSERT' or (new.experiment, new.name) is distinct from (old.experiment, old.name));
    problem text;
begin
    problem := case
        when gone is not null then (
            select format('scenario "%s" stays as long as experiment %s runs', gone, e.name)
            from recdb.experiment e
            where e.started_at is not null and e.stopped_at is null
              and (exists (
                      select from recdb.experiment_variant v where v.experiment = e.name and v.scenario = gone)
                  or tg_op = 'UPDATE' and (e.scenario = gone or e.name = old.experiment))
            order by e.name
            limit 1)
        end;
    if problem is null and follows then
        problem := (
            select case when f.stopped_at is not null then format('experiment %s has stopped', f.name)
                when r.name is not null then format('experiment %s runs on scenario "%s"', r.name, new.name) end
            from (select new.experiment as name) n
            left join recdb.experiment f on f.name = n.name
            left join recdb.experiment r on r.scenario = new.name and r.name <> n.name
                and r.started_at is not null and r.stopped_at is null);
        if not exists (select from recdb.experiment e where e.name = new.experiment) then
            raise exception 'there is no experiment "%"', new.experiment
                using errcode = 'foreign_key_violation', hint = 'The experiments: select name from recdb.experiment.';
        end if;
    end if;
    if problem is not null then
        raise exception '%', problem
            using errcode = 'object_not_in_prerequisite_state', hint = 'To stop one: recdb experiment stop NAME.';
    end if;
    if tg_op = 'UPDATE' and gone is not null then
        update recdb.experiment_variant v set scenario = new.name
        where v.scenario = gone and exists (
            select from recdb.experiment e where e.name = v.experiment and e.started_at is null);
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function recdb.keep_compared() is
    'Internal: a trigger of scenario: error 55000 for a change that would give users of a running experiment another '
    'list than its variants say, or if the row is to follow an experiment that cannot decide there.';
create or replace trigger replayed_experiments before insert or delete or update of name, experiment on recdb.scenario
    for each row execute function recdb.keep_compared();


-- recdb.follow_experiment: let rows of scenario follow an experiment that gets another name, or forget one that goes.
--   returns     a trigger of experiment
--   writes      scenario.experiment
create or replace function recdb.follow_experiment()
returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
    update recdb.scenario s set experiment = case when tg_op = 'UPDATE' then new.name end
    where s.experiment = old.name;
    return null;
end
$$;
comment on function recdb.follow_experiment() is
    'Internal: a trigger of experiment: rows of scenario follow its new name, or no experiment if it goes.';
create or replace trigger replayed_names after delete or update of name on recdb.experiment
    for each row execute function recdb.follow_experiment();


-- recdb.lost_experiments: rows that name an experiment or a scenario that is not there, which an older recdb let in.
--   returns     such as: scenario "home" follows experiment e_old; the statement that ends it
--   reads       scenario, experiment, experiment_variant
create or replace function recdb.lost_experiments()
returns table (name text, statement text)
language sql stable
begin atomic
    select format('scenario "%s" follows experiment %s, which is not there', s.name, s.experiment),
        format('update recdb.scenario set experiment = null where name = %L;', s.name)
    from recdb.scenario s
    where s.experiment is not null and not exists (select from recdb.experiment e where e.name = s.experiment)
    union all
    select format('scenario "%s" follows experiment %s, and not %s, which runs there', s.name, s.experiment, e.name),
        format('update recdb.scenario set experiment = null where name = %L;', s.name)
    from recdb.scenario s
    join recdb.experiment e on e.scenario = s.name and e.name <> s.experiment
    where e.started_at is not null and e.stopped_at is null
      and exists (select from recdb.experiment f where f.name = s.experiment)
    union all
    select format('variant %s of experiment %s has the list of scenario "%s", which has no row', v.name, e.name,
            v.scenario),
        format('select recdb.stop_experiment(%L);', e.name)
    from recdb.experiment e
    join recdb.experiment_variant v on v.experiment = e.name
    where e.started_at is not null and e.stopped_at is null and v.scenario is not null
      and not exists (select from recdb.scenario s where s.name = v.scenario)
    order by 1;
end;
comment on function recdb.lost_experiments() is
    'Internal: rows that name an experiment or a scenario that is not there, so that lists do not follow a variant.';
