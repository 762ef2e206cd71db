#!/usr/bin/env bash
# Runs all tests on each PostgreSQL that Debian carries, inside a root of the Debian
# suite that has it, then carries a ledger over to it from the older ones, and closes
# with a line of counts for each.
#
#   scripts/versions.sh [--roots DIRECTORY] [SUITE...]
#
# Suites: bookworm (PostgreSQL 15), trixie (17) and forky (18); by default all three.
# What is tested is the last commit. The roots are made in a temporary directory and
# removed at the end, unless a directory is named: there they stay, and the next run
# is quicker.
#
# Needs to be root on Debian or Ubuntu, and 2 to 4 GB of disk a suite; installs debootstrap
# where it is missing, and nothing else outside the roots.
set -euo pipefail
cd "$(dirname "$0")/.."

known_suites=(bookworm trixie forky) # the oldest first
declare -A major=([bookworm]=15 [trixie]=17 [forky]=18)
tree=/usr/src/usage_ledger # in a root

roots=
if [ "${1:-}" = --roots ]; then
    mkdir -p "${2:?a directory must follow --roots}"
    roots=$(realpath "$2")
    shift 2
fi
suites=("$@")
if [ ${#suites[@]} -eq 0 ]; then
    suites=("${known_suites[@]}")
fi
for suite in "${suites[@]}"; do
    if [ -z "${major[$suite]:-}" ]; then
        echo "no such suite: $suite (there are ${known_suites[*]})" >&2
        exit 2
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "This needs root: it makes roots of other Debian suites and runs tests in them." >&2
    exit 2
fi

keeps_roots=$roots
if [ -z "$roots" ]; then
    roots=$(mktemp -d "${TMPDIR:-/tmp}/usage_ledger_roots.XXXXXX")
fi

running=
finish() {
    status=$?
    set +e # whatever fails now, nothing must be left behind
    trap - EXIT
    trap '' INT TERM PIPE
    if [ -n "$running" ]; then
        # With the first process of a PID namespace all others go, and with the last
        # of them its mounts. It is the only child of unshare, which waits for it.
        read -r first <"/proc/$running/task/$running/children"
        kill -KILL "${first:-$running}"
        wait "$running" 2>/dev/null
    fi
    if [ -z "$keeps_roots" ]; then
        rm -rf --one-file-system "$roots"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command with PID and mount namespaces of its own.
isolated() {
    exec unshare --mount --pid --fork --kill-child --mount-proc "$@"
}

# Runs a command inside a root, likewise, with nothing of this machine's environment.
inside() {
    isolated sh -euc '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            ${http_proxy:+"http_proxy=$http_proxy"} "$@"' sh "$@"
}

# Runs one of the two in the background, so that a signal to this script is acted upon
# at once, with its output in a log.
start() {
    local log=$1
    shift
    : >"$log"
    "$@" >>"$log" 2>&1 </dev/null &
    running=$!
}

# Waits for what was started and returns its status.
await() {
    local status=0
    wait "$running" || status=$?
    running=
    return "$status"
}

install_debootstrap() {
    if ! command -v debootstrap >/dev/null; then
        echo "Installing Debian packages: debootstrap debian-archive-keyring"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            debootstrap debian-archive-keyring
    fi
    # An older debootstrap does not know the newest suites; all of them are made alike.
    for suite in "${suites[@]}"; do
        if [ ! -e "/usr/share/debootstrap/scripts/$suite" ]; then
            ln -s sid "/usr/share/debootstrap/scripts/$suite"
        fi
    done
}

make_root() {
    local suite=$1 root=$roots/$1 started=$SECONDS
    if [ -d "$root" ]; then
        return
    fi
    echo "Making a root of Debian $suite"
    rm -rf --one-file-system "$root.unfinished"
    start "$root.log" isolated debootstrap --variant=minbase "$suite" "$root.unfinished"
    await || {
        tail -n 20 "$root.log" >&2
        return 1
    }
    echo force-unsafe-io >"$root.unfinished/etc/dpkg/dpkg.cfg.d/no-sync" # nothing here is to last
    # What lets apt reach its mirrors from this machine is needed inside too.
    apt-config dump | grep -E '^Acquire::(Check-|https?::)' \
        >"$root.unfinished/etc/apt/apt.conf.d/90machine" || true
    mv "$root.unfinished" "$root"
    echo "Making a root of Debian $suite took $((SECONDS - started)) s"
}

# Lays a clean checkout of the last commit in a root.
lay_tree() {
    rm -rf "$1$tree"
    mkdir -p "$1$tree"
    git archive HEAD | tar -x -C "$1$tree"
}

# Lets apt find the packages of the older suites too. The root's own are newer, so it
# takes from them only what the root's own suite does not have.
add_older_suites() {
    local root=$1 mirror
    shift
    mirror=$(awk '$1 == "deb" { print $2; exit }' "$root/etc/apt/sources.list")
    printf "deb $mirror %s main\n" "$@" >"$root/etc/apt/sources.list.d/older_suites.list"
}

failures=0
summary=()

# Runs one of our scripts inside a root, shows what it says, and notes its counts under
# a name.
count_in() {
    local root=$1 name=$2 status=0 counts started=$SECONDS
    local log=$roots/$name.log
    shift 2
    local script=$1
    shift
    echo "$name: $script $*"
    start "$log" inside "$root" "$tree/$script" "$@"
    tail -n +1 -f --pid="$running" "$log" &
    local progress=$!
    await || status=$?
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

if ! git diff --quiet HEAD; then
    echo "What is not committed is not tested."
fi
install_debootstrap
for suite in "${suites[@]}"; do
    root=$roots/$suite
    make_root "$suite"
    lay_tree "$root"
    count_in "$root" "$suite" scripts/test.sh

    older_suites=()
    older_majors=()
    for older in "${known_suites[@]}"; do
        if [ "$older" = "$suite" ]; then
            break
        fi
        older_suites+=("$older")
        older_majors+=("${major[$older]}")
    done
    if [ ${#older_suites[@]} -gt 0 ]; then
        add_older_suites "$root" "${older_suites[@]}"
        count_in "$root" "carry_over_to_$suite" scripts/carry_over.sh "${older_majors[@]}"
    fi
    if [ -z "$keeps_roots" ]; then
        rm -rf --one-file-system "$root"
    fi
done

printf '%s\n' "${summary[@]}"
[ "$failures" -eq 0 ]
