#!/bin/sh
# Starts the standby of compose.replica.yaml. The first start copies the primary. PGHOST and PGPASSWORD name it.
# Arguments are passed on to postgres.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    # An earlier copy that was interrupted left files behind.
    find "$PGDATA" -mindepth 1 -delete
    pg_basebackup --pgdata="$PGDATA" --username=replicator --slot=standby --write-recovery-conf --checkpoint=fast
fi
exec postgres -c hot_standby_feedback=on "$@"
