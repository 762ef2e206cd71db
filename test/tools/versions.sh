#!/usr/bin/env bash
# Runs all tests of the last commit on several versions of PostgreSQL, each in a root
# directory of the Debian release that has it. Only the model of locks is left out, which
# needs no server. Then tests pg_dump and pg_upgrade to it from the older versions. Ends
# with a line of counts for each run.
#
#   test/tools/versions.sh [--roots DIRECTORY [--only-roots]] [RELEASE...]
#
# The releases are bookworm (PostgreSQL 15), trixie (17) and forky (18); default: all
# three. The root directories are temporary. With --roots they are kept in DIRECTORY,
# which makes the next run quicker; with --only-roots they are made, and no tests run.
#
# Must run as root on Debian or Ubuntu (in_root.sh). Takes 2 to 4 GB of disk per release.
set -euo pipefail
cd "$(dirname "$0")/../.."

known_releases=(bookworm trixie forky) # the oldest first
declare -A major=([bookworm]=15 [trixie]=17 [forky]=18)

roots=
if [ "${1:-}" = --roots ]; then
    mkdir -p "${2:?a directory must follow --roots}"
    roots=$(realpath "$2")
    shift 2
fi
only_roots=
if [ "${1:-}" = --only-roots ]; then
    only_roots=yes
    shift
fi
releases=("$@")
if [ ${#releases[@]} -eq 0 ]; then
    releases=("${known_releases[@]}")
fi
for release in "${releases[@]}"; do
    if [ -z "${major[$release]:-}" ]; then
        echo "unknown release: $release (known: ${known_releases[*]})" >&2
        exit 2
    fi
done

keeps_roots=$roots
if [ -z "$roots" ]; then
    roots=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_roots.XXXXXX")
fi
running=
finish() {
    status=$?
    set +e # the cleanup must go on even if a command here fails
    trap - EXIT
    if [ -n "$running" ]; then
        kill "$running"
        wait "$running"
    fi
    if [ -z "$keeps_roots" ]; then
        rm -rf --one-file-system "$roots"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failures=0
summary=()

# Runs one of our scripts in a root, shows its output, and adds its counts to the summary
# under the given name.
count_in() {
    local release=$1 name=$2 status=0 counts started=$SECONDS
    local log=$roots/$name.log
    shift 2
    echo "$name: $*"
    : >"$log"
    test/tools/in_root.sh "$roots/$release" "$release" "$@" >"$log" 2>&1 &
    running=$!
    tail -n +1 -f --pid="$running" "$log" &
    local progress=$!
    wait "$running" || status=$?
    running=
    wait "$progress"
    counts=$(grep -xE '[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?' "$log" | tail -n 1) ||
        counts="not counted"
    if [ "$status" -ne 0 ]; then
        counts+=", exit status $status"
        failures=$((failures + 1))
    fi
    echo "$name took $((SECONDS - started)) s"
    summary+=("$name: $counts")
}

# Lets apt find the packages of older releases too. It takes only those that the root's
# own release does not have, because that release's packages are newer.
add_older_releases() {
    local root=$1 mirror
    shift
    mirror=$(awk '$1 == "deb" { print $2; exit }' "$root/etc/apt/sources.list")
    printf "deb $mirror %s main\n" "$@" >"$root/etc/apt/sources.list.d/older_releases.list"
}

if [ -n "$only_roots" ]; then
    for release in "${releases[@]}"; do
        test/tools/in_root.sh "$roots/$release" "$release" scripts/test.sh --only-packages &
        running=$!
        wait "$running"
        running=
    done
    exit
fi

for release in "${releases[@]}"; do
    count_in "$release" "$release" scripts/test.sh -E '^lock_model$'

    older_releases=()
    older_majors=()
    for older in "${known_releases[@]}"; do
        if [ "$older" = "$release" ]; then
            break
        fi
        older_releases+=("$older")
        older_majors+=("${major[$older]}")
    done
    if [ ${#older_releases[@]} -gt 0 ]; then
        add_older_releases "$roots/$release" "${older_releases[@]}"
        count_in "$release" "pg_upgrade_to_$release" test/pg_upgrade/pg_upgrade.sh "${older_majors[@]}"
    fi
    if [ -z "$keeps_roots" ]; then
        rm -rf --one-file-system "${roots:?}/$release"
    fi
done

printf '%s\n' "${summary[@]}"
[ "$failures" -eq 0 ]
