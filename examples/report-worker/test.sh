#!/usr/bin/env bash
# Builds the worker and runs its tests in the database that the PG* environment
# variables name, which has the extension:
#
#   scripts/with_cluster.sh scripts/with_extension.sh examples/report-worker/test.sh
#
# Needs Node.js 20 or later and npm, as in Debian's packages nodejs and npm.
set -euo pipefail
cd "$(dirname "$0")"

for command in node npm; do
    if ! command -v "$command" >/dev/null; then
        echo "$command is not installed; Debian has it in the packages nodejs and npm." >&2
        exit 1
    fi
done
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    echo "Node.js $(node --version) is too old; 20 or later is needed." >&2
    exit 1
fi

# npm leaves a copy of what it has installed.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
    npm ci
fi
exec npm test
