#!/usr/bin/env bash
# Prints the blocks of a document in one language, or those under one heading, so that
# tests can run them.
#
#   test/tools/snippets.sh FILE [HEADING [LANGUAGE]]        (default: all headings, sql)
#
# With LEDGER_SCHEMA, the SQL names that schema where the document names billing.
set -euo pipefail
if [ -n "${LEDGER_SCHEMA:-}" ]; then
    exec < <(sed "s/billing\.\([a-z]\)/$LEDGER_SCHEMA.\1/g; s/SCHEMA billing/SCHEMA $LEDGER_SCHEMA/g
                  s/search_path = billing/search_path = $LEDGER_SCHEMA/" "$1")
    set -- - "${@:2}"
fi
awk -v heading="${2:-}" -v language="${3:-sql}" '
    BEGIN       { is_section = heading == "" }
    /^```/      { is_wanted = $0 == "```" language && is_section && !is_block; is_block = !is_block; next }
    !is_block && /^#+ / && heading != "" { title = $0; sub(/^#+ /, "", title); is_section = title == heading }
    is_wanted   { print; count++ }
    END         { if (count == 0) { print "no " language " under heading: " heading > "/dev/stderr"; exit 1 } }
' "$1"
