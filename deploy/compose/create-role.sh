#!/bin/sh
# The database's image runs this file once, when its data folder is new. It creates the role that the service
# connects as and grants it only the rights that the service needs.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$FEED_PASSWORD" --username="${POSTGRES_USER:-postgres}" \
    --dbname="$POSTGRES_DB" --no-psqlrc --quiet <<'SQL'
create role recdb_reader nologin;
create role recdb_writer nologin;
create role feed login password :'password' in role recdb_reader, recdb_writer;
alter role feed set statement_timeout = '10s';
SQL
