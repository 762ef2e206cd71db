#!/usr/bin/env bash
# Builds the worker and runs its tests in the database that the PG* environment
# variables name, which has the extension:
#
#   scripts/with_cluster.sh scripts/with_extension.sh examples/report-worker/test.sh
#
# Needs Node.js 20 or later and npm, as Debian 13 has them in the packages nodejs and
# npm. Where they are not, there is nothing to run: exit status 77.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
    echo "skipped: there is no npm with Node.js 20 or later" >&2
    exit 77
fi

# npm leaves a copy of what it has installed.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
    npm ci
fi
exec npm test
