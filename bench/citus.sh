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
# lz4, zstd and krb5 (CPPFLAGS and LDFLAGS can name another place).
#
# Environment:
#   CITUS_NODE_COUNT   nodes, the coordinator included (default: 3)
#   CITUS_DELEGATES    anything: delegate calls, as docs/sharding.md prints it
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
    psql -X -q -At -v ON_ERROR_STOP=1 "$@" >/dev/null
}
for node in "${nodes[@]}"; do
    sql -h "$node" -c "ALTER SYSTEM SET citus.local_hostname = '$node'" -c 'SELECT pg_reload_conf()' \
        -c 'CREATE EXTENSION citus'
done
sql -c "SELECT citus_set_coordinator_host('$PGHOST', 5432)"
for node in "${nodes[@]:1}"; do
    sql -c "SELECT citus_add_node('$node', 5432)"
done
sql -c "SELECT citus_set_node_property('$PGHOST', 5432, 'shouldhaveshards', true)"
{
    test/tools/snippets.sh docs/sharding.md 'Citus set-up'
    test/tools/snippets.sh README.md Grants
    if [ -n "${CITUS_DELEGATES:-}" ]; then
        test/tools/snippets.sh docs/sharding.md Delegation
    fi
} | sql
"$@"
