#!/usr/bin/env bash
# Starts a coordinator and two workers with Citus in throwaway directories, distributes a ledger
# over them as docs/sharding.md prints it, runs a command there, and stops and removes all of it.
#
#   bench/citus.sh [--source DIRECTORY] COMMAND [ARGUMENT...]
#   bench/citus.sh [--source DIRECTORY] --measure [ROUNDS [SECONDS]]
#
# The PG* environment variables point the command to the coordinator, and CITUS_NODES lists the
# socket directories of all nodes. --measure compares 1, 2 and 3 nodes and one server without Citus,
# in turn (default: 3 rounds of 10 seconds).
#
# Citus and usage_ledger must be installed for the PostgreSQL of PG_CONFIG. With --source, the
# script makes a copy of that PostgreSQL next to the source of Citus, builds both and installs them
# there; the next time it finds them. It installs nothing else. To build Citus needs the headers of
# lz4, zstd and krb5 (CPPFLAGS and LDFLAGS can name another place). Citus 13.2.2 does not compile with
# PostgreSQL 15.20, which declares have_createdb_privilege: include commands/dbcommands.h in place of
# its definition in src/include/pg_version_compat.h.
#
# Environment:
#   CITUS_NODE_COUNT   nodes, the coordinator included (default: 3)
#   CLUSTER_SETTINGS   additional server settings
set -euo pipefail
cd "$(dirname "$0")/.."

build() {
    local source=$1 from
    local root=$source/postgresql
    from=$(dirname "$("${PG_CONFIG:-pg_config}" --bindir)")
    export PG_CONFIG=$root$from/bin/pg_config
    if [ ! -e "$PG_CONFIG" ]; then
        # Relocatable: it finds its own files by their place relative to the program.
        mkdir -p "$root$(dirname "$from")" "$root/usr/share/postgresql"
        cp -a "$from" "$root$(dirname "$from")/"
        cp -a "/usr/share/postgresql/$(basename "$from")" "$root/usr/share/postgresql/"
        ln -s /usr/include "$root/usr/include"
        ln -s /usr/share/postgresql-common "$root/usr/share/postgresql-common"
    fi
    if [ ! -e "$("$PG_CONFIG" --sharedir)/extension/citus.control" ]; then
        (cd "$source" && PATH=$(dirname "$PG_CONFIG"):$PATH ./configure PG_CONFIG="$PG_CONFIG" --without-libcurl)
        make -s -C "$source" with_llvm=no install-extension
    fi
    make -s -f Makefile.pgxs PG_CONFIG="$PG_CONFIG" install
    chmod -R a+rX "$root"
}
if [ "${1:-}" = --source ]; then
    build "$(realpath "$2")"
    shift 2
fi

# The script runs itself again inside each cluster, to start the next one.
if [ "${1:-}" != --inside ]; then
    set -- --inside "$@"
    export CITUS_NODES='' # of an earlier node: none
else
    CITUS_NODES="$CITUS_NODES $PGHOST"
fi
read -ra nodes <<<"$CITUS_NODES"
if [ "${#nodes[@]}" -lt "${CITUS_NODE_COUNT:-3}" ]; then
    export CLUSTER_SETTINGS="shared_preload_libraries = 'citus,usage_ledger'
max_prepared_transactions = 200
${CLUSTER_SETTINGS:-}"
    exec scripts/with_cluster.sh bench/citus.sh "$@"
fi
shift

export PGHOST=${nodes[0]}
sql() {
    psql -X -q -At -v ON_ERROR_STOP=1 "$@"
}
for node in "${nodes[@]}"; do
    sql -h "$node" -c "ALTER SYSTEM SET citus.local_hostname = '$node'" -c 'SELECT pg_reload_conf()' >/dev/null
done

# distribute DATABASE NODE...: a ledger over some nodes, the first one is its coordinator.
distribute() {
    local database=$1 node
    shift
    {
        for node in "$@"; do
            if [ "$database" != postgres ]; then
                sql -h "$node" -d postgres -c "CREATE DATABASE $database" 2>/dev/null
            fi
            sql -h "$node" -d "$database" -c 'CREATE EXTENSION citus'
        done
        sql -d "$database" -c "SELECT citus_set_coordinator_host('$1', 5432)"
        for node in "${@:2}"; do
            sql -d "$database" -c "SELECT citus_add_node('$node', 5432)"
        done
        sql -d "$database" -c "SELECT citus_set_node_property('$1', 5432, 'shouldhaveshards', true)"
        test/tools/snippets.sh docs/sharding.md 'Citus set-up' | grep -v '^CREATE ROLE\|^ALTER ROLE' |
            sql -d "$database"
    } >/dev/null
}

if [ "${1:-}" != --measure ]; then
    distribute postgres "${nodes[@]}"
    "$@"
    exit
fi

# ----------------------------------------------------------------------------
# Measuring

rounds=${2:-3}
seconds=${3:-10}
directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_citus.XXXXXX")
trap 'rm -rf "$directory"' EXIT
cat >"$directory/calls" <<'SQL'
\set n random(100001, 101000)
SELECT billing.increment_usage(('00000000-0000-4000-8000-000000' || :n)::uuid, 100, gen_random_uuid()::text);
SQL
# The account as a constant, so that the call can be delegated.
cat >"$directory/delegated" <<'SQL'
\set n random(100001, 101000)
SELECT billing.increment_usage('00000000-0000-4000-8000-000000:n', 100, gen_random_uuid()::text);
SQL
cat >"$directory/batches" <<'SQL'
SELECT count(*) FROM billing.increment_usage_batch(
    ARRAY(SELECT ('00000000-0000-4000-8000-000000' || 100000 + ceil(random() * 1000))::uuid
            FROM generate_series(1, 100)),
    array_fill(100::bigint, ARRAY[100]),
    ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, 100)));
SQL

# The processor time that the servers have used so far, in ms.
servers_ms() {
    local node postmaster
    for node in "${nodes[@]}"; do
        postmaster=$(head -n 1 "$node/data/postmaster.pid")
        { cat "/proc/$postmaster/stat" /proc/[0-9]*/stat 2>/dev/null || true; } | # some end meanwhile
            awk -v postmaster="$postmaster" '
                { sub(/.*\) /, "") } # fields count from the state
                NR == 1 { ticks += $12 + $13 + $14 + $15; next }
                $2 == postmaster { ticks += $12 + $13 }
                END { print ticks * 10 }'
    done | awk '{ sum += $1 } END { print sum }'
}

# measure DATABASE SCRIPT CLIENTS: the rate, and the processor time of the servers for each, in ms.
measure() {
    local before after protocol=prepared
    if [ "$2" = delegated ]; then
        protocol=simple
    fi
    before=$(servers_ms)
    pgbench -n -M "$protocol" -c "$3" -j 2 -T "$seconds" -f "$directory/$2" "$1" >"$directory/out"
    after=$(servers_ms)
    awk -v before="$before" -v after="$after" '
        /^number of transactions actually processed/ { count = $NF }
        /^tps/ { print $3, (after - before) / count }' "$directory/out"
}

sql -d postgres -c 'CREATE DATABASE one_server'
sql -d one_server -c 'CREATE SCHEMA billing' -c 'CREATE EXTENSION usage_ledger SCHEMA billing'
for count in 1 2 3; do
    distribute "nodes_$count" "${nodes[@]:0:count}"
done
distribute delegating "${nodes[@]:0:3}"
test/tools/snippets.sh docs/sharding.md Delegation | sql -d delegating >/dev/null
databases=(one_server nodes_1 nodes_2 nodes_3 delegating)
for database in "${databases[@]}"; do
    sql -d "$database" -c "
        SELECT count(*) FROM billing.increment_usage_batch(
            ARRAY(SELECT ('00000000-0000-4000-8000-000000' || 100000 + n)::uuid
                    FROM generate_series(1, 1000) AS n),
            array_fill(100::bigint, ARRAY[1000]), array_fill('first'::text, ARRAY[1000]))" >/dev/null
done

median() {
    sort -n | awk '{ value[NR] = $1 }
                   END { print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'
}

for ((round = 1; round <= rounds; round++)); do
    for point in 'calls 8' 'batches 2'; do
        read -r script clients <<<"$point"
        for database in "${databases[@]}"; do
            if [ "$script $database" = 'calls delegating' ]; then
                measure "$database" delegated "$clients" >>"$directory/$script.$database"
            elif [ "$database" != delegating ]; then
                measure "$database" "$script" "$clients" >>"$directory/$script.$database"
            fi
        done
    done
done
echo "script database | per second | ratio to one server | ms of processor time each"
for script in calls batches; do
    for database in "${databases[@]}"; do
        results=$directory/$script.$database
        if [ -e "$results" ]; then
            ratio=$(paste -d ' ' "$results" "$directory/$script.one_server" | awk '{ print $1 / $3 }' | median)
            rate=$(awk '{ print $1 }' "$results" | median)
            cost=$(awk '{ print $2 }' "$results" | median)
            printf '%s %s | %.0f | %.2f | %.2f\n' "$script" "$database" "$rate" "$ratio" "$cost"
        fi
    done
done
