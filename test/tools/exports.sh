#!/usr/bin/env bash
# Checks that the library exports the symbols in src/pg/exports.txt and no others.
#
#   test/tools/exports.sh [LIBRARY]      (default: usage_ledger.so)
set -euo pipefail
cd "$(dirname "$0")/../.."
diff --label src/pg/exports.txt --label "${1:-usage_ledger.so}" --unified=0 \
    <(sed 's/#.*//' src/pg/exports.txt | awk 'NF { print $1 }' | LC_ALL=C sort) \
    <(nm --dynamic --defined-only "${1:-usage_ledger.so}" | awk '{ print $3 }' | LC_ALL=C sort)
