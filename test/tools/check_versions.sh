#!/usr/bin/env bash
# Checks that all files that name the version agree. META.json, debian/changelog and
# CHANGELOG.md name the release, major.minor.patch; CHANGELOG.md omits a patch of 0.
# The control file and the install script name major.minor, because a patch changes no
# SQL. There is only one install script.
#
#   test/tools/check_versions.sh [DIRECTORY]      (the top of a tree; default: this one)
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

from_meta() {
    perl -MJSON::PP -0777 -e 'print eval "decode_json(<STDIN>)->$ARGV[0]" // die $@ || "no $ARGV[0]\n"' "$1" <META.json
}

failed=0
expect() {
    if [ "$2" != "$3" ]; then
        echo "$1: found ${2:-nothing}, expected $3" >&2
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
expect 'sql/' "$(cd sql && echo *)" "usage_ledger--$extension.sql"
expect 'debian/changelog' "$(sed -n '1s/^usage-ledger (\(.*\)) .*/\1/p' debian/changelog)" "$release"
expect 'CHANGELOG.md' "$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)" "${release%.0}"
exit "$failed"
