#!/usr/bin/env bash
# Runs make installcheck against the server that the PG* environment variables name. If a
# test fails, shows the differences.
#
#   test/tools/installcheck.sh [MAKE_ARGUMENT]...
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p results # or two runs that start together could both try to make it
make -s -f Makefile.pgxs PG_CONFIG="${PG_CONFIG:-pg_config}" installcheck "$@" || {
    status=$?
    head -n 200 regression.diffs >&2
    exit "$status"
}
