#!/usr/bin/env bash
# Carries a ledger from older major versions of PostgreSQL to the newest one that is
# installed, by pg_dump and by pg_upgrade, and closes with a line of counts.
#
#   test/pg_upgrade/pg_upgrade.sh MAJOR...           (the older ones, such as 15 17)
#
# Needs Debian or Ubuntu with apt sources that have the older versions too, installs
# what is missing, the extension for all of them included, leaves no server behind.
set -euo pipefail
cd "$(dirname "$0")/../.."
additional_packages=
for major in "${@:?name the older major versions}"; do
    additional_packages+=" postgresql-$major postgresql-server-dev-$major"
done
. scripts/prepare.sh

# Objects for one version must not be linked for another.
install_for() {
    make -s -f Makefile.pgxs PG_CONFIG="$1" clean
    make -s -f Makefile.pgxs PG_CONFIG="$1" -j "$(nproc)"
    as_root make -s -f Makefile.pgxs PG_CONFIG="$1" install
    make -s -f Makefile.pgxs PG_CONFIG="$1" clean
}

install_for "$PG_CONFIG"
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
