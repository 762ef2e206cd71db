#!/usr/bin/env bash
# Runs all tests on throwaway clusters. The last line counts passed and failed tests.
#
#   scripts/test.sh [CTEST_OPTION]...        (-R REGEX selects tests by name)
#   scripts/test.sh --only-packages          (installs what the tests need, and runs none)
#
# Needs Debian or Ubuntu. Installs missing packages and leaves no server running.
set -euo pipefail
cd "$(dirname "$0")/.."
additional_packages="clang libclang-rt-dev python3-minimal"
# The clients of docs/clients.md, and the tools of examples/migrations. Java and Go are heavy.
# Without them, their programs are skipped.
optional_packages="python3-psycopg python3-psycopg2 python3-asyncpg python3-sqlalchemy python3-django alembic
    ruby-pg ruby-activerecord php-cli php-pgsql libpostgresql-jdbc-java"
. scripts/prepare.sh
if [ "${1:-}" = --only-packages ]; then
    exit
fi
build

results=$PWD/build/results.xml
status=0
ctest --preset release --output-junit "$results" "$@" || status=$?

count() {
    grep -c "<testcase .*status=\"$1\"" "$results" || true
}
echo "$(count run) passed, $(count fail) failed"
exit "$status"
