-- Schedules the refresh inside the database. Run this file in the database that cron.database_name names, as a role
-- that has recdb_maintainer. Training needs Python: run `recdb refresh --if-stale 24h` once a day from cron or a timer.
create extension if not exists pg_cron;
select cron.schedule('recdb-refresh', '*/5 * * * *', 'call recdb.refresh()');
