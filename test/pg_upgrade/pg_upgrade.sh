#!/usr/bin/env bash
# Tests pg_dump and pg_upgrade of a ledger from older major versions of PostgreSQL to the
# newest one installed. The last line counts passed, failed and skipped checks.
#
#   test/pg_upgrade/pg_upgrade.sh MAJOR...           (older versions, such as 15 17)
#
# Needs Debian or Ubuntu with apt sources that have the older versions too. Installs
# missing packages, and the extension for every version. Leaves no server running.
set -euo pipefail
cd "$(dirname "$0")/../.."
additional_packages=
for major in "${@:?name at least one older major version}"; do
    additional_packages+=" postgresql-$major postgresql-server-dev-$major"
done
. scripts/prepare.sh

# Objects built for one version must not be linked for another.
install_for() {
    make -s -f Makefile.pgxs PG_CONFIG="$1" clean
    make -s -f Makefile.pgxs PG_CONFIG="$1" -j "$(nproc)"
    as_root make -s -f Makefile.pgxs PG_CONFIG="$1" install
    make -s -f Makefile.pgxs PG_CONFIG="$1" clean
}

install_for "$PG_CONFIG"
mkdir -p build
log=$PWD/build/pg_upgrade.log
: >"$log"
status=0
for major in "$@"; do
    installation=/usr/lib/postgresql/$major
    install_for "$installation/bin/pg_config"
    echo "From $("$installation/bin/pg_config" --version) to $("$PG_CONFIG" --version)"
    OLD_INSTALLATION="$installation" test/tools/tap.sh test/pg_upgrade/*.{pl,sql} | tee -a "$log" || status=$?
done

count() {
    grep -cE "$1" "$log" || true
}
skipped=$(count '^ok [0-9]+ .*# skip ')
echo "$(($(count '^ok [0-9]+ ') - skipped)) passed, $(count '^not ok ') failed, $skipped skipped"
exit "$status"
