#!/usr/bin/env bash
# Runs the TAP tests, or those that are named. They make and stop clusters of
# their own, which refuse to run as root: root becomes user postgres for them.
#
#   scripts/tap.sh [TEST...]
set -euo pipefail
cd "$(dirname "$0")/.."

pg_config=${PG_CONFIG:-pg_config}
pgxs=$(dirname "$("$pg_config" --pgxs)")/../..
directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_tap.XXXXXX")
trap 'rm -rf "$directory"' EXIT

tests=("$@")
if [ ${#tests[@]} -eq 0 ]; then
    tests=(test/t/*.pl)
fi
cp "${tests[@]}" "$directory"

as_user=()
if [ "$(id -u)" -eq 0 ]; then
    chown -R postgres: "$directory"
    as_user=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
cd "$directory"
"${as_user[@]}" env PATH="$("$pg_config" --bindir):$PATH" HOME="$directory" \
    PERL5LIB="$pgxs/src/test/perl" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
    PG_TEST_TIMEOUT_DEFAULT=60 TESTDATADIR="$directory/data" TESTLOGDIR="$directory/log" top_builddir="$directory" \
    prove --timer --verbose ./*.pl || {
    status=$?
    tail -n 40 log/*.log >&2
    exit "$status"
}
