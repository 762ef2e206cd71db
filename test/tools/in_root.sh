#!/usr/bin/env bash
# Runs a command inside a root of a Debian release, in a checkout of the last commit.
#
#   test/tools/in_root.sh ROOT RELEASE COMMAND [ARGUMENT...]
#
# ROOT is a directory; the root is made there, unless it is there already, and stays.
# The checkout is in ROOT/usr/src/usage_ledger/tree, for the command to do with as it
# likes, and to leave things beside.
#
# Needs to be root on Debian or Ubuntu; installs debootstrap where it is missing, and
# nothing else outside the root. Whatever the command has started ends with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then
    echo "This needs root: it makes a root of a Debian release and works in it." >&2
    exit 2
fi
root=$(realpath "$1")
release=$2
shift 2
tree=/usr/src/usage_ledger/tree

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
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command with PID and mount namespaces of its own; in the background, so that a
# signal to this script is acted upon at once.
isolated() {
    unshare --mount --pid --fork --kill-child --mount-proc "$@" </dev/null &
    running=$!
    local status=0
    wait "$running" || status=$?
    running=
    return "$status"
}

# Runs a command inside the root, likewise, with nothing of this machine's environment.
inside() {
    isolated sh -euc '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            ${http_proxy:+"http_proxy=$http_proxy"} "$@"' sh "$root" "$@"
}

install_debootstrap() {
    if ! command -v debootstrap >/dev/null; then
        echo "Installing Debian packages: debootstrap debian-archive-keyring"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            debootstrap debian-archive-keyring
    fi
    # An older debootstrap does not know the newest releases; all of them are made alike.
    if [ ! -e "/usr/share/debootstrap/scripts/$release" ]; then
        ln -s sid "/usr/share/debootstrap/scripts/$release"
    fi
}

make_root() {
    local started=$SECONDS
    echo "Making a root of Debian $release"
    rm -rf --one-file-system "$root.unfinished"
    isolated debootstrap --variant=minbase "$release" "$root.unfinished" >"$root.debootstrap.log" 2>&1 || {
        tail -n 20 "$root.debootstrap.log" >&2
        return 1
    }
    echo force-unsafe-io >"$root.unfinished/etc/dpkg/dpkg.cfg.d/no-sync" # nothing here is to last
    # What lets apt reach its mirrors from this machine is needed inside too.
    apt-config dump | grep -E '^Acquire::(Check-|https?::)' \
        >"$root.unfinished/etc/apt/apt.conf.d/90machine" || true
    mv "$root.unfinished" "$root"
    rm "$root.debootstrap.log"
    echo "Making a root of Debian $release took $((SECONDS - started)) s"
}

if [ ! -d "$root" ]; then
    install_debootstrap
    make_root
fi
if ! git diff --quiet HEAD; then
    echo "What is not committed is not in the root."
fi
rm -rf "${root:?}${tree%/*}"
mkdir -p "$root$tree"
git archive HEAD | tar -x -C "$root$tree"
inside env --chdir="$tree" "$@"
