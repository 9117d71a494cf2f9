-- The filters and conditions that rows of scenario and rule hold. A bad one would fail the lists of all users, so a
-- trigger refuses it. Names of triggers that a replay of these files makes begin with replayed_: a revision that
-- withdraws their functions drops them first.


-- recdb.filter_problem: why a row may not hold a filter.
--   parameters  filter  of recdb.scenario, or the condition of a rule
--   returns     the reason; NULL if it may, and for what the checks of the tables refuse: neither object nor string
-- PostgreSQL compares some times only with the time zone of the session, and fails if an item has such a time: whoever
-- calls with such a filter of the own fails alone, but a row would fail all lists.
create or replace function recdb.filter_problem(filter jsonb)
returns text
language plpgsql immutable
as $$
declare
    path jsonpath;
begin
    if filter is null or jsonb_typeof(filter) <> 'string' then
        return null;
    end if;
    path := recdb.filter_path(filter);
    return case when recdb.path_without_texts(path) ~ '[.](date|datetime|time|time_tz|timestamp|timestamp_tz)[(]' then
        'the attributes of some item may have a time that it cannot compare; times as text compare without methods' end;
exception when others then
    return regexp_replace(sqlerrm, '^filter is ', 'it is ');
end
$$;
comment on function recdb.filter_problem(jsonb) is
    'Internal: why a row of scenario or rule may not hold a filter; NULL if it may.';


-- recdb.check_stored_filter: refuse a filter or condition that would fail lists.
--   returns     a trigger of scenario and rule
--   errors      23514 if filter_problem() finds one
-- It runs as the owner: whoever may edit the rows has no right on recdb's functions.
create or replace function recdb.check_stored_filter()
returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
    is_rule constant boolean := tg_table_name = 'rule';
    field constant text := case when is_rule then 'condition' else 'filter' end;
    problem constant text := recdb.filter_problem(to_jsonb(new) -> field);
begin
    if problem is not null then
        raise exception '%', format('the %s of %s is refused: %s', field,
                case when is_rule then format('a rule of scenario "%s"', to_jsonb(new) ->> 'scenario')
                    else format('scenario "%s"', to_jsonb(new) ->> 'name') end, problem)
            using errcode = 'check_violation', schema = tg_table_schema, table = tg_table_name,
                hint = 'A path is a condition, such as $.price < 20 && $.lang == "de".';
    end if;
    return new;
end
$$;
comment on function recdb.check_stored_filter() is
    'Internal: a trigger of scenario and rule: error 23514 for a filter or condition that would fail lists.';
create or replace trigger replayed_filter before insert or update of filter on recdb.scenario
    for each row execute function recdb.check_stored_filter();
create or replace trigger replayed_filter before insert or update of condition on recdb.rule
    for each row execute function recdb.check_stored_filter();


-- recdb.unread_filters: the rows whose filter or condition cannot be read, which an older recdb has let in.
--   returns     what it is, such as rule 7 of scenario home; why it cannot be read; the statement that removes it
--   reads       scenario, rule
-- Lists go on without such a rule. Without its filter a scenario could show what it should hide: its lists fail, with
-- an error that names it.
create or replace function recdb.unread_filters()
returns table (name text, problem text, statement text)
language sql stable
begin atomic
    select format('the filter of scenario "%s"', s.name), recdb.filter_problem(s.filter),
        format('update recdb.scenario set filter = null where name = %L;', s.name)
    from recdb.scenario s
    where recdb.filter_problem(s.filter) is not null
    union all
    select format('rule %s of scenario "%s"', r.rule_id, r.scenario), recdb.filter_problem(r.condition),
        format('delete from recdb.rule where rule_id = %s;', r.rule_id)
    from recdb.rule r
    where recdb.filter_problem(r.condition) is not null
    order by 1;
end;
comment on function recdb.unread_filters() is
    'Internal: the rows of scenario and rule whose filter or condition cannot be read, and why.';
