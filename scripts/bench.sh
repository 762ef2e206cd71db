#!/usr/bin/env bash
# Compares usage_ledger with hand-written SQL on a throwaway cluster, with fsync and
# synchronous_commit on. Writes results.csv and charts to bench/results.
#
#   scripts/bench.sh [OPTION]...            (--help lists the options)
#
# Takes 25 minutes on a quiet machine. For figures of large ledgers, and 40 GB of disk:
#   --rounds 5 --seconds 5 --workloads even,hot,zipf --growth 0,1000000,10000000,50000000
# --sections chooses sections. CLUSTER_SETTINGS adds server settings.
set -euo pipefail
cd "$(dirname "$0")/.."
additional_packages="python3-minimal gnuplot-nox redis-server pgbouncer"
. scripts/prepare.sh
build
install_extension
export CLUSTER_SETTINGS="
shared_buffers = 1GB
max_wal_size = 32GB
checkpoint_timeout = 1h
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'bench_adaptive, bench_deferred'
${CLUSTER_SETTINGS:-}
"
exec scripts/with_cluster.sh python3 bench/bench.py "$@"
