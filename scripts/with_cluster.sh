#!/usr/bin/env bash
# Runs a command against a throwaway PostgreSQL cluster of its own.
#
#   scripts/with_cluster.sh [--extension] COMMAND [ARGUMENT...]
#
# With --extension, the command's database has usage_ledger, which must be installed.
# The cluster lives in a temporary directory and listens on a unix socket there;
# the command finds it by the PG* environment variables, as superuser "postgres".
# It is stopped and removed however the command ends. PG_CONFIG names another
# installation than the first in the path, POSTGRES a program to run in the place of
# its postgres. Server settings beyond the defaults (fsync is on) come from
# CLUSTER_SETTINGS, one a line.
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
    set +e # whatever fails now, the server must be stopped
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
        echo "last lines of the server's log:" >&2
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
unix_socket_directories = '$directory'
max_connections = 200
${CLUSTER_SETTINGS:-}
EOF
as_server "$bindir/pg_ctl" -D "$directory/data" -l "$directory/log" ${POSTGRES:+-p "$POSTGRES"} -w start >/dev/null

unset PGSERVICE PGPASSWORD PGSSLMODE PGOPTIONS PGCLIENTENCODING
export PGHOST="$directory" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
export PATH="$bindir:$PATH"

if [ -n "$creates_extension" ]; then
    psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION usage_ledger'
fi

# In the background, so that a signal to this script is acted upon at once.
"$@" <&0 &
command=$!
status=0
wait "$command" || status=$?
command=
exit "$status"
