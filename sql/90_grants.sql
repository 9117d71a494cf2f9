-- Who may call which function and read which view. PUBLIC may do nothing. You grant recdb_reader and recdb_writer to
-- the application's role.

revoke all on all routines in schema recdb from public;
revoke all on function public.recommend(text, bigint, text[], text, jsonb, text) from public;
revoke all on function public.recommend(text, bigint, text, text, jsonb, text) from public;

grant usage on schema recdb to recdb_reader, recdb_writer, recdb_analyst, recdb_maintainer;

grant execute on function
    public.recommend(text, bigint, text[], text, jsonb, text),
    public.recommend(text, bigint, text, text, jsonb, text),
    recdb.recommend(text, bigint, text[], text, jsonb, text),
    recdb.recommend(text, bigint, text, text, jsonb, text),
    recdb.parse_exclude(text),
    recdb.recommend_for_items(text[], bigint, text[], real[], text, jsonb, text),
    recdb.recommend_batch(text[], bigint),
    recdb.popular(bigint),
    recdb.similar_items(text, bigint),
    recdb.explain(text, text, text)
to recdb_reader, recdb_analyst;

grant execute on function
    recdb.track(text, text, text, timestamptz, jsonb),
    recdb.merge_users(text, text)
to recdb_writer;

grant execute on function
    recdb.neighbors(text, bigint),
    recdb.explain_neighbors(text, text, text),
    recdb.profile_of(text),
    recdb.interactions_of(text),
    recdb.item_of(text),
    recdb.decay(timestamptz, timestamptz, interval),
    recdb.settle(double precision, double precision)
to recdb_analyst;
grant select on all tables in schema recdb to recdb_analyst;

grant execute on procedure recdb.refresh() to recdb_maintainer;
grant execute on function recdb.refresh_changed(), recdb.log_failure(text, timestamptz, text) to recdb_maintainer;
grant select on recdb.refresh_log, recdb.health, recdb.models to recdb_maintainer;

-- Which version serves and how old it is: the HTTP service shows this to a monitor.
grant select (label, active, created_at) on recdb.models to recdb_reader;
