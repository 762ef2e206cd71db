#!/usr/bin/env bash
# Runs the regress tests against a server under valgrind, and fails if there is an
# invalid access or a use of uninitialised memory with code of ours in its stack.
#
#   test/tools/valgrind.sh [REGRESS_TEST...]        (all of them)
#
# By hand: all of them take half an hour. The extension must be installed. (Leaks are not seen
# here, for palloc hides them: test/live/memory_test.cpp looks for those.)
set -euo pipefail
cd "$(dirname "$0")/../.."
additional_packages=valgrind
. scripts/prepare.sh

directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_valgrind.XXXXXX")
trap 'rm -rf "$directory"' EXIT
chmod 777 "$directory"

# What runs in the postmaster's place; each of its children logs to a file of its own.
cat >"$directory/postgres" <<END
#!/bin/sh
exec valgrind --quiet --leak-check=no --num-callers=60 --error-limit=no \\
    --log-file='$directory/%p.log' '$("$PG_CONFIG" --bindir)/postgres' "\$@"
END
chmod 755 "$directory/postgres"

export POSTGRES="$directory/postgres" PGCTLTIMEOUT=300
export CLUSTER_SETTINGS="
jit = off
shared_buffers = 16MB
max_connections = 20
autovacuum = off
"
status=0
scripts/with_cluster.sh test/tools/installcheck.sh ISOLATION= ${1:+REGRESS="install $*"} || status=$?

# Errors are paragraphs; the server's own, with nothing of ours in the stack, are not our concern.
cat "$directory"/*.log | sed 's/^==[0-9]*== \?//' |
    awk -v RS= '/usage_ledger/ { print $0 "\n"; count++ } { all++ }
        END { print all + 0 " errors, " count + 0 " with usage_ledger in the stack"; exit count > 0 }' || status=1
exit "$status"
