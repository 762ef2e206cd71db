#!/usr/bin/env bash
# Builds the worker and runs its tests in the database that the PG* environment
# variables name. That database must have the extension:
#
#   scripts/with_cluster.sh --extension examples/report-worker/test.sh
#
# Needs npm and Node.js 20 or later. Debian 13 has them in the packages npm and nodejs.
# Without them it skips the tests, with exit status 77.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
    echo "skipped: there is no npm with Node.js 20 or later" >&2
    exit 77
fi

# npm keeps a copy of the lock file that it last installed.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
    npm ci
fi
exec npm test
