#!/usr/bin/env bash
# Runs the regress tests against a server under valgrind. Fails if valgrind reports an
# invalid access or a use of uninitialised memory with our code in the stack.
#
#   test/tools/valgrind.sh [REGRESS_TEST...]        (default: all)
#
# Not part of the test suite: all regress tests take half an hour. Leaks are not found
# here, because palloc hides them from valgrind; test/live/memory_test.cpp looks for them.
set -euo pipefail
cd "$(dirname "$0")/../.."
additional_packages=valgrind
. scripts/prepare.sh
build
install_extension

directory=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_valgrind.XXXXXX")
trap 'rm -rf "$directory"' EXIT
chmod 777 "$directory"

# Runs instead of the postmaster. Each of its children logs to its own file.
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

# Each error is a paragraph. Errors without our code in the stack are the server's own.
cat "$directory"/*.log | sed 's/^==[0-9]*== \?//' |
    awk -v RS= '/usage_ledger/ { print $0 "\n"; count++ } { all++ }
        END { print all + 0 " errors, " count + 0 " with usage_ledger in the stack"; exit count > 0 }' || status=1
exit "$status"
