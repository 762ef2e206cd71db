#!/usr/bin/env bash
# Prints the SQL blocks of a document, or those under one heading, so that tests can run
# them.
#
#   test/tools/snippets.sh FILE [HEADING]
set -euo pipefail
awk -v heading="${2:-}" '
    BEGIN       { is_section = heading == "" }
    /^```/      { is_sql = /^```sql$/ && is_section && !is_block; is_block = !is_block; next }
    !is_block && /^#+ / && heading != "" { title = $0; sub(/^#+ /, "", title); is_section = title == heading }
    is_sql      { print; count++ }
    END         { if (count == 0) { print "no SQL under heading: " heading > "/dev/stderr"; exit 1 } }
' "$1"
