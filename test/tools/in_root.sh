#!/usr/bin/env bash
# Runs a command in a root directory of a Debian release, in a checkout of the last commit.
#
#   test/tools/in_root.sh ROOT RELEASE COMMAND [ARGUMENT...]
#
# ROOT is the directory. If it does not exist, the release is installed there. It is not
# removed. The checkout is ROOT/usr/src/usage_ledger/tree. The command may change it, and
# may write files to its parent directory.
#
# Must run as root on Debian or Ubuntu. Outside ROOT it installs only debootstrap, if that
# is missing. All processes that the command has started end with the command.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then
    echo "$0 must run as root, because it uses chroot." >&2
    exit 2
fi
root=$(realpath "$1")
release=$2
shift 2
tree=/usr/src/usage_ledger/tree

running=
finish() {
    status=$?
    set +e # the cleanup must go on even if a command here fails
    trap - EXIT
    trap '' INT TERM PIPE
    if [ -n "$running" ]; then
        # When the first process of a PID namespace ends, the kernel kills the others,
        # and their mounts go with the last one. It is the only child of unshare, which
        # waits for it.
        read -r first <"/proc/$running/task/$running/children"
        kill -KILL "${first:-$running}"
        wait "$running" 2>/dev/null
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command in its own PID and mount namespaces. It runs in the background, so that
# this script handles a signal immediately.
isolated() {
    unshare --mount --pid --fork --kill-child --mount-proc "$@" </dev/null &
    running=$!
    local status=0
    wait "$running" || status=$?
    running=
    return "$status"
}

# Runs a command in the root in the same way, without this machine's environment.
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
    # An older debootstrap does not know the newest releases, but installs all of them alike.
    if [ ! -e "/usr/share/debootstrap/scripts/$release" ]; then
        ln -s sid "/usr/share/debootstrap/scripts/$release"
    fi
}

make_root() {
    local started=$SECONDS
    echo "Installing Debian $release in $root"
    rm -rf --one-file-system "$root.unfinished"
    isolated debootstrap --variant=minbase "$release" "$root.unfinished" >"$root.debootstrap.log" 2>&1 || {
        tail -n 20 "$root.debootstrap.log" >&2
        return 1
    }
    echo force-unsafe-io >"$root.unfinished/etc/dpkg/dpkg.cfg.d/no-sync" # the root need not survive a crash
    # apt needs this machine's network settings in the root too.
    apt-config dump | grep -E '^Acquire::(Check-|https?::)' \
        >"$root.unfinished/etc/apt/apt.conf.d/90machine" || true
    mv "$root.unfinished" "$root"
    rm "$root.debootstrap.log"
    echo "Installing Debian $release took $((SECONDS - started)) s"
}

if [ ! -d "$root" ]; then
    install_debootstrap
    make_root
fi
if ! git diff --quiet HEAD; then
    echo "Uncommitted changes are not in the checkout."
fi
rm -rf "${root:?}${tree%/*}"
mkdir -p "$root$tree"
git archive HEAD | tar -x -C "$root$tree"
inside env --chdir="$tree" "$@"
