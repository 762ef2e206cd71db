#!/usr/bin/env bash
# Checks that all files that name the version agree. A release is major.minor.patch,
# in META.json, debian/changelog and CHANGELOG.md (there without a patch of 0); the
# extension that it installs is major.minor, since a patch changes no SQL.
#
#   test/tools/check_versions.sh [FOLDER]      (of a tree; by default this one)
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

from_meta() {
    perl -MJSON::PP -0777 -e 'print eval "decode_json(<STDIN>)->$ARGV[0]" // die $@ || "no $ARGV[0]\n"' "$1" <META.json
}

failed=0
expect() {
    if [ "$2" != "$3" ]; then
        echo "$1: ${2:-nothing}, should be $3" >&2
        failed=1
    fi
}

release=$(from_meta '{version}')
if [[ ! $release =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
    echo "META.json: $release is not major.minor.patch" >&2
    exit 1
fi
extension=${release%.*}

expect 'META.json, provides' "$(from_meta '{provides}{usage_ledger}{version}')" "$release"
expect 'META.json, file' "$(from_meta '{provides}{usage_ledger}{file}')" "sql/usage_ledger--$extension.sql"
expect 'usage_ledger.control' "$(sed -n "s/^default_version = '\(.*\)'\$/\1/p" usage_ledger.control)" "$extension"
expect 'newest install script' \
    "$(ls sql | grep -E '^usage_ledger--[0-9.]+\.sql$' | sort -V | tail -n 1)" "usage_ledger--$extension.sql"
expect 'debian/changelog' "$(sed -n '1s/^usage-ledger (\(.*\)) .*/\1/p' debian/changelog)" "$release"
expect 'CHANGELOG.md' "$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)" "${release%.0}"
exit "$failed"
