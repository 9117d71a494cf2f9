-- The first step of `recdb refresh --full`, and of a refresh that cannot go on from the last one.


-- recdb.rebuild: compute the weighted interactions again from all interactions.
--   parameters  force  true: also if row-level security may hide rows, and if most of what was there would be lost
--   reads       interactions, config, interaction_kind
--   writes      user_key, item_key, user_item_settled, item_popularity; it empties user_item_recent and recent_user; a
--               row of refresh_log; config.decay_origin, if it is more than a half-life from the newest interaction; as
--               keep_impressions(), keep_little_shown() and keep_segments()
--   errors      as refuse_hidden_rows() and refuse_loss(), unless force; 55000 for a row that cannot be read
-- Only a rebuild sees deleted interactions, changed weights and a changed half-life for all users. Moving decay_origin
-- keeps the weights of new interactions near their kinds' weights; most rebuilds do not move it and change few rows.
create or replace function recdb.rebuild(force boolean default false)
returns void
language plpgsql volatile security definer
set search_path from current
as $$
declare
    began constant timestamptz := clock_timestamp();
    horizon xid8;
    before record;
    after record;
    written bigint;
begin
    perform recdb.require_read_committed();
    perform recdb.take_refresh_lock(true);
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    if not recdb.await_commits() then
        horizon := coalesce((select max(l.seen) from recdb.refresh_log l where l.cluster = recdb.cluster()), '0');
    end if;
    perform recdb.review_sources(false);
    perform recdb.refuse_broken();
    if not coalesce(force, false) then
        perform recdb.refuse_hidden_rows();
        before := recdb.learned_size();
    end if;
    if not exists (select from recdb.hidden_sources()) then
        perform recdb.lift_tombstones();
    end if;
    -- A dump of the schema alone has no settings.
    insert into recdb.config default values on conflict do nothing;
    perform recdb.assign_keys();
    -- For PostgreSQL a table of one row that was never analysed has a thousand; the plan below would be far too slow.
    analyze recdb.user_key, recdb.item_key, recdb.config, recdb.interaction_kind, recdb.forgotten_user;
    update recdb.config c set decay_origin = i.newest
    from (
        -- Not of the future: one wrong row would make everything else weigh next to nothing.
        select max(s.newest) as newest
        from recdb.sum_by_user() s
        where (select f.half_life is not null from recdb.config f)
    ) i
    where abs(date_part('epoch', i.newest) - date_part('epoch', c.decay_origin)) > date_part('epoch', c.half_life);
    -- Without rows nobody reads it with success, and only then may its readers wait.
    if (select c.relispopulated from pg_catalog.pg_class c where c.oid = 'recdb.user_item_settled'::regclass) then
        refresh materialized view concurrently recdb.user_item_settled;
    else
        refresh materialized view recdb.user_item_settled;
    end if;
    delete from recdb.user_item_recent;
    delete from recdb.recent_user;
    perform recdb.sum_popularity();
    perform recdb.take_back();
    -- `recdb init` has said so when it took an attached table out: its rows are meant to go.
    if not coalesce(force, false) and not recdb.sources_changed() then
        after := recdb.learned_size();
        perform recdb.refuse_loss(before.pairs, after.pairs, before.users, after.users);
    end if;
    perform recdb.refresh_queued();
    perform recdb.keep_impressions(recount => true);
    perform recdb.keep_little_shown(refill => true);
    perform recdb.keep_segments(recount => true);
    select count(*) into written from recdb.user_item_settled;
    perform recdb.end_run('rebuild', began, (select count(*) from recdb.user_key), written, seen => horizon);
    perform recdb.keep_interactions();
exception when others then
    perform recdb.refuse_unreadable(sqlstate);
    raise;
end
$$;
comment on function recdb.rebuild(boolean) is
    'Computes the weighted interactions and popularity again from all interactions, as `recdb refresh --full` does '
    'first: only this sees deleted interactions, changed weights and a changed half-life. Readers do not wait. Error '
    '42501 if row-level security may hide rows of a source from recdb''s owner; error 55000 if fewer than half of at '
    'least 500 weighted interactions, or of at least 100 users, would be left. After an error everything is as before. '
    'force: true goes on in both cases.';
