#!/usr/bin/env bash
# Runs the instructions of the Dockerfile without Docker, in a root of Debian, and starts the
# server as its CMD does.
#
#   test/tools/in_root.sh ROOT trixie test/tools/dockerfile.sh
#
# Debian's packages stand in for those of the official image, and this script for its entry
# point: it makes a cluster and runs /docker-entrypoint-initdb.d in the database app.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PG_MAJOR=17 DEBIAN_FRONTEND=noninteractive
mkdir -p /docker-entrypoint-initdb.d
apt-get install -q -y --no-install-recommends "postgresql-$PG_MAJOR" >/dev/null

# Each instruction on one line.
instructions=$(sed '/^#/d; :more; /\\$/{N; s/\\\n//; b more}' Dockerfile)
while read -r instruction arguments; do
    case $instruction in
        RUN) sh -euc "$arguments" >/dev/null ;;
        COPY)
            if [ "$arguments" = '--from=build /installed/ /' ]; then
                cp -a /installed/. /
            fi
            ;;
        CMD) mapfile -t command < <(grep -o '"[^"]*"' <<<"$arguments" | tr -d '"') ;;
        ARG | FROM | WORKDIR | '') ;; # WORKDIR and COPY . . are this directory
        *) echo "unknown instruction: $instruction" >&2; exit 1 ;;
    esac
done <<<"$instructions"

bin=/usr/lib/postgresql/$PG_MAJOR/bin
data=$(su postgres -c 'mktemp -d')
as_server() { su postgres -c "$*"; }
as_server "$bin/initdb -D $data/data -A trust" >/dev/null
as_server "$bin/pg_ctl -D $data/data -w -l $data/log -o '-k $data -h \"\" ${command[*]:1}' start" >/dev/null
trap 'as_server "$bin/pg_ctl -D $data/data -m immediate stop" >/dev/null' EXIT
export PGHOST=$data PGUSER=postgres PGDATABASE=app
"$bin/createdb" app
for file in /docker-entrypoint-initdb.d/*.sql; do
    "$bin/psql" -X -q -v ON_ERROR_STOP=1 -f "$file"
done

account=7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11
"$bin/psql" -X -q -v ON_ERROR_STOP=1 -c "SET usage_ledger.settlement = 'deferred'" \
    -c "SELECT billing.increment_usage('$account', 50000, 'k')" >/dev/null
for _ in $(seq 100); do # the worker settles it
    [ "$("$bin/psql" -XAtc 'SELECT tokens_used FROM billing.usage_periods')" = 50000 ] && echo 'the image counts and settles' && exit
    sleep 0.1
done
cat "$data/log" >&2
exit 1
