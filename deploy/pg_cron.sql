-- The SQL half of the job from inside the database, as a role that has recdb_maintainer, in the database that
-- cron.database_name names. Training stays outside: `recdb refresh --if-stale 24h`, once a day, from cron or a timer.
create extension if not exists pg_cron;
select cron.schedule('recdb-refresh', '*/5 * * * *', 'call recdb.refresh()');
