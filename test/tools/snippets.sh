#!/usr/bin/env bash
# Prints the SQL blocks of a document, or those under one heading, so that tests can run
# them.
#
#   test/tools/snippets.sh FILE [HEADING]
#
# With LEDGER_SCHEMA, the SQL names that schema where the document names billing.
set -euo pipefail
if [ -n "${LEDGER_SCHEMA:-}" ]; then
    exec < <(sed "s/billing\.\([a-z]\)/$LEDGER_SCHEMA.\1/g; s/SCHEMA billing/SCHEMA $LEDGER_SCHEMA/
                  s/search_path = billing/search_path = $LEDGER_SCHEMA/" "$1")
    set -- - "${@:2}"
fi
awk -v heading="${2:-}" '
    BEGIN       { is_section = heading == "" }
    /^```/      { is_sql = /^```sql$/ && is_section && !is_block; is_block = !is_block; next }
    !is_block && /^#+ / && heading != "" { title = $0; sub(/^#+ /, "", title); is_section = title == heading }
    is_sql      { print; count++ }
    END         { if (count == 0) { print "no SQL under heading: " heading > "/dev/stderr"; exit 1 } }
' "$1"
