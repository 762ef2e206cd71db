#!/usr/bin/env bash
# Measures usage_ledger beside what one would write by hand, on a throwaway cluster
# with fsync and synchronous_commit on, and leaves results.csv and charts in
# bench/results.
#
#   scripts/bench.sh [OPTION]...            (--help lists the options)
#
# Takes about an hour and 40 GB of disk; --rounds, --seconds, --sections and --growth
# make it less. Further settings of the cluster are taken from CLUSTER_SETTINGS.
set -euo pipefail
cd "$(dirname "$0")/.."
additional_packages="python3-minimal gnuplot-nox"
. scripts/prepare.sh
as_root make -s -f Makefile.pgxs PG_CONFIG="$PG_CONFIG" install >/dev/null
export CLUSTER_SETTINGS="
shared_buffers = 1GB
max_wal_size = 32GB
checkpoint_timeout = 1h
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'bench_adaptive, bench_deferred'
${CLUSTER_SETTINGS:-}
"
exec scripts/with_cluster.sh python3 bench/bench.py "$@"
