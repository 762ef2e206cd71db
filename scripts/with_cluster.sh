#!/usr/bin/env bash
# Runs a command against its own throwaway PostgreSQL cluster.
#
#   scripts/with_cluster.sh [--extension] COMMAND [ARGUMENT...]
#
# The cluster is in a temporary directory and listens on a unix socket there. The PG*
# environment variables point the command to it, as superuser "postgres". The cluster
# is stopped and removed however the command ends. With --extension, usage_ledger is
# created in the schema billing of the command's database; it must be installed.
#
# Environment:
#   PG_CONFIG          the PostgreSQL installation (default: the first in PATH)
#   POSTGRES           a program to run instead of the installation's postgres
#   CLUSTER_SETTINGS   additional server settings, one a line (fsync is on by default)
set -euo pipefail

creates_extension=
if [ "${1:-}" = --extension ]; then
    creates_extension=yes
    shift
fi
bindir=$("${PG_CONFIG:-pg_config}" --bindir)
directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger.XXXXXX")

# PostgreSQL refuses to run as root.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd "$directory" && setpriv --reuid=postgres --regid=postgres --init-groups "$@")
    else
        "$@"
    fi
}

finish() {
    status=$?
    set +e # the server must be stopped even if a command here fails
    trap - EXIT
    trap '' INT TERM PIPE
    if [ -n "${command:-}" ]; then
        kill "$command" 2>/dev/null
        wait "$command"
    fi
    if [ -e "$directory/data/postmaster.pid" ]; then
        as_server "$bindir/pg_ctl" -D "$directory/data" -m immediate -w stop >/dev/null || status=1
    fi
    if [ "$status" -ne 0 ] && [ -s "$directory/log" ]; then
        echo "Last lines of the server's log:" >&2
        tail -n 20 "$directory/log" >&2
    fi
    rm -rf "$directory"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ "$(id -u)" -eq 0 ]; then
    chown postgres: "$directory"
fi
as_server "$bindir/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
    >"$directory/initdb.log" || { cat "$directory/initdb.log" >&2; exit 1; }
cat >>"$directory/data/postgresql.conf" <<EOF
listen_addresses = ''
port = 5432
unix_socket_directories = '$directory'
max_connections = 200
${CLUSTER_SETTINGS:-}
EOF
as_server "$bindir/pg_ctl" -D "$directory/data" -l "$directory/log" ${POSTGRES:+-p "$POSTGRES"} -w start >/dev/null

unset PGSERVICE PGPASSWORD PGSSLMODE PGOPTIONS PGCLIENTENCODING
export PGHOST="$directory" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
export PATH="$bindir:$PATH"

if [ -n "$creates_extension" ]; then
    psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE SCHEMA billing' -c 'CREATE EXTENSION usage_ledger SCHEMA billing' \
        -c "ALTER DATABASE $PGDATABASE SET search_path = public, billing"
fi

# In the background, so that this script handles a signal immediately.
"$@" <&0 &
command=$!
status=0
wait "$command" || status=$?
command=
exit "$status"
