#!/bin/sh
# The database's image runs this file once, when its data folder is new. On one that is not, run it by hand, once:
#   docker compose -f compose.yaml -f compose.replica.yaml exec database /docker-entrypoint-initdb.d/create-replication.sh
# It creates the role that the standby connects as, lets it in, and keeps the log that the standby has not received yet.
set -eu
line="host replication replicator all scram-sha-256"
grep -qxF "$line" "$PGDATA/pg_hba.conf" || echo "$line" >> "$PGDATA/pg_hba.conf"
psql --set=ON_ERROR_STOP=1 --set=password="$REPLICATION_PASSWORD" --username="${POSTGRES_USER:-postgres}" \
    --dbname="$POSTGRES_DB" --no-psqlrc --quiet --output=/dev/null <<'SQL'
select 'create role replicator login replication'
where not exists (select from pg_roles where rolname = 'replicator') \gexec
alter role replicator password :'password';
select pg_create_physical_replication_slot('standby', true)
where not exists (select from pg_replication_slots where slot_name = 'standby');
select pg_reload_conf();
SQL
