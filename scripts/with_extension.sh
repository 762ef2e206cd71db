#!/usr/bin/env bash
# Creates the extension in the database that the PG* environment variables name,
# then runs a command there.
set -euo pipefail
psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION usage_ledger'
exec "$@"
