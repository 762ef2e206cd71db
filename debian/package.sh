#!/usr/bin/env bash
# Builds the Debian packages in a root of a Debian release, one package for each major
# version of PostgreSQL that the release has, and checks them there: lintian, and the
# autopkgtest on the installed packages. They are left in build/packages/RELEASE.
#
#   debian/package.sh [--roots DIRECTORY] [RELEASE]
#
# RELEASE is bookworm (PostgreSQL 15), trixie (17) or forky (18); by default, that of
# this system. What is packaged is the last commit. The root is removed at the end,
# unless a directory for it is named.
#
# Needs to be root on Debian or Ubuntu (in_root.sh).
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

chmod 755 "$roots" # not only root works there
test/tools/in_root.sh "$roots/$release" "$release" debian/package_here.sh
rm -rf "build/packages/$release"
mkdir -p "build/packages/$release"
find "$roots/$release/usr/src/usage_ledger" -maxdepth 1 -type f -exec cp -t "build/packages/$release" {} +
ls "build/packages/$release"
