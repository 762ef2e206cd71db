#!/usr/bin/env bash
# Runs the given TAP tests, or all of them. They create and stop their own clusters.
# PostgreSQL refuses to run as root, so root runs them as user postgres.
#
#   test/tools/tap.sh [FILE...]
set -euo pipefail
cd "$(dirname "$0")/../.."

pg_config=${PG_CONFIG:-pg_config}
pgxs=$(dirname "$("$pg_config" --pgxs)")/../..
directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_tap.XXXXXX")
finish() {
    if [ -n "${small_volume:-}" ]; then
        umount "$small_volume"
    fi
    rm -rf "$directory"
}
trap finish EXIT

tests=("$@")
if [ ${#tests[@]} -eq 0 ]; then
    tests=(test/t/*.pl)
fi
cp "${tests[@]}" test/t/*.pm "$directory"
cp -r README.md docs examples/plproxy test/tools/snippets.sh "$directory" # some tests run the SQL in these
clients=${USAGE_CLIENTS:-build/release/usage_clients}
if [ -e "$clients" ]; then # not every test needs them
    cp "$clients" "$directory/usage_clients"
fi

as_user=()
if [ "$(id -u)" -eq 0 ]; then
    mkdir "$directory/small"
    if mount -t tmpfs -o size=64m tmpfs "$directory/small"; then
        small_volume=$directory/small
    fi
    chown -R postgres: "$directory"
    as_user=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
cd "$directory"
"${as_user[@]}" env PATH="$("$pg_config" --bindir):$PATH" HOME="$directory" \
    PERL5LIB="$pgxs/src/test/perl:$directory" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
    USAGE_CLIENTS="$directory/usage_clients" SMALL_VOLUME="${small_volume:-}" \
    PG_TEST_TIMEOUT_DEFAULT=60 TESTDATADIR="$directory/data" TESTLOGDIR="$directory/log" top_builddir="$directory" \
    prove --timer --verbose ./*.pl || {
    status=$?
    # The second pattern matches each test's own log, which says why it died.
    find . \( -name '*.log' -o -name 'regress_log_*' \) -exec tail -n 40 {} + >&2
    exit "$status"
}
