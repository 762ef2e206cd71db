#!/usr/bin/env bash
# Builds the Debian packages of the last commit, one for each major version of PostgreSQL
# in a Debian release, in a root directory of that release. Checks them there with lintian
# and autopkgtest, and copies them to build/packages/RELEASE.
#
#   debian/package.sh [--roots DIRECTORY] [RELEASE]
#
# RELEASE is bookworm (PostgreSQL 15), trixie (17) or forky (18); default: this system's.
# The root directory is temporary. With --roots it is kept in DIRECTORY.
#
# Must run as root on Debian or Ubuntu (test/tools/in_root.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --roots ]; then
    roots=${2:?a directory must follow --roots}
    mkdir -p "$roots"
    shift 2
else
    roots=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_roots.XXXXXX")
    trap 'rm -rf --one-file-system "$roots"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi
release=${1:-$(. /etc/os-release && echo "$VERSION_CODENAME")}

chmod 755 "$roots" # the build runs as another user
test/tools/in_root.sh "$roots/$release" "$release" debian/package_here.sh
rm -rf "build/packages/$release"
mkdir -p "build/packages/$release"
find "$roots/$release/usr/src/usage_ledger" -maxdepth 1 -type f -exec cp -t "build/packages/$release" {} +
ls "build/packages/$release"
