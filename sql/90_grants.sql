-- The functions that each role may call, and the views that it may read. PUBLIC gets nothing. You grant recdb_reader
-- and recdb_writer to the application's role.

revoke all on all routines in schema recdb from public;
-- Default privileges of the owner may have granted these.
revoke all on all tables in schema recdb from public;
revoke all on all sequences in schema recdb from public;
do $$
declare
    other record;
begin
    for other in
        select c.oid::regclass as name, a.grantee::regrole as role
        from pg_catalog.pg_class c
        cross join lateral aclexplode(c.relacl) a
        where c.oid in ('recdb.secret'::regclass, 'recdb.forgotten_user'::regclass)
          and a.grantee not in (c.relowner, 0)
    loop
        execute format('revoke all on %s from %s', other.name, other.role);
    end loop;
end
$$;

-- The lists, for ids of every type.
do $$
declare
    form record;
begin
    for form in
        select p.oid::regprocedure as signature, p.pronamespace = 'public'::regnamespace as is_public
        from pg_catalog.pg_proc p
        where p.proname in ('recommend', 'recommend_for_items', 'recommend_batch')
          and (p.pronamespace = 'recdb'::regnamespace
              or p.pronamespace = 'public'::regnamespace and p.proname = 'recommend'
                  and p.prosrc like '%recdb.list_for_user(%')
    loop
        if form.is_public then
            execute format('revoke all on function %s from public', form.signature);
        end if;
        execute format('grant execute on function %s to recdb_reader, recdb_analyst', form.signature);
    end loop;
end
$$;

grant usage on schema recdb to recdb_self, recdb_reader, recdb_writer, recdb_analyst, recdb_maintainer;

grant execute on function
    recdb.list_for_user(text, bigint, text[], text, jsonb, text, text[], text, jsonb),
    recdb.list_for_items(text[], bigint, text[], real[], text, jsonb, text, text[], text, jsonb),
    recdb.lists_for_users(text[], bigint, text, jsonb, text, text[], text, jsonb),
    recdb.popular(bigint, jsonb, jsonb),
    recdb.trending(bigint, interval, jsonb),
    recdb.similar_items(text, bigint),
    recdb.explain(text, text, text, text)
to recdb_reader, recdb_analyst;

grant execute on function
    recdb.track(text, text, text, timestamptz, jsonb, double precision),
    recdb.merge_users(text, text),
    recdb.record_impressions(text, text[], text, integer[], timestamptz, text, text, real[]),
    recdb.impressions(text, anycompatiblearray, text, integer[], timestamptz, text, text, real[]),
    recdb.impressions(anynonarray, anycompatiblearray, text, integer[], timestamptz, text, text, real[])
to recdb_writer;

grant execute on function recdb.variant(text, text), recdb.variant(anynonarray, text)
to recdb_reader, recdb_writer, recdb_analyst;

grant execute on function
    recdb.neighbors(text, bigint),
    recdb.audience(text, bigint),
    recdb.explain_neighbors(text, text, text),
    recdb.item_of(text),
    recdb.decay(timestamptz, timestamptz, interval),
    recdb.settle(double precision, double precision)
to recdb_analyst;
grant select on all tables in schema recdb to recdb_analyst;
-- Who was forgotten stays unknown. So analysts read interactions by the view, and not by the functions that ask this.
revoke all on recdb.forgotten_user, recdb.secret from recdb_analyst;
revoke all on function recdb.profile_of(text), recdb.profile_of(anynonarray), recdb.interactions_of(text)
    from recdb_analyst;
-- The views interactions and items, and item_of(), call them.
grant execute on function recdb.show_interactions(), recdb.show_items(), recdb.show_item(text),
    recdb.show_embedding(text) to recdb_analyst;

-- Ids of other types than text: the functions above, and what these forms call.
grant execute on function
    recdb.similar_items(anynonarray, bigint),
    recdb.explain(anynonarray, anycompatiblenonarray, text, text),
    recdb.explain(text, anynonarray, text, text)
to recdb_reader, recdb_analyst;
grant execute on function
    recdb.neighbors(anynonarray, bigint),
    recdb.audience(anynonarray, bigint),
    recdb.item_of(anynonarray),
    recdb.explain_neighbors(anynonarray, anycompatiblenonarray, text),
    recdb.explain_neighbors(text, anynonarray, text)
to recdb_analyst;
grant execute on function
    recdb.track(anynonarray, anycompatiblenonarray, text, timestamptz, jsonb, double precision),
    recdb.track(text, anynonarray, text, timestamptz, jsonb, double precision),
    recdb.track(text, text, anyenum, timestamptz, jsonb, double precision),
    recdb.track(anycompatiblenonarray, text, anyenum, timestamptz, jsonb, double precision),
    recdb.track(text, anycompatiblenonarray, anyenum, timestamptz, jsonb, double precision),
    recdb.track(anycompatiblenonarray, anycompatiblenonarray, anyenum, timestamptz, jsonb, double precision),
    recdb.merge_users(anynonarray, anycompatiblenonarray),
    recdb.merge_users(text, anynonarray)
to recdb_writer;
grant execute on function recdb.id_text(text, regtype), recdb.convert_id(text, regtype),
    recdb.id_texts(text[], regtype), recdb.convert_ids(text[], regtype), recdb.parse_exclude(text),
    recdb.is_input(text, text)
to recdb_self, recdb_reader, recdb_writer, recdb_analyst;

-- Callers who ask for themselves alone.
grant execute on function
    recdb.recommend_me(bigint, anycompatiblearray, text, jsonb, text, anyarray, text, jsonb),
    recdb.recommend_me(bigint, text, text, jsonb, text, anycompatiblearray, text, jsonb),
    recdb.recommend_me(bigint, jsonb, text, jsonb, text, anycompatiblearray, text, jsonb),
    recdb.list_for_me(bigint, text[], text, jsonb, text, text[], text, jsonb),
    recdb.explain_me(text, text, text),
    recdb.explain_me(anynonarray, text, text)
to recdb_self;

-- Whether a standby is fresh enough, and whose it is: whoever reads or writes may ask.
grant execute on function recdb.replication_lag(), recdb.replayed(pg_lsn, interval), recdb.database_identity()
to recdb_self, recdb_reader, recdb_writer, recdb_analyst, recdb_maintainer;

grant execute on procedure recdb.refresh() to recdb_maintainer;
grant execute on function recdb.refresh_changed(), recdb.log_failure(text, timestamptz, text),
    recdb.begin_run(text), recdb.fail_run(bigint, text, text) to recdb_maintainer;
grant execute on function recdb.is_running(integer, timestamptz) to recdb_maintainer, recdb_analyst;
grant select on recdb.refresh_log, recdb.last_runs, recdb.health, recdb.models to recdb_maintainer;

-- The figures of impressions and experiments.
grant execute on function recdb.measure_impressions(timestamptz, timestamptz, interval),
    recdb.experiment_sums(text, interval),
    recdb.logged_outcomes(text, text, timestamptz, text, interval, bigint) to recdb_analyst, recdb_maintainer;
grant select on recdb.online_metrics, recdb.experiment, recdb.experiment_variant to recdb_maintainer;

-- The view health calls it.
grant execute on function recdb.hidden_sources(), recdb.count_users(), recdb.count_stored(),
    recdb.count_vectors(integer), recdb.count_bytes() to recdb_analyst, recdb_maintainer;

-- Which version serves and how old it is: the HTTP service shows this to a monitor.
grant select (label, active, created_at) on recdb.models to recdb_reader;
