#!/usr/bin/env bash
# Measures the cost of the proxy of docs/sharding.md. The same number of clients calls
# through the proxy and directly to its shards, in turn, on throwaway clusters with fsync
# on. The extension and PL/Proxy must be installed.
#
#   bench/sharding.sh [ROUNDS [SECONDS]]        (default: 5 rounds of 10 seconds)
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
seconds=${2:-10}

# The socket directories of the running clusters: two shards, then the proxy. The script
# runs itself again inside each cluster, to start the next one.
clusters=()
if [ -n "${CLUSTERS+set}" ]; then
    read -ra clusters <<<"$CLUSTERS $PGHOST"
fi
export CLUSTERS="${clusters[*]}"
if [ ${#clusters[@]} -lt 3 ]; then
    if [ ${#clusters[@]} -eq 2 ]; then
        export PGSERVICEFILE=${clusters[0]}/pg_service.conf
        for shard in 0 1; do
            printf '[usage_shard_%s]\nhost=%s\nport=5432\ndbname=postgres\n' "$shard" "${clusters[shard]}"
        done >"$PGSERVICEFILE"
    fi
    exec scripts/with_cluster.sh bench/sharding.sh "$rounds" "$seconds"
fi
proxy=${clusters[2]}

# Runs the SQL under some headings of a document in a cluster.
run_snippets() {
    local cluster=$1 document=$2 heading
    shift 2
    for heading in "$@"; do
        test/tools/snippets.sh "$document" "$heading"
    done | psql -X -q -v ON_ERROR_STOP=1 -h "$cluster"
}
for shard in "${clusters[@]:0:2}"; do
    run_snippets "$shard" docs/sharding.md Shards
    run_snippets "$shard" README.md Grants
done
run_snippets "$proxy" docs/sharding.md Proxy
psql -XAt -h "${clusters[0]}" -f examples/plproxy/functions.sql |
    cat - examples/plproxy/batches.sql | psql -X -q -v ON_ERROR_STOP=1 -h "$proxy"

directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_sharding.XXXXXX")
trap 'rm -rf "$directory"' EXIT
cat >"$directory/first" <<'SQL'
\set n :n + 1
SELECT billing.increment_usage(md5('account ' || :n)::uuid, 100, 'first');
SQL
cat >"$directory/calls" <<'SQL'
\set n random(1, 10000)
SELECT billing.increment_usage(md5('account ' || :n)::uuid, 100, gen_random_uuid()::text);
SQL
cat >"$directory/batches" <<'SQL'
SELECT count(*) FROM billing.increment_usage_batch(
    ARRAY(SELECT md5('account ' || ceil(random() * 10000))::uuid FROM generate_series(1, 1000)),
    array_fill(100::bigint, ARRAY[1000]),
    ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, 1000)));
SQL

# per_second CLIENTS SCRIPT CLUSTER: prints the rate of calls.
per_second() {
    pgbench -n -M prepared -c "$1" -j 2 -T "$seconds" -f "$directory/$2" -h "$3" -U worker postgres |
        sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}
through_proxy() {
    per_second "$1" "$2" "$proxy"
}
directly() {
    per_second $(($1 / 2)) "$2" "${clusters[0]}" >"$directory/one" &
    per_second $(($1 / 2)) "$2" "${clusters[1]}" >"$directory/other"
    wait $!
    cat "$directory/one" "$directory/other" | awk '{ sum += $1 } END { print sum }'
}

median() {
    sort -n | awk '{ value[NR] = $1 }
                   END { print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'
}

# Every account gets a period on both shards, so that no measured call opens one.
for shard in "${clusters[@]:0:2}"; do
    pgbench -n -M prepared -D n=0 -t 10000 -f "$directory/first" -h "$shard" -U worker postgres >/dev/null
done

echo "script clients | direct, per second | through the proxy | proxy / direct | additional ms a call"
for point in 'calls 2' 'calls 16' 'batches 4'; do
    read -r script clients <<<"$point"
    : >"$directory/results"
    for ((round = 1; round <= rounds; round++)); do
        if ((round % 2)); then
            direct=$(directly "$clients" "$script")
            proxied=$(through_proxy "$clients" "$script")
        else
            proxied=$(through_proxy "$clients" "$script")
            direct=$(directly "$clients" "$script")
        fi
        awk -v direct="$direct" -v proxied="$proxied" -v clients="$clients" \
            'BEGIN { print direct, proxied, proxied / direct, 1000 * clients * (1 / proxied - 1 / direct) }' \
            >>"$directory/results"
    done
    for column in 1 2 3 4; do
        awk -v column="$column" '{ print $column }' "$directory/results" | median
    done | paste -s -d ' ' | awk -v point="$point" \
        '{ printf "%s | %.0f | %.0f | %.2f | %.2f\n", point, $1, $2, $3, $4 }'
    sed 's/^/    /' "$directory/results"
done
