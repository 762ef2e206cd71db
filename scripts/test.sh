#!/usr/bin/env bash
# Runs all tests, on throwaway clusters, and closes with a line of counts.
#
#   scripts/test.sh [CTEST_OPTION]...        (-R NAME runs the tests of that name)
#
# Needs Debian or Ubuntu, installs what is missing, leaves no server behind.
set -euo pipefail
cd "$(dirname "$0")/.."
additional_packages="clang libclang-rt-dev"
. scripts/prepare.sh

results=$PWD/build/results.xml
status=0
ctest --preset release --output-junit "$results" "$@" || status=$?

count() {
    grep -c "<testcase .*status=\"$1\"" "$results" || true
}
echo "$(count run) passed, $(count fail) failed"
exit "$status"
